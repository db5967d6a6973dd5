"""The records of ``__consumer_offsets``: how groups and offsets are written down, and their byte form.

Value versions are those that Apache Kafka 4.3 writes: GroupMetadataValue 3, OffsetCommitValue 4 (1 for a commit with
an explicit expiry, since only that version carries one).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any, NamedTuple

from ottla.protocol.messages.group_records import (
    GroupMetadataKey,
    GroupMetadataValue,
    MemberMetadata,
    OffsetCommitKey,
    OffsetCommitValue,
)
from ottla.server.coordinator.classic.group import GROUP_METADATA, ClassicGroup, Member
from ottla.server.coordinator.record_codec import TypedRecordCodec
from ottla.server.coordinator.result import CoordinatorRecord

LEGACY_OFFSET_COMMIT = 0
OFFSET_COMMIT = 1

GROUP_METADATA_VALUE_VERSION = 3
OFFSET_COMMIT_VALUE_VERSION = 4
OFFSET_COMMIT_WITH_EXPIRY_VERSION = 1


class CommittedOffset(NamedTuple):
    """A committed offset as it is stored; ``expire_timestamp_ms`` only for commits of versions 2 to 4 that gave one.

    ``topic_id`` is zero when the client committed by name. ``record_offset`` is the record's own offset in the
    coordinator's partition; it orders a transaction's commits against plain ones.
    """

    offset: int
    leader_epoch: int
    metadata: str
    commit_timestamp_ms: int
    expire_timestamp_ms: int | None
    topic_id: bytes
    record_offset: int = -1


def offset_commit(group_id: str, topic: str, partition: int, committed: CommittedOffset) -> CoordinatorRecord:
    """The record that stores a committed offset."""
    expire_timestamp_ms = committed.expire_timestamp_ms
    return CoordinatorRecord(
        OFFSET_COMMIT,
        OffsetCommitKey(group=group_id, topic=topic, partition=partition),
        OffsetCommitValue(
            offset=committed.offset,
            leader_epoch=committed.leader_epoch,
            metadata=committed.metadata,
            commit_timestamp=committed.commit_timestamp_ms,
            expire_timestamp=-1 if expire_timestamp_ms is None else expire_timestamp_ms,
            topic_id=committed.topic_id,
        ),
        OFFSET_COMMIT_VALUE_VERSION if expire_timestamp_ms is None else OFFSET_COMMIT_WITH_EXPIRY_VERSION,
    )


def offset_tombstone(group_id: str, topic: str, partition: int) -> CoordinatorRecord:
    """The record that forgets a committed offset."""
    return CoordinatorRecord(OFFSET_COMMIT, OffsetCommitKey(group=group_id, topic=topic, partition=partition), None)


def group_metadata(group: ClassicGroup, assignments: Mapping[str, bytes]) -> CoordinatorRecord:
    """The group with the given assignment per member id."""
    protocol_name = group.protocol_name
    members = [
        MemberMetadata(
            member_id=member.member_id,
            group_instance_id=member.group_instance_id,
            client_id=member.client_id,
            client_host=member.client_host,
            rebalance_timeout=member.rebalance_timeout_ms,
            session_timeout=member.session_timeout_ms,
            subscription=member.metadata(protocol_name),
            assignment=assignments.get(member.member_id, b""),
        )
        for member in group.members.values()
    ]
    return CoordinatorRecord(
        GROUP_METADATA,
        GroupMetadataKey(group=group.group_id),
        GroupMetadataValue(
            protocol_type=group.protocol_type or "",
            generation=group.generation_id,
            protocol=protocol_name,
            leader=group.leader_id,
            current_state_timestamp=-1 if group.state_timestamp_ms is None else group.state_timestamp_ms,
            members=members,
        ),
        GROUP_METADATA_VALUE_VERSION,
    )


def new_group_metadata(group: ClassicGroup) -> CoordinatorRecord:
    """A group that was just created: no protocol type yet, no members."""
    return CoordinatorRecord(
        GROUP_METADATA,
        GroupMetadataKey(group=group.group_id),
        GroupMetadataValue(
            protocol_type="",
            generation=0,
            protocol=None,
            leader=None,
            current_state_timestamp=-1 if group.state_timestamp_ms is None else group.state_timestamp_ms,
            members=[],
        ),
        GROUP_METADATA_VALUE_VERSION,
    )


def members_of(value: GroupMetadataValue) -> Iterable[Member]:
    """The members that a metadata record lists, each with the one protocol of that generation."""
    for member in value.members:
        session_timeout_ms = member.session_timeout
        yield Member(
            member.member_id,
            member.group_instance_id,
            member.client_id,
            member.client_host,
            session_timeout_ms if member.rebalance_timeout == -1 else member.rebalance_timeout,
            session_timeout_ms,
            ((value.protocol or "", bytes(member.subscription)),),
            bytes(member.assignment),
        )


_TYPES: dict[int, tuple[Any, Any]] = {
    # Key type 0 has the fields of type 1, and its values are the first versions of the same value.
    LEGACY_OFFSET_COMMIT: (OffsetCommitKey, OffsetCommitValue),
    OFFSET_COMMIT: (OffsetCommitKey, OffsetCommitValue),
    GROUP_METADATA: (GroupMetadataKey, GroupMetadataValue),
}

#: Key type → module and name (without Key and Value) of the records that are loaded when one of them is met.
_LAZY_TYPES = {
    3: ("group_records", "ConsumerGroupMetadata"),
    4: ("group_records", "ConsumerGroupPartitionMetadata"),
    5: ("group_records", "ConsumerGroupMemberMetadata"),
    6: ("group_records", "ConsumerGroupTargetAssignmentMetadata"),
    7: ("group_records", "ConsumerGroupTargetAssignmentMember"),
    8: ("group_records", "ConsumerGroupCurrentMemberAssignment"),
    10: ("share_records", "ShareGroupMemberMetadata"),
    11: ("share_records", "ShareGroupMetadata"),
    12: ("share_records", "ShareGroupTargetAssignmentMetadata"),
    13: ("share_records", "ShareGroupTargetAssignmentMember"),
    14: ("share_records", "ShareGroupCurrentMemberAssignment"),
    15: ("share_records", "ShareGroupStatePartitionMetadata"),
    16: ("group_records", "ConsumerGroupRegularExpression"),
    17: ("streams_records", "StreamsGroupMetadata"),
    19: ("streams_records", "StreamsGroupMemberMetadata"),
    20: ("streams_records", "StreamsGroupTargetAssignmentMetadata"),
    21: ("streams_records", "StreamsGroupTargetAssignmentMember"),
    22: ("streams_records", "StreamsGroupCurrentMemberAssignment"),
    23: ("streams_records", "StreamsGroupTopology"),
}


def _types_of(key_type: int) -> tuple[Any, Any] | None:
    """The message classes of a key type's key and value; None for a type of a newer Kafka."""
    types = _TYPES.get(key_type)
    if types is None and key_type in _LAZY_TYPES:
        module_name, name = _LAZY_TYPES[key_type]
        module = import_module(f"ottla.protocol.messages.{module_name}")
        types = _TYPES[key_type] = getattr(module, f"{name}Key"), getattr(module, f"{name}Value")
    return types


class GroupRecordCodec(TypedRecordCodec):
    """Bytes of the records of all kinds of groups."""

    def __init__(self) -> None:
        super().__init__(_types_of)

    def decode(self, key: bytes, value: bytes | None) -> CoordinatorRecord | None:
        """As any record; the legacy type of committed offsets is told as today's."""
        record = super().decode(key, value)
        if record is not None and record.key_type == LEGACY_OFFSET_COMMIT:
            record.key_type = OFFSET_COMMIT
        return record
