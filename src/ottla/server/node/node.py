"""`Node(config, env)`: the one place that knows which parts a node has and wires them together.

Starting goes from the disk up to the sockets: data directories, logs, metadata log, controller, listeners bound (their
ports are part of the registration), this broker registered, partitions and coordinators taken over, and only then are
connections accepted. Stopping goes the other way round. Whatever fails on the way, `stop` releases what was taken.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
from typing import TYPE_CHECKING

from ottla.runtime.disk import DiskError
from ottla.schema.listeners import SECURITY_PROTOCOL_IDS
from ottla.server.broker.broker import Broker
from ottla.server.broker.connection_limits import ConnectionLimits
from ottla.server.broker.dispatch import Router
from ottla.server.broker.listener import Listener
from ottla.server.broker.request_log import follow_settings, quiet_request_log
from ottla.server.controller.alone import BrokerRegistration
from ottla.server.controller.service import Controller
from ottla.server.log.directories import LogDirectories
from ottla.server.metadata.cluster import ClusterMetadata
from ottla.server.metadata.image import Endpoint
from ottla.server.node.coordinators import Coordinators, Surroundings
from ottla.server.raft.alone import LocalVoter
from ottla.server.raft.opening import open_metadata_log
from ottla.server.replication.replicas import Replicas

if TYPE_CHECKING:
    from ottla.runtime.env import Env
    from ottla.schema.config import BrokerConfig
    from ottla.server.broker.request_metrics import RequestMetrics
    from ottla.server.metadata.delta import MetadataDelta
    from ottla.server.metadata.image import MetadataImage
    from ottla.server.metrics.endpoint import HttpEndpoint
    from ottla.server.node.observation import Observation
    from ottla.server.raft.metadata_log import MetadataLog

logger = logging.getLogger(__name__)


class Node:
    """One broker with its own controller (a quorum of one).

    `start` raises what stops a node for a reason its operator can do something about: `SettingError`, `ListenError`,
    `DiskError`, `LogError`, `MetadataLogError`. `failed` is set when it can not go on: every data directory, or the
    metadata log, is gone.
    """

    def __init__(self, config: BrokerConfig, env: Env) -> None:
        self.config = config
        self.env = env
        self.failed: asyncio.Future[BaseException] | None = None
        self._log_directories: LogDirectories | None = None
        self._metadata: ClusterMetadata | None = None
        self._metadata_log: MetadataLog | None = None
        self._controller: Controller | None = None
        self._coordinators = Coordinators()
        self._replicas: Replicas | None = None
        self._broker: Broker | None = None
        self._limits: ConnectionLimits | None = None
        self._finding_hosts: asyncio.Task[None] | None = None
        self._listeners: list[Listener] = []
        self._routers: list[Router] = []
        self.request_metrics: dict[int, RequestMetrics] = {}
        """What was counted of requests, by API key."""
        self._endpoint: HttpEndpoint | None = None
        self._observation: Observation | None = None

    @property
    def broker(self) -> Broker:
        """The running broker."""
        assert self._broker is not None, "not started"
        return self._broker

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """What clients connect to; nothing when it does not run."""
        return tuple(self._listeners)

    @property
    def bootstrap_servers(self) -> str:
        """Addresses a client on this machine can start from: `host:port,…`."""
        return ",".join(f"{_reachable(listener.address.host)}:{listener.port}" for listener in self._listeners)

    def ready_line(self) -> str:
        """Where it listens and where its data is, for a person: the directories that can be used."""
        directories = self._log_directories
        paths = self.config.log_dirs if directories is None else [directory.path for directory in directories.online]
        return f"kafka on {self.bootstrap_servers}, data in {', '.join(paths)}"

    async def start(self) -> None:
        """Bring the node up; when this returns, clients are served."""
        loop = asyncio.get_running_loop()
        config, env = self.config, self.env
        self.failed = loop.create_future()
        if config["http.listeners"]:
            await self._open_endpoint()
        _raise_open_files_limit()
        directories = self._log_directories = LogDirectories(config, env)
        await directories.start()
        home = directories.metadata
        voter = LocalVoter(config.node_id, home.directory_id, directories.cluster_id)
        metadata_log, bootstrap = await env.run_blocking(open_metadata_log, config, env, home.path, voter)
        self._metadata_log = metadata_log
        metadata = self._metadata = ClusterMetadata(config, env, node_id=config.node_id)
        metadata.subscribe_failure(self._fail)
        controller = self._controller = Controller(config, env, metadata_log, metadata, bootstrap=bootstrap)
        await metadata_log.start(metadata)
        metadata.start_snapshots(metadata_log)
        self._compose(metadata, metadata_log, controller, directories)
        for listener in self._listeners:
            await listener.bind()
        await controller.register_own_broker(self._registration(directories))
        self._take_over(controller, metadata)
        for listener in self._listeners:
            await listener.accept()
        if self._observation is not None:
            self._observation.started(self)

    async def _open_endpoint(self) -> None:
        """From the start on it can be asked whether the node is ready."""
        from ottla.server.metrics.endpoint import HttpEndpoint
        from ottla.server.node.observation import Observation

        self._observation = Observation(self.config)
        self._endpoint = HttpEndpoint(self.config, self._observation)
        await self._endpoint.open()

    @property
    def http_ports(self) -> list[int]:
        """Where metrics and health are served."""
        return [] if self._endpoint is None else self._endpoint.ports

    def _compose(
        self,
        metadata: ClusterMetadata,
        metadata_log: MetadataLog,
        controller: Controller,
        directories: LogDirectories,
    ) -> None:
        config, env = self.config, self.env
        replicas = self._replicas = Replicas(config.node_id, metadata.config, directories)
        directories.on_failure = self._on_directory_failure
        directories.config = metadata.config
        directories.on_replaced = replicas.replace_log
        broker = self._broker = Broker(
            node_id=config.node_id,
            cluster_id=directories.cluster_id,
            config=metadata.config,
            env=env,
            metadata=metadata,
            metadata_log=metadata_log,
            controller=controller,
            replicas=replicas,
            log_directories=directories,
            coordinators=self._coordinators,
        )
        unstable = config["unstable.api.versions.enable"]
        self._routers = [Router(unstable_versions=unstable, metrics=self.request_metrics) for _ in config.listeners]
        quiet_request_log()
        broker.on_loggers_changed = self._follow_request_log
        self._follow_request_log()
        limits = self._limits = ConnectionLimits.from_config(metadata.config)
        self._listeners = [
            Listener(broker, address, router, limits)
            for address, router in zip(config.listeners, self._routers, strict=True)
        ]

    def _take_over(self, controller: Controller, metadata: ClusterMetadata) -> None:
        """Everything the image says, then every change to it."""
        assert self._replicas is not None
        self._replicas.load(metadata.image)
        self._coordinators.start(Surroundings(self.env, controller, self._replicas, self.broker))
        if metadata.image.client_quotas:
            self._apply_quotas(metadata.image)
        metadata.subscribe(self._on_metadata)

    def _on_metadata(self, delta: MetadataDelta, image: MetadataImage) -> None:
        metadata, replicas, broker = self._metadata, self._replicas, self._broker
        if metadata is None:
            return  # the node is ending: whoever starts next reads it in the metadata log
        assert replicas is not None
        assert broker is not None
        # Settings first: what the same commit creates is created with them.
        broker.config = metadata.config
        replicas.config = metadata.config
        if self._log_directories is not None:
            self._log_directories.config = metadata.config
        replicas.apply(delta, image)
        self._coordinators.on_metadata_change(delta, image)
        if "client_quotas" in delta.changed:
            self._apply_quotas(image)
        for listener in self._listeners:
            listener.follow_settings()
        self._follow_request_log()

    def _follow_request_log(self) -> None:
        """Log requests as settings and levels of loggers say now."""
        assert self._metadata is not None
        for router in self._routers:
            follow_settings(router, self._metadata.config)

    def _apply_quotas(self, image: MetadataImage) -> None:
        from ottla.server.node.quotas import apply_quotas

        assert self._limits is not None
        if self._finding_hosts is not None:
            self._finding_hosts.cancel()
        self._finding_hosts = apply_quotas(self.broker, self._limits, image)

    def _registration(self, directories: LogDirectories) -> BrokerRegistration:
        config = self.config
        ports = {listener.name: listener.port for listener in self._listeners}
        # Finding out one's own name may take a name server's time: only where a listener needs it.
        named = all(listener.host for listener in config.advertised_listeners)
        hostname = "" if named else _hostname()
        return BrokerRegistration(
            broker_id=config.node_id,
            incarnation_id=self.env.random_uuid(),
            endpoints=tuple(
                Endpoint(
                    name=listener.name,
                    host=listener.host,
                    port=listener.port,
                    security_protocol=SECURITY_PROTOCOL_IDS[listener.protocol],
                )
                for listener in config.advertise(hostname, ports)
            ),
            log_dirs=tuple(directories.directory_ids),
            rack=config["broker.rack"],
            previous_broker_epoch=directories.previous_broker_epoch,
        )

    def _on_directory_failure(self, path: str, error: OSError) -> None:
        if self._log_directories is not None and not self._log_directories.online:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if self.failed is not None and not self.failed.done():
            self.failed.set_result(error)

    async def stop(self, grace_s: float = 5.0) -> None:
        """Finish what is under way, flush, close. Safe after a failed or cancelled `start`, and a second time.

        Requests under way have `grace_s` seconds.
        """
        if self._observation is not None:
            await self._observation.stop()
        listeners, self._listeners = self._listeners, []
        await asyncio.gather(*(listener.close(grace_s) for listener in listeners))
        if self._broker is not None:
            await self._broker.close()
        if self._finding_hosts is not None:
            self._finding_hosts.cancel()
        self._coordinators.stop()
        controller, self._controller = self._controller, None
        metadata, self._metadata = self._metadata, None
        broker_epoch = -1
        clean = True
        if metadata is not None and controller is not None and self._metadata_log is not None:
            broker_epoch = controller.broker_epoch
            metadata.hush()
            try:
                await controller.stop()
                await metadata.stop_snapshots()
                await self._metadata_log.stop()
            except DiskError as error:
                # A full disk mostly. The directories must be free for the next start, which then recovers.
                logger.error("the metadata log could not be closed in order: %s", error)
                clean = False
        directories, self._log_directories = self._log_directories, None
        if directories is not None:
            await directories.stop(broker_epoch=broker_epoch, clean=clean)
        await self._close_endpoint()
        self.env.close()

    async def abort(self) -> None:
        """End as a killed process does: connections break, nothing is flushed, fenced, or marked as left cleanly.

        What still runs of this node on the event loop is the caller's to cancel. The directories are free afterwards.
        """
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.abort()
        if self._finding_hosts is not None:
            self._finding_hosts.cancel()
        self._coordinators.stop()
        self._controller = self._metadata = None
        directories, self._log_directories = self._log_directories, None
        if directories is not None:
            await directories.stop(clean=False)
        await self._close_endpoint()
        self.env.close()

    async def _close_endpoint(self) -> None:
        if self._observation is not None:
            await self._observation.stop()
        endpoint, self._endpoint = self._endpoint, None
        if endpoint is not None:
            await endpoint.close()


def _raise_open_files_limit() -> None:
    """Segments are files and clients are sockets: take as many as the system allows without asking for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError) as error:
            logger.warning("the limit of open files stays at %d: %s", soft, error)


def _hostname() -> str:
    """What other machines call this one, for listeners on all addresses."""
    return socket.getfqdn()


def _reachable(host: str) -> str:
    """An address to connect to for one that stands for all of them."""
    if host in ("", "0.0.0.0", "::"):
        return "localhost"
    return f"[{host}]" if ":" in host else host
