"""Whether a group keeps up: the cases, and what holds whatever is committed."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.server.metrics.lag import PATIENCE_MS, WINDOW, Commit, Status, Window, worst

START_MS = 1_000_000
STEP_MS = 5_000


def window_of(offsets: list[int], ends: list[int]) -> Window:
    window = Window()
    for number, (offset, end) in enumerate(zip(offsets, ends, strict=True)):
        window.observe(offset, START_MS + number * STEP_MS, end)
    return window


def status(offsets: list[int], ends: list[int], *, end: int | None = None, silent_ms: int = 1) -> Status:
    now_ms = START_MS + (len(offsets) - 1) * STEP_MS + silent_ms
    return window_of(offsets, ends).evaluate(ends[-1] if end is None else end, now_ms).status


def test_a_group_at_the_end_is_ok_however_long_it_is_silent() -> None:
    assert status([10] * WINDOW, [10] * WINDOW, silent_ms=10**9) is Status.OK


def test_lag_that_shrinks_is_ok() -> None:
    assert status(list(range(0, 100, 10)), [200] * WINDOW) is Status.OK


def test_lag_that_does_not_shrink_is_a_warning() -> None:
    assert status(list(range(0, 100, 10)), list(range(100, 300, 20))) is Status.WARN


def test_a_moment_without_lag_makes_the_window_ok() -> None:
    offsets = list(range(0, 100, 10))
    ends = [offset + 50 for offset in offsets]
    ends[3] = offsets[3]
    assert status(offsets, ends) is Status.OK


def test_committing_the_same_offset_is_a_stall() -> None:
    assert status([10] * WINDOW, list(range(100, 200, 10))) is Status.STALL


def test_silence_longer_than_the_window_is_a_stop() -> None:
    offsets, ends = list(range(0, 100, 10)), [200] * WINDOW
    span_ms = (WINDOW - 1) * STEP_MS
    assert status(offsets, ends, silent_ms=span_ms) is Status.OK
    assert status(offsets, ends, silent_ms=span_ms + 1) is Status.STOP


def test_a_window_that_is_not_full_is_patient() -> None:
    assert status([5], [10], silent_ms=PATIENCE_MS) is Status.OK
    assert status([5], [10], silent_ms=PATIENCE_MS + 1) is Status.STOP


def test_an_offset_that_goes_back_is_a_rewind() -> None:
    offsets = list(range(100, 200, 10))
    offsets[5] = 20
    assert status(offsets, [500] * WINDOW) is Status.REWIND


def test_nothing_committed_is_not_found() -> None:
    assert Window().evaluate(10, START_MS).status is Status.NOT_FOUND


@pytest.mark.parametrize(
    ("partitions", "group"),
    [
        ([], Status.NOT_FOUND),
        ([Status.OK], Status.OK),
        ([Status.OK, Status.WARN], Status.WARN),
        ([Status.WARN, Status.STALL], Status.ERR),
        ([Status.OK, Status.STOP], Status.ERR),
        ([Status.REWIND], Status.ERR),
    ],
)
def test_a_group_is_as_bad_as_its_worst_partition(partitions: list[Status], group: Status) -> None:
    assert worst(partitions) is group


def test_commits_in_quick_succession_do_not_shorten_the_window() -> None:
    window = Window()
    for number in range(1000):
        window.observe(number, START_MS + number * 100, 2000)
    commits = window.commits
    assert len(commits) == WINDOW
    assert commits[-1].timestamp_ms - commits[0].timestamp_ms >= (WINDOW - 2) * 1000


steps = st.lists(st.tuples(st.integers(0, 30_000), st.integers(-20, 50), st.integers(0, 60)), min_size=1, max_size=40)


@settings(derandomize=True, deadline=None)
@given(steps, st.integers(0, 10**6))
def test_what_holds_whatever_is_committed(history: list[tuple[int, int, int]], silent_ms: int) -> None:
    window = Window()
    offset, end, now_ms = 100, 100, START_MS
    for pause_ms, progress, produced in history:
        now_ms += pause_ms
        end += produced
        offset = min(max(offset + progress, 0), end)
        window.observe(offset, now_ms, end)
        window.observe(offset, now_ms, end)  # seen again: nothing new
        window.check_invariants()
    commits: list[Commit] = list(window.commits)
    assert commits[-1].offset == offset
    found = window.evaluate(end, now_ms + silent_ms)
    assert found.current_lag == end - offset
    assert found.last == commits[-1]
    assert 0 < found.complete <= 1
    # The obvious version of each verdict.
    if found.current_lag == 0:
        assert found.status is Status.OK
    if found.status is Status.STALL:
        assert len({commit.offset for commit in commits}) == 1
    if found.status is Status.WARN:
        assert all(after.lag >= before.lag for before, after in pairwise(commits))
    if found.status is Status.REWIND:
        assert any(after.offset < before.offset for before, after in pairwise(commits))
    if silent_ms > max(commits[-1].timestamp_ms - commits[0].timestamp_ms, PATIENCE_MS) and found.current_lag:
        assert found.status is Status.STOP
    # More silence never makes it better, and a group that catches up is fine.
    if found.status is Status.STOP:
        assert window.evaluate(end, now_ms + silent_ms + 10**6).status is Status.STOP
    assert window.evaluate(offset, now_ms + silent_ms).status is Status.OK
