"""DeleteShareGroupOffsets (key 92), versions 0-0: forget the offsets of a share group without members, by topic.

The group stays, and begins anew where it subscribes to the topic again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.server.broker.share_feature import check_share_groups

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ottla.protocol.messages.delete_share_group_offsets import (
        DeleteShareGroupOffsetsRequest,
        DeleteShareGroupOffsetsResponse,
    )
    from ottla.server.broker.broker import Broker, RequestContext


def handle(
    broker: Broker, request: DeleteShareGroupOffsetsRequest, context: RequestContext
) -> Awaitable[DeleteShareGroupOffsetsResponse]:
    """Answered when both coordinators have written it down."""
    check_share_groups(broker.image)
    return broker.share_groups.delete_offsets(request)
