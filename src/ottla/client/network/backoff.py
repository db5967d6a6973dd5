"""How long to wait before the next attempt: exponential, bounded, with jitter (KIP-144, KIP-580, KIP-601)."""

from __future__ import annotations

from random import Random

FACTOR = 2
JITTER = 0.2


class ExponentialBackoff:
    """`initial_ms` doubled with every attempt, ± 20 %, never above `max_ms`."""

    __slots__ = ("_exponent_limit", "_random", "initial_ms", "max_ms")

    def __init__(self, initial_ms: int, max_ms: int, random: Random) -> None:
        self.initial_ms = initial_ms
        self.max_ms = max_ms
        self._random = random
        # More doublings than this cannot matter, and would overflow in the end.
        self._exponent_limit = max(0, max_ms // max(initial_ms, 1)).bit_length()

    def delay_ms(self, attempt: int) -> int:
        """The wait before attempt number `attempt`; 0 is the first repetition."""
        term: int = self.initial_ms * FACTOR ** min(max(attempt, 0), self._exponent_limit)
        return min(round(min(term, self.max_ms) * self._random.uniform(1 - JITTER, 1 + JITTER)), self.max_ms)
