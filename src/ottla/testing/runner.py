"""A broker on a thread of its own, inside a process that does something else.

    thread = BrokerThread(config, env)
    thread.start()                          # serves when this returns
    thread.call(function, argument)         # on the broker's event loop, and its result here
    thread.stop()

One `BrokerThread` is one life of a broker: the next one is another object on the same disk. The thread is a daemon and
belongs to the process that started it: in a forked child nothing of it runs, and every call says so. When the
interpreter exits, brokers that still run are ended as by `kill`, those on a real disk as by `stop`.

`call` and `run` may be used from every thread but the broker's own; `submit` from asyncio too.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import gc
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from ottla.client.errors import ClientForkedError, IllegalStateError
from ottla.runtime.env import Env
from ottla.server.node.node import Node

if TYPE_CHECKING:
    from ottla.schema.config import BrokerConfig

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")

GRACE_S = 0.01
"""How long an orderly stop waits for requests under way: what is parked (fetches, joins) is not worth a test's time."""
JOIN_TIMEOUT_S = 10.0
STOPPED_DURING_CALL = "the broker was stopped during the call."
EXIT_TIMEOUT_S = 1.0
_LAST_ROUNDS = 6


class ClusterEnv(Env):
    """The environment of a broker on a real disk, which is stopped even when the interpreter exits."""

    __slots__ = ()

    async def run_blocking(self, function: Callable[[*Arguments], Result], /, *arguments: *Arguments) -> Result:
        if not threading.main_thread().is_alive():  # from then on worker threads take nothing more
            return function(*arguments)
        return await super().run_blocking(function, *arguments)


class InlineEnv(ClusterEnv):
    """The environment of a broker on a disk in memory: what might wait for a disk does not, and runs on the loop.

    That also keeps the disk, which is no more than Python objects, to one thread.
    """

    __slots__ = ()

    async def run_blocking(self, function: Callable[[*Arguments], Result], /, *arguments: *Arguments) -> Result:
        if getattr(self.disk, "faults", ()):
            return await super().run_blocking(function, *arguments)  # it may be slow on purpose
        return function(*arguments)


class BrokerThread:
    """One life of one broker. Nothing happens before `start`."""

    def __init__(
        self,
        config: BrokerConfig,
        env: Env,
        *,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.SelectorEventLoop,
        name: str = "ottla-broker",
        outlives_process: bool = False,
    ) -> None:
        """`outlives_process`: its data is read again later, so it is stopped in order when the interpreter exits."""
        self.node = Node(config, env)
        self.failure: BaseException | None = None
        """Why the broker gave up by itself, if it did (all its directories failed, say)."""
        self.outlives_process = outlives_process
        self._loop_factory = loop_factory
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end: asyncio.Future[bool] | None = None  # True: in order; False: as by a kill
        self._pid = os.getpid()
        self._started: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(target=_work, args=(self,), name=name, daemon=True)

    def start(self) -> None:
        """Bring the broker up; clients are served when this returns. Raises why it could not start."""
        start_together([self])

    def _begin(self) -> None:
        _running.add(self)
        self._thread.start()

    def _wait_started(self) -> None:
        self._started.result()

    def _give_up(self) -> None:
        self._finish(True)
        self._started = concurrent.futures.Future()  # the error in it knows all who waited for it

    @property
    def is_running(self) -> bool:
        """Whether it serves, in this very process."""
        return self._loop is not None and self._thread.is_alive() and self._pid == os.getpid()

    def answers_as(self, node_id: int | None) -> bool:
        """Whether it runs and is the node of that id; None is any."""
        return self.is_running and node_id in (None, self.node.config.node_id)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Its event loop; `IllegalStateError` when the broker does not run."""
        if self._pid != os.getpid():
            raise ClientForkedError(
                "the broker runs in the process this one was forked from: clients can reach it, this call can not.",
                hint="",
            )
        if self._loop is None or not self._thread.is_alive():
            reason = "" if self.failure is None else f": {self.failure}"
            raise IllegalStateError(f"the broker does not run{reason}.", hint="start() or restart() it.")
        return self._loop

    def submit(self, coroutine: Coroutine[Any, Any, Result]) -> concurrent.futures.Future[Result]:
        """Run a coroutine on the broker's loop; its result comes with the future, which cancels it when cancelled."""
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        except BaseException:
            coroutine.close()
            raise

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """What a coroutine returns or raises, run on the broker's loop. An interrupt (Ctrl-C) cancels it."""
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise IllegalStateError("a blocking call on the broker's own thread would wait for itself.", hint="")
        future = self.submit(coroutine)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise IllegalStateError(STOPPED_DURING_CALL, hint="") from None
        except BaseException:
            future.cancel()
            raise

    def call(self, function: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        """What a plain function returns or raises, called on the broker's loop."""

        async def run() -> Result:
            return function(*arguments)

        return self.run(run())

    def stop(self) -> None:
        """Flush, write down that the end was clean, close. Nothing happens when it does not run."""
        self._finish(True)

    def kill(self) -> None:
        """End it as `kill -9` would: connections break, nothing more is written or flushed."""
        self._finish(False)

    def _finish(self, in_order: bool, timeout_s: float = JOIN_TIMEOUT_S) -> None:
        self._ask_to_end(in_order)
        self._join(timeout_s)

    def _ask_to_end(self, in_order: bool) -> None:
        _running.discard(self)
        loop = self._loop
        if self._pid == os.getpid() and self._thread.is_alive() and loop is not None:
            try:
                loop.call_soon_threadsafe(self._set_end, in_order)
            except RuntimeError:
                pass  # it ended by itself in this moment

    def _join(self, timeout_s: float = JOIN_TIMEOUT_S) -> None:
        # A cluster that nobody has any more may be found on the broker's own thread.
        if self._pid == os.getpid() and threading.current_thread() is not self._thread and self._thread.is_alive():
            self._thread.join(timeout_s)

    def _set_end(self, in_order: bool) -> None:
        if self._end is not None and not self._end.done():
            self._end.set_result(in_order)


def start_together(threads: Sequence[BrokerThread]) -> None:
    """Bring brokers up that wait for each other; clients are served by all when this returns. Raises why one could not
    start, and none of them runs then.
    """
    was_enabled = gc.isenabled()
    # What is made until the broker is ready stays: looking for garbage in it would be a tenth of the start.
    gc.disable()
    try:
        for thread in threads:
            thread._begin()
        started = [thread._started for thread in threads]
        concurrent.futures.wait(started, return_when=concurrent.futures.FIRST_EXCEPTION)
        for thread in sorted(threads, key=lambda one: not one._started.done()):  # the one that failed comes first
            thread._wait_started()
    except BaseException:
        for thread in threads:
            thread._give_up()
        raise
    finally:
        if was_enabled:
            gc.enable()


def stop_together(threads: Sequence[BrokerThread]) -> None:
    """Stop brokers in order, all of them at once."""
    for thread in threads:
        thread._ask_to_end(True)
    for thread in threads:
        thread._join()


def _work(thread: BrokerThread) -> None:
    """The thread: it holds the `BrokerThread`, which ends with it."""
    try:
        loop = thread._loop_factory()
    except BaseException as error:  # there are no more files to be had, say
        thread._started.set_exception(error)
        return
    asyncio.set_event_loop(loop)
    thread._end = loop.create_future()
    thread._loop = loop
    try:
        loop.run_until_complete(_live(thread, thread.node, thread._end))
    finally:
        try:
            _bury(loop)
        finally:
            asyncio.set_event_loop(None)
            thread._loop = None
            loop.close()


async def _live(thread: BrokerThread, node: Node, end: asyncio.Future[bool]) -> None:
    in_order = True
    try:
        starting = asyncio.ensure_future(node.start())
        await asyncio.wait((starting, end), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():  # stopped before it was ready
            starting.cancel()
            await asyncio.wait((starting,))
            thread._started.cancel()
        elif (error := starting.exception()) is not None:
            thread._started.set_exception(error)
            return
        else:
            thread._started.set_result(None)
        assert node.failed is not None
        await asyncio.wait((node.failed, end), return_when=asyncio.FIRST_COMPLETED)
        if node.failed.done():
            thread.failure = node.failed.result()
        in_order = not end.done() or end.result()
    finally:
        if in_order:
            await node.stop(GRACE_S)
        else:
            await node.abort()
        # Connections that were on their way in are met by a closed listener, and end.
        for _ in range(_LAST_ROUNDS):
            await asyncio.sleep(0)


def _bury(loop: asyncio.AbstractEventLoop) -> None:
    """Nothing of a broker that has ended goes on."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())


_running: weakref.WeakSet[BrokerThread] = weakref.WeakSet()


def _exit() -> None:
    for thread in list(_running):
        thread._finish(thread.outlives_process, EXIT_TIMEOUT_S)


atexit.register(_exit)
