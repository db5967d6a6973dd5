"""A share group as ShareGroupDescribe shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.protocol.messages.share_group_describe import Assignment, DescribedGroup, Member, TopicPartitions

if TYPE_CHECKING:
    from ottla.server.coordinator.modern_group import Assignment as MemberAssignment
    from ottla.server.coordinator.share.group import ShareGroup
    from ottla.server.metadata.image import MetadataImage

ASSIGNOR_NAME = "simple"


def described(group: ShareGroup, image: MetadataImage) -> DescribedGroup:
    """The group with its members; partitions of topics that are gone are left out."""
    return DescribedGroup(
        group_id=group.group_id,
        group_state=group.state_name,
        group_epoch=group.group_epoch,
        assignment_epoch=group.assignment_epoch,
        assignor_name=ASSIGNOR_NAME,
        members=[
            Member(
                member_id=member.member_id,
                rack_id=member.rack_id,
                member_epoch=member.member_epoch,
                client_id=member.client_id,
                client_host=member.client_host,
                subscribed_topic_names=sorted(member.subscribed_topic_names),
                assignment=_described(member.assigned, image),
            )
            for member in group.members.values()
        ],
    )


def _described(assignment: MemberAssignment, image: MetadataImage) -> Assignment:
    topics = image.topics.by_id
    return Assignment(
        topic_partitions=[
            TopicPartitions(topic_id=topic_id, topic_name=topics[topic_id].name, partitions=list(partitions))
            for topic_id, partitions in assignment.items()
            if topic_id in topics
        ]
    )
