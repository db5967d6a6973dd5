"""Durations, sizes and points in time as people write them: `7d`, `1h30m`, `1GiB`, `10m` ago, `2026-01-31T08:15`."""

from __future__ import annotations

import re

from ottla.cli.errors import CommandError

_DURATIONS = {"ms": 1, "s": 1000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_WORDS = {
    "milliseconds": "ms",
    "millisecond": "ms",
    "seconds": "s",
    "second": "s",
    "sec": "s",
    "minutes": "m",
    "minute": "m",
    "hours": "h",
    "hour": "h",
    "days": "d",
    "day": "d",
    "weeks": "w",
    "week": "w",
}
_SHOWN = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1))

_SIZES = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgtp", 1):
    _SIZES[_letter] = _SIZES[f"{_letter}i"] = _SIZES[f"{_letter}ib"] = 1024**_power
    _SIZES[f"{_letter}b"] = 1000**_power

_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)\s*")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")


def parse_duration_ms(text: str) -> int:
    """The milliseconds of `7d`, `1h30m`, `10 minutes`, `1.5s`. Raises `CommandError`; a bare number has no unit."""
    found = _duration_ms(text)
    if found is None:
        raise CommandError(f"{text!r} is no duration; write 500ms, 30s, 10m, 1h30m, 7d or 2w")
    return found


def parse_size_bytes(text: str) -> int:
    """The bytes of `1GiB`, `512k` (both powers of 1024), `10MB` (of 1000), `100`. Raises `CommandError`."""
    found = _size_bytes(text)
    if found is None:
        raise CommandError(f"{text!r} is no size; write 100, 64KiB, 1GiB or 10MB")
    return found


def parse_time_ms(text: str, now_ms: int) -> int:
    """Milliseconds since 1970 of a point in time.

    `10m`, `-10m`, `10 minutes ago`: so long before now; `now`, `today`, `yesterday` (midnight, local time);
    `2026-01-31`, `2026-01-31T08:15[:00][Z]` (local time unless it says otherwise); a number: milliseconds since 1970.
    """
    lower = text.strip().lower()
    if lower == "now":
        return now_ms
    if re.fullmatch(r"\d{11,}", lower) or lower == "0":
        return int(lower)
    duration = _duration_ms(lower.removeprefix("-").removesuffix("ago").strip())
    if duration is not None:
        return max(now_ms - duration, 0)
    from datetime import datetime, timedelta

    if lower in ("today", "yesterday"):
        midnight = datetime.fromtimestamp(now_ms / 1000).replace(hour=0, minute=0, second=0, microsecond=0)
        return int((midnight - timedelta(days=lower == "yesterday")).timestamp() * 1000)
    try:
        return int(datetime.fromisoformat(text.strip()).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise CommandError(
            f"{text!r} is no point in time; write 10m (ago), yesterday, 2026-01-31T08:15, or milliseconds since 1970"
        ) from None


def setting_text(name: str, value: str) -> str:
    """A setting's value as Kafka takes it: `retention.ms=7d` becomes 604800000, `segment.bytes=1GiB` 1073741824.

    What needs no translation, or is none, comes back as it is: the broker says what is wrong with it.
    """
    found = None
    text = value.strip()
    if is_duration(name):
        found = _duration_ms(text)
    elif name.endswith((".seconds", ".secs")):
        milliseconds = _duration_ms(text)
        found = None if milliseconds is None or milliseconds % 1000 else milliseconds // 1000
    elif is_size(name) and not text.isdigit():
        found = _size_bytes(text)
    return value if found is None else str(found)


def setting_meaning(name: str, value: str | None) -> str | None:
    """What a number in a setting amounts to, `7d` or `1GiB`; None where the number says it itself."""
    if value is None or not value.isdigit() or len(value) > 18:
        return None
    number = int(value)
    if is_duration(name) and number >= 1000:
        return duration_text(number)
    if is_size(name) and number >= 1024:
        return size_text(number)
    return None


def is_duration(name: str) -> bool:
    """Whether a setting of this name is in milliseconds."""
    return name.endswith((".ms", "_ms"))


def is_size(name: str) -> bool:
    """Whether a setting of this name is in bytes (or bytes a second)."""
    return "bytes" in name or "byte_rate" in name or name.endswith((".rate", ".buffer.size", "dedupe.buffer.size"))


def duration_text(milliseconds: float) -> str:
    """`1d 12h`: at most two units, the rest is left out."""
    left = int(milliseconds)
    if left < 0:
        return f"-{duration_text(-left)}"
    parts = []
    for unit, size in _SHOWN:
        if left >= size:
            parts.append(f"{left // size}{unit}")
            left %= size
            if len(parts) == 2:
                break
        elif parts:
            break
    return " ".join(parts) or "0ms"


def size_text(size_bytes: float) -> str:
    """`1.5 GiB`, exact multiples without a fraction."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(size) < 1024 or unit == "TiB":
            return f"{size:.0f} {unit}" if size == int(size) else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError


def time_text(timestamp_ms: int | None) -> str | None:
    """A timestamp in local time, `2026-01-31 08:15:00.123`; None without one."""
    if timestamp_ms is None:
        return None
    from datetime import datetime

    try:
        return datetime.fromtimestamp(timestamp_ms / 1000).isoformat(" ", "milliseconds")
    except (ValueError, OverflowError, OSError):
        return str(timestamp_ms)


def _duration_ms(text: str) -> int | None:
    lower = text.strip().lower()
    total, position = 0.0, 0
    while position < len(lower):
        match = _PART.match(lower, position)
        size = None if match is None else _DURATIONS.get(_WORDS.get(match[2], match[2]))
        if match is None or size is None:
            return None
        total += float(match[1]) * size
        position = match.end()
    return round(total) if position else None


def _size_bytes(text: str) -> int | None:
    match = _SIZE.fullmatch(text.strip().lower().removesuffix("/s"))
    size = None if match is None else _SIZES.get(match[2])
    return None if match is None or size is None else round(float(match[1]) * size)
