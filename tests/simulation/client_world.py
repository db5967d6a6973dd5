"""All our clients beside a node that dies and a network that hurts: scenarios of a seed, for the tests and for
`python -m tests.simulation.soak --scenario our_producers --seconds 600`.

The node ends in any operation of its disk, is killed, restarts (`Cluster.trouble`); a proxy cuts connections, loses and
delays answers, and says that coordinators are loading (`Proxy`); programs are killed, cancelled and closed by turns.
Calls that take longer than their time, tasks, timers and connections that a closed client leaves behind, and anything
logged as an error are failures in every scenario.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

from ottla.client.errors import CommitFailedError
from tests.simulation.workloads.checks import settled, until
from tests.simulation.workloads.client import GROUP, GROUP_RESOURCE, SHARE, TRANSACTION
from tests.simulation.workloads.cluster import Cluster, run_cluster
from tests.simulation.workloads.our_admins import administrator
from tests.simulation.workloads.our_consumers import GROUP_ID as READERS
from tests.simulation.workloads.our_consumers import KINDS, Readings, follower, reader
from tests.simulation.workloads.our_producers import Book, check_book, sender, teller
from tests.simulation.workloads.our_queues import GROUP_ID as CREW
from tests.simulation.workloads.our_queues import JOBS, LOCK_S, MOST_DELIVERIES, Crew, Job, worker
from tests.simulation.workloads.our_transform import GROUP_ID as MAKERS
from tests.simulation.workloads.our_transform import INPUT, OUTPUT, check_made, maker
from tests.simulation.workloads.programs import Program, Run, World, world_around
from tests.simulation.workloads.proxy import ADVERTISED
from tests.simulation.workloads.reader import read_all

Counts = dict[str, int]
MEAN_LIFE_S = 8.0
SLEEP_MS = 14_000
HURT = 0.02
PARTITIONS = 3
EXPLICIT = {"group.id": CREW, "share.acknowledgement.mode": "explicit", "max.poll.records": 5}
EXACT = ("idempotent", "idempotent, one in flight")
SETTINGS: dict[str, object] = ADVERTISED | {
    "group.share.delivery.count.limit": MOST_DELIVERIES,
    "group.share.record.lock.duration.ms": int(LOCK_S * 1000),
}


class Stage:
    """What a scenario puts together."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.cluster = world.cluster
        self.dice = world.cluster.random("scenario")
        self.admin = world.cluster.client("operator")
        self.books: list[Book] = []
        self.groups: list[str] = []
        self.is_over = False
        self.mean_life_s = MEAN_LIFE_S
        self._senders: list[asyncio.Task[Any]] = []
        self._others: list[asyncio.Task[Any]] = []

    # -- who plays

    async def book(self, topic: str, partitions: int = PARTITIONS) -> Book:
        await self.admin.create_topic(topic, partitions)
        book = Book(self.cluster, topic, partitions)
        self.books.append(book)
        return book

    def sends(self, name: str, run: Run) -> None:
        """Programs by this name, until the faults are over."""
        running = self.world.replace(name, run, self.mean_life_s, is_over=lambda: self.cluster.is_calm)
        self._senders.append(self.cluster.spawn(running))

    def plays(self, name: str, run: Run, mean_life_s: float | None = None) -> None:
        """Programs by this name, until everything is done."""
        running = self.world.replace(name, run, mean_life_s or self.mean_life_s, is_over=lambda: self.is_over)
        self._others.append(self.cluster.spawn(running))

    async def producers(self) -> None:
        """Producers of all kinds."""
        records, accounts = await self.book("records"), await self.book("accounts")
        await self.admin.find_coordinator("teller-0", TRANSACTION)
        for slot in range(3):
            self.sends(f"sender-{slot}", sender(records))
        for slot in range(2):
            self.sends(f"teller-{slot}", teller(accounts, f"teller-{slot}"))

    async def consumers(self) -> Callable[[], Awaitable[None]]:
        """A group, and one who reads alone; what there is to check in the end."""
        news = await self.book("news")
        await self.admin.find_coordinator(READERS, GROUP)
        await self.admin.find_coordinator("clerk", TRANSACTION)
        self.groups.append(READERS)
        self.sends("editor", sender(news, kinds=EXACT))
        self.sends("clerk", teller(news, "clerk"))
        group, alone = Readings(self.cluster), Readings(self.cluster)
        kind = self.dice.choice([*KINDS])
        topics = self.dice.choice((["news"], re.compile("ne.s")))
        for slot in range(self.dice.randint(1, 3)):
            self.plays(f"reader-{slot}", reader(group, topics, kind))
        self.plays("follower", follower(alone, "news", PARTITIONS), 1e9)

        async def check() -> None:
            async def is_read() -> bool:
                missing = await group.missing("news", news.partitions)
                return not missing and not await alone.missing("news", PARTITIONS)

            await self.until("everything is read", is_read)
            await group.check("news", news.partitions)
            await alone.check("news", PARTITIONS)

        return check

    async def queue(self, workers: int | None = None, partitions: int = PARTITIONS) -> Callable[[], Awaitable[None]]:
        """A share group."""
        errands = await self.book(JOBS, partitions)
        await self.admin.find_coordinator(CREW, GROUP)
        await self.admin.find_coordinator(f"{CREW}:AAAAAAAAAAAAAAAAAAAAAA:0", SHARE)
        await self.admin.alter(GROUP_RESOURCE, CREW, share_auto_offset_reset="earliest")
        crew = self.crew()
        self.sends("customer", sender(errands, kinds=EXACT))
        for slot in range(self.dice.randint(1, 3) if workers is None else workers):
            self.plays(f"worker-{slot}", worker(crew))

        async def check() -> None:
            async def is_done() -> bool:
                return not await crew.missing(errands.partitions)

            await self.until("every job is done", is_done)

        return check

    def crew(self) -> Crew:
        """What workers say together."""
        return Crew(self.world)

    async def transform(self, makers: int | None = None) -> Callable[[], Awaitable[None]]:
        """Consume, transform, produce."""
        raw = await self.book(INPUT)
        await self.admin.create_topic(OUTPUT, PARTITIONS)
        await self.admin.find_coordinator(MAKERS, GROUP)
        await self.admin.find_coordinator("maker-0", TRANSACTION)
        self.groups.append(MAKERS)
        self.sends("supplier", sender(raw, kinds=EXACT))
        kind, own_ids = self.dice.choice([*KINDS]), self.dice.random() < 0.5
        for slot in range(self.dice.randint(1, 3) if makers is None else makers):
            self.plays(f"maker-{slot}", maker(kind, PARTITIONS, own_ids))

        async def check() -> None:
            async def is_made() -> bool:
                return not await check_made(self.cluster, {INPUT: raw.partitions, OUTPUT: PARTITIONS})

            await self.until("everything is made", is_made)

        return check

    # -- how it goes

    async def until(self, what: str, is_so: Callable[[], Awaitable[bool]]) -> None:
        await until(self.cluster, what, is_so)

    async def run(self, seconds: float, *checks: Callable[[], Awaitable[None]]) -> None:
        """The faults, and what must be when they are over."""
        self.cluster.spawn(self._outages())
        await self.cluster.trouble(seconds)
        await self.finish(*checks)

    async def finish(self, *checks: Callable[[], Awaitable[None]]) -> None:
        """What must be when the faults are over."""
        await asyncio.wait(self._senders)
        # Who asked for more partitions may not have been told that there are.
        found = await self.admin.describe([book.topic for book in self.books])
        for book in self.books:
            book.partitions = len(found[book.topic].partitions)

        async def is_settled() -> bool:
            places = [(book.topic, index) for book in self.books for index in range(book.partitions)]
            return all([await settled(self.admin, place) for place in places])

        await self.until("no transaction is open", is_settled)
        for check in checks:
            await check()
        self.is_over = True
        if self._others:
            await asyncio.wait(self._others)
        for book in self.books:
            await check_book(book)

    async def _outages(self) -> None:
        """Now and then the node cannot be reached, for less and for more than clients wait."""
        dice = self.cluster.random("outages")
        while not self.cluster.is_calm:
            await asyncio.sleep(dice.expovariate(1 / 12))
            if not self.cluster.is_calm:
                await self.world.proxy.outage(dice.choice((0.2, 3.0, 9.0)) * dice.random())


def play(name: str, seed: object, act: Callable[[Stage], Awaitable[None]], *, hurt: float = HURT) -> Counts:
    """Run a scenario; `hurt` is the share of requests that something happens to."""

    async def main(cluster: Cluster) -> Counts:
        async with world_around(cluster, hurt) as world:
            await act(Stage(world))
        return cluster.counts

    return run_cluster(main, seed=f"{name} {seed}", settings=SETTINGS)


def our_producers(seed: object, *, seconds: float = 30.0) -> Counts:
    """Every record once, in order, and every transaction whole."""

    async def act(stage: Stage) -> None:
        await stage.producers()
        stage.plays("administrator", administrator(stage.books, ["nobody"]))
        await stage.run(seconds)

    return play("our producers", seed, act)


def our_consumers(seed: object, *, seconds: float = 30.0) -> Counts:
    """Nothing is skipped, nobody goes back."""

    async def act(stage: Stage) -> None:
        check = await stage.consumers()
        stage.plays("administrator", administrator(stage.books, stage.groups))
        await stage.run(seconds, check)

    return play("our consumers", seed, act)


def our_queues(seed: object, *, seconds: float = 30.0) -> Counts:
    """No job is lost, none that is done comes again."""

    async def act(stage: Stage) -> None:
        await stage.run(seconds, await stage.queue())

    return play("our queues", seed, act)


def our_transform(seed: object, *, seconds: float = 30.0) -> Counts:
    """Each input's output once."""

    async def act(stage: Stage) -> None:
        await stage.run(seconds, await stage.transform())

    return play("our transform", seed, act)


def our_clients(seed: object, *, seconds: float = 30.0) -> Counts:
    """All of them together."""

    async def act(stage: Stage) -> None:
        checks = [await stage.consumers(), await stage.queue(), await stage.transform()]
        await stage.producers()
        stage.plays("administrator", administrator(stage.books, stage.groups))
        await stage.run(seconds, *checks)

    return play("our clients", seed, act)


def renewal(seed: object) -> Counts:
    """Who renews keeps what he has, for much longer than a lock lasts; nobody else is given it."""

    async def act(stage: Stage) -> None:
        cluster = stage.cluster
        await stage.queue(workers=0)
        held: set[Job] = set()
        has_some = asyncio.Event()

        async def keep(program: Program) -> None:
            consumer = program.share_consumer(EXPLICIT, topics=[JOBS])
            async with consumer:
                records: list[Any] = []
                while not records:
                    records = await consumer.poll(timeout_s=1.0)
                held.update((record.partition, record.offset) for record in records)
                has_some.set()
                for _ in range(10):
                    for record in records:
                        consumer.renew(record)
                    confirmed = await consumer.commit()
                    if any(confirmed.values()):
                        cluster.fail(f"not renewed: {confirmed}")
                    await asyncio.sleep(LOCK_S / 2)
                for record in records:
                    consumer.acknowledge(record)
                confirmed = await consumer.commit()
                if any(confirmed.values()):
                    cluster.fail(f"not accepted: {confirmed}")
                cluster.count("jobs kept", len(held))

        async def watch(program: Program) -> None:
            consumer = program.share_consumer(EXPLICIT, topics=[JOBS])
            async with consumer:
                while not program.is_closing:
                    for record in await consumer.poll(timeout_s=1.0):
                        if (record.partition, record.offset) in held:
                            cluster.fail(f"{record} was given to another while its lock was renewed")
                        consumer.acknowledge(record)

        keeper = stage.world.start("keeper", keep)
        await has_some.wait()
        watcher = stage.world.start("watcher", watch)
        await keeper.task
        watcher.close()
        cluster.is_calm = True
        await stage.finish()
        await stage.world.end()

    return play("renewal", seed, act, hurt=0.0)


def oversleeping(seed: object, kind: str) -> Counts:
    """Who comes back too late commits nothing: others have his partitions, and their records, again."""

    async def act(stage: Stage) -> None:
        cluster = stage.cluster
        await stage.transform(makers=0)
        settings = KINDS[kind] | {
            "group.id": MAKERS,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "max.poll.interval.ms": SLEEP_MS // 2,
        }

        async def sleeper(program: Program) -> None:
            consumer = program.consumer(settings, topics=[INPUT])
            async with consumer, program.producer({"transactional.id": "sleeper"}) as producer:
                records = await consumer.poll(timeout_s=30.0)
                try:
                    async with producer.transaction() as transaction:
                        for record in records:
                            await producer.send(OUTPUT, record.value, partition=0)
                        await asyncio.sleep(SLEEP_MS / 1000)
                        await transaction.send_offsets(consumer)
                except CommitFailedError:
                    cluster.count("transactions refused")

        sleeping = stage.world.start("sleeper", sleeper)
        await sleeping.ended()
        cluster.is_calm = True
        await stage.finish()
        view = await read_all(stage.admin, OUTPUT, 0)
        if view.records:
            cluster.fail(f"committed without their positions: {view.records}")

    return play(f"oversleeping {kind}", seed, act, hurt=0.0)


SCENARIOS = (our_producers, our_consumers, our_queues, our_transform, our_clients)
