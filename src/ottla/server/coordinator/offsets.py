"""Committed offsets of the groups of one shard: commit, fetch, delete, expire. The core of Kafka's offset storage.

Versions: OffsetCommit 2-10 (10 names topics by id), OffsetFetch 1-10, OffsetDelete 0. A plain commit is visible once
its record is replayed; a commit inside a transaction stays pending until the producer's marker arrives (KIP-98), and
makes a ``require_stable`` fetch of its partition answer UNSTABLE_OFFSET_COMMIT (KIP-447).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ids import ZERO_UUID
from ottla.protocol.messages.group_records import OffsetCommitKey, OffsetCommitValue
from ottla.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)
from ottla.protocol.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
)
from ottla.protocol.messages.offset_fetch import (
    OffsetFetchRequestTopics,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopics,
)
from ottla.protocol.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitResponse,
    TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
)
from ottla.server.coordinator import group_records
from ottla.server.coordinator.group import Group, PartitionCommitCheck
from ottla.server.coordinator.group_records import CommittedOffset
from ottla.server.coordinator.result import CoordinatorRecord, Instant, Result
from ottla.server.coordinator.settings import GroupSettings

#: topic → partition → offset
GroupOffsets = dict[str, dict[int, CommittedOffset]]

NO_PRODUCER_ID = -1


class Offsets:
    """The offsets of all groups of a shard.

    The groups say who may commit; ``member_seen(group_id, member_id, now_ms)`` learns of those who did.
    """

    def __init__(
        self, settings: GroupSettings, groups: dict[str, Group], member_seen: Callable[[str, str, int], None]
    ) -> None:
        self.settings = settings
        self.committed: dict[str, GroupOffsets] = {}
        #: Commits of open transactions: producer id → group → topic → partition → offset.
        self.pending: dict[int, dict[str, GroupOffsets]] = {}
        #: Offsets committed, deleted and expired by commands, for metrics.
        self.commit_count = self.deletion_count = self.expiration_count = 0
        self._groups = groups
        self._member_seen = member_seen

    # -- OffsetCommit

    def commit(self, request: OffsetCommitRequest, version: int, now: Instant) -> Result[OffsetCommitResponse]:
        """Store offsets; topics are named (the caller resolved ids). ApiError when the sender may not commit."""
        check = self._check_commit(request, version, now)
        wall_ms = now.wall_ms
        retention_ms = request.retention_time_ms
        expire_timestamp_ms = None if retention_ms < 0 else wall_ms + retention_ms
        metadata_limit = self.settings.offset_metadata_max_bytes
        group_id = request.group_id
        records = []
        topics = []
        for topic in request.topics:
            name = topic.name
            topic_id = topic.topic_id
            answers = []
            for partition in topic.partitions:
                metadata = partition.committed_metadata or ""
                if len(metadata) > metadata_limit:
                    code = ErrorCode.OFFSET_METADATA_TOO_LARGE
                else:
                    code = ErrorCode.NONE
                    if check is not None:
                        check(name, topic_id, partition.partition_index)
                    committed = CommittedOffset(
                        partition.committed_offset,
                        partition.committed_leader_epoch,
                        metadata,
                        wall_ms,
                        expire_timestamp_ms,
                        topic_id,
                    )
                    records.append(group_records.offset_commit(group_id, name, partition.partition_index, committed))
                answers.append(
                    OffsetCommitResponsePartition(partition_index=partition.partition_index, error_code=code)
                )
            topics.append(OffsetCommitResponseTopic(name=name, topic_id=topic_id, partitions=answers))
        self.commit_count += len(records)
        return Result(OffsetCommitResponse(topics=topics), records)

    def _check_commit(self, request: OffsetCommitRequest, version: int, now: Instant) -> PartitionCommitCheck | None:
        group = self._groups.get(request.group_id)
        generation_id = request.generation_id_or_member_epoch
        if group is None:
            if generation_id < 0:
                # An administrator, or a consumer that only stores offsets: the record makes a "simple" group.
                return None
            raise ApiError(ErrorCode.GROUP_ID_NOT_FOUND if version >= 9 else ErrorCode.ILLEGAL_GENERATION)
        check = group.check_commit(
            request.member_id, request.group_instance_id, generation_id, version, transactional=False
        )
        self._member_seen(request.group_id, request.member_id, now.monotonic_ms)
        return check

    # -- TxnOffsetCommit

    def commit_in_transaction(
        self, request: TxnOffsetCommitRequest, version: int, now: Instant
    ) -> Result[TxnOffsetCommitResponse]:
        """Store offsets that are pending until the marker of their transaction; topics are named.

        The records have to be appended as a part of the transaction. ApiError when the sender may not commit.
        """
        check = self._check_commit_in_transaction(request, version)
        metadata_limit = self.settings.offset_metadata_max_bytes
        records = []
        topics = []
        for topic in request.topics:
            answers = []
            for partition in topic.partitions:
                index = partition.partition_index
                metadata = partition.committed_metadata or ""
                code = ErrorCode.NONE
                if len(metadata) > metadata_limit:
                    code = ErrorCode.OFFSET_METADATA_TOO_LARGE
                else:
                    if check is not None:
                        _check_in_generation(check, topic.name, topic.topic_id, index)
                    committed = CommittedOffset(
                        partition.committed_offset,
                        partition.committed_leader_epoch,
                        metadata,
                        now.wall_ms,
                        None,
                        topic.topic_id,
                    )
                    records.append(group_records.offset_commit(request.group_id, topic.name, index, committed))
                answers.append(TxnOffsetCommitResponsePartition(partition_index=index, error_code=code))
            topics.append(TxnOffsetCommitResponseTopic(name=topic.name, topic_id=topic.topic_id, partitions=answers))
        self.commit_count += len(records)
        return Result(TxnOffsetCommitResponse(topics=topics), records)

    def _check_commit_in_transaction(
        self, request: TxnOffsetCommitRequest, version: int
    ) -> PartitionCommitCheck | None:
        group = self._groups.get(request.group_id)
        generation_id = request.generation_id_or_member_epoch
        if group is None:
            if generation_id < 0:
                return None
            raise ApiError(ErrorCode.ILLEGAL_GENERATION)
        try:
            return group.check_commit(
                request.member_id, request.group_instance_id, generation_id, version, transactional=True
            )
        except ApiError as error:
            raise _in_transaction(error) from None

    # -- OffsetFetch

    def fetch(
        self, group_id: str, topics: list[OffsetFetchRequestTopics] | None, *, require_stable: bool
    ) -> list[OffsetFetchResponseTopics]:
        """Offsets of the asked partitions, or of all (topics None). An absent offset is -1 without an error."""
        committed = self.committed.get(group_id, {})
        unstable = self._unstable_partitions(group_id) if require_stable and self.pending else frozenset()
        if topics is None:
            return [
                OffsetFetchResponseTopics(
                    name=name,
                    partitions=[
                        _fetched(index, offset, (name, index) in unstable) for index, offset in partitions.items()
                    ],
                )
                for name, partitions in committed.items()
            ]
        answers = []
        for topic in topics:
            partitions = committed.get(topic.name, {})
            fetched = []
            for index in topic.partition_indexes:
                offset = partitions.get(index)
                if offset is not None and _other_topic(offset.topic_id, topic.topic_id):
                    offset = None
                fetched.append(_fetched(index, offset, (topic.name, index) in unstable))
            answers.append(OffsetFetchResponseTopics(name=topic.name, topic_id=topic.topic_id, partitions=fetched))
        return answers

    def _unstable_partitions(self, group_id: str) -> frozenset[tuple[str, int]]:
        return frozenset(
            (topic, partition)
            for groups in self.pending.values()
            for topic, partitions in groups.get(group_id, {}).items()
            for partition in partitions
        )

    # -- OffsetDelete and everything else that removes offsets

    def delete(self, request: OffsetDeleteRequest) -> Result[OffsetDeleteResponse]:
        """Remove offsets of topics that no member consumes; ApiError when the group does not allow it at all."""
        group = self._groups.get(request.group_id)
        if group is None:
            raise ApiError(ErrorCode.GROUP_ID_NOT_FOUND, f"Group {request.group_id} not found.")
        group.check_offset_delete()
        records = []
        answers = []
        for topic in request.topics:
            subscribed = group.is_subscribed_to(topic.name)
            code = ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC if subscribed else ErrorCode.NONE
            partitions = []
            for partition in topic.partitions:
                index = partition.partition_index
                if not subscribed and self._knows(request.group_id, topic.name, index):
                    records.append(group_records.offset_tombstone(request.group_id, topic.name, index))
                partitions.append(OffsetDeleteResponsePartition(partition_index=index, error_code=code))
            answers.append(OffsetDeleteResponseTopic(name=topic.name, partitions=partitions))
        self.deletion_count += len(records)
        return Result(OffsetDeleteResponse(topics=answers), records)

    def tombstones_of_group(self, group_id: str) -> list[CoordinatorRecord]:
        """Forget every offset of a group, pending ones included."""
        stored = {(topic, index) for topic, index, _ in self._offsets_of(group_id)}
        stored.update(self._unstable_partitions(group_id))
        return [group_records.offset_tombstone(group_id, topic, index) for topic, index in sorted(stored)]

    def tombstones_of_topics(self, topics: set[str]) -> list[CoordinatorRecord]:
        """Forget the offsets of deleted topics in every group."""
        stored = {
            (group_id, topic, index)
            for groups in (self.committed, *self.pending.values())
            for group_id, offsets in groups.items()
            for topic in topics & offsets.keys()
            for index in offsets[topic]
        }
        return [group_records.offset_tombstone(*key) for key in sorted(stored)]

    def expired(self, group: Group, wall_ms: int) -> tuple[list[CoordinatorRecord], bool]:
        """Tombstones for the offsets whose retention is over, and whether none is left of the group's offsets.

        Retention counts from becoming Empty; from the commit for simple groups, and for topics that the members of a
        Stable consumer group no longer consume. Offsets of other live groups never expire.
        """
        group_id = group.group_id
        unstable = self._unstable_partitions(group_id)
        has_more = bool(unstable)
        records = []
        for topic, index, offset in self._offsets_of(group_id):
            base_ms = group.retention_base_ms(topic, offset.commit_timestamp_ms)
            if base_ms is None or (topic, index) in unstable:
                over = False
            elif offset.expire_timestamp_ms is not None:
                over = wall_ms >= offset.expire_timestamp_ms
            else:
                over = wall_ms - base_ms >= self.settings.offsets_retention_ms
            if over:
                records.append(group_records.offset_tombstone(group_id, topic, index))
            else:
                has_more = True
        self.expiration_count += len(records)
        return records, not has_more

    # -- replay

    def replay(
        self, key: OffsetCommitKey, value: OffsetCommitValue | None, record_offset: int, producer_id: int
    ) -> None:
        """Apply one offset record; ``producer_id`` is -1 outside a transaction."""
        if value is None:
            self._forget(key)
            return
        expire_timestamp_ms = value.expire_timestamp
        committed = CommittedOffset(
            value.offset,
            value.leader_epoch,
            value.metadata,
            value.commit_timestamp,
            None if expire_timestamp_ms == -1 else expire_timestamp_ms,
            value.topic_id,
            record_offset,
        )
        groups = self.committed if producer_id == NO_PRODUCER_ID else self.pending.setdefault(producer_id, {})
        groups.setdefault(key.group, {}).setdefault(key.topic, {})[key.partition] = committed

    def replay_end_of_transaction(self, producer_id: int, *, committed: bool) -> None:
        """The producer's marker: its pending offsets become visible, unless a later plain commit replaced them."""
        for group_id, offsets in self.pending.pop(producer_id, {}).items() if committed else ():
            for topic, partitions in offsets.items():
                visible = self.committed.setdefault(group_id, {}).setdefault(topic, {})
                for index, offset in partitions.items():
                    current = visible.get(index)
                    if current is None or current.record_offset < offset.record_offset:
                        visible[index] = offset
        self.pending.pop(producer_id, None)

    def _forget(self, key: OffsetCommitKey) -> None:
        for groups in (self.committed, *self.pending.values()):
            offsets = groups.get(key.group)
            partitions = offsets.get(key.topic) if offsets is not None else None
            if offsets is None or partitions is None or partitions.pop(key.partition, None) is None:
                continue
            if not partitions:
                del offsets[key.topic]
            if not offsets:
                del groups[key.group]

    def _knows(self, group_id: str, topic: str, partition: int) -> bool:
        return any(
            partition in groups.get(group_id, {}).get(topic, {}) for groups in (self.committed, *self.pending.values())
        )

    def _offsets_of(self, group_id: str) -> Iterator[tuple[str, int, CommittedOffset]]:
        for topic, partitions in self.committed.get(group_id, {}).items():
            for index, offset in partitions.items():
                yield topic, index, offset


def _fetched(index: int, offset: CommittedOffset | None, unstable: bool) -> OffsetFetchResponsePartitions:
    if unstable:
        return OffsetFetchResponsePartitions(
            partition_index=index,
            committed_offset=-1,
            committed_leader_epoch=-1,
            metadata="",
            error_code=ErrorCode.UNSTABLE_OFFSET_COMMIT,
        )
    if offset is None:
        return OffsetFetchResponsePartitions(
            partition_index=index, committed_offset=-1, committed_leader_epoch=-1, metadata=""
        )
    return OffsetFetchResponsePartitions(
        partition_index=index,
        committed_offset=offset.offset,
        committed_leader_epoch=offset.leader_epoch,
        metadata=offset.metadata,
    )


def _check_in_generation(check: PartitionCommitCheck, topic: str, topic_id: bytes, partition: int) -> None:
    try:
        check(topic, topic_id, partition)
    except ApiError as error:
        raise _in_transaction(error) from None


def _in_transaction(error: ApiError) -> ApiError:
    """Producers know generations, and nothing of member epochs (KIP-848)."""
    return ApiError(ErrorCode.ILLEGAL_GENERATION) if error.code is ErrorCode.STALE_MEMBER_EPOCH else error


def _other_topic(stored: bytes, asked: bytes) -> bool:
    """Both ids are known and differ: the offset belongs to a deleted topic of the same name."""
    return stored not in (ZERO_UUID, asked) and asked != ZERO_UUID
