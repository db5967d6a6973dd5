"""One step of one member towards its target assignment (KIP-848): give up first, then take what others gave up.

A pure function of the member, the target and who owns what. The rule that matters: a partition is added to a member
only while nobody has it, and it counts as had until its owner said that it does not consume it any more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ottla.core.errors import ApiError, ErrorCode
from ottla.server.coordinator.consumer.member import NO_PARTITIONS, ConsumerMember, MemberState, PartitionEpochs
from ottla.server.coordinator.modern_group import Assignment


class Goal(NamedTuple):
    """What a member has to come to. ``subscribed`` are the ids of the topics that it subscribes to now.

    ``is_owned(topic_id, partition)``: somebody has the partition, or did not give it up yet. ``owned`` are the
    partitions that the member says it consumes; None when it did not say.
    """

    assignment_epoch: int
    target: Assignment
    subscribed: frozenset[bytes]
    subscription_changed: bool
    is_owned: Callable[[bytes, int], bool]
    owned: Assignment | None


def reconciled(member: ConsumerMember, goal: Goal) -> ConsumerMember:
    """The member after one step; the very same when there is nothing to do, or nothing that may be done yet.

    ApiError FENCED_MEMBER_EPOCH for a member in a state of a newer Kafka, until it comes back without partitions.
    """
    if member.state is MemberState.STABLE:
        if member.member_epoch != goal.assignment_epoch:
            return _step(member, member.member_epoch, goal)
        return _unsubscribed(member, goal) if goal.subscription_changed else member
    if member.state is MemberState.UNREVOKED_PARTITIONS:
        if _still_owns(goal.owned, member.pending_revocation):
            return _unsubscribed(member, goal) if goal.subscription_changed else member
        return _step(member, member.member_epoch, goal)
    if member.state is MemberState.UNRELEASED_PARTITIONS:
        return _step(member, member.member_epoch, goal)
    if goal.owned is None or goal.owned:
        raise ApiError(
            ErrorCode.FENCED_MEMBER_EPOCH,
            "The member is in a state this coordinator does not know: it has to give up its partitions and join again.",
        )
    return _step(member, goal.assignment_epoch, goal)


def _still_owns(owned: Assignment | None, partitions: PartitionEpochs) -> bool:
    """Whether the member consumes one of the partitions, as far as it said."""
    if owned is None:
        return True
    return any(index in partitions.get(topic_id, ()) for topic_id, indexes in owned.items() for index in indexes)


def _unsubscribed(member: ConsumerMember, goal: Goal) -> ConsumerMember:
    """Take topics away at once that the member does not subscribe to any more, without waiting for a new target."""
    gone = {topic_id: epochs for topic_id, epochs in member.assigned.items() if topic_id not in goal.subscribed}
    if not gone:
        return member
    kept = {topic_id: epochs for topic_id, epochs in member.assigned.items() if topic_id not in gone}
    pending = dict(member.pending_revocation)
    for topic_id, epochs in gone.items():
        pending[topic_id] = {**pending.get(topic_id, {}), **epochs}
    if _still_owns(goal.owned, pending):
        return member.at_epoch(member.member_epoch)._replace(
            state=MemberState.UNREVOKED_PARTITIONS, assigned=kept, pending_revocation=pending
        )
    return member.at_epoch(member.member_epoch)._replace(assigned=kept)


def _step(member: ConsumerMember, member_epoch: int, goal: Goal) -> ConsumerMember:
    kept: dict[bytes, dict[int, int]] = {}
    revoked: dict[bytes, dict[int, int]] = {}
    added: dict[bytes, list[int]] = {}
    waits = False
    for topic_id in {**goal.target, **member.assigned}:
        target = frozenset(goal.target.get(topic_id, ()) if topic_id in goal.subscribed else ())
        has = member.assigned.get(topic_id, {})
        if keeps := {index: epoch for index, epoch in has.items() if index in target}:
            kept[topic_id] = keeps
        if gives_up := {index: epoch for index, epoch in has.items() if index not in target}:
            revoked[topic_id] = gives_up
        was_revoked = member.pending_revocation.get(topic_id, ())
        for index in sorted(target - has.keys()):
            # What the member itself was giving up is not had by anybody else.
            if goal.is_owned(topic_id, index) and index not in was_revoked:
                waits = True
            else:
                added.setdefault(topic_id, []).append(index)
    if revoked and _still_owns(goal.owned, revoked):
        return member.at_epoch(member_epoch)._replace(
            state=MemberState.UNREVOKED_PARTITIONS, assigned=kept, pending_revocation=revoked
        )
    for topic_id, indexes in added.items():
        kept.setdefault(topic_id, {}).update(dict.fromkeys(indexes, goal.assignment_epoch))
    return member.at_epoch(goal.assignment_epoch)._replace(
        state=MemberState.UNRELEASED_PARTITIONS if waits else MemberState.STABLE,
        assigned=kept,
        pending_revocation=NO_PARTITIONS,
    )
