"""What the network layer uses: TLS contexts, and the SASL exchange over a connection."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from ottla.client.errors import AuthenticationError, KafkaError, error_for
from ottla.client.security.errors import as_client_errors
from ottla.client.security.mechanisms import ClientMechanism
from ottla.core.errors import ErrorCode
from ottla.protocol.messages.sasl_authenticate import SaslAuthenticateRequest, SaslAuthenticateResponse
from ottla.protocol.messages.sasl_handshake import SaslHandshakeRequest, SaslHandshakeResponse

if TYPE_CHECKING:
    from ssl import SSLContext

    from ottla.client.settings import CommonSettings
    from ottla.security.mechanism import Mechanism

SendAndReceive = Callable[[Any], Awaitable[Any]]
"""Sends a request on the connection that is being authenticated, and gives the body of its response."""

_MAX_STEPS = 16
"""No mechanism needs as many; a broker that goes on is not talking sense."""


class Security:
    """Encrypts and authenticates the connections of one client."""

    def __init__(self, settings: CommonSettings) -> None:
        self._settings = settings
        self._uses_tls = settings.security_protocol.endswith("SSL")
        self._context: SSLContext | None = None
        self._make: Callable[[str], Awaitable[Mechanism]] | None = None
        if settings.security_protocol.startswith("SASL"):
            self._make = _mechanism_maker(settings)

    def ssl_context(self, host: str) -> tuple[SSLContext, str] | None:
        """The context and the name to expect in the broker's certificate; None without TLS.

        Raises `ConfigError` naming the file that cannot be used.
        """
        if not self._uses_tls:
            return None
        if self._context is None:
            from ottla.client.security.tls import make_ssl_context

            self._context = make_ssl_context(self._settings)
        return self._context, host.rstrip(".")

    async def authenticate(self, send_and_receive: SendAndReceive, host: str) -> int | None:
        """Prove who we are; returns the session's lifetime in milliseconds (KIP-368), None for one without end.

        Raises `AuthenticationError` when one side does not believe the other.
        """
        if self._make is None:
            return None
        name = self._settings.sasl_mechanism
        mechanism = await self._make(host)
        handshake: SaslHandshakeResponse = await send_and_receive(SaslHandshakeRequest(mechanism=name))
        if handshake.error_code != ErrorCode.NONE:
            raise _handshake_error(handshake, name, host)
        message: bytes | None = await _run(mechanism, mechanism.first_message)
        for _ in range(_MAX_STEPS):
            if message is None:
                break
            request = SaslAuthenticateRequest(auth_bytes=message)
            response: SaslAuthenticateResponse = await send_and_receive(request)
            if response.error_code != ErrorCode.NONE:
                raise _refusal(response, mechanism, name, host)
            challenge = response.auth_bytes
            message = await _run(mechanism, lambda: mechanism.respond(challenge))  # noqa: B023 (awaited at once)
        else:
            raise AuthenticationError(f"{host} does not come to an end with {name}.")
        return response.session_lifetime_ms or None


async def _run(mechanism: Mechanism, step: Callable[[], bytes | None]) -> bytes | None:
    return await asyncio.to_thread(step) if mechanism.is_slow else step()


def _handshake_error(response: SaslHandshakeResponse, name: str, host: str) -> KafkaError:
    if response.error_code != ErrorCode.UNSUPPORTED_SASL_MECHANISM:
        return error_for(response.error_code, f"{host} refused to begin with SASL.")
    offered = ", ".join(response.mechanisms)
    return AuthenticationError(
        f"{host} does not take {name}; it takes {offered or 'no mechanism at all'}.",
        code=ErrorCode.UNSUPPORTED_SASL_MECHANISM,
        hint=f"Set sasl.mechanism to {'one of them' if ',' in offered else offered}." if offered else None,
    )


def _refusal(response: SaslAuthenticateResponse, mechanism: Mechanism, name: str, host: str) -> KafkaError:
    said = " ".join((response.error_message or "").split()).rstrip(".")
    reason = getattr(mechanism, "refusal", None)
    detail = f" ({reason})" if reason and reason != said else ""
    hint = {
        "OAUTHBEARER": "Check where the token comes from, and that the broker trusts its issuer.",
        "GSSAPI": "Check the principal, and sasl.kerberos.service.name.",
    }.get(name, "Check sasl.username and sasl.password.")
    return error_for(response.error_code, f"{host} refused {name}: {said or 'no reason given'}{detail}.", hint=hint)


def _mechanism_maker(settings: CommonSettings) -> Callable[[str], Awaitable[Mechanism]]:
    """A function that makes the mechanism of one exchange; what can be wrong with credentials is found now."""
    from ottla.client.security.credentials import jaas_entry, kerberos, user_and_password

    jaas_entry(settings)
    name = settings.sasl_mechanism
    if name == "OAUTHBEARER":
        from ottla.client.security.tokens import TokenKeeper
        from ottla.security.oauthbearer import OAuthBearer

        keeper = TokenKeeper(settings)

        async def bearer(host: str) -> Mechanism:
            token = await keeper.token()
            return ClientMechanism(lambda: OAuthBearer(token.value, token.extensions))

        return bearer
    if name == "GSSAPI":
        from ottla.security.gssapi import Gssapi, load_gssapi, new_cache

        ticket, cache = kerberos(settings), new_cache()
        with as_client_errors():
            load_gssapi()

        async def gssapi(host: str) -> Mechanism:
            # Finding credentials reads files and may ask the KDC.
            return await asyncio.to_thread(
                ClientMechanism,
                lambda: Gssapi(ticket.service, host, principal=ticket.principal, keytab=ticket.keytab, cache=cache),
            )

        return gssapi
    user = user_and_password(settings)
    if name == "PLAIN":
        from ottla.security.plain import Plain

        async def plain(host: str) -> Mechanism:
            return ClientMechanism(lambda: Plain(user.username, user.password))

        return plain
    from ottla.security.scram import SaltedPasswords, Scram

    salted_passwords = SaltedPasswords()
    extensions = {"tokenauth": "true"} if user.is_token else None

    async def scram(host: str) -> Mechanism:
        nonce = secrets.token_urlsafe(24)
        return ClientMechanism(
            lambda: Scram(
                name, user.username, user.password, nonce, extensions=extensions, salted_passwords=salted_passwords
            )
        )

    return scram
