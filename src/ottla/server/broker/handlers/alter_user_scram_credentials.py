"""AlterUserScramCredentials (key 51), version 0 (KIP-554): set and remove SCRAM credentials of users.

Refusals, for each user: DUPLICATE_RESOURCE (named twice), RESOURCE_NOT_FOUND (nothing to delete),
UNACCEPTABLE_CREDENTIAL (no name; fewer than 4,096 or more than 16,384 iterations), UNSUPPORTED_SASL_MECHANISM,
UNSUPPORTED_VERSION (the cluster's metadata.version is older than SCRAM).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.protocol.messages.alter_user_scram_credentials import (
    AlterUserScramCredentialsResponse,
    AlterUserScramCredentialsResult,
)
from ottla.server.broker.authorization import tell_changes

if TYPE_CHECKING:
    from ottla.core.errors import ErrorCode
    from ottla.protocol.messages.alter_user_scram_credentials import AlterUserScramCredentialsRequest
    from ottla.server.broker.broker import Broker, RequestContext


async def handle(
    broker: Broker, request: AlterUserScramCredentialsRequest, context: RequestContext
) -> AlterUserScramCredentialsResponse:
    """Have the controller decide."""
    response = await broker.controller.alter_user_scram_credentials(request)
    if broker.audit is not None:
        from ottla.security.scram_keys import MECHANISM_NAMES

        done = {one.user for one in response.results if not one.error_code}
        asked = (("removed", request.deletions), ("set", request.upsertions))
        names = ((verb, MECHANISM_NAMES.get(one.mechanism), one.name) for verb, ones in asked for one in ones)
        tell_changes(
            broker, context, (f"{verb} {mechanism} of User:{name}" for verb, mechanism, name in names if name in done)
        )
    return response


def error_response(
    request: AlterUserScramCredentialsRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> AlterUserScramCredentialsResponse:
    """The code for each user."""
    names = (*(one.name for one in request.deletions), *(one.name for one in request.upsertions))
    return AlterUserScramCredentialsResponse(
        results=[
            AlterUserScramCredentialsResult(user=user, error_code=code, error_message=message)
            for user in dict.fromkeys(names)
        ]
    )
