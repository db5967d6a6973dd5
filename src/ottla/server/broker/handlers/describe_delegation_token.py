"""DescribeDelegationToken (key 41), versions 1-3 (KIP-48): tokens with their HMACs, from what this broker knows.

Null asks for all tokens, a list for those that one of these principals owns or may renew; an empty list for none. The
caller sees its own tokens and those it may renew; others with Describe on the token, or DescribeTokens on its owner
(KIP-373). Refusals: DELEGATION_TOKEN_REQUEST_NOT_ALLOWED (a listener without authentication, or a caller who has a
token itself), DELEGATION_TOKEN_AUTH_DISABLED. Version notes. 2: flexible. 3: who requested the token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.describe_delegation_token import (
    DescribedDelegationToken,
    DescribedDelegationTokenRenewer,
    DescribeDelegationTokenRequest,
    DescribeDelegationTokenResponse,
)
from ottla.server.broker.authorization import AclOperation, ResourceType, allows
from ottla.server.broker.token_requests import are_allowed
from ottla.server.controller.delegation_tokens import secret_key
from ottla.server.security.delegation_tokens import token_hmac

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, RequestContext
    from ottla.server.metadata.image import DelegationTokenImage


_FIRST_VERSION_WITH_REQUESTER = 3


def handle(
    broker: Broker, request: DescribeDelegationTokenRequest, context: RequestContext
) -> DescribeDelegationTokenResponse:
    """Look through the image."""
    if not are_allowed(broker, context):
        return DescribeDelegationTokenResponse(error_code=ErrorCode.DELEGATION_TOKEN_REQUEST_NOT_ALLOWED)
    secret = secret_key(broker.config)
    if secret is None:
        return DescribeDelegationTokenResponse(error_code=ErrorCode.DELEGATION_TOKEN_AUTH_DISABLED)
    owners = request.owners
    wanted = None if owners is None else {f"{one.principal_type}:{one.principal_name}" for one in owners}
    return DescribeDelegationTokenResponse(
        tokens=[
            _described(token_id, token, secret, context.api_version)
            for token_id, token in broker.image.delegation_tokens.items()
            if (wanted is None or not wanted.isdisjoint((token.owner, *token.renewers)))
            and _may_see(broker, context, token_id, token)
        ]
    )


def _may_see(broker: Broker, context: RequestContext, token_id: str, token: DelegationTokenImage) -> bool:
    if context.principal == token.owner or context.principal in token.renewers:
        return True
    return allows(
        broker, context, AclOperation.DESCRIBE, ResourceType.DELEGATION_TOKEN, token_id, audited=False
    ) or allows(broker, context, AclOperation.DESCRIBE_TOKENS, ResourceType.USER, token.owner, audited=False)


def _described(token_id: str, token: DelegationTokenImage, secret: str, version: int) -> DescribedDelegationToken:
    owner_type, _, owner_name = token.owner.partition(":")
    # Older versions do not know of requesters.
    requester = token.requester if version >= _FIRST_VERSION_WITH_REQUESTER else ""
    requester_type, _, requester_name = requester.partition(":")
    return DescribedDelegationToken(
        principal_type=owner_type,
        principal_name=owner_name,
        token_requester_principal_type=requester_type,
        token_requester_principal_name=requester_name,
        issue_timestamp=token.issue_timestamp_ms,
        expiry_timestamp=token.expiration_timestamp_ms,
        max_timestamp=token.max_timestamp_ms,
        token_id=token_id,
        hmac=token_hmac(secret, token_id),
        renewers=[
            DescribedDelegationTokenRenewer(principal_type=kind, principal_name=name)
            for kind, _, name in (renewer.partition(":") for renewer in token.renewers)
        ],
    )
