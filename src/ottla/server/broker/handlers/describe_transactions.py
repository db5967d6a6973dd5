"""DescribeTransactions (key 65), version 0: transactional ids as their coordinator knows them (KIP-664)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.describe_transactions import (
    DescribeTransactionsRequest,
    DescribeTransactionsResponse,
    TopicData,
    TransactionState,
)
from ottla.server.broker.group_answers import answer_all

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, DelayedResponse, RequestContext
    from ottla.server.coordinator.transactions.state import Transaction


def handle(
    broker: Broker, request: DescribeTransactionsRequest, context: RequestContext
) -> DescribeTransactionsResponse | DelayedResponse:
    """One answer for each id, as of what is committed."""
    ids = request.transactional_ids

    def shape(outcomes: list[Transaction | ErrorCode]) -> DescribeTransactionsResponse:
        return DescribeTransactionsResponse(
            transaction_states=[_described(key, found) for key, found in zip(ids, outcomes, strict=True)]
        )

    outcomes: list[Any] = [broker.transactions.describe(key) for key in ids]
    return answer_all(outcomes, shape)


def error_response(
    request: DescribeTransactionsRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> DescribeTransactionsResponse:
    """The same code for every id."""
    return DescribeTransactionsResponse(
        transaction_states=[
            TransactionState(transactional_id=transactional_id, error_code=code)
            for transactional_id in request.transactional_ids
        ]
    )


def _described(transactional_id: str, found: Transaction | ErrorCode) -> TransactionState:
    if isinstance(found, ErrorCode):
        return TransactionState(transactional_id=transactional_id, error_code=found)
    topics: dict[str, list[int]] = {}
    for topic, index in sorted(found.partitions):
        topics.setdefault(topic, []).append(index)
    return TransactionState(
        transactional_id=transactional_id,
        transaction_state=found.state.title,
        transaction_timeout_ms=found.timeout_ms,
        transaction_start_time_ms=found.start_ms,
        producer_id=found.producer_id,
        producer_epoch=found.producer_epoch,
        topics=[TopicData(topic=topic, partitions=indexes) for topic, indexes in topics.items()],
    )
