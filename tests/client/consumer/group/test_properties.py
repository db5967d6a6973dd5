"""Members die, answers get lost, the coordinator moves, users oversleep: nobody ever has what another member has, and
when the trouble is over everything is consumed.
"""

from __future__ import annotations

from random import Random

import pytest

from ottla.client.consumer.assignors import resolve
from ottla.client.consumer.group.classic import ClassicCore
from ottla.client.consumer.group.core import MemberConfig, MemberCore, Wanted
from ottla.client.consumer.group.modern import ModernCore
from tests.client.consumer.group.models import SESSION_MS, ClassicModel, ModernModel
from tests.client.consumer.group.world import Runner, World

WANTED = Wanted(frozenset(("t", "u")))
MAX_POLL_MS = 10_000


def new_core(strategy: str, random: Random) -> MemberCore:
    classic = strategy != "consumer"
    config = MemberConfig(
        group_id="g",
        session_timeout_ms=SESSION_MS,
        heartbeat_interval_ms=1_000,
        max_poll_interval_ms=MAX_POLL_MS,
        request_timeout_ms=5_000,
        assignors=resolve([strategy]) if classic else (),
    )
    return ClassicCore(config, random) if classic else ModernCore(config, random)


class Group:
    """Programs that run members, and let them go again."""

    def __init__(self, strategy: str, seed: int) -> None:
        self.world = World(seed)
        self.world.coordinator = ModernModel(self.world) if strategy == "consumer" else ClassicModel(self.world)
        self.strategy = strategy
        self.ends = {"killed": 0, "left": 0, "overslept": 0}

    def start(self) -> None:
        runner = Runner(self.world, new_core(self.strategy, self.world.random))
        runner.core.subscribe(WANTED, self.world.now_ms)
        self._poll(runner)

    def _poll(self, runner: Runner) -> None:
        """The user is back, and comes again after a while."""
        if runner.is_dead:
            return
        world, random = self.world, self.world.random
        runner.core.user_polled(world.now_ms)
        runner.pump()
        away_ms = random.randint(10, 3_000)
        if not world.is_calm and random.random() < 0.02:
            away_ms = random.randint(MAX_POLL_MS, 2 * MAX_POLL_MS)
            self.ends["overslept"] += 1
        world.at(away_ms, lambda: self._poll(runner))

    def trouble(self, until_ms: int) -> None:
        world, random = self.world, self.world.random
        while world.now_ms < until_ms:
            world.run(world.now_ms + int(random.expovariate(1 / 2_000)))
            alive = [runner for runner in world.runners if not runner.is_dead]
            kind = random.random()
            if len(alive) < 2 or (kind < 0.35 and len(alive) < 6):
                self.start()
            elif kind < 0.6:
                random.choice(alive).is_dead = True
                self.ends["killed"] += 1
            elif kind < 0.8:
                leaving = random.choice(alive)
                leaving.core.close(None)
                leaving.pump()
                self.ends["left"] += 1
            else:
                world.busy_until_ms = world.now_ms + random.choice((50, 500, 4_000))

    def settle(self) -> None:
        world = self.world
        world.is_calm = True
        world.run(world.now_ms + 4 * MAX_POLL_MS + 2 * SESSION_MS)
        staying = [runner for runner in world.runners if not runner.is_dead and not runner.core._is_closing]
        for runner in staying:
            assert runner.failure is None
            assert runner.core.is_settled, runner
        if staying:
            assert set().union(*(runner.consumes for runner in staying)) == world.everything
        for runner in world.runners:
            if not runner.is_dead and runner.core._is_closing:
                assert runner.core.is_out
                assert not runner.consumes


@pytest.mark.parametrize("strategy", ["range", "sticky", "cooperative-sticky", "consumer"])
def test_nothing_is_consumed_twice_and_all_of_it_in_the_end(strategy: str) -> None:
    ends = {"killed": 0, "left": 0, "overslept": 0}
    for seed in range(6):
        group = Group(strategy, seed)
        group.start()
        group.start()
        group.trouble(60_000)
        group.settle()
        for end, number in group.ends.items():
            ends[end] += number
    assert all(number > 10 for number in ends.values()), ends
