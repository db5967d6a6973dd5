"""DeleteShareGroupState (key 86), versions 0-0: a group, or a topic in it, is gone.

What does not exist is deleted successfully.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.server.broker.group_answers import answer_plain

if TYPE_CHECKING:
    from ottla.protocol.messages.delete_share_group_state import (
        DeleteShareGroupStateRequest,
        DeleteShareGroupStateResponse,
    )
    from ottla.server.broker.broker import Broker, DelayedResponse, RequestContext


def handle(
    broker: Broker, request: DeleteShareGroupStateRequest, context: RequestContext
) -> DeleteShareGroupStateResponse | DelayedResponse:
    """Written down before it is answered."""
    return answer_plain(broker.share_state.delete(request))
