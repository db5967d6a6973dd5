"""DescribeUserScramCredentials (key 50), version 0 (KIP-554): which SCRAM credentials users have, never their secrets.

No users, or null, asks for all that have any. Refusals, for each user: RESOURCE_NOT_FOUND (none), DUPLICATE_RESOURCE
(asked for twice). Kafka's tool for quotas of users asks this as well.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.describe_user_scram_credentials import (
    CredentialInfo,
    DescribeUserScramCredentialsRequest,
    DescribeUserScramCredentialsResponse,
    DescribeUserScramCredentialsResult,
)

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, RequestContext


def handle(
    broker: Broker, request: DescribeUserScramCredentialsRequest, context: RequestContext
) -> DescribeUserScramCredentialsResponse:
    """Look through the image."""
    credentials: dict[str, list[CredentialInfo]] = {}
    for (mechanism, user), credential in sorted(broker.image.scram.items()):
        info = CredentialInfo(mechanism=mechanism, iterations=credential.iterations)
        credentials.setdefault(user, []).append(info)
    wanted = Counter(user.name for user in request.users or []) or Counter(credentials.keys())
    return DescribeUserScramCredentialsResponse(
        error_message=None,
        results=[_result(user, times, credentials.get(user)) for user, times in wanted.items()],
    )


def error_response(
    request: DescribeUserScramCredentialsRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> DescribeUserScramCredentialsResponse:
    """The code for the whole, and again for each user, who is not named then."""
    return DescribeUserScramCredentialsResponse(
        error_code=code,
        error_message=message,
        results=[
            DescribeUserScramCredentialsResult(error_code=code, error_message=message) for _ in request.users or ()
        ],
    )


def _result(user: str, times: int, infos: list[CredentialInfo] | None) -> DescribeUserScramCredentialsResult:
    if times > 1:
        code = ErrorCode.DUPLICATE_RESOURCE
        text = f"Cannot describe SCRAM credentials for the same user twice in a single request: {user}"
    elif infos is None:
        code = ErrorCode.RESOURCE_NOT_FOUND
        text = f"Attempt to describe a user credential that does not exist: {user}"
    else:
        return DescribeUserScramCredentialsResult(user=user, error_message=None, credential_infos=infos)
    return DescribeUserScramCredentialsResult(user=user, error_code=code, error_message=text)
