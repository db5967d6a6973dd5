"""Distributions of durations and sizes that cost next to nothing to keep.

A value falls into a bucket of logarithmic width (eight to a power of two, so at most 6 % off); quantiles are worked out
when somebody asks. What is asked for is the recent past: buckets are kept for the current and the previous period, and
the older of the two is dropped when a period is over. With nothing new the last values stay, as in Kafka's reservoirs.
"""

from __future__ import annotations

from typing import Final, NamedTuple

PERIOD_MS: Final = 60_000
QUANTILES: Final = (0.5, 0.75, 0.95, 0.98, 0.99, 0.999)
"""Those that Kafka's histograms have."""

_SUB_BITS: Final = 3
_SUB_BUCKETS: Final = 1 << _SUB_BITS


class Snapshot(NamedTuple):
    """What a histogram held: values recorded since the beginning, their sum, and `QUANTILES` of the recent ones."""

    recorded: int
    total: float
    quantiles: tuple[float, ...]
    maximum: float


class Histogram:
    """Counts values (integers, not negative). `scale` is what a recorded value is multiplied by to be shown."""

    __slots__ = ("_current", "_period_began_ms", "_previous", "count", "scale", "total")

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale
        self.count = 0
        self.total = 0
        self._current: dict[int, int] = {}
        self._previous: dict[int, int] = {}
        self._period_began_ms = 0

    def record(self, value: int, weight: int = 1) -> None:
        """Count a value; `weight` is how many it stands for."""
        if value < _SUB_BUCKETS:
            bucket = max(value, 0)
        else:
            shift = value.bit_length() - _SUB_BITS - 1
            bucket = (shift << _SUB_BITS) + (value >> shift)
        current = self._current
        current[bucket] = current.get(bucket, 0) + weight
        self.count += weight
        self.total += value * weight

    def turn(self, now_ms: int) -> bool:
        """Begin a new period when the current one is over and has had values; whether it did."""
        if now_ms - self._period_began_ms < PERIOD_MS:
            return False
        self._period_began_ms = now_ms
        if not self._current:
            return False
        self._previous = self._current
        self._current = {}
        return True

    def snapshot(self, count: int | None = None) -> Snapshot:
        """Its state now; `count` replaces the count of a histogram that was only given a sample."""
        counted = self.count if count is None else count
        merged = dict(self._previous)
        for bucket, number in self._current.items():
            merged[bucket] = merged.get(bucket, 0) + number
        scale = self.scale
        if not merged:
            return Snapshot(counted, self.total * scale, (0.0,) * len(QUANTILES), 0.0)
        ordered = sorted(merged.items())
        size = sum(merged.values())
        found: list[float] = []
        position = 0
        bucket, seen = ordered[0]
        for quantile in QUANTILES:
            rank = quantile * size
            while seen < rank and position + 1 < len(ordered):
                position += 1
                bucket, number = ordered[position]
                seen += number
            found.append(_middle(bucket) * scale)
        return Snapshot(counted, self.total * scale, tuple(found), _middle(ordered[-1][0]) * scale)


def _middle(bucket: int) -> float:
    """The value that stands for a bucket."""
    if bucket < 2 * _SUB_BUCKETS:
        return float(bucket)
    shift = (bucket >> _SUB_BITS) - 1
    low = (bucket - (shift << _SUB_BITS)) << shift
    return low + (1 << shift) / 2
