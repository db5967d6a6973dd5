"""SaslAuthenticate (key 36), versions 0-2 (KIP-152): a message of the mechanism.

While a client logs in it never comes here (see `ottla.server.broker.sasl_connection`): whoever asks this is logged in,
or need not be, and hears ILLEGAL_SASL_STATE.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.sasl_authenticate import SaslAuthenticateResponse

if TYPE_CHECKING:
    from ottla.protocol.messages.sasl_authenticate import SaslAuthenticateRequest
    from ottla.server.broker.broker import Broker, RequestContext


def handle(broker: Broker, request: SaslAuthenticateRequest, context: RequestContext) -> SaslAuthenticateResponse:
    """Refuse; the text is Kafka's."""
    return SaslAuthenticateResponse(
        error_code=ErrorCode.ILLEGAL_SASL_STATE,
        error_message="SaslAuthenticate request received after successful authentication",
    )
