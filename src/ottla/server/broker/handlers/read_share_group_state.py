"""ReadShareGroupState (key 84), versions 0-0: the leader of a share partition takes over its state.

A higher leader epoch than ever seen is written down first, and fences the leaders before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.server.broker.group_answers import answer_plain

if TYPE_CHECKING:
    from ottla.protocol.messages.read_share_group_state import (
        ReadShareGroupStateRequest,
        ReadShareGroupStateResponse,
    )
    from ottla.server.broker.broker import Broker, DelayedResponse, RequestContext


def handle(
    broker: Broker, request: ReadShareGroupStateRequest, context: RequestContext
) -> ReadShareGroupStateResponse | DelayedResponse:
    """Start offset and states of records in flight."""
    return answer_plain(broker.share_state.read(request))
