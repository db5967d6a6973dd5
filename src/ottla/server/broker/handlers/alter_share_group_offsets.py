"""AlterShareGroupOffsets (key 91), versions 0-0: move the start offsets of a share group without members.

A group that does not exist is made so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.server.broker.share_feature import check_share_groups

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ottla.protocol.messages.alter_share_group_offsets import (
        AlterShareGroupOffsetsRequest,
        AlterShareGroupOffsetsResponse,
    )
    from ottla.server.broker.broker import Broker, RequestContext


def handle(
    broker: Broker, request: AlterShareGroupOffsetsRequest, context: RequestContext
) -> Awaitable[AlterShareGroupOffsetsResponse]:
    """Answered when both coordinators have written it down."""
    check_share_groups(broker.image)
    return broker.share_groups.alter_offsets(request)
