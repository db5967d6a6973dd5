"""The machine of share groups (KIP-932): heartbeats, describing, and the share state a group needs to be consumed.

A member says what it subscribes to; the group's epoch rises, a target assignment is made, and the member has it at
once: nobody gives anything up for anybody. Partitions are initialized at the share coordinator before they are
assigned; a command that finds some to initialize names them in its outcome, and the shell comes back with
`initialized` and `initialization_over`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.share_group_heartbeat import (
    Assignment as MemberAssignment,
)
from ottla.protocol.messages.share_group_heartbeat import (
    ShareGroupHeartbeatRequest,
    ShareGroupHeartbeatResponse,
    TopicPartitions,
)
from ottla.server.coordinator.assignors.assignor import MemberSpec
from ottla.server.coordinator.assignors.simple import assign
from ottla.server.coordinator.modern_group import (
    JOIN_EPOCH,
    LEAVE_EPOCH,
    NO_ASSIGNMENT,
    Assignment,
    MemberTimers,
    assignment_of,
)
from ottla.server.coordinator.modern_topics import SubscribedTopics
from ottla.server.coordinator.result import NOTHING, CoordinatorRecord, Instant, Result
from ottla.server.coordinator.share import records
from ottla.server.coordinator.share.description import described
from ottla.server.coordinator.share.group import (
    ShareGroup,
    ShareMember,
    ShareStateTopics,
    StateTopic,
    StateTopics,
    joined,
    separated,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ottla.protocol.messages.share_group_describe import DescribedGroup
    from ottla.protocol.messages.share_records import TopicPartitionsInfo
    from ottla.server.coordinator.group_machine import GroupContext
    from ottla.server.metadata.delta import MetadataDelta

_REMOVAL_RETRY_MS = 1_000


class Initialization(NamedTuple):
    """Share partitions whose state is to begin at `start_offsets` (by topic id and partition), in an epoch."""

    group_id: str
    state_epoch: int
    start_offsets: dict[bytes, dict[int, int]]

    def topics(self) -> dict[bytes, frozenset[int]]:
        """The partitions by topic."""
        return {topic_id: frozenset(offsets) for topic_id, offsets in self.start_offsets.items()}


class HeartbeatOutcome(NamedTuple):
    """The member's answer, and what has to be initialized before the group can be assigned all it subscribes to."""

    response: ShareGroupHeartbeatResponse
    initialization: Initialization | None = None


class ShareGroups:
    """All share groups of one shard (`group_machine.GroupMachine`)."""

    def __init__(self, context: GroupContext) -> None:
        self._context = context
        self._groups = context.groups
        self._topics = SubscribedTopics(context)
        self._sessions = MemberTimers(context.timers, self._session_expired)

    # -- finding

    def group(self, group_id: str) -> ShareGroup:
        """The group; ApiError GROUP_ID_NOT_FOUND, also when it is of another kind."""
        group = self.find(group_id)
        if group is None:
            raise ApiError(ErrorCode.GROUP_ID_NOT_FOUND, f"Share group {group_id} not found.")
        return group

    def find(self, group_id: str) -> ShareGroup | None:
        """The group, None when there is none; ApiError GROUP_ID_NOT_FOUND when it is of another kind."""
        group = self._groups.get(group_id)
        if group is None or isinstance(group, ShareGroup):
            return group
        raise ApiError(ErrorCode.GROUP_ID_NOT_FOUND, f"Group {group_id} is not a share group.")

    def find_or_new(self, group_id: str) -> ShareGroup:
        """The group, or one that nobody knows of until records about it are replayed."""
        return self.find(group_id) or ShareGroup(group_id, self._topics)

    # -- membership

    def heartbeat(
        self, request: ShareGroupHeartbeatRequest, client_id: str, client_host: str, now: Instant
    ) -> Result[HeartbeatOutcome]:
        """Join, stay or leave. ApiError GROUP_ID_NOT_FOUND, UNKNOWN_MEMBER_ID, FENCED_MEMBER_EPOCH,
        GROUP_MAX_SIZE_REACHED."""
        if request.member_epoch == LEAVE_EPOCH:
            return self._leave(request)
        joins = request.member_epoch == JOIN_EPOCH
        group = self.find_or_new(request.group_id) if joins else self.group(request.group_id)
        member = self._member_before(group, request)
        updated = member._replace(client_id=client_id, client_host=client_host)
        if request.rack_id is not None:
            updated = updated._replace(rack_id=request.rack_id)
        if request.subscribed_topic_names is not None:
            updated = updated._replace(subscribed_topic_names=frozenset(request.subscribed_topic_names))
        step = _Step(group, member, updated, [])
        if updated != member or member.member_id not in group.members:
            step.records.append(records.member(group.group_id, updated))
        epoch, has_bumped = self._group_epoch(step)
        assignment_epoch, target = self._target(step, epoch, now)
        updated = self._reconciled(step, assignment_epoch, target, has_bumped)
        initialization = self._initialization(step, epoch, now)
        config = self._context.config_of(group.group_id)
        self._sessions.restart(group.group_id, member.member_id, now.monotonic_ms + config["share.session.timeout.ms"])
        response = ShareGroupHeartbeatResponse(
            member_id=member.member_id,
            member_epoch=updated.member_epoch,
            heartbeat_interval_ms=config["share.heartbeat.interval.ms"],
        )
        if joins or request.subscribed_topic_names is not None or updated.assigned != member.assigned:
            response.assignment = MemberAssignment(
                topic_partitions=[
                    TopicPartitions(topic_id=topic_id, partitions=list(partitions))
                    for topic_id, partitions in updated.assigned.items()
                ]
            )
        return Result(HeartbeatOutcome(response, initialization), step.records)

    def _member_before(self, group: ShareGroup, request: ShareGroupHeartbeatRequest) -> ShareMember:
        """The member as it was, or a new one; ApiError when it may not be one."""
        member_id, epoch = request.member_id, request.member_epoch
        member = group.members.get(member_id)
        max_size = self._context.settings.share_max_size
        if member is None and len(group.members) >= max_size:
            raise ApiError(
                ErrorCode.GROUP_MAX_SIZE_REACHED, f"The share group has reached its maximum of {max_size} members."
            )
        if epoch == JOIN_EPOCH:
            return member or ShareMember(member_id)
        if member is None:
            raise _unknown_member(group, member_id)
        # With the epoch before, the answer that brought the new one was lost.
        if epoch != member.member_epoch and (epoch > member.member_epoch or epoch != member.previous_member_epoch):
            raise ApiError(
                ErrorCode.FENCED_MEMBER_EPOCH,
                f"The member is in epoch {member.member_epoch}, not {epoch}: it has to give up its partitions and "
                "join again.",
            )
        return member

    def _group_epoch(self, step: _Step) -> tuple[int, bool]:
        """The group's epoch, and whether it has just risen: for other topics, or for partitions just initialized."""
        group, member, updated = step.group, step.member, step.updated
        bumps = updated.subscribed_topic_names != member.subscribed_topic_names
        epoch = group.group_epoch
        if group.assignment_epoch >= epoch and group.awaits_assignment(self._context.image.topics.by_id):
            bumps = True
        if not bumps and not group.needs_metadata_refresh:
            return epoch, False
        is_member = member.member_id in group.members
        metadata_hash = group.metadata_hash_after(
            [member.subscribed_topic_names] if is_member else [], [updated.subscribed_topic_names]
        )
        if bumps or metadata_hash != group.metadata_hash:
            bumps = True
            epoch += 1
            step.records.append(records.group_epoch(group.group_id, epoch, metadata_hash))
        group.metadata_refreshed(epoch)
        return epoch, bumps

    def _target(self, step: _Step, epoch: int, now: Instant) -> tuple[int, Assignment]:
        """The newest target for the member and its epoch; a new one is made when it is time."""
        group, updated = step.group, step.updated
        interval_ms = self._context.config_of(group.group_id)["share.assignment.interval.ms"]
        if group.assignment_epoch >= epoch or not group.may_assign(interval_ms, now.wall_ms):
            return group.assignment_epoch, group.target_of(updated.member_id)
        members = {**group.members, updated.member_id: updated}
        topics = self._context.image.topics.by_name
        ids = {
            name: topics[name].topic_id
            for member in members.values()
            for name in member.subscribed_topic_names
            if name in topics
        }
        specs = {
            member_id: MemberSpec(
                frozenset(ids[name] for name in member.subscribed_topic_names if name in ids),
                group.target_of(member_id),
            )
            for member_id, member in members.items()
        }
        wanted = frozenset(ids.values())
        assignable = {
            topic_id: topic.partitions
            for topic_id, topic in group.state_topics.initialized.items()
            if topic_id in wanted
        }
        target = assign(specs, assignable)
        for member_id, assignment in target.items():
            if group.target.get(member_id) != assignment:
                step.records.append(records.target_member(group.group_id, member_id, assignment))
        # A target without partitions keeps nobody from having the first ones as soon as they are initialized.
        step.records.append(records.target(group.group_id, epoch, now.wall_ms if assignable else 0))
        return epoch, target[updated.member_id]

    def _reconciled(
        self, step: _Step, assignment_epoch: int, target: Assignment, subscription_changed: bool
    ) -> ShareMember:
        """The member at the target's epoch, with what the target gives it of the topics it subscribes to now."""
        updated = step.updated
        if updated.member_epoch == assignment_epoch and not subscription_changed:
            return updated
        topics = self._context.image.topics.by_id
        reconciled = updated._replace(
            assigned={
                topic_id: partitions
                for topic_id, partitions in target.items()
                if topic_id in topics and topics[topic_id].name in updated.subscribed_topic_names
            }
        )
        if updated.member_epoch != assignment_epoch:
            reconciled = reconciled._replace(member_epoch=assignment_epoch, previous_member_epoch=updated.member_epoch)
        if reconciled != updated:
            step.records.append(records.current_member(step.group.group_id, reconciled))
        return reconciled

    def _leave(self, request: ShareGroupHeartbeatRequest) -> Result[HeartbeatOutcome]:
        group = self.group(request.group_id)
        member = group.members.get(request.member_id)
        if member is None:
            raise _unknown_member(group, request.member_id)
        response = ShareGroupHeartbeatResponse(member_id=request.member_id, member_epoch=request.member_epoch)
        return Result(HeartbeatOutcome(response), self._remove(group, member))

    def _session_expired(self, group_id: str, member_id: str, now: Instant) -> Result[None]:
        group = self._groups.get(group_id)
        member = group.members.get(member_id) if isinstance(group, ShareGroup) else None
        if member is None:
            return NOTHING
        assert isinstance(group, ShareGroup)

        def appended(code: ErrorCode | None) -> None:
            if code is not None:
                # Nobody else would think of the member again.
                self._sessions.restart(group_id, member_id, now.monotonic_ms + _REMOVAL_RETRY_MS)

        return Result(None, self._remove(group, member), appended=appended)

    def _remove(self, group: ShareGroup, member: ShareMember) -> list[CoordinatorRecord]:
        # Its session ends by itself: there is no member then, or one that came back and has it moved.
        metadata_hash = group.metadata_hash_after([member.subscribed_topic_names])
        return [
            *records.member_tombstones(group.group_id, member.member_id),
            records.group_epoch(group.group_id, group.group_epoch + 1, metadata_hash),
        ]

    # -- share state

    def _initialization(self, step: _Step, epoch: int, now: Instant) -> Initialization | None:
        """What the group subscribes to and the share coordinator does not know of, unless that is under way."""
        group = step.group
        topics = self._context.image.topics.by_name
        names = group.subscriptions.keys() | step.updated.subscribed_topic_names
        subscribed = {
            topic.topic_id: StateTopic(name, frozenset(topic.partitions))
            for name in names
            if (topic := topics.get(name)) is not None
        }
        missing = separated(subscribed, group.state_topics.initialized)
        if not missing:
            return None
        if separated(missing, group.state_topics.initializing):
            step.records.append(initializing(group, missing))
        due = {
            topic_id: topic
            for topic_id, topic in missing.items()
            if group.initializing_until_ms.get(topic_id, 0) <= now.monotonic_ms
        }
        if not due:
            return None
        return Initialization(
            group.group_id,
            epoch,
            {topic_id: dict.fromkeys(sorted(topic.partitions), -1) for topic_id, topic in due.items()},
        )

    def begin_initialization(self, initialization: Initialization, now: Instant) -> None:
        """The share coordinator is about to be asked; nobody else asks until it answers, or should have."""
        group = self.find(initialization.group_id)
        if group is not None:
            until_ms = now.monotonic_ms + self._context.settings.share_initialize_retry_interval_ms
            group.initializing_until_ms.update(dict.fromkeys(initialization.start_offsets, until_ms))

    def initialized(self, initialization: Initialization) -> Result[None]:
        """The share coordinator has written it down: from now on the partitions may be assigned."""
        group = self._groups.get(initialization.group_id)
        if not isinstance(group, ShareGroup):
            return NOTHING
        state = group.state_topics
        # A topic that was deleted meanwhile is not mentioned any more.
        done = {
            topic_id: StateTopic(state.initializing[topic_id].name, partitions)
            for topic_id, partitions in initialization.topics().items()
            if topic_id in state.initializing
        }
        if not done:
            return NOTHING
        after = ShareStateTopics(separated(state.initializing, done), joined(state.initialized, done), state.deleting)
        return Result(None, [records.state_topics(group.group_id, after)])

    def initialization_over(self, initialization: Initialization) -> None:
        """The share coordinator answered: what it could not do is tried again with the next heartbeat."""
        group = self._groups.get(initialization.group_id)
        if isinstance(group, ShareGroup):
            for topic_id in initialization.start_offsets:
                group.initializing_until_ms.pop(topic_id, None)

    # -- administration

    def describe(self, group_id: str) -> DescribedGroup:
        """ShareGroupDescribe for one group; ApiError GROUP_ID_NOT_FOUND."""
        return described(self.group(group_id), self._context.image)

    # -- the shard's port (group_machine.GroupMachine)

    def replay(self, record: CoordinatorRecord) -> None:
        """Apply one record of key types 10 to 15."""
        key, value = record.key, record.value
        group = self._groups.get(key.group_id)
        if not isinstance(group, ShareGroup):
            if group is not None or value is None:
                return
            group = self._groups[key.group_id] = ShareGroup(key.group_id, self._topics)
        group.changed()
        kind = record.key_type
        if kind in (records.MEMBER, records.TARGET_MEMBER, records.CURRENT_MEMBER):
            _replay_member(group, kind, key.member_id, value)
        elif kind == records.GROUP:
            if value is None:
                group.dissolve()
                del self._groups[key.group_id]
            else:
                group.group_epoch, group.metadata_hash = value.epoch, value.metadata_hash
        elif kind == records.TARGET:
            group.assignment_epoch = LEAVE_EPOCH if value is None else value.assignment_epoch
            group.assignment_timestamp_ms = 0 if value is None else value.assignment_timestamp
        elif value is None:
            group.state_topics = ShareStateTopics()
        else:
            group.state_topics = ShareStateTopics(
                _loaded(value.initializing_topics),
                _loaded(value.initialized_topics),
                {topic.topic_id: topic.topic_name for topic in value.deleting_topics},
            )

    def loaded(self, now: Instant) -> None:
        """Every member has a whole session from now on."""
        for group in self._share_groups():
            timeout_ms = self._context.config_of(group.group_id)["share.session.timeout.ms"]
            for member_id in group.members:
                self._sessions.restart(group.group_id, member_id, now.monotonic_ms + timeout_ms)

    def metadata_changed(self, delta: MetadataDelta, now: Instant) -> list[CoordinatorRecord]:
        """Groups look at changed topics again with the next heartbeat; deleted ones have no share state any more."""
        for group_id in self._topics.groups_of(delta):
            group = self._groups.get(group_id)
            if isinstance(group, ShareGroup):
                group.changed()
                group.request_metadata_refresh()
        deleted = delta.deleted_topics.keys()
        if not deleted:
            return []
        return [
            records.state_topics(group.group_id, group.state_topics.without(deleted))
            for group in self._share_groups()
            if group.state_topics.mentions(deleted)
        ]

    def unload(self, code: ErrorCode) -> None:
        """Nothing is parked here."""

    def _share_groups(self) -> Iterable[ShareGroup]:
        return [group for group in self._groups.values() if isinstance(group, ShareGroup)]

    def check_invariants(self) -> None:
        """What holds between commands; for tests and simulations."""
        self._topics.check_invariants({group.group_id: set(group.subscriptions) for group in self._share_groups()})


class _Step(NamedTuple):
    """One heartbeat in the making: the member before and after, and the records so far."""

    group: ShareGroup
    member: ShareMember
    updated: ShareMember
    records: list[CoordinatorRecord]


def durable_state(group: ShareGroup) -> tuple[object, ...]:
    """What a restart must find again; for tests."""
    return (
        group.group_type,
        group.group_epoch,
        group.metadata_hash,
        group.assignment_epoch,
        group.assignment_timestamp_ms,
        group.members,
        group.target,
        group.state_topics,
    )


def _replay_member(group: ShareGroup, kind: int, member_id: str, value: Any) -> None:
    if kind == records.TARGET_MEMBER:
        if value is None:
            group.target.pop(member_id, None)
        else:
            group.target[member_id] = assignment_of(value.topic_partitions)
        return
    if value is None:
        if kind == records.MEMBER:
            group.remove_member(member_id)
        elif (member := group.members.get(member_id)) is not None:
            group.put_member(
                member._replace(member_epoch=LEAVE_EPOCH, previous_member_epoch=LEAVE_EPOCH, assigned=NO_ASSIGNMENT)
            )
        return
    member = group.members.get(member_id) or ShareMember(member_id)
    if kind == records.MEMBER:
        group.put_member(
            member._replace(
                rack_id=value.rack_id,
                client_id=value.client_id,
                client_host=value.client_host,
                subscribed_topic_names=frozenset(value.subscribed_topic_names),
            )
        )
    else:
        group.put_member(
            member._replace(
                member_epoch=value.member_epoch,
                previous_member_epoch=value.previous_member_epoch,
                assigned=assignment_of(value.assigned_partitions),
            )
        )


def initializing(group: ShareGroup, topics: StateTopics) -> CoordinatorRecord:
    """The record that says that the topics are being initialized; what was being deleted begins anew."""
    state = group.state_topics
    return records.state_topics(
        group.group_id,
        ShareStateTopics(
            joined(state.initializing, topics),
            state.initialized,
            {topic_id: name for topic_id, name in state.deleting.items() if topic_id not in topics},
        ),
    )


def _loaded(infos: Iterable[TopicPartitionsInfo]) -> dict[bytes, StateTopic]:
    return {info.topic_id: StateTopic(info.topic_name, frozenset(info.partitions)) for info in infos}


def _unknown_member(group: ShareGroup, member_id: str) -> ApiError:
    return ApiError(ErrorCode.UNKNOWN_MEMBER_ID, f"Member {member_id} is not a member of group {group.group_id}.")
