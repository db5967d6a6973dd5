"""AddOffsetsToTxn (key 25), versions 0-4: make a group's offsets part of a transaction.

Version notes.  2: PRODUCER_FENCED instead of INVALID_PRODUCER_EPOCH.  3: flexible.  4: TRANSACTION_ABORTABLE.

It adds the partition of ``__consumer_offsets`` that keeps the group. Clients of transactions v2 leave that to
TxnOffsetCommit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.ids import TopicPartition
from ottla.core.topics import OFFSETS_TOPIC
from ottla.protocol.messages.add_offsets_to_txn import AddOffsetsToTxnRequest, AddOffsetsToTxnResponse
from ottla.server.broker.group_answers import answer
from ottla.server.broker.transaction_answers import fenced_as_known_to

if TYPE_CHECKING:
    from ottla.core.errors import ErrorCode
    from ottla.server.broker.broker import Broker, DelayedResponse, RequestContext

_FIRST_VERSION_WITH_FENCED = 2
_NO_VERSION = 0


def handle(
    broker: Broker, request: AddOffsetsToTxnRequest, context: RequestContext
) -> AddOffsetsToTxnResponse | DelayedResponse:
    """Answered at once where this broker is alone in the ISR of the transaction's partition."""
    partition = TopicPartition(OFFSETS_TOPIC, broker.groups.partition_for(request.group_id))
    producer = (request.producer_id, request.producer_epoch)
    outcome = broker.transactions.add_partitions(request.transactional_id, producer, [partition], _NO_VERSION)
    version = context.api_version

    def shape(code: ErrorCode) -> AddOffsetsToTxnResponse:
        known = code if version >= _FIRST_VERSION_WITH_FENCED else fenced_as_known_to(code)
        return AddOffsetsToTxnResponse(error_code=known)

    return answer(outcome, shape)
