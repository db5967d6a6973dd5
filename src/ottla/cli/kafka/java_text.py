"""How Java writes numbers, times and bytes: what makes output equal to that of Kafka's tools, byte for byte."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal

_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_PATTERN = re.compile(r"'((?:[^']|'')*)'|([A-Za-z])\2*|[^A-Za-z']+|'")


def divide(dividend: float, divisor: float) -> float:
    """Floating point division as Java has it: by zero gives an infinity, or NaN."""
    if divisor:
        return dividend / divisor
    return math.nan if not dividend or math.isnan(dividend) else math.copysign(math.inf, dividend)


def fixed(value: float, digits: int) -> str:
    """`%.<digits>f`: half up, on the digits that the number is written with."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return str(Decimal(repr(float(value))).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))


def double(value: float) -> str:
    """`Double.toString`: plain between 10^-3 and 10^7, else `1.0E10`."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if value == 0:
        return "-0.0" if math.copysign(1, value) < 0 else "0.0"
    if 1e-3 <= abs(value) < 1e7:
        return repr(value) if "e" not in repr(value) else format(Decimal(repr(value)), "f")
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits))
    return f"{'-' if sign else ''}{text[0]}.{text[1:] or '0'}E{exponent + len(text) - 1}"


def printable(data: bytes) -> str:
    """Kafka's `Bytes.toString`: ASCII as it is, the rest as `\\xFF`."""
    return "".join(chr(each) if 32 <= each < 127 and each != 92 else f"\\x{each:02X}" for each in data)


def decode(data: bytes) -> str:
    """`new String(data, UTF_8)`: what is no UTF-8 becomes U+FFFD."""
    return data.decode("utf-8", "replace")


class SimpleDateFormat:
    """`java.text.SimpleDateFormat` in the local time zone, with English names. ValueError for a bad pattern."""

    def __init__(self, pattern: str) -> None:
        self._parts: list[Callable[[datetime], str]] = []
        for found in _PATTERN.finditer(pattern):
            text = found[0]
            if text == "'":
                raise ValueError("Unterminated quote")
            if found[1] is not None:
                literal = found[1].replace("''", "'") if found[1] else "'"
                self._parts.append(lambda _, literal=literal: literal)  # type: ignore[misc]
            elif found[2] is None:
                self._parts.append(lambda _, literal=text: literal)  # type: ignore[misc]
            else:
                letter, width = found[2], len(text)
                if letter not in _FIELDS:
                    raise ValueError(f"Illegal pattern character '{letter}'")
                self._parts.append(lambda when, letter=letter, width=width: _FIELDS[letter](when, width))  # type: ignore[misc]

    def format(self, time_ms: int) -> str:
        """The time, given in milliseconds since 1970."""
        seconds, millis = divmod(time_ms, 1000)
        when = datetime.fromtimestamp(seconds).astimezone().replace(microsecond=millis * 1000)
        return "".join(part(when) for part in self._parts)


def _number(value: Callable[[datetime], int]) -> Callable[[datetime, int], str]:
    return lambda when, width: f"{value(when):0{width}}"


def _month(when: datetime, width: int) -> str:
    if width < 3:
        return f"{when.month:0{width}}"
    return _MONTHS[when.month - 1] if width > 3 else _MONTHS[when.month - 1][:3]


def _year(when: datetime, width: int) -> str:
    return f"{when.year % 100:02}" if width == 2 else f"{when.year:0{width}}"


def _day_name(when: datetime, width: int) -> str:
    name = _DAYS[when.weekday()]
    return name if width > 3 else name[:3]


def _offset(when: datetime, separator: str, zero: str, width: int) -> str:
    offset = when.utcoffset()
    minutes = 0 if offset is None else int(offset.total_seconds()) // 60
    if not minutes and zero:
        return zero
    sign = "-" if minutes < 0 else "+"
    hours, rest = divmod(abs(minutes), 60)
    return f"{sign}{hours:02}" if width == 1 else f"{sign}{hours:02}{separator}{rest:02}"


_FIELDS: dict[str, Callable[[datetime, int], str]] = {
    "G": lambda when, width: "AD",
    "y": _year,
    "Y": lambda when, width: _year(when.replace(year=when.isocalendar().year, month=1, day=1), width),
    "M": _month,
    "L": _month,
    "w": _number(lambda when: when.isocalendar().week),
    "W": _number(lambda when: (when.day + when.replace(day=1).weekday() + 6) // 7),
    "D": _number(lambda when: when.timetuple().tm_yday),
    "d": _number(lambda when: when.day),
    "F": _number(lambda when: (when.day + 6) // 7),
    "E": _day_name,
    "u": _number(lambda when: when.isoweekday()),
    "a": lambda when, width: "AM" if when.hour < 12 else "PM",
    "H": _number(lambda when: when.hour),
    "k": _number(lambda when: when.hour or 24),
    "K": _number(lambda when: when.hour % 12),
    "h": _number(lambda when: when.hour % 12 or 12),
    "m": _number(lambda when: when.minute),
    "s": _number(lambda when: when.second),
    "S": _number(lambda when: when.microsecond // 1000),
    "z": lambda when, width: when.tzname() or "GMT",
    "Z": lambda when, width: _offset(when, "", "", 2),
    "X": lambda when, width: _offset(when, ":" if width == 3 else "", "Z", width),
}
