"""What a node has to do with other nodes: connections to them, the way to the active controller, its place in the
cluster. A node that is a cluster of its own does without all of it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from ottla.server.broker.controller_channel import ControllerChannel
from ottla.server.broker.departures import Departures
from ottla.server.broker.lifecycle import BrokerDescription, BrokerLifecycle, LifecycleError
from ottla.server.broker.local_controller import LocalController
from ottla.server.broker.producer_ids import ProducerIds
from ottla.server.log.errors import LogError
from ottla.server.log.files import META_PROPERTIES
from ottla.server.node.controller_registration import ControllerRegistration
from ottla.server.node.identity import NODE_CLIENT_ID
from ottla.server.node.peer_security import outgoing_security
from ottla.server.peers.peers import Peers, PeerSettings
from ottla.server.replication.replication import Replication

if TYPE_CHECKING:
    from collections.abc import Callable

    from ottla.runtime.disk import Disk
    from ottla.runtime.env import Env
    from ottla.schema.config import BrokerConfig
    from ottla.server.broker.broker import Broker
    from ottla.server.controller.alone import BrokerRegistration
    from ottla.server.controller.service import Controller
    from ottla.server.log.directories import LogDirectories
    from ottla.server.log.log import Log
    from ottla.server.metadata.cluster import ClusterMetadata
    from ottla.server.metadata.delta import MetadataDelta
    from ottla.server.metadata.image import MetadataImage

logger = logging.getLogger(__name__)

LEAVE_TIMEOUT_MS: Final = 60_000
"""A controlled shutdown that takes longer is not waited for (Kafka waits five minutes)."""
ANNOUNCEMENT_S: Final = 0.2
"""So long has a broker that was told to stop at the same moment to say so."""
LOOK_AGAIN_S: Final = 0.05
PATIENCE_S: Final = 5.0
"""So long is waited for the cluster before a line says so, and again after each such time."""


def check_formatted(config: BrokerConfig, disk: Disk) -> None:
    """Refuse to begin a new data directory for a node of a cluster that others have to know of: LogError.

    A broker, or a controller of a static quorum, whose settings name the cluster (`cluster.id`) need not be formatted.
    """
    directory = config.metadata_log_dir
    if disk.exists(f"{directory}/{META_PROPERTIES}"):
        return
    if config.cluster_id is not None and (not config.is_controller or config["controller.quorum.voters"]):
        return
    raise LogError(
        f"{directory} is not formatted, and this node belongs to a cluster: run `ottla storage format` with its "
        "settings and the cluster's id first"
    )


class Membership:
    """Made before the metadata log, which needs connections; `compose` when the broker's parts are there.

    Raises SettingError when the security of other nodes' listeners cannot be had.
    """

    def __init__(self, config: BrokerConfig, env: Env) -> None:
        self.security = outgoing_security(config, env)
        self.peers = Peers(
            client_id=f"{NODE_CLIENT_ID}{config.node_id}",
            settings=PeerSettings(
                connection_setup_timeout_ms=config["socket.connection.setup.timeout.ms"], security=self.security
            ),
        )
        self.lifecycle: BrokerLifecycle | None = None
        self._config = config
        self._env = env
        self._broker: Broker | None = None
        self._producer_ids: ProducerIds | None = None
        self._registration: ControllerRegistration | None = None
        self.replication: Replication | None = None
        self._log_dirs: dict[str, bytes] = {}
        self._watching: asyncio.Task[None] | None = None

    def compose(self, broker: Broker, metadata: ClusterMetadata, controller: Controller | None) -> None:
        """Give the broker its way to others."""
        self._broker = broker
        broker.open_peers = lambda: self.peers
        channel = broker.channel = ControllerChannel(
            broker.open_peers,
            broker.metadata_log,
            self._env.random,
            local=None if controller is None else LocalController(broker),
            attempt_timeout_ms=self._config["controller.socket.timeout.ms"],
        )
        metadata.subscribe_leader(channel.leader_changed)
        if controller is not None:
            incarnation_id = self._env.random_uuid()
            self._registration = ControllerRegistration(self._config, channel, metadata, incarnation_id)
            departures = broker.departures = Departures(broker)
            metadata.subscribe_leader(departures.leader_changed)
        broker.producer_ids = self._producer_ids = ProducerIds(channel, broker.node_id, self.broker_epoch)

    def broker_epoch(self) -> int:
        """Epoch of the broker's newest registration; -1 before the first."""
        return -1 if self.lifecycle is None else self.lifecycle.broker_epoch

    async def register(
        self,
        registration: BrokerRegistration,
        log_dirs: dict[str, bytes],
        controller: Controller | None,
        fail: Callable[[BaseException], None],
    ) -> None:
        """Become known to the cluster, and know what it knows. Raises LifecycleError.

        The only broker of a quorum of one is unfenced at once, as if it were alone.
        """
        broker = self._require_broker()
        assert broker.channel is not None
        self._log_dirs = log_dirs
        description = BrokerDescription(
            broker_id=registration.broker_id,
            cluster_id=broker.cluster_id,
            incarnation_id=registration.incarnation_id,
            endpoints=registration.endpoints,
            log_dirs=log_dirs,
            rack=registration.rack,
            previous_broker_epoch=registration.previous_broker_epoch,
        )
        lifecycle = self.lifecycle = BrokerLifecycle(self._config, broker.channel, broker.metadata, description)
        self._watching = asyncio.ensure_future(_watch(lifecycle, fail))
        if controller is not None and controller.is_active:
            epoch = await controller.register_own_broker(registration)
            if epoch is not None:
                lifecycle.adopt(epoch)
                return
        with _Patience(broker):
            await lifecycle.register()
            await lifecycle.catch_up()

    def begin_replication(self, directories: LogDirectories) -> None:
        """Follow leaders on other brokers, and look after followers there; before partitions are taken over."""
        broker = self._require_broker()
        assert broker.channel is not None
        self.replication = Replication(
            self._config, self._env, broker.replicas, directories, self.peers, broker.channel, self.broker_epoch
        )
        self.replication.start()

    def apply(self, delta: MetadataDelta, image: MetadataImage) -> None:
        """Take over one commit, after the replicas did."""
        if self.replication is not None:
            self.replication.apply(delta, image)
        if self.lifecycle is None:
            return
        if delta.changed_configs:
            self.lifecycle.follow_settings(self._require_broker().config)
        if "brokers" in delta.changed and any(
            broker.in_controlled_shutdown and not broker.fenced for broker in image.brokers.values()
        ):
            self.lifecycle.others_wait()

    def directory_failed(self, path: str) -> None:
        """Tell the controller that replicas in this directory are gone."""
        directory_id = self._log_dirs.get(path)
        if self.lifecycle is not None and directory_id is not None:
            self.lifecycle.directory_failed(directory_id)

    def log_replaced(self, log: Log) -> None:
        """A replica lies in another directory now."""
        if self.replication is not None:
            self.replication.log_moved(log)

    async def unfence(self) -> None:
        """Have the cluster use this broker, which serves clients already. Raises LifecycleError."""
        lifecycle = self.lifecycle
        assert lifecycle is not None
        if lifecycle.is_fenced:
            await lifecycle.unfence()

    async def leave(self) -> None:
        """Have others lead what this broker leads, if that can be done in time."""
        lifecycle = self.lifecycle
        if lifecycle is not None and self._config["controlled.shutdown.enable"]:
            await lifecycle.leave(LEAVE_TIMEOUT_MS, silence_ms=self._silence_ms())

    async def see_others_off(self) -> None:
        """Where all nodes stop at once, controllers stay until the last broker has left: without a majority of them
        nobody could leave in order.
        """
        if not self._config.is_controller or self._broker is None:  # a start that failed before has seen nobody
            return
        loop = asyncio.get_running_loop()
        end_s = loop.time() + self._silence_ms() / 1000
        metadata = self._broker.metadata
        if len(metadata.image.brokers) > 1:
            await asyncio.sleep(ANNOUNCEMENT_S)
        while loop.time() < end_s and metadata.failure is None:
            leaving = [
                broker
                for broker in metadata.image.brokers.values()
                if broker.in_controlled_shutdown and not broker.fenced and broker.broker_id != self._config.node_id
            ]
            if not leaving:
                return
            await asyncio.sleep(LOOK_AGAIN_S)

    def _silence_ms(self) -> int:
        """A quorum that still has a majority has chosen a leader within this time."""
        config = self._config
        fetch_ms: int = config["controller.quorum.fetch.timeout.ms"]
        election_ms: int = config["controller.quorum.election.timeout.ms"]
        return 2 * (fetch_ms + election_ms)

    async def stop(self) -> None:
        """No more heartbeats; the broker's parts have ended."""
        if self._producer_ids is not None:
            self._producer_ids.stop()
        if self.replication is not None:
            await self.replication.stop()
        if self._watching is not None:
            self._watching.cancel()
        if self._registration is not None:
            self._registration.stop()
        if self._broker is not None and self._broker.departures is not None:
            self._broker.departures.stop()
        if self.lifecycle is not None:
            await self.lifecycle.stop()

    def _require_broker(self) -> Broker:
        assert self._broker is not None, "not composed"
        return self._broker

    async def close(self) -> None:
        """Nothing more is said to anybody; the metadata log has ended."""
        await self.peers.close()


async def _watch(lifecycle: BrokerLifecycle, fail: Callable[[BaseException], None]) -> None:
    try:
        await lifecycle.failed
    except LifecycleError as error:
        fail(error)


class _Patience:
    """Says every few seconds what is waited for, while a node starts without its cluster."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        self._schedule()

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _schedule(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(PATIENCE_S, self._tell)

    def _tell(self) -> None:
        leader = self._broker.metadata.leader
        if leader.leader_id < 0:
            logger.warning("waiting for the cluster: no majority of its controllers has been reached yet")
        else:
            logger.warning("waiting for the controller, node %d, to take this broker", leader.leader_id)
        self._schedule()
