"""A group of our own consumers that are killed, close and join at random, beside a producer that never stops.

Everybody writes down what it owns and what it has processed, in the register that all of them share: nobody may own
what a living member owns, and no record may be passed over. An *event* is a kill, an orderly close or a join; its stall
lasts until every partition is owned by somebody living who has processed something of it since, and everybody living
owns one. Its *silence* is the longest time for which nothing of some partition was processed meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

from ottla.aio import Consumer
from ottla.client.consumer.engine import ConsumerEngine
from ottla.client.consumer.group.member import GroupMember
from ottla.client.errors import CommitFailedError, RebalanceInProgressError
from ottla.client.model import TopicPartition
from ottla.client.network.cluster import Cluster as Network
from ottla.client.settings import ConsumerSettings
from ottla.testing.sim.process import Process
from tests.simulation.workloads.client import GROUP
from tests.simulation.workloads.cluster import ADDRESS, Cluster
from tests.simulation.workloads.producer import IdempotentProducer, Ledger

TOPIC = "events"
GROUP_ID = "readers"
SESSION_MS = 6_000
#: Longer than any stall may be: then something is stuck.
PATIENCE_S = 120.0
CHECK_S = 0.01


class SimulatedConsumer(Consumer[bytes, bytes]):
    """The real one, with the simulation's clock and dice."""

    def __init__(self, random: Random, settings: dict[str, Any], **more: Any) -> None:
        self._random = random
        super().__init__(ADDRESS, settings, topics=[TOPIC], **more)
        self._news_interval_s = -1.0  # real seconds mean nothing here

    def _make_engine(self, config: ConsumerSettings) -> ConsumerEngine:
        network = Network(config, clock=asyncio.get_running_loop().time, random=self._random)
        return ConsumerEngine(config, network, make_member=partial(GroupMember, random=self._random))

    @property
    def member(self) -> GroupMember:
        member = self._engine.member
        assert member is not None
        return member


@dataclass
class Register:
    """What all members say together."""

    cluster: Cluster
    owners: dict[TopicPartition, Member] = field(default_factory=dict)
    next_offset: dict[TopicPartition, int] = field(default_factory=dict)
    """The first offset of each partition that nobody has processed."""
    last_s: dict[TopicPartition, float] = field(default_factory=dict)
    silence_s: float = 0.0
    """The longest time between two records of a partition, since the last event."""
    reprocessed: int = 0
    processed: int = 0

    def take(self, member: Member, partitions: Iterable[TopicPartition]) -> None:
        for place in partitions:
            owner = self.owners.get(place)
            if owner is not None and owner is not member and not owner.is_dead:
                self.cluster.fail(f"{place} is taken by {member} while {owner} has it")
            self.owners[place] = member
            member.fresh.add(place)

    def let_go(self, member: Member, partitions: Collection[TopicPartition]) -> None:
        member.fresh.difference_update(partitions)
        for place in partitions:
            if self.owners.get(place) is member:
                del self.owners[place]

    def process(self, member: Member, place: TopicPartition, offset: int) -> None:
        if self.owners.get(place) is not member:
            self.cluster.fail(f"{member} processes {place} at {offset}, which {self.owners.get(place)} has")
        expected = self.next_offset.get(place, 0)
        if offset > expected:
            self.cluster.fail(f"{member} goes on with {place} at {offset}: {expected} was skipped")
        elif offset < expected:
            self.reprocessed += 1
        self.next_offset[place] = max(expected, offset + 1)
        self.processed += 1
        now_s = self.cluster.now()
        self.silence_s = max(self.silence_s, now_s - self.last_s.get(place, now_s))
        self.last_s[place] = now_s
        member.fresh.discard(place)


class Member:
    """A program with one consumer; now and then its code is slow."""

    def __init__(self, group: Group, name: str) -> None:
        self.group = group
        self.name = name
        self.is_dead = False
        self.is_closing = False
        self.fresh: set[TopicPartition] = set()
        """Owned, and nothing of it processed yet."""
        self.consumer: SimulatedConsumer | None = None
        self.process = Process(group.cluster.loop)
        self.task = self.process.start(self._run())
        self.task.add_done_callback(group.cluster._ended)

    def __repr__(self) -> str:
        return self.name

    def kill(self) -> None:
        self.is_dead = True
        self.process.kill()

    def close(self) -> None:
        self.is_closing = True

    @property
    def is_settled(self) -> bool:
        return self.consumer is not None and self.consumer.member.is_settled and not self.fresh

    async def _run(self) -> None:
        register, random = self.group.register, self.group.cluster.random(self.name)
        self.consumer = consumer = SimulatedConsumer(
            random,
            {"group.id": GROUP_ID, "auto.offset.reset": "earliest", **self.group.settings},
            on_assigned=lambda partitions: register.take(self, partitions),
            on_revoked=lambda partitions: register.let_go(self, partitions),
            on_lost=lambda partitions: register.let_go(self, partitions),
        )
        automatic = consumer.settings.enable_auto_commit
        async with consumer:
            while not self.is_closing:
                records = await consumer.poll(timeout_s=0.2)
                if random.random() < self.group.slowness:
                    await asyncio.sleep(random.expovariate(1.0))
                for record in records:
                    register.process(self, TopicPartition(record.topic, record.partition), record.offset)
                if records and not automatic:
                    try:
                        await consumer.commit()
                    except (CommitFailedError, RebalanceInProgressError):
                        self.group.cluster.count("commits that came too late")
        self.is_dead = True


class Group:
    """The members, who ends them, and how long that is felt."""

    def __init__(
        self,
        cluster: Cluster,
        settings: dict[str, Any],
        *,
        partitions: int,
        slots: int,
        records_per_s: float,
        slowness: float = 0.02,
        kills: float = 0.6,
    ) -> None:
        self.cluster = cluster
        self.settings = settings
        self.partitions = partitions
        self.slots = slots
        self.records_per_s = records_per_s
        self.kills = kills
        """How many of those that go are killed."""
        self.slowness = slowness
        """In how many polls the user's code takes its time with what it got: a second on average."""
        self.register = Register(cluster)
        self.members: list[Member] = []
        self.stalls: dict[str, list[float]] = {}
        self.silences: dict[str, list[float]] = {}
        self.events = 0
        self._number = 0

    async def prepare(self) -> None:
        admin = self.cluster.client("admin")
        await admin.find_coordinator(GROUP_ID, GROUP)
        await admin.create_topic(TOPIC, self.partitions)
        self.cluster.spawn(self._supply())

    async def _supply(self) -> None:
        producer = IdempotentProducer(self.cluster.client("supplier"), Ledger())
        await producer.start()
        number = 0
        while True:
            await producer.write(TOPIC, number % self.partitions, [(None, b"%d" % number)])
            number += 1
            await asyncio.sleep(1 / (self.records_per_s * self.partitions))

    @property
    def living(self) -> list[Member]:
        return [member for member in self.members if not member.is_dead and not member.is_closing]

    async def run(self, events: int) -> None:
        """So many events, one after the other, some of them together."""
        dice = self.cluster.random("events")
        await self._felt(self._join())
        while self.events < events:
            kinds = [self._event(dice) for _ in range(1 if dice.random() < 0.8 else dice.randint(2, 3))]
            await self._felt(max(kinds))
            await asyncio.sleep(dice.uniform(0, 1.5))

    def _event(self, dice: Random) -> str:
        """One of them happens; what it was."""
        self.events += 1
        living = self.living
        if len(living) <= 1 or (len(living) < self.slots and dice.random() < 0.5):
            return self._join()
        member = dice.choice(living)
        if dice.random() < self.kills:
            member.kill()
            return "kill"
        member.close()
        return "close"

    def _join(self) -> str:
        self._number += 1
        self.members.append(Member(self, f"member-{self._number}"))
        return "join"

    async def _felt(self, kind: str) -> None:
        since_s = self.cluster.now()
        self.register.silence_s = 0.0
        while not self._all_is_consumed():
            if self.cluster.now() > since_s + PATIENCE_S:
                self.cluster.fail(f"nobody consumes all after a {kind}: {self.register.owners} {self.living}")
                break
            self.cluster.check()
            await asyncio.sleep(CHECK_S)
        self.members = [member for member in self.members if not member.is_dead]
        self.stalls.setdefault(kind, []).append(self.cluster.now() - since_s)
        self.silences.setdefault(kind, []).append(self.register.silence_s)

    def _all_is_consumed(self) -> bool:
        living = self.living
        owners = self.register.owners
        return (
            all(member.is_settled for member in living)
            and not any(member.is_closing and not member.is_dead for member in self.members)
            and len(owners) == self.partitions
            and set(owners.values()) == set(living)
        )

    async def finish(self) -> None:
        """Orderly: everybody closes."""
        for member in self.living:
            member.close()
        await asyncio.wait([member.task for member in self.members if not member.is_dead], timeout=PATIENCE_S)
        if self.register.owners:
            self.cluster.fail(f"owned after everybody closed: {self.register.owners}")
