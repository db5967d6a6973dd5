"""The records of consumer groups in ``__consumer_offsets`` (KIP-848), as Apache Kafka 4.3 writes them.

Of one member there are three: what it said of itself (5), its part of the target (7), where it stands (8). Of the
group: its epoch (3), the epoch of the target (6), and what each expression matched (16). Kafka 4.0 wrote the topics'
partition counts as well (4); of that only the tombstone is written.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ottla.protocol.messages import group_records as messages
from ottla.server.coordinator.consumer.member import (
    ClassicMembership,
    ConsumerMember,
    MemberState,
    PartitionEpochs,
)
from ottla.server.coordinator.modern_group import Assignment
from ottla.server.coordinator.result import CoordinatorRecord

if TYPE_CHECKING:
    from ottla.server.coordinator.consumer.group import ConsumerGroup, ResolvedRegex

GROUP_EPOCH = 3
PARTITION_METADATA = 4
MEMBER_METADATA = 5
TARGET_METADATA = 6
TARGET_MEMBER = 7
CURRENT_ASSIGNMENT = 8
REGULAR_EXPRESSION = 16


def group_epoch(group_id: str, epoch: int, metadata_hash: int) -> CoordinatorRecord:
    """The group's epoch, with the hash of the topics it is for."""
    return CoordinatorRecord(
        GROUP_EPOCH,
        messages.ConsumerGroupMetadataKey(group_id=group_id),
        messages.ConsumerGroupMetadataValue(epoch=epoch, metadata_hash=metadata_hash),
    )


def member_metadata(group_id: str, member: ConsumerMember) -> CoordinatorRecord:
    """What the member said of itself."""
    classic = member.classic
    return CoordinatorRecord(
        MEMBER_METADATA,
        messages.ConsumerGroupMemberMetadataKey(group_id=group_id, member_id=member.member_id),
        messages.ConsumerGroupMemberMetadataValue(
            instance_id=member.instance_id,
            rack_id=member.rack_id,
            client_id=member.client_id,
            client_host=member.client_host,
            subscribed_topic_names=sorted(member.subscribed_topic_names),
            subscribed_topic_regex=member.subscribed_topic_regex,
            rebalance_timeout_ms=member.rebalance_timeout_ms,
            server_assignor=member.server_assignor,
            classic_member_metadata=None
            if classic is None
            else messages.ClassicMemberMetadata(
                session_timeout_ms=classic.session_timeout_ms,
                supported_protocols=[
                    messages.ClassicProtocol(name=name, metadata=metadata) for name, metadata in classic.protocols
                ],
            ),
        ),
    )


def target_member(group_id: str, member_id: str, target: Assignment) -> CoordinatorRecord:
    """The member's part of the target assignment."""
    return CoordinatorRecord(
        TARGET_MEMBER,
        messages.ConsumerGroupTargetAssignmentMemberKey(group_id=group_id, member_id=member_id),
        messages.ConsumerGroupTargetAssignmentMemberValue(
            topic_partitions=[
                messages.TopicPartition(topic_id=topic_id, partitions=list(indexes))
                for topic_id, indexes in target.items()
            ]
        ),
    )


def target_metadata(group_id: str, assignment_epoch: int, wall_ms: int) -> CoordinatorRecord:
    """The epoch for which the target assignment was made, and when."""
    return CoordinatorRecord(
        TARGET_METADATA,
        messages.ConsumerGroupTargetAssignmentMetadataKey(group_id=group_id),
        messages.ConsumerGroupTargetAssignmentMetadataValue(
            assignment_epoch=assignment_epoch, assignment_timestamp=wall_ms
        ),
    )


def current_assignment(group_id: str, member: ConsumerMember) -> CoordinatorRecord:
    """Where the member stands."""
    return CoordinatorRecord(
        CURRENT_ASSIGNMENT,
        messages.ConsumerGroupCurrentMemberAssignmentKey(group_id=group_id, member_id=member.member_id),
        messages.ConsumerGroupCurrentMemberAssignmentValue(
            member_epoch=member.member_epoch,
            previous_member_epoch=member.previous_member_epoch,
            state=member.state,
            assigned_partitions=_with_epochs(member.assigned),
            partitions_pending_revocation=_with_epochs(member.pending_revocation),
        ),
    )


def regular_expression(group_id: str, regex: str, resolved: ResolvedRegex) -> CoordinatorRecord:
    """What an expression matched."""
    return CoordinatorRecord(
        REGULAR_EXPRESSION,
        messages.ConsumerGroupRegularExpressionKey(group_id=group_id, regular_expression=regex),
        messages.ConsumerGroupRegularExpressionValue(
            topics=sorted(resolved.topics), version=resolved.version, timestamp=resolved.timestamp_ms
        ),
    )


def regular_expression_tombstone(group_id: str, regex: str) -> CoordinatorRecord:
    """Nobody subscribes to the expression any more."""
    return CoordinatorRecord(
        REGULAR_EXPRESSION,
        messages.ConsumerGroupRegularExpressionKey(group_id=group_id, regular_expression=regex),
        None,
    )


def partition_metadata_tombstone(group_id: str) -> CoordinatorRecord:
    """Takes the record of Kafka 4.0 away."""
    return CoordinatorRecord(PARTITION_METADATA, messages.ConsumerGroupPartitionMetadataKey(group_id=group_id), None)


def member_tombstones(group_id: str, member_id: str) -> list[CoordinatorRecord]:
    """A member goes. The order matters to those who read the log: first what it has, last that it exists."""
    return [
        _current_tombstone(group_id, member_id),
        _target_tombstone(group_id, member_id),
        _metadata_tombstone(group_id, member_id),
    ]


def group_tombstones(group_id: str, member_ids: Iterable[str], regexes: Iterable[str]) -> list[CoordinatorRecord]:
    """A whole group goes."""
    members = list(member_ids)
    return [
        *(_current_tombstone(group_id, member_id) for member_id in members),
        *(_target_tombstone(group_id, member_id) for member_id in members),
        CoordinatorRecord(TARGET_METADATA, messages.ConsumerGroupTargetAssignmentMetadataKey(group_id=group_id), None),
        *(_metadata_tombstone(group_id, member_id) for member_id in members),
        *(regular_expression_tombstone(group_id, regex) for regex in regexes),
        partition_metadata_tombstone(group_id),
        CoordinatorRecord(GROUP_EPOCH, messages.ConsumerGroupMetadataKey(group_id=group_id), None),
    ]


def whole_group(group: ConsumerGroup) -> list[CoordinatorRecord]:
    """All records of a group that stands on its own so far, such as one that was a classic group."""
    group_id = group.group_id
    return [
        *(member_metadata(group_id, member) for member in group.members.values()),
        group_epoch(group_id, group.group_epoch, group.metadata_hash),
        *(target_member(group_id, member_id, group.target_of(member_id)) for member_id in group.members),
        target_metadata(group_id, group.assignment_epoch, group.assignment_timestamp_ms),
        *(current_assignment(group_id, member) for member in group.members.values()),
    ]


def with_metadata(member: ConsumerMember, value: messages.ConsumerGroupMemberMetadataValue) -> ConsumerMember:
    """The member as its metadata record says, elsewhere as it was."""
    classic = value.classic_member_metadata
    return member._replace(
        instance_id=value.instance_id,
        rack_id=value.rack_id,
        rebalance_timeout_ms=value.rebalance_timeout_ms,
        client_id=value.client_id,
        client_host=value.client_host,
        subscribed_topic_names=frozenset(value.subscribed_topic_names),
        subscribed_topic_regex=value.subscribed_topic_regex,
        server_assignor=value.server_assignor,
        classic=None
        if classic is None or not classic.supported_protocols
        else ClassicMembership(
            classic.session_timeout_ms,
            tuple((protocol.name, bytes(protocol.metadata)) for protocol in classic.supported_protocols),
        ),
    )


def with_current_assignment(
    member: ConsumerMember, value: messages.ConsumerGroupCurrentMemberAssignmentValue
) -> ConsumerMember:
    """The member as the record of its assignment says, elsewhere as it was."""
    return member._replace(
        member_epoch=value.member_epoch,
        previous_member_epoch=value.previous_member_epoch,
        state=MemberState(value.state),
        assigned=_epochs_of(value.assigned_partitions, value.member_epoch),
        pending_revocation=_epochs_of(value.partitions_pending_revocation, value.member_epoch),
    )


def _with_epochs(partitions: PartitionEpochs) -> list[messages.TopicPartitions]:
    return [
        messages.TopicPartitions(
            topic_id=topic_id,
            partitions=sorted(epochs),
            assignment_epochs=[epochs[index] for index in sorted(epochs)],
        )
        for topic_id, epochs in partitions.items()
    ]


def _epochs_of(topics: list[messages.TopicPartitions], member_epoch: int) -> PartitionEpochs:
    """Kafka before 4.3 did not write the epochs down: the member's own then serves, 0 for one that left for a while."""
    found = {}
    for topic in topics:
        epochs = topic.assignment_epochs
        if epochs is None or len(epochs) != len(topic.partitions):
            found[topic.topic_id] = dict.fromkeys(topic.partitions, max(member_epoch, 0))
        else:
            found[topic.topic_id] = dict(zip(topic.partitions, epochs, strict=True))
    return found


def _current_tombstone(group_id: str, member_id: str) -> CoordinatorRecord:
    key = messages.ConsumerGroupCurrentMemberAssignmentKey(group_id=group_id, member_id=member_id)
    return CoordinatorRecord(CURRENT_ASSIGNMENT, key, None)


def _target_tombstone(group_id: str, member_id: str) -> CoordinatorRecord:
    key = messages.ConsumerGroupTargetAssignmentMemberKey(group_id=group_id, member_id=member_id)
    return CoordinatorRecord(TARGET_MEMBER, key, None)


def _metadata_tombstone(group_id: str, member_id: str) -> CoordinatorRecord:
    key = messages.ConsumerGroupMemberMetadataKey(group_id=group_id, member_id=member_id)
    return CoordinatorRecord(MEMBER_METADATA, key, None)
