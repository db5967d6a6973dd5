from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.core.histogram import PERIOD_MS, QUANTILES, Histogram


@settings(derandomize=True, deadline=None)
@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=300))
def test_quantiles_are_near_those_of_the_sorted_values(values: list[int]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    found = histogram.snapshot()
    assert found.recorded == len(values)
    assert found.total == sum(values)
    ordered = sorted(values)
    for quantile, shown in zip(QUANTILES, found.quantiles, strict=True):
        exact = ordered[max(-(-int(quantile * 1000) * len(ordered) // 1000), 1) - 1]
        assert abs(shown - exact) <= exact * 0.0626 + 0.5
    assert abs(found.maximum - ordered[-1]) <= ordered[-1] * 0.0626 + 0.5


def test_weights_count_as_often() -> None:
    weighted, plain = Histogram(), Histogram()
    for value, weight in ((10, 90), (1000, 10)):
        weighted.record(value, weight)
        for _ in range(weight):
            plain.record(value)
    assert weighted.snapshot() == plain.snapshot()


def test_old_values_go_after_two_periods_and_only_when_there_are_new_ones() -> None:
    histogram = Histogram()
    histogram.record(1_000_000)
    assert histogram.turn(PERIOD_MS)
    histogram.record(1)
    assert histogram.snapshot().maximum > 900_000
    assert not histogram.turn(PERIOD_MS + 1)
    assert histogram.turn(2 * PERIOD_MS)
    assert histogram.snapshot().maximum == 1
    assert not histogram.turn(3 * PERIOD_MS)
    assert histogram.snapshot().maximum == 1
    assert histogram.snapshot().recorded == 2


def test_nothing_recorded_is_zero() -> None:
    assert Histogram().snapshot().quantiles == (0.0,) * len(QUANTILES)


def test_values_are_shown_in_their_unit() -> None:
    histogram = Histogram(1e-6)
    histogram.record(2_000_000)
    assert abs(histogram.snapshot().maximum - 2.0) < 0.15
