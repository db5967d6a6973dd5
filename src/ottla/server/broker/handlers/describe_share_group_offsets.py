"""DescribeShareGroupOffsets (key 90), versions 0-1: where share groups stand in the partitions they consume.

Version notes.  1: lag (KIP-1226).

A group without topics in the request is described in all partitions it ever consumed.  What is not known is -1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ApiError
from ottla.protocol.messages.describe_share_group_offsets import (
    DescribeShareGroupOffsetsResponse,
    DescribeShareGroupOffsetsResponseGroup,
)
from ottla.server.broker.share_feature import check_share_groups

if TYPE_CHECKING:
    from ottla.core.errors import ErrorCode
    from ottla.protocol.messages.describe_share_group_offsets import (
        DescribeShareGroupOffsetsRequest,
        DescribeShareGroupOffsetsRequestGroup,
    )
    from ottla.server.broker.broker import Broker, RequestContext


async def handle(
    broker: Broker, request: DescribeShareGroupOffsetsRequest, context: RequestContext
) -> DescribeShareGroupOffsetsResponse:
    """One group after the other; errors are per group."""
    check_share_groups(broker.image)
    return DescribeShareGroupOffsetsResponse(groups=[await _describe(broker, group) for group in request.groups])


def error_response(
    request: DescribeShareGroupOffsetsRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> DescribeShareGroupOffsetsResponse:
    """The same code for every group."""
    return DescribeShareGroupOffsetsResponse(groups=[_refused(group, code, message) for group in request.groups])


async def _describe(
    broker: Broker, group: DescribeShareGroupOffsetsRequestGroup
) -> DescribeShareGroupOffsetsResponseGroup:
    try:
        return await broker.share_groups.describe_offsets(group)
    except ApiError as error:
        return _refused(group, error.code, error.message)


def _refused(
    group: DescribeShareGroupOffsetsRequestGroup, code: ErrorCode, message: str | None
) -> DescribeShareGroupOffsetsResponseGroup:
    return DescribeShareGroupOffsetsResponseGroup(group_id=group.group_id, error_code=code, error_message=message)
