"""What Kafka refuses of a ConsumerGroupHeartbeat, before anything is changed."""

from __future__ import annotations

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest
from ottla.server.coordinator.consumer.group import ConsumerGroup
from ottla.server.coordinator.consumer.member import ConsumerMember
from ottla.server.coordinator.modern_group import JOIN_EPOCH, LEAVE_EPOCH, STATIC_LEAVE_EPOCH, Assignment

#: Since this version of ConsumerGroupHeartbeat members make their ids themselves (KIP-1082).
_FIRST_VERSION_WITH_OWN_IDS = 1


def check_heartbeat(request: ConsumerGroupHeartbeatRequest, version: int, assignors: tuple[str, ...]) -> None:
    """ApiError for a request that no group could take: INVALID_REQUEST, UNSUPPORTED_ASSIGNOR."""
    epoch = request.member_epoch
    if version >= _FIRST_VERSION_WITH_OWN_IDS or epoch > 0 or epoch == LEAVE_EPOCH:
        _check_not_empty(request.member_id, "MemberId")
    _check_not_empty(request.group_id, "GroupId")
    _check_not_empty(request.instance_id, "InstanceId")
    _check_not_empty(request.rack_id, "RackId")
    if epoch == JOIN_EPOCH:
        if request.rebalance_timeout_ms == -1:
            raise _invalid("A member that joins has to give RebalanceTimeoutMs.")
        if request.topic_partitions is None or request.topic_partitions:
            raise _invalid("A member that joins has to give an empty TopicPartitions.")
        if request.subscribed_topic_names is None and request.subscribed_topic_regex is None:
            raise _invalid("A member that joins has to give SubscribedTopicNames or SubscribedTopicRegex.")
    elif epoch == STATIC_LEAVE_EPOCH:
        if request.instance_id is None:
            raise _invalid("InstanceId can't be null.")
    elif epoch < STATIC_LEAVE_EPOCH:
        raise _invalid(f"{epoch} is no MemberEpoch.")
    if request.server_assignor is not None and request.server_assignor not in assignors:
        raise ApiError(
            ErrorCode.UNSUPPORTED_ASSIGNOR,
            f"There is no ServerAssignor {request.server_assignor}, but {', '.join(assignors)}.",
        )


def _check_not_empty(value: str | None, name: str) -> None:
    if value is not None and not value.strip():
        raise _invalid(f"{name} can't be empty.")


def _invalid(message: str) -> ApiError:
    return ApiError(ErrorCode.INVALID_REQUEST, message)


def static_member(group: ConsumerGroup, member_id: str, instance_id: str) -> ConsumerMember:
    """The member in the seat of the instance; ApiError UNKNOWN_MEMBER_ID, or FENCED_INSTANCE_ID when it is another."""
    member = group.static_member(instance_id)
    if member is None:
        raise ApiError(ErrorCode.UNKNOWN_MEMBER_ID, f"Instance id {instance_id} is unknown.")
    if member.member_id != member_id:
        raise ApiError(
            ErrorCode.FENCED_INSTANCE_ID, f"Instance {instance_id} belongs to member {member.member_id} now."
        )
    return member


def check_epoch(member: ConsumerMember, epoch: int, owned: Assignment | None) -> None:
    """ApiError FENCED_MEMBER_EPOCH unless the member's epoch is known.

    One step behind is fine where the member claims nothing that it does not have: the answer with the new epoch got
    lost on its way.
    """
    if epoch == member.member_epoch:
        return
    if epoch < member.member_epoch and epoch == member.previous_member_epoch and member.owns_all(owned):
        return
    raise ApiError(
        ErrorCode.FENCED_MEMBER_EPOCH,
        f"The member's epoch is {member.member_epoch}, not {epoch}: it has to give up its partitions and join again.",
    )
