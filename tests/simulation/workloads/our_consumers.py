"""Our consumers: readers in a group, which are killed, nap, and are replaced; and followers, which read a whole topic
alone for as long as the simulation lasts.

Each writes down what it was given, by the time for which it had the partition (a *stint*). When all is over, the log
says what there was to be given: a stint has no holes and never goes back, and the group has processed everything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ottla.client.errors import (
    CommitFailedError,
    ConnectionFailedError,
    KafkaError,
    KafkaTimeoutError,
    RebalanceInProgressError,
)
from ottla.client.model import TopicPartition
from tests.simulation.workloads.cluster import Cluster
from tests.simulation.workloads.our_producers import LAST_BYTES_S
from tests.simulation.workloads.programs import Program
from tests.simulation.workloads.reader import READ_COMMITTED, read_all

GROUP_ID = "readers"
SESSION_MS = 5_000
POLL_S = 0.5
CLOSE_S = 6.0
LONG_CLOSE_S = 30.0
CLASSIC: dict[str, Any] = {"session.timeout.ms": SESSION_MS, "heartbeat.interval.ms": 1000}
KINDS: dict[str, dict[str, Any]] = {
    "range": CLASSIC | {"partition.assignment.strategy": "range"},
    "cooperative-sticky": CLASSIC | {"partition.assignment.strategy": "cooperative-sticky"},
    "consumer": {"group.protocol": "consumer"},
}
Assignment = dict[TopicPartition, Any]
"""Partitions, and the object that has their state (which is kept, so that no other one is taken for it)."""


@dataclass(eq=False)
class Stint:
    """One consumer's time with one partition."""

    reader: str
    place: TopicPartition
    offsets: list[int] = field(default_factory=list)


@dataclass
class Readings:
    """What a group was given, and when it had processed it."""

    cluster: Cluster
    stints: list[Stint] = field(default_factory=list)
    processed: dict[TopicPartition, set[int]] = field(default_factory=dict)
    taken: dict[TopicPartition, int] = field(default_factory=dict)
    """The highest offset that anybody has processed, plus one."""

    def begin(self, reader: str, places: Iterable[TopicPartition], stints: dict[TopicPartition, Stint]) -> None:
        for place in places:
            stint = stints[place] = Stint(reader, place)
            self.stints.append(stint)

    def process(self, stint: Stint, offset: int) -> None:
        if stint.offsets and offset <= stint.offsets[-1]:
            self.cluster.fail(f"{stint.reader} goes back in {stint.place}, from {stint.offsets[-1]} to {offset}")
        stint.offsets.append(offset)
        self.processed.setdefault(stint.place, set()).add(offset)
        self.taken[stint.place] = max(self.taken.get(stint.place, 0), offset + 1)
        self.cluster.count("records read")

    async def missing(self, topic: str, partitions: int) -> list[str]:
        """What is in the log, and nobody has processed."""
        client = self.cluster.client("checker")
        found = []
        for index in range(partitions):
            view = await read_all(client, topic, index, isolation=READ_COMMITTED)
            processed = self.processed.get(TopicPartition(topic, index), set())
            found += [f"{topic}-{index}@{offset}" for offset in view.records if offset not in processed]
        return found

    async def check(self, topic: str, partitions: int) -> None:
        """Nothing passed over within a stint, nothing given that is not there."""
        client = self.cluster.client("checker")
        for index in range(partitions):
            view = await read_all(client, topic, index, isolation=READ_COMMITTED)
            there = sorted(view.records)
            for stint in self.stints:
                if stint.place != (topic, index) or not stint.offsets:
                    continue
                expected = [offset for offset in there if stint.offsets[0] <= offset <= stint.offsets[-1]]
                if stint.offsets != expected:
                    differing = sorted(set(stint.offsets) ^ set(expected))
                    self.cluster.fail(f"{stint.reader} was not given what is in {stint.place}: {differing}")


def reader(readings: Readings, topic: Any, kind: str) -> Any:
    """A program of the group."""

    async def run(program: Program) -> None:
        dice = program.dice
        automatic = dice.random() < 0.6
        with_callbacks = dice.random() < 0.5
        stints: dict[TopicPartition, Stint] = {}
        more: dict[str, Any] = {}
        if with_callbacks:
            more = {
                "on_assigned": lambda places: readings.begin(program.name, places, stints),
                "on_revoked": lambda places: [stints.pop(place, None) for place in places],
                "on_lost": lambda places: [stints.pop(place, None) for place in places],
            }
        consumer = program.consumer(
            KINDS[kind]
            | {
                "group.id": GROUP_ID,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": automatic,
                "auto.commit.interval.ms": 700,
                "max.poll.interval.ms": 9_000,
                "isolation.level": "read_committed",
                "max.poll.records": dice.choice((1, 20, 500)),
            },
            topics=topic,
            **more,
        )
        assignment: Assignment = {}
        try:
            while not program.is_closing:
                try:
                    # Callbacks wait for commits, which may take as long as a commit may.
                    records = await program.call("poll", consumer.poll(timeout_s=POLL_S), POLL_S + 8.0)
                except (KafkaTimeoutError, ConnectionFailedError) as error:
                    program.cluster.count(f"polls that raised {type(error).__name__}")
                    continue
                if not with_callbacks:
                    # What is assigned anew in the meantime is a new stint; so is what went and came back.
                    assignment = _restart(readings, program, consumer, stints, assignment)
                await _work(program)
                for record in records:
                    place = TopicPartition(record.topic, record.partition)
                    if place not in stints:
                        program.cluster.fail(f"{program} was given {place} at {record.offset}, and does not have it")
                        readings.begin(program.name, [place], stints)
                    readings.process(stints[place], record.offset)
                if records:
                    program.gets_on()
                if records and not automatic:
                    await _commit(program, consumer)
        except BaseException as error:
            # As `async with` does it: what was handed out, and is not processed, is not committed.
            await program.call("close", consumer.__aexit__(type(error), error, None), LONG_CLOSE_S)
            raise
        await program.call("close", consumer.close(CLOSE_S), CLOSE_S + LAST_BYTES_S)

    return run


def _restart(
    readings: Readings, program: Program, consumer: Any, stints: dict[TopicPartition, Stint], before: Assignment
) -> Assignment:
    """Without callbacks a rebalance shows in nothing but the state objects of the partitions."""
    states = consumer._engine.subscription.partitions
    readings.begin(program.name, [place for place, state in states.items() if before.get(place) is not state], stints)
    return dict(states)


async def _work(program: Program) -> None:
    """The user's own code, now and then slower than the group has patience."""
    chance = program.dice.random()
    if program.cluster.is_calm or chance > 0.03:
        return
    program.cluster.count("naps of users")
    await program.think(1.0 if chance > 0.005 else 6.0)


async def _commit(program: Program, consumer: Any) -> None:
    try:
        await program.call("commit", consumer.commit(), 8.0)
    except (CommitFailedError, RebalanceInProgressError):
        program.cluster.count("commits that came too late")
    except KafkaError as error:
        if not error.retriable:
            raise
        program.cluster.count("commits in doubt")


def follower(readings: Readings, topic: str, partitions: int) -> Any:
    """A program that is assigned all partitions, and reads from the beginning to the end."""

    async def run(program: Program) -> None:
        consumer = program.consumer(
            {"auto.offset.reset": "earliest", "isolation.level": "read_committed", "fetch.max.bytes": 5_000}
        )
        places = [TopicPartition(topic, index) for index in range(partitions)]
        stints: dict[TopicPartition, Stint] = {}
        readings.begin(program.name, places, stints)
        try:
            await consumer.assign(places)
            while not program.is_closing:
                try:
                    records = await program.call("poll", consumer.poll(timeout_s=POLL_S), POLL_S)
                except (KafkaTimeoutError, ConnectionFailedError) as error:
                    program.cluster.count(f"polls that raised {type(error).__name__}")
                    continue
                for record in records:
                    place = TopicPartition(record.topic, record.partition)
                    readings.process(stints[place], record.offset)
                if records:
                    program.gets_on()
                if program.dice.random() < 0.05:
                    await _ask(program, consumer, places)
        finally:
            await program.call("close", consumer.close(CLOSE_S), CLOSE_S + LAST_BYTES_S)

    return run


async def _ask(program: Program, consumer: Any, places: list[TopicPartition]) -> None:
    """Calls that go to brokers of their own accord."""
    limit_s = program.dice.choice((0.5, 3.0))
    asking = program.dice.choice((consumer.end_offsets, consumer.beginning_offsets))
    try:
        await program.call("end_offsets", asking(places, timeout_s=limit_s), limit_s)
    except KafkaError as error:
        if not error.retriable:
            raise
        program.cluster.count("questions that nobody answered")
