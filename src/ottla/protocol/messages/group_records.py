"""Keys and values in `__consumer_offsets` of offsets, classic groups and consumer groups (KIP-848)."""

from __future__ import annotations

from ottla.protocol.message import (
    CoordinatorKey,
    CoordinatorValue,
    Struct,
    array,
    binary,
    int8,
    int32,
    int64,
    string,
    struct,
    uuid,
)


class LegacyOffsetCommitKey(CoordinatorKey, api_key=0, versions="0"):
    """Legacy Offset Commit Key."""

    group: str = string("0")
    topic: str = string("0")
    partition: int = int32("0")


class LegacyOffsetCommitValue(CoordinatorValue, api_key=0, versions="0"):
    """Legacy Offset Commit Value."""

    offset: int = int64("0")
    metadata: str = string("0")
    commit_timestamp: int = int64("0")


class OffsetCommitKey(CoordinatorKey, api_key=1, versions="0"):
    """Offset Commit Key."""

    group: str = string("0")
    topic: str = string("0")
    partition: int = int32("0")


class OffsetCommitValue(CoordinatorValue, api_key=1, versions="0-4", flexible="4+"):
    """Offset Commit Value."""

    offset: int = int64("0+")
    leader_epoch: int = int32("3+", default=-1, ignorable=True)
    metadata: str = string("0+")
    commit_timestamp: int = int64("0+")
    expire_timestamp: int = int64("1", default=-1, ignorable=True)
    topic_id: bytes = uuid("4+", ignorable=True, tag=0, tagged="4+")


class GroupMetadataKey(CoordinatorKey, api_key=2, versions="0"):
    """Group Metadata Key."""

    group: str = string("0")


class MemberMetadata(Struct, versions="0+"):
    member_id: str = string("0+")
    group_instance_id: str | None = string("3+", nullable="3+", default=None, ignorable=True)
    client_id: str = string("0+")
    client_host: str = string("0+")
    rebalance_timeout: int = int32("1+", default=-1, ignorable=True)
    session_timeout: int = int32("0+")
    subscription: bytes = binary("0+")
    assignment: bytes = binary("0+")


class GroupMetadataValue(CoordinatorValue, api_key=2, versions="0-4", flexible="4+"):
    """Group Metadata Value."""

    protocol_type: str = string("0+")
    generation: int = int32("0+")
    protocol: str | None = string("0+", nullable="0+")
    leader: str | None = string("0+", nullable="0+")
    current_state_timestamp: int = int64("2+", default=-1, ignorable=True)
    members: list[MemberMetadata] = array(MemberMetadata, "0+")


class ConsumerGroupMetadataKey(CoordinatorKey, api_key=3, versions="0"):
    """Consumer Group Metadata Key."""

    group_id: str = string("0")


class ConsumerGroupMetadataValue(CoordinatorValue, api_key=3, versions="0", flexible="0+"):
    """Consumer Group Metadata Value."""

    epoch: int = int32("0+")
    metadata_hash: int = int64("0+", default=0, tag=0, tagged="0+")


class ConsumerGroupPartitionMetadataKey(CoordinatorKey, api_key=4, versions="0"):
    """Consumer Group Partition Metadata Key."""

    group_id: str = string("0")


class PartitionMetadata(Struct):
    partition: int = int32("0+")
    racks: list[str] = array("string", "0+")


class TopicMetadata(Struct):
    topic_id: bytes = uuid("0+")
    topic_name: str = string("0+")
    num_partitions: int = int32("0+")
    partition_metadata: list[PartitionMetadata] = array(PartitionMetadata, "0+")


class ConsumerGroupPartitionMetadataValue(CoordinatorValue, api_key=4, versions="0", flexible="0+"):
    """Consumer Group Partition Metadata Value."""

    topics: list[TopicMetadata] = array(TopicMetadata, "0+")


class ConsumerGroupMemberMetadataKey(CoordinatorKey, api_key=5, versions="0"):
    """Consumer Group Member Metadata Key."""

    group_id: str = string("0")
    member_id: str = string("0")


class ClassicProtocol(Struct):
    name: str = string("0+")
    metadata: bytes = binary("0+")


class ClassicMemberMetadata(Struct):
    session_timeout_ms: int = int32("0+")
    supported_protocols: list[ClassicProtocol] = array(ClassicProtocol, "0+")


class ConsumerGroupMemberMetadataValue(CoordinatorValue, api_key=5, versions="0", flexible="0+"):
    """Consumer Group Member Metadata Value."""

    instance_id: str | None = string("0+", nullable="0+")
    rack_id: str | None = string("0+", nullable="0+")
    client_id: str = string("0+")
    client_host: str = string("0+")
    subscribed_topic_names: list[str] = array("string", "0+")
    subscribed_topic_regex: str | None = string("0+", nullable="0+")
    rebalance_timeout_ms: int = int32("0+", default=-1)
    server_assignor: str | None = string("0+", nullable="0+")
    classic_member_metadata: ClassicMemberMetadata | None = struct(
        ClassicMemberMetadata, "0+", nullable="0+", default=None, tag=0, tagged="0+"
    )


class ConsumerGroupTargetAssignmentMetadataKey(CoordinatorKey, api_key=6, versions="0"):
    """Consumer Group Target Assignment Metadata Key."""

    group_id: str = string("0")


class ConsumerGroupTargetAssignmentMetadataValue(CoordinatorValue, api_key=6, versions="0", flexible="0+"):
    """Consumer Group Target Assignment Metadata Value."""

    assignment_epoch: int = int32("0+")
    assignment_timestamp: int = int64("0+", default=0, ignorable=True, tag=0, tagged="0+")


class ConsumerGroupTargetAssignmentMemberKey(CoordinatorKey, api_key=7, versions="0"):
    """Consumer Group Target Assignment Member Key."""

    group_id: str = string("0")
    member_id: str = string("0")


class TopicPartition(Struct):
    topic_id: bytes = uuid("0+")
    partitions: list[int] = array("int32", "0+")


class ConsumerGroupTargetAssignmentMemberValue(CoordinatorValue, api_key=7, versions="0", flexible="0+"):
    """Consumer Group Target Assignment Member Value."""

    topic_partitions: list[TopicPartition] = array(TopicPartition, "0+")


class ConsumerGroupCurrentMemberAssignmentKey(CoordinatorKey, api_key=8, versions="0"):
    """Consumer Group Current Member Assignment Key."""

    group_id: str = string("0")
    member_id: str = string("0")


class TopicPartitions(Struct, versions="0+"):
    topic_id: bytes = uuid("0+")
    partitions: list[int] = array("int32", "0+")
    assignment_epochs: list[int] | None = array("int32", "0+", nullable="0+", default=None, tag=0, tagged="0+")


class ConsumerGroupCurrentMemberAssignmentValue(CoordinatorValue, api_key=8, versions="0", flexible="0+"):
    """Consumer Group Current Member Assignment Value."""

    member_epoch: int = int32("0+")
    previous_member_epoch: int = int32("0+")
    state: int = int8("0+")
    assigned_partitions: list[TopicPartitions] = array(TopicPartitions, "0+")
    partitions_pending_revocation: list[TopicPartitions] = array(TopicPartitions, "0+")


class ConsumerGroupRegularExpressionKey(CoordinatorKey, api_key=16, versions="0"):
    """Consumer Group Regular Expression Key."""

    group_id: str = string("0")
    regular_expression: str = string("0")


class ConsumerGroupRegularExpressionValue(CoordinatorValue, api_key=16, versions="0", flexible="0+"):
    """Consumer Group Regular Expression Value."""

    topics: list[str] = array("string", "0+")
    version: int = int64("0+")
    timestamp: int = int64("0+")
