"""Requests to the quorum of the metadata log: on their way from a listener to the node that takes part in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ottla.core.errors import ApiError, ErrorCode
from ottla.server.raft.node import RaftNode

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ottla.server.broker.broker import Broker, RequestContext

_ALONE = "This node is alone and has no controller listener: set controller.listener.names, and start it again."


def ask_quorum(broker: Broker, request: Any, context: RequestContext) -> Awaitable[Any]:
    """The answer of this node's part of the quorum. Raises ApiError when it has none, or is not ready or stopping."""
    log = broker.metadata_log
    if not isinstance(log, RaftNode):
        raise ApiError(ErrorCode.UNSUPPORTED_VERSION, _ALONE)
    return log.request(request, version=context.api_version, listener=context.listener_name)
