"""The environment of a simulated node, and the entry that runs one simulation from a seed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, TypeVar, TypeVarTuple

from ottla.runtime.env import Env
from ottla.runtime.memory_disk import MemoryDisk, SimulatedCrashError
from ottla.testing.sim.loop import VirtualTimeLoop

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")

START_MS = 1_700_000_000_000
SHORTEST_DISK_DELAY = 20e-6
MEAN_DISK_DELAY = 1e-3


class VirtualClock:
    """A wall clock that goes with the loop, or faster by `drift` (0.1: 1.1 s in a second); `jump_ms` moves it as an
    operator or NTP would.
    """

    __slots__ = ("_drift", "_loop", "_start_ms", "_started_s")

    def __init__(self, loop: asyncio.AbstractEventLoop, start_ms: int = START_MS) -> None:
        self._loop = loop
        self._start_ms = start_ms
        self._started_s = 0.0
        self._drift = 0.0

    def now_ms(self) -> int:
        if not self._drift:
            return self._start_ms + int(self._loop.time() * 1000)
        passed_s = self._loop.time() - self._started_s
        return self._start_ms + int((self._loop.time() + passed_s * self._drift) * 1000)

    def drift(self, share: float) -> None:
        """From now on gain (or lose) this share of the time that passes."""
        gained_s = (self._loop.time() - self._started_s) * self._drift
        self._start_ms += int(gained_s * 1000)
        self._started_s = self._loop.time()
        self._drift = share

    def jump_ms(self, difference_ms: int) -> None:
        """Move the wall clock, forward or back; timers do not notice."""
        self._start_ms += difference_ms


class SimulatedEnv(Env):
    """Memory disk, virtual clock and seeded randomness; blocking work runs on the loop, after a random time."""

    __slots__ = ("_loop", "disk_slowness", "memory_disk", "virtual_clock")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        random: Random,
        disk: MemoryDisk | None = None,
        clock: VirtualClock | None = None,
    ) -> None:
        clock = VirtualClock(loop) if clock is None else clock
        self._loop = loop
        self.disk_slowness = 1.0
        """How many times as long as usual blocking work takes."""
        self.virtual_clock = clock
        self.memory_disk = MemoryDisk(now_ms=clock.now_ms) if disk is None else disk
        super().__init__(self.memory_disk, clock, random)

    def work_ns(self) -> int:
        """Virtual time, in which our own code takes none."""
        return int(self._loop.time() * 1e9)

    def secret_bytes(self, count: int) -> bytes:
        """From the seed, as everything."""
        return self.random.randbytes(count)

    async def run_blocking(self, function: Callable[[*Arguments], Result], /, *arguments: *Arguments) -> Result:
        wait_s = SHORTEST_DISK_DELAY + self.random.expovariate(1 / MEAN_DISK_DELAY)
        await asyncio.sleep(wait_s * self.disk_slowness)
        return function(*arguments)


def simulate(
    main: Callable[[SimulatedEnv], Coroutine[Any, Any, Result]],
    *,
    seed: int,
    disk: MemoryDisk | None = None,
    shuffle: bool = False,
) -> Result:
    """Run `main(env)` to its end in virtual time; what happens follows from the seed (and the disk it starts with).

    When the disk crashes, everything stops where it is: `SimulatedCrashError`. Have the disk `crash`, which is the
    restart of the machine, and simulate the next life with it.
    """
    loop = VirtualTimeLoop(random=Random(f"network {seed}"), shuffle=Random(f"order {seed}") if shuffle else None)
    env = SimulatedEnv(loop, Random(seed), disk)
    # In the next round, with the end of `main` when that is where the crash came through.
    env.memory_disk.on_crash = lambda: loop.call_soon(loop.stop)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        try:
            return runner.run(main(env))
        except RuntimeError:
            if env.memory_disk.has_crashed:
                raise SimulatedCrashError("the machine stopped") from None
            raise
        finally:
            env.memory_disk.on_crash = None
            if env.memory_disk.has_crashed:
                # What is left runs against a dead disk, and has nobody to complain to.
                loop.set_exception_handler(lambda *_: None)
