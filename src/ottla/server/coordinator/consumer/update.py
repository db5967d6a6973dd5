"""One member's change, from what it asked for to records: its metadata, the group's epoch, the target, its own step.

Both protocols go this way: the heartbeat of KIP-848 and a classic member's JoinGroup in a consumer group.
"""

from __future__ import annotations

import logging

from ottla.server.coordinator.assignors.assignor import MemberSpec, assignor_named
from ottla.server.coordinator.consumer import records as consumer_records
from ottla.server.coordinator.consumer.group import ConsumerGroup
from ottla.server.coordinator.consumer.member import ConsumerMember
from ottla.server.coordinator.consumer.reconciliation import Goal, reconciled
from ottla.server.coordinator.group_machine import GroupContext
from ottla.server.coordinator.modern_group import Assignment
from ottla.server.coordinator.result import CoordinatorRecord, Instant

logger = logging.getLogger(__name__)


class MemberUpdate:
    """What one request changes. ``before`` is the member as the group (or, for a static seat, its last holder) has it.

    Nothing is changed but ``records`` and this object: replay does the rest.
    """

    def __init__(
        self,
        context: GroupContext,
        group: ConsumerGroup,
        before: ConsumerMember,
        after: ConsumerMember,
        now: Instant,
        records: list[CoordinatorRecord],
    ) -> None:
        self._context = context
        self._now = now
        self.group = group
        self.before = before
        self.after = after
        self.records = records
        self.group_epoch = group.group_epoch
        self.subscription_changed = False

    def write_metadata(self) -> bool:
        """Write what the member says of itself when it is new; whether it subscribes to other names."""
        if self.after == self.before:
            return False
        self.records.append(consumer_records.member_metadata(self.group.group_id, self.after))
        return self.after.subscribed_topic_names != self.before.subscribed_topic_names

    def refresh_epoch(self, *, bump: bool) -> None:
        """Start a new epoch, if asked to or when the topics changed."""
        group, before, after = self.group, self.before, self.after
        removed = [before.subscribed_topic_names]
        regex = before.subscribed_topic_regex
        if regex and regex != after.subscribed_topic_regex and group.regex_subscriptions[regex] == 1:
            resolved = group.resolved_regexes.get(regex)
            if resolved is not None:
                removed.append(resolved.topics)
        metadata_hash = group.metadata_hash_after(removed, [after.subscribed_topic_names])
        if bump or metadata_hash != group.metadata_hash:
            self.group_epoch += 1
            self.records.append(consumer_records.group_epoch(group.group_id, self.group_epoch, metadata_hash))
            reason = "members or subscriptions changed" if bump else "topics changed"
            logger.info("group %s: epoch %d: %s", group.group_id, self.group_epoch, reason)
        group.metadata_refreshed(self.group_epoch)
        if group.has_partition_metadata_record:
            self.records.append(consumer_records.partition_metadata_tombstone(group.group_id))

    def reconcile(self, owned: Assignment | None) -> ConsumerMember:
        """Assign if need be and the interval lets, then bring the member one step closer to its target."""
        assignment_epoch, target = self._target()
        member = self.after
        if not self.subscription_changed and member.is_reconciled_to(assignment_epoch):
            return member
        topics = self._context.image.topics
        names = self.group.subscribed_topics(member)
        goal = Goal(
            assignment_epoch,
            target,
            frozenset(topics.by_name[name].topic_id for name in names if name in topics.by_name),
            self.subscription_changed,
            self.group.is_owned,
            owned,
        )
        self.after = reconciled(member, goal)
        if self.after != member:
            self.records.append(consumer_records.current_assignment(self.group.group_id, self.after))
        return self.after

    def _target(self) -> tuple[int, Assignment]:
        """Epoch of the target assignment, and the member's part in it."""
        group, member_id = self.group, self.after.member_id
        interval_ms = self._context.config_of(group.group_id)["consumer.assignment.interval.ms"]
        if group.assignment_epoch < self.group_epoch and group.may_assign(interval_ms, self._now.wall_ms):
            return self.group_epoch, self._assign()[member_id]
        instance_id = self.after.instance_id
        seat = member_id if instance_id is None else group.static_members.get(instance_id)
        return group.assignment_epoch, group.target_of(seat or "")

    def _assign(self) -> dict[str, Assignment]:
        """Have the assignor make the target of this epoch, and write down what differs from the last one."""
        group, after = self.group, self.after
        replaced = None if after.instance_id is None else group.static_members.get(after.instance_id)
        members = {key: member for key, member in group.members.items() if key != replaced}
        members[after.member_id] = after
        by_name = self._context.image.topics.by_name
        topic_ids_of: dict[frozenset[str], frozenset[bytes]] = {}
        specs = {}
        for member_id, member in members.items():
            names = group.subscribed_topics(member)
            topic_ids = topic_ids_of.get(names)
            if topic_ids is None:
                topic_ids = frozenset(by_name[name].topic_id for name in names if name in by_name)
                topic_ids_of[names] = topic_ids
            seat = replaced if member is after and replaced is not None else member_id
            specs[member_id] = MemberSpec(topic_ids, group.target_of(seat), member.instance_id, member.rack_id)
        by_id = self._context.image.topics.by_id
        counts = {
            topic_id: len(by_id[topic_id].partitions) for topic_ids in topic_ids_of.values() for topic_id in topic_ids
        }
        served = self._context.settings.consumer_assignors
        name = group.assignor_name(served[0], self.before, after)
        if name not in served:
            # Loaded from the log of a broker that had it.
            name = served[0]
        targets = assignor_named(name)(specs, counts)
        for member_id, target in targets.items():
            if target != group.target.get(member_id):
                self.records.append(consumer_records.target_member(group.group_id, member_id, target))
        self.records.append(consumer_records.target_metadata(group.group_id, self.group_epoch, self._now.wall_ms))
        logger.info("group %s: target of epoch %d made by %s", group.group_id, self.group_epoch, name)
        return targets
