"""A writer of the OpenTelemetry messages that clients push, for tests."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Any

TIME_NS = 1_700_000_000_123_000_000


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def varint_field(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def message(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def text(number: int, content: str) -> bytes:
    return message(number, content.encode())


def fixed64(number: int, value: int) -> bytes:
    return varint(number << 3 | 1) + struct.pack("<q", value)


def double(number: int, value: float) -> bytes:
    return varint(number << 3 | 1) + struct.pack("<d", value)


def any_value(value: Any) -> bytes:
    if isinstance(value, str):
        return text(1, value)
    if isinstance(value, bool):
        return varint_field(2, value)
    if isinstance(value, int):
        return varint_field(3, value)
    if isinstance(value, float):
        return double(4, value)
    if isinstance(value, list):
        return message(5, b"".join(message(1, any_value(item)) for item in value))
    if isinstance(value, dict):
        return message(6, attributes(value, 1))
    return message(7, value)


def attributes(values: Mapping[str, Any], number: int) -> bytes:
    return b"".join(message(number, text(1, key) + message(2, any_value(value))) for key, value in values.items())


def number_point(value: float, labels: Mapping[str, Any] | None = None) -> bytes:
    point = fixed64(3, TIME_NS) + (double(4, value) if isinstance(value, float) else fixed64(6, value))
    return point + attributes(labels or {}, 7)


def metric(name: str, kind: int, *points: bytes, unit: str = "", temporality: int = 0) -> bytes:
    data = b"".join(message(1, point) for point in points)
    if temporality:
        data += varint_field(2, temporality)
    return text(1, name) + (text(3, unit) if unit else b"") + message(kind, data)


def metrics_data(metrics: Iterable[bytes], resource: Mapping[str, Any] | None = None) -> bytes:
    scope = b"".join(message(2, one) for one in metrics)
    return message(1, message(1, attributes(resource or {}, 1)) + message(2, scope))
