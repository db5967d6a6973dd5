"""UnregisterBroker (key 64), version 0: forget a broker that will not come back.

Refusals: BROKER_ID_NOT_REGISTERED; INVALID_REQUEST for the broker that answers, which is registered as long as it runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.protocol.messages.unregister_broker import UnregisterBrokerRequest, UnregisterBrokerResponse

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, RequestContext


async def handle(broker: Broker, request: UnregisterBrokerRequest, context: RequestContext) -> UnregisterBrokerResponse:
    """Have the controller forget it."""
    await broker.controller.unregister_broker(request.broker_id)
    return UnregisterBrokerResponse()
