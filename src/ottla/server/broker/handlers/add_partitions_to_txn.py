"""AddPartitionsToTxn (key 24), versions 0-5: make partitions part of a transaction.

Version notes.  0-3: a client adds partitions to its own transaction.  2: PRODUCER_FENCED instead of
INVALID_PRODUCER_EPOCH.  3: flexible.  4: brokers add or verify (verify_only, KIP-890) the partitions of several
transactions at once.  5: TRANSACTION_ABORTABLE.

All or nothing: when one partition does not exist, the others answer OPERATION_NOT_ATTEMPTED.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ottla.core.errors import ErrorCode
from ottla.core.ids import TopicPartition
from ottla.protocol.messages.add_partitions_to_txn import (
    AddPartitionsToTxnPartitionResult,
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse,
    AddPartitionsToTxnResult,
    AddPartitionsToTxnTopic,
    AddPartitionsToTxnTopicResult,
    AddPartitionsToTxnTransaction,
)
from ottla.server.broker.group_answers import answer_all
from ottla.server.broker.transaction_answers import fenced_as_known_to
from ottla.server.coordinator.transactions.state import TRANSACTIONS_V2

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ottla.server.broker.broker import Broker, DelayedResponse, RequestContext
    from ottla.server.coordinator.result import Pending

    #: One code for all partitions, or one for each.
    Outcome = ErrorCode | dict[TopicPartition, ErrorCode]


_FIRST_BATCHED_VERSION = 4
_FIRST_VERSION_WITH_FENCED = 2
_NO_VERSION = 0


def handle(
    broker: Broker, request: AddPartitionsToTxnRequest, context: RequestContext
) -> AddPartitionsToTxnResponse | DelayedResponse:
    """Answered at once where this broker is alone in the ISR of the transactions' partitions."""
    version = context.api_version
    if version < _FIRST_BATCHED_VERSION:
        transactions = [
            AddPartitionsToTxnTransaction(
                transactional_id=request.v3_and_below_transactional_id,
                producer_id=request.v3_and_below_producer_id,
                producer_epoch=request.v3_and_below_producer_epoch,
                topics=request.v3_and_below_topics,
            )
        ]
    else:
        transactions = request.transactions
    outcomes = [_add(broker, transaction, version) for transaction in transactions]

    def shape(answers: list[Any]) -> AddPartitionsToTxnResponse:
        results = [
            _result(transaction, found, version) for transaction, found in zip(transactions, answers, strict=True)
        ]
        if version < _FIRST_BATCHED_VERSION:
            return AddPartitionsToTxnResponse(results_by_topic_v3_and_below=results[0].topic_results)
        return AddPartitionsToTxnResponse(results_by_transaction=results)

    return answer_all(outcomes, shape)


def error_response(
    request: AddPartitionsToTxnRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> AddPartitionsToTxnResponse:
    """A refusal of the whole request: top-level from version 4 on, before that one for each partition."""
    if context.api_version >= _FIRST_BATCHED_VERSION:
        return AddPartitionsToTxnResponse(error_code=code)
    return AddPartitionsToTxnResponse(results_by_topic_v3_and_below=_topics(request.v3_and_below_topics, {}, code))


def _add(broker: Broker, transaction: AddPartitionsToTxnTransaction, version: int) -> Outcome | Pending[Outcome]:
    partitions = [TopicPartition(topic.name, index) for topic in transaction.topics for index in topic.partitions]
    known = broker.image.topics
    unknown = {
        partition: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        for partition in partitions
        if known.partition(*partition) is None
    }
    if unknown:
        return {partition: unknown.get(partition, ErrorCode.OPERATION_NOT_ATTEMPTED) for partition in partitions}
    producer = (transaction.producer_id, transaction.producer_epoch)
    transactional_id = transaction.transactional_id
    if transaction.verify_only:
        return broker.transactions.verify_partitions(transactional_id, producer, partitions)  # type: ignore[return-value]
    client_version = _NO_VERSION if version < _FIRST_BATCHED_VERSION else TRANSACTIONS_V2
    return broker.transactions.add_partitions(transactional_id, producer, partitions, client_version)  # type: ignore[return-value]


def _result(transaction: AddPartitionsToTxnTransaction, outcome: Outcome, version: int) -> AddPartitionsToTxnResult:
    if isinstance(outcome, dict):
        topics = _topics(transaction.topics, outcome, ErrorCode.NONE)
    else:
        code = outcome if version >= _FIRST_VERSION_WITH_FENCED else fenced_as_known_to(outcome)
        topics = _topics(transaction.topics, {}, code)
    return AddPartitionsToTxnResult(transactional_id=transaction.transactional_id, topic_results=topics)


def _topics(
    topics: Iterable[AddPartitionsToTxnTopic], codes: Mapping[TopicPartition, ErrorCode], otherwise: ErrorCode
) -> list[AddPartitionsToTxnTopicResult]:
    return [
        AddPartitionsToTxnTopicResult(
            name=topic.name,
            results_by_partition=[
                AddPartitionsToTxnPartitionResult(
                    partition_index=index,
                    partition_error_code=codes.get(TopicPartition(topic.name, index), otherwise),
                )
                for index in topic.partitions
            ],
        )
        for topic in topics
    ]
