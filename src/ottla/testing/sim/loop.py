"""An asyncio event loop whose time is a number.

Nothing sleeps: when no callback is ready, time jumps to the next timer. There are no threads, and no sockets but those
of the simulated network (`loop.network`). The same program gives the same order of events in every run, except for what
Python itself leaves open (iteration over sets of objects, or of strings under hash randomisation). With `shuffle`,
callbacks that are ready at the same moment run in a seeded random order, which asyncio allows for events of different
origin, and which finds hidden dependencies.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import socket
from asyncio import base_events
from collections import deque
from collections.abc import Callable
from math import ulp
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from ottla.testing.sim.network import ProtocolFactory, SimulatedNetwork, SimulatedServer

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")

if TYPE_CHECKING:

    class _Internals:
        """The parts of BaseEventLoop that its subclasses in the standard library build on."""

        _ready: deque[asyncio.Handle]
        _scheduled: list[asyncio.TimerHandle]


else:

    class _Internals:
        pass


class DeadlockError(RuntimeError):
    """Nothing is ready, no timer is set, and the program has not ended: it would hang forever."""


class VirtualTimeLoop(base_events.BaseEventLoop, _Internals):
    """The loop; `time()` starts at 0 and counts virtual seconds."""

    def __init__(self, *, random: Random | None = None, shuffle: Random | None = None) -> None:
        self._now = 0.0
        super().__init__()
        self.network = SimulatedNetwork(self, random or Random(0))
        self._shuffle = shuffle
        self._selector = _TimeJump(self)
        self.kept: list[object] = []  # until the end of the simulation

    def time(self) -> float:
        return self._now

    @property
    def _clock_resolution(self) -> float:
        """A timer fires when its time is there, and not a moment before: it would fire again and again meanwhile."""
        return ulp(self._now)

    @_clock_resolution.setter
    def _clock_resolution(self, seconds: float) -> None:
        """Real clocks have one."""

    def advance(self) -> None:
        """No callback is ready: go to the next timer."""
        timers = self._scheduled
        if not timers:
            raise DeadlockError("nothing is left to happen, but the program has not ended")
        self._now = max(self._now, timers[0].when())

    def call_next(
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """As `call_soon`, but before everything that is ready already."""
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.appendleft(handle)
        return handle

    def drop(self, owned: Callable[[contextvars.Context], bool]) -> None:
        """Forget the callbacks and timers whose context is `owned`."""
        for handle in (*self._ready, *self._scheduled):
            if owned(handle._context):  # type: ignore[attr-defined]
                handle.cancel()

    def take_out(
        self, owned: Callable[[contextvars.Context], bool]
    ) -> tuple[list[asyncio.Handle], list[asyncio.TimerHandle]]:
        """Remove the callbacks and timers whose context is `owned`, to `put_back` later."""
        ready = [one for one in self._ready if owned(one._context)]  # type: ignore[attr-defined]
        timers = [one for one in self._scheduled if not one.cancelled() and owned(one._context)]  # type: ignore[attr-defined]
        for timer in timers:
            timer._scheduled = False  # type: ignore[attr-defined]
        gone = {id(one) for one in (*ready, *timers)}
        self._ready = deque(one for one in self._ready if id(one) not in gone)
        self._scheduled[:] = [one for one in self._scheduled if id(one) not in gone]
        heapq.heapify(self._scheduled)
        return ready, timers

    def put_back(self, ready: list[asyncio.Handle], timers: list[asyncio.TimerHandle]) -> None:
        """What `take_out` gave, where it was; timers whose time has come are due."""
        self._ready.extend(one for one in ready if not one.cancelled())
        for timer in timers:
            if not timer.cancelled():
                timer._scheduled = True  # type: ignore[attr-defined]
                heapq.heappush(self._scheduled, timer)

    def run_in_executor(
        self, executor: Any, func: Callable[[*Arguments], Result], *args: *Arguments
    ) -> asyncio.Future[Result]:
        """There are no threads here: the function runs on the loop, a moment later."""
        future: asyncio.Future[Result] = self.create_future()

        def work() -> None:
            if not future.done():
                try:
                    future.set_result(func(*args))
                except BaseException as error:
                    future.set_exception(error)

        self.call_soon(work)
        return future

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    async def create_server(  # type: ignore[override]
        self,
        protocol_factory: ProtocolFactory,
        host: str | None = None,
        port: int = 0,
        *,
        start_serving: bool = True,
        **_: Any,
    ) -> SimulatedServer:
        server = self.network.listen(protocol_factory, host or "127.0.0.1", port)
        if start_serving:
            await server.start_serving()
        return server

    async def create_connection(  # type: ignore[override]
        self, protocol_factory: ProtocolFactory, host: str, port: int, **_: Any
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        return await self.network.connect(protocol_factory, host, port)

    async def getaddrinfo(  # type: ignore[override]
        self, host: str | None, port: int | None, **_: Any
    ) -> list[tuple[Any, ...]]:
        """Every name is an address."""
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host or "127.0.0.1", port or 0))]

    def close(self) -> None:
        self.network.close()
        super().close()

    def _process_events(self, event_list: list[object]) -> None:
        """Called by `run_forever` between waiting and running what is ready."""
        if self._shuffle is not None and len(self._ready) > 1:
            handles = list(self._ready)
            self._shuffle.shuffle(handles)
            self._ready = deque(handles)

    def _write_to_self(self) -> None:
        """Called to wake a waiting loop; this one never waits."""


class _TimeJump:
    """In the place of a selector: what `run_forever` waits with."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[object]:
        if timeout is None or timeout > 0:
            self._loop.advance()
        return []
