"""Keys and values of share groups: membership in `__consumer_offsets`, progress in `__share_group_state` (KIP-932)."""

from __future__ import annotations

from ottla.protocol.message import (
    CoordinatorKey,
    CoordinatorValue,
    Struct,
    array,
    int8,
    int16,
    int32,
    int64,
    string,
    uuid,
)


class ShareSnapshotKey(CoordinatorKey, api_key=0, versions="0"):
    """State of a share partition, in full."""

    group_id: str = string("0")
    topic_id: bytes = uuid("0")
    partition: int = int32("0")


class StateBatch(Struct):
    first_offset: int = int64("0+")
    last_offset: int = int64("0+")
    delivery_state: int = int8("0+")
    delivery_count: int = int16("0+")


class ShareSnapshotValue(CoordinatorValue, api_key=0, versions="0", flexible="0+"):
    """Start offset, epochs and the states of records in flight."""

    snapshot_epoch: int = int32("0+")
    state_epoch: int = int32("0+")
    leader_epoch: int = int32("0+")
    start_offset: int = int64("0+")
    delivery_complete_count: int = int32("0+", default=-1, tag=0, tagged="0+")
    create_timestamp: int = int64("0+")
    write_timestamp: int = int64("0+")
    state_batches: list[StateBatch] = array(StateBatch, "0+")


class ShareUpdateKey(CoordinatorKey, api_key=1, versions="0"):
    """State of a share partition, as a change to its last snapshot."""

    group_id: str = string("0")
    topic_id: bytes = uuid("0")
    partition: int = int32("0")


class ShareUpdateValue(CoordinatorValue, api_key=1, versions="0", flexible="0+"):
    """The changed part of a share partition's state."""

    snapshot_epoch: int = int32("0+")
    leader_epoch: int = int32("0+")
    start_offset: int = int64("0+")
    delivery_complete_count: int = int32("0+", default=-1, tag=0, tagged="0+")
    state_batches: list[StateBatch] = array(StateBatch, "0+")


class ShareGroupMemberMetadataKey(CoordinatorKey, api_key=10, versions="0"):
    """A member of a share group."""

    group_id: str = string("0")
    member_id: str = string("0")


class ShareGroupMemberMetadataValue(CoordinatorValue, api_key=10, versions="0", flexible="0+"):
    """What the member said of itself: rack, client and subscription."""

    rack_id: str | None = string("0+", nullable="0+")
    client_id: str = string("0+")
    client_host: str = string("0+")
    subscribed_topic_names: list[str] = array("string", "0+")


class ShareGroupMetadataKey(CoordinatorKey, api_key=11, versions="0"):
    """A share group."""

    group_id: str = string("0")


class ShareGroupMetadataValue(CoordinatorValue, api_key=11, versions="0", flexible="0+"):
    """Epoch of a share group."""

    epoch: int = int32("0+")
    metadata_hash: int = int64("0+")


class ShareGroupTargetAssignmentMetadataKey(CoordinatorKey, api_key=12, versions="0"):
    """The target assignment of a share group."""

    group_id: str = string("0")


class ShareGroupTargetAssignmentMetadataValue(CoordinatorValue, api_key=12, versions="0", flexible="0+"):
    """Epoch that the target assignment was made for."""

    assignment_epoch: int = int32("0+")
    assignment_timestamp: int = int64("0+", default=0, ignorable=True, tag=0, tagged="0+")


class ShareGroupTargetAssignmentMemberKey(CoordinatorKey, api_key=13, versions="0"):
    """A member's part in the target assignment."""

    group_id: str = string("0")
    member_id: str = string("0")


class TopicPartition(Struct):
    topic_id: bytes = uuid("0+")
    partitions: list[int] = array("int32", "0+")


class ShareGroupTargetAssignmentMemberValue(CoordinatorValue, api_key=13, versions="0", flexible="0+"):
    """The partitions that the member shall get."""

    topic_partitions: list[TopicPartition] = array(TopicPartition, "0+")


class ShareGroupCurrentMemberAssignmentKey(CoordinatorKey, api_key=14, versions="0"):
    """A member's present assignment."""

    group_id: str = string("0")
    member_id: str = string("0")


class TopicPartitions(Struct, versions="0+"):
    topic_id: bytes = uuid("0+")
    partitions: list[int] = array("int32", "0+")


class ShareGroupCurrentMemberAssignmentValue(CoordinatorValue, api_key=14, versions="0", flexible="0+"):
    """Member epoch and state, and the partitions it has."""

    member_epoch: int = int32("0+")
    previous_member_epoch: int = int32("0+")
    state: int = int8("0+")
    assigned_partitions: list[TopicPartitions] = array(TopicPartitions, "0+")


class ShareGroupStatePartitionMetadataKey(CoordinatorKey, api_key=15, versions="0"):
    """The partitions whose share state exists."""

    group_id: str = string("0")


class TopicPartitionsInfo(Struct, versions="0+"):
    topic_id: bytes = uuid("0+")
    topic_name: str = string("0+")
    partitions: list[int] = array("int32", "0+")


class TopicInfo(Struct, versions="0+"):
    topic_id: bytes = uuid("0+")
    topic_name: str = string("0+")


class ShareGroupStatePartitionMetadataValue(CoordinatorValue, api_key=15, versions="0", flexible="0+"):
    """Topics whose share state is being set up, is there, or is being deleted."""

    initializing_topics: list[TopicPartitionsInfo] = array(TopicPartitionsInfo, "0+")
    initialized_topics: list[TopicPartitionsInfo] = array(TopicPartitionsInfo, "0+")
    deleting_topics: list[TopicInfo] = array(TopicInfo, "0+")
