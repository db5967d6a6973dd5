"""Where to start when there is no position: `auto.offset.reset`."""

from __future__ import annotations

from typing import NamedTuple

LATEST_TIMESTAMP = -1
EARLIEST_TIMESTAMP = -2


class ResetStrategy(NamedTuple):
    """An offset by what it means. `timestamp_ms` as in a ListOffsets request: -2 the earliest offset, -1 the latest;
    None with a `duration_ms`: the first record that is not older (KIP-1106).
    """

    name: str
    timestamp_ms: int | None
    duration_ms: int = 0

    def timestamp(self, wall_clock_ms: int) -> int:
        """What to ask ListOffsets for."""
        if self.timestamp_ms is not None:
            return self.timestamp_ms
        return max(0, wall_clock_ms - self.duration_ms)


EARLIEST = ResetStrategy("earliest", EARLIEST_TIMESTAMP)
LATEST = ResetStrategy("latest", LATEST_TIMESTAMP)


def reset_strategy(text: str, duration_ms: int | None) -> ResetStrategy | None:
    """What `auto.offset.reset` says: earliest, latest, by_duration:… with its duration, or none (None)."""
    if duration_ms is not None:
        return ResetStrategy(text, None, duration_ms)
    return {"earliest": EARLIEST, "latest": LATEST}.get(text.lower())
