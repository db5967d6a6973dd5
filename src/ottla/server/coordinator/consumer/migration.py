"""A group changes its kind while its members go on (KIP-848, group.consumer.migration.policy).

A classic group of consumers becomes a consumer group when the first member of the new protocol joins; its classic
members stay, with what they have, as members of the new group. When the last member of the new protocol goes, the group
becomes a classic one again. Both are a batch of records: tombstones of the old group, then the new one.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, TypeVar

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.codec import decode_prefix, encode
from ottla.protocol.errors import ProtocolError
from ottla.protocol.messages.consumer_protocol import (
    ConsumerProtocolAssignment,
    ConsumerProtocolAssignmentTopicPartition,
    ConsumerProtocolSubscription,
    ConsumerProtocolSubscriptionTopicPartition,
)
from ottla.server.coordinator import group_records
from ottla.server.coordinator.append_errors import append_error
from ottla.server.coordinator.classic.group import CONSUMER_PROTOCOL_TYPE, ClassicGroup, Member
from ottla.server.coordinator.consumer import records as consumer_records
from ottla.server.coordinator.consumer.group import ConsumerGroup
from ottla.server.coordinator.consumer.member import ClassicMembership, ConsumerMember
from ottla.server.coordinator.modern_group import Assignment
from ottla.server.coordinator.result import CoordinatorRecord, Instant, Result

if TYPE_CHECKING:
    from ottla.server.coordinator.consumer.groups import ConsumerGroups
    from ottla.server.metadata.image import MetadataImage

logger = logging.getLogger(__name__)

R = TypeVar("R")

_UPGRADE = ("upgrade", "bidirectional")
_DOWNGRADE = ("downgrade", "bidirectional")


# -- from classic to consumer group


def upgraded(groups: ConsumerGroups, classic: ClassicGroup, records: list[CoordinatorRecord]) -> ConsumerGroup:
    """The consumer group that takes the place of a classic group with members, once the records are stored.

    Whoever waits for the classic group's generation is told to join again, and will find the new group. ApiError
    GROUP_ID_NOT_FOUND when policy, size or the members' protocol forbid it.
    """
    settings = groups.context.settings
    why_not = None
    if settings.consumer_migration_policy not in _UPGRADE:
        why_not = "group.consumer.migration.policy does not allow it"
    elif classic.protocol_type != CONSUMER_PROTOCOL_TYPE:
        why_not = "its members are no consumers"
    elif len(classic.members) > settings.consumer_max_size:
        why_not = "it has more members than a consumer group may have"
    if why_not is not None:
        raise _not_upgraded(classic, why_not)
    group = groups.new_group(classic.group_id)
    group.group_epoch = group.assignment_epoch = classic.generation_id
    for member in classic.members.values():
        converted = _consumer_member(classic, member, group, groups.context.image)
        group.put_member(converted)
        group.target[member.member_id] = {
            topic_id: tuple(sorted(epochs)) for topic_id, epochs in converted.assigned.items()
        }
    group.metadata_hash = group.metadata_hash_after()
    for member in classic.members.values():
        classic.refuse(member, ErrorCode.REBALANCE_IN_PROGRESS)
    records += classic.tombstones()
    records += consumer_records.whole_group(group)
    logger.info("group %s: the classic group becomes a consumer group", classic.group_id)
    return group


def _not_upgraded(classic: ClassicGroup, why: str) -> ApiError:
    message = f"The classic group {classic.group_id} cannot become a consumer group: {why}."
    logger.info("%s", message)
    return ApiError(ErrorCode.GROUP_ID_NOT_FOUND, message)


def _consumer_member(
    classic: ClassicGroup, member: Member, group: ConsumerGroup, image: MetadataImage
) -> ConsumerMember:
    epoch = classic.generation_id
    protocol_name = classic.protocol_name or member.protocols[0][0]
    try:
        subscription = subscription_of(member.metadata(protocol_name))
        assignment = _assignment_of(member.assignment)
    except ProtocolError as error:
        raise _not_upgraded(classic, f"what its members say cannot be read ({error})") from None
    if assignment.user_data:
        raise _not_upgraded(classic, "its members use an assignor of their own")
    assigned = {
        topic_id: dict.fromkeys(indexes, epoch)
        for topic_id, indexes in _by_topic_id(assignment.assigned_partitions, image).items()
    }
    return ConsumerMember(
        member.member_id,
        member_epoch=epoch,
        previous_member_epoch=epoch,
        instance_id=member.group_instance_id,
        rack_id=subscription.rack_id or None,
        rebalance_timeout_ms=member.rebalance_timeout_ms,
        client_id=member.client_id,
        client_host=member.client_host,
        subscribed_topic_names=frozenset(subscription.topics),
        # An assignor of clients may give one partition to two members; here it has one owner.
        assigned={
            topic_id: {index: epoch for index in epochs if not group.is_owned(topic_id, index)}
            for topic_id, epochs in assigned.items()
        },
        classic=ClassicMembership(member.session_timeout_ms, member.protocols),
    )


# -- from consumer to classic group


def may_downgrade(
    groups: ConsumerGroups, group: ConsumerGroup, leaving: Collection[ConsumerMember], *, joining: int = 0
) -> bool:
    """Whether nobody but classic members is left when these go (and so many classic ones come), and the group may
    become a classic one."""
    left = len(group.members) - len(leaving) + joining
    settings = groups.context.settings
    return (
        left > 0
        and group.all_classic_without(leaving)
        and settings.consumer_migration_policy in _DOWNGRADE
        and left <= settings.max_size
    )


def downgraded_by_leaving(
    groups: ConsumerGroups, group: ConsumerGroup, leaving: list[ConsumerMember], response: R, now: Instant
) -> Result[R]:
    """The last members of the new protocol go: the others are a classic group, which rebalances."""
    gone = {member.member_id for member in leaving}
    stayed = {member_id: member for member_id, member in group.members.items() if member_id not in gone}
    targets = {member_id: group.target_of(member_id) for member_id in stayed}
    records = group.tombstones()
    records.append(_classic_record(groups, group, stayed, targets, now))

    def appended(error: ErrorCode | None) -> None:
        if error is None:
            taken_over(groups, group, stayed, now)
        elif response is not None:
            response.error_code = append_error(error)  # type: ignore[attr-defined]

    return Result(response, records, appended=appended)


def downgraded_by_joining(
    groups: ConsumerGroups, group: ConsumerGroup, joined: ConsumerMember, replaced: str, now: Instant
) -> tuple[list[CoordinatorRecord], dict[str, ConsumerMember]]:
    """A classic member took the seat of the last static member of the new protocol.

    Its own records, which came before these, are taken back with those of the group.
    """
    members = [joined.member_id if member_id == replaced else member_id for member_id in group.members]
    stayed = {member_id: joined if member_id == joined.member_id else group.members[member_id] for member_id in members}
    targets = {
        member_id: group.target_of(replaced if member_id == joined.member_id else member_id) for member_id in members
    }
    records = consumer_records.group_tombstones(group.group_id, members, group.resolved_regexes)
    records.append(_classic_record(groups, group, stayed, targets, now))
    return records, stayed


def taken_over(groups: ConsumerGroups, group: ConsumerGroup, members: dict[str, ConsumerMember], now: Instant) -> None:
    """The classic group was replayed: give its members what its record does not hold, and let it go on.

    It begins with a rebalance. Some may not have what the consumer group had in store for them, and would never hear of
    it; and a leader has to be told that it is one, as it is who watches the topics from now on.
    """
    classic = groups.classic_groups.get(group.group_id)
    assert classic is not None
    for member_id, member in classic.members.items():
        membership = members[member_id].classic
        assert membership is not None
        member.protocols = membership.protocols
    logger.info("group %s: the consumer group becomes a classic group", group.group_id)
    groups.classic_groups.resume(classic, now, "it was a consumer group")


def _classic_record(
    groups: ConsumerGroups,
    group: ConsumerGroup,
    members: dict[str, ConsumerMember],
    targets: dict[str, Assignment],
    now: Instant,
) -> CoordinatorRecord:
    classic = ClassicGroup(group.group_id, [], now.wall_ms)
    classic.generation_id = group.group_epoch
    assignments = {}
    for member_id, member in members.items():
        membership = member.classic
        assert membership is not None
        seat = Member(
            member_id,
            member.instance_id,
            member.client_id,
            member.client_host,
            member.rebalance_timeout_ms,
            membership.session_timeout_ms,
            membership.protocols,
        )
        classic.add(seat, None, CONSUMER_PROTOCOL_TYPE)
        assignments[member_id] = assignment_bytes(
            targets[member_id], membership.subscription_version, groups.context.image
        )
    classic.protocol_name = classic.select_protocol()
    # Whoever loads it without having seen the rebalance that follows has to begin it.
    classic.leader_id = None
    return group_records.group_metadata(classic, assignments)


# -- what classic members tell each other, as bytes


def subscription_of(metadata: bytes) -> ConsumerProtocolSubscription:
    """A member's subscription: int16 version, then the body, which a higher version extends; ProtocolError."""
    version, begin = _version_of(metadata)
    highest = ConsumerProtocolSubscription.VALID_VERSIONS[1]
    subscription, _ = decode_prefix(ConsumerProtocolSubscription, min(version, highest), metadata, begin)
    return subscription


def _assignment_of(data: bytes) -> ConsumerProtocolAssignment:
    if not data:
        # It joined, and has not synced yet.
        return ConsumerProtocolAssignment()
    version, begin = _version_of(data)
    highest = ConsumerProtocolAssignment.VALID_VERSIONS[1]
    assignment, _ = decode_prefix(ConsumerProtocolAssignment, min(version, highest), data, begin)
    return assignment


def _version_of(data: bytes) -> tuple[int, int]:
    if len(data) < 2:
        raise ProtocolError("less than the two bytes of a version")
    version = int.from_bytes(data[:2], "big", signed=True)
    if version < 0:
        raise ProtocolError(f"version {version}")
    return version, 2


def assignment_bytes(assignment: Assignment, version: int, image: MetadataImage) -> bytes:
    """The assignment as SyncGroup answers it; topics that are gone are left out."""
    version = max(0, min(version, ConsumerProtocolAssignment.VALID_VERSIONS[1]))
    topics = []
    for topic_id, indexes in assignment.items():
        name = image.topics.name_of(topic_id)
        if name is not None:
            topics.append(ConsumerProtocolAssignmentTopicPartition(topic=name, partitions=list(indexes)))
    body = encode(ConsumerProtocolAssignment(assigned_partitions=topics), version)
    return version.to_bytes(2, "big") + body


def owned_partitions(subscription: ConsumerProtocolSubscription, image: MetadataImage) -> Assignment:
    """What the member says it still has (cooperative rebalancing, KIP-429)."""
    return _by_topic_id(subscription.owned_partitions, image)


def _by_topic_id(
    topics: Sequence[ConsumerProtocolAssignmentTopicPartition | ConsumerProtocolSubscriptionTopicPartition],
    image: MetadataImage,
) -> Assignment:
    found: dict[bytes, tuple[int, ...]] = {}
    for topic in topics:
        topic_id = image.topics.id_of(topic.topic)
        if topic_id is not None:
            found[topic_id] = tuple(sorted((*found.get(topic_id, ()), *topic.partitions)))
    return found
