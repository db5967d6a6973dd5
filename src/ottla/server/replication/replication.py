"""Replication of one broker: fetching what it follows, keeping the ISRs of what it leads, telling where replicas lie.

    replication = Replication(config, env, replicas, directories, peers, controller, lambda: lifecycle.broker_epoch)
    replication.start()                    # before the first image with replicas elsewhere is taken over
    replicas.apply(delta, image)
    replication.apply(delta, image)        # after each commit
    await replication.stop()

A broker whose partitions all have one replica needs none of this (`Replicas.on_replicated` says when it does).

Every leader is fetched from over `num.replica.fetchers` connections, over which its partitions are spread. A
partition that is followed while the leader holds the request on its connection back, as it does when there is nothing
to tell, goes over a second one, so that a new leader need not wait for its followers.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from typing import TYPE_CHECKING, Any, Protocol

from ottla.core.ids import TopicPartition
from ottla.server.metadata.image import ConfigResourceType
from ottla.server.replication.directory_assignments import FIRST_METADATA_VERSION, DirectoryAssignments
from ottla.server.replication.fetch_loop import FetchLoop
from ottla.server.replication.fetcher import FetcherSettings, LeaderFetcher, Stage
from ottla.server.replication.isr_proposals import IsrProposals
from ottla.server.replication.throttle import (
    FOLLOWER_RATE,
    FOLLOWER_REPLICAS,
    LEADER_RATE,
    LEADER_REPLICAS,
    ReplicationThrottle,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ottla.runtime.env import Env
    from ottla.schema.config import BrokerConfig
    from ottla.server.log.directories import LogDirectories
    from ottla.server.log.log import Log
    from ottla.server.metadata.delta import MetadataDelta
    from ottla.server.metadata.image import MetadataImage
    from ottla.server.peers.peers import Address, Peers
    from ottla.server.replication.fetcher import FollowedPartition
    from ottla.server.replication.followers import PendingIsr
    from ottla.server.replication.partition import Partition
    from ottla.server.replication.replicas import Replicas

logger = logging.getLogger(__name__)

LANES = 2
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0


class ControllerPort(Protocol):
    """The way to the active controller (`ottla.server.broker.controller_channel.ControllerChannel`)."""

    async def request(self, message: Any, *, timeout_ms: int) -> Any:
        """The response; raises when no controller answers in time."""


class _Proposals(Protocol):
    def __len__(self) -> int: ...

    def next_request(self, broker_epoch: int) -> Any | None: ...

    def failed(self) -> None: ...

    def answered(self, response: Any) -> bool: ...


class Replication:
    """See the module's docstring. All methods belong to the event loop."""

    def __init__(
        self,
        config: BrokerConfig,
        env: Env,
        replicas: Replicas,
        directories: LogDirectories,
        peers: Peers,
        controller: ControllerPort,
        broker_epoch: Callable[[], int],
    ) -> None:
        self._config = config
        self._env = env
        self._replicas = replicas
        self._directories = directories
        self._peers = peers
        self._controller = controller
        self._broker_epoch = broker_epoch
        self._node_id = replicas.node_id
        windows, window_s = config["replication.quota.window.num"], config["replication.quota.window.size.seconds"]
        self.leader_throttle = ReplicationThrottle(windows, window_s * 1000)
        self.follower_throttle = ReplicationThrottle(windows, window_s * 1000)
        self._loops: dict[tuple[int, int, int], FetchLoop] = {}  # leader, fetcher, lane
        self._homes: dict[Partition, FetchLoop] = {}
        self._addresses: dict[int, tuple[int, Address]] = {}
        self._isr_proposals = IsrProposals(self._node_id)
        self._assignments = DirectoryAssignments(self._node_id)
        self._telling: dict[str, asyncio.Task[None]] = {}
        self._checking: asyncio.TimerHandle | None = None

    # Life

    def start(self) -> None:
        """Listen to where partitions are placed, and look after ISRs from now on."""
        replicas = self._replicas
        replicas.on_placed = self._placed
        replicas.monotonic_ms = _now_ms
        replicas.cluster.propose_isr = self._propose_isr
        replicas.leader_throttle = self.leader_throttle
        replicas.following = self
        self._apply_throttles(replicas.cluster.image)
        self._plan_check()

    async def stop(self) -> None:
        """Fetch no more, ask for nothing more."""
        self._replicas.on_placed = None
        self._replicas.cluster.propose_isr = None
        self._replicas.leader_throttle = None
        if self._checking is not None:
            self._checking.cancel()
        tasks = [loop.stop() for loop in self._loops.values()]
        for task in self._telling.values():
            task.cancel()
            tasks.append(task)
        self._loops.clear()
        self._homes.clear()
        await asyncio.gather(*tasks, return_exceptions=True)

    def apply(self, delta: MetadataDelta, image: MetadataImage) -> None:
        """Follow what has changed besides partitions: addresses of brokers, throttles."""
        self._config = self._replicas.config
        if delta.changed_brokers:
            self._brokers_changed(image)
        if delta.changed_configs:
            self._apply_throttles(image)

    @property
    def fetched(self) -> list[FollowedPartition]:
        """All partitions that are followed, for metrics."""
        return [state for loop in self._loops.values() for state in loop.core.partitions()]

    @property
    def max_lag(self) -> int:
        """How many offsets the furthest of them is behind its leader."""
        return max((state.lag or 0 for state in self.fetched), default=0)

    @property
    def bytes_fetched(self) -> int:
        """Record bytes that came from leaders since the start."""
        return sum(loop.core.bytes_fetched for loop in self._loops.values())

    @property
    def failed_count(self) -> int:
        """Followed partitions that wait for metadata: fenced, or with a failed disk."""
        return sum(state.stage is Stage.WAITING_FOR_METADATA for state in self.fetched)

    # Following

    def _placed(self, partitions: Sequence[Partition]) -> None:
        woken: dict[FetchLoop, None] = {}
        image = self._replicas.cluster.image
        tells_directories = image.metadata_version >= FIRST_METADATA_VERSION
        for partition in partitions:
            if tells_directories:
                self._check_directory(partition, image)
            if partition.leader_id < 0 or partition.is_leader or self._node_id not in partition.replicas:
                self._forget(partition)
            elif (loop := self._follow(partition)) is not None:
                woken[loop] = None
        for loop in woken:
            loop.wake()

    def _forget(self, partition: Partition) -> None:
        loop = self._homes.pop(partition, None)
        if loop is not None:
            loop.core.forget(partition)

    def _follow(self, partition: Partition) -> FetchLoop | None:
        leader_id = partition.leader_id
        home = self._homes.get(partition)
        if home is not None and home.leader_id == leader_id and home.core.follows(partition):
            return None
        self._forget(partition)
        home = self._homes[partition] = self._free_loop(leader_id, self._fetcher_of(partition))
        home.core.follow(partition)
        return home

    def _fetcher_of(self, partition: Partition) -> int:
        count = max(self._config["num.replica.fetchers"], 1)
        return zlib.crc32(repr(partition).encode()) % count if count > 1 else 0

    def _free_loop(self, leader_id: int, fetcher: int) -> FetchLoop:
        """The loop that asks next: one that is not waiting for an answer, else the one whose answer comes first."""
        loops = []
        for lane in range(LANES):
            loop = self._loops.get((leader_id, fetcher, lane))
            if loop is None:
                loop = self._loops[leader_id, fetcher, lane] = self._new_loop(leader_id, fetcher, lane)
            if not loop.is_waiting:
                return loop
            loops.append(loop)
        return min(loops, key=lambda loop: loop.asked_at_s)

    def _new_loop(self, leader_id: int, fetcher: int, lane: int) -> FetchLoop:
        config = self._config
        settings = FetcherSettings(
            wait_max_ms=config["replica.fetch.wait.max.ms"],
            min_bytes=config["replica.fetch.min.bytes"],
            partition_max_bytes=config["replica.fetch.max.bytes"],
            response_max_bytes=config["replica.fetch.response.max.bytes"],
            backoff_ms=config["replica.fetch.backoff.ms"],
        )
        core = LeaderFetcher(self._node_id, self._broker_epoch, settings, self.follower_throttle)
        return FetchLoop(
            leader_id,
            core,
            self._env,
            self._peers,
            lambda: self._address_of(leader_id),
            f"replica-{fetcher}" + "b" * lane,
            config["replica.socket.timeout.ms"],
        )

    def _address_of(self, leader_id: int) -> Address | None:
        broker = self._replicas.cluster.image.brokers.get(leader_id)
        known = self._addresses.get(leader_id)
        if known is not None and broker is not None and known[0] == broker.broker_epoch:
            return known[1]
        endpoint = None if broker is None else broker.endpoints.get(self._config.inter_broker_listener_name)
        if broker is None or endpoint is None:
            return None
        address = endpoint.host, endpoint.port
        self._addresses[leader_id] = broker.broker_epoch, address
        return address

    def _brokers_changed(self, image: MetadataImage) -> None:
        for leader_id, (broker_epoch, address) in list(self._addresses.items()):
            broker = image.brokers.get(leader_id)
            if broker is None or broker.broker_epoch != broker_epoch:
                # Another process: nobody is going to answer what the last one was asked.
                del self._addresses[leader_id]
                self._peers.disconnect(address, "the broker has registered anew.")

    # In-sync replicas

    def _plan_check(self) -> None:
        interval_s = max(self._replicas.cluster.lag_time_max_ms / 2000, 0.01)
        self._checking = asyncio.get_running_loop().call_later(interval_s, self._check_isrs)

    def _check_isrs(self) -> None:
        self._plan_check()
        now_ms = _now_ms()
        for partition in self._replicas:
            if partition.followers is not None:
                partition.check_isr(now_ms)

    def _propose_isr(self, partition: Partition, pending: PendingIsr) -> None:
        logger.info("%s asks for the ISR %s instead of %s", partition, list(pending.isr), list(partition.isr))
        self._isr_proposals.add(partition, pending)
        self._tell("isr", self._isr_proposals)

    # Telling the controller

    def _tell(self, name: str, proposals: _Proposals) -> None:
        if name not in self._telling:
            task = asyncio.get_running_loop().create_task(self._tell_all(proposals), name=f"replication {name}")
            self._telling[name] = task
            task.add_done_callback(lambda _: self._told(name, proposals, task))

    def _told(self, name: str, proposals: _Proposals, task: asyncio.Task[None]) -> None:
        del self._telling[name]
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            logger.error("telling the controller (%s) failed", name, exc_info=error)
        if len(proposals):
            self._tell(name, proposals)  # it came up while the task was ending

    async def _tell_all(self, proposals: _Proposals) -> None:
        """Ask until everything is settled. The controller is asked again and again: nobody else can."""
        pause_s = FIRST_PAUSE_S
        await asyncio.sleep(0)  # what comes up in the same turn goes in one request
        while (request := proposals.next_request(self._broker_epoch())) is not None:
            try:
                response = await self._controller.request(request, timeout_ms=self._config["replica.socket.timeout.ms"])
            except asyncio.CancelledError:
                raise
            except Exception as error:
                logger.warning("the controller did not answer %s: %s", type(request).__name__, error)
                proposals.failed()
                is_well = False
            else:
                is_well = proposals.answered(response)
            if is_well:
                pause_s = FIRST_PAUSE_S
            else:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    # Directories

    def _check_directory(self, partition: Partition, image: MetadataImage) -> None:
        key = partition.topic_id, partition.partition
        topic = image.topics.by_id.get(partition.topic_id)
        placement = None if topic is None else topic.partitions.get(partition.partition)
        home = self._directories.directory_of(TopicPartition(partition.topic, partition.partition))
        if placement is None or home is None or self._node_id not in placement.replicas:
            self._assignments.known(key)
            return
        index = placement.replicas.index(self._node_id)
        stated = placement.directories[index] if index < len(placement.directories) else None
        if stated == home.directory_id:
            self._assignments.known(key)
        elif self._assignments.assign(key, home.directory_id):
            self._tell("directories", self._assignments)

    def log_moved(self, log: Log) -> None:
        """A replica lies in another directory now."""
        partition = self._replicas.get(*log.topic_partition)
        image = self._replicas.cluster.image
        if partition is not None and image.metadata_version >= FIRST_METADATA_VERSION:
            self._check_directory(partition, image)

    # Throttles

    def _apply_throttles(self, image: MetadataImage) -> None:
        config = self._config
        self.leader_throttle.rate = config[LEADER_RATE]
        self.follower_throttle.rate = config[FOLLOWER_RATE]
        for name in self._replicas.by_name:
            settings = image.config_of(ConfigResourceType.TOPIC, name)
            self.leader_throttle.set_replicas(name, settings, LEADER_REPLICAS, self._node_id)
            self.follower_throttle.set_replicas(name, settings, FOLLOWER_REPLICAS, self._node_id)


def _now_ms() -> int:
    return int(asyncio.get_running_loop().time() * 1000)
