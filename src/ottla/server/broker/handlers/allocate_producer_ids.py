"""AllocateProducerIds (key 67), version 0: a broker takes a block of producer ids (KIP-730).

On controller listeners only. Refusals: STALE_BROKER_EPOCH, NOT_CONTROLLER.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.protocol.messages.allocate_producer_ids import AllocateProducerIdsRequest, AllocateProducerIdsResponse

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, RequestContext


async def handle(
    broker: Broker, request: AllocateProducerIdsRequest, context: RequestContext
) -> AllocateProducerIdsResponse:
    """Have the controller give out the next block."""
    return await broker.controller.allocate_producer_ids(request)
