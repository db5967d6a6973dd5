"""Rates of counters, worked out from what they were at earlier looks; Kafka's are over half a minute, too."""

from __future__ import annotations

from collections import deque
from typing import Final

WINDOW_MS: Final = 30_000
_SHORTEST_STEP_MS: Final = 1_000


class Rates:
    """Sans-I/O: time is an argument (milliseconds, steady). `record` is called at every look, with the total so far."""

    __slots__ = ("_began_ms", "_samples")

    def __init__(self, now_ms: int) -> None:
        self._began_ms = now_ms
        self._samples: dict[str, deque[tuple[int, float]]] = {}

    def record(self, name: str, total: float, now_ms: int, window_ms: int = WINDOW_MS) -> float:
        """How much a second the total has grown, over the last window or as long as it is known (then from zero)."""
        samples = self._samples.get(name)
        if samples is None:
            samples = self._samples[name] = deque([(self._began_ms, 0.0)])
        while len(samples) > 1 and now_ms - samples[1][0] >= window_ms:
            samples.popleft()
        then_ms, then = samples[0]
        if now_ms - samples[-1][0] >= _SHORTEST_STEP_MS:
            samples.append((now_ms, total))
        elapsed_ms = now_ms - then_ms
        return max(total - then, 0.0) * 1000 / elapsed_ms if elapsed_ms > 0 else 0.0
