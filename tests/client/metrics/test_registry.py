"""Sensors: what is measured is what was recorded, in its windows."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ottla.client.metrics.registry import MetricName, Metrics, Sensor, parse_specs

WINDOW_MS = 1000


def test_first_event_is_not_an_immense_rate() -> None:
    sensor = Sensor(0, samples=2, window_ms=WINDOW_MS)
    sensor.record(10, 1)
    assert sensor.measure("rate", 1) == 10.0  # ten in the least of one window


def test_old_windows_are_forgotten_and_totals_are_not() -> None:
    sensor = Sensor(0, samples=2, window_ms=WINDOW_MS)
    sensor.record(7, 0)
    sensor.record(1, 2500)
    assert sensor.measure("max", 2500) == 1
    assert sensor.measure("total", 2500) == 8
    assert sensor.measure("count", 2500) == 2
    assert math.isnan(sensor.measure("avg", 9000))
    assert sensor.measure("rate", 9000) == 0


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(-50, 50)), min_size=1, max_size=60))
def test_measures_agree_with_all_values_of_the_live_windows(steps: list[tuple[int, int]]) -> None:
    sensor = Sensor(0, samples=3, window_ms=WINDOW_MS)
    now_ms = 0
    # The model keeps every value with the start of the window it fell into.
    windows: list[tuple[int, list[int]]] = [(0, [])]
    for delay_ms, value in steps:
        now_ms += delay_ms
        if now_ms - windows[-1][0] >= WINDOW_MS:
            windows.append((now_ms, []))
        windows[-1][1].append(value)
        sensor.record(value, now_ms)
    live = [(start, values) for start, values in windows[-3:] if values and now_ms - start < 3 * WINDOW_MS]
    values = [value for _, found in live for value in found]
    assert sensor.measure("avg", now_ms) == pytest.approx(sum(values) / len(values))
    assert sensor.measure("max", now_ms) == max(values)
    assert sensor.measure("min", now_ms) == min(values)
    elapsed_s = max(now_ms - live[0][0], 2 * WINDOW_MS) / 1000
    assert sensor.measure("rate", now_ms) == pytest.approx(sum(values) / elapsed_s)
    assert sensor.measure("total", now_ms) == sum(value for _, value in steps)


def test_metrics_have_their_tags_and_can_be_dropped() -> None:
    now = [0]
    metrics = Metrics(lambda: now[0], tags={"client-id": "c"})
    specs = parse_specs("size-avg size avg Bytes, on average.\nsize-total size total Bytes.")
    metrics.sensors("g", specs, {"topic": "t"})["size"].record(4, 0)
    metrics.gauge("g", "open", "Open ones.", lambda: 3)
    tags = (("client-id", "c"), ("topic", "t"))
    assert metrics.snapshot() == {
        MetricName("size-avg", "g", tags): 4,
        MetricName("size-total", "g", tags): 4,
        MetricName("open", "g", (("client-id", "c"),)): 3,
    }
    assert metrics.describe(MetricName("size-avg", "g", tags)) == "Bytes, on average."
    metrics.drop({"topic": "t"})
    assert list(metrics.snapshot()) == [MetricName("open", "g", (("client-id", "c"),))]
