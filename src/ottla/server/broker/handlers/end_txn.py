"""EndTxn (key 26), versions 0-5: commit or abort a transaction.

Version notes.  2: PRODUCER_FENCED instead of INVALID_PRODUCER_EPOCH.  3: flexible.  4: TRANSACTION_ABORTABLE.  5:
transactions v2 (KIP-890): the epoch is bumped, and the answer has the producer id and epoch to go on with.

The answer goes out when the outcome is committed; the markers are written right after it.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from ottla.protocol.messages.end_txn import EndTxnRequest, EndTxnResponse
from ottla.server.broker.transaction_answers import answer_producer, fenced_as_known_to
from ottla.server.coordinator.transactions.state import TRANSACTIONS_V2

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, DelayedResponse, RequestContext
    from ottla.server.coordinator.result import Pending
    from ottla.server.coordinator.transactions.service import ProducerOutcome

_FIRST_VERSION_WITH_FENCED = 2
_FIRST_V2_VERSION = 5
_NO_VERSION = 0


def handle(
    broker: Broker, request: EndTxnRequest, context: RequestContext
) -> EndTxnResponse | DelayedResponse | Awaitable[EndTxnResponse]:
    """Answered at once where this broker is alone in the ISR of the transaction's partition."""
    version = context.api_version
    client_version = TRANSACTIONS_V2 if version >= _FIRST_V2_VERSION else _NO_VERSION

    def command() -> ProducerOutcome | Pending[ProducerOutcome]:
        return broker.transactions.end_transaction(
            request.transactional_id,
            (request.producer_id, request.producer_epoch),
            is_commit=request.committed,
            client_version=client_version,
        )

    def shape(outcome: ProducerOutcome) -> EndTxnResponse:
        known = outcome.code if version >= _FIRST_VERSION_WITH_FENCED else fenced_as_known_to(outcome.code)
        producer_id, producer_epoch = outcome.producer
        return EndTxnResponse(error_code=known, producer_id=producer_id, producer_epoch=producer_epoch)

    return answer_producer(broker, command, shape)
