"""What a SASL mechanism is at the client's end: a small machine without I/O."""

from __future__ import annotations

from typing import Protocol


class Mechanism(Protocol):
    """One exchange, from its first message to its end; made anew for each."""

    is_slow: bool
    """Whether `respond` computes or asks the operating system for long enough to be worth a thread."""

    def first_message(self) -> bytes:
        """What the client begins with."""
        ...

    def respond(self, challenge: bytes) -> bytes | None:
        """The answer to what the server said; None when the exchange is over and the server is believed.

        Raises `MechanismError` when the server cannot be believed.
        """
        ...
