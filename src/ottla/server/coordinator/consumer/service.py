"""Consumer groups of one broker: what the handlers of their own two APIs call (KIP-848)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.consumer_group_describe import Assignment as DescribedAssignment
from ottla.protocol.messages.consumer_group_describe import DescribedGroup, TopicPartitions
from ottla.protocol.messages.consumer_group_describe import Member as DescribedMember
from ottla.protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
)
from ottla.server.coordinator.append_errors import append_error
from ottla.server.coordinator.consumer.checks import check_heartbeat
from ottla.server.coordinator.consumer.group import ConsumerGroup
from ottla.server.coordinator.group import GroupType
from ottla.server.coordinator.result import Pending, Result

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ottla.server.coordinator.consumer.member import ConsumerMember
    from ottla.server.coordinator.consumer.regexes import MayDescribe
    from ottla.server.coordinator.service import GroupCoordinator
    from ottla.server.metadata.image import MetadataImage

_CLASSIC_MEMBER, _CONSUMER_MEMBER = 0, 1


def heartbeat(
    groups: GroupCoordinator,
    request: ConsumerGroupHeartbeatRequest,
    version: int,
    client_id: str,
    client_host: str,
    may_describe: MayDescribe | None = None,
) -> ConsumerGroupHeartbeatResponse | Pending[ConsumerGroupHeartbeatResponse]:
    """ConsumerGroupHeartbeat: whatever is refused, is refused in the response.

    `may_describe` says of which topics the member may know, where not of all.
    """
    try:
        check_heartbeat(request, version, groups.settings.consumer_assignors)
        partition = groups.partition_of(request.group_id)
        machine = partition.shard.machine(GroupType.CONSUMER)
        machine.regexes.may_describe = may_describe
        result = machine.heartbeat(request, client_id, client_host, partition.now())
    except ApiError as error:
        return ConsumerGroupHeartbeatResponse(error_code=error.code, error_message=error.message)
    return partition.complete(result, _refused)


def _refused(code: ErrorCode) -> ConsumerGroupHeartbeatResponse:
    code = append_error(code)
    return ConsumerGroupHeartbeatResponse(error_code=code, error_message=code.message)


def describe(groups: GroupCoordinator, group_id: str) -> DescribedGroup | Pending[DescribedGroup]:
    """ConsumerGroupDescribe for one group."""
    try:
        if not group_id:
            raise ApiError(ErrorCode.INVALID_GROUP_ID)
        partition = groups.partition_of(group_id)
        shard = partition.shard
        group = shard.groups.get(group_id)
        if group is None:
            raise ApiError(ErrorCode.GROUP_ID_NOT_FOUND, f"Group {group_id} not found.")
        if not isinstance(group, ConsumerGroup):
            raise ApiError(ErrorCode.GROUP_ID_NOT_FOUND, f"Group {group_id} is not a consumer group.")
    except ApiError as error:
        return DescribedGroup(group_id=group_id, error_code=error.code, error_message=error.message)
    image = shard.context.image
    described = DescribedGroup(
        group_id=group_id,
        group_state=group.state_name,
        group_epoch=group.group_epoch,
        assignment_epoch=group.assignment_epoch,
        assignor_name=group.assignor_name(groups.settings.consumer_assignors[0]),
        members=[_member(group, member, image) for member in group.members.values()],
    )
    return partition.complete(
        Result(described), lambda code: DescribedGroup(group_id=group_id, error_code=append_error(code))
    )


def _member(group: ConsumerGroup, member: ConsumerMember, image: MetadataImage) -> DescribedMember:
    """What the member still has to give up counts as its own: it answers for it until it did."""
    has: dict[bytes, list[int]] = {}
    for partitions in (member.assigned, member.pending_revocation):
        for topic_id, epochs in partitions.items():
            has.setdefault(topic_id, []).extend(epochs)
    return DescribedMember(
        member_id=member.member_id,
        instance_id=member.instance_id,
        rack_id=member.rack_id,
        member_epoch=member.member_epoch,
        client_id=member.client_id,
        client_host=member.client_host,
        subscribed_topic_names=sorted(member.subscribed_topic_names),
        subscribed_topic_regex=member.subscribed_topic_regex,
        assignment=_assignment(has, image),
        target_assignment=_assignment(group.target_of(member.member_id), image),
        member_type=_CONSUMER_MEMBER if member.classic is None else _CLASSIC_MEMBER,
    )


def _assignment(partitions: Mapping[bytes, Iterable[int]], image: MetadataImage) -> DescribedAssignment:
    return DescribedAssignment(
        topic_partitions=[
            TopicPartitions(topic_id=topic_id, topic_name=name, partitions=sorted(indexes))
            for topic_id, indexes in partitions.items()
            if (name := image.topics.name_of(topic_id)) is not None
        ]
    )
