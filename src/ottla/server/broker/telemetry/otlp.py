"""The few OpenTelemetry messages that clients push, read from protobuf's wire format.

Reading them takes a page of code where a protobuf library would be a dependency; unknown fields are passed over, as
protobuf wants it. Message and field numbers: `opentelemetry/proto/metrics/v1/metrics.proto`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from struct import Struct
from typing import Any, Final, NamedTuple

_DOUBLE = Struct("<d").unpack_from
_FIXED64 = Struct("<Q").unpack_from
_SIGNED64 = Struct("<q").unpack_from

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_NANOSECONDS_PER_MS = 1_000_000
_DELTA = 1
_DEEPEST: Final = 16
"""Attribute values nest; deeper than this is no metric but an attack on the stack."""
_MOST_TEXT: Final = 8 * 1024 * 1024
"""Characters of names and units, which a metric says once and each of its data points has: two bytes of data are enough
for a point, so that a push could unfold to far more than it is large."""


class OtlpError(Exception):
    """Bytes that are not the metrics they should be."""


class Metric(NamedTuple):
    """One data point. `value` is a number for a gauge and a sum, else a dict of what the kind has."""

    name: str
    kind: str
    value: Any
    attributes: dict[str, Any]
    unit: str
    time_ms: int
    is_delta: bool


class Metrics(NamedTuple):
    """What one push says: attributes of the client, and its data points."""

    resource: dict[str, Any]
    metrics: list[Metric]


def read_metrics(data: bytes) -> Metrics:
    """Read a MetricsData message. Raises OtlpError."""
    resource: dict[str, Any] = {}
    metrics: list[Metric] = []
    text = 0
    try:
        for _, resource_metrics in _fields(data, 1):
            for number, part in _fields(resource_metrics, 1, 2):
                if number == 1:
                    resource.update(_attributes(part, 1))
                else:
                    for _, metric in _fields(part, 2):
                        found = _metric(metric)
                        metrics += found
                        text += len(found) * (len(found[0].name) + len(found[0].unit)) if found else 0
                        if text > _MOST_TEXT:
                            raise ValueError("the names of all data points are too long together")
    except (IndexError, ValueError, TypeError, AttributeError, struct.error) as error:
        raise OtlpError(f"the metrics cannot be read: {error}") from error
    return Metrics(resource, metrics)


def _metric(data: bytes) -> list[Metric]:
    name = unit = ""
    points: list[tuple[str, bool, bytes]] = []
    for number, value in _fields(data):
        if number == 1:
            name = value.decode()
        elif number == 3:
            unit = value.decode()
        elif number in _KINDS:
            kind = _KINDS[number][0]
            is_delta = any(temporality == _DELTA for _, temporality in _fields(value, 2)) and kind != "gauge"
            points += [(kind, is_delta, point) for _, point in _fields(value, 1)]
    found = []
    for kind, is_delta, point in points:
        fields: dict[int, list[Any]] = {}
        for number, value in _fields(point):
            fields.setdefault(number, []).append(value)
        attributes_number, read = _READERS[kind]
        attributes = dict(_key_value(one) for one in fields.get(attributes_number, ()))
        time_ms = _last(fields, 3, _FIXED64, 0) // _NANOSECONDS_PER_MS
        found.append(Metric(name, kind, read(fields), attributes, unit, time_ms, is_delta))
    return found


def _number(fields: dict[int, list[Any]]) -> Any:
    if 6 in fields:
        return _last(fields, 6, _SIGNED64, 0)
    return _last(fields, 4, _DOUBLE, None)


def _histogram(fields: dict[int, list[Any]]) -> dict[str, Any]:
    return {
        **_some(fields, count=(4, _FIXED64), sum=(5, _DOUBLE), min=(11, _DOUBLE), max=(12, _DOUBLE)),
        "bucket_counts": _repeated(fields, 6, _FIXED64),
        "explicit_bounds": _repeated(fields, 7, _DOUBLE),
    }


def _exponential_histogram(fields: dict[int, list[Any]]) -> dict[str, Any]:
    value = _some(fields, count=(4, _FIXED64), sum=(5, _DOUBLE), zero_count=(7, _FIXED64), min=(12, _DOUBLE))
    value |= _some(fields, max=(13, _DOUBLE))
    value["scale"] = _zigzag(fields[6][-1]) if 6 in fields else 0
    for side, number in (("positive", 8), ("negative", 9)):
        for buckets in fields.get(number, ()):
            offset, counts = 0, []
            for field, content in _fields(buckets, 1, 2):
                if field == 1:
                    offset = _zigzag(content)
                else:
                    counts += list(_varints(content)) if isinstance(content, bytes) else [content]
            value[side] = {"offset": offset, "bucket_counts": counts}
    return value


def _summary(fields: dict[int, list[Any]]) -> dict[str, Any]:
    quantiles = {}
    for one in fields.get(6, ()):
        pair = {number: _DOUBLE(content)[0] for number, content in _fields(one, 1, 2)}
        quantiles[str(pair.get(1, 0.0))] = pair.get(2, 0.0)
    return {**_some(fields, count=(4, _FIXED64), sum=(5, _DOUBLE)), "quantiles": quantiles}


_KINDS: Final = {
    5: ("gauge",),
    7: ("sum",),
    9: ("histogram",),
    10: ("exponential_histogram",),
    11: ("summary",),
}
"""Field of Metric → kind of its data points."""

_READERS: Final[dict[str, tuple[int, Callable[[dict[int, list[Any]]], Any]]]] = {
    "gauge": (7, _number),
    "sum": (7, _number),
    "histogram": (9, _histogram),
    "exponential_histogram": (1, _exponential_histogram),
    "summary": (7, _summary),
}
"""Kind → field that holds a point's attributes, and what reads its value."""


def _some(fields: dict[int, list[Any]], **wanted: tuple[int, Callable[[Any], tuple[Any, ...]]]) -> dict[str, Any]:
    """The fields that are there, by name."""
    return {name: read(fields[number][-1])[0] for name, (number, read) in wanted.items() if number in fields}


def _last(fields: dict[int, list[Any]], number: int, read: Callable[[Any], tuple[Any, ...]], default: Any) -> Any:
    return read(fields[number][-1])[0] if number in fields else default


def _repeated(fields: dict[int, list[Any]], number: int, read: Callable[..., tuple[Any, ...]]) -> list[Any]:
    """Numbers of eight bytes each, packed into one field or not."""
    return [read(part, at)[0] for part in fields.get(number, ()) for at in range(0, len(part), 8)]


def _attributes(data: bytes, number: int) -> dict[str, Any]:
    return dict(_key_value(one) for _, one in _fields(data, number))


def _key_value(data: bytes, depth: int = 0) -> tuple[str, Any]:
    key, value = "", None
    for number, content in _fields(data, 1, 2):
        if number == 1:
            key = content.decode()
        else:
            value = _any_value(content, depth)
    return key, value


def _any_value(data: bytes, depth: int) -> Any:
    if depth > _DEEPEST:
        raise ValueError("attributes are nested too deeply")
    value: Any = None
    for number, content in _fields(data):
        if number == 1:
            value = content.decode()
        elif number == 2:
            value = bool(content)
        elif number == 3:
            value = content - (1 << 64) if content >> 63 else content
        elif number == 4:
            value = _DOUBLE(content)[0]
        elif number == 5:
            value = [_any_value(one, depth + 1) for _, one in _fields(content, 1)]
        elif number == 6:
            value = dict(_key_value(one, depth + 1) for _, one in _fields(content, 1))
        elif number == 7:
            value = content.hex()
    return value


def _fields(data: bytes, *wanted: int) -> Iterator[tuple[int, Any]]:
    """The fields of a message (only those wanted, if any are named): an int for a varint, else the bytes."""
    if not isinstance(data, bytes):
        raise TypeError("a number stands where a message should be")
    position, end = 0, len(data)
    while position < end:
        key, position = _varint(data, position)
        number, kind = key >> 3, key & 7
        value: Any
        if kind == _VARINT:
            value, position = _varint(data, position)
        else:
            if kind == _BYTES:
                size, position = _varint(data, position)
            elif kind == _EIGHT_BYTES:
                size = 8
            elif kind == _FOUR_BYTES:
                size = 4
            else:
                raise ValueError(f"unknown wire type {kind}")
            value = data[position : position + size]
            position += size
            if position > end:
                raise ValueError("a field is cut off")
        if not wanted or number in wanted:
            yield number, value


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")


def _varints(data: bytes) -> Iterator[int]:
    position = 0
    while position < len(data):
        value, position = _varint(data, position)
        yield value


def _zigzag(value: int) -> int:
    return value >> 1 ^ -(value & 1)
