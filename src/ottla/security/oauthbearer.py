"""SASL OAUTHBEARER (RFC 7628): a token that somebody else has issued, with extensions (KIP-342)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ottla.security.errors import MechanismError, SecurityConfigError

_SEPARATOR = "\x01"
_NAME = re.compile(r"[A-Za-z]+")
_VALUE = re.compile(r"[\x21-\x7E \t\r\n]+")


class OAuthBearer:
    """One message. When the broker refuses, it first says why, and wants to hear that this was understood."""

    is_slow = False

    def __init__(self, token: str, extensions: Mapping[str, str] | None = None) -> None:
        if not token or not token.isascii() or any(character <= " " for character in token):
            raise MechanismError("the OAuth token is empty, or has characters that a token cannot have.", hint="")
        check_extensions(extensions or {})
        pairs = [f"auth=Bearer {token}", *(f"{name}={value}" for name, value in (extensions or {}).items())]
        self._message = f"n,,{_SEPARATOR}{_SEPARATOR.join(pairs)}{_SEPARATOR}{_SEPARATOR}".encode()
        self.refusal: str | None = None
        """What the broker said against the token, for the error that follows."""

    def first_message(self) -> bytes:
        return self._message

    def respond(self, challenge: bytes) -> bytes | None:
        if not challenge:
            return None
        if self.refusal is not None:
            raise MechanismError(f"the broker refused the OAuth token: {self.refusal}.")
        self.refusal = challenge.decode(errors="replace")
        return _SEPARATOR.encode()


def check_extensions(extensions: Mapping[str, str]) -> None:
    """Raise `SecurityConfigError` unless these can be SASL extensions (`auth` is the token's own)."""
    for name, value in extensions.items():
        if name == "auth" or not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise SecurityConfigError(
                "", f"the SASL extension {name!r} is not allowed: letters for the name, text for the value."
            )
