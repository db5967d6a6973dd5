"""InitProducerId (key 22), versions 0-5: a producer id for an idempotent producer.

Without a transactional id: a fresh id with epoch 0, whatever the producer had before: the fields of version 3 (KIP-360)
mean something for transactions only, though one of them without the other is INVALID_REQUEST. Ids come from blocks of
1,000 that the controller hands out; taking a block is the only time the answer waits.

With a transactional id: UNSUPPORTED_VERSION. Transactions are not served (FindCoordinator finds no coordinator for
them, the transaction APIs are not advertised), and this code makes clients give up at once instead of trying again. An
empty transactional id is INVALID_REQUEST, as in Kafka.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, RequestContext

_NONE = -1


def handle(
    broker: Broker, request: InitProducerIdRequest, context: RequestContext
) -> InitProducerIdResponse | Awaitable[InitProducerIdResponse]:
    """Give a producer id."""
    if request.transactional_id is not None:
        code = ErrorCode.UNSUPPORTED_VERSION if request.transactional_id else ErrorCode.INVALID_REQUEST
        return InitProducerIdResponse(error_code=code, producer_id=-1, producer_epoch=-1)
    if (request.producer_id == _NONE) != (request.producer_epoch == _NONE):
        return InitProducerIdResponse(error_code=ErrorCode.INVALID_REQUEST, producer_id=-1, producer_epoch=-1)
    producer_id = broker.controller.try_producer_id()
    if producer_id is None:
        return _next_block(broker)
    return InitProducerIdResponse(producer_id=producer_id, producer_epoch=0)


async def _next_block(broker: Broker) -> InitProducerIdResponse:
    return InitProducerIdResponse(producer_id=await broker.controller.producer_id(), producer_epoch=0)
