"""The state of one partition of ``__consumer_offsets``: classic groups and offsets, as commands and replay.

Also the commands that look at both: describing, listing and deleting groups, and what retention removes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.describe_groups import DescribedGroup, DescribedGroupMember
from ottla.protocol.messages.group_records import GroupMetadataValue
from ottla.protocol.messages.list_groups import ListedGroup
from ottla.server.coordinator import group_records
from ottla.server.coordinator.classic.group import GROUP_METADATA, ClassicGroup, GroupState
from ottla.server.coordinator.classic.membership import ClassicGroups
from ottla.server.coordinator.group import Group, GroupType
from ottla.server.coordinator.group_machine import GroupConfigs, GroupContext, GroupMachine
from ottla.server.coordinator.offsets import Offsets
from ottla.server.coordinator.result import CoordinatorRecord, Instant, Result
from ottla.server.coordinator.settings import GroupSettings
from ottla.server.coordinator.timers import TimedShard
from ottla.server.metadata.image import EMPTY_IMAGE

if TYPE_CHECKING:
    from ottla.protocol.messages.heartbeat import HeartbeatRequest
    from ottla.protocol.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse
    from ottla.protocol.messages.offset_fetch import OffsetFetchRequestGroup
    from ottla.protocol.messages.sync_group import SyncGroupRequest, SyncGroupResponse
    from ottla.server.coordinator.classic.calls import JoinCall
    from ottla.server.coordinator.result import Pending
    from ottla.server.metadata.delta import MetadataDelta
    from ottla.server.metadata.image import MetadataImage


#: Machine → its module, its class and the key types of its records.
_MACHINES: dict[GroupType, tuple[str, str, frozenset[int]]] = {
    GroupType.CONSUMER: ("consumer.groups", "ConsumerGroups", frozenset({3, 4, 5, 6, 7, 8, 16})),
    GroupType.SHARE: ("share.groups", "ShareGroups", frozenset(range(10, 16))),
    GroupType.STREAMS: ("streams.groups", "StreamsGroups", frozenset(range(17, 24))),
}

#: Key types of the records that hold a group's epoch: each new one is a rebalance.
_EPOCH_KEY_TYPES = frozenset({3, 11, 17})

_MACHINE_OF_KEY_TYPE = {key_type: kind for kind, (_, _, key_types) in _MACHINES.items() for key_type in key_types}


def default_configs(image: MetadataImage, group_id: str) -> Mapping[str, Any]:
    """Kafka's defaults for every group, where there is no broker's configuration."""
    from ottla.schema.group import GROUP_SETTINGS

    return {name: GROUP_SETTINGS[name].default for name in GROUP_SETTINGS}


class GroupShard(TimedShard):
    """One shard of the group coordinator. ``new_id`` gives fresh uuids as text, for member ids."""

    def __init__(
        self,
        settings: GroupSettings,
        new_id: Callable[[], str],
        image: MetadataImage = EMPTY_IMAGE,
        configs: GroupConfigs = default_configs,
    ) -> None:
        self.settings = settings
        self.context = context = GroupContext(settings, image, configs, new_id)
        self.groups = context.groups
        self.completions = context.completions
        self.timers = context.timers
        self.classic = ClassicGroups(settings, self.groups, self.timers, self.completions, new_id)
        self.offsets = Offsets(settings, self.groups, self.classic.member_seen)
        self._machines: dict[GroupType, GroupMachine] = {}
        #: How often groups of a kind have begun a new epoch since this shard was loaded; for metrics.
        self.rebalance_counts: dict[GroupType, int] = dict.fromkeys(_MACHINES, 0)

    def machine(self, kind: GroupType) -> Any:
        """The machine of consumer, share or streams groups; it is made when first asked for."""
        machine = self._machines.get(kind)
        if machine is None:
            module_name, class_name, _ = _MACHINES[kind]
            module = import_module(f"ottla.server.coordinator.{module_name}")
            machine = self._machines[kind] = getattr(module, class_name)(self.context)
        return machine

    # -- the shell's port (runtime.CoordinatorShard)

    def replay(self, record: CoordinatorRecord, record_offset: int, producer_id: int) -> None:
        """Apply one record of the partition."""
        key_type = record.key_type
        if key_type == group_records.OFFSET_COMMIT:
            key = record.key
            if record.value is not None and key.group not in self.groups:
                # Offsets without membership: a "simple" group, which is known by its offsets alone.
                self.classic.create(key.group, None)
            self.offsets.replay(key, record.value, record_offset, producer_id)
        elif key_type == GROUP_METADATA:
            self._replay_group(record.key.group, record.value)
        elif (kind := _MACHINE_OF_KEY_TYPE.get(key_type)) is not None:
            self.machine(kind).replay(record)
            if key_type in _EPOCH_KEY_TYPES and record.value is not None:
                self.rebalance_counts[kind] += 1

    def replay_end_of_transaction(self, producer_id: int, *, committed: bool) -> None:
        """Apply a transaction marker of the partition."""
        self.offsets.replay_end_of_transaction(producer_id, committed=committed)

    def loaded(self, now: Instant) -> None:
        """All records are replayed: sessions and retention start to run."""
        self.rebalance_counts = dict.fromkeys(_MACHINES, 0)
        self.classic.start_sessions(now)
        for machine in self._machines.values():
            machine.loaded(now)
        self._schedule_retention(now)

    def metadata_changed(self, delta: MetadataDelta, image: MetadataImage, now: Instant) -> Result[None]:
        """Take over a commit of metadata: offsets of deleted topics go, machines see to their groups."""
        self.context.metadata_changed(delta, image)
        deleted = {topic.name for topic in delta.deleted_topics.values()}
        records = self.delete_offsets_of_topics(deleted).records or []
        for machine in self._machines.values():
            records += machine.metadata_changed(delta, now)
        return Result(None, records)

    def unload(self, code: ErrorCode) -> None:
        """Another broker coordinates these groups now: refuse what is parked."""
        for group in self.classic.groups.values():
            self.classic.discard(group, code)
        for machine in self._machines.values():
            machine.unload(code)

    # -- the classic protocol, over whatever kind of group

    def join(self, call: JoinCall, now: Instant) -> Result[None]:
        """JoinGroup: a classic group's, a migrated member's, or the first one after all of another kind have left."""
        group = self.groups.get(call.request.group_id)
        if group is None or group.group_type is GroupType.CLASSIC:
            return self.classic.join(call, now)
        if group.group_type in (GroupType.CONSUMER, GroupType.STREAMS) and not _has_members(group):
            return self.classic.join_instead(group, call, now)
        if group.group_type is GroupType.CONSUMER:
            result: Result[None] = self.machine(GroupType.CONSUMER).classic.join(group, call, now)
            return result
        return self.classic.join(call, now)

    def sync(self, request: SyncGroupRequest, pending: Pending[SyncGroupResponse], now: Instant) -> Result[None]:
        """SyncGroup."""
        group = self.groups.get(request.group_id)
        if group is not None and group.group_type is GroupType.CONSUMER:
            result: Result[None] = self.machine(GroupType.CONSUMER).classic.sync(group, request, pending, now)
            return result
        return self.classic.sync(request, pending, now)

    def heartbeat(self, request: HeartbeatRequest, now_ms: int) -> ErrorCode:
        """Heartbeat; ``now_ms`` is monotonic."""
        group = self.groups.get(request.group_id)
        if group is not None and group.group_type is GroupType.CONSUMER:
            code: ErrorCode = self.machine(GroupType.CONSUMER).classic.heartbeat(group, request, now_ms)
            return code
        return self.classic.heartbeat(request, now_ms)

    def leave(self, request: LeaveGroupRequest, now: Instant) -> Result[LeaveGroupResponse]:
        """LeaveGroup."""
        group = self.groups.get(request.group_id)
        if group is not None and group.group_type is GroupType.CONSUMER:
            result: Result[LeaveGroupResponse] = self.machine(GroupType.CONSUMER).classic.leave(group, request, now)
            return result
        return self.classic.leave(request, now)

    # -- commands over groups and offsets

    def check_fetch(self, request: OffsetFetchRequestGroup) -> None:
        """ApiError unless the sender may fetch the group's offsets; there is nothing to check of an absent group."""
        group = self.groups.get(request.group_id)
        if group is not None:
            group.check_fetch(request.member_id, request.member_epoch)

    def describe(self, group_id: str) -> DescribedGroup | None:
        """DescribeGroups for one group; None when it does not exist. Metadata is told of Stable groups only.

        Until the next assignment is there members are told with the one they had.
        """
        group = self.classic.get(group_id)
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
        for group in self.groups.values():
            state_name, type_name = group.state_name, group.group_type.value
            if (not states or state_name.lower() in states) and (not types or type_name in types):
                yield ListedGroup(
                    group_id=group.group_id,
                    protocol_type=group.protocol_type or "",
                    group_state=state_name,
                    group_type=type_name,
                )

    def delete_group(self, group_id: str) -> Result[ErrorCode]:
        """Remove an Empty group with its offsets."""
        group = self.groups.get(group_id)
        if group is None:
            return Result(ErrorCode.GROUP_ID_NOT_FOUND)
        try:
            group.check_delete()
        except ApiError as error:
            return Result(error.code)
        records = [*self.offsets.tombstones_of_group(group_id), *group.tombstones()]
        return Result(ErrorCode.NONE, records)

    def delete_offsets_of_topics(self, topics: set[str]) -> Result[None]:
        """The topics were deleted: so are the offsets in them."""
        return Result(None, self.offsets.tombstones_of_topics(topics) if topics else [])

    def expire(self, now: Instant) -> Result[None]:
        """Remove offsets whose retention is over, and Empty groups that have no offsets left."""
        self._schedule_retention(now)
        records: list[CoordinatorRecord] = []
        for group in self.groups.values():
            tombstones, none_left = self.offsets.expired(group, now.wall_ms)
            records += tombstones
            if none_left and group.may_expire():
                records += group.tombstones()
        return Result(None, records)

    def _schedule_retention(self, now: Instant) -> None:
        interval_ms = self.settings.offsets_retention_check_interval_ms
        self.timers.schedule(now.monotonic_ms + interval_ms, self.expire)

    def _replay_group(self, group_id: str, value: GroupMetadataValue | None) -> None:
        previous = self.classic.get(group_id)
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
        for group_id, group in self.groups.items():
            assert group.group_id == group_id
            group.check_invariants()
        for group_id in (*self.offsets.committed, *(key for groups in self.offsets.pending.values() for key in groups)):
            assert group_id in self.groups


def _has_members(group: Group) -> bool:
    try:
        group.check_delete()
    except ApiError:
        return True
    return False


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
