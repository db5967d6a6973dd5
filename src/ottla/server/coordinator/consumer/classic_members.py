"""The classic protocol over a consumer group: members of old clients in a group that has been migrated (KIP-848).

They join, sync and beat as ever, and never lead: the coordinator assigns. A JoinGroup does what a heartbeat of the new
protocol does, and is answered at once; the member epoch is the generation. A change of the target shows to a member as
REBALANCE_IN_PROGRESS, upon which it joins again within its rebalance timeout.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.errors import ProtocolError
from ottla.protocol.messages.heartbeat import HeartbeatRequest
from ottla.protocol.messages.join_group import JoinGroupResponse
from ottla.protocol.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse, MemberIdentity, MemberResponse
from ottla.protocol.messages.sync_group import SyncGroupRequest, SyncGroupResponse
from ottla.server.coordinator.append_errors import append_error
from ottla.server.coordinator.classic.calls import JoinCall, PendingSync
from ottla.server.coordinator.classic.group import CONSUMER_PROTOCOL_TYPE
from ottla.server.coordinator.consumer import migration as consumer_migration
from ottla.server.coordinator.consumer.checks import static_member
from ottla.server.coordinator.consumer.group import ConsumerGroup
from ottla.server.coordinator.consumer.member import ClassicMembership, ConsumerMember, MemberState
from ottla.server.coordinator.consumer.regexes import RegexChange
from ottla.server.coordinator.consumer.update import MemberUpdate
from ottla.server.coordinator.result import NOTHING, CoordinatorRecord, Instant, Result

if TYPE_CHECKING:
    from ottla.server.coordinator.consumer.groups import ConsumerGroups

_FIRST_JOIN_VERSION_WITH_MEMBER_ID_REQUIRED = 4


class ClassicMembers:
    """JoinGroup, SyncGroup, Heartbeat and LeaveGroup of the classic members of consumer groups."""

    def __init__(self, groups: ConsumerGroups) -> None:
        self._groups = groups
        self._context = groups.context

    # -- JoinGroup

    def join(self, group: ConsumerGroup, call: JoinCall, now: Instant) -> Result[None]:
        """Join, or join again: settled into ``call.pending`` when the records are stored."""
        try:
            return self._join(group, call, now)
        except ApiError as error:
            self._context.completions.append((call.pending, call.pending.refusal(error.code)))
            return NOTHING

    def _join(self, group: ConsumerGroup, call: JoinCall, now: Instant) -> Result[None]:
        request = call.request
        is_new = not request.member_id
        member_id = request.member_id or self._context.new_id()
        instance_id = request.group_instance_id
        if self._context.settings.consumer_migration_policy == "disabled":
            raise ApiError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
        self._groups.check_size(group, member_id)
        if not group.supports_protocols(request.protocol_type, {name for name, _ in call.protocols}):
            raise ApiError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
        try:
            subscription = consumer_migration.subscription_of(call.protocols[0][1])
        except ProtocolError:
            raise ApiError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL) from None
        if is_new and instance_id is None and call.version >= _FIRST_JOIN_VERSION_WITH_MEMBER_ID_REQUIRED:
            response = call.pending.refusal(ErrorCode.MEMBER_ID_REQUIRED)
            response.member_id = member_id
            self._context.completions.append((call.pending, response))
            return NOTHING
        records: list[CoordinatorRecord] = []
        holder = group.static_member(instance_id)
        if instance_id is None:
            before = group.members.get(member_id) or ConsumerMember(member_id)
        elif is_new:
            before = self._groups.static_seat(group, member_id, instance_id, records, is_classic=True)
        else:
            before = static_member(group, member_id, instance_id)
        after = before._replace(
            instance_id=before.instance_id if instance_id is None else instance_id,
            rack_id=subscription.rack_id or before.rack_id,
            rebalance_timeout_ms=call.rebalance_timeout_ms,
            subscribed_topic_names=frozenset(subscription.topics),
            subscribed_topic_regex="",
            client_id=call.client_id,
            client_host=call.client_host,
            classic=ClassicMembership(request.session_timeout_ms, call.protocols),
        )
        update = MemberUpdate(self._context, group, before, after, now, records)
        names_changed = update.write_metadata()
        self._groups.regexes.may_describe = call.may_describe
        regex_change = self._groups.regexes.heartbeat(group, before, after, now, records)
        update.subscription_changed = names_changed or regex_change is not RegexChange.NONE
        if update.subscription_changed or group.needs_metadata_refresh:
            update.refresh_epoch(bump=update.subscription_changed)
        owned = consumer_migration.owned_partitions(subscription, self._context.image)
        if (
            holder is not None
            and holder.classic is None
            and consumer_migration.may_downgrade(self._groups, group, [holder], joining=1)
        ):
            return self._downgrade(update, holder, call, now)
        self._groups.reconcile(update, owned, now)
        return self._answer(update, call, now)

    def _answer(self, update: MemberUpdate, call: JoinCall, now: Instant) -> Result[None]:
        group_id, member = update.group.group_id, update.after

        def appended(error: ErrorCode | None) -> None:
            if error is not None:
                self._settle_join(call, member, append_error(error))
                return
            self._groups.joins.cancel(group_id, member.member_id)
            session_ms, rebalance_ms = call.request.session_timeout_ms, call.rebalance_timeout_ms
            self._groups.sessions.restart(group_id, member.member_id, now.monotonic_ms + session_ms)
            self._groups.syncs.restart(group_id, member.member_id, now.monotonic_ms + rebalance_ms)
            self._settle_join(call, member, ErrorCode.NONE)

        return self._after(update.records, appended)

    def _downgrade(self, update: MemberUpdate, holder: ConsumerMember, call: JoinCall, now: Instant) -> Result[None]:
        """The seat of the last member of the new protocol is taken by a classic member: a classic group it is."""
        group = update.group
        records, stayed = consumer_migration.downgraded_by_joining(
            self._groups, group, update.after, holder.member_id, now
        )

        def appended(error: ErrorCode | None) -> None:
            if error is None:
                consumer_migration.taken_over(self._groups, group, stayed, now)
            member = update.after.at_epoch(group.group_epoch)  # the generation of the classic group
            self._settle_join(call, member, ErrorCode.NONE if error is None else append_error(error))

        return self._after(update.records + records, appended)

    def _after(self, records: list[CoordinatorRecord], appended: Callable[[ErrorCode | None], None]) -> Result[None]:
        if not records:
            appended(None)
            return NOTHING
        return Result(None, records, appended=appended)

    def _settle_join(self, call: JoinCall, member: ConsumerMember, code: ErrorCode) -> None:
        if code is not ErrorCode.NONE:
            self._context.completions.append((call.pending, call.pending.refusal(code)))
            return
        response = JoinGroupResponse(
            generation_id=member.member_epoch,
            protocol_type=CONSUMER_PROTOCOL_TYPE,
            protocol_name=call.protocols[0][0],
            member_id=member.member_id,
        )
        self._context.completions.append((call.pending, response))

    # -- SyncGroup

    def sync(self, group: ConsumerGroup, request: SyncGroupRequest, pending: PendingSync, now: Instant) -> Result[None]:
        """The member's assignment of its epoch, at once."""
        try:
            response = self._sync(group, request, now)
        except ApiError as error:
            response = pending.refusal(error.code)
        self._context.completions.append((pending, response))
        return NOTHING

    def _sync(self, group: ConsumerGroup, request: SyncGroupRequest, now: Instant) -> SyncGroupResponse:
        member, membership = _classic_member(group, request.member_id, request.group_instance_id, request.generation_id)
        if request.protocol_type not in (None, CONSUMER_PROTOCOL_TYPE) or request.protocol_name not in (
            None,
            membership.protocols[0][0],
        ):
            raise ApiError(ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
        group_id, member_id = group.group_id, member.member_id
        if group.assignment_epoch > member.member_epoch and member.state is not MemberState.UNREVOKED_PARTITIONS:
            self._groups.joins.start_if_absent(group_id, member_id, now.monotonic_ms + member.rebalance_timeout_ms)
            raise ApiError(ErrorCode.REBALANCE_IN_PROGRESS)
        self._groups.syncs.cancel(group_id, member_id)
        self._groups.sessions.restart(group_id, member_id, now.monotonic_ms + membership.session_timeout_ms)
        assigned = {topic_id: tuple(sorted(epochs)) for topic_id, epochs in member.assigned.items()}
        return SyncGroupResponse(
            protocol_type=request.protocol_type,
            protocol_name=request.protocol_name,
            assignment=consumer_migration.assignment_bytes(
                assigned, membership.subscription_version, self._context.image
            ),
        )

    # -- Heartbeat, LeaveGroup

    def heartbeat(self, group: ConsumerGroup, request: HeartbeatRequest, now_ms: int) -> ErrorCode:
        """Keep the member alive; REBALANCE_IN_PROGRESS when it should join again, to give up or to get something."""
        try:
            member, membership = _classic_member(
                group, request.member_id, request.group_instance_id, request.generation_id
            )
        except ApiError as error:
            return error.code
        group_id, member_id = group.group_id, member.member_id
        self._groups.sessions.restart(group_id, member_id, now_ms + membership.session_timeout_ms)
        has_to_join = (
            member.member_epoch < group.assignment_epoch
            or member.state is MemberState.UNREVOKED_PARTITIONS
            or (member.state is MemberState.UNRELEASED_PARTITIONS and not group.waits_for_others(member))
        )
        if not has_to_join:
            return ErrorCode.NONE
        self._groups.joins.start_if_absent(group_id, member_id, now_ms + member.rebalance_timeout_ms)
        return ErrorCode.REBALANCE_IN_PROGRESS

    def leave(self, group: ConsumerGroup, request: LeaveGroupRequest, now: Instant) -> Result[LeaveGroupResponse]:
        """Remove members of either protocol: by member id, or by instance id (an administrator gives that alone)."""
        leaving: dict[str, ConsumerMember] = {}
        answers = []
        for identity in request.members:
            code = ErrorCode.NONE
            try:
                member = _member_to_leave(group, identity)
                leaving[member.member_id] = member
            except ApiError as error:
                code = error.code
            answers.append(
                MemberResponse(
                    member_id=identity.member_id, group_instance_id=identity.group_instance_id, error_code=code
                )
            )
        response = LeaveGroupResponse(members=answers)
        return self._groups.remove(group, list(leaving.values()), response, now, "it left")


def _classic_member(
    group: ConsumerGroup, member_id: str, instance_id: str | None, generation_id: int
) -> tuple[ConsumerMember, ClassicMembership]:
    """The member, which speaks the classic protocol and is in that generation; ApiError otherwise."""
    member = group.member(member_id) if instance_id is None else static_member(group, member_id, instance_id)
    if member.classic is None:
        raise ApiError(ErrorCode.UNKNOWN_MEMBER_ID)
    if member.member_epoch != generation_id:
        raise ApiError(ErrorCode.ILLEGAL_GENERATION)
    return member, member.classic


def _member_to_leave(group: ConsumerGroup, identity: MemberIdentity) -> ConsumerMember:
    if identity.group_instance_id is None:
        return group.member(identity.member_id)
    if identity.member_id:
        return static_member(group, identity.member_id, identity.group_instance_id)
    member = group.static_member(identity.group_instance_id)
    if member is None:
        raise ApiError(ErrorCode.UNKNOWN_MEMBER_ID)
    return member
