"""ReadShareGroupState (key 84), versions 0-0: the leader of a share partition takes over its state.

A higher leader epoch than ever seen is written down first, and fences the leaders before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.protocol.messages.read_share_group_state import PartitionResult, ReadShareGroupStateResponse, ReadStateResult
from ottla.server.broker.group_answers import answer_plain
from ottla.server.broker.share_state_answers import refused_state

if TYPE_CHECKING:
    from ottla.core.errors import ErrorCode
    from ottla.protocol.messages.read_share_group_state import ReadShareGroupStateRequest
    from ottla.server.broker.broker import Broker, DelayedResponse, RequestContext


def handle(
    broker: Broker, request: ReadShareGroupStateRequest, context: RequestContext
) -> ReadShareGroupStateResponse | DelayedResponse:
    """Start offset and states of records in flight."""
    return answer_plain(broker.share_state.read(request))


def error_response(
    request: ReadShareGroupStateRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> ReadShareGroupStateResponse:
    """The same code for every partition."""
    return refused_state(request, code, ReadShareGroupStateResponse, ReadStateResult, PartitionResult)
