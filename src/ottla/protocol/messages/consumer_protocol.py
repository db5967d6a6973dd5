"""What members of a classic group tell each other inside JoinGroup and SyncGroup."""

from __future__ import annotations

from ottla.protocol.message import Data, Struct, array, binary, int8, int32, int64, string, uuid


class ConsumerProtocolAssignmentTopicPartition(Struct):
    topic: str = string("0+", key=True, entity="topicName")
    partitions: list[int] = array("int32", "0+")


class ConsumerProtocolAssignment(Data, versions="0-3"):
    """The partitions a member of a classic consumer group is given (bytes in SyncGroup)."""

    assigned_partitions: list[ConsumerProtocolAssignmentTopicPartition] = array(
        ConsumerProtocolAssignmentTopicPartition, "0+"
    )
    user_data: bytes | None = binary("0+", nullable="0+", default=None, zero_copy=True)


class ConsumerProtocolSubscriptionTopicPartition(Struct):
    topic: str = string("1+", key=True, entity="topicName")
    partitions: list[int] = array("int32", "1+")


class ConsumerProtocolSubscription(Data, versions="0-3"):
    """What a member of a classic consumer group wants and owns (bytes in JoinGroup); owned partitions
    since v1 (KIP-429).
    """

    topics: list[str] = array("string", "0+")
    user_data: bytes | None = binary("0+", nullable="0+", default=None, zero_copy=True)
    owned_partitions: list[ConsumerProtocolSubscriptionTopicPartition] = array(
        ConsumerProtocolSubscriptionTopicPartition, "1+", ignorable=True
    )
    generation_id: int = int32("2+", default=-1, ignorable=True)
    rack_id: str | None = string("3+", nullable="3+", default=None, ignorable=True)


class TaskId(Struct, versions="1-6"):
    topic_group_id: int = int32("1-6")
    partition: int = int32("1-6")


class PartitionToOffsetSum(Struct, versions="7-9"):
    partition: int = int32("7-9")
    offset_sum: int = int64("7-9")


class TaskOffsetSum(Struct, versions="7+"):
    topic_group_id: int = int32("7+")
    partition: int = int32("10+")
    offset_sum: int = int64("10+")
    named_topology: str | None = string("10+", nullable="10+")
    partition_to_offset_sum: list[PartitionToOffsetSum] = array(PartitionToOffsetSum, "7-9")


class ClientTag(Struct, versions="11+"):
    key: bytes = binary("11+")
    value: bytes = binary("11+")


class SubscriptionInfoData(Data, versions="1-11"):
    """What a classic Streams member tells its assignor: tasks, lags and tags, inside the subscription's user data."""

    version: int = int32("1+")
    latest_supported_version: int = int32("3+", default=-1)
    process_id: bytes = uuid("1+")
    prev_tasks: list[TaskId] = array(TaskId, "1-6")
    standby_tasks: list[TaskId] = array(TaskId, "1-6")
    user_end_point: bytes = binary("2+")
    task_offset_sums: list[TaskOffsetSum] = array(TaskOffsetSum, "7+")
    unique_field: int = int8("8+")
    error_code: int = int32("9+")
    client_tags: list[ClientTag] = array(ClientTag, "11+")
