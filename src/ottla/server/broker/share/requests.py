"""What ShareFetch and ShareAcknowledge have in common: who may ask, and where to go instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ApiError, ErrorCode
from ottla.server.broker.leader_hints import current_leader
from ottla.server.broker.share_feature import check_share_groups

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker
    from ottla.server.broker.share.share_partitions import SharePartitions

_LONGEST_MEMBER_ID = 36
_HINTED = (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.FENCED_LEADER_EPOCH)


def checked_share_partitions(broker: Broker, group_id: str | None, member_id: str | None) -> SharePartitions:
    """The service, for a request with a valid group and member id. Raises ApiError UNSUPPORTED_VERSION when the cluster
    has no share groups, INVALID_REQUEST for ids that are none.
    """
    check_share_groups(broker.image)
    if not group_id:
        raise ApiError(ErrorCode.INVALID_REQUEST, "Invalid group id in the request.")
    if not member_id or len(member_id) > _LONGEST_MEMBER_ID:
        raise ApiError(ErrorCode.INVALID_REQUEST, "Invalid member id in the request.")
    return broker.share_partitions


def leader_hint(broker: Broker, topic_id: bytes, index: int, code: int) -> tuple[int, int] | None:
    """(leader id, leader epoch) for the answer about a partition whose error says that the leader is elsewhere."""
    return current_leader(broker.image, None, topic_id, index) if code in _HINTED else None
