"""Is a consumer group keeping up? The evaluation that Burrow made popular: no threshold of lag, but what it does.

Of every partition that a group consumes the last commits are kept: offset, time, and the lag there was. From them:

    OK       there is no lag, or there was none at some point of the window, or it has shrunk
    WARN     offsets go on, but the lag has not shrunk once in the whole window: the consumer is too slow
    STALL    commits come, and always of the same offset, while there is lag: the consumer is stuck
    STOP     no commit for longer than the window is long, while there is lag: the consumer is gone
    REWIND   an offset was committed that is smaller than the one before

A group is ERR when one of its partitions is STALL or STOP or REWIND, WARN when one is WARN, else OK.

Sans-I/O: time is an argument (milliseconds of the wall clock, as commits have it).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from enum import Enum
from itertools import pairwise
from typing import Final, NamedTuple

WINDOW: Final = 10
"""Commits that are kept of a partition."""
SHORTEST_INTERVAL_MS: Final = 1_000
"""Commits that come faster replace the one before, so that the window is long enough to tell something."""

PATIENCE_MS: Final = 60_000
"""Silence for which a group is not called stopped before its window is full."""


class Status(Enum):
    """The number is Burrow's."""

    NOT_FOUND = 0
    OK = 1
    WARN = 2
    ERR = 3
    STOP = 4
    STALL = 5
    REWIND = 6


class Commit(NamedTuple):
    """One commit: `lag` is how far the end of the partition was away when it was seen."""

    offset: int
    timestamp_ms: int
    lag: int


class Evaluation(NamedTuple):
    """What a window says. `complete` is how full it is, from 0 to 1: a full one says more."""

    status: Status
    current_lag: int
    complete: float
    first: Commit | None
    last: Commit | None


class Window:
    """The last commits of one group in one partition."""

    __slots__ = ("_commits",)

    def __init__(self) -> None:
        self._commits: deque[Commit] = deque(maxlen=WINDOW)

    @property
    def commits(self) -> Sequence[Commit]:
        """Oldest first."""
        return self._commits

    def observe(self, offset: int, timestamp_ms: int, end_offset: int) -> None:
        """The newest commit, when the partition ends at `end_offset`; one that was seen before changes nothing."""
        commits = self._commits
        commit = Commit(offset, timestamp_ms, max(end_offset - offset, 0))
        if commits:
            last = commits[-1]
            if timestamp_ms < last.timestamp_ms or (timestamp_ms == last.timestamp_ms and offset == last.offset):
                return
            if len(commits) > 1 and timestamp_ms - commits[-2].timestamp_ms < SHORTEST_INTERVAL_MS:
                commits[-1] = commit
                return
        commits.append(commit)

    def evaluate(self, end_offset: int, now_ms: int) -> Evaluation:
        """What the commits say, now that the partition ends at `end_offset`."""
        commits = self._commits
        if not commits:
            return Evaluation(Status.NOT_FOUND, 0, 0.0, None, None)
        first, last = commits[0], commits[-1]
        current_lag = max(end_offset - last.offset, 0)
        status = self._judge(current_lag, now_ms) if current_lag else Status.OK
        return Evaluation(status, current_lag, len(commits) / WINDOW, first, last)

    def _judge(self, current_lag: int, now_ms: int) -> Status:
        commits = self._commits
        first, last = commits[0], commits[-1]
        # A window that is not full yet says little of how often the group commits.
        shortest_ms = SHORTEST_INTERVAL_MS if len(commits) == WINDOW else PATIENCE_MS
        span_ms = max(last.timestamp_ms - first.timestamp_ms, shortest_ms)
        if now_ms - last.timestamp_ms > span_ms:
            return Status.STOP
        if any(commit.lag == 0 for commit in commits) or len(commits) < 2:
            return Status.OK
        steps = list(pairwise(commits))
        if any(after.offset < before.offset for before, after in steps):
            return Status.REWIND
        if all(commit.offset == first.offset for commit in commits):
            return Status.STALL
        if current_lag >= last.lag and all(after.lag >= before.lag for before, after in steps):
            return Status.WARN
        return Status.OK

    def check_invariants(self) -> None:
        """For tests: times never go back, and there are never too many."""
        commits = list(self._commits)
        assert len(commits) <= WINDOW
        assert all(a.timestamp_ms <= b.timestamp_ms for a, b in pairwise(commits))
        assert all(commit.lag >= 0 for commit in commits)


def worst(statuses: Iterable[Status]) -> Status:
    """The status of a group whose partitions have these; NOT_FOUND without any."""
    found = set(statuses)
    if found & {Status.STOP, Status.STALL, Status.REWIND, Status.ERR}:
        return Status.ERR
    if Status.WARN in found:
        return Status.WARN
    return Status.OK if Status.OK in found else Status.NOT_FOUND
