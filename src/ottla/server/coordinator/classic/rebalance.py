"""How classic groups rebalance: who is waited for and how long, when a generation begins, what silence means.

The commands of members (`membership`) end here; so does what time does. It keeps the groups of one shard as well.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from ottla.core.errors import ErrorCode
from ottla.server.coordinator import group_records
from ottla.server.coordinator.classic.calls import refused_sync
from ottla.server.coordinator.classic.group import ClassicGroup, GroupState, Member
from ottla.server.coordinator.group import Group
from ottla.server.coordinator.result import NOTHING, Completions, Instant, Result
from ottla.server.coordinator.settings import GroupSettings
from ottla.server.coordinator.timers import Timers

logger = logging.getLogger(__name__)

_SHORTEST_WAIT_FOR_ABSENT_MS = 1_000


class Rebalances:
    """The classic groups of one shard, from one generation to the next."""

    def __init__(
        self,
        settings: GroupSettings,
        groups: dict[str, Group],
        timers: Timers,
        completions: Completions,
    ) -> None:
        self.settings = settings
        self._all = groups
        self._timers = timers
        self._completions = completions
        #: Generations begun, for metrics.
        self.completed_count = 0

    # -- groups

    def create(self, group_id: str, wall_ms: int | None) -> ClassicGroup:
        """A new, empty group."""
        group = ClassicGroup(group_id, self._completions, wall_ms)
        self._all[group_id] = group
        return group

    def get(self, group_id: str) -> ClassicGroup | None:
        """The classic group of that id; None when there is none, or one of another kind."""
        group = self._all.get(group_id)
        return group if isinstance(group, ClassicGroup) else None

    @property
    def groups(self) -> dict[str, ClassicGroup]:
        """The classic groups among the shard's groups, by id."""
        return {group_id: group for group_id, group in self._all.items() if isinstance(group, ClassicGroup)}

    def discard(self, group: ClassicGroup, code: ErrorCode) -> None:
        """Forget a group: cancel its timers and refuse what is parked."""
        self._all.pop(group.group_id, None)
        for member in list(group.members.values()):
            group.remove(member, code)
        for member_id in list(group.pending_members):
            group.forget_pending(member_id)
        for timer in (group.join_timer, group.sync_timer):
            if timer is not None:
                timer.cancel()
        group.state = GroupState.DEAD

    def resume(self, group: ClassicGroup, now: Instant, rebalance_reason: str) -> None:
        """The group was a consumer group a moment ago: its sessions start, and it rebalances."""
        for member in group.members.values():
            self._restart_session(group, member, member.session_timeout_ms, now.monotonic_ms)
        self._prepare_rebalance(group, now, rebalance_reason)

    def start_sessions(self, now: Instant) -> None:
        """After loading: every member gets a whole session timeout to find its new coordinator."""
        for group in self.groups.values():
            for member in group.members.values():
                self._restart_session(group, member, member.session_timeout_ms, now.monotonic_ms)
            if group.members and group.leader_id is None:
                self._prepare_rebalance(group, now, "nobody leads it yet")

    def member_seen(self, group_id: str, member_id: str, now_ms: int) -> None:
        """Anything a member does counts as a heartbeat."""
        group = self.get(group_id)
        member = None if group is None else group.members.get(member_id)
        if group is not None and member is not None:
            self._restart_session(group, member, member.session_timeout_ms, now_ms)

    # -- from one generation to the next

    def _prepare_rebalance(self, group: ClassicGroup, now: Instant, reason: str) -> Result[None]:
        for member in group.members.values():
            if group.state is GroupState.COMPLETING_REBALANCE:
                member.assignment = b""
            if member.awaiting_sync is not None:
                group.settle_sync(member, refused_sync(ErrorCode.REBALANCE_IN_PROGRESS))
                self._restart_session(group, member, member.session_timeout_ms, now.monotonic_ms)
        self._cancel_sync_timer(group)
        is_initial = group.state is GroupState.EMPTY
        logger.info("group %s: rebalance from generation %d: %s", group.group_id, group.generation_id, reason)
        group.transition_to(GroupState.PREPARING_REBALANCE, now.wall_ms)
        if is_initial:
            delay_ms = self.settings.initial_rebalance_delay_ms
            self._wait_for_first_members(group, delay_ms, max(group.rebalance_timeout_ms - delay_ms, 0), now)
            return NOTHING
        if group.all_members_joined:
            return self._complete_join(group, now)
        self._schedule_join(group, now)
        return NOTHING

    def _wait_for_first_members(self, group: ClassicGroup, delay_ms: int, remaining_ms: int, now: Instant) -> None:
        """KIP-134: give the members of a starting application time to come, as long as new ones keep coming."""

        def waited(now: Instant) -> Result[None]:
            if group.new_member_added and remaining_ms:
                group.new_member_added = False
                next_delay_ms = min(self.settings.initial_rebalance_delay_ms, remaining_ms)
                self._wait_for_first_members(group, next_delay_ms, max(remaining_ms - delay_ms, 0), now)
                return NOTHING
            return self._complete_join(group, now)

        group.join_timer = self._timers.schedule(now.monotonic_ms + delay_ms, waited)

    def _schedule_join(self, group: ClassicGroup, now: Instant, *, shortest_ms: int = 0) -> None:
        if group.join_timer is not None:
            group.join_timer.cancel()
        wait_ms = max(group.rebalance_timeout_ms, shortest_ms)
        group.join_timer = self._timers.schedule(
            now.monotonic_ms + wait_ms, lambda now: self._complete_join(group, now)
        )

    def _maybe_complete_join(self, group: ClassicGroup, now: Instant) -> Result[None]:
        is_initial = group.previous_state is GroupState.EMPTY
        if group.state is GroupState.PREPARING_REBALANCE and group.all_members_joined and not is_initial:
            return self._complete_join(group, now)
        return NOTHING

    def _complete_join(self, group: ClassicGroup, now: Instant) -> Result[None]:
        """The time to join is over: start the next generation with those who came."""
        if group.join_timer is not None:
            group.join_timer.cancel()
            group.join_timer = None
        group.new_member_added = False
        for member in list(group.members.values()):
            if member.awaiting_join is None and member.group_instance_id is None:
                group.remove(member)
        if group.members and not group.elect_joined_leader():
            # Only absent static members are left: their seats stay until their sessions end. The time to join is what
            # they have asked for, and may be none at all: look again, but not again and again.
            self._schedule_join(group, now, shortest_ms=_SHORTEST_WAIT_FOR_ABSENT_MS)
            return NOTHING
        group.begin_generation(now.wall_ms)
        self.completed_count += 1
        logger.info("group %s: generation %d, members: %d", group.group_id, group.generation_id, len(group.members))
        if not group.members:
            return Result(None, [group_records.group_metadata(group, {})], replay=False, appended=_log_refusal(group))
        for member in group.members.values():
            response = group.join_response(member.member_id, with_members=group.is_leader(member.member_id))
            group.settle_join(member, response)
            self._restart_session(group, member, member.session_timeout_ms, now.monotonic_ms)
            member.is_new = False
            group.pending_sync.add(member.member_id)
        generation_id = group.generation_id
        group.sync_timer = self._timers.schedule(
            now.monotonic_ms + group.rebalance_timeout_ms,
            lambda now: self._expire_sync(group, generation_id, now),
        )
        return NOTHING

    def _members_gone(self, group: ClassicGroup, now: Instant, reason: str) -> Result[None]:
        if group.state in (GroupState.STABLE, GroupState.COMPLETING_REBALANCE):
            return self._prepare_rebalance(group, now, reason)
        return self._maybe_complete_join(group, now)

    # -- what timers do

    def _expire_session(self, group: ClassicGroup, member: Member, now: Instant) -> Result[None]:
        if not member.is_new and (member.awaiting_join is not None or member.awaiting_sync is not None):
            # Parked on us: its connection is muted, so it cannot heartbeat. The answer will start the session again.
            self._restart_session(group, member, member.session_timeout_ms, now.monotonic_ms)
            return NOTHING
        group.remove(member)
        return self._members_gone(group, now, f"session of {member.member_id} expired")

    def _expire_sync(self, group: ClassicGroup, generation_id: int, now: Instant) -> Result[None]:
        group.sync_timer = None
        if group.generation_id != generation_id or not group.pending_sync:
            return NOTHING
        missing = [group.members[member_id] for member_id in group.pending_sync]
        for member in missing:
            group.remove(member)
        return self._prepare_rebalance(group, now, f"{len(missing)} members did not sync in time")

    def _restart_session(self, group: ClassicGroup, member: Member, timeout_ms: int, now_ms: int) -> None:
        timer = member.session_timer
        if timer is not None and timer.action is not None:
            self._timers.move(timer, now_ms + timeout_ms)
        else:
            member.session_timer = self._timers.schedule(
                now_ms + timeout_ms, lambda now: self._expire_session(group, member, now)
            )

    def _cancel_sync_timer(self, group: ClassicGroup) -> None:
        if group.sync_timer is not None:
            group.sync_timer.cancel()
            group.sync_timer = None


def _log_refusal(group: ClassicGroup) -> Callable[[ErrorCode | None], None]:
    """An empty generation that cannot be stored is no loss: a restart finds the old one, whose members time out."""

    def appended(error: ErrorCode | None) -> None:
        if error is not None:
            logger.warning("group %s: empty generation not stored: %s", group.group_id, error.name)

    return appended
