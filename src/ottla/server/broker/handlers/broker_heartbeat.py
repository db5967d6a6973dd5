"""BrokerHeartbeat (key 63), versions 0-2: a broker is alive, and wants to be unfenced, to be fenced, or to stop.

On controller listeners only (KIP-631). Version notes. 1: log directories that failed (KIP-858). 2: log directories that
take no new replicas (KIP-1066). Refusals: STALE_BROKER_EPOCH, NOT_CONTROLLER.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.protocol.messages.broker_heartbeat import BrokerHeartbeatRequest, BrokerHeartbeatResponse

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, RequestContext


async def handle(broker: Broker, request: BrokerHeartbeatRequest, context: RequestContext) -> BrokerHeartbeatResponse:
    """Have the controller note it, and decide what the broker may do."""
    if broker.departures is not None:
        broker.departures.watch(request.broker_id, request.broker_epoch, context)
    return await broker.controller.broker_heartbeat(request)
