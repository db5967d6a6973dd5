"""InitProducerId (key 22), versions 0-6: a producer id and epoch.

Version notes.  2: flexible.  3: the producer names the id and epoch it goes on from after an error (KIP-360).  4:
PRODUCER_FENCED instead of INVALID_PRODUCER_EPOCH.  5: TRANSACTION_ABORTABLE.  6: two-phase commit (KIP-939); unstable,
so it is served with `unstable.api.versions.enable` only, and keep_prepared_txn is refused, as in Kafka 4.3.

Without a transactional id: a fresh id with epoch 0, whatever the producer had before: the fields of version 3 mean
something for transactions only, though one of them without the other is INVALID_REQUEST. Ids come from blocks of 1,000
that the controller hands out; taking a block is the only time the answer waits.

With a transactional id: its coordinator bumps the epoch, which fences every earlier producer of that id. An open
transaction is aborted first, and the producer asked to try again (CONCURRENT_TRANSACTIONS).
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, DelayedResponse, RequestContext
    from ottla.server.coordinator.result import Pending
    from ottla.server.coordinator.transactions.service import ProducerOutcome

_NONE = -1
_FIRST_VERSION_WITH_FENCED = 4


def handle(
    broker: Broker, request: InitProducerIdRequest, context: RequestContext
) -> InitProducerIdResponse | DelayedResponse | Awaitable[InitProducerIdResponse]:
    """Give a producer id."""
    if (request.producer_id == _NONE) != (request.producer_epoch == _NONE):
        return _refused(ErrorCode.INVALID_REQUEST)
    if request.transactional_id is not None:
        if not request.transactional_id:
            return _refused(ErrorCode.INVALID_REQUEST)
        return _begin(broker, request, request.transactional_id, context.api_version)
    producer_id = broker.producer_ids.try_producer_id()
    if producer_id is None:
        return _next_block(broker)
    return InitProducerIdResponse(producer_id=producer_id, producer_epoch=0)


def error_response(
    request: InitProducerIdRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> InitProducerIdResponse:
    """No id."""
    return _refused(code)


def _begin(
    broker: Broker, request: InitProducerIdRequest, transactional_id: str, version: int
) -> InitProducerIdResponse | DelayedResponse | Awaitable[InitProducerIdResponse]:
    """Become the one producer of a transactional id."""
    # Imported here: idempotent producers need nothing of it.
    from ottla.server.broker.transaction_answers import answer_producer, fenced_as_known_to

    if request.enable_2pc and not broker.config["transaction.two.phase.commit.enable"]:
        return _refused(ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
    if request.keep_prepared_txn:
        return _refused(ErrorCode.UNSUPPORTED_VERSION)

    def command() -> ProducerOutcome | Pending[ProducerOutcome]:
        return broker.transactions.init_producer_id(
            transactional_id,
            request.transaction_timeout_ms,
            (request.producer_id, request.producer_epoch),
            two_phase=request.enable_2pc,
        )

    def shape(outcome: ProducerOutcome) -> InitProducerIdResponse:
        known = outcome.code if version >= _FIRST_VERSION_WITH_FENCED else fenced_as_known_to(outcome.code)
        producer_id, producer_epoch = outcome.producer
        return InitProducerIdResponse(error_code=known, producer_id=producer_id, producer_epoch=producer_epoch)

    return answer_producer(broker, command, shape)


def _refused(code: ErrorCode) -> InitProducerIdResponse:
    return InitProducerIdResponse(error_code=code, producer_id=_NONE, producer_epoch=_NONE)


async def _next_block(broker: Broker) -> InitProducerIdResponse:
    return InitProducerIdResponse(producer_id=await broker.producer_ids.producer_id(), producer_epoch=0)
