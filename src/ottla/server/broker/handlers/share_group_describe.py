"""ShareGroupDescribe (key 77), versions 1-1: epochs, members and assignments of share groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.share_group_describe import DescribedGroup, ShareGroupDescribeResponse
from ottla.server.broker.group_answers import ALL_GROUP_OPERATIONS, answer_all
from ottla.server.broker.share_feature import check_share_groups

if TYPE_CHECKING:
    from ottla.protocol.messages.share_group_describe import ShareGroupDescribeRequest
    from ottla.server.broker.broker import Broker, DelayedResponse, RequestContext


def handle(
    broker: Broker, request: ShareGroupDescribeRequest, context: RequestContext
) -> ShareGroupDescribeResponse | DelayedResponse:
    """Each group as of what is committed; errors are per group."""
    check_share_groups(broker.image)
    outcomes = [broker.share_groups.describe(group_id) for group_id in request.group_ids]

    def shape(groups: list[DescribedGroup]) -> ShareGroupDescribeResponse:
        if request.include_authorized_operations:
            for group in groups:
                if group.error_code == ErrorCode.NONE:
                    group.authorized_operations = ALL_GROUP_OPERATIONS
        return ShareGroupDescribeResponse(groups=groups)

    return answer_all(outcomes, shape)


def error_response(
    request: ShareGroupDescribeRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> ShareGroupDescribeResponse:
    """The same code for every group."""
    return ShareGroupDescribeResponse(
        groups=[DescribedGroup(group_id=group_id, error_code=code) for group_id in request.group_ids]
    )
