"""What an entity has used: the rate over a sliding window of samples, and the token bucket.

Sans-I/O: time is an argument (milliseconds, steady). The formulas are those that clients of Kafka are used to.
"""

from __future__ import annotations

from collections import deque
from math import floor
from typing import Final

DEFAULT_SAMPLES: Final = 11
"""Ten whole samples and the current one."""
DEFAULT_SAMPLE_MS: Final = 1000
_LONGEST_THROTTLE_MS: Final = 2**31 - 1


class Rate:
    """Amount per second over the last `samples` samples of `sample_ms` each.

    A new rate counts as if it had been idle before: the window is never shorter than all samples but the current one.
    """

    __slots__ = ("_samples", "last_throttle_ms", "sample_ms", "samples")

    def __init__(self, samples: int = DEFAULT_SAMPLES, sample_ms: int = DEFAULT_SAMPLE_MS) -> None:
        self.samples = samples
        self.sample_ms = sample_ms
        # What the last one who was charged was told; for metrics.
        self.last_throttle_ms = 0
        # [first time, last time, amount], oldest first.
        self._samples: deque[list[float]] = deque()

    def record(self, amount: float, now_ms: int) -> None:
        """Count an amount; a negative one takes back what was counted a moment ago."""
        samples = self._samples
        if samples and now_ms - samples[-1][0] < self.sample_ms:
            current = samples[-1]
            current[1] = now_ms
            current[2] += amount
            return
        samples.append([now_ms, now_ms, amount])
        self._forget(now_ms)

    def throttle_ms(self, limit: float, now_ms: int) -> int:
        """How long to stay silent until the rate is down at `limit` per second again; 0 when it is not above."""
        window_ms = self._window_ms(now_ms)
        rate = sum(sample[2] for sample in self._samples) / (window_ms / 1000)
        if rate <= limit:
            return 0
        if not limit:
            return _LONGEST_THROTTLE_MS
        return _whole_ms((rate - limit) / limit * window_ms)

    def value(self, now_ms: int) -> float:
        """Amount per second."""
        window_ms = self._window_ms(now_ms)
        return sum(sample[2] for sample in self._samples) / (window_ms / 1000)

    def _window_ms(self, now_ms: int) -> int:
        self._forget(now_ms)
        elapsed = int(now_ms - self._samples[0][0]) if self._samples else 0
        missing = self.samples - 1 - elapsed // self.sample_ms
        if missing > 0:
            elapsed += missing * self.sample_ms
        return max(elapsed, 1)

    def _forget(self, now_ms: int) -> None:
        """Drop samples whose last event has left the window; one that reaches into it counts as a whole."""
        samples, longest = self._samples, self.samples * self.sample_ms
        while samples and now_ms - samples[0][1] >= longest:
            samples.popleft()


class TokenBucket:
    """Tokens that come back at `limit` per second, at most a whole window's worth; it starts full.

    Taking more than there is leaves a debt: one large request passes, and the next has to wait for it.
    """

    __slots__ = ("_tokens", "_updated_ms", "burst_s")

    def __init__(self, burst_s: float) -> None:
        self.burst_s = burst_s
        self._tokens: float | None = None
        self._updated_ms = 0

    def take(self, amount: float, limit: float, now_ms: int) -> None:
        """Take tokens, whether they are there or not."""
        self._tokens = self._refilled(limit, now_ms) - amount

    def throttle_ms(self, limit: float, now_ms: int) -> int:
        """How long until the debt is paid; 0 without one."""
        tokens = self._refilled(limit, now_ms)
        return 0 if tokens >= 0 else _whole_ms(-tokens / limit * 1000)

    def _refilled(self, limit: float, now_ms: int) -> float:
        burst = self.burst_s * limit
        if self._tokens is None:
            self._tokens = burst
        else:
            self._tokens = min(burst, self._tokens + limit * (now_ms - self._updated_ms) / 1000)
        self._updated_ms = now_ms
        return self._tokens


def _whole_ms(milliseconds: float) -> int:
    """Rounded half up, as a field of 32 bits takes it."""
    return (
        int(min(floor(milliseconds + 0.5), _LONGEST_THROTTLE_MS))
        if milliseconds < _LONGEST_THROTTLE_MS
        else _LONGEST_THROTTLE_MS
    )
