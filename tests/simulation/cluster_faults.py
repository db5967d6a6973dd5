"""What goes wrong in a cluster: faults as small programs, thrown by dice, each of which takes back what it did.

Two kinds of ends are kept apart. A process that is killed leaves its page cache: any number of them may be killed at
any time, and nothing that was acknowledged may be lost. When power, an unflushed disk or a whole disk is lost, records
are: there replication is the promise, and it is given for a minority. So such a fault has the cluster for itself:
no other node ends before the one that lost something is in sync with everything again.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from random import Random

from ottla.runtime.memory_disk import CHANGING
from tests.simulation.cluster_watch import leader_of_metadata, newest_image, out_of_sync
from tests.simulation.cluster_world import ClusterWorld, Machine

Fault = Callable[["Faults"], Awaitable[None]]
CLIENTS = ""
"""The host on which clients run."""
LARGEST_JUMP_MS = 1_800_000
"""Records that seem to be more than an hour in the future are refused."""
IN_SYNC_S = 120.0
"""Longer than a node may take until it is in sync with everything, while other faults go on."""


class Faults:
    """Dice, and who may be hurt."""

    def __init__(self, world: ClusterWorld, dice: Random) -> None:
        self.world = world
        self.dice = dice
        self.ends = 0
        """Machines that are about to end, are away, or are not in sync yet."""
        self.has_lost = False
        """Whether one of them lost what was not flushed."""
        self.victims: set[int] = set()

    async def strike(self, faults: list[tuple[int, Fault]]) -> None:
        """One of these, by weight, to its end."""
        fault = self.dice.choices([one for _, one in faults], [weight for weight, _ in faults])[0]
        await fault(self)

    def choose(self, candidates: list[Machine] | None = None) -> Machine | None:
        """Somebody nothing else happens to; now and then who matters most."""
        world = self.world
        pool = [one for one in candidates or list(world.machines.values()) if one.node_id not in self.victims]
        free = [one for one in pool if one.is_up]
        if not free:
            return None
        if self.dice.random() < 0.4:
            leader = leader_of_metadata(world)
            if leader in free:
                return leader
        return self.dice.choice(free)

    def span(self, *means: float) -> float:
        """Seconds: mostly short, now and then long."""
        return self.dice.choice(means) * self.dice.random()

    async def hurt(self, machine: Machine, what: Callable[[Machine], Awaitable[None]]) -> None:
        """Do something to a machine that nobody else does anything to meanwhile."""
        self.victims.add(machine.node_id)
        try:
            await what(machine)
        finally:
            self.victims.discard(machine.node_id)

    async def end(
        self, machine: Machine, how: Callable[[Machine], Awaitable[None]], *, loses: bool, away_s: float
    ) -> None:
        """End a machine, have it away for a while, start it, and wait until it is in sync when it lost something."""
        if self.has_lost or (loses and self.ends):
            return
        self.ends += 1
        self.has_lost = loses

        async def act(machine: Machine) -> None:
            await how(machine)
            await asyncio.sleep(away_s)
            machine.start()
            await self.in_sync(machine) if loses else await machine.wait_up()

        try:
            await self.hurt(machine, act)
        finally:
            self.ends -= 1
            self.has_lost = self.has_lost and not loses

    async def in_sync(self, machine: Machine) -> None:
        """Until every partition that the machine has a replica of counts it as in sync."""
        await machine.wait_up()
        deadline = self.world.now() + IN_SYNC_S
        while missing := out_of_sync(self.world, machine):
            if self.world.now() > deadline:
                # Whoever else is hurt meanwhile comes back; so must this one, when all is calm at the latest.
                self.world.note(f"{machine} is not in sync with {missing[:5]}")
                return
            await asyncio.sleep(0.2)


# -- machines that end


async def kill(faults: Faults) -> None:
    """A signal 9."""
    if machine := faults.choose():
        await faults.end(machine, _kill, loses=False, away_s=faults.span(0.5, 6.0, 12.0))


async def _kill(machine: Machine) -> None:
    machine.kill()


async def kill_a_coordinator(faults: Faults) -> None:
    """A broker that leads a partition of an internal topic, while others may be away as well."""
    if machine := _choose_coordinator(faults):
        faults.world.count("coordinators killed")
        await faults.end(machine, _kill, loses=False, away_s=faults.span(0.5, 4.0, 10.0))


async def restart_a_coordinator(faults: Faults) -> None:
    """It moves what it coordinates elsewhere before it ends."""
    if machine := _choose_coordinator(faults):
        faults.world.count("coordinators restarted")
        await faults.end(machine, Machine.stop, loses=False, away_s=faults.span(0.1, 3.0))


async def freeze_a_coordinator(faults: Faults) -> None:
    """It does not know that another one has taken its place, and finds out."""
    if machine := _choose_coordinator(faults):
        faults.world.count("coordinators frozen")
        await _freeze(faults, machine)


def _choose_coordinator(faults: Faults) -> Machine | None:
    image = newest_image(faults.world)
    if image is None:
        return None
    leaders = {
        placed.leader
        for name, topic in image.topics.by_name.items()
        if name.startswith("__")
        for placed in topic.partitions.values()
    }
    coordinators = [one for one in faults.world.brokers if one.node_id in leaders]
    return faults.choose(coordinators) if coordinators else None


async def kill_everybody(faults: Faults) -> None:
    """All at once, as by an update of all containers."""
    if faults.has_lost or faults.ends:
        return
    faults.ends += 1
    faults.world.count("everybody killed")
    try:
        machines = [one for one in faults.world.machines.values() if one.node_id not in faults.victims]
        faults.victims.update(one.node_id for one in machines)
        for machine in machines:
            machine.kill()
        faults.dice.shuffle(machines)
        for machine in machines:
            await asyncio.sleep(faults.span(0.2, 3.0))
            machine.start()
        for machine in machines:
            await machine.wait_up()
            faults.victims.discard(machine.node_id)
    finally:
        faults.ends -= 1


async def strand(faults: Faults) -> None:
    """One falls behind, all others are killed, and the one is there again before them: it must not be taken for one
    that has everything.
    """
    world = faults.world
    late = faults.choose(world.brokers)
    if late is None or faults.has_lost or faults.ends or faults.victims or not all(one.is_up for one in world.brokers):
        return
    world.count("brokers stranded")
    world.note(f"{late} falls behind")
    faults.ends += 1
    others = [one for one in world.machines.values() if one is not late]
    faults.dice.shuffle(others)
    faults.victims.update(world.machines)
    hosts = [one.host for one in others]
    try:
        for host in hosts:
            world.loop.network.cut(host, late.host)
            world.loop.network.cut(late.host, host)
        await asyncio.sleep(faults.dice.uniform(4.0, 7.0))
        for machine in others:
            machine.kill()
        for host in hosts:
            world.loop.network.heal(host, late.host)
            world.loop.network.heal(late.host, host)
        world.note(f"{late} is there again")
        for machine in others:
            await asyncio.sleep(faults.span(3.0, 6.0))
            machine.start()
        for machine in others:
            await machine.wait_up()
    finally:
        faults.ends -= 1
        faults.victims.difference_update(world.machines)


async def crash_in_an_operation(faults: Faults) -> None:
    """Killed at the Nth operation of its disk from now on."""
    machine = faults.choose()
    if machine is None or faults.has_lost:
        return
    dice = faults.dice
    machine.disk.crash_at(dice.choice((dice.randint(1, 30), dice.randint(1, 300), dice.randint(1, 1500))))

    async def crash(machine: Machine) -> None:
        for _ in range(200):
            if machine.process is None:
                return
            await asyncio.sleep(0.05)
        machine.kill()

    await faults.end(machine, crash, loses=False, away_s=faults.span(0.5, 6.0))
    machine.disk.crash_at(1 << 60)


async def lose_power(faults: Faults) -> None:
    """What is not flushed is gone."""
    machine = faults.choose()
    if machine is None or _is_alone(faults):
        return

    async def cut(machine: Machine) -> None:
        machine.lose_power(faults.dice)

    await faults.end(machine, cut, loses=True, away_s=faults.span(0.5, 6.0, 12.0))


async def lose_disk(faults: Faults) -> None:
    """All that a broker has is gone (what a voter has is another matter: that would be another voter)."""
    machine = faults.choose(faults.world.brokers)
    if machine is None or _is_alone(faults):
        return

    async def lose(machine: Machine) -> None:
        machine.kill()
        machine.lose_disk()

    await faults.end(machine, lose, loses=True, away_s=faults.span(0.5, 6.0))


def _is_alone(faults: Faults) -> bool:
    """With one broker there is nobody who has what it loses; what is not in sync now has too few as well."""
    world = faults.world
    return world.shape.brokers < 3 or any(out_of_sync(world, one) for one in world.brokers)


async def restart(faults: Faults) -> None:
    """An orderly end, with all its leaders moved away."""
    if machine := faults.choose():
        faults.world.count("orderly restarts")
        await faults.end(machine, Machine.stop, loses=False, away_s=faults.span(0.1, 3.0))


async def roll(faults: Faults) -> None:
    """One node after the other, as for an upgrade."""
    if faults.has_lost or faults.ends:
        return
    faults.world.count("rolling restarts")
    machines = list(faults.world.machines.values())
    faults.dice.shuffle(machines)
    for machine in machines:
        if machine.is_up and machine.node_id not in faults.victims:
            await faults.end(machine, Machine.stop, loses=False, away_s=faults.span(0.1, 1.0))
        if faults.dice.random() < 0.7:
            await asyncio.sleep(faults.span(0.5, 3.0))


# -- machines that stand still, or are slow


async def freeze(faults: Faults) -> None:
    """A signal STOP, and CONT."""
    machine = faults.choose()
    if machine is None:
        return
    faults.world.count("machines frozen")
    await _freeze(faults, machine)


async def _freeze(faults: Faults, machine: Machine) -> None:
    async def act(machine: Machine) -> None:
        process = machine.process
        machine.freeze()
        await asyncio.sleep(faults.span(0.5, 5.0, 12.0))
        if machine.process is process:
            machine.thaw()

    await faults.hurt(machine, act)


async def slow_disk(faults: Faults) -> None:
    """Blocking work takes much longer."""
    machine = faults.choose()
    if machine is None or machine.env is None:
        return
    faults.world.count("slow disks")
    env = machine.env
    env.disk_slowness = faults.dice.choice((10.0, 100.0, 500.0))
    await asyncio.sleep(faults.span(2.0, 10.0))
    env.disk_slowness = 1.0


async def bad_disk(faults: Faults) -> None:
    """An operation fails, fsync among them; the node gives up, or goes on without the directory until it restarts."""
    machine = faults.choose()
    if machine is None or faults.has_lost:
        return
    faults.world.count("bad disks")
    dice = faults.dice
    machine.expects_disk_errors = True
    what = dice.choice((frozenset({"sync"}), CHANGING))
    machine.disk.fail_at(dice.randint(1, 200), dice.choice((errno.EIO, errno.ENOSPC)), operations=what)

    async def end(machine: Machine) -> None:
        await asyncio.sleep(faults.span(2.0, 8.0))
        machine.kill()
        machine.disk.clear_faults()
        machine.expects_disk_errors = False

    await faults.end(machine, end, loses=False, away_s=faults.span(0.5, 3.0))
    machine.disk.clear_faults()
    machine.expects_disk_errors = False


async def clocks(faults: Faults) -> None:
    """The wall clock of one machine jumps, or goes too fast or too slow."""
    machine = faults.dice.choice(list(faults.world.machines.values()))
    faults.world.count("clocks that were wrong")
    dice = faults.dice
    jump_ms = int(dice.choice((-1, 1)) * dice.choice((50, 2_000, 60_000, LARGEST_JUMP_MS)) * dice.random())
    machine.clock.jump_ms(jump_ms)
    machine.clock.drift(dice.choice((0.0, 0.05, -0.05, 0.5, -0.5)))
    await asyncio.sleep(faults.span(1.0, 10.0))
    machine.clock.drift(0.0)
    if dice.random() < 0.7:
        machine.clock.jump_ms(-jump_ms)


# -- the network


def _hosts(faults: Faults) -> list[str]:
    return [one.host for one in faults.world.machines.values()]


async def isolate(faults: Faults) -> None:
    """One node from all others, both ways or one way, with or without the clients."""
    machine = faults.choose()
    if machine is None:
        return
    dice = faults.dice
    ways = dice.choice(("both", "both", "in", "out"))
    others = [host for host in _hosts(faults) if host != machine.host]
    if dice.random() < 0.5:
        others.append(CLIENTS)
    cuts = [(machine.host, other) for other in others if ways != "in"]
    cuts += [(other, machine.host) for other in others if ways != "out"]
    faults.world.note(f"{machine} is isolated, {ways}{', from clients too' if CLIENTS in others else ''}")
    await _cut(faults, f"nodes isolated, {ways}", cuts)


async def split(faults: Faults) -> None:
    """Two groups that do not hear each other."""
    hosts = [*_hosts(faults), CLIENTS]
    faults.dice.shuffle(hosts)
    one = hosts[: faults.dice.randint(1, len(hosts) - 1)]
    cuts = [(a, b) for a in hosts for b in hosts if (a in one) != (b in one)]
    faults.world.note(f"split off: {one}")
    await _cut(faults, "networks split", cuts)


async def cut_one_link(faults: Faults) -> None:
    """Two that hear everybody else, and one does not hear the other."""
    one, other = faults.dice.sample([*_hosts(faults), CLIENTS], 2)
    cuts = [(one, other)] if faults.dice.random() < 0.5 else [(one, other), (other, one)]
    faults.world.note(f"cut: {cuts}")
    await _cut(faults, "links cut", cuts)


async def _cut(faults: Faults, what: str, cuts: list[tuple[str, str]]) -> None:
    faults.world.count(what)
    network = faults.world.loop.network
    for cut in cuts:
        network.cut(*cut)
    try:
        await asyncio.sleep(faults.span(1.0, 5.0, 15.0))
    finally:
        for cut in cuts:
            network.heal(*cut)
        faults.world.note(f"healed: {len(cuts)} links")


async def delay(faults: Faults) -> None:
    """Links that are slow, or have little room."""
    faults.world.count("slow links")
    dice = faults.dice
    hosts = [*_hosts(faults), CLIENTS]
    network = faults.world.loop.network
    links = [network.links.link(*dice.sample(hosts, 2)) for _ in range(dice.randint(1, 4))]
    for link in links:
        link.delay_s = dice.choice((0.01, 0.1, 1.0))
        link.bytes_per_s = dice.choice((0.0, 0.0, 2_000.0))
    await asyncio.sleep(faults.span(2.0, 10.0))
    for link in links:
        link.delay_s = link.bytes_per_s = 0.0


async def reset(faults: Faults) -> None:
    """Connections that break: what was asked may have been done, and is asked again."""
    hosts = [one.host for one in faults.world.machines.values() if one.process and not one.process.is_frozen]
    if not hosts:
        return
    one, other = faults.dice.sample([*hosts, CLIENTS], 2)
    number = faults.world.loop.network.reset(one, other, faults.dice.choice((0.3, 1.0)))
    faults.world.count("connections reset", number)


#: By weight.
KILLS: list[tuple[int, Fault]] = [(4, kill), (3, crash_in_an_operation), (2, restart), (1, kill_everybody), (1, strand)]
LOSSES: list[tuple[int, Fault]] = [(3, lose_power), (1, lose_disk)]
NETWORK: list[tuple[int, Fault]] = [(4, isolate), (2, split), (2, cut_one_link), (2, delay), (4, reset)]
PAUSES: list[tuple[int, Fault]] = [(4, freeze), (1, slow_disk)]
CLOCKS: list[tuple[int, Fault]] = [(1, clocks)]
DISKS: list[tuple[int, Fault]] = [(1, bad_disk)]
ROLLS: list[tuple[int, Fault]] = [(1, roll)]
COORDINATORS: list[tuple[int, Fault]] = [
    (4, kill_a_coordinator),
    (2, restart_a_coordinator),
    (2, freeze_a_coordinator),
]
EVERYTHING = [*KILLS, *LOSSES, *NETWORK, *PAUSES, *CLOCKS, *DISKS, *ROLLS]


async def trouble(world: ClusterWorld, seconds: float, kinds: list[tuple[int, Fault]], *, at_once: int = 2) -> None:
    """Faults of these kinds for a while, so many at once. At the end all nodes are up, and nothing is wrong."""
    deadline = world.now() + seconds
    faults = Faults(world, world.random("faults"))

    async def strike() -> None:
        while world.now() < deadline:
            await asyncio.sleep(faults.span(0.5, 4.0))
            if world.now() < deadline:
                await faults.strike(kinds)

    strikers = [world.spawn(strike()) for _ in range(at_once)]
    await asyncio.wait(strikers)
    world.check()
    world.is_calm = True
    world.note("calm")
    for machine in world.machines.values():
        machine.disk.clear_faults()
        machine.start()
    for machine in world.machines.values():
        await machine.wait_up()
