"""Leader and follower cores together, through crashes, elections and lost messages."""

from __future__ import annotations

import pytest

from tests.server.replication.cores_world import World

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
