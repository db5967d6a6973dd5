"""ExpireDelegationToken (key 40), versions 1-2 (KIP-48): its owner or a renewer ends a token, at once or later.

Refusals: DELEGATION_TOKEN_REQUEST_NOT_ALLOWED (a listener without authentication, or a caller who has a token itself),
and those of the controller (`ottla.server.controller.delegation_tokens`). Version notes. 2: flexible.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.expire_delegation_token import (
    ExpireDelegationTokenRequest,
    ExpireDelegationTokenResponse,
)
from ottla.server.broker.token_requests import ERROR_TIMESTAMP, are_allowed, where_it_belongs

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, RequestContext


async def handle(
    broker: Broker, request: ExpireDelegationTokenRequest, context: RequestContext
) -> ExpireDelegationTokenResponse:
    """Have the active controller decide."""
    if not are_allowed(broker, context):
        return ExpireDelegationTokenResponse(
            error_code=ErrorCode.DELEGATION_TOKEN_REQUEST_NOT_ALLOWED, expiry_timestamp_ms=ERROR_TIMESTAMP
        )
    response: ExpireDelegationTokenResponse = await where_it_belongs(_expire, broker, request, context)
    return response


async def _expire(
    broker: Broker, request: ExpireDelegationTokenRequest, context: RequestContext
) -> ExpireDelegationTokenResponse:
    return await broker.controller.expire_delegation_token(request, context.principal)
