"""Deadlines as data: a shard schedules actions here, the shell asks for the next deadline and takes what is due."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from ottla.server.coordinator.result import Instant, Result

Action = Callable[[Instant], Result[None]]

_SMALLEST_SWEEP = 1_000


class Timer:
    """One scheduled action. ``postpone`` is a plain store: the heap is corrected when the old deadline surfaces."""

    __slots__ = ("action", "deadline_ms", "queued_ms")

    def __init__(self, deadline_ms: int, action: Action) -> None:
        self.deadline_ms = deadline_ms
        self.queued_ms = deadline_ms
        self.action: Action | None = action

    def cancel(self) -> None:
        """Never run. Cancelling twice, or after it ran, does nothing."""
        self.action = None

    @property
    def is_active(self) -> bool:
        return self.action is not None


class Timers:
    """A heap of timers on the monotonic clock, in milliseconds; equal deadlines run in the order of scheduling."""

    __slots__ = ("_heap", "_sequence", "_sweep_size")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Timer]] = []
        self._sequence = 0
        self._sweep_size = _SMALLEST_SWEEP

    def schedule(self, deadline_ms: int, action: Action) -> Timer:
        """Run the action once at the deadline."""
        timer = Timer(deadline_ms, action)
        self._push(timer)
        return timer

    def move(self, timer: Timer, deadline_ms: int) -> None:
        """Give an active timer another deadline; a later one costs nothing until the old one surfaces."""
        timer.deadline_ms = deadline_ms
        if deadline_ms < timer.queued_ms:
            self._push(timer)

    def next_deadline_ms(self) -> int | None:
        """When ``take_due`` has to be called next (exact), or None when nothing is scheduled."""
        heap = self._heap
        while heap:
            queued_ms, _, timer = heap[0]
            if timer.action is None or queued_ms != timer.queued_ms:
                heapq.heappop(heap)
            elif timer.deadline_ms > queued_ms:
                heapq.heappop(heap)
                self._push(timer)
            else:
                return queued_ms
        return None

    def take_due(self, now_ms: int) -> Action | None:
        """The next action whose deadline has come, removed; None when there is none."""
        deadline_ms = self.next_deadline_ms()
        if deadline_ms is None or deadline_ms > now_ms:
            return None
        timer = heapq.heappop(self._heap)[2]
        action = timer.action
        timer.action = None
        return action

    def _push(self, timer: Timer) -> None:
        timer.queued_ms = timer.deadline_ms
        self._sequence += 1
        heapq.heappush(self._heap, (timer.deadline_ms, self._sequence, timer))
        if len(self._heap) >= self._sweep_size:
            self._sweep()

    def _sweep(self) -> None:
        """Forget what was cancelled or moved, which would stay until its deadline; clients choose some of these."""
        self._heap[:] = (
            entry for entry in self._heap if entry[2].action is not None and entry[0] == entry[2].queued_ms
        )
        heapq.heapify(self._heap)
        self._sweep_size = max(_SMALLEST_SWEEP, 2 * len(self._heap))


class TimedShard:
    """A shard whose time is kept by ``timers``: that part of the shell's port (`runtime.CoordinatorShard`)."""

    timers: Timers

    def next_deadline_ms(self) -> int | None:
        """When ``take_due`` must be called, on the monotonic clock."""
        return self.timers.next_deadline_ms()

    def take_due(self, now: Instant) -> Result[None] | None:
        """Run one action whose time has come; None when there is none."""
        action = self.timers.take_due(now.monotonic_ms)
        return None if action is None else action(now)
