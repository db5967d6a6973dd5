"""The SASL mechanisms of `ottla.security`, with the clients' errors."""

from __future__ import annotations

from collections.abc import Callable

from ottla.client.security.errors import as_client_errors
from ottla.security.mechanism import Mechanism


class ClientMechanism:
    """One exchange, made by `make`, which raises what the mechanism raises: so do the methods."""

    def __init__(self, make: Callable[[], Mechanism]) -> None:
        with as_client_errors():
            self._mechanism = make()
        self.is_slow = self._mechanism.is_slow

    @property
    def refusal(self) -> str | None:
        """What the broker said against us, where the mechanism hears of it."""
        return getattr(self._mechanism, "refusal", None)

    def first_message(self) -> bytes:
        """What the client begins with. Raises `AuthenticationError`."""
        with as_client_errors():
            return self._mechanism.first_message()

    def respond(self, challenge: bytes) -> bytes | None:
        """The answer to the broker; None at the end. Raises `AuthenticationError`."""
        with as_client_errors():
            return self._mechanism.respond(challenge)
