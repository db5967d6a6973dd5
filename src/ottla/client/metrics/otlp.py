"""The OpenTelemetry messages that a client pushes, written in protobuf's wire format.

Writing them takes a page of code where a protobuf library would be a dependency. Message and field numbers:
`opentelemetry/proto/metrics/v1/metrics.proto`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

_FIXED64 = struct.Struct("<Q").pack
_DOUBLE = struct.Struct("<d").pack
_DELTA, _CUMULATIVE = 1, 2
_NANOSECONDS_PER_MS = 1_000_000


class Point(NamedTuple):
    """A metric with its one value. `started_ms` is where a sum began; `is_sum` False makes it a gauge."""

    name: str
    value: float
    attributes: tuple[tuple[str, str], ...] = ()
    is_sum: bool = False
    is_delta: bool = False
    started_ms: int = 0


def write_metrics(resource: Iterable[tuple[str, str]], points: Iterable[Point], time_ms: int) -> bytes:
    """A MetricsData message: the client's own attributes, and its metrics at a wall-clock time."""
    attributes = b"".join(_message(1, _attribute(name, value)) for name, value in resource)
    scope = b"".join(_message(2, _metric(point, time_ms)) for point in points)
    return _message(1, _message(1, attributes) + _message(2, scope))


def _metric(point: Point, time_ms: int) -> bytes:
    data = b"".join(_message(7, _attribute(name, value)) for name, value in point.attributes)
    if point.is_sum:
        data += b"\x11" + _FIXED64(point.started_ms * _NANOSECONDS_PER_MS)
    data += b"\x19" + _FIXED64(time_ms * _NANOSECONDS_PER_MS) + b"\x21" + _DOUBLE(point.value)
    if not point.is_sum:
        return _text(1, point.name) + _message(5, _message(1, data))
    temporality = _DELTA if point.is_delta else _CUMULATIVE
    total = _message(1, data) + bytes((2 << 3, temporality, 3 << 3, 1))
    return _text(1, point.name) + _message(7, total)


def _attribute(name: str, value: str) -> bytes:
    return _text(1, name) + _message(2, _text(1, value))


def _text(field: int, value: str) -> bytes:
    return _message(field, value.encode())


def _message(field: int, content: bytes) -> bytes:
    return bytes((field << 3 | 2,)) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    output = bytearray()
    while value > 0x7F:
        output.append(value & 0x7F | 0x80)
        value >>= 7
    output.append(value)
    return bytes(output)
