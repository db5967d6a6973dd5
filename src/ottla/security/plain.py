"""SASL PLAIN (RFC 4616): user name and password as they are, so use it within TLS."""

from __future__ import annotations

from ottla.security.errors import MechanismError


class Plain:
    """One message; the broker's answer is empty."""

    is_slow = False

    def __init__(self, username: str, password: str) -> None:
        self._message = f"\0{username}\0{password}".encode()

    def first_message(self) -> bytes:
        return self._message

    def respond(self, challenge: bytes) -> None:
        if challenge:
            raise MechanismError("the broker answered PLAIN with something that is not PLAIN.")
