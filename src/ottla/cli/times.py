"""Moments and durations as people write them: `10m`, `yesterday`, `2026-01-31T08:15`, milliseconds since 1970.

All functions take the wall clock as an argument, and raise `ValueError` with a line that says what is understood.
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta

_UNITS_MS = {
    "ms": 1,
    "s": 1000,
    "m": 60_000,
    "min": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 7 * 86_400_000,
}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?\s*(?:ms|min|s|m|h|d|w)\s*)+")
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|min|s|m|h|d|w)")
_FEWEST_DIGITS_MS = 12
"""A number with at least so many digits (2001 in milliseconds) is milliseconds since 1970, a shorter one seconds."""


def parse_duration_ms(text: str) -> int:
    """`90s`, `10m`, `1h30m`, `2d`, `500ms` in milliseconds."""
    cleaned = text.strip().lower()
    if not _DURATION.fullmatch(cleaned):
        raise ValueError(f"'{text}' is no duration; write 500ms, 90s, 10m, 1h30m, 2d or 1w")
    return int(sum(float(number) * _UNITS_MS[unit] for number, unit in _PART.findall(cleaned)))


def parse_time_ms(text: str, now_ms: int) -> int:
    """A moment as milliseconds since 1970.

    A duration counts back from now, `now`, `today` and `yesterday` are local, so is an ISO date or time without a zone;
    a plain number is seconds or milliseconds since 1970, whichever its length says.
    """
    cleaned = text.strip()
    word = cleaned.lower().removesuffix(" ago").strip()
    if word == "now":
        return now_ms
    if word in ("today", "yesterday"):
        midnight = datetime.fromtimestamp(now_ms / 1000).date() - timedelta(days=word == "yesterday")
        return _milliseconds(midnight)
    if word.isdigit():
        return int(word) if len(word) >= _FEWEST_DIGITS_MS else int(word) * 1000
    if _DURATION.fullmatch(word):
        return now_ms - parse_duration_ms(word)
    try:
        return int(datetime.fromisoformat(cleaned).timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        raise ValueError(
            f"'{text}' is no time; write 10m (ago), today, yesterday, 2026-01-31, 2026-01-31T08:15, "
            "2026-01-31T08:15Z or milliseconds since 1970"
        ) from None


def show_time(timestamp_ms: int) -> str:
    """Local time with its offset from UTC, to the millisecond; `-` when there is none."""
    if timestamp_ms < 0:
        return "-"
    try:
        return datetime.fromtimestamp(timestamp_ms / 1000).astimezone().isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return str(timestamp_ms)


def show_duration(duration_ms: float) -> str:
    """In the two largest units: `3d 4h`, `12m 5s`, `1.5s`, `20ms`."""
    if duration_ms < 1000:
        return f"{duration_ms:.0f}ms"
    if duration_ms < 60_000:
        return f"{duration_ms / 1000:.1f}s"
    seconds = int(duration_ms // 1000)
    parts = [(seconds // 86_400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "m"), (seconds % 60, "s")]
    while parts[0][0] == 0:
        parts.pop(0)
    return " ".join(f"{number}{unit}" for number, unit in parts[:2] if number)


def _milliseconds(day: date) -> int:
    return int(datetime(day.year, day.month, day.day).timestamp() * 1000)
