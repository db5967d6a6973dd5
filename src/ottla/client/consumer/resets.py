"""Where to start when there is no position: `auto.offset.reset`."""

from __future__ import annotations

import re
from typing import NamedTuple

from ottla.client.errors import ConfigError

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


def reset_strategy(text: str) -> ResetStrategy | None:
    """What `auto.offset.reset` says: earliest, latest, by_duration:<ISO 8601>, or none (None)."""
    name, colon, duration = text.partition(":")
    match name.lower():
        case "earliest" if not colon:
            return EARLIEST
        case "latest" if not colon:
            return LATEST
        case "none" if not colon:
            return None
        case "by_duration" if colon:
            return ResetStrategy(text, None, iso_duration_ms(duration))
    raise ConfigError(
        f"auto.offset.reset is {text!r}; it can be earliest, latest, none, or by_duration:<ISO 8601>, as in"
        " by_duration:PT1H."
    )


_DURATION = re.compile(
    r"P(?:(?P<days>\d+)D)?(?:T(?=\d)(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:[.,]\d{0,9})?)S)?)?",
    re.IGNORECASE,
)


def iso_duration_ms(text: str) -> int:
    """Milliseconds of `PnDTnHnMn.nS`; `ConfigError` for anything else, and for negative ones."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        raise ConfigError(f"{text!r} is no duration as ISO 8601 writes them, such as PT30M, PT1H30M or P2DT12H.")
    parts = {name: float((value or "0").replace(",", ".")) for name, value in match.groupdict().items()}
    minutes = (parts["days"] * 24 + parts["hours"]) * 60 + parts["minutes"]
    return round((minutes * 60 + parts["seconds"]) * 1000)
