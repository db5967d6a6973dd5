"""StreamsGroupDescribe (key 89), versions 0-1: epochs, topology, members and tasks of streams groups (KIP-1071).

Version notes.  1: the topology description, if asked for (KIP-1331), and the assignor's name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.streams_group_describe import DescribedGroup, StreamsGroupDescribeResponse
from ottla.server.broker.group_answers import ALL_GROUP_OPERATIONS, answer_all
from ottla.server.broker.group_protocols import check_protocol

if TYPE_CHECKING:
    from ottla.protocol.messages.streams_group_describe import StreamsGroupDescribeRequest
    from ottla.server.broker.broker import Broker, DelayedResponse, RequestContext


def handle(
    broker: Broker, request: StreamsGroupDescribeRequest, context: RequestContext
) -> StreamsGroupDescribeResponse | DelayedResponse:
    """One entry per asked group, in the order asked."""
    check_protocol(broker, "streams")

    def shape(groups: list[DescribedGroup]) -> StreamsGroupDescribeResponse:
        if request.include_authorized_operations:
            for group in groups:
                if group.error_code == ErrorCode.NONE:
                    group.authorized_operations = ALL_GROUP_OPERATIONS
        return StreamsGroupDescribeResponse(groups=groups)

    with_description = request.include_topology_description
    return answer_all(
        [
            broker.streams_groups.describe(group_id, with_topology_description=with_description)
            for group_id in request.group_ids
        ],
        shape,
    )


def error_response(
    request: StreamsGroupDescribeRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> StreamsGroupDescribeResponse:
    """The code for each group."""
    return StreamsGroupDescribeResponse(
        groups=[DescribedGroup(group_id=group_id, error_code=code) for group_id in request.group_ids]
    )
