"""Brokers with one share group, for tests of the shell: sessions, locks and delivery counts as KIP-932 has them.

    fake = FakeCluster(1)
    fake.add_topic("jobs")
    queue = Queue(fake)
    queue.fill("jobs", 0, 10)

Members get all partitions. What became of each record is in `queue.verdicts`; locks end with the session they were
taken in, as they do when a member leaves.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ottla.core.errors import ErrorCode
from ottla.protocol.apis import ApiKey
from ottla.protocol.messages import share_acknowledge, share_fetch, share_group_heartbeat
from ottla.records.batch import batches
from ottla.records.writer import BatchWriter
from tests.client.network.fake_broker import Call, FakeCluster

ACCEPT, RELEASE, REJECT, RENEW = 1, 2, 3, 4
Place = tuple[bytes, int]


@dataclass
class Session:
    epoch: int = 0
    partitions: set[Place] = field(default_factory=set)


@dataclass
class Partition:
    records: bytearray = field(default_factory=bytearray)
    free: dict[int, int] = field(default_factory=dict)
    """Offsets that anybody may have, and how often they were delivered."""
    locked: dict[int, tuple[str, int, int]] = field(default_factory=dict)
    """Offset → member, node, delivery count."""


class Queue:
    """What the brokers of a fake cluster do with share requests."""

    def __init__(self, fake: FakeCluster, heartbeat_interval_ms: int = 5000) -> None:
        self.fake = fake
        self.heartbeat_interval_ms = heartbeat_interval_ms
        self.members: dict[str, int] = {}
        self.sessions: dict[tuple[int, str], Session] = {}
        self.partitions: dict[Place, Partition] = defaultdict(Partition)
        self.verdicts: dict[tuple[str, int, int], int] = {}
        self.assigned: list[str] | None = None
        """Topics that members get; all by default."""
        self._news = asyncio.Event()
        for broker in fake:
            broker.on(ApiKey.SHARE_GROUP_HEARTBEAT, self.heartbeat)
            broker.on(ApiKey.SHARE_FETCH, self.fetch)
            broker.on(ApiKey.SHARE_ACKNOWLEDGE, self.acknowledge)

    def fill(self, topic: str, partition: int, count: int, value: bytes = b"job") -> None:
        """More records, as one batch."""
        found = self.partitions[self.fake.topics[topic].id, partition]
        start = sum(header.last_offset - header.base_offset + 1 for _, header in batches(found.records))
        writer = BatchWriter(1 << 20)
        for number in range(count):
            writer.append(1000, None, value + b"-%d" % (start + number))
        batch = writer.close()
        batch[:8] = start.to_bytes(8, "big")
        found.records += batch
        found.free.update(dict.fromkeys(range(start, start + count), 0))
        self.tell()

    def tell(self) -> None:
        """There is something new for those who wait."""
        self._news.set()
        self._news = asyncio.Event()

    def forget_sessions(self, node_id: int | None = None) -> None:
        """As after a restart: sessions and locks are gone."""
        for node, member in [one for one in self.sessions if node_id in (None, one[0])]:
            self._end(node, member)

    # Requests

    def heartbeat(self, request: Any, call: Call) -> Any:
        member = request.member_id
        if request.member_epoch == -1:
            self.members.pop(member, None)
            return share_group_heartbeat.ShareGroupHeartbeatResponse(member_id=member, member_epoch=-1)
        if request.member_epoch == 0:
            self.members[member] = 1
        elif member not in self.members:
            return share_group_heartbeat.ShareGroupHeartbeatResponse(error_code=ErrorCode.UNKNOWN_MEMBER_ID)
        assignment = share_group_heartbeat.Assignment(
            topic_partitions=[
                share_group_heartbeat.TopicPartitions(topic_id=topic.id, partitions=list(range(len(topic.partitions))))
                for name, topic in self.fake.topics.items()
                if self.assigned is None or name in self.assigned
            ]
        )
        return share_group_heartbeat.ShareGroupHeartbeatResponse(
            member_id=member,
            member_epoch=1,
            heartbeat_interval_ms=self.heartbeat_interval_ms,
            assignment=assignment if request.member_epoch == 0 or request.subscribed_topic_names is not None else None,
        )

    async def fetch(self, request: Any, call: Call) -> Any:
        refused = self._enter(request, call)
        if refused:
            return share_fetch.ShareFetchResponse(error_code=refused)
        node, member = call.broker.id, request.member_id
        session = self.sessions[node, member]
        session.partitions -= {
            (topic.topic_id, one) for topic in request.forgotten_topics_data for one in topic.partitions
        }
        answers: dict[Place, share_fetch.PartitionData] = {}
        for place, acknowledgements in _acknowledgements(request):
            if not acknowledgements or place not in session.partitions:
                session.partitions.add(place)
            code = self._settle(place, acknowledgements, member, node)
            if code:
                answers[place] = share_fetch.PartitionData(
                    partition_index=place[1], acknowledge_error_code=code, records=b""
                )
        if request.max_records > 0:
            if not any(self.partitions[place].free for place in session.partitions) and not answers:
                try:
                    async with asyncio.timeout(request.max_wait_ms / 1000):
                        await self._news.wait()
                except TimeoutError:
                    pass
            for place in session.partitions:
                self._acquire(place, request, node, answers)
        responses: dict[bytes, list[share_fetch.PartitionData]] = defaultdict(list)
        for (topic_id, _), answer in answers.items():
            responses[topic_id].append(answer)
        return share_fetch.ShareFetchResponse(
            acquisition_lock_timeout_ms=30_000,
            responses=[
                share_fetch.ShareFetchableTopicResponse(topic_id=topic_id, partitions=found)
                for topic_id, found in responses.items()
            ],
        )

    def acknowledge(self, request: Any, call: Call) -> Any:
        refused = self._enter(request, call)
        if refused:
            return share_acknowledge.ShareAcknowledgeResponse(error_code=refused)
        node, member = call.broker.id, request.member_id
        responses = [
            share_acknowledge.ShareAcknowledgeTopicResponse(
                topic_id=place[0],
                partitions=[
                    share_acknowledge.PartitionData(
                        partition_index=place[1], error_code=self._settle(place, found, member, node)
                    )
                ],
            )
            for place, found in _acknowledgements(request)
        ]
        if request.share_session_epoch == -1:
            self._end(node, member)
        return share_acknowledge.ShareAcknowledgeResponse(responses=responses)

    # State

    def _enter(self, request: Any, call: Call) -> int:
        key = call.broker.id, request.member_id
        epoch = request.share_session_epoch
        if epoch == 0:
            self._end(*key)
            self.sessions[key] = Session()
            return 0
        session = self.sessions.get(key)
        if session is None:
            return ErrorCode.SHARE_SESSION_NOT_FOUND
        if epoch not in (-1, session.epoch + 1):
            return ErrorCode.INVALID_SHARE_SESSION_EPOCH
        session.epoch += 1
        return 0

    def _end(self, node_id: int, member: str) -> None:
        self.sessions.pop((node_id, member), None)
        for partition in self.partitions.values():
            for offset, (holder, node, count) in list(partition.locked.items()):
                if (holder, node) == (member, node_id):
                    del partition.locked[offset]
                    partition.free[offset] = count
        self.tell()

    def _acquire(self, place: Place, request: Any, node: int, answers: dict[Place, share_fetch.PartitionData]) -> None:
        partition = self.partitions[place]
        topic = self.fake.topics.get(self.name(place[0]))
        if topic is not None and topic.partitions[place[1]].leader != node:
            answers[place] = share_fetch.PartitionData(
                partition_index=place[1], error_code=ErrorCode.NOT_LEADER_OR_FOLLOWER, records=b""
            )
            return
        ranges = []
        for offset in sorted(partition.free)[: request.max_records]:
            count = partition.free.pop(offset) + 1
            partition.locked[offset] = (request.member_id, node, count)
            if ranges and ranges[-1].last_offset == offset - 1 and ranges[-1].delivery_count == count:
                ranges[-1].last_offset = offset
            else:
                ranges.append(
                    share_fetch.AcquiredRecords(first_offset=offset, last_offset=offset, delivery_count=count)
                )
        if ranges:
            answer = answers.setdefault(place, share_fetch.PartitionData(partition_index=place[1], records=b""))
            answer.records = bytes(partition.records)
            answer.acquired_records = ranges

    def _settle(self, place: Place, acknowledgements: list[Any], member: str, node: int) -> int:
        partition = self.partitions[place]
        code = 0
        for batch in acknowledgements:
            for offset in range(batch.first_offset, batch.last_offset + 1):
                types = batch.acknowledge_types
                kind = types[0] if len(types) == 1 else types[offset - batch.first_offset]
                holder = partition.locked.get(offset)
                if holder is None or holder[:2] != (member, node):
                    code = ErrorCode.INVALID_RECORD_STATE
                    continue
                if kind == RENEW:
                    continue
                del partition.locked[offset]
                if kind == RELEASE:
                    partition.free[offset] = holder[2]
                else:
                    self.verdicts[self.name(place[0]), place[1], offset] = kind
        return code

    def name(self, topic_id: bytes) -> str:
        return next((name for name, topic in self.fake.topics.items() if topic.id == topic_id), "")


def _acknowledgements(request: Any) -> Iterator[tuple[Place, list[Any]]]:
    for topic in request.topics:
        for partition in topic.partitions:
            yield (topic.topic_id, partition.partition_index), partition.acknowledgement_batches
