"""ListTransactions (key 66), versions 0-2: the transactional ids that this broker coordinates (KIP-664).

Version notes.  1: duration_filter, transactions that are open for longer (KIP-994).  2: transactional_id_pattern, which
the whole id must match (KIP-1152), in the language of RE2; INVALID_REGULAR_EXPRESSION.

Filters that name states Kafka does not have are sent back, and match nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.list_transactions import (
    ListTransactionsRequest,
    ListTransactionsResponse,
    TransactionState,
)
from ottla.server.broker.group_answers import answer_all
from ottla.server.coordinator.transactions import state as transaction_state

if TYPE_CHECKING:
    from ottla.core.regex import Regex
    from ottla.server.broker.broker import Broker, DelayedResponse, RequestContext
    from ottla.server.coordinator.transactions.service import Found

_STATES = {state.title: state for state in transaction_state.TransactionState}


def handle(
    broker: Broker, request: ListTransactionsRequest, context: RequestContext
) -> ListTransactionsResponse | DelayedResponse:
    """All that pass the filters; an empty filter passes all."""
    states = {_STATES[name] for name in request.state_filters if name in _STATES}
    unknown = list(dict.fromkeys(name for name in request.state_filters if name not in _STATES))
    producer_ids = frozenset(request.producer_id_filters)
    coordinator = broker.transactions
    pattern = _compiled(request.transactional_id_pattern)
    started_before_ms = coordinator.now_ms() - request.duration_filter
    try:
        outcomes: list[Any] = coordinator.transactions()
    except ApiError as error:
        return ListTransactionsResponse(error_code=error.code)

    def shape(partitions: list[Found]) -> ListTransactionsResponse:
        response = ListTransactionsResponse(unknown_state_filters=unknown)
        for found in partitions:
            if isinstance(found, ErrorCode):
                # A partition that went to another broker meanwhile is listed there.
                if found is not ErrorCode.NOT_COORDINATOR:
                    return ListTransactionsResponse(error_code=found)
                continue
            response.transaction_states += [
                TransactionState(
                    transactional_id=transactional_id,
                    producer_id=transaction.producer_id,
                    transaction_state=transaction.state.title,
                )
                for transactional_id, transaction in found
                if (not producer_ids or transaction.producer_id in producer_ids)
                and (not request.state_filters or transaction.state in states)
                and (request.duration_filter < 0 or transaction.start_ms < started_before_ms)
                and (pattern is None or pattern.matches(transactional_id))
            ]
        return response

    def shape_or_refuse(partitions: list[Found]) -> ListTransactionsResponse:
        try:
            return shape(partitions)
        except ValueError:  # RegexError: a pattern that takes too long
            return ListTransactionsResponse(error_code=ErrorCode.INVALID_REGULAR_EXPRESSION)

    return answer_all(outcomes, shape if pattern is None else shape_or_refuse)


def _compiled(pattern: str | None) -> Regex | None:
    if not pattern:
        return None
    # Imported with the first pattern: few requests have any.
    from ottla.server.coordinator.topic_regex import topic_regex

    return topic_regex(pattern)
