"""A whole node with everything on it, ending anywhere: exactly once, all or nothing, one owner, nothing goes back.

More seeds: `python -m tests.simulation.soak`.
"""

from __future__ import annotations

import pytest

from tests.simulation.workloads import scenarios


@pytest.mark.parametrize("seed", range(6))
def test_every_input_is_in_the_output_exactly_once(seed: int) -> None:
    assert scenarios.transactions(seed, seconds=20)["committed transactions"]


@pytest.mark.parametrize("seed", range(10))
def test_a_partition_has_one_owner_and_the_group_never_goes_back(seed: int) -> None:
    assert scenarios.groups(seed, seconds=30)["commits"]


@pytest.mark.parametrize("seed", range(5))
def test_no_job_of_a_queue_is_lost_and_none_that_is_done_comes_again(seed: int) -> None:
    assert scenarios.queues(seed, seconds=20)["jobs done"]


@pytest.mark.parametrize("seed", range(6))
def test_the_last_value_of_each_key_stays_while_the_cleaner_works(seed: int) -> None:
    assert scenarios.tables(seed, seconds=20)["rows cleaned away"]


@pytest.mark.parametrize("seed", range(2))
def test_all_of_it_on_one_node(seed: int) -> None:
    counts = scenarios.everything(seed, seconds=12)
    assert counts["committed transactions"]
    assert counts["jobs done"]


@pytest.mark.parametrize("scenario", ["transactions", "groups", "queues", "tables"])
@pytest.mark.parametrize("seed", range(2))
def test_what_is_flushed_before_it_is_acknowledged_survives_the_loss_of_power(scenario: str, seed: int) -> None:
    getattr(scenarios, scenario)(f"flushed {seed}", seconds=15, device=scenarios.FLUSHED)


@pytest.mark.parametrize("seed", range(3))
def test_what_a_loss_of_power_leaves_is_readable_and_takes_new_work(seed: int) -> None:
    scenarios.careless(seed, seconds=12)
