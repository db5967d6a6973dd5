"""Delegation tokens (KIP-48, for others KIP-373): making, renewing, ending them. Times are of the wall clock.

A token ends when it was not renewed in time, and after its longest life whatever happens. It may be renewed and ended
by its owner and by those whom the requester named. Refusals, in this order: DELEGATION_TOKEN_AUTH_DISABLED (the cluster
has no `delegation.token.secret.key`), UNSUPPORTED_VERSION (metadata.version is below 3.6-IV2),
INVALID_PRINCIPAL_TYPE (of a renewer), DELEGATION_TOKEN_NOT_FOUND, DELEGATION_TOKEN_EXPIRED,
DELEGATION_TOKEN_OWNER_MISMATCH.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ids import uuid_to_text
from ottla.protocol.messages import metadata_records as messages
from ottla.protocol.messages.create_delegation_token import CreateDelegationTokenResponse
from ottla.protocol.messages.expire_delegation_token import ExpireDelegationTokenResponse
from ottla.protocol.messages.renew_delegation_token import RenewDelegationTokenResponse
from ottla.server.controller.result import Result
from ottla.server.security.delegation_tokens import TokenIndex, token_hmac
from ottla.server.security.groups import tags_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ottla.protocol.messages.create_delegation_token import CreateDelegationTokenRequest
    from ottla.protocol.messages.expire_delegation_token import ExpireDelegationTokenRequest
    from ottla.protocol.messages.renew_delegation_token import RenewDelegationTokenRequest
    from ottla.schema.config import BrokerConfig
    from ottla.server.metadata.image import DelegationTokenImage, MetadataImage

LOWEST_METADATA_VERSION: Final = 14
"""3.6-IV2, the first with records for tokens."""
MOST_EXPIRED_AT_ONCE: Final = 1000
_LARGEST_TIMESTAMP_MS: Final = 2**63 - 1
_USER: Final = "User"


def secret_key(config: BrokerConfig) -> str | None:
    """The cluster's secret, None where tokens are not in use."""
    password = config["delegation.token.secret.key"]
    return None if password is None or not password.value else password.value


class TokenCommands:
    """Commands on the tokens of an image; nothing but an index of HMACs is kept between them."""

    def __init__(self, config: BrokerConfig, uuid: Callable[[], bytes]) -> None:
        self._secret_key = secret_key(config)
        self._max_lifetime_ms: int = config["delegation.token.max.lifetime.ms"]
        self._renewal_ms: int = config["delegation.token.expiry.time.ms"]
        self._uuid = uuid
        self._index = TokenIndex(self._secret_key or "")

    def create(
        self,
        image: MetadataImage,
        request: CreateDelegationTokenRequest,
        requester: str,
        now_ms: int,
        groups: tuple[str, ...] = (),
    ) -> Result:
        """CreateDelegationToken; the response is a CreateDelegationTokenResponse. It names owner and requester also
        when it is a refusal. A token for oneself puts who has it into the requester's `groups`."""
        owner = owner_of(request, requester)
        response = _named(owner, requester)
        try:
            secret = self._enabled(image)
            if any(renewer.principal_type != _USER for renewer in request.renewers):
                raise ApiError(ErrorCode.INVALID_PRINCIPAL_TYPE)
        except ApiError as error:
            response.error_code = error.code
            return Result([], response)
        life_ms = self._max_lifetime_ms
        if request.max_lifetime_ms > 0:
            life_ms = min(life_ms, request.max_lifetime_ms)
        token_id = uuid_to_text(self._uuid())
        response.token_id = token_id
        response.hmac = token_hmac(secret, token_id)
        response.issue_timestamp_ms = now_ms
        response.max_timestamp_ms = _later(now_ms, life_ms)
        response.expiry_timestamp_ms = min(response.max_timestamp_ms, _later(now_ms, self._renewal_ms))
        record = messages.DelegationTokenRecord(
            owner=owner,
            requester=requester,
            renewers=[f"{one.principal_type}:{one.principal_name}" for one in request.renewers],
            issue_timestamp=now_ms,
            max_timestamp=response.max_timestamp_ms,
            expiration_timestamp=response.expiry_timestamp_ms,
            token_id=token_id,
            unknown_tags=tags_of(groups) if owner == requester else None,
        )
        return Result([record], response)

    def renew(self, image: MetadataImage, request: RenewDelegationTokenRequest, requester: str, now_ms: int) -> Result:
        """RenewDelegationToken; the response is a RenewDelegationTokenResponse. Raises ApiError."""
        token_id, token = self._found(image, request.hmac)
        _check_alive(token, now_ms)
        _check_renewer(token, requester)
        renewal_ms = self._renewal_ms
        if request.renew_period_ms > 0:
            renewal_ms = min(renewal_ms, request.renew_period_ms)
        expiry_ms = min(token.max_timestamp_ms, _later(now_ms, renewal_ms))
        response = RenewDelegationTokenResponse(expiry_timestamp_ms=expiry_ms)
        return Result([_record(token_id, token, expiry_ms)], response)

    def expire(
        self, image: MetadataImage, request: ExpireDelegationTokenRequest, requester: str, now_ms: int
    ) -> Result:
        """ExpireDelegationToken; the response is an ExpireDelegationTokenResponse. A negative period removes the token
        at once, also one that is over. Raises ApiError."""
        token_id, token = self._found(image, request.hmac)
        _check_renewer(token, requester)
        if request.expiry_time_period_ms < 0:
            record = messages.RemoveDelegationTokenRecord(token_id=token_id)
            return Result([record], ExpireDelegationTokenResponse(expiry_timestamp_ms=now_ms))
        _check_alive(token, now_ms)
        expiry_ms = min(token.max_timestamp_ms, _later(now_ms, request.expiry_time_period_ms))
        response = ExpireDelegationTokenResponse(expiry_timestamp_ms=expiry_ms)
        return Result([_record(token_id, token, expiry_ms)], response)

    def _enabled(self, image: MetadataImage) -> str:
        if self._secret_key is None:
            raise ApiError(ErrorCode.DELEGATION_TOKEN_AUTH_DISABLED)
        if image.metadata_version < LOWEST_METADATA_VERSION:
            raise ApiError(ErrorCode.UNSUPPORTED_VERSION)
        return self._secret_key

    def _found(self, image: MetadataImage, given_hmac: bytes) -> tuple[str, DelegationTokenImage]:
        self._enabled(image)
        token_id = self._index.find(image.delegation_tokens, bytes(given_hmac))
        if token_id is None:
            raise ApiError(ErrorCode.DELEGATION_TOKEN_NOT_FOUND)
        return token_id, image.delegation_tokens[token_id]


def expire_tokens(image: MetadataImage, now_ms: int) -> Result:
    """Remove tokens that are over; the response is whether more of them wait."""
    over = [token_id for token_id, token in image.delegation_tokens.items() if _is_over(token, now_ms)]
    records = [messages.RemoveDelegationTokenRecord(token_id=token_id) for token_id in over[:MOST_EXPIRED_AT_ONCE]]
    return Result(records, len(over) > len(records), atomic=False)


def owner_of(request: CreateDelegationTokenRequest, requester: str) -> str:
    """Whose token is asked for: the requester's unless somebody else is named."""
    if not request.owner_principal_name:
        return requester
    return f"{request.owner_principal_type}:{request.owner_principal_name}"


def refused_creation(request: CreateDelegationTokenRequest, requester: str, code: int) -> CreateDelegationTokenResponse:
    """What a broker answers that does not even ask the controller."""
    response = _named(owner_of(request, requester), requester)
    response.error_code = code
    response.issue_timestamp_ms = response.expiry_timestamp_ms = response.max_timestamp_ms = -1
    return response


def _named(owner: str, requester: str) -> CreateDelegationTokenResponse:
    owner_type, _, owner_name = owner.partition(":")
    requester_type, _, requester_name = requester.partition(":")
    return CreateDelegationTokenResponse(
        principal_type=owner_type,
        principal_name=owner_name,
        token_requester_principal_type=requester_type,
        token_requester_principal_name=requester_name,
    )


def _record(token_id: str, token: DelegationTokenImage, expiry_ms: int) -> messages.DelegationTokenRecord:
    return messages.DelegationTokenRecord(
        owner=token.owner,
        requester=token.requester,
        renewers=list(token.renewers),
        issue_timestamp=token.issue_timestamp_ms,
        max_timestamp=token.max_timestamp_ms,
        expiration_timestamp=expiry_ms,
        token_id=token_id,
        unknown_tags=tags_of(token.groups),
    )


def _check_alive(token: DelegationTokenImage, now_ms: int) -> None:
    if _is_over(token, now_ms):
        raise ApiError(ErrorCode.DELEGATION_TOKEN_EXPIRED)


def _is_over(token: DelegationTokenImage, now_ms: int) -> bool:
    return token.max_timestamp_ms < now_ms or token.expiration_timestamp_ms < now_ms


def _check_renewer(token: DelegationTokenImage, requester: str) -> None:
    if requester != token.owner and requester not in token.renewers:
        raise ApiError(ErrorCode.DELEGATION_TOKEN_OWNER_MISMATCH)


def _later(now_ms: int, period_ms: int) -> int:
    return min(now_ms + period_ms, _LARGEST_TIMESTAMP_MS)
