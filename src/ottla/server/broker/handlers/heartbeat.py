"""Heartbeat (key 12), versions 0-4: a member of a classic group is alive, and learns whether to join again.

Version notes.  1: throttle time.  3: group instance id (KIP-345).  4: flexible.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ottla.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
    from ottla.server.broker.broker import Broker, RequestContext


def handle(broker: Broker, request: HeartbeatRequest, context: RequestContext) -> HeartbeatResponse:
    """Always answered at once."""
    return broker.groups.heartbeat(request)
