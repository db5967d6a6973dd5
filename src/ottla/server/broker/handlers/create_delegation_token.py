"""CreateDelegationToken (key 38), versions 1-3 (KIP-48): a token that lets others log in as its owner, for a while.

The caller is the owner, or (v3, KIP-373) somebody whom it may make tokens for: CreateTokens on that user. Refusals:
DELEGATION_TOKEN_REQUEST_NOT_ALLOWED (a listener without authentication, or a caller who has a token itself),
DELEGATION_TOKEN_AUTHORIZATION_FAILED, INVALID_PRINCIPAL_TYPE (of a renewer; there are users only), and those of the
controller (`ottla.server.controller.delegation_tokens`). Version notes. 2: flexible. 3: owner and requester.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.create_delegation_token import (
    CreateDelegationTokenRequest,
    CreateDelegationTokenResponse,
)
from ottla.server.broker.authorization import AclOperation, ResourceType, allows
from ottla.server.broker.token_requests import are_allowed, where_it_belongs
from ottla.server.controller.delegation_tokens import owner_of, refused_creation

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, RequestContext


_FIRST_VERSION_WITH_REQUESTER = 3


async def handle(
    broker: Broker, request: CreateDelegationTokenRequest, context: RequestContext
) -> CreateDelegationTokenResponse:
    """Check who asks for whom; the active controller makes the token."""
    requester = context.principal
    owner = owner_of(request, requester)
    if not are_allowed(broker, context):
        code = ErrorCode.DELEGATION_TOKEN_REQUEST_NOT_ALLOWED
    elif owner != requester and not allows(broker, context, AclOperation.CREATE_TOKENS, ResourceType.USER, owner):
        code = ErrorCode.DELEGATION_TOKEN_AUTHORIZATION_FAILED
    elif any(renewer.principal_type != "User" for renewer in request.renewers):
        code = ErrorCode.INVALID_PRINCIPAL_TYPE
    else:
        return _as_known_to(await where_it_belongs(_create, broker, request, context), context.api_version)
    return error_response(request, context, code, None)


def error_response(
    request: CreateDelegationTokenRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> CreateDelegationTokenResponse:
    """With owner and requester, as every refusal here."""
    return _as_known_to(refused_creation(request, context.principal, code), context.api_version)


def _as_known_to(response: CreateDelegationTokenResponse, version: int) -> CreateDelegationTokenResponse:
    """Older versions do not know of requesters."""
    if version < _FIRST_VERSION_WITH_REQUESTER:
        response.token_requester_principal_type = response.token_requester_principal_name = ""
    return response


async def _create(
    broker: Broker, request: CreateDelegationTokenRequest, context: RequestContext
) -> CreateDelegationTokenResponse:
    groups = context.session.groups if context.session is not None else ()
    return await broker.controller.create_delegation_token(request, context.principal, groups)
