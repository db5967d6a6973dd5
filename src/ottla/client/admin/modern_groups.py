"""Share groups (KIP-932) and streams groups (KIP-1071): who is in them and what they work on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ottla.client.admin.acls import AclOperation, operations
from ottla.client.admin.calls import AdminCalls
from ottla.client.admin.groups import GROUP, GroupState
from ottla.client.admin.outcomes import known, names, outcome
from ottla.client.admin.routing import Coordinators, Target
from ottla.client.errors import KafkaError
from ottla.client.model import Node, TopicPartition
from ottla.core.errors import ErrorCode
from ottla.protocol.messages import streams_group_describe as streams
from ottla.protocol.messages.share_group_describe import ShareGroupDescribeRequest, ShareGroupDescribeResponse


class ShareMemberDescription(NamedTuple):
    """A member of a share group."""

    member_id: str
    rack_id: str | None
    client_id: str
    host: str
    assignment: frozenset[TopicPartition]
    member_epoch: int


class ShareGroupDescription(NamedTuple):
    """A share group."""

    group_id: str
    state: GroupState
    coordinator: Node
    members: tuple[ShareMemberDescription, ...]
    group_epoch: int
    target_assignment_epoch: int
    authorized_operations: frozenset[AclOperation] | None = None
    """None unless asked for."""


class StreamsTopicInfo(NamedTuple):
    """An internal topic of a topology."""

    name: str
    partitions: int
    replication_factor: int
    configs: dict[str, str]


class StreamsSubtopologyDescription(NamedTuple):
    """A part of a topology that is worked on together."""

    subtopology_id: str
    source_topics: tuple[str, ...]
    repartition_sink_topics: tuple[str, ...]
    state_changelog_topics: tuple[StreamsTopicInfo, ...]
    repartition_source_topics: tuple[StreamsTopicInfo, ...]


class StreamsTask(NamedTuple):
    """A subtopology's work on one partition."""

    subtopology_id: str
    partition: int


class StreamsAssignment(NamedTuple):
    """The tasks of a member."""

    active_tasks: frozenset[StreamsTask]
    standby_tasks: frozenset[StreamsTask]
    warmup_tasks: frozenset[StreamsTask]


class StreamsMemberDescription(NamedTuple):
    """A member of a streams group."""

    member_id: str
    member_epoch: int
    group_instance_id: str | None
    rack_id: str | None
    client_id: str
    host: str
    topology_epoch: int
    process_id: str
    user_endpoint: tuple[str, int] | None
    """Host and port for interactive queries."""
    client_tags: dict[str, str]
    task_offsets: dict[StreamsTask, int]
    task_end_offsets: dict[StreamsTask, int]
    assignment: StreamsAssignment
    target_assignment: StreamsAssignment
    is_classic: bool


class StreamsGroupDescription(NamedTuple):
    """A streams group."""

    group_id: str
    state: GroupState
    coordinator: Node
    members: tuple[StreamsMemberDescription, ...]
    group_epoch: int
    target_assignment_epoch: int
    topology_epoch: int
    subtopologies: tuple[StreamsSubtopologyDescription, ...]
    authorized_operations: frozenset[AclOperation] | None = None
    """None unless asked for."""


class ModernGroupCalls(AdminCalls):
    """Calls that describe share and streams groups."""

    async def describe_share_groups(
        self,
        group_ids: str | Iterable[str],
        *,
        include_authorized_operations: bool = False,
        timeout_s: float | None = None,
    ) -> dict[str, ShareGroupDescription]:
        """Share groups with their members; a group nobody knows fails with GROUP_ID_NOT_FOUND."""

        async def ask(target: Target, asked: list[str]) -> dict[str, ShareGroupDescription | KafkaError]:
            request = ShareGroupDescribeRequest(
                group_ids=asked, include_authorized_operations=include_authorized_operations
            )
            response = await target.request(request, ShareGroupDescribeResponse)
            return {
                group.group_id: outcome(
                    group.error_code,
                    group.error_message,
                    ShareGroupDescription(
                        group.group_id,
                        known(GroupState, group.group_state),
                        target.node,
                        tuple(
                            ShareMemberDescription(
                                member.member_id,
                                member.rack_id,
                                member.client_id,
                                member.client_host,
                                frozenset(
                                    TopicPartition(topic.topic_name, partition)
                                    for topic in member.assignment.topic_partitions
                                    for partition in topic.partitions
                                ),
                                member.member_epoch,
                            )
                            for member in group.members
                        ),
                        group.group_epoch,
                        group.assignment_epoch,
                        operations(group.authorized_operations) if include_authorized_operations else None,
                    ),
                )
                for group in response.groups
            }

        route: Coordinators[str] = Coordinators(GROUP)
        return await self._routing.run("describe_share_groups", names(group_ids), route, ask, timeout_s)

    async def describe_streams_groups(
        self,
        group_ids: str | Iterable[str],
        *,
        include_authorized_operations: bool = False,
        timeout_s: float | None = None,
    ) -> dict[str, StreamsGroupDescription]:
        """Streams groups with their topology and members; a group nobody knows fails with GROUP_ID_NOT_FOUND."""

        async def ask(target: Target, asked: list[str]) -> dict[str, StreamsGroupDescription | KafkaError]:
            request = streams.StreamsGroupDescribeRequest(
                group_ids=asked, include_authorized_operations=include_authorized_operations
            )
            response = await target.request(request, streams.StreamsGroupDescribeResponse)
            return {
                group.group_id: outcome(
                    group.error_code,
                    group.error_message,
                    _streams_group(target, group, include_authorized_operations),
                )
                for group in response.groups
            }

        route: Coordinators[str] = Coordinators(GROUP)
        return await self._routing.run("describe_streams_groups", names(group_ids), route, ask, timeout_s)


def _streams_group(
    target: Target, group: streams.DescribedGroup, include_authorized_operations: bool
) -> StreamsGroupDescription | KafkaError:
    if group.topology is None and not group.error_code:
        return KafkaError("The broker does not tell its topology.", code=ErrorCode.UNKNOWN_SERVER_ERROR)
    topology = group.topology or streams.Topology()
    return StreamsGroupDescription(
        group.group_id,
        known(GroupState, group.group_state or "Unknown"),
        target.node,
        tuple(_streams_member(member) for member in group.members),
        group.group_epoch,
        group.assignment_epoch,
        topology.epoch,
        tuple(
            StreamsSubtopologyDescription(
                part.subtopology_id,
                tuple(part.source_topics),
                tuple(part.repartition_sink_topics),
                _topic_infos(part.state_changelog_topics),
                _topic_infos(part.repartition_source_topics),
            )
            for part in topology.subtopologies or ()
        ),
        operations(group.authorized_operations) if include_authorized_operations else None,
    )


def _streams_member(member: streams.Member) -> StreamsMemberDescription:
    endpoint = member.user_endpoint
    return StreamsMemberDescription(
        member.member_id,
        member.member_epoch,
        member.instance_id,
        member.rack_id,
        member.client_id,
        member.client_host,
        member.topology_epoch,
        member.process_id,
        None if endpoint is None else (endpoint.host, endpoint.port),
        {tag.key: tag.value for tag in member.client_tags},
        _task_offsets(member.task_offsets),
        _task_offsets(member.task_end_offsets),
        _assignment(member.assignment),
        _assignment(member.target_assignment),
        member.is_classic,
    )


def _task_offsets(offsets: Sequence[streams.TaskOffset]) -> dict[StreamsTask, int]:
    return {StreamsTask(one.subtopology_id, one.partition): one.offset for one in offsets}


def _assignment(assignment: streams.Assignment) -> StreamsAssignment:
    def tasks(ids: Sequence[streams.TaskIds]) -> frozenset[StreamsTask]:
        return frozenset(StreamsTask(one.subtopology_id, partition) for one in ids for partition in one.partitions)

    return StreamsAssignment(
        tasks(assignment.active_tasks), tasks(assignment.standby_tasks), tasks(assignment.warmup_tasks)
    )


def _topic_infos(topics: Sequence[streams.TopicInfo]) -> tuple[StreamsTopicInfo, ...]:
    return tuple(
        StreamsTopicInfo(
            topic.name,
            topic.partitions,
            topic.replication_factor,
            {config.key: config.value for config in topic.topic_configs},
        )
        for topic in topics
    )
