"""Consumer groups (KIP-848): ConsumerGroupHeartbeat and what time does, over the groups of one shard.

A heartbeat joins, acknowledges, keeps alive and leaves. Most say nothing new: they are answered from what is known, and
move the session's deadline. The others become a `MemberUpdate`, whose records change the group when they are replayed.

Members that speak the classic protocol live in these groups too (`classic_members`), and a group changes its kind when
the first member of the new protocol comes, or the last one goes (`migration`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.consumer_group_heartbeat import (
    Assignment as AssignmentMessage,
)
from ottla.protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    ConsumerGroupHeartbeatResponseTopicPartitions,
)
from ottla.server.coordinator.classic.group import ClassicGroup, GroupState
from ottla.server.coordinator.classic.rebalance import Rebalances
from ottla.server.coordinator.consumer import migration as consumer_migration
from ottla.server.coordinator.consumer import records as consumer_records
from ottla.server.coordinator.consumer.checks import check_epoch, static_member
from ottla.server.coordinator.consumer.group import ConsumerGroup
from ottla.server.coordinator.consumer.member import ConsumerMember, MemberState
from ottla.server.coordinator.consumer.regexes import RegexChange, Regexes
from ottla.server.coordinator.consumer.replay import REPLAY
from ottla.server.coordinator.consumer.update import MemberUpdate
from ottla.server.coordinator.group_machine import GroupContext
from ottla.server.coordinator.modern_group import (
    JOIN_EPOCH,
    LEAVE_EPOCH,
    STATIC_LEAVE_EPOCH,
    Assignment,
    MemberTimers,
    assignment_of,
)
from ottla.server.coordinator.modern_topics import SubscribedTopics
from ottla.server.coordinator.result import NOTHING, CoordinatorRecord, Instant, Result

if TYPE_CHECKING:
    from typing import TypeVar

    from ottla.server.coordinator.consumer.classic_members import ClassicMembers
    from ottla.server.metadata.delta import MetadataDelta

    R = TypeVar("R")

logger = logging.getLogger(__name__)

#: While a group moves its members come back sooner than `consumer.heartbeat.interval.ms` says: partitions change hands
#: by the heartbeats of both sides, so that the usual interval of 5 s would make a rebalance take 10 s.
MOVING_HEARTBEAT_INTERVAL_MS = 500


class ConsumerGroups:
    """The consumer groups of one shard."""

    def __init__(self, context: GroupContext) -> None:
        self.context = context
        self.topics = SubscribedTopics(context)
        self.sessions = MemberTimers(context.timers, self._expirer("its session expired"))
        self.joins = MemberTimers(context.timers, self._expirer("it did not join in time"))
        self.syncs = MemberTimers(context.timers, self._expirer("it did not sync in time"))
        self.revocations = MemberTimers(context.timers, self._expire_revocation)
        self.regexes = Regexes(context)
        #: For groups that become classic ones.
        self.classic_groups = Rebalances(context.settings, context.groups, context.timers, context.completions)

    @cached_property
    def classic(self) -> ClassicMembers:
        """The classic protocol over these groups; loaded when its first member comes."""
        from ottla.server.coordinator.consumer.classic_members import ClassicMembers

        return ClassicMembers(self)

    def get(self, group_id: str) -> ConsumerGroup | None:
        """The consumer group of that id; None when there is none, or one of another kind."""
        group = self.context.groups.get(group_id)
        return group if isinstance(group, ConsumerGroup) else None

    # -- ConsumerGroupHeartbeat

    def heartbeat(
        self, request: ConsumerGroupHeartbeatRequest, client_id: str, client_host: str, now: Instant
    ) -> Result[ConsumerGroupHeartbeatResponse]:
        """One heartbeat that `check_heartbeat` has passed; ApiError for what Kafka refuses."""
        group_id = request.group_id
        group = self.context.groups.get(group_id)
        if type(group) is ConsumerGroup:
            member = group.members.get(request.member_id)
            if member is not None and _is_idle(group, member, request, client_id, client_host):
                config = self.context.config_of(group_id)
                session_ms = config["consumer.session.timeout.ms"]
                interval_ms = config["consumer.heartbeat.interval.ms"]
                self.sessions.restart(group_id, member.member_id, now.monotonic_ms + session_ms)
                if now.wall_ms < group.assignment_timestamp_ms + interval_ms:
                    interval_ms = min(interval_ms, MOVING_HEARTBEAT_INTERVAL_MS)
                response = ConsumerGroupHeartbeatResponse(
                    member_id=member.member_id, member_epoch=member.member_epoch, heartbeat_interval_ms=interval_ms
                )
                return Result(response)
        if request.member_epoch in (LEAVE_EPOCH, STATIC_LEAVE_EPOCH):
            return self._leave(request, now)
        return self._update(request, client_id, client_host, now)

    def _update(
        self, request: ConsumerGroupHeartbeatRequest, client_id: str, client_host: str, now: Instant
    ) -> Result[ConsumerGroupHeartbeatResponse]:
        records: list[CoordinatorRecord] = []
        joins = request.member_epoch == JOIN_EPOCH
        group = self._group_to_join(request.group_id, records, now) if joins else self._existing(request.group_id)
        self.check_size(group, request.member_id)
        owned = None if request.topic_partitions is None else assignment_of(request.topic_partitions)
        member_id = request.member_id or self.context.new_id()
        before = self._member_to_update(group, request, member_id, owned, records)
        after = before._replace(
            instance_id=_given(request.instance_id, before.instance_id),
            rack_id=_given(request.rack_id, before.rack_id),
            rebalance_timeout_ms=before.rebalance_timeout_ms
            if request.rebalance_timeout_ms == -1
            else request.rebalance_timeout_ms,
            server_assignor=_given(request.server_assignor, before.server_assignor),
            subscribed_topic_names=before.subscribed_topic_names
            if request.subscribed_topic_names is None
            else frozenset(request.subscribed_topic_names),
            subscribed_topic_regex=_given(request.subscribed_topic_regex, before.subscribed_topic_regex),
            client_id=client_id,
            client_host=client_host,
            classic=None,
        )
        update = MemberUpdate(self.context, group, before, after, now, records)
        names_changed = update.write_metadata()
        regex_change = self.regexes.heartbeat(group, before, after, now, records)
        update.subscription_changed = names_changed or regex_change is not RegexChange.NONE
        # A static member may take its old seat in the other protocol: what changed while nobody assigned is seen here.
        is_upgraded = bool(group.members) and group is not self.context.groups.get(group.group_id)
        bump = names_changed or regex_change is RegexChange.RESOLVED or is_upgraded
        if bump or group.needs_metadata_refresh:
            update.refresh_epoch(bump=bump)
        after = self.reconcile(update, owned, now)
        config = self.context.config_of(group.group_id)
        self.sessions.restart(group.group_id, member_id, now.monotonic_ms + config["consumer.session.timeout.ms"])
        interval_ms = config["consumer.heartbeat.interval.ms"]
        is_moving = (
            records
            or after.state is not MemberState.STABLE
            or group.assignment_epoch < group.group_epoch
            or now.wall_ms < group.assignment_timestamp_ms + interval_ms
        )
        response = ConsumerGroupHeartbeatResponse(
            member_id=member_id,
            member_epoch=after.member_epoch,
            heartbeat_interval_ms=min(interval_ms, MOVING_HEARTBEAT_INTERVAL_MS) if is_moving else interval_ms,
        )
        if joins or _is_full(request) or after.assigned != before.assigned:
            response.assignment = _assignment_message(after)
        return Result(response, records)

    def reconcile(self, update: MemberUpdate, owned: Assignment | None, now: Instant) -> ConsumerMember:
        """The member's next step, with the deadline for what it has to give up."""
        changed_from = update.after
        after = update.reconcile(owned)
        if after != changed_from and after.classic is None:
            group_id, member_id = update.group.group_id, after.member_id
            if after.state is MemberState.UNREVOKED_PARTITIONS:
                self.revocations.restart(group_id, member_id, now.monotonic_ms + after.rebalance_timeout_ms)
            else:
                self.revocations.cancel(group_id, member_id)
        return after

    def _existing(self, group_id: str) -> ConsumerGroup:
        group = self.context.groups.get(group_id)
        if group is None:
            raise ApiError(ErrorCode.GROUP_ID_NOT_FOUND, f"Group {group_id} not found.")
        if not isinstance(group, ConsumerGroup):
            raise ApiError(ErrorCode.GROUP_ID_NOT_FOUND, f"Group {group_id} is not a consumer group.")
        return group

    def _group_to_join(self, group_id: str, records: list[CoordinatorRecord], now: Instant) -> ConsumerGroup:
        """The group; a new one, also in place of a classic group, is put among the groups by replay."""
        group = self.context.groups.get(group_id)
        if isinstance(group, ClassicGroup):
            if group.state is not GroupState.EMPTY:
                upgraded = consumer_migration.upgraded(self, group, records)
                for member in upgraded.members.values():
                    self._start_session(upgraded, member, now)
                return upgraded
            records += group.tombstones()
            group = None
        return self.new_group(group_id) if group is None else self._existing(group_id)

    def new_group(self, group_id: str) -> ConsumerGroup:
        """A group that nobody knows yet; its subscriptions are counted apart from those of known groups."""
        return ConsumerGroup(group_id, SubscribedTopics(self.context))

    def check_size(self, group: ConsumerGroup, member_id: str) -> None:
        """ApiError GROUP_MAX_SIZE_REACHED when there is no room for a new member."""
        maximum = self.context.settings.consumer_max_size
        if len(group.members) >= maximum and member_id not in group.members:
            raise ApiError(ErrorCode.GROUP_MAX_SIZE_REACHED, f"The group has {maximum} members, which is the limit.")

    def _member_to_update(
        self,
        group: ConsumerGroup,
        request: ConsumerGroupHeartbeatRequest,
        member_id: str,
        owned: Assignment | None,
        records: list[CoordinatorRecord],
    ) -> ConsumerMember:
        joins = request.member_epoch == JOIN_EPOCH
        if request.instance_id is not None:
            if joins:
                return self.static_seat(group, member_id, request.instance_id, records, is_classic=False)
            member = static_member(group, member_id, request.instance_id)
        elif joins:
            return group.members.get(member_id) or ConsumerMember(member_id)
        else:
            member = group.member(member_id)
        check_epoch(member, request.member_epoch, owned)
        return member

    def static_seat(
        self,
        group: ConsumerGroup,
        member_id: str,
        instance_id: str,
        records: list[CoordinatorRecord],
        *,
        is_classic: bool,
    ) -> ConsumerMember:
        """A static member comes (back): the member in whose place it sits, under its own id now.

        ApiError UNRELEASED_INSTANCE_ID while the last holder has not left and both speak the new protocol.
        """
        holder = group.static_member(instance_id)
        if holder is None:
            return group.members.get(member_id) or ConsumerMember(member_id)
        if not is_classic and holder.classic is None and holder.member_epoch != STATIC_LEAVE_EPOCH:
            raise ApiError(
                ErrorCode.UNRELEASED_INSTANCE_ID,
                f"Instance {instance_id} belongs to member {holder.member_id}, which has not left.",
            )
        seated = holder._replace(member_id=member_id, member_epoch=0, previous_member_epoch=0)
        group_id = group.group_id
        if holder.member_id != member_id:
            records += consumer_records.member_tombstones(group_id, holder.member_id)
            records.append(consumer_records.member_metadata(group_id, seated))
            records.append(consumer_records.target_member(group_id, member_id, group.target_of(holder.member_id)))
        records.append(consumer_records.current_assignment(group_id, seated))
        return seated

    # -- leaving and being fenced

    def _leave(self, request: ConsumerGroupHeartbeatRequest, now: Instant) -> Result[ConsumerGroupHeartbeatResponse]:
        group = self._existing(request.group_id)
        response = ConsumerGroupHeartbeatResponse(member_id=request.member_id, member_epoch=request.member_epoch)
        if request.instance_id is None:
            member = group.member(request.member_id)
        else:
            member = static_member(group, request.member_id, request.instance_id)
            if request.member_epoch == STATIC_LEAVE_EPOCH:
                left = member.left_for_a_while(STATIC_LEAVE_EPOCH)
                return Result(response, [consumer_records.current_assignment(group.group_id, left)])
        return self.remove(group, [member], response, now, "it left")

    def remove(
        self, group: ConsumerGroup, members: list[ConsumerMember], response: R, now: Instant, reason: str
    ) -> Result[R]:
        """Take members out, and start a new epoch for the others; where only classic members are left, the group
        becomes a classic one."""
        if not members:
            return Result(response)
        for member in members:
            logger.info("group %s: member %s is removed: %s", group.group_id, member.member_id, reason)
        if consumer_migration.may_downgrade(self, group, members):
            return consumer_migration.downgraded_by_leaving(self, group, members, response, now)
        records: list[CoordinatorRecord] = []
        for member in members:
            records += consumer_records.member_tombstones(group.group_id, member.member_id)
        removed = [member.subscribed_topic_names for member in members]
        for regex in {member.subscribed_topic_regex for member in members if member.subscribed_topic_regex}:
            leaving = sum(member.subscribed_topic_regex == regex for member in members)
            if group.regex_subscriptions[regex] == leaving:
                records.append(consumer_records.regular_expression_tombstone(group.group_id, regex))
                if regex in group.resolved_regexes:
                    removed.append(group.resolved_regexes[regex].topics)
        epoch = group.group_epoch + 1
        records.append(consumer_records.group_epoch(group.group_id, epoch, group.metadata_hash_after(removed)))
        return Result(response, records)

    def _expirer(self, reason: str) -> Callable[[str, str, Instant], Result[None]]:
        def expire(group_id: str, member_id: str, now: Instant) -> Result[None]:
            group = self.get(group_id)
            member = None if group is None else group.members.get(member_id)
            if group is None or member is None:
                return NOTHING
            return self.remove(group, [member], None, now, reason)

        return expire

    def _expire_revocation(self, group_id: str, member_id: str, now: Instant) -> Result[None]:
        group = self.get(group_id)
        member = None if group is None else group.members.get(member_id)
        if group is None or member is None or member.state is not MemberState.UNREVOKED_PARTITIONS:
            return NOTHING
        return self.remove(group, [member], None, now, "it did not give up its partitions in time")

    def forget_timers(self, group_id: str, member_id: str) -> None:
        """The member is gone."""
        for timers in (self.sessions, self.joins, self.syncs, self.revocations):
            timers.cancel(group_id, member_id)

    # -- the shard's machine (group_machine.GroupMachine)

    def replay(self, record: CoordinatorRecord) -> None:
        """Apply one record of a consumer group."""
        REPLAY[record.key_type](self, record.key, record.value)

    def loaded(self, now: Instant) -> None:
        """Every member gets a whole session timeout to find its new coordinator."""
        self.regexes.topics_created()
        for group in self._groups():
            for member in group.members.values():
                self._start_session(group, member, now)
                if member.state is MemberState.UNREVOKED_PARTITIONS and member.classic is None:
                    deadline_ms = now.monotonic_ms + member.rebalance_timeout_ms
                    self.revocations.restart(group.group_id, member.member_id, deadline_ms)

    def metadata_changed(self, delta: MetadataDelta, now: Instant) -> list[CoordinatorRecord]:
        """Groups look at their topics again with the next heartbeat, which writes the new epoch if there is one."""
        if any(topic.before is None for topic in delta.changed_topics.values()):
            self.regexes.topics_created()
        for group_id in self.topics.groups_of(delta):
            group = self.get(group_id)
            if group is not None:
                group.request_metadata_refresh()
        return []

    def unload(self, code: ErrorCode) -> None:
        """Nothing is parked here: even joins of classic members are answered at once."""

    def _groups(self) -> Iterable[ConsumerGroup]:
        return [group for group in self.context.groups.values() if isinstance(group, ConsumerGroup)]

    def _start_session(self, group: ConsumerGroup, member: ConsumerMember, now: Instant) -> None:
        if member.classic is None:
            session_ms = self.context.config_of(group.group_id)["consumer.session.timeout.ms"]
        else:
            session_ms = member.classic.session_timeout_ms
        self.sessions.restart(group.group_id, member.member_id, now.monotonic_ms + session_ms)

    def group_in_log(self, group_id: str, *, exists: bool) -> ConsumerGroup | None:
        """The group that a record is about; a record that says something makes it."""
        group = self.context.groups.get(group_id)
        if isinstance(group, ConsumerGroup):
            return group
        if not exists:
            return None
        if isinstance(group, ClassicGroup):
            # Offsets came first in the log and made a group of themselves.
            self.classic_groups.discard(group, ErrorCode.UNKNOWN_MEMBER_ID)
        made = self.context.groups[group_id] = ConsumerGroup(group_id, self.topics)
        return made


def _is_idle(
    group: ConsumerGroup,
    member: ConsumerMember,
    request: ConsumerGroupHeartbeatRequest,
    client_id: str,
    client_host: str,
) -> bool:
    """Nothing to tell, nothing to learn: the member has what the target gives it, and the target is of today."""
    epoch = request.member_epoch
    return (
        epoch == member.member_epoch == group.assignment_epoch == group.group_epoch
        and member.state is MemberState.STABLE
        and request.rebalance_timeout_ms == -1
        and request.subscribed_topic_names is None
        and request.subscribed_topic_regex is None
        and request.server_assignor is None
        and request.rack_id in (None, member.rack_id)
        and request.instance_id in (None, member.instance_id)
        and not group.needs_metadata_refresh
        and not group.regex_subscriptions
        and member.client_id == client_id
        and member.client_host == client_host
        and member.classic is None
    )


def _is_full(request: ConsumerGroupHeartbeatRequest) -> bool:
    """The member tells everything, as it does after an error: it gets its whole assignment."""
    return (
        request.rebalance_timeout_ms != -1
        and (request.subscribed_topic_names is not None or request.subscribed_topic_regex is not None)
        and request.topic_partitions is not None
    )


def _given(value: str | None, known: str | None) -> str | None:
    return known if value is None else value


def _assignment_message(member: ConsumerMember) -> AssignmentMessage:
    return AssignmentMessage(
        topic_partitions=[
            ConsumerGroupHeartbeatResponseTopicPartitions(topic_id=topic_id, partitions=sorted(epochs))
            for topic_id, epochs in member.assigned.items()
        ]
    )
