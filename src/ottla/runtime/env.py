"""The environment of a node: disk, wall clock, randomness and worker threads, each replaceable in a test.

Monotonic time and timers are not here: they come from the asyncio loop, so that the virtual-time loop governs them.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Protocol, Self, TypeVar, TypeVarTuple

from ottla.runtime.disk import Disk

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")

WORKER_THREADS = 4

_BASE64_DASH = 62


class Clock(Protocol):
    """The wall clock."""

    def now_ms(self) -> int:
        """Milliseconds since 1970-01-01 UTC."""


class SystemClock:
    """The machine's wall clock."""

    __slots__ = ()

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


class Env:
    """What a node gets from outside; `Node(config, env)` is the only place that takes one."""

    __slots__ = ("_executor", "_worker_threads", "clock", "disk", "random")

    def __init__(self, disk: Disk, clock: Clock, random: Random, *, worker_threads: int = WORKER_THREADS) -> None:
        self.disk = disk
        self.clock = clock
        self.random = random
        self._worker_threads = worker_threads
        self._executor: ThreadPoolExecutor | None = None

    def with_disk(self, disk: Disk) -> Self:
        """The same surroundings with another disk, and worker threads of their own."""
        other = copy.copy(self)
        other.disk = disk
        other._executor = None
        return other

    def work_ns(self) -> int:
        """A fine steady clock (nanoseconds) that tells how long our own code takes."""
        return time.perf_counter_ns()

    @property
    def work_clock(self) -> Callable[[], int]:
        """`work_ns` as a plain function, for where it is called very often."""
        return time.perf_counter_ns if type(self).work_ns is Env.work_ns else self.work_ns

    def random_uuid(self) -> bytes:
        """A version 4 UUID as 16 bytes, as Kafka makes them: in base64url it never starts with a dash.

        (The reserved ids, zero and one, are no version 4 UUIDs.)
        """
        while True:
            raw = bytearray(self.random.randbytes(16))
            raw[6] = raw[6] & 0x0F | 0x40
            raw[8] = raw[8] & 0x3F | 0x80
            candidate = bytes(raw)
            # A text form that starts with "-" would look like an option on a command line.
            if candidate[0] >> 2 != _BASE64_DASH:
                return candidate

    def secret_bytes(self, count: int) -> bytes:
        """Randomness that nobody can guess, for nonces, salts and keys."""
        import secrets

        return secrets.token_bytes(count)

    async def run_blocking(self, function: Callable[[*Arguments], Result], /, *arguments: *Arguments) -> Result:
        """Run a function that may wait for the disk in a worker thread; its result or exception becomes ours."""
        executor = self._executor
        if executor is None:
            executor = self._executor = ThreadPoolExecutor(self._worker_threads, thread_name_prefix="ottla-disk")
        return await asyncio.get_running_loop().run_in_executor(executor, function, *arguments)

    def close(self) -> None:
        """Wait for the worker threads and end them; the next `run_blocking` would start new ones."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=True)


def real_env() -> Env:
    """The environment of a node on a real machine."""
    from ottla.runtime.real_disk import RealDisk

    return Env(RealDisk(), SystemClock(), Random())
