"""Who may speak in a streams group: from a heartbeat to its group and member, or to a refusal.

A dynamic member is known by its id. A static one (Kafka 4.4) is known by its instance id as well: it may leave for a
while and come back under another member id with the tasks it had.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.streams_group_heartbeat import Status, StreamsGroupHeartbeatRequest
from ottla.server.coordinator.classic.group import ClassicGroup, GroupState
from ottla.server.coordinator.modern_group import JOIN_EPOCH, STATIC_LEAVE_EPOCH
from ottla.server.coordinator.streams import heartbeat as heartbeats
from ottla.server.coordinator.streams import records as group_records
from ottla.server.coordinator.streams.group import StreamsGroup
from ottla.server.coordinator.streams.member import Member
from ottla.server.coordinator.streams.tasks import NO_ROLES, TaskRoles

if TYPE_CHECKING:
    from ottla.server.coordinator.group_machine import GroupContext
    from ottla.server.coordinator.modern_topics import SubscribedTopics
    from ottla.server.coordinator.result import CoordinatorRecord
    from ottla.server.coordinator.streams.topics import StatusCode


class Heartbeat(NamedTuple):
    """One heartbeat as it came."""

    request: StreamsGroupHeartbeatRequest
    version: int
    client_id: str
    client_host: str

    @property
    def is_joining(self) -> bool:
        return self.request.member_epoch == JOIN_EPOCH


class Step:
    """What one heartbeat has decided so far."""

    __slots__ = ("before", "group", "member", "records", "replaced", "status")

    def __init__(self, group: StreamsGroup, records: list[CoordinatorRecord]) -> None:
        self.group = group
        self.records = records
        self.status: list[Status] = []
        #: The member as it was before this heartbeat, and as it is now.
        self.before = self.member = Member("")
        #: The holder of the instance id that the member takes the place of.
        self.replaced: Member | None = None

    @property
    def has_new_tasks(self) -> bool:
        """Whether this heartbeat changed the member's tasks."""
        return self.member.progress.assigned != self.before.progress.assigned

    def target(self) -> dict[str, TaskRoles]:
        """The target assignment; a replaced static member's part is its successor's."""
        target = self.group.target
        if self.replaced is not None:
            target = dict(target)
            target[self.member.member_id] = target.pop(self.replaced.member_id, NO_ROLES)
        return target

    def members(self) -> dict[str, Member]:
        """The members, with this one as it is now."""
        members = dict(self.group.members)
        if self.replaced is not None:
            members.pop(self.replaced.member_id, None)
        members[self.member.member_id] = self.member
        return members

    def say(self, code: StatusCode, detail: str) -> None:
        """Add a line to the answer's status list."""
        self.status.append(heartbeats.status(code, detail))


def admit(context: GroupContext, topics: SubscribedTopics, call: Heartbeat, owned: TaskRoles | None) -> Step:
    """Find the group and the member, or make them; ApiError when the member may not speak.

    A group that is made here is not in the shard: the records of the heartbeat will make it there.
    """
    request = call.request
    records: list[CoordinatorRecord] = []
    if call.is_joining:
        group = _joined_group(context, topics, request.group_id, records)
        _check_size(group, request, context.settings.streams_max_size)
    else:
        group = streams_group(context, request.group_id)
    step = Step(group, records)
    if request.instance_id is None:
        known = group.members.get(request.member_id) if call.is_joining else group.member(request.member_id)
        step.before = known or Member(request.member_id)
        heartbeats.check_epoch(step.before, request.member_epoch, owned)
    elif call.is_joining:
        _join_static(step, request.member_id, request.instance_id)
    else:
        step.before = held_by(group, request.instance_id, request.member_id)
        heartbeats.check_epoch(step.before, request.member_epoch, owned)
    step.member = step.before
    return step


def streams_group(context: GroupContext, group_id: str) -> StreamsGroup:
    """The streams group, or ApiError GROUP_ID_NOT_FOUND."""
    group = context.groups.get(group_id)
    if group is None:
        raise ApiError(ErrorCode.GROUP_ID_NOT_FOUND, f"Streams group {group_id} not found.")
    if not isinstance(group, StreamsGroup):
        raise ApiError(ErrorCode.GROUP_ID_NOT_FOUND, f"Group {group_id} is not a streams group.")
    return group


def held_by(group: StreamsGroup, instance_id: str, member_id: str) -> Member:
    """The holder of an instance id; ApiError when nobody or somebody else holds it."""
    holder = group.static_member(instance_id)
    if holder is None:
        raise ApiError(ErrorCode.UNKNOWN_MEMBER_ID, f"Instance id {instance_id} is unknown.")
    if holder.member_id != member_id:
        raise ApiError(
            ErrorCode.FENCED_INSTANCE_ID,
            f"Static member {member_id} with instance id {instance_id} was fenced by member {holder.member_id}.",
        )
    return holder


def _joined_group(
    context: GroupContext, topics: SubscribedTopics, group_id: str, records: list[CoordinatorRecord]
) -> StreamsGroup:
    """The group, or a fresh one in place of none or of an Empty classic one."""
    group = context.groups.get(group_id)
    if isinstance(group, ClassicGroup) and group.state is GroupState.EMPTY:
        records += group.tombstones()
        group = None
    return StreamsGroup(group_id, topics) if group is None else streams_group(context, group_id)


def _check_size(group: StreamsGroup, request: StreamsGroupHeartbeatRequest, limit: int) -> None:
    instance_id = request.instance_id
    is_known = request.member_id in group.members or (
        instance_id is not None and group.static_member(instance_id) is not None
    )
    if len(group.members) >= limit and not is_known:
        raise ApiError(
            ErrorCode.GROUP_MAX_SIZE_REACHED,
            f"The streams group has reached its maximum capacity of {limit} members.",
        )


def _join_static(step: Step, member_id: str, instance_id: str) -> None:
    """A static member comes for the first time, or comes back and takes the place of what it was."""
    group = step.group
    holder = group.static_member(instance_id)
    if holder is None:
        step.before = Member(member_id)
        return
    if holder.progress.member_epoch != STATIC_LEAVE_EPOCH:
        raise ApiError(
            ErrorCode.UNRELEASED_INSTANCE_ID,
            f"Static member {member_id} with instance id {instance_id} cannot join the group because the instance id "
            f"is owned by member {holder.member_id}.",
        )
    step.replaced = holder
    progress = holder.progress._replace(member_epoch=JOIN_EPOCH, previous_member_epoch=JOIN_EPOCH)
    step.before = holder._replace(member_id=member_id, progress=progress)
    if holder.member_id != member_id:
        step.records += [
            *group_records.member_tombstones(group.group_id, holder.member_id),
            group_records.member_metadata(group.group_id, step.before),
            group_records.target_member(group.group_id, member_id, group.target_of(holder.member_id)),
        ]
    step.records.append(group_records.current_assignment(group.group_id, step.before))
