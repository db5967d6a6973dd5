"""The time of a cluster of tests: the real one, which can be skipped forward.

Brokers take all their time from two places, their event loop (timers, deadlines) and `Env.clock` (the wall clock).
`ClusterClock` is the wall clock, and makes the loops; both add one offset. A skip moves the offset from timer to timer:
time stands at the first one that is due until everything that it has started is done, then goes on to the next, which
may be one that was set meanwhile. So a chain of timers (a session that times out, a rebalance, its own timeout) happens
in its order, in as many milliseconds as its work takes.

A long skip makes at most `MOST_STOPS` stops: a timer fires up to a thousandth of the skip late then, as on a machine
that is busy. What is not skipped: the clocks of clients. To a broker they look as if they had been silent for that
long.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from ottla.client.errors import IllegalStateError

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")

MOST_STOPS = 1000
PATIENCE_S = 5.0
"""How long a stop waits for the work of worker threads (a slow disk) before time goes on nevertheless."""
_QUIET_ROUNDS = 2
"""Rounds of the loop in which nothing was ready: one more than one, so that sockets had their say."""
_MOST_ROUNDS = 200
"""Clients may keep a broker busy for ever: time goes on nevertheless."""

if TYPE_CHECKING:

    class _Internals:
        """The parts of BaseEventLoop that its subclasses in the standard library build on."""

        _ready: list[asyncio.Handle]
        _scheduled: list[asyncio.TimerHandle]
        _transports: dict[int, Any]

        async def _accept_connection2(self, *arguments: Any, **options: Any) -> None: ...

else:

    class _Internals:
        pass


class ClusterClock:
    """The clock of all brokers of a cluster: `Env.clock`, and the maker of their event loops.

    `skip` may be called from every thread but those of the brokers.
    """

    def __init__(self) -> None:
        self._offset_s = 0.0
        self._loops: weakref.WeakSet[ClusterLoop] = weakref.WeakSet()
        self._skipping = threading.Lock()

    @property
    def offset_ms(self) -> int:
        """By how much the cluster is ahead of the machine."""
        return round(self._offset_s * 1000)

    def now_ms(self) -> int:
        """The wall clock: milliseconds since 1970-01-01 UTC."""
        return time.time_ns() // 1_000_000 + round(self._offset_s * 1000)

    def time(self) -> float:
        """The steady clock of the loops, in seconds."""
        return time.monotonic() + self._offset_s

    def loop_factory(self) -> asyncio.AbstractEventLoop:
        """A new event loop whose time is this clock's."""
        loop = ClusterLoop(self)
        self._loops.add(loop)
        return loop

    def skip(self, seconds: float) -> None:
        """Move all brokers `seconds` forward; when this returns, what was due in that time has happened."""
        if not (seconds >= 0 and math.isfinite(seconds)):
            raise ValueError(f"the clock goes forward only, by a number of seconds: {seconds!r}")
        with self._skipping:
            end_s = self._offset_s + seconds
            smallest_step = seconds / MOST_STOPS
            while (left := end_s - self._offset_s) > 0:
                due = self._settle()
                step = max(due - self.time(), smallest_step)
                self._offset_s = end_s if step >= left else self._offset_s + step
            self._settle()

    def _settle(self) -> float:
        """Wait until no broker has anything to do at this moment; when the next timer of any of them is due."""
        loops = [loop for loop in self._loops if loop.is_running()]
        waits = [loop.settle() for loop in loops]
        due = math.inf
        for loop, wait in zip(loops, waits, strict=True):
            try:
                due = min(due, wait.result(PATIENCE_S))
            except (concurrent.futures.TimeoutError, concurrent.futures.CancelledError):
                due = min(due, loop.next_timer())
        return due


class ClusterLoop(asyncio.SelectorEventLoop, _Internals):
    """asyncio's own loop on a `ClusterClock`'s time; `settle` tells when nothing is left to do at this moment."""

    def __init__(self, clock: ClusterClock) -> None:
        self._clock = clock
        self._in_workers = 0
        self._settling: list[_Settling] = []
        super().__init__()

    def time(self) -> float:
        return time.monotonic() + self._clock._offset_s

    def run_in_executor(
        self, executor: Any, func: Callable[[*Arguments], Result], *args: *Arguments
    ) -> asyncio.Future[Result]:
        future: asyncio.Future[Result] = super().run_in_executor(executor, func, *args)
        self._in_workers += 1
        future.add_done_callback(self._worked)
        return future

    async def _accept_connection2(self, factory: Any, sock: Any, extra: Any, *more: Any, **options: Any) -> None:
        """A client that was accepted in the moment in which its server closed is hung up on. asyncio would forget it,
        and leave it waiting.
        """
        server = options.get("server") or next((one for one in more if isinstance(one, asyncio.Server)), None)
        if server is not None and not server.is_serving():
            sock.close()
            return
        await super()._accept_connection2(factory, sock, extra, *more, **options)

    def close(self) -> None:
        """Close the loop, and every connection that is left on it: to its peer the process has ended."""
        if not hasattr(self, "_transports"):
            return  # it could not be made; asyncio closes it nevertheless
        for transport in list(self._transports.values()):
            if transport._sock is not None:
                transport._sock.close()
                transport._sock = None  # or it would complain that nobody has closed it
        super().close()

    def settle(self) -> concurrent.futures.Future[float]:
        """Resolved once nothing is ready, running in a worker, or due: with the time of the next timer.

        For other threads; one that calls it on the loop's own would wait for itself.
        """
        if asyncio._get_running_loop() is self:
            raise IllegalStateError("the clock cannot be skipped on the broker's own thread.", hint="")
        settling = _Settling(self)
        self.call_soon_threadsafe(settling.look)
        return settling.settled

    def next_timer(self) -> float:
        """When the first timer that was not cancelled is due; infinity when there is none."""
        return min((timer.when() for timer in tuple(self._scheduled) if not timer.cancelled()), default=math.inf)

    @property
    def is_quiet(self) -> bool:
        """Whether nothing but the callback that asks has anything to do now."""
        return not self._ready and not self._in_workers and self.next_timer() > self.time()

    def _worked(self, _: asyncio.Future[Any]) -> None:
        self._in_workers -= 1
        if not self._in_workers:
            settling, self._settling = self._settling, []
            for one in settling:
                self.call_soon(one.look)

    def when_worked(self, settling: _Settling) -> None:
        """Have it look again when no worker thread is busy any more."""
        self._settling.append(settling)


class _Settling:
    """One wait for a loop to have nothing to do."""

    __slots__ = ("_loop", "_quiet_rounds", "_rounds", "settled")

    def __init__(self, loop: ClusterLoop) -> None:
        self._loop = loop
        self._quiet_rounds = 0
        self._rounds = 0
        self.settled: concurrent.futures.Future[float] = concurrent.futures.Future()

    def look(self) -> None:
        loop = self._loop
        self._rounds += 1
        self._quiet_rounds = self._quiet_rounds + 1 if loop.is_quiet else 0
        if self._quiet_rounds == _QUIET_ROUNDS or self._rounds == _MOST_ROUNDS:
            self.settled.set_result(loop.next_timer())
        elif loop._in_workers and not loop._ready:
            loop.when_worked(self)
        else:
            loop.call_soon(self.look)
