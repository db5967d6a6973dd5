"""SaslHandshake (key 17), versions 0-1 (KIP-43): which mechanism a client wants to log in with.

A first login never comes here (see `ottla.server.broker.sasl_connection`). It is a re-authentication (KIP-368), where
the session has an end; everywhere else ILLEGAL_SASL_STATE, also on listeners without SASL.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.sasl_handshake import SaslHandshakeResponse

if TYPE_CHECKING:
    from ottla.protocol.messages.sasl_handshake import SaslHandshakeRequest
    from ottla.server.broker.broker import Broker, RequestContext


def handle(
    broker: Broker, request: SaslHandshakeRequest, context: RequestContext
) -> SaslHandshakeResponse | Coroutine[Any, Any, None]:
    """Begin, or refuse."""
    if context.session is not None and context.connection is not None:
        begun = context.connection.reauthenticate(request, context)
        if begun is not None:
            return begun
    return SaslHandshakeResponse(error_code=ErrorCode.ILLEGAL_SASL_STATE)
