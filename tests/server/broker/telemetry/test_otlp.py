"""Reading OpenTelemetry metrics: what a writer of the same messages wrote comes back, bad bytes are an error."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.server.broker.telemetry.otlp import Metric, OtlpError, read_metrics
from tests.server.broker.telemetry.protobuf import (
    any_value,
    double,
    fixed64,
    message,
    metric,
    metrics_data,
    number_point,
    text,
    varint_field,
)

TIME_NS = 1_700_000_000_123_000_000
TIME_MS = 1_700_000_000_123


def test_a_long_name_of_many_points_does_not_fill_the_memory() -> None:
    points = [b""] * 1000
    assert len(read_metrics(metrics_data([metric("a" * 8000, 5, *points)])).metrics) == 1000
    with pytest.raises(OtlpError, match="too long together"):
        read_metrics(metrics_data([metric("a" * 8000, 5, *points), metric("b" * 8000, 5, *points)]))


def test_gauges_and_sums() -> None:
    data = metrics_data(
        [
            metric("a.gauge", 5, number_point(1.5, {"node": "1", "n": 7})),
            metric("a.sum", 7, number_point(9), number_point(-2), unit="ms", temporality=2),
            metric("a.delta", 7, number_point(3.0), temporality=1),
        ],
        resource={"client_rack": "r1", "flag": True, "part": 0.5, "negative": -4},
    )
    resource, metrics = read_metrics(data)
    assert resource == {"client_rack": "r1", "flag": True, "part": 0.5, "negative": -4}
    assert metrics == [
        Metric("a.gauge", "gauge", 1.5, {"node": "1", "n": 7}, "", TIME_MS, False),
        Metric("a.sum", "sum", 9, {}, "ms", TIME_MS, False),
        Metric("a.sum", "sum", -2, {}, "ms", TIME_MS, False),
        Metric("a.delta", "sum", 3.0, {}, "", TIME_MS, True),
    ]


def test_a_point_without_a_value() -> None:
    (found,) = read_metrics(metrics_data([metric("nothing", 5, fixed64(3, TIME_NS))])).metrics
    assert found.value is None


def test_distributions() -> None:
    histogram = (
        fixed64(3, TIME_NS)
        + fixed64(4, 3)
        + double(5, 6.0)
        + message(6, struct.pack("<3Q", 1, 2, 0))
        + message(7, struct.pack("<2d", 1.0, 5.0))
        + double(11, 0.5)
        + double(12, 4.0)
    )
    exponential = (
        fixed64(3, TIME_NS)
        + fixed64(4, 2)
        + varint_field(6, 5)  # zigzag: -3
        + fixed64(7, 1)
        + message(8, varint_field(1, 2) + message(2, bytes((1, 0, 0xAC, 0x02))))
    )
    summary = fixed64(3, TIME_NS) + fixed64(4, 2) + double(5, 3.0) + message(6, double(1, 0.5) + double(2, 1.25))
    data = metrics_data([metric("h", 9, histogram), metric("e", 10, exponential), metric("s", 11, summary)])
    values = {one.name: one.value for one in read_metrics(data).metrics}
    assert values["h"] == {
        "count": 3,
        "sum": 6.0,
        "min": 0.5,
        "max": 4.0,
        "bucket_counts": [1, 2, 0],
        "explicit_bounds": [1.0, 5.0],
    }
    assert values["e"] == {
        "count": 2,
        "zero_count": 1,
        "scale": -3,
        "positive": {"offset": 1, "bucket_counts": [1, 0, 300]},
    }
    assert values["s"] == {"count": 2, "sum": 3.0, "quantiles": {"0.5": 1.25}}


def test_nested_attributes_and_fields_from_the_future() -> None:
    nested = any_value(["x", {"k": b"\x01\xff"}])
    point = number_point(1) + message(7, text(1, "list") + message(2, nested))
    unknown = (
        varint_field(99, 7) + fixed64(98, 1) + message(97, b"?") + bytes(((96 << 3 | 5) & 0x7F | 0x80, 6)) + bytes(4)
    )
    (found,) = read_metrics(unknown + metrics_data([metric("m", 5, point + unknown)]) + unknown).metrics
    assert found.attributes == {"list": ["x", {"k": "01ff"}]}


def deep(levels: int) -> bytes:
    value = any_value("end")
    for _ in range(levels):
        value = message(5, message(1, value))
    return value


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a",
        b"\x0a\x05abc",
        b"\x0b\x00",
        b"\xff" * 11,
        b"\x08\x01",
        metrics_data([metric("m", 5, b"\x0a")]),
        metrics_data([metric("m", 5, message(4, b"x"))]),
        metrics_data([metric("m", 5, varint_field(4, 1))]),
        message(1, message(2, message(2, varint_field(1, 5)))),
        message(1, message(2, message(2, message(1, b"\xff\xfe")))),
        metrics_data([metric("m", 5, message(7, text(1, "k") + message(2, deep(50))))]),
        metrics_data([metric("m", 9, message(6, b"abc"))]),
    ],
    ids=range(12),
)
def test_bytes_that_are_no_metrics_are_an_error(data: bytes) -> None:
    with pytest.raises(OtlpError):
        read_metrics(data)


def test_nothing_is_no_metrics() -> None:
    assert read_metrics(b"") == ({}, [])


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.binary(max_size=60), st.integers(0, 200), st.integers(0, 255))
def test_whatever_comes_is_read_or_refused(noise: bytes, position: int, byte: int) -> None:
    good = bytearray(metrics_data([metric("a", 7, number_point(1.5, {"k": "v"})), metric("b", 11, double(5, 1.0))]))
    good[position % len(good)] = byte
    for data in (noise, bytes(good), bytes(good[: position % len(good)])):
        try:
            found: Any = read_metrics(data)
        except OtlpError:
            continue
        assert isinstance(found.metrics, list)
