"""DeleteShareGroupState (key 86), versions 0-0: a group, or a topic in it, is gone.

What does not exist is deleted successfully.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.protocol.messages.delete_share_group_state import (
    DeleteShareGroupStateResponse,
    DeleteStateResult,
    PartitionResult,
)
from ottla.server.broker.group_answers import answer_plain
from ottla.server.broker.share_state_answers import refused_state

if TYPE_CHECKING:
    from ottla.core.errors import ErrorCode
    from ottla.protocol.messages.delete_share_group_state import DeleteShareGroupStateRequest
    from ottla.server.broker.broker import Broker, DelayedResponse, RequestContext


def handle(
    broker: Broker, request: DeleteShareGroupStateRequest, context: RequestContext
) -> DeleteShareGroupStateResponse | DelayedResponse:
    """Written down before it is answered."""
    return answer_plain(broker.share_state.delete(request))


def error_response(
    request: DeleteShareGroupStateRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> DeleteShareGroupStateResponse:
    """The same code for every partition."""
    return refused_state(request, code, DeleteShareGroupStateResponse, DeleteStateResult, PartitionResult)
