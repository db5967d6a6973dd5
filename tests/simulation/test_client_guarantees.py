"""All our clients under faults: every delivery once and in order, nothing skipped, nothing lost, every call in time.

More seeds: `python -m tests.simulation.soak --scenario our_clients`.
"""

from __future__ import annotations

import pytest

from tests.simulation import client_world
from tests.simulation.workloads.our_consumers import KINDS


@pytest.mark.parametrize("seed", range(3))
def test_every_delivery_ends_in_time_and_is_there_once_and_in_order(seed: int) -> None:
    counts = client_world.our_producers(seed, seconds=15)
    assert counts["deliveries done"]
    assert counts["our transactions committed"]


@pytest.mark.parametrize("seed", range(3))
def test_consumers_skip_nothing_and_never_go_back(seed: int) -> None:
    assert client_world.our_consumers(seed, seconds=15)["records read"]


@pytest.mark.parametrize("seed", range(3))
def test_every_job_is_done_and_none_that_is_done_comes_again(seed: int) -> None:
    assert client_world.our_queues(seed, seconds=15)["jobs: accept confirmed"]


@pytest.mark.parametrize("seed", range(3))
def test_what_is_made_of_each_input_is_there_once(seed: int) -> None:
    assert client_world.our_transform(seed, seconds=15)["transactions made"]


def test_all_of_them_together() -> None:
    client_world.our_clients(1, seconds=10)


@pytest.mark.parametrize("kind", KINDS)
def test_who_comes_back_too_late_commits_nothing(kind: str) -> None:
    assert client_world.oversleeping(1, kind)["transactions refused"]


def test_locks_that_are_renewed_last() -> None:
    assert client_world.renewal(1)["jobs kept"]
