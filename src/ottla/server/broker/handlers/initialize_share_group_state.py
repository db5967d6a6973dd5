"""InitializeShareGroupState (key 83), versions 0-0: a group begins to consume partitions, or begins anew.

Brokers ask it of the share coordinator (KIP-932): the group coordinator before it assigns a partition for the first
time, and when an administrator moves the group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.protocol.messages.initialize_share_group_state import (
    InitializeShareGroupStateResponse,
    InitializeStateResult,
    PartitionResult,
)
from ottla.server.broker.group_answers import answer_plain
from ottla.server.broker.share_state_answers import refused_state

if TYPE_CHECKING:
    from ottla.core.errors import ErrorCode
    from ottla.protocol.messages.initialize_share_group_state import InitializeShareGroupStateRequest
    from ottla.server.broker.broker import Broker, DelayedResponse, RequestContext


def handle(
    broker: Broker, request: InitializeShareGroupStateRequest, context: RequestContext
) -> InitializeShareGroupStateResponse | DelayedResponse:
    """Written down before it is answered."""
    return answer_plain(broker.share_state.initialize(request))


def error_response(
    request: InitializeShareGroupStateRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> InitializeShareGroupStateResponse:
    """The same code for every partition."""
    return refused_state(request, code, InitializeShareGroupStateResponse, InitializeStateResult, PartitionResult)
