"""SCRAM credentials of users (KIP-554). Passwords are salted here: the cluster never sees them."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from ottla.client.admin.calls import AdminCalls
from ottla.client.admin.outcomes import known, names, outcome, settle
from ottla.client.admin.routing import AnyNode, Controller, Target
from ottla.client.errors import KafkaError, error_for
from ottla.core.errors import ErrorCode
from ottla.protocol.messages.alter_user_scram_credentials import (
    AlterUserScramCredentialsRequest,
    AlterUserScramCredentialsResponse,
    ScramCredentialDeletion,
    ScramCredentialUpsertion,
)
from ottla.protocol.messages.describe_user_scram_credentials import (
    DescribeUserScramCredentialsRequest,
    DescribeUserScramCredentialsResponse,
    UserName,
)

DEFAULT_ITERATIONS = 4096


class ScramMechanism(IntEnum):
    """The hash of a credential."""

    UNKNOWN = 0
    SCRAM_SHA_256 = 1
    SCRAM_SHA_512 = 2


class ScramCredentialInfo(NamedTuple):
    """A credential that a user has; the cluster tells no more of it."""

    mechanism: ScramMechanism
    iterations: int


@dataclass(frozen=True, slots=True)
class UserScramCredentialUpsertion:
    """Give a user this password. Kafka takes 4096 to 16384 iterations; the salt is random unless given."""

    user: str
    password: str | bytes = field(repr=False)
    mechanism: ScramMechanism = ScramMechanism.SCRAM_SHA_512
    iterations: int = DEFAULT_ITERATIONS
    salt: bytes | None = field(default=None, repr=False)


class UserScramCredentialDeletion(NamedTuple):
    """Take a user's credential of this mechanism away."""

    user: str
    mechanism: ScramMechanism


class ScramCalls(AdminCalls):
    """Calls about SCRAM credentials."""

    async def describe_user_scram_credentials(
        self, users: str | Iterable[str] | None = None, *, timeout_s: float | None = None
    ) -> dict[str, list[ScramCredentialInfo]]:
        """Which credentials users have (all users that have some, without `users`).

        A user asked for by name that has none fails with RESOURCE_NOT_FOUND.
        """
        wanted = None if users is None else [UserName(name=name) for name in names(users)]

        async def ask(target: Target) -> dict[str, list[ScramCredentialInfo] | KafkaError]:
            request = DescribeUserScramCredentialsRequest(users=wanted)
            response = await target.request(request, DescribeUserScramCredentialsResponse)
            if response.error_code:
                raise error_for(response.error_code, response.error_message)
            return {
                result.user: outcome(
                    result.error_code,
                    result.error_message,
                    [
                        ScramCredentialInfo(known(ScramMechanism, info.mechanism), info.iterations)
                        for info in result.credential_infos
                    ],
                )
                for result in response.results
            }

        return settle(await self._routing.run_one("describe_user_scram_credentials", AnyNode(), ask, timeout_s))

    async def alter_user_scram_credentials(
        self,
        alterations: UserScramCredentialUpsertion
        | UserScramCredentialDeletion
        | Iterable[UserScramCredentialUpsertion | UserScramCredentialDeletion],
        *,
        timeout_s: float | None = None,
    ) -> None:
        """Set and remove credentials. A user's changes are made all or not at all; errors are by user."""
        given = (
            [alterations]
            if isinstance(alterations, UserScramCredentialUpsertion | UserScramCredentialDeletion)
            else list(alterations)
        )
        refused = {one.user: error for one in given if (error := _refused(one)) is not None}
        upsertions = [
            await asyncio.to_thread(_salted, one)
            for one in given
            if isinstance(one, UserScramCredentialUpsertion) and one.user not in refused
        ]
        deletions = [one for one in given if isinstance(one, UserScramCredentialDeletion)]

        async def ask(target: Target, asked: list[str]) -> dict[str, KafkaError | None]:
            outcomes: dict[str, KafkaError | None] = {user: refused[user] for user in asked if user in refused}
            request = AlterUserScramCredentialsRequest(
                deletions=[
                    ScramCredentialDeletion(name=one.user, mechanism=int(one.mechanism))
                    for one in deletions
                    if one.user in asked and one.user not in refused
                ],
                upsertions=[one for one in upsertions if one.name in asked],
            )
            if request.deletions or request.upsertions:
                response = await target.request(request, AlterUserScramCredentialsResponse)
                outcomes |= {
                    result.user: outcome(result.error_code, result.error_message, None) for result in response.results
                }
            return outcomes

        users = [one.user for one in given]
        await self._routing.run("alter_user_scram_credentials", users, Controller(), ask, timeout_s)


def salted_password(mechanism: ScramMechanism, password: str | bytes, salt: bytes, iterations: int) -> bytes:
    """SaltedPassword of RFC 5802: PBKDF2 with the mechanism's hash."""
    secret = password.encode() if isinstance(password, str) else password
    digest = "sha256" if mechanism is ScramMechanism.SCRAM_SHA_256 else "sha512"
    return hashlib.pbkdf2_hmac(digest, secret, salt, iterations)


def _salted(one: UserScramCredentialUpsertion) -> ScramCredentialUpsertion:
    salt = os.urandom(20) if one.salt is None else one.salt
    return ScramCredentialUpsertion(
        name=one.user,
        mechanism=int(one.mechanism),
        iterations=one.iterations,
        salt=salt,
        salted_password=salted_password(one.mechanism, one.password, salt, one.iterations),
    )


def _refused(one: UserScramCredentialUpsertion | UserScramCredentialDeletion) -> KafkaError | None:
    """What must not even be sent."""
    if not one.user:
        return error_for(ErrorCode.UNACCEPTABLE_CREDENTIAL, "The user has no name.")
    if one.mechanism is ScramMechanism.UNKNOWN:
        return error_for(ErrorCode.UNSUPPORTED_SASL_MECHANISM, "It is SCRAM_SHA_256 or SCRAM_SHA_512.")
    if isinstance(one, UserScramCredentialUpsertion):
        if not one.password:
            return error_for(ErrorCode.UNACCEPTABLE_CREDENTIAL, "The password is empty.")
        if one.iterations < 1:
            return error_for(ErrorCode.UNACCEPTABLE_CREDENTIAL, "There is at least one iteration.")
    return None
