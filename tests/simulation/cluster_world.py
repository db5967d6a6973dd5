"""Whole clusters of nodes on one virtual clock: machines with disks and clocks of their own, that end and come back.

A `ClusterWorld` has the interface of the one-node `workloads.cluster.Cluster`, so that the same programs and checks run
in front of one node and of many. What goes wrong is decided elsewhere (`cluster_faults`), and so is what is looked at
(`cluster_watch`).
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from ottla.cli.kafka.storage_format import Format, InitialVoter
from ottla.core.errors import ErrorCode
from ottla.core.ids import uuid_to_text
from ottla.runtime.memory_disk import MemoryDisk
from ottla.schema.config import BrokerConfig
from ottla.server.node.node import Node
from ottla.testing.sim.env import SimulatedEnv, VirtualClock
from ottla.testing.sim.loop import VirtualTimeLoop
from ottla.testing.sim.process import Process, run_processes
from tests.simulation.workloads.client import Client
from tests.simulation.workloads.cluster import SETTINGS as ONE_NODE

Result = TypeVar("Result")

SETTINGS: dict[str, object] = {
    **{key: value for key, value in ONE_NODE.items() if key not in ("listeners", "log.dirs")},
    "broker.heartbeat.interval.ms": 500,
    "broker.session.timeout.ms": 3000,
    "controller.quorum.election.timeout.ms": 500,
    "controller.quorum.election.backoff.max.ms": 300,
    "controller.quorum.fetch.timeout.ms": 1000,
    "controller.quorum.request.timeout.ms": 1000,
    "controller.socket.timeout.ms": 2000,
    "leader.imbalance.check.interval.seconds": 5,
    "replica.fetch.wait.max.ms": 200,
    "replica.fetch.backoff.ms": 200,
    "replica.lag.time.max.ms": 3000,
    "replica.socket.timeout.ms": 2000,
    "replica.high.watermark.checkpoint.interval.ms": 1000,
    "request.timeout.ms": 4000,
}
REPLICATION: dict[str, object] = {
    "default.replication.factor": 3,
    "min.insync.replicas": 2,
    "offsets.topic.replication.factor": 3,
    "share.coordinator.state.topic.replication.factor": 3,
    "share.coordinator.state.topic.min.isr": 2,
    "transaction.state.log.replication.factor": 3,
    "transaction.state.log.min.isr": 2,
    "unclean.leader.election.enable": "false",
}
HOST = "127.0.0.1"
FIRST_BROKER_PORT, FIRST_CONTROLLER_PORT = 19_000, 29_000
LONGEST_RUN_S = 3000.0
LONGEST_STOP_S = 60.0
LONGEST_START_S = 120.0
RESTART_S = 0.5
"""After which a node that gave up is started again."""


@dataclass(frozen=True)
class Shape:
    """How many machines, and what they are. `controllers` 0: every node is both."""

    brokers: int = 3
    controllers: int = 0
    settings: dict[str, object] = field(default_factory=dict)
    features: dict[str, int] = field(default_factory=dict)
    release_level: int | None = None
    scram: tuple[str, ...] = ()
    """Credentials that the cluster begins with, as `kafka-storage --add-scram` has them."""

    @property
    def is_single(self) -> bool:
        return self.brokers == 1 and not self.controllers

    def roles(self) -> dict[int, str]:
        """What each node is, by its id."""
        if not self.controllers:
            return dict.fromkeys(range(1, self.brokers + 1), "broker,controller")
        brokers = dict.fromkeys(range(1, self.brokers + 1), "broker")
        return brokers | dict.fromkeys(range(101, 101 + self.controllers), "controller")


class Machine:
    """A host with a disk, a clock, and now and then a running node."""

    def __init__(self, world: ClusterWorld, node_id: int, roles: str) -> None:
        self.world = world
        self.node_id = node_id
        self.roles = roles
        self.host = f"node-{node_id}"
        self.disk = MemoryDisk()
        self.clock = VirtualClock(world.loop)
        self.lives = 0
        self.node: Node | None = None
        """When it has started."""
        self.process: Process | None = None
        """While it runs or starts."""
        self.env: SimulatedEnv | None = None
        self.wants_to_run = False
        self.expects_disk_errors = False
        self.own_settings: dict[str, object] = {}
        """Where it differs from the others."""
        self._orders = 0
        """How often it was told to run: only the last order counts."""
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        return self.host

    @property
    def is_broker(self) -> bool:
        return "broker" in self.roles

    @property
    def is_controller(self) -> bool:
        return "controller" in self.roles

    @property
    def is_up(self) -> bool:
        """Whether its node has started, and runs."""
        return self.node is not None and self.process is not None and not self.process.is_dead

    @property
    def address(self) -> tuple[str, int]:
        return HOST, FIRST_BROKER_PORT + self.node_id

    @property
    def controller_address(self) -> tuple[str, int]:
        return HOST, FIRST_CONTROLLER_PORT + self.node_id

    def settings(self) -> dict[str, object]:
        """What its node is told."""
        world, listeners = self.world, []
        found: dict[str, object] = {"node.id": self.node_id, "log.dirs": "/data"}
        if self.is_broker:
            listeners.append(f"PLAINTEXT://{HOST}:{self.address[1]}")
        if not world.shape.is_single:
            found |= REPLICATION if world.shape.brokers >= 3 else {}
            found["process.roles"] = self.roles
            found["controller.listener.names"] = "CONTROLLER"
            if self.is_controller:
                listeners.append(f"CONTROLLER://{HOST}:{self.controller_address[1]}")
            found["controller.quorum.bootstrap.servers"] = ",".join(
                f"{HOST}:{one.controller_address[1]}" for one in world.controllers
            )
            if self.is_controller and self.is_broker:
                # So that what a broker has can be lost without what a voter has.
                found["metadata.log.dir"] = "/metadata"
        found["listeners"] = ",".join(listeners)
        return SETTINGS | found | world.shape.settings | self.own_settings

    @property
    def directories(self) -> list[str]:
        config = BrokerConfig.of(self.settings())
        return list(dict.fromkeys([*config.log_dirs, config.metadata_log_dir]))

    def format(self, *, again: bool = False) -> None:
        """Prepare the disk as `ottla storage format` does."""
        world = self.world
        for directory in self.directories:
            self.disk.make_directories(directory)
        Format(
            node_id=self.node_id,
            cluster_id=world.cluster_id,
            directories=self.directories,
            metadata_log_directory=BrokerConfig.of(self.settings()).metadata_log_dir,
            controller_listener_name="CONTROLLER",
            release_level=world.shape.release_level,
            features=dict(world.shape.features),
            ignore_formatted=again,
            scram=world.shape.scram,
            voters=world.voters if self.is_controller else (),
            has_dynamic_quorum=True,
        ).run(self.disk, lambda line: None)

    # -- life and death

    def start(self) -> None:
        """Have a node running from now on; when it gives up it is started again."""
        if not self.wants_to_run:
            self.wants_to_run = True
            self._orders += 1
            self.world.spawn(self._keep_running(self._orders))
        self._tell_change()

    async def wait_up(self, patience_s: float = LONGEST_START_S) -> None:
        """Until it has started."""
        deadline = self.world.now() + patience_s
        while not self.is_up:
            self.world.check()
            if self.world.now() > deadline:
                raise AssertionError(f"{self} has not started within {patience_s} s")
            await asyncio.sleep(0.05)

    def kill(self) -> None:
        """As with a signal 9; it stays away until `start`."""
        self._end("killed")
        self.disk.restart_process()

    def lose_power(self, random: Random) -> None:
        """Gone with all that is not flushed; it stays away until `start`, and its host is silent meanwhile."""
        self.world.loop.network.links.powerless.add(self.host)
        self._end("power lost")
        self.disk.crash(random)

    def lose_disk(self, what: str = "/data") -> None:
        """An empty disk, formatted as an operator does; for one that does not run."""
        assert self.process is None
        if what == "/data" and "/metadata" in self.directories:
            self.disk.remove_tree("/data")
        else:
            self.disk = MemoryDisk(now_ms=self.clock.now_ms)
        self.world.count("disks lost")
        self.format(again=True)

    async def stop(self) -> None:
        """An orderly end, which must not take for ever; it stays away until `start`."""
        self.wants_to_run = False
        node, process = self.node, self.process
        if node is None or process is None or process.is_dead:
            self._end("killed while it started")
            self.disk.restart_process()
            return
        self.node = None
        self.world.stopped_s.append(self.world.now())
        self.world.note(f"{self} stops")
        stopping = process.start(node.stop())
        deadline = self.world.now() + LONGEST_STOP_S
        while not stopping.done() and not process.is_dead:
            if self.world.now() > deadline and not process.is_frozen:
                stacks = "".join(_stack(task) for task in asyncio.all_tasks() if process.owns_task(task))
                self.world.fail(f"{self} does not stop:\n{stacks}")
                break
            await asyncio.sleep(0.05)
        if stopping.done() and not stopping.cancelled() and stopping.exception() is not None:
            error = stopping.exception()
            assert error is not None
            if not self.expects_disk_errors:
                self.world.fail(f"{self} stops with " + "".join(traceback.format_exception(error)))
        await asyncio.sleep(0.01)
        if not process.is_dead and not self.expects_disk_errors and (remains := process.remains()):
            self.world.fail(f"{self} has stopped, and left behind {'; '.join(remains)[:1500]}")
        process.kill()
        self.process = None
        self.disk.restart_process()
        self._tell_change()

    def freeze(self) -> None:
        """As with a signal STOP."""
        if self.process is not None:
            self.world.note(f"{self} stands still")
            self.process.freeze()

    def thaw(self) -> None:
        """As with a signal CONT."""
        if self.process is not None:
            self.world.note(f"{self} goes on")
            self.process.thaw()

    def _end(self, how: str) -> None:
        self.wants_to_run = False
        if self.process is not None:
            self.world.note(f"{self} is {how}")
            self.world.count(how)
            self.process.kill()
        self.node = self.process = None
        self._tell_change()

    def _tell_change(self) -> None:
        self._changed.set()

    async def _keep_running(self, order: int) -> None:
        """One node after the other, for as long as it is wanted."""
        while self.wants_to_run and order == self._orders:
            self.world.loop.network.links.powerless.discard(self.host)
            await self._live(order)
            if self.wants_to_run and order == self._orders:
                await asyncio.sleep(RESTART_S)

    async def _live(self, order: int) -> None:
        """One life of the node. Returns when it is over."""
        world = self.world
        if self.disk.has_crashed:
            self.disk.restart_process()
        self.lives += 1
        world.lives += 1
        process = self.process = Process(world.loop, self.host)
        self.disk.on_crash = self._crashed
        self.disk.now_ms = self.clock.now_ms
        env = self.env = SimulatedEnv(world.loop, world.random(f"{self.host} life {self.lives}"), self.disk, self.clock)
        node = Node(BrokerConfig.of(self.settings()), env)
        world.note(f"{self} starts")
        starting = process.start(node.start())
        while not process.is_dead and not starting.done():
            await self._wait_for_change(starting)
        if process.is_dead or order != self._orders or not self.wants_to_run:
            return
        if starting.cancelled() or starting.exception() is not None:
            error = starting.exception()
            if not self.expects_disk_errors:
                text = "".join(traceback.format_exception(error)) if error else "cancelled"
                world.fail(f"{self} does not start: {text}")
            self._give_up()
            return
        world.note(f"{self} is up")
        self.node = node
        assert node.failed is not None
        while not process.is_dead and not node.failed.done() and self.wants_to_run:
            await self._wait_for_change(node.failed)
        if not process.is_dead and node.failed.done() and self.node is node:
            if not self.expects_disk_errors:
                world.fail(f"{self} has failed: {node.failed.result()!r}")
            self._give_up()

    def _give_up(self) -> None:
        """The process ends by itself, with a message to its operator."""
        self.world.count("nodes that gave up")
        self.world.note(f"{self} gives up")
        assert self.process is not None
        self.process.kill()
        self.node = self.process = None
        self.disk.clear_faults()
        self.disk.restart_process()

    async def _wait_for_change(self, future: asyncio.Future[Any]) -> None:
        changed = asyncio.ensure_future(self._changed.wait())
        await asyncio.wait((changed, future), return_when=asyncio.FIRST_COMPLETED)
        changed.cancel()
        self._changed.clear()

    def _crashed(self) -> None:
        """An operation of the disk was the last one."""
        self.world.count("crashes in an operation of the disk")
        self._end("crashed")


class ClusterWorld:
    """The machines, and the record of what went wrong.

    `is_calm`: the faults are over. `random(name)` gives everybody dice of their own.
    """

    def __init__(self, loop: VirtualTimeLoop, seed: object, shape: Shape) -> None:
        self.loop = loop
        self.seed = seed
        self.shape = shape
        self.is_calm = False
        self.may_lose = False
        self.cuts = 0.0
        self.lives = 0
        self.has_late_requests = True
        self.refusals = frozenset({ErrorCode.INVALID_REPLICATION_FACTOR, ErrorCode.BROKER_NOT_AVAILABLE})
        """While brokers are away, topics cannot grow, and brokers that were named cannot be asked."""
        self.failures: list[str] = []
        self.counts: dict[str, int] = {}
        self.stopped_s: list[float] = []
        """When a node came to an orderly end: it knows of each producer the last batch only, when it is back."""
        self.connections: set[asyncio.StreamWriter] = set()
        self.notes: list[str] = []
        """What happened to whom, for the eyes."""
        self._tasks: list[asyncio.Task[Any]] = []
        dice = self.random("identities")
        self.cluster_id = uuid_to_text(_uuid(dice))
        self.machines = {node_id: Machine(self, node_id, roles) for node_id, roles in shape.roles().items()}
        self.voters = tuple(InitialVoter(one.node_id, *one.controller_address, _uuid(dice)) for one in self.controllers)

    @property
    def brokers(self) -> list[Machine]:
        return [one for one in self.machines.values() if one.is_broker]

    @property
    def controllers(self) -> list[Machine]:
        return [one for one in self.machines.values() if one.is_controller]

    @property
    def bootstrap(self) -> str:
        """What clients are told."""
        return ",".join(f"{host}:{port}" for host, port in (one.address for one in self.brokers))

    @property
    def replication_factor(self) -> int:
        return min(3, self.shape.brokers)

    @property
    def expects_disk_errors(self) -> bool:
        return any(one.expects_disk_errors for one in self.machines.values())

    def client(self, name: str) -> Client:
        """A client that finds the right node for each request."""
        from tests.simulation.cluster_client import ClusterClient

        return ClusterClient(self, name)

    def leader_epoch(self, topic: str, partition: int) -> int | None:
        """The newest one of a partition that any node knows."""
        from tests.simulation.cluster_watch import newest_image

        image = newest_image(self)
        state = None if image is None else image.topics.partition(topic, partition)
        return None if state is None else state.leader_epoch

    # -- as the cluster of one node has it

    def random(self, name: str) -> Random:
        """Dice that belong to `name`."""
        return Random(f"{self.seed} {name}")

    def now(self) -> float:
        """Virtual seconds."""
        return self.loop.time()

    def now_ms(self) -> int:
        """What a right wall clock shows."""
        return VirtualClock(self.loop).now_ms()

    def count(self, what: str, number: int = 1) -> None:
        """Something happened that a run is worth something by."""
        self.counts[what] = self.counts.get(what, 0) + number

    def note(self, text: str) -> None:
        """For who looks at a failure."""
        self.notes.append(f"{self.now():9.3f} {text}")

    def fail(self, message: str) -> None:
        """A guarantee is broken."""
        self.note(f"FAILURE {message[:200]}")
        self.failures.append(f"at {self.now():.3f} s: {message}")

    fail_promise = fail

    def check(self) -> None:
        """AssertionError when something went wrong already."""
        assert not self.failures, self.failures[0]

    def spawn(self, program: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a program until it ends or the simulation does; what it raises is a failure."""
        task = self.loop.create_task(program)
        self._tasks.append(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail("".join(traceback.format_exception(error)))

    def hear(self, context: dict[str, Any]) -> None:
        """An exception that nobody took (`run_processes`)."""
        error = context.get("exception")
        text = "".join(traceback.format_exception(error)) if error is not None else ""
        self.fail(f"{context.get('message')}: {context.get('task') or context.get('handle') or ''} {text}")

    # -- the cluster

    async def start(self) -> None:
        """Format all disks, and bring all nodes up."""
        for machine in self.machines.values():
            if not self.shape.is_single:
                machine.format()
            machine.start()
        for machine in self.machines.values():
            await machine.wait_up()

    async def stop(self) -> None:
        """An orderly end of all nodes: brokers first, one after the other."""
        for machine in [*self.brokers, *(one for one in self.controllers if not one.is_broker)]:
            await machine.stop()


def run_world(
    main: Callable[[ClusterWorld], Coroutine[Any, Any, Result]],
    *,
    seed: object,
    shape: Shape | None = None,
    shuffle: bool = False,
) -> Result:
    """Run `main(world)` beside a cluster; AssertionError with the seed when anything was not as it has to be."""
    heard: list[ClusterWorld] = []

    async def beside(loop: VirtualTimeLoop) -> Result:
        world = ClusterWorld(loop, seed, shape or Shape())
        heard.append(world)
        listener = _Listener(world)
        logger = logging.getLogger("ottla")
        logger.addHandler(listener)
        try:
            async with asyncio.timeout(LONGEST_RUN_S):
                await world.start()
                result = await main(world)
                await world.stop()
            world.check()
            return result
        finally:
            logger.removeHandler(listener)
            for writer in world.connections:
                writer.transport.abort()

    try:
        return run_processes(
            beside, seed=seed, shuffle=shuffle, on_error=lambda context: heard and heard[0].hear(context)
        )
    except BaseException as error:
        error.add_note(f"seed {seed!r}")
        if heard:
            for failure in heard[0].failures[:10]:
                error.add_note(failure)
            error.add_note("\n".join(heard[0].notes[-60:]))
        raise


class _Listener(logging.Handler):
    """Errors that are logged are failures."""

    def __init__(self, world: ClusterWorld) -> None:
        super().__init__(logging.ERROR)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "ottla.client" and not record.exc_info:
            return  # what users have to know of: records that could not be delivered
        if record.exc_info or not self._world.expects_disk_errors:
            self._world.fail(f"logged: {_FORMATTER.format(record)}")


_FORMATTER = logging.Formatter("%(name)s: %(message)s")


def _uuid(random: Random) -> bytes:
    raw = bytearray(random.randbytes(16))
    raw[0] &= 0x7F  # no dash in front
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    return bytes(raw)


def _stack(task: asyncio.Task[Any]) -> str:
    frames: Iterable[Any] = task.get_stack(limit=3)
    lines = [f"{frame.f_code.co_filename.rpartition('/src/')[2]}:{frame.f_lineno}" for frame in frames]
    return f"{task.get_name()} {task.get_coro()!r} at {', '.join(lines)}\n"
