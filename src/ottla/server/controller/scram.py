"""Setting and removing SCRAM credentials (KIP-554): Kafka's checks, in Kafka's order.

The client sends the password salted; what is stored is made of it here, and neither can be turned back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages import metadata_records as messages
from ottla.protocol.messages.alter_user_scram_credentials import (
    AlterUserScramCredentialsResponse,
    AlterUserScramCredentialsResult,
)
from ottla.security.scram_keys import MAX_STORED_ITERATIONS, MECHANISM_NAMES, MIN_ITERATIONS, stored_keys
from ottla.server.controller.result import Result
from ottla.server.metadata.image import METADATA_VERSION

if TYPE_CHECKING:
    from ottla.protocol.messages.alter_user_scram_credentials import (
        AlterUserScramCredentialsRequest,
        ScramCredentialDeletion,
        ScramCredentialUpsertion,
    )
    from ottla.server.metadata.image import MetadataImage

FIRST_LEVEL: Final = 11
"""3.5-IV2, the first metadata.version whose log may hold credentials."""


def alter_credentials(image: MetadataImage, request: AlterUserScramCredentialsRequest) -> Result:
    """AlterUserScramCredentials; the response is an AlterUserScramCredentialsResponse. Users change or not, each alone;
    one who is named twice in a request does not change at all."""
    refused: dict[str, ApiError] = {}
    deletions: dict[str, ScramCredentialDeletion] = {}
    upsertions: dict[str, ScramCredentialUpsertion] = {}
    is_supported = image.features.get(METADATA_VERSION, 0) >= FIRST_LEVEL
    changes: list[tuple[Any, dict[str, Any]]] = [(each, deletions) for each in request.deletions]
    changes += [(each, upsertions) for each in request.upsertions]
    for change, accepted in changes:
        user = change.name
        if user in refused:
            continue
        try:
            if deletions.pop(user, None) is not None or upsertions.pop(user, None) is not None:
                raise ApiError(
                    ErrorCode.DUPLICATE_RESOURCE, "A user credential cannot be altered twice in the same request"
                )
            if not is_supported:
                raise ApiError(ErrorCode.UNSUPPORTED_VERSION, "The current metadata.version does not support SCRAM")
            _check_name_and_mechanism(user, change.mechanism)
            if accepted is deletions:
                _check_deletion(image, change)
            else:
                _check_iterations(change.iterations)
            accepted[user] = change
        except ApiError as error:
            refused[user] = error
    records: list[Any] = [
        messages.RemoveUserScramCredentialRecord(name=each.name, mechanism=each.mechanism)
        for each in deletions.values()
    ]
    records += [_record(each) for each in upsertions.values()]
    results = [AlterUserScramCredentialsResult(user=user, error_message=None) for user in (*deletions, *upsertions)] + [
        AlterUserScramCredentialsResult(user=user, error_code=error.code, error_message=error.message)
        for user, error in refused.items()
    ]
    return Result(records, AlterUserScramCredentialsResponse(results=results))


def _check_name_and_mechanism(user: str, mechanism: int) -> None:
    if not user:
        raise ApiError(ErrorCode.UNACCEPTABLE_CREDENTIAL, "Username must not be empty")
    if mechanism not in MECHANISM_NAMES:
        raise ApiError(ErrorCode.UNSUPPORTED_SASL_MECHANISM, "Unknown SCRAM mechanism")


def _check_deletion(image: MetadataImage, deletion: ScramCredentialDeletion) -> None:
    if (deletion.mechanism, deletion.name) not in image.scram:
        raise ApiError(ErrorCode.RESOURCE_NOT_FOUND, "Attempt to delete a user credential that does not exist")


def _check_iterations(iterations: int) -> None:
    if iterations < MIN_ITERATIONS:
        raise ApiError(ErrorCode.UNACCEPTABLE_CREDENTIAL, "Too few iterations")
    if iterations > MAX_STORED_ITERATIONS:
        raise ApiError(ErrorCode.UNACCEPTABLE_CREDENTIAL, "Too many iterations")


def _record(upsertion: ScramCredentialUpsertion) -> messages.UserScramCredentialRecord:
    keys = stored_keys(MECHANISM_NAMES[upsertion.mechanism], bytes(upsertion.salted_password))
    return messages.UserScramCredentialRecord(
        name=upsertion.name,
        mechanism=upsertion.mechanism,
        salt=bytes(upsertion.salt),
        stored_key=keys.stored_key,
        server_key=keys.server_key,
        iterations=upsertion.iterations,
    )
