"""Programs of one simulation that can be killed one by one, while the others go on.

What a program starts (tasks, timers, listening sockets, connections) carries its `Process` in its context; `kill` ends
all of that between two callbacks, as a signal 9 does: no handler, no `finally` of the program runs any more. Its
connections are reset, its addresses are free. Its disk is not touched: see `MemoryDisk.restart_process` and `crash`.
`freeze` is a signal STOP: nothing of it runs, and its connections stay open, until `thaw`.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, TypeVar
from weakref import WeakSet

from ottla.runtime.memory_disk import SimulatedCrashError
from ottla.testing.sim.links import HOST
from ottla.testing.sim.loop import VirtualTimeLoop
from ottla.testing.sim.network import SimulatedTransport

Result = TypeVar("Result")

MOST_LAST_WAITS = 100

_CURRENT: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


class Process:
    """One program, on a host of the network. `is_dead` after `kill`, `is_frozen` from `freeze` to `thaw`.

    A program that is frozen has its host for itself: nothing that is sent there arrives.
    """

    def __init__(self, loop: VirtualTimeLoop, host: str = "") -> None:
        self.is_dead = False
        self.is_frozen = False
        self.host = host
        self._loop = loop
        self._frozen_ready: list[asyncio.Handle] = []
        self._frozen_timers: list[asyncio.TimerHandle] = []
        self._tasks: WeakSet[asyncio.Task[Any]] = WeakSet()

    def start(self, program: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Run a coroutine as (a part of) this program."""
        context = contextvars.copy_context()
        context.run(_CURRENT.set, self)
        context.run(HOST.set, self.host)
        return self._loop.create_task(program, context=context)

    def owns(self, context: contextvars.Context) -> bool:
        """Whether what has this context belongs to the program."""
        return context.get(_CURRENT) is self

    def owns_task(self, task: asyncio.Task[Any]) -> bool:
        """Whether a task is (a part of) the program."""
        return task in self._tasks

    def remains(self) -> list[str]:
        """What still runs of a program that has come to its end: tasks, timers, connections."""
        current = asyncio.current_task(self._loop)
        tasks = [task for task in self._tasks if not task.done() and task is not current]
        timers = [
            one
            for one in self._loop._scheduled
            if not one.cancelled()
            and self.owns(one._context)  # type: ignore[attr-defined]
            # What is still on its way to a connection that is closed is not the program's.
            and not isinstance(getattr(one._callback, "__self__", None), SimulatedTransport)  # type: ignore[attr-defined]
        ]
        open_ones = [one for one in self._loop.network.connections if self.owns(one.context)]
        return [repr(one) for one in (*tasks, *timers, *open_ones)]

    def freeze(self) -> None:
        """Let nothing of it run any more, for now. Not to be called by the program itself."""
        if self.is_dead or self.is_frozen:
            return
        self.is_frozen = True
        self._loop.network.hold(self.host)
        self._frozen_ready, self._frozen_timers = self._loop.take_out(self.owns)

    def thaw(self) -> None:
        """Go on, with all that has become due meanwhile."""
        if not self.is_frozen:
            return
        self.is_frozen = False
        self._loop.put_back(self._frozen_ready, self._frozen_timers)
        self._frozen_ready, self._frozen_timers = [], []
        self._loop.network.let_through(self.host)

    def kill(self) -> None:
        """End it here and now; for good."""
        if self.is_dead:
            return
        self.thaw()
        self.is_dead = True
        # A task that is collected runs its `finally` blocks: those of the dead are kept as they are.
        self._loop.kept += self._tasks
        self._loop.network.abort_all(self.owns)
        self._loop.drop(self.owns)
        # The callback that is running may still start something while it unwinds.
        outside = contextvars.copy_context()
        outside.run(_CURRENT.set, None)
        self._loop.call_next(self._loop.drop, self.owns, context=outside)

    def _adopt(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        if self.is_dead:
            self._loop.kept.append(task)


def run_processes(
    main: Callable[[VirtualTimeLoop], Coroutine[Any, Any, Result]],
    *,
    seed: object,
    shuffle: bool = False,
    on_error: Callable[[dict[str, Any]], None] = lambda context: None,
) -> Result:
    """Run `main(loop)` to its end in virtual time. `on_error` hears of exceptions that nobody took, as an event loop's
    exception handler; the end of a disk (`SimulatedCrashError`) is none of them.

    When it is over, whatever still runs ends without being asked.
    """
    loop = VirtualTimeLoop(random=Random(f"network {seed}"), shuffle=Random(f"order {seed}") if shuffle else None)
    loop.set_task_factory(_new_task)

    def hear(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), SimulatedCrashError):
            on_error(context)

    loop.set_exception_handler(hear)
    try:
        return loop.run_until_complete(main(loop))
    finally:
        loop.set_exception_handler(lambda *_: None)
        with _silence():
            for task in asyncio.all_tasks(loop):
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                _close(task.get_coro())
        loop.close()


@contextmanager
def _silence() -> Iterator[None]:
    """What programs log while they are buried is for nobody's eyes."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        yield
    finally:
        logging.disable(before)


def _close(coroutine: Any) -> None:
    """Have done with it, though its `finally` blocks want to wait for one thing after the other.

    `close` would abandon the inner coroutines that do, and the garbage collector would complain about them.
    """
    for _ in range(MOST_LAST_WAITS):
        try:
            coroutine.throw(asyncio.CancelledError())
        except BaseException:
            return


def _new_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
    context: contextvars.Context | None = options.get("context")
    process = _CURRENT.get() if context is None else context.get(_CURRENT)
    if process is not None:
        process._adopt(task)
    return task
