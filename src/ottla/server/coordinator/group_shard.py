"""The state of one partition of ``__consumer_offsets``: classic groups and offsets, as commands and replay.

Also the commands that look at both: describing, listing and deleting groups, and what retention removes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.describe_groups import DescribedGroup, DescribedGroupMember
from ottla.protocol.messages.group_records import GroupMetadataValue
from ottla.protocol.messages.list_groups import ListedGroup
from ottla.server.coordinator import group_records
from ottla.server.coordinator.classic_group import ClassicGroup, GroupState
from ottla.server.coordinator.classic_membership import ClassicGroups
from ottla.server.coordinator.offsets import Offsets
from ottla.server.coordinator.result import Completions, CoordinatorRecord, Instant, Result
from ottla.server.coordinator.settings import GroupSettings
from ottla.server.coordinator.timers import Timers

GROUP_TYPE_CLASSIC = "classic"


class GroupShard:
    """One shard of the group coordinator. ``new_id`` gives fresh uuids as text, for member ids."""

    def __init__(self, settings: GroupSettings, new_id: Callable[[], str]) -> None:
        self.settings = settings
        self.completions: Completions = []
        self.timers = Timers()
        self.classic = ClassicGroups(settings, self.timers, self.completions, new_id)
        self.offsets = Offsets(settings, self.classic)

    # -- the shell's port (runtime.CoordinatorShard)

    def replay(self, record: CoordinatorRecord, record_offset: int, producer_id: int) -> None:
        """Apply one record of the partition."""
        if record.key_type == group_records.GROUP_METADATA:
            self._replay_group(record.key.group, record.value)
            return
        key = record.key
        if record.value is not None and key.group not in self.classic.groups:
            # Offsets without membership: a "simple" group, which is known by its offsets alone.
            self.classic.create(key.group, None)
        self.offsets.replay(key, record.value, record_offset, producer_id)

    def replay_end_of_transaction(self, producer_id: int, *, committed: bool) -> None:
        """Apply a transaction marker of the partition."""
        self.offsets.replay_end_of_transaction(producer_id, committed=committed)

    def loaded(self, now: Instant) -> None:
        """All records are replayed: sessions and retention start to run."""
        self.classic.start_sessions(now)
        self._schedule_retention(now)

    def next_deadline_ms(self) -> int | None:
        """When ``take_due`` must be called, on the monotonic clock."""
        return self.timers.next_deadline_ms()

    def take_due(self, now: Instant) -> Result[None] | None:
        """Run one action whose time has come; None when there is none."""
        action = self.timers.take_due(now.monotonic_ms)
        return None if action is None else action(now)

    def unload(self, code: ErrorCode) -> None:
        """Another broker coordinates these groups now: refuse what is parked."""
        for group in list(self.classic.groups.values()):
            self.classic.discard(group, code)

    # -- commands over groups and offsets

    def describe(self, group_id: str) -> DescribedGroup | None:
        """DescribeGroups for one group; None when it does not exist. Metadata is told of Stable groups only.

        Until the next assignment is there members are told with the one they had.
        """
        group = self.classic.groups.get(group_id)
        if group is None:
            return None
        stable = group.state is GroupState.STABLE
        return DescribedGroup(
            group_id=group_id,
            group_state=group.state.value,
            protocol_type=group.protocol_type or "",
            protocol_data=(group.protocol_name or "") if stable else "",
            members=[
                DescribedGroupMember(
                    member_id=member.member_id,
                    group_instance_id=member.group_instance_id,
                    client_id=member.client_id,
                    client_host=member.client_host,
                    member_metadata=member.metadata(group.protocol_name) if stable else b"",
                    member_assignment=member.assignment,
                )
                for member in group.members.values()
            ],
        )

    def list_groups(self, states: frozenset[str], types: frozenset[str]) -> Iterator[ListedGroup]:
        """Groups whose state and type (lower case) are among the asked; an empty set asks for all."""
        if types and GROUP_TYPE_CLASSIC not in types:
            return
        for group in self.classic.groups.values():
            if not states or group.state.value.lower() in states:
                yield ListedGroup(
                    group_id=group.group_id,
                    protocol_type=group.protocol_type or "",
                    group_state=group.state.value,
                    group_type=GROUP_TYPE_CLASSIC,
                )

    def delete_group(self, group_id: str) -> Result[ErrorCode]:
        """Remove an Empty group with its offsets."""
        group = self.classic.groups.get(group_id)
        if group is None:
            return Result(ErrorCode.GROUP_ID_NOT_FOUND)
        if group.state is not GroupState.EMPTY:
            return Result(ErrorCode.NON_EMPTY_GROUP)
        records = self.offsets.tombstones_of_group(group_id)
        records.append(group_records.group_tombstone(group_id))
        return Result(ErrorCode.NONE, records)

    def delete_offsets_of_topics(self, topics: set[str]) -> Result[None]:
        """The topics were deleted: so are the offsets in them."""
        return Result(None, self.offsets.tombstones_of_topics(topics))

    def expire(self, now: Instant) -> Result[None]:
        """Remove offsets whose retention is over, and Empty groups that have no offsets left."""
        self._schedule_retention(now)
        records: list[CoordinatorRecord] = []
        for group in self.classic.groups.values():
            tombstones, none_left = self.offsets.expired(group, now.wall_ms)
            records += tombstones
            if none_left and group.state is GroupState.EMPTY and not group.pending_members:
                records.append(group_records.group_tombstone(group.group_id))
        return Result(None, records)

    def _schedule_retention(self, now: Instant) -> None:
        interval_ms = self.settings.offsets_retention_check_interval_ms
        self.timers.schedule(now.monotonic_ms + interval_ms, self.expire)

    def _replay_group(self, group_id: str, value: GroupMetadataValue | None) -> None:
        previous = self.classic.groups.get(group_id)
        if previous is not None:
            self.classic.discard(previous, ErrorCode.UNKNOWN_MEMBER_ID)
        if value is None:
            return
        timestamp_ms = value.current_state_timestamp
        group = self.classic.create(group_id, None if timestamp_ms == -1 else timestamp_ms)
        for member in group_records.members_of(value):
            group.add(member, None, value.protocol_type or None)
        group.protocol_type = value.protocol_type or None
        group.generation_id = value.generation
        group.protocol_name = value.protocol
        if group.members:
            group.state = group.previous_state = GroupState.STABLE
            group.leader_id = value.leader
        group.compute_subscribed_topics()

    def check_invariants(self) -> None:
        """What holds between commands; for tests and simulations."""
        for group_id, group in self.classic.groups.items():
            assert group.group_id == group_id
            group.check_invariants()
        for group_id in (*self.offsets.committed, *(key for groups in self.offsets.pending.values() for key in groups)):
            assert group_id in self.classic.groups


def durable_state(shard: GroupShard) -> dict[str, object]:
    """What a restart must bring back: generations that were completed, members, assignments, offsets."""
    return {
        "groups": {group_id: _durable_group(group) for group_id, group in shard.classic.groups.items()},
        "offsets": shard.offsets.committed,
        "pending": shard.offsets.pending,
    }


def _durable_group(group: ClassicGroup) -> tuple[object, ...]:
    members = {
        member.member_id: (
            member.group_instance_id,
            member.client_id,
            member.client_host,
            member.rebalance_timeout_ms,
            member.session_timeout_ms,
            member.metadata(group.protocol_name),
            member.assignment,
        )
        for member in group.members.values()
    }
    return group.generation_id, group.protocol_type, group.protocol_name, group.leader_id, members
