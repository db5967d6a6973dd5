"""All our clients under faults: every delivery once and in order, nothing skipped, nothing lost, every call in time.

More seeds: `python -m tests.simulation.soak --scenario our_clients`.
"""

from __future__ import annotations

import pytest

from tests.simulation import client_world


@pytest.mark.parametrize("seed", range(4))
def test_every_delivery_ends_in_time_and_is_there_once_and_in_order(seed: int) -> None:
    counts = client_world.our_producers(seed, seconds=20)
    assert counts["deliveries done"]
    assert counts["our transactions committed"]


@pytest.mark.parametrize("seed", range(4))
def test_consumers_skip_nothing_and_never_go_back(seed: int) -> None:
    assert client_world.our_consumers(seed, seconds=20)["records read"]


@pytest.mark.parametrize("seed", range(4))
def test_every_job_is_done_and_none_that_is_done_comes_again(seed: int) -> None:
    assert client_world.our_queues(seed, seconds=20)["jobs: accept confirmed"]


@pytest.mark.parametrize("seed", range(4))
def test_what_is_made_of_each_input_is_there_once(seed: int) -> None:
    assert client_world.our_transform(seed, seconds=20)["transactions made"]


@pytest.mark.parametrize("seed", range(1))
def test_all_of_them_together(seed: int) -> None:
    client_world.our_clients(seed, seconds=15)
