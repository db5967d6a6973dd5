"""StreamsGroupDescribe (key 89), versions 0-1: epochs, topology, members and tasks of streams groups (KIP-1071).

Version notes.  1: the topology description, if asked for (KIP-1331), and the assignor's name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.streams_group_describe import DescribedGroup, StreamsGroupDescribeResponse
from ottla.server.broker.group_answers import ALL_GROUP_OPERATIONS
from ottla.server.broker.group_protocols import check_protocol

if TYPE_CHECKING:
    from ottla.protocol.messages.streams_group_describe import StreamsGroupDescribeRequest
    from ottla.server.broker.broker import Broker, RequestContext


def handle(
    broker: Broker, request: StreamsGroupDescribeRequest, context: RequestContext
) -> StreamsGroupDescribeResponse:
    """One entry per asked group, in the order asked."""
    check_protocol(broker, "streams")
    groups = []
    for group_id in request.group_ids:
        described = broker.streams_groups.describe(
            group_id, with_topology_description=request.include_topology_description
        )
        if request.include_authorized_operations and described.error_code == ErrorCode.NONE:
            described.authorized_operations = ALL_GROUP_OPERATIONS
        groups.append(described)
    return StreamsGroupDescribeResponse(groups=groups)


def error_response(
    request: StreamsGroupDescribeRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> StreamsGroupDescribeResponse:
    """The code for each group."""
    return StreamsGroupDescribeResponse(
        groups=[DescribedGroup(group_id=group_id, error_code=code) for group_id in request.group_ids]
    )
