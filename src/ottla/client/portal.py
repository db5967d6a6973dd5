"""The one background thread of a process: an event loop that runs the asynchronous clients for blocking callers.

    portal = portal()
    portal.run(consumer.commit())        # from any thread but the loop's own

The thread is a daemon and starts with the first client. When the interpreter exits, after all other threads have ended,
each registered client gets a moment to finish (`exit_now`), and the loop stops. A forked child has no such thread: the
clients it inherited say so (`ClientForkedError`), new ones get a portal of their own.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
import warnings
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Protocol, TypeVar, TypeVarTuple, cast

from ottla.client.errors import ClientClosedError, ClientForkedError, IllegalStateError, KafkaError, KafkaTimeoutError

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

_LOG = logging.getLogger("ottla.client")

EXIT_TIMEOUT_S = 5.0
"""All clients together have this long at the exit of the interpreter."""
CANCEL_TIMEOUT_S = 1.0
"""How long an interrupted call waits for its coroutine to end."""


class ExitingClient(Protocol):
    """What the portal can end."""

    def exit_now(self) -> Coroutine[Any, Any, object]:
        """The interpreter exits: finish what was promised, quickly. Runs on the loop."""


class Portal:
    """The loop and its thread. Made by `portal()`."""

    def __init__(self) -> None:
        self.loop = _new_loop()
        self._pid = os.getpid()
        self._clients: weakref.WeakSet[Any] = weakref.WeakSet()
        self._closing: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="ottla", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """What the coroutine returns or raises, run on the loop.

        An interrupt (Ctrl-C) cancels the coroutine and goes on. `KafkaTimeoutError` after `timeout_s`, which cancels it
        too. `ClientForkedError` in a forked child, `IllegalStateError` on the loop's own thread.
        """
        try:
            self._check()
        except BaseException:
            coroutine.close()
            raise
        call = _Call(coroutine)
        try:
            self._post(call.start)
            is_done = call.wait(timeout_s)
        except ClientClosedError:
            coroutine.close()
            raise
        except BaseException:
            self._post(call.cancel)
            call.wait(CANCEL_TIMEOUT_S)
            raise
        if not is_done:
            self._post(call.cancel)
            if not call.wait(CANCEL_TIMEOUT_S) or call.is_cancelled:
                raise KafkaTimeoutError(f"not done within {timeout_s} s.")
        return call.result()

    def call(self, function: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        """What a plain function returns or raises, called on the loop."""

        async def run() -> T:
            return function(*arguments)

        return self.run(run())

    def call_soon(self, function: Callable[[*Arguments], object], *arguments: *Arguments) -> None:
        """Call a function on the loop, and do not wait for it."""
        if self._pid != os.getpid():
            raise ClientForkedError("this client was made before the process forked.")
        self._post(function, *arguments)

    def register(self, client: ExitingClient) -> None:
        """Have `client.exit_now()` run when the interpreter exits, if the client still lives."""
        self._clients.add(client)

    def close_forgotten(
        self, owner: object, is_open: Callable[[], bool], close: Callable[[], Coroutine[Any, Any, object]]
    ) -> None:
        """When nobody has `owner` any more and it was not closed: say so, and `close` what goes on in the background.

        Neither function may know the owner.
        """
        name = type(owner).__name__

        def forgotten() -> None:
            if self.is_usable and is_open():
                try:
                    self.call_soon(self._close_soon, close)
                except ClientClosedError:
                    return
                warnings.warn(f"unclosed {name}: use `with`, or close()", ResourceWarning, stacklevel=2)

        weakref.finalize(owner, forgotten).atexit = False

    def _close_soon(self, close: Callable[[], Coroutine[Any, Any, object]]) -> None:
        task = self.loop.create_task(_quietly(close()))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def close(self) -> None:
        """Let the clients finish, and stop the loop: for the exit of the interpreter, and for tests."""
        if self._is_closed or self._pid != os.getpid():
            return
        clients = list(self._clients)
        if clients:
            try:
                self.run(_finish(clients), EXIT_TIMEOUT_S + CANCEL_TIMEOUT_S)
            except (KafkaTimeoutError, KeyboardInterrupt):
                pass
        self._is_closed = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(CANCEL_TIMEOUT_S)

    @property
    def is_usable(self) -> bool:
        """It belongs to this process, and its loop runs."""
        return not self._is_closed and self._pid == os.getpid()

    def _check(self) -> None:
        if self._pid != os.getpid():
            raise ClientForkedError("this client was made before the process forked.")
        if threading.get_ident() == self._thread.ident:
            raise IllegalStateError(
                "a blocking call in a callback would wait for itself.", hint="Use ottla.aio, or another thread."
            )
        if self._is_closed:
            raise ClientClosedError("the interpreter is exiting.")

    def _post(self, function: Callable[[*Arguments], object], *arguments: *Arguments) -> None:
        try:
            self.loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError as error:
            raise ClientClosedError("the interpreter is exiting.") from error

    def _work(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            while not self._runs_to_the_end():
                pass
        finally:
            asyncio.set_event_loop(None)

    def _runs_to_the_end(self) -> bool:
        """A user's callback that exits must not take the loop of all clients along."""
        try:
            self.loop.run_forever()
        except (SystemExit, KeyboardInterrupt):
            _LOG.exception("a callback tried to exit; that ends no more than the callback, in the clients' thread")
            return False
        return True


class _Call(Generic[T]):
    """A coroutine on the loop, and a thread that waits for it."""

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._coroutine = coroutine
        self._task: asyncio.Task[T] | None = None
        self._done = threading.Lock()
        self._done.acquire()

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._coroutine)
        self._task.add_done_callback(lambda _: self._done.release())

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
        elif self._done.locked():  # interrupted before it was handed over
            self._coroutine.close()
            self._done.release()

    def wait(self, timeout_s: float | None) -> bool:
        """Whether it ended in time."""
        done = self._done.acquire(timeout=-1 if timeout_s is None else min(max(0.0, timeout_s), threading.TIMEOUT_MAX))
        if done:
            self._done.release()
        return done

    @property
    def is_cancelled(self) -> bool:
        return self._task is not None and self._task.cancelled()

    def result(self) -> T:
        assert self._task is not None
        if self._task.cancelled():
            raise ClientClosedError("the call was cancelled.")
        return self._task.result()


async def _quietly(closing: Coroutine[Any, Any, object]) -> None:
    try:
        await closing
    except KafkaError:
        pass  # nobody is there to hear of it


async def _finish(clients: list[ExitingClient]) -> None:
    tasks = [asyncio.ensure_future(client.exit_now()) for client in clients]
    _, pending = await asyncio.wait(tasks, timeout=EXIT_TIMEOUT_S)
    for task in pending:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return cast("asyncio.AbstractEventLoop", uvloop.new_event_loop())


_lock = threading.Lock()
_portal: Portal | None = None
_inherited: list[Portal] = []
"""Portals of parent processes, kept: to clean them up would reach into what the parent still uses."""


def portal() -> Portal:
    """The process's portal, started when there is none."""
    global _portal
    found = _portal
    if found is not None and found.is_usable:
        return found
    with _lock:
        if _portal is None or not _portal.is_usable:
            if _portal is None:
                atexit.register(_exit)
            try:
                _portal = Portal()
            except RuntimeError as error:
                raise ClientClosedError("the interpreter is exiting.") from error
        return _portal


def _exit() -> None:
    if _portal is not None:
        _portal.close()


def _forked() -> None:
    global _lock, _portal
    _lock = threading.Lock()
    if _portal is not None:
        _inherited.append(_portal)
        _portal._clients = weakref.WeakSet()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
