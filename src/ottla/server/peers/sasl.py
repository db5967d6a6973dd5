"""How this node says who it is to others: SASL between the greeting of a connection and its first request, and again
before the session ends (KIP-368).

Credentials are those of the listener on the other side, as in Kafka: `username` and `password` of
`listener.name.<name>.<mechanism>.sasl.jaas.config`, beside the users that a broker lets in there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from ottla.core.errors import ERRORS, ErrorCode
from ottla.protocol.messages.sasl_authenticate import SaslAuthenticateRequest, SaslAuthenticateResponse
from ottla.protocol.messages.sasl_handshake import SaslHandshakeRequest, SaslHandshakeResponse
from ottla.security.errors import MechanismError, SecurityConfigError
from ottla.security.jaas import parse_jaas
from ottla.server.peers.errors import NotTrustedError

if TYPE_CHECKING:
    from ottla.security.mechanism import Mechanism
    from ottla.server.peers.connection import PeerConnection

MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI")
"""What nodes can log in with at each other."""
_MODULES: Final = {
    "PLAIN": "PlainLoginModule",
    "SCRAM-SHA-256": "ScramLoginModule",
    "SCRAM-SHA-512": "ScramLoginModule",
    "GSSAPI": "Krb5LoginModule",
}
_MOST_STEPS: Final = 16
_NONCE_BYTES: Final = 18

MakeMechanism = Callable[[str], "Mechanism"]
"""The mechanism for one exchange with a host."""


class PeerLogin:
    """Says who this node is on one listener of other nodes."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        listener_name: str,
        mechanism: str,
        run_blocking: Callable[..., Awaitable[Any]],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        """`settings` are the listener's, for this mechanism. Raises SecurityConfigError."""
        self._name = mechanism
        self._key = _key(listener_name, mechanism)
        self._run_blocking = run_blocking
        self._make = _maker(settings, listener_name, mechanism, random_bytes)

    async def __call__(self, connection: PeerConnection, host: str) -> int | None:
        """Log in; for how many milliseconds that holds, None for ever. Raises PeerError, NotTrustedError above all."""
        name = connection.name
        try:
            mechanism = await self._run_blocking(self._make, host) if self._name == "GSSAPI" else self._make(host)
            handshake: SaslHandshakeResponse = await connection.send(SaslHandshakeRequest(mechanism=self._name))
            if handshake.error_code:
                offered = ", ".join(handshake.mechanisms) or "nothing"
                raise NotTrustedError(
                    f"{name} does not take {self._name} ({_code(handshake.error_code)}), but {offered}."
                )
            return await self._exchange(connection, mechanism)
        except (MechanismError, SecurityConfigError) as error:
            raise NotTrustedError(
                f"{name} and this node do not come together by {self._name}: {error.message}"
            ) from None

    async def _exchange(self, connection: PeerConnection, mechanism: Mechanism) -> int | None:
        message = await self._step(mechanism, mechanism.first_message)
        for _ in range(_MOST_STEPS):
            assert message is not None
            response: SaslAuthenticateResponse = await connection.send(SaslAuthenticateRequest(auth_bytes=message))
            if response.error_code:
                said = " ".join((response.error_message or _code(response.error_code)).split())
                raise NotTrustedError(
                    f"{connection.name} does not let this node in: {said.removesuffix('.')}. (See username in "
                    f"{self._key}.)"
                )
            message = await self._step(mechanism, mechanism.respond, bytes(response.auth_bytes))
            if message is None:
                return response.session_lifetime_ms or None
        raise NotTrustedError(f"{connection.name} does not come to an end with {self._name}.")

    async def _step(self, mechanism: Mechanism, step: Callable[..., bytes | None], *challenge: bytes) -> bytes | None:
        if not mechanism.is_slow:
            return step(*challenge)
        found: bytes | None = await self._run_blocking(step, *challenge)
        return found


def _maker(
    settings: Mapping[str, Any], listener_name: str, mechanism: str, random_bytes: Callable[[int], bytes]
) -> MakeMechanism:
    if mechanism not in MECHANISMS:
        raise SecurityConfigError(
            "sasl.mechanism.inter.broker.protocol",
            f"nodes cannot log in at {listener_name} with {mechanism}; choose one of {', '.join(MECHANISMS)} for "
            "sasl.mechanism.inter.broker.protocol and sasl.mechanism.controller.protocol",
        )
    if mechanism == "GSSAPI":
        return _kerberos(settings, _options(settings, listener_name, mechanism, is_needed=False))
    options = _options(settings, listener_name, mechanism)
    missing = next((name for name in ("username", "password") if name not in options), None)
    if missing is not None:
        key = _key(listener_name, mechanism)
        raise SecurityConfigError(key, f"{key} has no {missing}, with which this node logs in at others")
    user, password = options["username"], options["password"]
    if mechanism == "PLAIN":
        from ottla.security.plain import Plain

        return lambda host: Plain(user, password)
    from ottla.security.scram import SaltedPasswords, Scram

    salted = SaltedPasswords()
    extensions = {"tokenauth": "true"} if options.get("tokenauth", "").lower() == "true" else None
    return lambda host: Scram(
        mechanism, user, password, random_bytes(_NONCE_BYTES).hex(), extensions=extensions, salted_passwords=salted
    )


def _kerberos(settings: Mapping[str, Any], options: Mapping[str, str]) -> MakeMechanism:
    from ottla.security.gssapi import Gssapi, load_gssapi, new_cache

    load_gssapi()
    service = settings["sasl.kerberos.service.name"] or options.get("serviceName", "kafka")
    keytab = options.get("keyTab") if options.get("useKeyTab", "").lower() == "true" else None
    cache = new_cache()
    return lambda host: Gssapi(service, host, principal=options.get("principal"), keytab=keytab, cache=cache)


def _options(
    settings: Mapping[str, Any], listener_name: str, mechanism: str, *, is_needed: bool = True
) -> Mapping[str, str]:
    key = _key(listener_name, mechanism)
    text = settings["sasl.jaas.config"]
    if text is None:
        if not is_needed:
            return {}
        raise SecurityConfigError(
            key,
            f"{key} is missing: with its username and password this node logs in at others, as in "
            f'{_MODULES[mechanism]} required username="broker" password="…";',
        )
    try:
        entry = parse_jaas(getattr(text, "value", text))
    except SecurityConfigError as error:
        raise SecurityConfigError(key, error.message.replace("sasl.jaas.config", key, 1)) from None
    if entry.module != _MODULES[mechanism]:
        raise SecurityConfigError(key, f"{key} is for {entry.module}; {mechanism} needs a {_MODULES[mechanism]}")
    return entry.options


def _key(listener_name: str, mechanism: str) -> str:
    return f"listener.name.{listener_name.lower()}.{mechanism.lower()}.sasl.jaas.config"


def _code(number: int) -> str:
    return ERRORS.get(number, ErrorCode.UNKNOWN_SERVER_ERROR).name
