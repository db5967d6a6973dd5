"""Leader and follower cores together, through crashes, elections and lost messages."""

from __future__ import annotations

from random import Random

import pytest

from ottla.server.replication.fetcher import Stage
from tests.server.replication.cores_world import NODES, Broker, World

SEEDS = range(50)
STEPS = 1500


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_committed_is_lost_and_logs_become_the_same(seed: int) -> None:
    world = World(seed)
    for number in range(STEPS):
        world.step()
        if number % 100 == 0:
            world.check_leader_has_all()
    world.settle()
    world.check_leader_has_all()
    world.check_same()
    assert world.appended


def test_nobody_asks_for_what_a_failed_directory_cannot_take() -> None:
    broker = Broker(2, {})
    broker.start(1, Random(0))
    broker.partition.update_leadership(1, 0, NODES, NODES, 0)
    fetcher = broker.fetcher(1)
    fetcher.follow(broker.partition)
    assert fetcher.next_request(1000) is not None
    broker.host.failure = "log directory /data failed"
    broker.partition.update_leadership(1, 1, NODES, (1, 3), 1)
    fetcher.follow(broker.partition)
    assert [state.stage for state in fetcher.partitions()] == [Stage.WAITING_FOR_METADATA]
    assert fetcher.next_request(2000) is None
    fetcher.check_invariants()
