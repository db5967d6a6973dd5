"""One node that is killed and comes back, the faults around it, and what went wrong.

Two kinds of end. A killed process leaves its page cache to the machine, so whatever was acknowledged has to be there
afterwards. When the power is lost, what was not flushed may be gone, and with Kafka's defaults nothing is flushed
before it is acknowledged: there replication is the promise, which a single node does not have. So power is cut where
every batch is flushed (`log.flush.interval.messages=1`), or where only the consistency of what is left is looked at.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from enum import Enum
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from ottla.core.errors import ErrorCode
from ottla.runtime.memory_disk import CHANGING, MemoryDisk
from ottla.schema.config import BrokerConfig
from ottla.server.node.node import Node
from ottla.testing.sim.env import SimulatedEnv
from ottla.testing.sim.loop import VirtualTimeLoop
from ottla.testing.sim.process import Process, run_processes

if TYPE_CHECKING:
    from tests.simulation.workloads.client import Client

Result = TypeVar("Result")

ADDRESS = "127.0.0.1:9092"
SETTINGS: dict[str, object] = {
    "listeners": f"PLAINTEXT://{ADDRESS}",
    "log.dirs": "/data",
    "log.cleaner.backoff.ms": 500,
    "log.cleaner.min.cleanable.ratio": 0.01,
    "log.initial.task.delay.ms": 1000,
    "offsets.topic.num.partitions": 2,
    "transaction.state.log.num.partitions": 2,
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1000,
    "share.coordinator.state.topic.num.partitions": 2,
    "share.coordinator.state.topic.prune.interval.ms": 5000,
    "group.initial.rebalance.delay.ms": 300,
    "group.min.session.timeout.ms": 3000,
    "group.consumer.min.session.timeout.ms": 3000,
    "group.consumer.session.timeout.ms": 6000,
    "group.consumer.min.heartbeat.interval.ms": 500,
    "group.consumer.heartbeat.interval.ms": 1000,
    "group.share.min.session.timeout.ms": 3000,
    "group.share.session.timeout.ms": 6000,
    "group.share.min.heartbeat.interval.ms": 500,
    "group.share.heartbeat.interval.ms": 1000,
    "group.share.min.record.lock.duration.ms": 1000,
    "group.share.record.lock.duration.ms": 5000,
    "group.share.initialize.retry.interval.ms": 2000,
}
LONGEST_DOWN_S = 3.0
LONGEST_RUN_S = 1000.0


class Ending(Enum):
    """How a life of the node ends."""

    KILLED = "the process is killed"
    POWER_LOST = "the machine loses power"


class Cluster:
    """The node, its disk, and the record of what its programs complained about.

    `is_calm`: the faults are over. `may_lose`: power is cut, and what was acknowledged is not flushed. `random(name)`
    gives everybody dice of their own, so that one program throwing once more changes nothing for the others.
    """

    def __init__(
        self,
        loop: VirtualTimeLoop,
        seed: object,
        settings: dict[str, object] | None = None,
        *,
        ending: Ending = Ending.KILLED,
        cuts: float = 0.02,
        may_lose: bool = False,
    ) -> None:
        self.loop = loop
        self.may_lose = may_lose
        self.seed = seed
        self.settings = SETTINGS | (settings or {})
        self.ending = ending
        self.cuts = cuts
        self.is_calm = False
        self.disk = MemoryDisk()
        self.lives = 0
        self.node: Node | None = None
        self.failures: list[str] = []
        self.counts: dict[str, int] = {}
        self.expects_disk_errors = False
        self.has_late_requests = False
        """Whether a request may arrive after its sender has given it up."""
        self.refusals: frozenset[ErrorCode] = frozenset()
        """What programs may be told for good, though they ask for nothing that cannot be had."""
        self.stopped_s: list[float] = []
        """When the node came to an orderly end."""
        self.connections: set[asyncio.StreamWriter] = set()  # of clients, to end with the simulation
        self._dice = self.random("cluster")
        self._process: Process | None = None
        self._died = asyncio.Event()
        self._tasks: list[asyncio.Task[Any]] = []

    def random(self, name: str) -> Random:
        """Dice that belong to `name`."""
        return Random(f"{self.seed} {name}")

    def now(self) -> float:
        """Virtual seconds."""
        return self.loop.time()

    def now_ms(self) -> int:
        """What a right wall clock shows."""
        return self.disk.now_ms()

    def count(self, what: str, number: int = 1) -> None:
        """Something happened that a run is worth something by."""
        self.counts[what] = self.counts.get(what, 0) + number

    def client(self, name: str) -> Client:
        """A client of the wire by this name."""
        from tests.simulation.workloads.client import Client

        return Client(self, name)

    @property
    def bootstrap(self) -> str:
        """Where clients begin."""
        from tests.simulation.workloads.proxy import PROXY_ADDRESS

        return PROXY_ADDRESS

    def leader_epoch(self, topic: str, partition: int) -> int | None:
        """The leader epoch of a partition, where somebody looks after it."""
        return None

    @property
    def replication_factor(self) -> int:
        """What topics are created with."""
        return 1

    def fail(self, message: str) -> None:
        """A guarantee is broken."""
        self.failures.append(f"at {self.now():.3f} s: {message}")

    def fail_promise(self, message: str) -> None:
        """What clients were promised is broken. Where acknowledged data may be lost, that is no news."""
        if not self.may_lose:
            self.fail(message)

    def check(self) -> None:
        """AssertionError when something went wrong already."""
        assert not self.failures, self.failures[0]

    # -- programs beside the node

    def spawn(self, program: Coroutine[Any, Any, object]) -> asyncio.Task[Any]:
        """Run a program until it ends or the simulation does; what it raises is a failure."""
        task = self.loop.create_task(program)
        self._tasks.append(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            import traceback

            self.fail("".join(traceback.format_exception(error)))

    # -- the node

    async def start(self) -> None:
        """Bring the node up, however often it ends meanwhile."""
        while True:
            self.lives += 1
            process = self._process = Process(self.loop)
            self._died = asyncio.Event()
            self.disk.on_crash = self._crashed
            env = SimulatedEnv(self.loop, self.random(f"life {self.lives}"), self.disk)
            self.disk.now_ms = env.clock.now_ms
            node = Node(BrokerConfig.of(self.settings), env)
            starting = process.start(node.start())
            death = self.loop.create_task(self._died.wait())
            await asyncio.wait((starting, death), return_when=asyncio.FIRST_COMPLETED)
            death.cancel()
            if starting.done() and not process.is_dead:
                if (error := starting.exception()) is None:
                    self.node = node
                    return
                if not self.expects_disk_errors:
                    raise error
                process.kill()
            await self._restart_disk()

    def _crashed(self) -> None:
        self.node = None
        assert self._process is not None
        self._process.kill()
        self._died.set()

    async def _restart_disk(self) -> None:
        await asyncio.sleep(self._dice.uniform(0, LONGEST_DOWN_S) if self._dice.random() < 0.5 else 0)
        if self.ending is Ending.POWER_LOST and self._dice.random() < 0.7:
            self.count("power lost")
            self.disk.crash(self._dice)
        else:
            self.count("killed")
            self.disk.restart_process()
        self.disk.clear_faults()

    async def stop(self) -> None:
        """An orderly end."""
        node, process = self.node, self._process
        if node is not None and process is not None:
            self.node = None
            self.stopped_s.append(self.now())
            self.lives += 1  # connections end one by one, while others are still served
            stopping = process.start(node.stop())
            death = self.loop.create_task(self._died.wait())
            await asyncio.wait((stopping, death), return_when=asyncio.FIRST_COMPLETED, timeout=60)
            death.cancel()
            if process.is_dead:
                await self._restart_disk()
                return
            if not stopping.done():
                self.fail("the node does not stop")
            else:
                stopping.result()
            process.kill()
            self.disk.restart_process()

    async def die(self, seconds: float) -> None:
        """Killed, away for so long, and up again."""
        self._crashed()
        await asyncio.sleep(seconds)
        await self._restart_disk()
        await self.start()

    async def trouble(self, seconds: float) -> None:
        """End and restart the node at random for a while; at the end it is up, and the faults are over."""
        deadline = self.now() + seconds
        dice = self._dice
        while self.now() < deadline:
            kind = dice.random()
            patience = min(dice.choice((1.0, 6.0, 15.0)) * dice.random(), deadline - self.now())
            if kind < 0.5:
                self.disk.crash_at(dice.choice((dice.randint(1, 30), dice.randint(1, 300), dice.randint(1, 1500))))
                patience = min(15.0, deadline - self.now())
            elif kind < 0.6 and self.ending is Ending.KILLED:
                self.expects_disk_errors = True
                self.disk.fail_at(dice.randint(1, 300), dice.choice((errno.EIO, errno.ENOSPC)), operations=CHANGING)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._died.wait(), patience)
            if self._died.is_set():
                self.count("crashes in an operation of the disk")
                await self._restart_disk()
            elif dice.random() < 0.15 and not self.expects_disk_errors:
                self.count("orderly restarts")
                await self.stop()
            else:
                self._crashed()
                await self._restart_disk()
            self.disk.clear_faults()
            self.expects_disk_errors = False
            await self.start()
        self.is_calm = True

    # -- what is said

    def hear(self, context: dict[str, Any]) -> None:
        """An exception that nobody took (`run_processes`)."""
        error = context.get("exception")
        import traceback

        text = "".join(traceback.format_exception(error)) if error is not None else ""
        self.fail(f"{context.get('message')}: {context.get('task') or context.get('handle') or ''} {text}")


_FORMATTER = logging.Formatter("%(name)s: %(message)s")


class _Listener(logging.Handler):
    def __init__(self, cluster: Cluster) -> None:
        super().__init__(logging.ERROR)
        self._cluster = cluster

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "ottla.client" and not record.exc_info:
            return  # what users have to know of: records that could not be delivered
        if record.exc_info or not self._cluster.expects_disk_errors:
            self._cluster.fail(f"logged: {_FORMATTER.format(record)}")


def run_cluster(
    main: Callable[[Cluster], Coroutine[Any, Any, Result]],
    *,
    seed: object,
    settings: dict[str, object] | None = None,
    shuffle: bool = False,
    ending: Ending = Ending.KILLED,
    cuts: float = 0.02,
    may_lose: bool = False,
) -> Result:
    """Run `main(cluster)` beside a node; AssertionError with the seed when anything was not as it has to be."""
    heard: list[Cluster] = []

    async def beside(loop: VirtualTimeLoop) -> Result:
        cluster = Cluster(loop, seed, settings, ending=ending, cuts=cuts, may_lose=may_lose)
        heard.append(cluster)
        listener = _Listener(cluster)
        logger = logging.getLogger("ottla")
        logger.addHandler(listener)
        try:
            await cluster.start()
            async with asyncio.timeout(LONGEST_RUN_S):
                result = await main(cluster)
            await cluster.stop()
            cluster.check()
            return result
        finally:
            logger.removeHandler(listener)
            for writer in cluster.connections:
                writer.transport.abort()

    try:
        return run_processes(
            beside, seed=seed, shuffle=shuffle, on_error=lambda context: heard and heard[0].hear(context)
        )
    except BaseException as error:
        error.add_note(f"seed {seed!r}")
        for failure in heard[0].failures[:10] if heard else ():
            error.add_note(failure)
        raise
