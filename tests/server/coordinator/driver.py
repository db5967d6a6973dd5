"""Drives a group shard by hand: simulated clock, records in a list, answers as they are let go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ottla.core.errors import ErrorCode
from ottla.protocol.codec import encode
from ottla.protocol.messages import metadata_records
from ottla.protocol.messages.consumer_protocol import ConsumerProtocolSubscription
from ottla.protocol.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse
from ottla.protocol.messages.sync_group import SyncGroupRequest, SyncGroupResponse
from ottla.server.coordinator.classic.calls import JoinCall, refused_join, refused_sync
from ottla.server.coordinator.group_machine import GroupConfigs
from ottla.server.coordinator.group_records import GroupRecordCodec
from ottla.server.coordinator.group_shard import GroupShard, default_configs
from ottla.server.coordinator.result import CoordinatorRecord, Instant, Pending, Result
from ottla.server.coordinator.settings import GroupSettings
from ottla.server.metadata.delta import MetadataDelta
from ottla.server.metadata.image import EMPTY_IMAGE, MetadataImage

START_WALL_MS = 1_700_000_000_000
START_MONOTONIC_MS = 50_000


class Driver:
    """Does what the shell does, without an event loop. ``log`` holds the encoded records, ``image`` the topics."""

    configs: GroupConfigs = staticmethod(default_configs)

    def __init__(self, settings: GroupSettings | None = None) -> None:
        self.settings = settings or GroupSettings()
        self.codec = GroupRecordCodec()
        self.log: list[tuple[bytes, bytes | None]] = []
        self.elapsed_ms = 0
        self.refuse_next: ErrorCode | None = None
        self.on_records: Callable[[list[CoordinatorRecord]], None] = lambda records: None
        self.on_release: Callable[[Pending[Any], Any], None] = lambda pending, response: None
        self.image: MetadataImage = EMPTY_IMAGE
        self._topic_count = 0
        self._ids = 0
        self.shard = self._new_shard()

    def now(self) -> Instant:
        return Instant(START_MONOTONIC_MS + self.elapsed_ms, START_WALL_MS + self.elapsed_ms)

    def restart(self) -> None:
        """A new shard out of the log; everything ephemeral is gone."""
        self.shard = self._new_shard()

    def compact(self, end: int, *, is_late: bool) -> None:
        """Below the index ``end`` only the last record of each key is left; when it is late, without tombstones."""
        last = {key: index for index, (key, _) in enumerate(self.log[:end])}
        self.log = [
            (key, value)
            for index, (key, value) in enumerate(self.log)
            if index >= end or (last[key] == index and not (is_late and value is None))
        ]

    def apply(self, result: Result[Any]) -> tuple[Any, ErrorCode | None]:
        """Append, replay and release; the response, and the code of a refused append."""
        code = None
        if result.records:
            code, self.refuse_next = self.refuse_next, None
            if code is None:
                self.on_records(result.records)
                for record in result.records:
                    self.log.append(self.codec.encode(record))
                    if result.replay:
                        decoded = self.codec.decode(*self.log[-1])
                        assert decoded is not None
                        self.shard.replay(decoded, len(self.log) - 1, -1)
            if result.appended is not None:
                result.appended(code)
        completions = self.shard.completions[:]
        self.shard.completions.clear()
        for pending, response in completions:
            pending.release(response)
            self.on_release(pending, response)
        self.shard.check_invariants()
        return result.response, code

    def advance(self, duration_ms: int) -> None:
        """Let time pass, running every timer at its deadline."""
        end_ms = self.elapsed_ms + duration_ms
        while (deadline_ms := self.shard.next_deadline_ms()) is not None:
            due_ms = deadline_ms - START_MONOTONIC_MS
            if due_ms > end_ms:
                break
            self.elapsed_ms = max(self.elapsed_ms, due_ms)
            while (result := self.shard.take_due(self.now())) is not None:
                self.apply(result)
        self.elapsed_ms = end_ms

    # -- requests

    def join(
        self,
        member_id: str = "",
        *,
        group: str = "g",
        client: str = "c",
        version: int = 9,
        instance: str | None = None,
        protocols: tuple[tuple[str, bytes], ...] = (("range", b"m"),),
        session_ms: int = 10_000,
        rebalance_ms: int = 60_000,
        protocol_type: str = "consumer",
    ) -> Pending[JoinGroupResponse]:
        request = JoinGroupRequest(
            group_id=group,
            session_timeout_ms=session_ms,
            rebalance_timeout_ms=rebalance_ms,
            member_id=member_id,
            group_instance_id=instance,
            protocol_type=protocol_type,
            protocols=[JoinGroupRequestProtocol(name=name, metadata=metadata) for name, metadata in protocols],
        )
        pending: Pending[JoinGroupResponse] = Pending(refused_join(member_id))
        self.apply(self.shard.join(JoinCall(request, version, client, "/127.0.0.1", pending), self.now()))
        return pending

    def sync(self, request: SyncGroupRequest) -> Pending[SyncGroupResponse]:
        pending: Pending[SyncGroupResponse] = Pending(refused_sync)
        self.apply(self.shard.sync(request, pending, self.now()))
        return pending

    # -- topics

    def put_topic(self, name: str, partitions: int) -> None:
        """Create the topic, or let it grow."""
        topic = self.image.topics.by_name.get(name)
        records: list[Any] = []
        if topic is None:
            self._topic_count += 1
            topic_id = self._topic_count.to_bytes(16, "big")
            records.append(metadata_records.TopicRecord(name=name, topic_id=topic_id))
        else:
            topic_id = topic.topic_id
        records += [
            metadata_records.PartitionRecord(
                partition_id=index, topic_id=topic_id, replicas=[0], isr=[0], leader=0, leader_epoch=0
            )
            for index in range(0 if topic is None else len(topic.partitions), partitions)
        ]
        self.commit(records)

    def delete_topic(self, name: str) -> None:
        """Delete the topic, if there is one."""
        topic_id = self.image.topics.id_of(name)
        if topic_id is not None:
            self.commit([metadata_records.RemoveTopicRecord(topic_id=topic_id)])

    def commit(self, records: list[Any]) -> None:
        """A commit of metadata, of which the shard learns."""
        delta = MetadataDelta(self.image)
        for record in records:
            delta.replay(record)
        self.image = delta.apply(self.image.offset + 1, 0, 0)
        self.apply(self.shard.metadata_changed(delta, self.image, self.now()))

    # -- the shard

    def _new_shard(self) -> GroupShard:
        shard = GroupShard(self.settings, self._new_id, self.image, self.configs)
        for offset, (key, value) in enumerate(self.log):
            record = self.codec.decode(key, value)
            assert record is not None
            shard.replay(record, offset, -1)
        shard.loaded(self.now())
        return shard

    def _new_id(self) -> str:
        self._ids += 1
        return str(self._ids)


def subscription(*topics: str) -> bytes:
    """A consumer's metadata: version 0 of the subscription."""
    return b"\x00\x00" + encode(ConsumerProtocolSubscription(topics=list(topics)), 0)
