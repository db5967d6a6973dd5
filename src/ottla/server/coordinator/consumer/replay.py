"""What the records of consumer groups do to them: the only place where groups change.

Records come in the order of the log, live or while loading. After compaction older ones may be missing: a tombstone for
something unknown is nothing, and a record about an unknown group or member makes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ottla.server.coordinator.consumer import records as consumer_records
from ottla.server.coordinator.consumer.group import ResolvedRegex
from ottla.server.coordinator.consumer.member import NO_PARTITIONS, ConsumerMember
from ottla.server.coordinator.modern_group import LEAVE_EPOCH, assignment_of

if TYPE_CHECKING:
    from ottla.server.coordinator.consumer.groups import ConsumerGroups


def _replay_epoch(groups: ConsumerGroups, key: Any, value: Any) -> None:
    group = groups.group_in_log(key.group_id, exists=value is not None)
    if group is None:
        return
    if value is not None:
        group.group_epoch = value.epoch
        group.metadata_hash = value.metadata_hash
        return
    for member_id in list(group.members):
        groups.forget_timers(group.group_id, member_id)
    group.dissolve()
    del groups.context.groups[group.group_id]


def _replay_partition_metadata(groups: ConsumerGroups, key: Any, value: Any) -> None:
    group = groups.group_in_log(key.group_id, exists=value is not None)
    if group is not None:
        group.has_partition_metadata_record = value is not None


def _replay_member(groups: ConsumerGroups, key: Any, value: Any) -> None:
    group = groups.group_in_log(key.group_id, exists=value is not None)
    if group is None:
        return
    if value is None:
        group.remove_member(key.member_id)
        group.target.pop(key.member_id, None)
        groups.forget_timers(key.group_id, key.member_id)
        return
    member = group.members.get(key.member_id) or ConsumerMember(key.member_id)
    group.put_member(consumer_records.with_metadata(member, value))


def _replay_target_metadata(groups: ConsumerGroups, key: Any, value: Any) -> None:
    group = groups.group_in_log(key.group_id, exists=value is not None)
    if group is not None:
        group.assignment_epoch = -1 if value is None else value.assignment_epoch
        group.assignment_timestamp_ms = 0 if value is None else value.assignment_timestamp


def _replay_target_member(groups: ConsumerGroups, key: Any, value: Any) -> None:
    group = groups.group_in_log(key.group_id, exists=value is not None)
    if group is None:
        return
    if value is None:
        group.target.pop(key.member_id, None)
    else:
        group.target[key.member_id] = assignment_of(value.topic_partitions)


def _replay_current_assignment(groups: ConsumerGroups, key: Any, value: Any) -> None:
    group = groups.group_in_log(key.group_id, exists=value is not None)
    if group is None:
        return
    member = group.members.get(key.member_id)
    if value is not None:
        known = ConsumerMember(key.member_id) if member is None else member
        group.put_member(consumer_records.with_current_assignment(known, value))
    elif member is not None:
        # The member itself goes with its metadata.
        nowhere = member._replace(
            member_epoch=LEAVE_EPOCH,
            previous_member_epoch=LEAVE_EPOCH,
            assigned=NO_PARTITIONS,
            pending_revocation=NO_PARTITIONS,
        )
        group.put_member(nowhere)


def _replay_regex(groups: ConsumerGroups, key: Any, value: Any) -> None:
    group = groups.group_in_log(key.group_id, exists=value is not None)
    if group is None:
        return
    resolved = None if value is None else ResolvedRegex(frozenset(value.topics), value.version, value.timestamp)
    group.put_regex(key.regular_expression, resolved)


#: Key type → what its record does.
REPLAY: dict[int, Callable[[ConsumerGroups, Any, Any], None]] = {
    consumer_records.GROUP_EPOCH: _replay_epoch,
    consumer_records.PARTITION_METADATA: _replay_partition_metadata,
    consumer_records.MEMBER_METADATA: _replay_member,
    consumer_records.TARGET_METADATA: _replay_target_metadata,
    consumer_records.TARGET_MEMBER: _replay_target_member,
    consumer_records.CURRENT_ASSIGNMENT: _replay_current_assignment,
    consumer_records.REGULAR_EXPRESSION: _replay_regex,
}
