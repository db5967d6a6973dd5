"""ConsumerGroupDescribe (key 69), versions 0-1: epochs, members and assignments of consumer groups (KIP-848).

Version notes.  1: type of each member (KIP-1099).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.consumer_group_describe import ConsumerGroupDescribeResponse, DescribedGroup
from ottla.server.broker.group_answers import ALL_GROUP_OPERATIONS, answer_all
from ottla.server.broker.group_protocols import check_protocol
from ottla.server.coordinator.consumer import service as consumer_group_service

if TYPE_CHECKING:
    from ottla.protocol.messages.consumer_group_describe import ConsumerGroupDescribeRequest
    from ottla.server.broker.broker import Broker, DelayedResponse, RequestContext


def handle(
    broker: Broker, request: ConsumerGroupDescribeRequest, context: RequestContext
) -> ConsumerGroupDescribeResponse | DelayedResponse:
    """One entry per asked group, in the order asked; groups of other kinds are not found."""
    check_protocol(broker, "consumer")

    def shape(groups: list[DescribedGroup]) -> ConsumerGroupDescribeResponse:
        if request.include_authorized_operations:
            for group in groups:
                if group.error_code == ErrorCode.NONE:
                    group.authorized_operations = ALL_GROUP_OPERATIONS
        return ConsumerGroupDescribeResponse(groups=groups)

    return answer_all(
        [consumer_group_service.describe(broker.groups, group_id) for group_id in request.group_ids], shape
    )


def error_response(
    request: ConsumerGroupDescribeRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> ConsumerGroupDescribeResponse:
    """The same code for every group."""
    return ConsumerGroupDescribeResponse(
        groups=[DescribedGroup(group_id=group_id, error_code=code) for group_id in request.group_ids]
    )
