"""Runs quorum worlds by seed: faults first, then peace, in which the quorum must come to itself.

python -m tests.server.raft.quorum_run [first seed] [seeds]
"""

from __future__ import annotations

import sys
import traceback
from random import Random

from ottla.server.raft.voters import Voter
from tests.server.raft.quorum_world import Faults, Node, Setup, World

CHAOS_MS = 3_000
PEACE_MS = 20_000


def setup_of(seed: int) -> Setup:
    """What kind of world a seed stands for."""
    random = Random(-1 - seed)
    faults = Faults()
    if random.random() < 0.8:
        faults = Faults(
            lose=random.choice((0, 0, 0.02, 0.1)),
            double=random.choice((0, 0, 0.05)),
            slow=random.choice((0, 0, 0.05, 0.2)),
            disconnect=random.choice((0, 0, 0.02)),
        )
    theme = random.random()
    if theme < 0.07:  # elections that are split, by voters that forget
        slow = Faults(slow=0.3)
        voters = random.choice((3, 5))
        return Setup(voters, 0, 0, election_timeout_ms=10, forgetful=0.5, faults=slow)
    if theme < 0.14:  # leaders whose disk is behind
        return Setup(3, 0, 0, slow_disk=0.5, faults=faults)
    if theme < 0.21:  # changes of the voters on both sides of a cut
        return Setup(5, 1, 0, is_restless=True, faults=faults)
    is_static = random.random() < 0.2
    return Setup(
        voters=random.choice((1, 2, 3, 3, 3, 4, 5)),
        spare_controllers=random.choice((0, 1, 1, 2)),
        brokers=random.choice((0, 1)),
        is_static=is_static,
        auto_join=random.random() < 0.3,
        old_votes=random.random() < 0.2,
        encode=random.random() < 0.2,
        election_timeout_ms=random.choice((20, 100, 100)),
        forgetful=random.choice((0.0, 0.1, 0.5)),
        slow_disk=random.choice((0.0, 0.0, 0.3)),
        faults=faults,
    )


class Run:
    """One seed."""

    def __init__(self, seed: int, chaos_ms: int = CHAOS_MS) -> None:
        self.chaos_ms = chaos_ms
        self.world = World(seed, setup_of(seed))
        self.random = Random(seed + 1_000_000)
        self.harm = self.random.choice((0.0, 0.3, 0.8))
        self.down: list[Node] = []

    def run(self) -> World:
        """Chaos, then peace."""
        world = self.world
        end_ms = world.now_ms + self.chaos_ms
        while world.now_ms < end_ms:
            self._happen()
            world.run_for(self.random.randrange(1, 60))
        world.check_logs()
        self._heal()
        return world

    def _happen(self) -> None:
        world, random = self.world, self.random
        is_restless = world.setup.is_restless
        choices = {
            world.append: 50,
            self._crash: 6,
            self._bring_back: 9,
            self._blink: 4,
            self._power_loss: 1,
            self._crash_leader_and_another: 2,
            world.partition: 15 if is_restless else 5,
            world.blocked.clear: 6,
            self._snapshot: 5,
            self._change_voters: 6,
            self._change_voters_at_once: 30 if is_restless else 2,
            self._change_voters_of_a_leader_cut_off: 15 if is_restless else 1,
            world.describe: 2,
            self._disturb_leader: 2,
        }
        random.choices(list(choices), list(choices.values()))[0]()

    def _bring_back(self) -> None:
        if self.down:
            self._restart(self.down.pop(self.random.randrange(len(self.down))))

    def _blink(self) -> None:
        """A node that comes back at once."""
        up = [node for node in self.world.nodes.values() if node.core is not None]
        if up:
            node = self.random.choice(up)
            node.crash()
            self._restart(node)
            self.world.count("blinks")

    def _power_loss(self) -> None:
        for node in self.world.nodes.values():
            if node.core is not None:
                node.crash()
                self.down.append(node)
        self.random.shuffle(self.down)
        for _ in range(len(self.down) // 2 + 1):
            self._restart(self.down.pop())
        self.world.count("power losses")

    def _crash_leader_and_another(self) -> None:
        """The leader comes back at once, without what was not flushed; who may have had it does not."""
        leader = self.world.leader()
        if leader is not None:
            leader.crash()
            self._restart(leader)
            self._crash()

    def _snapshot(self) -> None:
        self.world.snapshot(self.random.choice(list(self.world.nodes.values())))

    def _change_voters_at_once(self) -> None:
        """More than one change may be made at a time."""
        for _ in range(self.random.randrange(2, 5)):
            self._change_voters()

    def _change_voters_of_a_leader_cut_off(self) -> None:
        """What was changed is not committed, and given up by who asked for it; then more is asked for."""
        world = self.world
        leader = world.leader()
        if leader is not None:
            others = [one for one in world.nodes if one != leader.node_id]
            world.blocked |= {(leader.node_id, one) for one in others} | {(one, leader.node_id) for one in others}
            for _ in range(2):
                if leader.core is not None and not self._harmed_voters():
                    world.remove_voter(self.random.choice(list(leader.core.voters)), leader)
                world.run_for(world.settings.request_timeout_ms + self.random.randrange(1, 30))

    def _crash(self) -> None:
        up = [node for node in self.world.nodes.values() if node.core is not None]
        if up and len(self.down) < 3:
            node = self.random.choice(up)
            node.crash()
            self.world.count("crashes")
            self.down.append(node)

    def _restart(self, node: Node) -> None:
        world, random = self.world, self.random
        if not world.setup.is_static and node.is_controller and random.random() < self.harm and self._may_harm():
            if random.random() < 0.5:
                node.port += 1
                world.count("moves")
            else:
                node.wipe()
                world.count("disks lost")
        node.start()

    def _may_harm(self) -> bool:
        """One voter at a time, and only one that others can do without."""
        sets = [node.log.history(None).voters for node in self.world.nodes.values()]
        return all(len(voters) not in (1, 2) for voters in sets) and not self._harmed_voters()

    def _harmed_voters(self, *, dead: bool = False) -> list[Voter]:
        """Voters that are not what they were, in whatever set is on any disk: `dead` ones, whose disk is gone, or
        also those who listen elsewhere."""
        nodes = self.world.nodes
        sets = [node.log.history(None).voters for node in nodes.values()]
        return sorted(
            {
                voter
                for voters in sets
                for voter in voters
                if nodes[voter.voter_id].key != voter.key
                or (not dead and nodes[voter.voter_id].endpoints != voter.endpoints)
            }
        )

    def _change_voters(self) -> None:
        world, random = self.world, self.random
        leader = world.leader()
        if leader is None or leader.core is None:
            return
        if world.setup.is_static and random.random() < 0.3:
            world.upgrade()
            return
        voters = leader.core.voters
        others = [node for node in world.nodes.values() if node.is_controller and node.node_id not in voters]
        if others and (random.random() < 0.5 or len(voters) < 3):
            world.add_voter(random.choice(others))
        elif world.setup.is_static or not self._harmed_voters():
            world.remove_voter(random.choice(list(voters)))
        elif dead := self._harmed_voters(dead=True):
            world.remove_voter(random.choice(dead))  # nobody should remove one that works while another does not

    def _disturb_leader(self) -> None:
        world = self.world
        leader = world.leader()
        if leader is not None and leader.core is not None:
            leader.core.resign(leader.core.epoch, world.now_ms)
            world.settle(leader)

    def _heal(self) -> None:
        world = self.world
        world.faults, world.is_bad = Faults(), False
        world.blocked.clear()
        for node in self.down:
            node.start()
        target = 0

        def is_well() -> bool:
            nonlocal target
            leader = world.leader()
            if leader is None or leader.core is None:
                return False
            if leader.core.role.high_watermark > 0 and not 0 < target <= leader.log.end_offset:  # type: ignore[attr-defined]
                world.append()
                target = leader.log.end_offset
            return 0 < target <= min(node.high_watermark for node in world.nodes.values())

        world.tick_every(50)
        assert world.run_for(PEACE_MS, until=is_well), f"no progress: {describe(world)}"
        world.check_logs()


def describe(world: World) -> str:
    """Where everybody stands."""
    return "; ".join(
        f"{node.node_id}: {node.core.role.name} epoch {node.core.epoch} leader {node.core.leader_id} "
        f"end {node.log.end_offset} hw {node.high_watermark} voters {node.core.voters.ids}"
        for node in world.nodes.values()
        if node.core is not None
    )


def run_seed(seed: int, chaos_ms: int = CHAOS_MS) -> World:
    """One run; AssertionError when a checker objects."""
    return Run(seed, chaos_ms).run()


def main() -> None:
    """Run many seeds, tell of those that fail."""
    first, count = int(sys.argv[1]), int(sys.argv[2])
    totals: dict[str, int] = {}
    failed = []
    for seed in range(first, first + count):
        try:
            world = run_seed(seed)
        except Exception as error:
            failed.append(seed)
            line = traceback.extract_tb(error.__traceback__)[-1]
            print(f"seed {seed}: {type(error).__name__} {str(error)[:400]} [{line.name}:{line.lineno}]", flush=True)
            continue
        for what, number in world.counts.items():
            totals[what] = totals.get(what, 0) + number
        totals["committed"] = totals.get("committed", 0) + world.committed_end
    print(f"{count} seeds, {len(failed)} failed: {failed[:50]}")
    print(", ".join(f"{what} {number}" for what, number in sorted(totals.items())))


if __name__ == "__main__":
    main()
