"""Share groups, the data path: sessions, acquiring, acknowledging (KIP-932, KIP-1206, KIP-1222).

What is compared is what a client acts on: error codes, ranges, delivery counts; not which partitions without any news
an answer also names.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from ottla.protocol.messages import share_acknowledge as acknowledging
from ottla.protocol.messages import share_fetch as fetching
from ottla.records.batch import batches
from ottla.records.record import Record, build_batch
from tests.compatibility.differential.share_scenarios import OTHER_ID, State
from tests.compatibility.differential.world import World

Batch = tuple[int, int, list[int]]
GAP, ACCEPT, RELEASE, REJECT, RENEW = range(5)


class Member:
    """A member with its own connection and session."""

    def __init__(self, world: World, group: str, topic_id: bytes, name: str, partitions: int = 1) -> None:
        self.world, self.group, self.topic_id, self.name = world, world.name(group), topic_id, name
        self.partitions = range(partitions)
        self.wire = world.new_wire()
        self.epoch = 0

    def fetch(
        self,
        label: str,
        acknowledgements: dict[int, Sequence[Batch]] | None = None,
        *,
        epoch: int | None = None,
        max_records: int = 500,
        max_wait_ms: int = 1500,
        min_bytes: int = 1,
        max_bytes: int = 1_000_000,
        strict: bool = False,
        renew: bool = False,
        batch_size: int = 500,
        forget: Sequence[int] = (),
        topic_id: bytes | None = None,
        member: str | None = None,
        version: int = 2,
        in_pieces: bool = False,
    ) -> Any:
        sent = self.epoch if epoch is None else epoch
        given = acknowledgements or {}
        indexes = self.partitions if sent == 0 and acknowledgements is None else list(given)
        wanted = topic_id or self.topic_id
        request = fetching.ShareFetchRequest(
            group_id=self.group,
            member_id=self.name if member is None else member,
            share_session_epoch=sent,
            max_wait_ms=max_wait_ms,
            min_bytes=min_bytes,
            max_bytes=max_bytes,
            max_records=max_records,
            batch_size=batch_size,
            share_acquire_mode=int(strict),
            is_renew_ack=renew,
            topics=[
                fetching.FetchTopic(
                    topic_id=wanted,
                    partitions=[
                        fetching.FetchPartition(
                            partition_index=index,
                            acknowledgement_batches=[
                                fetching.AcknowledgementBatch(first_offset=a, last_offset=b, acknowledge_types=types)
                                for a, b, types in given.get(index, ())
                            ],
                        )
                        for index in indexes
                    ],
                )
            ]
            if indexes
            else [],
            forgotten_topics_data=[fetching.ForgottenTopic(topic_id=wanted, partitions=list(forget))] if forget else [],
        )
        answer = self.world.ask_quietly(request, version, wire=self.wire)
        if answer is None:
            self.world.note(label, "closed")
            return answer
        if answer.error_code == 0 and epoch is None:
            self.epoch += 1
        found = {}
        for topic in answer.responses:
            for data in topic.partitions:
                ranges = [(r.first_offset, r.last_offset, r.delivery_count) for r in data.acquired_records]
                if not in_pieces:
                    ranges = _joined(ranges)
                offsets = [header.base_offset for _, header in batches(data.records or b"")] if ranges else []
                news = (data.error_code, data.acknowledge_error_code, ranges, offsets)
                if any(news):
                    found[data.partition_index] = news
        lock_ms = answer.acquisition_lock_timeout_ms if answer.error_code == 0 else 0
        self.world.note(label, (answer.error_code, lock_ms, sorted(found.items())))
        return answer

    def acknowledge(
        self,
        label: str,
        *given: Batch,
        partition: int = 0,
        epoch: int | None = None,
        renew: bool = False,
        version: int = 2,
        topic_id: bytes | None = None,
    ) -> None:
        data = acknowledging.AcknowledgePartition(
            partition_index=partition,
            acknowledgement_batches=[
                acknowledging.AcknowledgementBatch(first_offset=a, last_offset=b, acknowledge_types=types)
                for a, b, types in given
            ],
        )
        topic = acknowledging.AcknowledgeTopic(topic_id=topic_id or self.topic_id, partitions=[data])
        request = acknowledging.ShareAcknowledgeRequest(
            group_id=self.group,
            member_id=self.name,
            share_session_epoch=self.epoch if epoch is None else epoch,
            is_renew_ack=renew,
            topics=[topic] if given else [],
        )
        answer = self.world.ask_quietly(request, version, wire=self.wire)
        if answer.error_code == 0 and epoch is None:
            self.epoch += 1
        codes = [data.error_code for topic in answer.responses for data in topic.partitions]
        self.world.note(label, (answer.error_code, codes))


def _joined(ranges: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Neighbours with the same delivery count as one: how they are cut is the broker's affair."""
    joined: list[tuple[int, int, int]] = []
    for first, last, count in ranges:
        if joined and joined[-1][1] + 1 == first and joined[-1][2] == count:
            first = joined.pop()[0]
        joined.append((first, last, count))
    return joined


def _queue(world: World, name: str, *batch_sizes: int, partitions: int = 1) -> bytes:
    """A topic with batches of these sizes in its first partition, and a group that begins at the first record."""
    topic_id = world.create(name, partitions)
    state = State(world, name, topic_id)
    for partition in range(partitions):
        state.initialize(f"{name}-{partition}", partition=partition, start=0)
    for size in batch_sizes:
        _produce(world, name, size)
    return topic_id


def _produce(world: World, name: str, size: int, partition: int = 0) -> None:
    records = [Record(timestamp_ms=world.base_ms, value=b"job")] * size
    world.produce("jobs", name, bytes(build_batch(records)), partition=partition)


def share_sessions(world: World) -> None:
    topic_id = _queue(world, "sessions", 1)
    member = Member(world, "sessions", topic_id, "m")
    member.fetch("no session", epoch=3)
    member.fetch("nothing to close", epoch=-1)
    member.acknowledge("no session", epoch=3)
    member.acknowledge("nothing to close", epoch=-1)
    member.acknowledge("a session is not made so", epoch=0)
    member.fetch("too long a member id", member="x" * 37)
    member.fetch("no member id", member="")
    member.fetch("acknowledgement without session", {0: [(0, 0, [ACCEPT])]}, epoch=0)
    member.fetch("opened")
    member.fetch("wrong epoch", epoch=5)
    member.acknowledge("wrong epoch", epoch=5)
    member.acknowledge("right epoch")
    member.fetch("nothing new", max_wait_ms=200)
    member.fetch("opened again", epoch=0, max_wait_ms=200)
    member.epoch = 1
    member.fetch("its records are its own still", {0: [(0, 0, [ACCEPT])]}, max_wait_ms=200)
    member.fetch("closed", epoch=-1)
    member.fetch("gone", max_wait_ms=0)
    member.fetch("unknown topic", epoch=0, topic_id=OTHER_ID)
    member.partitions = range(3)
    member.fetch("unknown partitions", epoch=0, max_wait_ms=200)
    member.epoch = 1
    member.fetch("forgotten", forget=[1, 2], max_wait_ms=200)


def share_acquiring(world: World) -> None:
    topic_id = _queue(world, "acquiring", 3, 2, 4, 1)
    one, two = (Member(world, "acquiring", topic_id, name) for name in "ab")
    one.fetch("one record is a batch", max_records=1)
    one.fetch("one record strictly", max_records=1, strict=True)
    two.fetch("four records begin within a batch", max_records=4)
    two.fetch("the rest", max_records=10)
    two.fetch("nothing is left", max_wait_ms=200)
    one.acknowledge("released", (0, 3, [RELEASE]))
    two.fetch("released ones, strictly two", max_records=2, strict=True)
    two.fetch("released ones, the others")
    two.fetch("no records", max_records=0, max_wait_ms=200)
    two.fetch("no bytes", max_bytes=0, max_wait_ms=200)
    for size in (3, 3, 3, 3):
        _produce(world, "acquiring", size)
    two.fetch("in pieces", batch_size=4, in_pieces=True)
    two.fetch("first version", version=1, max_wait_ms=200)


def share_acknowledging(world: World) -> None:
    topic_id = _queue(world, "acknowledging", 10, 3)
    one, two = (Member(world, "acknowledging", topic_id, name) for name in "ab")
    one.fetch("ten", max_records=10)
    two.fetch("three")
    for label, given in {
        "backwards": [(1, 0, [ACCEPT])],
        "no type": [(0, 1, [])],
        "too few types": [(0, 2, [ACCEPT, ACCEPT])],
        "unknown type": [(0, 0, [5])],
        "negative type": [(0, 0, [-1])],
        "descending": [(3, 3, [ACCEPT]), (0, 0, [ACCEPT])],
        "overlapping": [(0, 3, [ACCEPT]), (3, 4, [ACCEPT])],
        "never handed out": [(100, 100, [ACCEPT])],
        "somebody else's": [(10, 10, [ACCEPT])],
        "partly somebody else's": [(8, 10, [ACCEPT])],
        "renewing without saying so": [(0, 0, [RENEW])],
    }.items():
        one.acknowledge(label, *given)
    one.acknowledge("other partition", (0, 0, [ACCEPT]), partition=4)
    one.acknowledge("other topic", (0, 0, [ACCEPT]), topic_id=OTHER_ID)
    one.acknowledge("renewing in version 1", (0, 0, [RENEW]), version=1)
    one.acknowledge("renewed", (0, 9, [RENEW]), renew=True)
    one.fetch("renewing wants nothing", {0: [(0, 0, [RENEW])]}, renew=True)
    one.fetch("renewed with a fetch", {0: [(0, 0, [RENEW])]}, renew=True, max_records=0, max_bytes=0, min_bytes=0,
              max_wait_ms=0)  # fmt: skip
    one.acknowledge("each its own", (0, 3, [ACCEPT, RELEASE, REJECT, GAP]), (4, 5, [ACCEPT]))
    one.acknowledge("twice", (5, 5, [ACCEPT]))
    one.acknowledge("before the start", (0, 0, [ACCEPT]))
    two.fetch("what was released", {0: [(10, 12, [ACCEPT])]})
    one.fetch("with a fetch, too late", {0: [(1, 1, [ACCEPT])]}, max_wait_ms=200)
    one.acknowledge("the rest", (6, 9, [ACCEPT]))
    two.acknowledge("and the last", (1, 1, [ACCEPT]), epoch=-1)
    one.fetch("nothing is left", max_wait_ms=200)


def share_giving_up(world: World) -> None:
    topic_id = _queue(world, "giving-up", 8)
    member = Member(world, "giving-up", topic_id, "m")
    for number in range(16):
        answer = member.fetch(f"delivery {number}", max_wait_ms=300)
        given = [
            (r.first_offset, r.last_offset, [RELEASE])
            for topic in answer.responses
            for data in topic.partitions
            for r in data.acquired_records
        ]
        if given:
            member.acknowledge(f"released {number}", *given)


def share_leaving(world: World) -> None:
    topic_id = _queue(world, "leaving", 2)
    other = Member(world, "leaving", topic_id, "o")
    member = Member(world, "leaving", topic_id, "m")
    member.fetch("two")
    other.fetch("nothing", max_wait_ms=200)
    member.acknowledge("one accepted, and gone", (0, 0, [ACCEPT]), epoch=-1)
    other.fetch("the other")
    other.wire.close()
    time.sleep(0.3)
    member.epoch = 0
    member.fetch("what the lost connection had")


SCENARIOS = (share_sessions, share_acquiring, share_acknowledging, share_giving_up, share_leaving)
