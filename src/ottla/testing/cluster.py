"""`Cluster`: Kafka inside the test process.

    with Cluster() as kafka:                       # blocking
        kafka.create_topic("orders")
        shop.run(bootstrap_servers=kafka.bootstrap_servers)
        assert kafka.read("orders", dict, count=1) == [{"id": 1}]

    async with Cluster() as kafka:                 # asyncio: the same, awaited
        await kafka.create_topic("orders")

Each broker is the one that `ottla start` runs, on a thread of its own, with a socket on a free port of 127.0.0.1; its
disk is memory unless `data` says where. What the helpers do is in `operations`; how one text of theirs serves both
kinds of callers, in `steps`.
"""

from __future__ import annotations

import asyncio
import functools
import threading
import warnings
import weakref
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

from ottla.client.errors import ConfigError, IllegalStateError, KafkaError
from ottla.core.errors import ApiError
from ottla.runtime.env import Env
from ottla.runtime.memory_disk import MemoryDisk
from ottla.runtime.real_disk import RealDisk
from ottla.schema.config import BrokerConfig
from ottla.schema.definition import SettingError
from ottla.testing.async_cluster import AsyncCluster
from ottla.testing.clock import ClusterClock
from ottla.testing.disk import ClusterDisk
from ottla.testing.groups import GroupOperations
from ottla.testing.ports import reserve
from ottla.testing.reset import reset
from ottla.testing.runner import (
    BrokerThread,
    ClusterEnv,
    InlineEnv,
    start_together,
    stop_together,
)
from ottla.testing.steps import Ask, drive

if TYPE_CHECKING:
    import socket
    from types import TracebackType

    from ottla.server.metadata.image import MetadataImage
    from ottla.testing.faults import Faults
    from ottla.testing.layout import Quorum
    from ottla.testing.security import ClusterSecurity, Users

P = ParamSpec("P")
T = TypeVar("T")

DEFAULTS: Mapping[str, str] = {
    # One partition of internal topics: each is a directory with files, made when the first group comes.
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    # Kafka waits three seconds for more members before a group's first assignment.
    "group.initial.rebalance.delay.ms": "0",
    # What a test deletes is gone, and not a minute later.
    "log.segment.delete.delay.ms": "0",
}
"""Where a broker for tests is not what Kafka's documentation says, unless `settings` say otherwise."""

HOST = "127.0.0.1"
WORKER_THREADS = 2

_OPERATIONS = GroupOperations()

Topics = str | Iterable[str] | Mapping[str, int]
"""A name, names, or names with their numbers of partitions."""


def partition_counts(topics: Topics) -> dict[str, int]:
    """The topics with their numbers of partitions."""
    if isinstance(topics, str):
        return {topics: 1}
    return dict(topics) if isinstance(topics, Mapping) else dict.fromkeys(topics, 1)


def blocking(
    helper: Callable[Concatenate[GroupOperations, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Cluster, P], T]:
    """A helper as a plain method."""

    @functools.wraps(helper)
    def call(self: Cluster, /, *arguments: P.args, **named: P.kwargs) -> T:
        try:
            return drive(helper(_OPERATIONS, *arguments, **named), self._ask)
        except AssertionError as error:
            if asyncio._get_running_loop() is not None:
                error.add_note(
                    f"The event loop of this thread stood still meanwhile: await cluster.aio.{helper.__name__}(…)"
                )
            raise

    return call


class Cluster:
    """Brokers in this process, and what tests want of them. May be used from several threads."""

    def __init__(
        self,
        brokers: int = 1,
        *,
        data: Path | str | None = None,
        settings: Mapping[str, object] | None = None,
        topics: Topics = (),
        port: int = 0,
        security: str = "PLAINTEXT",
        users: Users = (),
    ) -> None:
        """Nothing is started. Raises `ConfigError` for settings that cannot be.

        `data` is a directory to keep data in (None: memory), `settings` are a broker's, by Kafka's names; `topics` are
        made at the start: one name, names, or names with their numbers of partitions. `port` is that of the first
        broker, and the next ones of the others; 0 takes free ones.

        `security` is the protocol that clients have to speak ("SSL", "SASL_PLAINTEXT", "SASL_SSL"), `users` are those
        who may log in: names with passwords, or names. `client_settings` is what their clients need.
        """
        if brokers < 1:
            raise ConfigError(f"a cluster has one broker at least, not {brokers}.", hint="")
        self._data = None if data is None else Path(data)
        self._settings = dict(settings or {})
        self._security = None if security == "PLAINTEXT" and not users else _secured(security, users)
        self._quorum = None if brokers == 1 else self._new_quorum(brokers)
        self._topics = partition_counts(topics)
        self.clock = ClusterClock()
        self.disks = [self._new_disk() for _ in range(brokers)]
        self._first_port = port
        self._ports = self._chosen_ports(brokers)
        self._is_bound = False
        """The ports are those of brokers."""
        self._reserved: list[socket.socket | None] = [None] * brokers
        """The ports of the brokers that were killed."""
        self._configs = [self._config(index) for index in range(brokers)]
        self.threads: list[BrokerThread | None] = [None] * brokers
        """The lives of the brokers that are under way; None for one that was never started."""
        self._fresh: MetadataImage | None = None
        self._faults: Faults | None = None
        self._lock = threading.RLock()
        weakref.finalize(self, _forgotten, self.threads).atexit = False

    # Life

    def start(self) -> Self:
        """Start the brokers; clients are served when it returns."""
        with self._lock:
            if self.is_running:
                raise IllegalStateError("the cluster runs already.", hint="")
            try:
                self._start_brokers(range(len(self.threads)))
                self.add_topics(self._topics)
            except BaseException:
                self.stop()
                raise
        return self

    def stop(self) -> None:
        """Stop the brokers in order. What is in memory is gone, what is in `data` stays."""
        with self._lock:
            self._clear_faults()
            # Brokers that are no controllers first: they need one to leave in order.
            for is_controller in (False, True):
                stop_together([one for one in self.threads if one and one.node.config.is_controller == is_controller])
            for index in range(len(self.threads)):
                self._detach_faults(index)
                self._release_port(index)
            self._ports = self._chosen_ports(len(self.threads))
            self._is_bound = False
            self._renew()

    def kill(self, broker: int = 0, *, power_loss: bool = False) -> None:
        """End a broker as `kill -9` would: connections break, nothing is flushed. `restart` finds what was written.

        With `power_loss` the machine goes down with it: of what was not flushed, `restart` finds some or nothing, and
        some of it torn. That is for clusters in memory.
        """
        with self._lock:
            if power_loss and self._data is not None:
                raise ConfigError("power can be lost by a cluster in memory only.", hint="Make it without data=.")
            self.thread(broker).kill()
            self._detach_faults(broker)
            self._reserve_port(broker)
            if power_loss:
                self.disks[broker].lose_power(Random(0))
            else:
                self.disks[broker].end_process()

    def restart(self, broker: int = 0, *others: int) -> None:
        """Start a broker again at its address, with its data: one that was killed, or one that runs (in order).

        Several start together: where most controllers were killed, none of them could alone.
        """
        with self._lock:
            brokers = (broker, *others)
            stop_together([thread for index in brokers if (thread := self.threads[index]) is not None])
            self._start_brokers(brokers)

    def reset(self) -> None:
        """Make the cluster as new for the next test: no topics (but those of the constructor), groups, offsets,
        transactions, dynamic settings, quotas and faults; brokers that were killed run again, and the clock shows real
        time.

        Topics that are made again have new ids. Clients may stay connected, unless the brokers had to be started anew
        (after a kill, a skip of the clock, or a change that can not be taken back).
        """
        with self._lock:
            self._clear_faults()
            if not self._has_reset():
                self._restart_as_new()
            self.add_topics(self._topics)

    def add_topics(self, topics: Topics) -> None:
        """Make topics with nothing in them. Those that are there are made anew: a client that has outlived its test
        may be faster.
        """
        for topic, partitions in partition_counts(topics).items():
            self._renew_topic(topic, partitions)

    # What goes wrong

    @property
    def faults(self) -> Faults:
        """Faults by plain calls; see `ottla.testing.faults`."""
        with self._lock:
            if self._faults is None:
                from ottla.testing.faults import Faults

                self._faults = Faults(weakref.proxy(self))
            return self._faults

    def skip(self, seconds: float) -> None:
        """Move the brokers' clock forward. What is due in that time (retention, sessions, timeouts) has happened when
        this returns, in its order. Clients do not skip: to a broker they were silent for that long.
        """
        self.clock.skip(seconds)

    def _clear_faults(self) -> None:
        if self._faults is not None:
            self._faults.clear()

    def _detach_faults(self, broker: int) -> None:
        if self._faults is not None:
            self._faults.detach(broker)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> AsyncCluster:
        return await self.aio.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    # What it is

    @property
    def aio(self) -> AsyncCluster:
        """The same helpers as coroutines, for code that runs in an event loop."""
        return AsyncCluster(self)

    @property
    def is_running(self) -> bool:
        """Whether any broker runs."""
        return any(thread is not None and thread.is_running for thread in self.threads)

    @property
    def bootstrap_servers(self) -> str:
        """Where clients begin: `127.0.0.1:port`, comma-separated. It stays the same when brokers are restarted."""
        if not self._is_bound:
            raise IllegalStateError("the cluster was not started.", hint="Use `with`, or start().")
        return ",".join(f"{HOST}:{port}" for port in self._ports)

    def client_settings(
        self, user: str | None = None, mechanism: str = "PLAIN", *, librdkafka: bool = False
    ) -> dict[str, str]:
        """What a client has to be told to log in as this user (the first one without a name): settings by Kafka's
        names, for Ottla's clients and Java's, or by librdkafka's, for confluent-kafka.
        """
        if self._security is None:
            return {"bootstrap.servers": self.bootstrap_servers}
        return self._security.client_settings(self.bootstrap_servers, user, mechanism, librdkafka=librdkafka)

    def thread(self, broker: int = 0) -> BrokerThread:
        """The running broker of that index, for what the helpers do not offer: `thread.node`, `thread.call`."""
        thread = self.threads[broker]
        if thread is None:
            raise IllegalStateError("the cluster was not started.", hint="Use `with`, or start().")
        return thread

    def __repr__(self) -> str:
        where = f" at {self.bootstrap_servers}" if self.is_running else ", stopped"
        return f"<Cluster of {len(self.threads)}{where}>"

    # Helpers: see `Operations` and `GroupOperations`

    topics = blocking(GroupOperations.topics)
    create_topic = blocking(GroupOperations.create_topic)
    delete_topic = blocking(GroupOperations.delete_topic)
    produce = blocking(GroupOperations.produce)
    records = blocking(GroupOperations.records)
    read = blocking(GroupOperations.read)
    end_offsets = blocking(GroupOperations.end_offsets)
    start_offsets = blocking(GroupOperations.start_offsets)
    groups = blocking(GroupOperations.groups)
    group = blocking(GroupOperations.group)
    committed = blocking(GroupOperations.committed)
    lag = blocking(GroupOperations.lag)
    wait_until = blocking(GroupOperations.wait_until)
    assert_topic_empty = blocking(GroupOperations.assert_topic_empty)
    assert_lag_zero = blocking(GroupOperations.assert_lag_zero)
    assert_group_stable = blocking(GroupOperations.assert_group_stable)
    assert_group_empty = blocking(GroupOperations.assert_group_empty)

    # Within

    _renew_topic = blocking(GroupOperations.renew_topic)

    def _start_brokers(self, indexes: Iterable[int]) -> None:
        """Together: those of a quorum wait for each other."""
        if self._quorum is not None:
            self._quorum.choose_ports()
        indexes = list(indexes)
        threads = [self._new_life(index) for index in indexes]
        start_together(threads)
        for index, thread in zip(indexes, threads, strict=True):
            self._ports[index] = int(thread.node.bootstrap_servers.rpartition(":")[2])
        self._is_bound = True
        if self._security is not None and self._security.is_missing(threads[0].node):
            self._add_users(self._security)
        if self._fresh is None:
            self._fresh = threads[0].node.broker.image
        if self._faults is not None:
            for index in indexes:
                self._faults.attach(index)

    def _add_users(self, security: ClusterSecurity) -> None:
        """Credentials that all brokers know before anybody logs in."""
        from ottla.testing.reset import follow

        running = [thread for thread in self.threads if thread is not None and thread.is_running]
        controller = self._asked(running[0].node.broker.metadata.leader.leader_id)
        controller.run(security.add_users(controller.node))
        offset = controller.node.broker.metadata.offset
        for thread in running:
            thread.run(follow(thread.node, offset))

    def _chosen_ports(self, brokers: int) -> list[int]:
        first = self._first_port
        if first + brokers - 1 > 65535:
            raise ConfigError(f"there are not {brokers} ports from {first} on.", hint="Choose a lower one.")
        return [first + index for index in range(brokers)] if first else [0] * brokers

    def _new_life(self, index: int) -> BrokerThread:
        if self._quorum is not None:
            directory = self._configs[index].log_dirs[0]
            self._quorum.prepare(self.disks[index], directory, index, self.clock.now_ms())
        thread = BrokerThread(
            self._config(index),
            self._env(index),
            loop_factory=self.clock.loop_factory,
            name=f"ottla-broker-{index}",
            outlives_process=self._data is not None,
        )
        self.threads[index] = thread
        self._release_port(index)
        return thread

    def _reserve_port(self, index: int) -> None:
        """Nobody else shall have a killed broker's port until it is back."""
        if self._reserved[index] is None:
            self._reserved[index] = reserve(HOST, self._ports[index])

    def _release_port(self, index: int) -> None:
        reserved, self._reserved[index] = self._reserved[index], None
        if reserved is not None:
            reserved.close()

    def _has_reset(self) -> bool:
        """Whether the brokers could be made as new while they run."""
        fresh = self._fresh
        if fresh is None or self.clock.offset_ms or not all(one is not None and one.is_running for one in self.threads):
            return False
        try:
            if len(self.threads) == 1:
                return bool(self._ask(Ask(None, lambda node: reset(node, fresh))))
            return self._has_reset_all(fresh)
        except (ApiError, KafkaError):  # it can not do what it is asked for any more: a disk has failed, say
            return False

    def _has_reset_all(self, fresh: MetadataImage) -> bool:
        """By the controller, and known to all."""
        from ottla.testing.reset import follow

        controller = self._asked(self._asked(None).node.broker.metadata.leader.leader_id)
        if not controller.run(reset(controller.node, fresh)):
            return False
        offset = controller.node.broker.metadata.offset
        for thread in self.threads:
            assert thread is not None
            thread.run(follow(thread.node, offset))
        return True

    def _restart_as_new(self) -> None:
        """On an empty disk, at the same address."""
        for thread in self.threads:
            if thread is not None:
                thread.kill()
        if self._data is not None:
            disk = RealDisk()
            for index in range(len(self.threads)):
                disk.remove_tree(str(self._data / f"broker-{index}"))
        self._renew()
        self._start_brokers(range(len(self.threads)))

    def _renew(self) -> None:
        """No time has passed, and nothing is on the disks."""
        self.clock = ClusterClock()
        if self._quorum is not None and self._data is None:
            self._quorum = self._new_quorum(len(self.disks))
        self.disks = [self._new_disk() for _ in self.disks]

    def _config(self, index: int) -> BrokerConfig:
        port = self._ports[index]
        own: dict[str, object] = (
            {"listeners": f"PLAINTEXT://{HOST}:{port}"} if self._quorum is None else self._quorum.settings(index, port)
        )
        if self._security is not None:
            own |= self._security.settings()
            own["listeners"] = self._security.listeners(str(own["listeners"]))
        settings: dict[str, object] = {
            "node.id": str(index + 1),
            "log.dirs": f"/broker-{index}" if self._data is None else str(self._data / f"broker-{index}"),
            **own,
            **DEFAULTS,
            **self._settings,
        }
        if self._security is not None and self._quorum is not None:
            self._security.let_nodes_in(settings)
        try:
            return BrokerConfig.of(settings)
        except SettingError as error:
            raise ConfigError(str(error), hint="") from None

    def _new_quorum(self, brokers: int) -> Quorum:
        from ottla.testing.layout import OWN_SETTINGS, Quorum

        for name in OWN_SETTINGS:
            if name in self._settings:
                raise ConfigError(f"every broker of several has a {name} of its own.", hint=f"Leave {name} out.")
        if self._data is not None:
            return Quorum.kept_in(self._data, brokers, HOST)
        return Quorum(brokers, HOST)

    def _new_disk(self) -> ClusterDisk:
        if self._data is None:
            return ClusterDisk(MemoryDisk(now_ms=self.clock.now_ms))
        return ClusterDisk(RealDisk())

    def _env(self, index: int) -> Env:
        make = InlineEnv if self._data is None else ClusterEnv
        return make(self.disks[index], self.clock, Random(), worker_threads=WORKER_THREADS)

    def _ask(self, ask: Ask) -> Any:
        thread = self._asked(ask.node_id)
        return thread.run(ask.action(thread.node))

    def _asked(self, node_id: int | None) -> BrokerThread:
        """The broker with that id; None: any that runs."""
        index = next(
            (i for i, one in enumerate(self.threads) if one is not None and one.answers_as(node_id)),
            0,
        )
        return self.thread(index)


def _secured(protocol: str, users: Users) -> ClusterSecurity:
    from ottla.testing.security import ClusterSecurity

    return ClusterSecurity(protocol, users)


def _forgotten(threads: Sequence[BrokerThread | None]) -> None:
    """Nobody has the cluster any more."""
    running = [thread for thread in threads if thread is not None and thread.is_running]
    for thread in running:
        thread.stop()
    if running:
        warnings.warn("unclosed Cluster: use `with`, or stop()", ResourceWarning, stacklevel=2)
