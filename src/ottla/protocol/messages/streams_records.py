"""Keys and values of streams groups in `__consumer_offsets` (KIP-1071)."""

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
    struct,
    uint16,
)


class StreamsGroupMetadataKey(CoordinatorKey, api_key=17, versions="0"):
    """A streams group (KIP-1071)."""

    group_id: str = string("0")


class LastAssignmentConfig(Struct, versions="0+"):
    key: str = string("0+")
    value: str = string("0+")


class StreamsGroupMetadataValue(CoordinatorValue, api_key=17, versions="0", flexible="0+"):
    """Epoch of a streams group and what its last assignment was made from."""

    epoch: int = int32("0+")
    metadata_hash: int = int64("0+")
    validated_topology_epoch: int = int32("0+", default=-1, tag=0, tagged="0+")
    last_assignment_configs: list[LastAssignmentConfig] | None = array(
        LastAssignmentConfig, "0+", nullable="0+", default=None, tag=1, tagged="0+"
    )
    stored_description_topology_epoch: int = int32("0+", default=-1, tag=2, tagged="0+")
    failed_description_topology_epoch: int = int32("0+", default=-1, tag=3, tagged="0+")


class StreamsGroupMemberMetadataKey(CoordinatorKey, api_key=19, versions="0"):
    """A member of a streams group."""

    group_id: str = string("0")
    member_id: str = string("0")


class Endpoint(Struct, versions="0+"):
    host: str = string("0+")
    port: int = uint16("0+")


class KeyValue(Struct, versions="0+"):
    key: str = string("0+")
    value: str = string("0+")


class StreamsGroupMemberMetadataValue(CoordinatorValue, api_key=19, versions="0", flexible="0+"):
    """What the member said of itself: client, process, endpoint and tags."""

    instance_id: str | None = string("0+", nullable="0+")
    rack_id: str | None = string("0+", nullable="0+")
    client_id: str = string("0+")
    client_host: str = string("0+")
    rebalance_timeout_ms: int = int32("0+", default=-1)
    topology_epoch: int = int32("0+")
    process_id: str = string("0+")
    user_endpoint: Endpoint | None = struct(Endpoint, "0+", nullable="0+", default=None)
    client_tags: list[KeyValue] = array(KeyValue, "0+")


class StreamsGroupTargetAssignmentMetadataKey(CoordinatorKey, api_key=20, versions="0"):
    """The target assignment of a streams group."""

    group_id: str = string("0")


class StreamsGroupTargetAssignmentMetadataValue(CoordinatorValue, api_key=20, versions="0", flexible="0+"):
    """Epoch that the target assignment was made for."""

    assignment_epoch: int = int32("0+")
    assignment_timestamp: int = int64("0+", default=0, ignorable=True, tag=0, tagged="0+")


class StreamsGroupTargetAssignmentMemberKey(CoordinatorKey, api_key=21, versions="0"):
    """A member's part in the target assignment."""

    group_id: str = string("0")
    member_id: str = string("0")


class StreamsGroupTargetAssignmentMemberValueTaskIds(Struct, versions="0+"):
    subtopology_id: str = string("0+")
    partitions: list[int] = array("int32", "0+")


class StreamsGroupTargetAssignmentMemberValue(CoordinatorValue, api_key=21, versions="0", flexible="0+"):
    """The active, standby and warm-up tasks that the member shall get."""

    active_tasks: list[StreamsGroupTargetAssignmentMemberValueTaskIds] = array(
        StreamsGroupTargetAssignmentMemberValueTaskIds, "0+"
    )
    standby_tasks: list[StreamsGroupTargetAssignmentMemberValueTaskIds] = array(
        StreamsGroupTargetAssignmentMemberValueTaskIds, "0+"
    )
    warmup_tasks: list[StreamsGroupTargetAssignmentMemberValueTaskIds] = array(
        StreamsGroupTargetAssignmentMemberValueTaskIds, "0+"
    )


class StreamsGroupCurrentMemberAssignmentKey(CoordinatorKey, api_key=22, versions="0"):
    """A member's present assignment."""

    group_id: str = string("0")
    member_id: str = string("0")


class StreamsGroupCurrentMemberAssignmentValueTaskIds(Struct, versions="0+"):
    subtopology_id: str = string("0+")
    partitions: list[int] = array("int32", "0+")
    assignment_epochs: list[int] | None = array("int32", "0+", nullable="0+", default=None, tag=0, tagged="0+")


class StreamsGroupCurrentMemberAssignmentValue(CoordinatorValue, api_key=22, versions="0", flexible="0+"):
    """Member epoch and state, the tasks it has, and those it still has to give up."""

    member_epoch: int = int32("0+")
    previous_member_epoch: int = int32("0+")
    state: int = int8("0+")
    active_tasks: list[StreamsGroupCurrentMemberAssignmentValueTaskIds] = array(
        StreamsGroupCurrentMemberAssignmentValueTaskIds, "0+"
    )
    standby_tasks: list[StreamsGroupCurrentMemberAssignmentValueTaskIds] = array(
        StreamsGroupCurrentMemberAssignmentValueTaskIds, "0+"
    )
    warmup_tasks: list[StreamsGroupCurrentMemberAssignmentValueTaskIds] = array(
        StreamsGroupCurrentMemberAssignmentValueTaskIds, "0+"
    )
    active_tasks_pending_revocation: list[StreamsGroupCurrentMemberAssignmentValueTaskIds] = array(
        StreamsGroupCurrentMemberAssignmentValueTaskIds, "0+"
    )
    standby_tasks_pending_revocation: list[StreamsGroupCurrentMemberAssignmentValueTaskIds] = array(
        StreamsGroupCurrentMemberAssignmentValueTaskIds, "0+"
    )
    warmup_tasks_pending_revocation: list[StreamsGroupCurrentMemberAssignmentValueTaskIds] = array(
        StreamsGroupCurrentMemberAssignmentValueTaskIds, "0+"
    )


class StreamsGroupTopologyKey(CoordinatorKey, api_key=23, versions="0"):
    """The topology of a streams group."""

    group_id: str = string("0")


class TopicConfig(Struct, versions="0+"):
    key: str = string("0+")
    value: str = string("0+")


class TopicInfo(Struct, versions="0+"):
    name: str = string("0+")
    partitions: int = int32("0+")
    replication_factor: int = int16("0+")
    topic_configs: list[TopicConfig] = array(TopicConfig, "0+")


class CopartitionGroup(Struct):
    source_topics: list[int] = array("int16", "0+")
    source_topic_regex: list[int] = array("int16", "0+")
    repartition_source_topics: list[int] = array("int16", "0+")


class Subtopology(Struct):
    subtopology_id: str = string("0+")
    source_topics: list[str] = array("string", "0+")
    source_topic_regex: list[str] = array("string", "0+")
    state_changelog_topics: list[TopicInfo] = array(TopicInfo, "0+")
    repartition_sink_topics: list[str] = array("string", "0+")
    repartition_source_topics: list[TopicInfo] = array(TopicInfo, "0+")
    copartition_groups: list[CopartitionGroup] = array(CopartitionGroup, "0+")


class StreamsGroupTopologyValue(CoordinatorValue, api_key=23, versions="0", flexible="0+"):
    """Subtopologies with their source, sink, repartition and changelog topics."""

    epoch: int = int32("0+")
    subtopologies: list[Subtopology] = array(Subtopology, "0+")
