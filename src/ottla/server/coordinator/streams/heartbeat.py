"""StreamsGroupHeartbeat (KIP-1071), the parts that need no group: what is refused, what changed, how answers look."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.streams_group_heartbeat import (
    Endpoint as EndpointStruct,
)
from ottla.protocol.messages.streams_group_heartbeat import (
    EndpointToPartitions,
    Status,
    StreamsGroupHeartbeatRequest,
    StreamsGroupHeartbeatResponse,
    TaskIds,
    TopicPartition,
)
from ottla.server.coordinator.modern_group import JOIN_EPOCH, STATIC_LEAVE_EPOCH
from ottla.server.coordinator.streams.member import Endpoint, Member, Profile
from ottla.server.coordinator.streams.records import roles_of
from ottla.server.coordinator.streams.tasks import TaskId, TaskRoles, by_subtopology, task_lists
from ottla.server.coordinator.streams.topics import ConfiguredTopology, PartitionCount, StatusCode

if TYPE_CHECKING:
    from ottla.protocol.messages.streams_group_heartbeat import TaskOffset


def check_request(request: StreamsGroupHeartbeatRequest) -> None:
    """ApiError INVALID_REQUEST or STREAMS_INVALID_TOPOLOGY for what no group could accept; topic names aside."""
    topology = request.topology
    if topology is not None and any(subtopology.source_topic_regex for subtopology in topology.subtopologies):
        _refuse("Regular expressions for source topics are not supported yet.")
    for name, text in (
        ("MemberId", request.member_id),
        ("GroupId", request.group_id),
        ("InstanceId", request.instance_id),
        ("RackId", request.rack_id),
    ):
        if text is not None and not text.strip():
            _refuse(f"{name} can't be empty.")
    tasks = request.active_tasks, request.standby_tasks, request.warmup_tasks
    if request.member_epoch == JOIN_EPOCH:
        _check_join(request)
    elif request.member_epoch == STATIC_LEAVE_EPOCH and request.instance_id is None:
        _refuse("InstanceId can't be null.")
    elif request.member_epoch < STATIC_LEAVE_EPOCH:
        _refuse(f"MemberEpoch is {request.member_epoch}, but must be greater than or equal to -2.")
    if any(each is not None for each in tasks) and any(each is None for each in tasks):
        _refuse("If one task-type is non-null, all must be non-null.")
    if request.member_epoch != JOIN_EPOCH and request.topology is not None:
        _refuse("Topology can only be provided when (re-)joining.")


def _check_join(request: StreamsGroupHeartbeatRequest) -> None:
    if request.rebalance_timeout_ms == -1:
        _refuse("RebalanceTimeoutMs must be provided in first request.")
    for name, tasks in (
        ("ActiveTasks", request.active_tasks),
        ("StandbyTasks", request.standby_tasks),
        ("WarmupTasks", request.warmup_tasks),
    ):
        if tasks is None or tasks:
            _refuse(f"{name} must be empty when (re-)joining.")
    if request.topology is None:
        _refuse("Topology must be non-null when (re-)joining.")
    else:
        for subtopology in request.topology.subtopologies:
            for topic in subtopology.state_changelog_topics:
                if topic.partitions:
                    raise ApiError(
                        ErrorCode.STREAMS_INVALID_TOPOLOGY,
                        f"Changelog topic {topic.name} must have an undefined partition count, "
                        f"but it is set to {topic.partitions}.",
                    )


def _refuse(message: str) -> None:
    raise ApiError(ErrorCode.INVALID_REQUEST, message)


# -- what a request says


def owned_tasks(request: StreamsGroupHeartbeatRequest) -> TaskRoles | None:
    """The tasks that the member has, None when nothing changed since it last said."""
    if request.active_tasks is None:
        return None
    return roles_of(request.active_tasks, request.standby_tasks, request.warmup_tasks)


def updated_profile(
    profile: Profile, request: StreamsGroupHeartbeatRequest, client_id: str, client_host: str
) -> Profile:
    """What the member says of itself now: what the request leaves out is as before, but for the endpoint of a join."""
    endpoint = profile.user_endpoint
    if request.user_endpoint is not None:
        endpoint = Endpoint(request.user_endpoint.host, request.user_endpoint.port)
    elif request.member_epoch == JOIN_EPOCH:
        endpoint = None
    tags = profile.client_tags
    if request.client_tags is not None:
        tags = tuple(sorted({said.key: said.value for said in request.client_tags}.items()))
    return Profile(
        instance_id=request.instance_id if request.instance_id is not None else profile.instance_id,
        rack_id=request.rack_id if request.rack_id is not None else profile.rack_id,
        client_id=client_id,
        client_host=client_host,
        rebalance_timeout_ms=(
            profile.rebalance_timeout_ms if request.rebalance_timeout_ms == -1 else request.rebalance_timeout_ms
        ),
        topology_epoch=profile.topology_epoch if request.topology is None else request.topology.epoch,
        process_id=profile.process_id if request.process_id is None else request.process_id,
        user_endpoint=endpoint,
        client_tags=tags,
    )


def matters_to_assignment(before: Profile, after: Profile) -> bool:
    """Whether a static member that came back has to be assigned anew."""
    return (before.topology_epoch, before.rack_id, before.client_tags, before.process_id) != (
        after.topology_epoch,
        after.rack_id,
        after.client_tags,
        after.process_id,
    )


def offsets_of(offsets: Iterable[TaskOffset]) -> dict[TaskId, int]:
    """Task offsets as a member reports them."""
    return {TaskId(each.subtopology_id, each.partition): each.offset for each in offsets}


def check_epoch(member: Member, received_epoch: int, owned: TaskRoles | None) -> None:
    """ApiError FENCED_MEMBER_EPOCH unless the epoch is the member's, or the one before when the answer got lost."""
    progress = member.progress
    if received_epoch in (JOIN_EPOCH, progress.member_epoch):
        return
    greater = received_epoch > progress.member_epoch
    if (
        not greater
        and received_epoch == progress.previous_member_epoch
        and owned is not None
        and progress.assigned.covers(owned)
    ):
        return
    raise ApiError(
        ErrorCode.FENCED_MEMBER_EPOCH,
        f"The streams group member has a {'greater' if greater else 'smaller'} member epoch ({received_epoch}) than "
        f"the one known by the group coordinator ({progress.member_epoch}). "
        "The member must abandon all its partitions and rejoin.",
    )


def check_tasks(configured: ConfiguredTopology, owned: TaskRoles | None) -> None:
    """ApiError INVALID_REQUEST when the member reports a task that the topology does not have."""
    if owned is None or not configured.is_ready or configured.subtopologies is None:
        return
    for task in sorted(owned.active | owned.standby | owned.warmup):
        subtopology = configured.subtopologies.get(task.subtopology_id)
        if subtopology is None:
            _refuse(f"Subtopology {task.subtopology_id} does not exist in the topology.")
        elif not 0 <= task.partition < subtopology.task_count:
            _refuse(
                f"Task {task.partition} for subtopology {task.subtopology_id} is invalid. "
                f"Number of tasks for this subtopology: {subtopology.task_count}"
            )


# -- answers


def refused(code: ErrorCode, message: str | None = None) -> StreamsGroupHeartbeatResponse:
    """The error answer of a heartbeat."""
    return StreamsGroupHeartbeatResponse(error_code=code, error_message=message, status=[])


def status(code: StatusCode, detail: str) -> Status:
    """One line of the answer's status list."""
    return Status(status_code=code, status_detail=detail)


def give_tasks(response: StreamsGroupHeartbeatResponse, roles: TaskRoles) -> None:
    """Put the member's tasks into the answer."""
    response.active_tasks = task_lists(roles.active, TaskIds)
    response.standby_tasks = task_lists(roles.standby, TaskIds)
    response.warmup_tasks = task_lists(roles.warmup, TaskIds)


def partitions_by_endpoint(
    members: Iterable[Member], configured: ConfiguredTopology, partition_count: PartitionCount
) -> list[EndpointToPartitions]:
    """Which partitions can be asked for at which member: the input partitions of its tasks."""
    found = []
    for member in members:
        endpoint = member.profile.user_endpoint
        if endpoint is not None:
            assigned = member.progress.assigned
            found.append(
                EndpointToPartitions(
                    user_endpoint=EndpointStruct(host=endpoint.host, port=endpoint.port),
                    active_partitions=_partitions(assigned.active, configured, partition_count),
                    standby_partitions=_partitions(assigned.standby, configured, partition_count),
                )
            )
    return found


def _partitions(
    tasks: Iterable[TaskId], configured: ConfiguredTopology, partition_count: PartitionCount
) -> list[TopicPartition]:
    subtopologies = configured.subtopologies or {}
    found = []
    for subtopology_id, partitions in by_subtopology(tasks).items():
        subtopology = subtopologies.get(subtopology_id)
        if subtopology is None:
            continue
        topics = {*subtopology.source_topics, *(topic.name for topic in subtopology.repartition_source_topics)}
        for topic in sorted(topics):
            count = partition_count(topic) or 0
            found.append(TopicPartition(topic=topic, partitions=[each for each in partitions if each < count]))
    return found
