"""WriteShareGroupState (key 85), versions 0-1: the leader of a share partition stores its progress.

Version notes.  1: delivery complete count, from which a lag can be told (KIP-1226).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.protocol.messages.write_share_group_state import (
    PartitionResult,
    WriteShareGroupStateResponse,
    WriteStateResult,
)
from ottla.server.broker.group_answers import answer_plain
from ottla.server.broker.share_state_answers import refused_state

if TYPE_CHECKING:
    from ottla.core.errors import ErrorCode
    from ottla.protocol.messages.write_share_group_state import WriteShareGroupStateRequest
    from ottla.server.broker.broker import Broker, DelayedResponse, RequestContext


def handle(
    broker: Broker, request: WriteShareGroupStateRequest, context: RequestContext
) -> WriteShareGroupStateResponse | DelayedResponse:
    """Written down before it is answered."""
    return answer_plain(broker.share_state.write(request))


def error_response(
    request: WriteShareGroupStateRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> WriteShareGroupStateResponse:
    """The same code for every partition."""
    return refused_state(request, code, WriteShareGroupStateResponse, WriteStateResult, PartitionResult)
