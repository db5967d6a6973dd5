"""ShareGroupHeartbeat (key 76), versions 1-1: a member of a share group joins, is alive, or leaves.

Epoch 0 joins and -1 leaves.  The answer brings the assignment when it changed, and always to those who subscribe; it
waits while partitions that nobody consumed yet are initialized for the member.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.server.broker.share_feature import check_share_groups

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ottla.protocol.messages.share_group_heartbeat import ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse
    from ottla.server.broker.broker import Broker, RequestContext


def handle(
    broker: Broker, request: ShareGroupHeartbeatRequest, context: RequestContext
) -> ShareGroupHeartbeatResponse | Awaitable[ShareGroupHeartbeatResponse]:
    """Mostly answered at once.  The host gets Kafka's slash."""
    check_share_groups(broker.image)
    return broker.share_groups.heartbeat(request, context.client_id or "", "/" + context.client_host)
