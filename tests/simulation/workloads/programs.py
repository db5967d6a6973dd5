"""Programs that users could have written, with our clients in them: started, killed, cancelled, asked to end, replaced.

Each is a process of the simulation. A killed one is gone between two callbacks, and its connections are reset. One that
ended by itself, or whose task was cancelled, has closed its clients: nothing of it may be left a moment later.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from random import Random
from typing import Any, TypeVar

from ottla.aio import Admin, Consumer, Producer, ShareConsumer
from ottla.client.errors import KafkaError
from ottla.core.ids import uuid_to_text
from ottla.testing.sim.env import START_MS
from ottla.testing.sim.process import Process
from tests.simulation.workloads.cluster import Cluster
from tests.simulation.workloads.proxy import Proxy

T = TypeVar("T")

#: Longer than anything a program that is asked to end may need.
PATIENCE_S = 60.0
#: What a call may take beyond the time it was given: virtual time stands still while code runs.
GRACE_S = 0.3
REQUEST_TIMEOUT_MS = 2_000
#: Short, so that everything that can run out does.
COMMON: dict[str, Any] = {
    "request.timeout.ms": REQUEST_TIMEOUT_MS,
    "retry.backoff.ms": 50,
    "retry.backoff.max.ms": 500,
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 500,
    "metadata.max.age.ms": 5_000,
    "socket.connection.setup.timeout.ms": 1_000,
    "socket.connection.setup.timeout.max.ms": 2_000,
    "enable.metrics.push": False,
}
CONSUMING: dict[str, Any] = COMMON | {"default.api.timeout.ms": 8_000, "fetch.max.wait.ms": 300}
Run = Callable[["Program"], Coroutine[Any, Any, None]]


class World:
    """The cluster, the proxy in front of it, and the programs."""

    def __init__(self, cluster: Cluster, share: float) -> None:
        self.cluster = cluster
        self.proxy = Proxy(cluster, share)
        self.programs: list[Program] = []
        self.lines: Counter[str] = Counter()
        """What the clients logged."""

    def start(self, name: str, run: Run) -> Program:
        program = Program(self, name, run)
        self.programs.append(program)
        return program

    async def end(self) -> None:
        """Ask whoever runs to end, and wait for it."""
        for program in self.programs:
            program.is_closing = True
        for program in list(self.programs):
            await program.ended()

    async def replace(self, name: str, run: Run, mean_life_s: float, *, is_over: Callable[[], bool]) -> None:
        """Run such a program until the faults are over, and one instance after the other is killed, cancelled or
        closed; then one until `is_over`.
        """
        dice = self.cluster.random(f"fate of {name}")
        number = 0
        while not is_over():
            number += 1
            program = self.start(f"{name}.{number}", run)
            patience_s = dice.expovariate(1 / mean_life_s)
            while not program.is_over and not is_over() and (self.cluster.is_calm or patience_s > 0):
                await asyncio.sleep(0.1)
                patience_s -= 0.1
            if not program.is_over and not self.cluster.is_calm:
                dice.choice((program.kill, program.kill, program.cancel, program.close))()
                if dice.random() < 0.3:
                    # While it closes, more often than not.
                    await asyncio.sleep(dice.choice((0.001, 0.2)) * dice.random())
                    program.cancel()
            elif is_over():
                program.close()
            await program.ended()
            await asyncio.sleep(dice.choice((0.0, 0.3)))


class Program:
    """One of them. Its code asks `is_closing` whether to go on."""

    def __init__(self, world: World, name: str, run: Run) -> None:
        self.world = world
        self.cluster = world.cluster
        self.name = name
        self.dice = world.cluster.random(f"program {name}")
        self.is_closing = False
        self.is_cancelled = False
        self.doing: tuple[str, float] | None = None
        """The call it is in, and since when."""
        self.got_on_s = 0.0
        """When something of its work was done for the last time."""
        self.process = Process(world.cluster.loop)
        self.task = self.process.start(run(self))

    def __repr__(self) -> str:
        return self.name

    @property
    def is_dead(self) -> bool:
        return self.process.is_dead

    @property
    def is_over(self) -> bool:
        return self.is_dead or self.task.done()

    def kill(self) -> None:
        """Without a word."""
        if not self.is_over:
            self.cluster.count("programs killed")
            self.process.kill()

    def cancel(self) -> None:
        """As Ctrl-C does."""
        if not self.is_over:
            self.cluster.count("programs cancelled")
            self.is_cancelled = True
            self.task.cancel()

    def close(self) -> None:
        """Let it come to its end."""
        self.is_closing = True

    async def ended(self) -> None:
        """Until it is over; it must not take for ever, raise, or leave anything behind."""
        if self.is_dead:
            return
        done, _ = await asyncio.wait({self.task}, timeout=PATIENCE_S)
        if self.is_dead:
            return
        if not done:
            self.cluster.fail(f"{self} does not end: it is in {self.doing}")
            self.process.kill()
            return
        if not self.task.cancelled() and (error := self.task.exception()) is not None:
            import traceback

            self.cluster.fail(f"{self} raised: " + "".join(traceback.format_exception(error)))
        elif self.task.cancelled() and not self.is_cancelled:
            self.cluster.fail(f"{self} was cancelled by nobody, in {self.doing}")
        await asyncio.sleep(0.2)  # the last bytes on the way
        if remains := self.process.remains():
            self.cluster.fail(f"{self} has ended, and left behind {'; '.join(remains)[:1500]}")

    # -- calls

    def gets_on(self) -> None:
        """Something of its work is done."""
        self.got_on_s = self.cluster.now()

    async def call(self, what: str, work: Awaitable[T], limit_s: float) -> T:
        """Await something that must end in time, with a result or a KafkaError."""
        started_s = self.cluster.now()
        self.doing = what, started_s
        try:
            return await work
        except (KafkaError, asyncio.CancelledError):
            raise
        except Exception as error:
            if self.is_dead:
                raise
            raise AssertionError(f"{self}: {what} raised {error!r}") from error
        finally:
            self.doing = None
            took_s = self.cluster.now() - started_s
            if took_s > limit_s + GRACE_S and not self.is_dead:
                self.cluster.fail(f"{self}: {what} took {took_s:.3f} s, and had {limit_s} s")

    async def think(self, mean_s: float) -> None:
        """The user's own code."""
        await asyncio.sleep(self.dice.expovariate(1 / mean_s))

    # -- clients, with dice of their own, so that a seed gives one run

    def producer(self, settings: dict[str, Any]) -> Producer[Any, Any]:
        producer: Producer[Any, Any] = Producer(self.cluster.bootstrap, COMMON | {"client.id": self.name} | settings)
        _throw(producer._engine.cluster._random, self.dice)
        loop = self.cluster.loop
        producer._engine.accumulator.time = lambda: START_MS / 1000 + loop.time()
        return producer

    def consumer(self, settings: dict[str, Any], **more: Any) -> Consumer[Any, Any]:
        consumer: Consumer[Any, Any] = Consumer(
            self.cluster.bootstrap, CONSUMING | {"client.id": self.name} | settings, **more
        )
        consumer._news_interval_ms = 0
        engine = consumer._engine
        _throw(engine.cluster._random, self.dice)
        if engine.member is not None:
            _throw(engine.member._random, self.dice)
        return consumer

    def share_consumer(self, settings: dict[str, Any], **more: Any) -> ShareConsumer[Any, Any]:
        consumer: ShareConsumer[Any, Any] = ShareConsumer(
            self.cluster.bootstrap, CONSUMING | {"client.id": self.name} | settings, **more
        )
        _throw(consumer._cluster._random, self.dice)
        consumer._membership.member_id = uuid_to_text(self.dice.randbytes(16))
        return consumer

    def admin(self, **names: Any) -> Admin:
        admin = Admin(
            self.cluster.bootstrap, COMMON | {"client.id": self.name, "default.api.timeout.ms": 5_000} | names
        )
        _throw(admin._cluster._random, self.dice)
        return admin


def _throw(random: Random, dice: Random) -> None:
    random.seed(dice.random())


class Lines(logging.Handler):
    """Counts what clients log."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.INFO)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        self._world.lines[record.getMessage()] += 1


@asynccontextmanager
async def world_around(cluster: Cluster, share: float) -> AsyncIterator[World]:
    """A world that hears the clients' log, and whose proxy is open."""
    world = World(cluster, share)
    lines = Lines(world)
    logger = logging.getLogger("ottla.client")
    level = logger.level
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    try:
        await world.proxy.open()
        yield world
    finally:
        logger.removeHandler(lines)
        logger.setLevel(level)
