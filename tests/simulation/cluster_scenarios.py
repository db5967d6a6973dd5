"""Runs of a whole cluster: who works with it, what goes wrong meanwhile, and what must be when all is calm again."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

from tests.simulation.client_world import Stage
from tests.simulation.cluster_faults import (
    CLOCKS,
    COORDINATORS,
    DISKS,
    EVERYTHING,
    KILLS,
    LOSSES,
    NETWORK,
    PAUSES,
    ROLLS,
    Fault,
    trouble,
)
from tests.simulation.cluster_operator import OLDEST_LEVEL, Operator, upgrade
from tests.simulation.cluster_recording import Recorder
from tests.simulation.cluster_registers import Registers
from tests.simulation.cluster_watch import Watch, compare_disks, out_of_service, out_of_sync
from tests.simulation.cluster_world import ClusterWorld, Shape, run_world
from tests.simulation.workloads.checks import settled
from tests.simulation.workloads.client import Client
from tests.simulation.workloads.our_admins import administrator
from tests.simulation.workloads.our_queues import JOBS, LOCK_S, MOST_DELIVERIES, Crew
from tests.simulation.workloads.producer import Ledger
from tests.simulation.workloads.programs import World
from tests.simulation.workloads.reader import READ_COMMITTED, READ_UNCOMMITTED, View, fetch, visible
from tests.simulation.workloads.tables import STOCK, Tables

Counts = dict[str, int]
Act = Callable[["ClusterStage"], Awaitable[None]]
Kinds = list[tuple[int, Fault]]

SHARING: dict[str, object] = {
    "group.share.delivery.count.limit": MOST_DELIVERIES,
    "group.share.record.lock.duration.ms": int(LOCK_S * 1000),
}
THREE = Shape(3, settings=SHARING)
FIVE = Shape(5, settings=SHARING)
APART = Shape(3, controllers=3, settings=SHARING)
ONE = Shape(1, settings=SHARING)
OLD = Shape(3, settings=SHARING, release_level=OLDEST_LEVEL)
HISTORY_DIRECTORY = os.environ.get("SIMULATION_HISTORY")
"""Where to leave the history of each run."""
ISOLATIONS = {READ_COMMITTED: "read_committed", READ_UNCOMMITTED: "read_uncommitted"}
STAY_MS = 600_000
"""Tombstones and markers stay longer than anybody is away."""
LATE_S = 60.0
"""Until everybody serves and is in sync again, all faults being over."""


class _NoProxy:
    """In the place of a proxy: what happens to requests is the network's business here."""

    def __init__(self) -> None:
        self.lost: Counter[int] = Counter()


class ClusterPrograms(World):
    """Programs with our clients in front of a cluster."""

    def __init__(self, world: ClusterWorld) -> None:
        self.cluster = cast(Any, world)
        self.proxy = cast(Any, _NoProxy())
        self.programs = []
        self.lines = Counter()


class ClusterStage(Stage):
    """What a run puts together."""

    def __init__(self, world: ClusterWorld, kinds: Kinds, seconds: float) -> None:
        super().__init__(ClusterPrograms(world))
        self.net = world
        self.kinds = kinds
        self.seconds = seconds
        self.recorder = Recorder(world)
        self.watch = Watch(world, self.recorder)

    def crew(self) -> Crew:
        """Leaders that were replaced may not know it yet."""
        return Crew(self.world, lambda partition: self.watch.saw_stale_leader(JOBS, partition))

    async def run(self, seconds: float, *checks: Callable[[], Awaitable[None]]) -> None:
        """The faults, and what must be when they are over."""
        self.watch.start()
        registers = Registers(self.net, self.recorder)
        await registers.start()
        for book in self.books:
            for isolation in (READ_COMMITTED, READ_UNCOMMITTED):
                for partition in range(book.partitions):
                    self.net.spawn(self._read_along(book.topic, partition, isolation))
        await trouble(self.net, seconds, self.kinds, at_once=self.dice.choice((1, 2, 2, 3)))
        await self.everybody_in_sync()
        await registers.finished()
        await self.finish(*checks)
        await self._record_the_end()
        self.recorder.check()

    async def everybody_in_sync(self) -> None:
        """Every broker serves, every partition has a leader, every replica is in sync within a bounded time."""
        world = self.net
        deadline = world.now() + LATE_S
        while out_of_service(world) or any(out_of_sync(world, one) for one in world.brokers):
            if world.now() > deadline:
                if missing_ones := out_of_service(world):
                    world.fail(f"not in service within {LATE_S} s: {missing_ones[:10]}")
                missing = {str(one): out_of_sync(world, one)[:5] for one in world.brokers}
                world.fail(f"not in sync within {LATE_S} s: {missing}")
                world.check()
            await asyncio.sleep(0.5)
        world.note("in sync")

    async def _read_along(self, topic: str, partition: int, isolation: int) -> None:
        """Who is there all the time, and remembers what he was given."""
        world = self.net
        name = f"{ISOLATIONS[isolation]} of {topic}-{partition}"
        client = world.client(name)
        position = 0
        while True:
            started_s = world.now()
            data = await fetch(client, topic, partition, position, isolation=isolation, max_wait_ms=500)
            if data.error_code:
                world.fail(f"{name} at {position}: error {data.error_code}")
                return
            found, position = visible(data, position, isolation)
            if found:
                self._record_read(name, started_s, (topic, partition), isolation, found, stint=name)
            await asyncio.sleep(client.random.expovariate(10))

    def _record_read(
        self,
        name: str,
        started_s: float,
        place: tuple[str, int],
        isolation: int,
        found: dict[int, Any],
        **more: Any,
    ) -> None:
        self.recorder.add(
            "consume",
            name,
            started_s,
            topic=place[0],
            partition=place[1],
            isolation=ISOLATIONS[isolation],
            records=[[offset, (value or b"").decode()] for offset, (_, value) in found.items()],
            transaction=None,
            **more,
        )

    async def _record_the_end(self) -> None:
        client = self.net.client("last reader")
        for book in self.books:
            self.recorder.add_book(book)
            for partition in range(book.partitions):
                for isolation in ISOLATIONS:
                    await self._read_to_the_end(client, (book.topic, partition), isolation)
        if HISTORY_DIRECTORY:
            self.recorder.save(Path(HISTORY_DIRECTORY) / f"history {self.net.seed}.jsonl")

    async def _read_to_the_end(self, client: Client, place: tuple[str, int], isolation: int) -> None:
        started_s = self.net.now()
        view = View()
        while True:
            data = await fetch(client, *place, view.position, isolation=isolation)
            found, position = visible(data, view.position, isolation)
            if position == view.position:
                break
            view.records.update(found)
            view.position = position
        self._record_read(
            client.name,
            started_s,
            place,
            isolation,
            view.records,
            stint=None,
            final=True,
            start=0,
            end=data.high_watermark,
        )


def run_cluster_scenario(
    name: str,
    seed: object,
    act: Act,
    *,
    kinds: Kinds,
    shape: Shape = THREE,
    seconds: float = 30.0,
    shuffle: bool = False,
) -> Counts:
    """Run it; AssertionError with what went wrong."""
    kept: list[ClusterWorld] = []

    async def main(world: ClusterWorld) -> Counts:
        kept.append(world)
        await act(ClusterStage(world, kinds, seconds))
        return world.counts

    counts = run_world(main, seed=f"{name} {seed}", shape=shape, shuffle=shuffle)
    world = kept[0]
    compare_disks(world, tables={STOCK})
    world.check()
    counts["virtual seconds"] = int(world.now())
    return counts


# -- who works with it


async def producing(stage: ClusterStage) -> None:
    """Producers of all kinds, and transactions."""
    await stage.producers()
    stage.plays("administrator", administrator(stage.books, ["nobody"]))
    await stage.run(stage.seconds)


async def moving(stage: ClusterStage) -> None:
    """Producers, while partitions are moved, and topics come and go."""
    await stage.producers()
    operator = Operator(stage.net, [book.topic for book in stage.books])
    stage.net.spawn(operator.run())
    stage.plays("administrator", administrator(stage.books, ["nobody"]))
    await stage.run(stage.seconds, operator.finished)


async def upgrading(stage: ClusterStage) -> None:
    """Producers, while newer levels of the features are finalized."""
    await stage.producers()
    upgraded = stage.net.spawn(upgrade(stage.net))

    async def is_upgraded() -> None:
        await asyncio.wait([upgraded])

    await stage.run(stage.seconds, is_upgraded)


async def consuming(stage: ClusterStage) -> None:
    """A group, and its records."""
    check = await stage.consumers()
    stage.plays("administrator", administrator(stage.books, stage.groups))
    await stage.run(stage.seconds, check)


async def copying(stage: ClusterStage) -> None:
    """Consume, transform, produce; exactly once."""
    await stage.run(stage.seconds, await stage.transform())


async def queueing(stage: ClusterStage) -> None:
    """A share group."""
    await stage.run(stage.seconds, await stage.queue())


async def compacting(stage: ClusterStage) -> None:
    """Tables in compacted topics of small segments, under cleaners that are always at work."""
    await stage.producers()
    world = stage.net
    tables = Tables(cast(Any, world), Ledger(), v2=stage.dice.random() < 0.6, policy="compact", stay_ms=STAY_MS)
    await tables.create_topics()
    tables.start()

    async def check() -> None:
        async def is_settled() -> bool:
            return all([await settled(stage.admin, place) for place in tables.places])

        await stage.until("no transaction in a table is open", is_settled)
        await tables.check()

    await stage.run(stage.seconds, check)


async def all_of_it(stage: ClusterStage) -> None:
    """Everybody at once."""
    checks = [await stage.consumers(), await stage.transform()]
    await stage.producers()
    operator = Operator(stage.net, [book.topic for book in stage.books])
    stage.net.spawn(operator.run())
    await stage.run(stage.seconds, *checks, operator.finished)


PROFILES: dict[str, tuple[Act, Kinds]] = {
    "produce under kills": (producing, KILLS),
    "produce under partitions": (producing, [*NETWORK, *PAUSES]),
    "produce under losses": (producing, [*LOSSES, *KILLS[:1], *NETWORK]),
    "produce under everything": (producing, EVERYTHING),
    "move under everything": (moving, EVERYTHING),
    "consume under kills and partitions": (consuming, [*KILLS, *NETWORK, *PAUSES]),
    "consume under everything": (consuming, EVERYTHING),
    "copy under kills and partitions": (copying, [*KILLS, *NETWORK, *PAUSES]),
    "copy under everything": (copying, EVERYTHING),
    "queue under kills": (queueing, [*KILLS, *ROLLS, *PAUSES]),
    "consume while coordinators fail": (consuming, [*COORDINATORS, *NETWORK]),
    "copy while coordinators fail": (copying, [*COORDINATORS, *NETWORK]),
    "queue while coordinators fail": (queueing, [*COORDINATORS, *NETWORK]),
    "roll with clocks and bad disks": (producing, [*ROLLS, *CLOCKS, *DISKS]),
    "compact under kills": (compacting, [*KILLS, *ROLLS, *PAUSES]),
    "compact under everything": (compacting, EVERYTHING),
    "upgrade": (upgrading, [*ROLLS, *KILLS, *NETWORK]),
    "all of it": (all_of_it, EVERYTHING),
}
SHAPES = {"three": THREE, "old": OLD, "five": FIVE, "apart": APART, "one": ONE}


def play(profile: str, seed: object, *, shape: str = "three", seconds: float = 20.0, shuffle: bool = False) -> Counts:
    """One run of a profile."""
    act, kinds = PROFILES[profile]
    if profile == "upgrade":
        shape = "old"
    return run_cluster_scenario(
        f"{profile}, {shape}", seed, act, kinds=kinds, shape=SHAPES[shape], seconds=seconds, shuffle=shuffle
    )
