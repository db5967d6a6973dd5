"""ReadShareGroupStateSummary (key 87), versions 0-1: how far a group got, without states of records.

Version notes.  1: delivery complete count, from which a lag can be told (KIP-1226).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.protocol.messages.read_share_group_state_summary import (
    PartitionResult,
    ReadShareGroupStateSummaryResponse,
    ReadStateSummaryResult,
)
from ottla.server.broker.group_answers import answer_plain
from ottla.server.broker.share_state_answers import refused_state

if TYPE_CHECKING:
    from ottla.core.errors import ErrorCode
    from ottla.protocol.messages.read_share_group_state_summary import ReadShareGroupStateSummaryRequest
    from ottla.server.broker.broker import Broker, DelayedResponse, RequestContext


def handle(
    broker: Broker, request: ReadShareGroupStateSummaryRequest, context: RequestContext
) -> ReadShareGroupStateSummaryResponse | DelayedResponse:
    """A start offset of -1 where the group has no state."""
    return answer_plain(broker.share_state.read_summary(request))


def error_response(
    request: ReadShareGroupStateSummaryRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> ReadShareGroupStateSummaryResponse:
    """The same code for every partition."""
    return refused_state(request, code, ReadShareGroupStateSummaryResponse, ReadStateSummaryResult, PartitionResult)
