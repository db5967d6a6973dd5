"""Delegation tokens (KIP-48, for others KIP-373)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from ottla.client.admin.calls import AdminCalls
from ottla.client.admin.routing import AnyNode, Target
from ottla.client.errors import KafkaError, error_for
from ottla.protocol.messages.create_delegation_token import (
    CreatableRenewers,
    CreateDelegationTokenRequest,
    CreateDelegationTokenResponse,
)
from ottla.protocol.messages.describe_delegation_token import (
    DescribeDelegationTokenOwner,
    DescribeDelegationTokenRequest,
    DescribeDelegationTokenResponse,
)
from ottla.protocol.messages.expire_delegation_token import (
    ExpireDelegationTokenRequest,
    ExpireDelegationTokenResponse,
)
from ottla.protocol.messages.renew_delegation_token import RenewDelegationTokenRequest, RenewDelegationTokenResponse


class KafkaPrincipal(NamedTuple):
    """Who somebody is to the cluster: `KafkaPrincipal("User", "alice")`."""

    principal_type: str
    name: str

    def __str__(self) -> str:
        return f"{self.principal_type}:{self.name}"


@dataclass(frozen=True, slots=True)
class DelegationToken:
    """A token. To log in with it: SCRAM with `token_id` as user, `hmac` (base64) as password, and tokenauth."""

    token_id: str
    hmac: bytes = field(repr=False)
    owner: KafkaPrincipal
    requester: KafkaPrincipal
    renewers: tuple[KafkaPrincipal, ...]
    issue_timestamp_ms: int
    expiry_timestamp_ms: int
    max_timestamp_ms: int


class TokenCalls(AdminCalls):
    """Calls about delegation tokens; only on connections that are authenticated, but not by a token."""

    async def create_delegation_token(
        self,
        *,
        renewers: Iterable[KafkaPrincipal | str] = (),
        owner: KafkaPrincipal | str | None = None,
        max_lifetime_ms: int | None = None,
        timeout_s: float | None = None,
    ) -> DelegationToken:
        """Make a token for oneself, or for another `owner`. Principals may be written as `"User:alice"`."""
        renewed_by = tuple(_principal(renewer) for renewer in renewers)
        owned_by = None if owner is None else _principal(owner)

        async def ask(target: Target) -> DelegationToken:
            request = CreateDelegationTokenRequest(
                owner_principal_type="" if owned_by is None else owned_by.principal_type,
                owner_principal_name="" if owned_by is None else owned_by.name,
                renewers=[CreatableRenewers(principal_type=kind, principal_name=name) for kind, name in renewed_by],
                max_lifetime_ms=-1 if max_lifetime_ms is None else max_lifetime_ms,
            )
            response = await target.request(
                request, CreateDelegationTokenResponse, min_version=None if owned_by is None else 3
            )
            if response.error_code:
                raise error_for(response.error_code)
            made_for = KafkaPrincipal(response.principal_type, response.principal_name)
            return DelegationToken(
                response.token_id,
                bytes(response.hmac),
                made_for,
                _requester(response.token_requester_principal_type, response.token_requester_principal_name, made_for),
                renewed_by,
                response.issue_timestamp_ms,
                response.expiry_timestamp_ms,
                response.max_timestamp_ms,
            )

        return await self._routing.run_one("create_delegation_token", AnyNode(), ask, timeout_s)

    async def renew_delegation_token(
        self, hmac: bytes, *, renew_period_ms: int | None = None, timeout_s: float | None = None
    ) -> int:
        """Prolong a token, by the broker's period by default. Returns when it expires, ms since 1970."""

        async def ask(target: Target) -> int:
            request = RenewDelegationTokenRequest(
                hmac=hmac, renew_period_ms=-1 if renew_period_ms is None else renew_period_ms
            )
            response = await target.request(request, RenewDelegationTokenResponse)
            if response.error_code:
                raise error_for(response.error_code)
            return response.expiry_timestamp_ms

        return await self._routing.run_one("renew_delegation_token", AnyNode(), ask, timeout_s)

    async def expire_delegation_token(
        self, hmac: bytes, *, expiry_period_ms: int | None = None, timeout_s: float | None = None
    ) -> int:
        """Let a token end so much later from now; at once by default. Returns when it expires, ms since 1970."""

        async def ask(target: Target) -> int:
            request = ExpireDelegationTokenRequest(
                hmac=hmac, expiry_time_period_ms=-1 if expiry_period_ms is None else expiry_period_ms
            )
            response = await target.request(request, ExpireDelegationTokenResponse)
            if response.error_code:
                raise error_for(response.error_code)
            return response.expiry_timestamp_ms

        return await self._routing.run_one("expire_delegation_token", AnyNode(), ask, timeout_s)

    async def describe_delegation_token(
        self, owners: Iterable[KafkaPrincipal | str] | None = None, *, timeout_s: float | None = None
    ) -> list[DelegationToken]:
        """The tokens of these owners, or all that one may see."""
        wanted = None if owners is None else [_principal(owner) for owner in owners]

        async def ask(target: Target) -> list[DelegationToken]:
            request = DescribeDelegationTokenRequest(
                owners=None
                if wanted is None
                else [DescribeDelegationTokenOwner(principal_type=kind, principal_name=name) for kind, name in wanted]
            )
            response = await target.request(request, DescribeDelegationTokenResponse)
            if response.error_code:
                raise error_for(response.error_code)
            return [
                DelegationToken(
                    token.token_id,
                    bytes(token.hmac),
                    owner := KafkaPrincipal(token.principal_type, token.principal_name),
                    _requester(token.token_requester_principal_type, token.token_requester_principal_name, owner),
                    tuple(KafkaPrincipal(one.principal_type, one.principal_name) for one in token.renewers),
                    token.issue_timestamp,
                    token.expiry_timestamp,
                    token.max_timestamp,
                )
                for token in response.tokens
            ]

        return await self._routing.run_one("describe_delegation_token", AnyNode(), ask, timeout_s)


def _principal(given: KafkaPrincipal | str) -> KafkaPrincipal:
    if isinstance(given, KafkaPrincipal):
        return given
    kind, colon, name = given.partition(":")
    if not colon:
        raise KafkaError(f"{given!r} is not a principal.", hint='Write it as "User:alice".')
    return KafkaPrincipal(kind, name)


def _requester(kind: str, name: str, owner: KafkaPrincipal) -> KafkaPrincipal:
    """Before the third version nobody could ask for somebody else."""
    return KafkaPrincipal(kind, name) if kind else owner
