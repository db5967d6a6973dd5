"""JoinGroup, SyncGroup, Heartbeat and LeaveGroup over classic groups: the commands of the state machine.

Every command takes the request, the time and (join, sync) a ``Pending`` that it settles now or parks. Commands change
the ephemeral state at once; what has to survive a restart is returned as records.

Versions: JoinGroup 0-9, SyncGroup 0-5, Heartbeat 0-4, LeaveGroup 0-5. KIPs: 62 (rebalance timeout), 134 (initial
delay), 345 (static members), 394 (member id required), 559 (protocol in sync), 800 (reason), 814 (skip assignment).
"""

from __future__ import annotations

from collections.abc import Callable

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.heartbeat import HeartbeatRequest
from ottla.protocol.messages.join_group import JoinGroupResponse
from ottla.protocol.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse, MemberIdentity, MemberResponse
from ottla.protocol.messages.sync_group import SyncGroupRequest, SyncGroupResponse
from ottla.server.coordinator import group_records
from ottla.server.coordinator.append_errors import append_error
from ottla.server.coordinator.classic.calls import JoinCall, PendingJoin, PendingSync, refused_sync
from ottla.server.coordinator.classic.group import ClassicGroup, GroupState, Member
from ottla.server.coordinator.classic.rebalance import Rebalances
from ottla.server.coordinator.group import Group
from ottla.server.coordinator.result import NOTHING, Completions, Instant, Result
from ottla.server.coordinator.settings import GroupSettings
from ottla.server.coordinator.timers import Timers

_MAY_REBALANCE = (GroupState.EMPTY, GroupState.COMPLETING_REBALANCE, GroupState.STABLE)


class ClassicGroups(Rebalances):
    """The commands of classic members. ``new_id`` gives a fresh uuid as text."""

    def __init__(
        self,
        settings: GroupSettings,
        groups: dict[str, Group],
        timers: Timers,
        completions: Completions,
        new_id: Callable[[], str],
    ) -> None:
        super().__init__(settings, groups, timers, completions)
        self._new_id = new_id

    # -- JoinGroup

    def join(self, call: JoinCall, now: Instant) -> Result[None]:
        """Join a group; the answer is settled into ``call.pending``, mostly when the generation is complete."""
        request = call.request
        group = self.get(request.group_id)
        if group is None:
            if request.group_id in self._all:
                return self._refuse(call, ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
            if request.member_id:
                return self._refuse(call, ErrorCode.UNKNOWN_MEMBER_ID)
            return self._join_created(call, now)
        if not self._accepts(group, request.member_id):
            group.forget_pending(request.member_id)
            if (member := group.members.get(request.member_id)) is not None:
                group.remove(member, ErrorCode.GROUP_MAX_SIZE_REACHED)
            self._refuse(call, ErrorCode.GROUP_MAX_SIZE_REACHED, member_id="")
            return self._maybe_complete_join(group, now)
        if not group.supports_protocols(request.protocol_type, (name for name, _ in call.protocols)):
            return self._refuse(call, ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
        if request.member_id:
            return self._join_known(group, call, now)
        return self._join_new(group, call, now)

    def join_instead(self, empty: Group, call: JoinCall, now: Instant) -> Result[None]:
        """Join a classic group that takes the place of an empty group of another kind."""
        request = call.request
        if request.member_id:
            return self._refuse(call, ErrorCode.UNKNOWN_MEMBER_ID)
        if not request.protocol_type or not call.protocols:
            return self._refuse(call, ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
        group_id = request.group_id
        new = group_records.new_group_metadata(ClassicGroup(group_id, self._completions, now.wall_ms))

        def appended(error: ErrorCode | None) -> None:
            group = self.get(group_id)
            if error is not None or group is None:
                self._refuse(call, append_error(error or ErrorCode.UNKNOWN_SERVER_ERROR))
            else:
                self._join_new(group, call, now)

        return Result(None, [*empty.tombstones(), new], appended=appended)

    def _join_created(self, call: JoinCall, now: Instant) -> Result[None]:
        """The group's first member. The group itself is written down, so that it is listed after a restart too."""
        if not call.request.protocol_type or not call.protocols:
            return self._refuse(call, ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
        group = self.create(call.request.group_id, now.wall_ms)

        def appended(error: ErrorCode | None) -> None:
            if error is None:
                self._join_new(group, call, now)
            else:
                self.discard(group, append_error(error))
                self._refuse(call, append_error(error))

        return Result(None, [group_records.new_group_metadata(group)], replay=False, appended=appended)

    def _join_new(self, group: ClassicGroup, call: JoinCall, now: Instant) -> Result[None]:
        instance_id = call.request.group_instance_id
        member_id = f"{call.client_id if instance_id is None else instance_id}-{self._new_id()}"
        if instance_id is None:
            if call.version >= 4:
                # KIP-394: the id goes out first, so that a client which gives up leaves no unknown member behind.
                timeout_ms = call.request.session_timeout_ms
                group.pending_members[member_id] = self._timers.schedule(
                    now.monotonic_ms + timeout_ms, lambda now: self._expire_pending(group, member_id, now)
                )
                return self._refuse(call, ErrorCode.MEMBER_ID_REQUIRED, member_id=member_id)
            return self._add_member(group, call, member_id, now)
        existing_id = group.static_members.get(instance_id)
        if existing_id is None:
            return self._add_member(group, call, member_id, now)
        return self._replace_static(group, group.members[existing_id], call, member_id, now)

    def _join_known(self, group: ClassicGroup, call: JoinCall, now: Instant) -> Result[None]:
        request = call.request
        if request.member_id in group.pending_members and request.group_instance_id is None:
            return self._add_member(group, call, request.member_id, now)
        try:
            member = group.validate_member(request.member_id, request.group_instance_id)
        except ApiError as error:
            return self._refuse(call, error.code)
        if group.state is GroupState.PREPARING_REBALANCE:
            return self._update_member(group, member, call, now)
        leads = group.is_leader(member.member_id)
        same = member.protocols == call.protocols
        if group.state is GroupState.COMPLETING_REBALANCE and same:
            # It may have missed the answer to its first join: tell it the generation again.
            self._settle(call.pending, group.join_response(member.member_id, with_members=leads))
            return NOTHING
        if group.state is GroupState.STABLE and same and not leads:
            # A follower without news goes on to SyncGroup; the leader may know of changed topics, so it rebalances.
            self._settle(call.pending, group.join_response(member.member_id, with_members=False))
            return NOTHING
        return self._update_member(group, member, call, now)

    def _accepts(self, group: ClassicGroup, member_id: str) -> bool:
        """Is there room (group.max.size)? While a rebalance is prepared, those who wait already count."""
        if group.state is GroupState.EMPTY:
            return True
        member = group.members.get(member_id)
        if group.state is GroupState.PREPARING_REBALANCE:
            waits = member is not None and member.awaiting_join is not None
            return waits or group.awaiting_join_count < self.settings.max_size
        return member is not None or len(group.members) < self.settings.max_size

    def _add_member(self, group: ClassicGroup, call: JoinCall, member_id: str, now: Instant) -> Result[None]:
        request = call.request
        member = Member(
            member_id,
            request.group_instance_id,
            call.client_id,
            call.client_host,
            call.rebalance_timeout_ms,
            request.session_timeout_ms,
            call.protocols,
        )
        member.is_new = True
        if group.state is GroupState.PREPARING_REBALANCE and group.previous_state is GroupState.EMPTY:
            group.new_member_added = True
        group.add(member, call.pending, request.protocol_type)
        self._restart_session(group, member, self.settings.new_member_join_timeout_ms, now.monotonic_ms)
        return self._rebalance_or_complete_join(group, now, f"new member {member_id}")

    def _update_member(self, group: ClassicGroup, member: Member, call: JoinCall, now: Instant) -> Result[None]:
        member.protocols = call.protocols
        member.rebalance_timeout_ms = call.rebalance_timeout_ms
        member.session_timeout_ms = call.request.session_timeout_ms
        group.park_join(member, call.pending)
        return self._rebalance_or_complete_join(group, now, f"member {member.member_id} joins again")

    def _replace_static(
        self, group: ClassicGroup, member: Member, call: JoinCall, member_id: str, now: Instant
    ) -> Result[None]:
        """A static member came back without its member id: it takes over its own seat (KIP-345)."""
        old_leader_id = group.leader_id
        before = (member.member_id, member.protocols, member.rebalance_timeout_ms, member.session_timeout_ms)
        group.replace_static(member, member_id)
        member.protocols = call.protocols
        member.rebalance_timeout_ms = call.rebalance_timeout_ms
        member.session_timeout_ms = call.request.session_timeout_ms
        self._restart_session(group, member, member.session_timeout_ms, now.monotonic_ms)
        reason = f"static member {call.request.group_instance_id} joins again"
        if group.state is GroupState.PREPARING_REBALANCE:
            group.park_join(member, call.pending)
            return self._maybe_complete_join(group, now)
        if group.state is not GroupState.STABLE or group.select_protocol() != group.protocol_name:
            group.park_join(member, call.pending)
            return self._prepare_rebalance(group, now, reason)

        def appended(error: ErrorCode | None) -> None:
            if error is not None:
                group.replace_static(member, before[0])
                _, member.protocols, member.rebalance_timeout_ms, member.session_timeout_ms = before
                self._settle(call.pending, JoinGroupResponse(error_code=append_error(error)))
            elif call.version >= 9:
                leads = group.is_leader(member_id)
                # KIP-814: it learns that it leads, and that nobody waits for its assignment.
                self._settle(call.pending, group.join_response(member_id, with_members=leads, skip_assignment=leads))
            else:
                # Old clients would assign (and lose the assignment) if they learnt that they lead: name the old id.
                response = group.join_response(member_id, with_members=False)
                response.leader = old_leader_id or ""
                self._settle(call.pending, response)

        assignments = {key: value.assignment for key, value in group.members.items()}
        return Result(None, [group_records.group_metadata(group, assignments)], replay=False, appended=appended)

    def _rebalance_or_complete_join(self, group: ClassicGroup, now: Instant, reason: str) -> Result[None]:
        if group.state in _MAY_REBALANCE:
            return self._prepare_rebalance(group, now, reason)
        return self._maybe_complete_join(group, now)

    def _expire_pending(self, group: ClassicGroup, member_id: str, now: Instant) -> Result[None]:
        group.pending_members.pop(member_id, None)
        return self._maybe_complete_join(group, now)

    # -- SyncGroup

    def sync(self, request: SyncGroupRequest, pending: PendingSync, now: Instant) -> Result[None]:
        """Hand in (leader) and wait for (all) the assignment of this generation."""
        group = self.get(request.group_id)
        if group is None:
            return self._refuse_sync(pending, ErrorCode.UNKNOWN_MEMBER_ID)
        try:
            member = group.validate_member(request.member_id, request.group_instance_id)
        except ApiError as error:
            return self._refuse_sync(pending, error.code)
        if request.generation_id != group.generation_id:
            return self._refuse_sync(pending, ErrorCode.ILLEGAL_GENERATION)
        if (request.protocol_type is not None and request.protocol_type != group.protocol_type) or (
            request.protocol_name is not None and request.protocol_name != group.protocol_name
        ):
            return self._refuse_sync(pending, ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
        if group.state is GroupState.PREPARING_REBALANCE:
            return self._refuse_sync(pending, ErrorCode.REBALANCE_IN_PROGRESS)
        self._synced(group, member.member_id)
        if group.state is GroupState.STABLE:
            self._settle(pending, group.sync_response(member))
            return NOTHING
        group.park_sync(member, pending)
        if not group.is_leader(member.member_id):
            return NOTHING
        handed_in = {item.member_id: bytes(item.assignment) for item in request.assignments}
        assignments = {member_id: handed_in.get(member_id, b"") for member_id in group.members}

        def appended(error: ErrorCode | None) -> None:
            self._assigned(group, assignments, error, now)

        return Result(None, [group_records.group_metadata(group, assignments)], replay=False, appended=appended)

    def _assigned(
        self, group: ClassicGroup, assignments: dict[str, bytes], error: ErrorCode | None, now: Instant
    ) -> None:
        """The leader's assignment is in the log, or was refused: then everybody joins again."""
        for member in group.members.values():
            member.assignment = assignments[member.member_id] if error is None else b""
            if member.awaiting_sync is not None:
                response = group.sync_response(member) if error is None else refused_sync(append_error(error))
                group.settle_sync(member, response)
                self._restart_session(group, member, member.session_timeout_ms, now.monotonic_ms)
        if error is None:
            group.transition_to(GroupState.STABLE, now.wall_ms)
        else:
            self._prepare_rebalance(group, now, f"the assignment could not be stored: {error.name}")

    def _synced(self, group: ClassicGroup, member_id: str) -> None:
        group.pending_sync.discard(member_id)
        if not group.pending_sync:
            self._cancel_sync_timer(group)

    # -- Heartbeat, LeaveGroup

    def heartbeat(self, request: HeartbeatRequest, now_ms: int) -> ErrorCode:
        """Keep a member alive; ``now_ms`` is monotonic. The answer tells whether it has to join again."""
        group = self.get(request.group_id)
        if group is None:
            return ErrorCode.UNKNOWN_MEMBER_ID
        member = group.members.get(request.member_id)
        if member is None or request.group_instance_id is not None:
            try:
                member = group.validate_member(request.member_id, request.group_instance_id)
            except ApiError as error:
                return error.code
        if request.generation_id != group.generation_id:
            return ErrorCode.ILLEGAL_GENERATION
        self._restart_session(group, member, member.session_timeout_ms, now_ms)
        if group.state is GroupState.PREPARING_REBALANCE:
            return ErrorCode.REBALANCE_IN_PROGRESS
        return ErrorCode.NONE

    def leave(self, request: LeaveGroupRequest, now: Instant) -> Result[LeaveGroupResponse]:
        """Remove members: by member id, or (an administrator, version 3) by instance id alone."""
        group = self.get(request.group_id)
        size = 0 if group is None else len(group.members)
        answers = []
        for identity in request.members:
            code = ErrorCode.UNKNOWN_MEMBER_ID if group is None else self._leave_one(group, identity)
            answers.append(
                MemberResponse(
                    member_id=identity.member_id, group_instance_id=identity.group_instance_id, error_code=code
                )
            )
        response = LeaveGroupResponse(members=answers)
        if group is None:
            return Result(response)
        if len(group.members) < size:
            result = self._members_gone(group, now, f"{size - len(group.members)} members left")
        else:
            # An id that was handed out but never used blocks a rebalance, and nothing else.
            result = self._maybe_complete_join(group, now)
        return Result(response, result.records, replay=result.replay, appended=result.appended)

    def _leave_one(self, group: ClassicGroup, identity: MemberIdentity) -> ErrorCode:
        if not identity.member_id:
            member_id = group.static_members.get(identity.group_instance_id or "")
            if member_id is None:
                return ErrorCode.UNKNOWN_MEMBER_ID
            group.remove(group.members[member_id])
            return ErrorCode.NONE
        if group.forget_pending(identity.member_id):
            return ErrorCode.NONE
        try:
            group.remove(group.validate_member(identity.member_id, identity.group_instance_id))
        except ApiError as error:
            return error.code
        return ErrorCode.NONE

    # -- answers

    def _settle(self, pending: PendingJoin | PendingSync, response: JoinGroupResponse | SyncGroupResponse) -> None:
        self._completions.append((pending, response))

    def _refuse(self, call: JoinCall, code: ErrorCode, *, member_id: str | None = None) -> Result[None]:
        response = call.pending.refusal(code)
        if member_id is not None:
            response.member_id = member_id
        self._settle(call.pending, response)
        return NOTHING

    def _refuse_sync(self, pending: PendingSync, code: ErrorCode) -> Result[None]:
        self._settle(pending, pending.refusal(code))
        return NOTHING
