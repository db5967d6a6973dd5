"""The records of share groups in ``__consumer_offsets``, as Kafka 4.3 writes them: key types 10 to 15."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.protocol.messages.share_records import (
    ShareGroupCurrentMemberAssignmentKey,
    ShareGroupCurrentMemberAssignmentValue,
    ShareGroupMemberMetadataKey,
    ShareGroupMemberMetadataValue,
    ShareGroupMetadataKey,
    ShareGroupMetadataValue,
    ShareGroupStatePartitionMetadataKey,
    ShareGroupStatePartitionMetadataValue,
    ShareGroupTargetAssignmentMemberKey,
    ShareGroupTargetAssignmentMemberValue,
    ShareGroupTargetAssignmentMetadataKey,
    ShareGroupTargetAssignmentMetadataValue,
    TopicInfo,
    TopicPartition,
    TopicPartitions,
    TopicPartitionsInfo,
)
from ottla.server.coordinator.result import CoordinatorRecord

if TYPE_CHECKING:
    from ottla.server.coordinator.modern_group import Assignment
    from ottla.server.coordinator.share.group import ShareMember, ShareStateTopics, StateTopics

MEMBER = 10
GROUP = 11
TARGET = 12
TARGET_MEMBER = 13
CURRENT_MEMBER = 14
STATE_TOPICS = 15

_STABLE = 0


def member(group_id: str, member: ShareMember) -> CoordinatorRecord:
    """What a member said of itself."""
    return CoordinatorRecord(
        MEMBER,
        ShareGroupMemberMetadataKey(group_id=group_id, member_id=member.member_id),
        ShareGroupMemberMetadataValue(
            rack_id=member.rack_id,
            client_id=member.client_id,
            client_host=member.client_host,
            subscribed_topic_names=sorted(member.subscribed_topic_names),
        ),
    )


def group_epoch(group_id: str, epoch: int, metadata_hash: int) -> CoordinatorRecord:
    """The epoch of a group, with the hash of its topics then."""
    return CoordinatorRecord(
        GROUP,
        ShareGroupMetadataKey(group_id=group_id),
        ShareGroupMetadataValue(epoch=epoch, metadata_hash=metadata_hash),
    )


def target_member(group_id: str, member_id: str, assignment: Assignment) -> CoordinatorRecord:
    """What a member is to consume."""
    return CoordinatorRecord(
        TARGET_MEMBER,
        ShareGroupTargetAssignmentMemberKey(group_id=group_id, member_id=member_id),
        ShareGroupTargetAssignmentMemberValue(
            topic_partitions=[
                TopicPartition(topic_id=topic_id, partitions=list(partitions))
                for topic_id, partitions in assignment.items()
            ]
        ),
    )


def target(group_id: str, assignment_epoch: int, timestamp_ms: int) -> CoordinatorRecord:
    """The epoch that the target assignment was made for, and when (0: that is not to count)."""
    return CoordinatorRecord(
        TARGET,
        ShareGroupTargetAssignmentMetadataKey(group_id=group_id),
        ShareGroupTargetAssignmentMetadataValue(assignment_epoch=assignment_epoch, assignment_timestamp=timestamp_ms),
    )


def current_member(group_id: str, member: ShareMember) -> CoordinatorRecord:
    """Where a member stands."""
    return CoordinatorRecord(
        CURRENT_MEMBER,
        ShareGroupCurrentMemberAssignmentKey(group_id=group_id, member_id=member.member_id),
        ShareGroupCurrentMemberAssignmentValue(
            member_epoch=member.member_epoch,
            previous_member_epoch=member.previous_member_epoch,
            state=_STABLE,
            assigned_partitions=[
                TopicPartitions(topic_id=topic_id, partitions=list(partitions))
                for topic_id, partitions in member.assigned.items()
            ],
        ),
    )


def state_topics(group_id: str, state: ShareStateTopics) -> CoordinatorRecord:
    """Which topics have share state, or are about to, or not any more."""
    return CoordinatorRecord(
        STATE_TOPICS,
        ShareGroupStatePartitionMetadataKey(group_id=group_id),
        ShareGroupStatePartitionMetadataValue(
            initializing_topics=_infos(state.initializing),
            initialized_topics=_infos(state.initialized),
            deleting_topics=[
                TopicInfo(topic_id=topic_id, topic_name=name) for topic_id, name in state.deleting.items()
            ],
        ),
    )


def member_tombstones(group_id: str, member_id: str) -> list[CoordinatorRecord]:
    """The records that forget a member."""
    return [
        CoordinatorRecord(
            CURRENT_MEMBER, ShareGroupCurrentMemberAssignmentKey(group_id=group_id, member_id=member_id), None
        ),
        CoordinatorRecord(
            TARGET_MEMBER, ShareGroupTargetAssignmentMemberKey(group_id=group_id, member_id=member_id), None
        ),
        CoordinatorRecord(MEMBER, ShareGroupMemberMetadataKey(group_id=group_id, member_id=member_id), None),
    ]


def group_tombstones(group_id: str) -> list[CoordinatorRecord]:
    """The records that forget a group without members; the one that removes it comes last."""
    return [
        CoordinatorRecord(TARGET, ShareGroupTargetAssignmentMetadataKey(group_id=group_id), None),
        CoordinatorRecord(STATE_TOPICS, ShareGroupStatePartitionMetadataKey(group_id=group_id), None),
        CoordinatorRecord(GROUP, ShareGroupMetadataKey(group_id=group_id), None),
    ]


def _infos(topics: StateTopics) -> list[TopicPartitionsInfo]:
    return [
        TopicPartitionsInfo(topic_id=topic_id, topic_name=topic.name, partitions=sorted(topic.partitions))
        for topic_id, topic in topics.items()
    ]
