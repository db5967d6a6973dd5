"""PLAIN (RFC 4616): user name and password as they are, so listeners that offer it should use TLS.

Passwords are those of `sasl.jaas.config` of the listener and mechanism (`user_alice="secret"`), those of a directory
where `ldap.url` is set, or whatever the class
of `sasl.server.callback.handler.class` looks them up in: `Passwords` says what such a class has.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Protocol

from ottla.server.security.sasl.mechanism import AuthenticationError, Step
from ottla.server.security.session import Session

if TYPE_CHECKING:
    from ottla.server.security.sasl.mechanism import Surroundings

MECHANISM: Final = "PLAIN"
USER_PREFIX: Final = "user_"
_WRONG: Final = "Authentication failed: Invalid username or password"


class Passwords(Protocol):
    """Knows users and their passwords."""

    async def authenticate(self, username: str, password: str) -> Session | None:
        """Who this is; None when there is no such user, or the password is another one, without telling which.

        Raises BackendUnavailableError when nobody can say.
        """
        ...

    async def close(self) -> None:
        """Let go of connections and files."""
        ...


class JaasPasswords:
    """The users of a JAAS entry."""

    def __init__(self, options: Mapping[str, str], secret: bytes) -> None:
        """`secret` makes what is kept of passwords useless elsewhere, and comparing them take the same time always."""
        self._secret = secret or b"\0"
        self._digests = {
            name.removeprefix(USER_PREFIX): self._digest(password)
            for name, password in options.items()
            if name.startswith(USER_PREFIX)
        }

    async def authenticate(self, username: str, password: str) -> Session | None:
        """By a comparison whose time tells neither whether the user exists nor how much of the password is right."""
        known = self._digests.get(username)
        is_right = hmac.compare_digest(self._digest(password), known if known is not None else bytes(32))
        return Session(f"User:{username}", mechanism=MECHANISM) if is_right and known is not None else None

    async def close(self) -> None:
        """Nothing is held."""

    def _digest(self, password: str) -> bytes:
        return hmac.digest(self._secret, password.encode(errors="surrogatepass"), "sha256")


class PlainService:
    """PLAIN with these passwords."""

    def __init__(self, passwords: Passwords) -> None:
        self._passwords = passwords

    def begin(self, client_host: str) -> PlainExchange:
        """A new exchange."""
        return PlainExchange(self._passwords)

    async def close(self) -> None:
        """End the passwords' back end."""
        await self._passwords.close()


class PlainExchange:
    """One message, one answer."""

    def __init__(self, passwords: Passwords) -> None:
        self._passwords = passwords

    async def respond(self, message: bytes) -> Step:
        """The texts of refusals are Kafka's: clients show them."""
        fields = message.decode(errors="replace").split("\0", 3)
        if len(fields) != 3:
            count = len(fields)
            raise AuthenticationError(f"Invalid SASL/PLAIN response: expected 3 tokens, got {count}")
        authorization_id, username, password = fields
        if not username:
            raise AuthenticationError("Authentication failed: username not specified")
        if not password:
            raise AuthenticationError("Authentication failed: password not specified", user=username)
        session = await self._passwords.authenticate(username, password)
        if session is None:
            raise AuthenticationError(_WRONG, reason="unknown user or wrong password", user=username)
        if authorization_id not in ("", username):
            raise AuthenticationError(
                "Authentication failed: Client requested an authorization id that is different from username",
                user=username,
            )
        return Step(b"", session)


def open_service(surroundings: Surroundings) -> PlainService:
    """PLAIN as the listener's settings say. Raises SecurityConfigError."""
    from ottla.server.security.sasl.registry import jaas_options

    if surroundings.settings.get("ldap.url"):
        from ottla.server.security.ldap.passwords import open_passwords

        return PlainService(open_passwords(surroundings))
    return PlainService(JaasPasswords(jaas_options(surroundings, "PlainLoginModule"), surroundings.secret))
