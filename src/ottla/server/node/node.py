"""`Node(config, env)`: the one place that knows which parts a node has and wires them together.

Starting goes from the disk up to the sockets: data directories, logs, metadata log, controller, controller listeners,
the quorum; then the broker: its listeners bound (their ports are part of the registration), registered, partitions and
coordinators taken over, and only then are connections accepted. Stopping goes the other way round: the broker leaves
while the controller in the same process still serves it. Whatever fails on the way, `stop` releases what was taken.

A node has the roles that `process.roles` gives it. One that is broker and controller and has no controller listener is
a cluster of its own: it registers and unfences itself in one step, and loads nothing of `membership`, which is all that
a node has to do with other nodes.
"""

from __future__ import annotations

import asyncio
import logging
import resource
from typing import TYPE_CHECKING

from ottla.runtime.disk import DiskError
from ottla.server.broker.broker import Broker
from ottla.server.controller.service import Controller
from ottla.server.log.directories import LogDirectories
from ottla.server.metadata.cluster import ClusterMetadata
from ottla.server.node.coordinators import Coordinators, Surroundings
from ottla.server.node.front import Front
from ottla.server.node.identity import reachable, registration_of
from ottla.server.raft.alone import LocalVoter
from ottla.server.raft.opening import open_metadata_log
from ottla.server.replication.replicas import Replicas

if TYPE_CHECKING:
    from ottla.runtime.env import Env
    from ottla.schema.config import BrokerConfig
    from ottla.server.broker.audit_topic import AuditTopic
    from ottla.server.broker.listener import Listener
    from ottla.server.broker.request_metrics import RequestMetrics
    from ottla.server.log.log import Log
    from ottla.server.metadata.delta import MetadataDelta
    from ottla.server.metadata.image import MetadataImage
    from ottla.server.metrics.endpoint import HttpEndpoint
    from ottla.server.node.authorization import AclFeed
    from ottla.server.node.certificates import Certificates
    from ottla.server.node.membership import Membership
    from ottla.server.node.observation import Observation
    from ottla.server.raft.metadata_log import MetadataLog
    from ottla.server.security.audit_log import AuditLog
    from ottla.server.security.encryption.service import Encryption

logger = logging.getLogger(__name__)


class Node:
    """A broker, a controller, or both.

    `start` raises what stops a node for a reason its operator can do something about: `SettingError`, `ListenError`,
    `DiskError`, `LogError`, `MetadataLogError`. `failed` is set when it can not go on: every data directory, or the
    metadata log, is gone, or the cluster does not take it.
    """

    def __init__(self, config: BrokerConfig, env: Env) -> None:
        self.config = config
        self.env = env
        self.failed: asyncio.Future[BaseException] | None = None
        self.request_metrics: dict[int, RequestMetrics] = {}
        """What was counted of requests, by API key."""
        self._log_directories: LogDirectories | None = None
        self._metadata: ClusterMetadata | None = None
        self._metadata_log: MetadataLog | None = None
        self._controller: Controller | None = None
        self._coordinators = Coordinators()
        self._replicas: Replicas | None = None
        self._broker: Broker | None = None
        self._front: Front | None = None
        self._membership: Membership | None = None
        self._acl_feed: AclFeed | None = None
        self._endpoint: HttpEndpoint | None = None
        self._observation: Observation | None = None
        self._encryption: Encryption | None = None
        self._audit_log: AuditLog | None = None
        self._audit_topic: AuditTopic | None = None
        self._certificates: Certificates | None = None

    @property
    def broker(self) -> Broker:
        """What requests are handled with, also on a node that is no broker."""
        assert self._broker is not None, "not started"
        return self._broker

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """What clients connect to; nothing when it does not run."""
        return () if self._front is None else tuple(self._front.listeners)

    @property
    def controller_listeners(self) -> tuple[Listener, ...]:
        """What other nodes connect to for the controller."""
        return () if self._front is None else tuple(self._front.controller_listeners)

    @property
    def bootstrap_servers(self) -> str:
        """Addresses a client on this machine can start from: `host:port,…`; of a controller alone, its own."""
        listeners = self.listeners or self.controller_listeners
        return ",".join(f"{reachable(listener.address.host)}:{listener.port}" for listener in listeners)

    def ready_line(self) -> str:
        """Where it listens and where its data is, for a person: the directories that can be used."""
        directories = self._log_directories
        paths = self.config.log_dirs if directories is None else [directory.path for directory in directories.online]
        what = "kafka" if self.config.is_broker else "controller"
        return f"{what} on {self.bootstrap_servers}, data in {', '.join(paths)}"

    @property
    def http_ports(self) -> list[int]:
        """Where metrics and health are served."""
        return [] if self._endpoint is None else self._endpoint.ports

    # Starting

    async def start(self) -> None:
        """Bring the node up; when this returns, clients are served, and of a controller alone, that it leads or follows
        others in the quorum.
        """
        config, env = self.config, self.env
        self.failed = asyncio.get_running_loop().create_future()
        if config["http.listeners"]:
            await self._open_endpoint()
        _raise_open_files_limit()
        if self._is_encrypted():
            await self._open_encryption()
            env = self.env
        if not config.is_single or config.controller_listeners:
            await self._open_membership()
        directories = self._log_directories = LogDirectories(config, env)
        directories.on_failure = self._on_directory_failure
        await directories.start()
        metadata, metadata_log = await self._open_metadata(directories)
        front = self._compose(metadata, metadata_log, directories)
        self._follow_certificates(front)
        if config["audit.log.file"] or config["audit.log.topic"]:
            await self._open_audit_log(front)
        await front.open_controllers()
        await metadata_log.start(metadata)
        metadata.start_snapshots(metadata_log)
        if config.is_broker:
            await self._start_broker(front, metadata, directories)
            self._open_audit_topic()
        if self._encryption is not None:
            self._encryption.start()
        if self._observation is not None:
            self._observation.started(self)

    def _is_encrypted(self) -> bool:
        """Whether a key was given, or a directory wants one."""
        config = self.config
        if config["encryption.key"] is not None:
            return True
        paths = {*config.log_dirs, config.metadata_log_dir}
        return any(self.env.disk.exists(f"{path}/.ottla-keys") for path in paths)

    async def _open_encryption(self) -> None:
        """From here on the node's disk encrypts. Raises `SettingError` when the key is missing, or another one."""
        from ottla.server.security.encryption.service import Encryption, data_directories, refuse_without_key

        if self.config["encryption.key"] is None:
            refuse_without_key(self.env.disk, data_directories(self.config))
        self._encryption = Encryption(self.config, self.env)
        self.env = await self._encryption.open()

    async def _open_endpoint(self) -> None:
        """From the start on it can be asked whether the node is ready."""
        from ottla.server.metrics.endpoint import HttpEndpoint
        from ottla.server.node.observation import Observation

        self._observation = Observation(self.config)
        self._endpoint = HttpEndpoint(self.config, self._observation)
        await self._endpoint.open()

    def _follow_certificates(self, front: Front) -> None:
        """Where TLS is spoken, with clients or with other nodes, certificates may change while the node runs."""
        contexts = front.tls_contexts()
        if self._membership is not None and self._membership.security is not None:
            contexts += self._membership.security.contexts
        if contexts:
            from ottla.server.node.certificates import Certificates

            self._certificates = Certificates(self.env, lambda: self.broker.config, contexts)
            self._certificates.start()
            self.broker.check_certificates = self._certificates.check

    async def _open_audit_log(self, front: Front) -> None:
        """Before anybody can connect."""
        from ottla.core.topics import INTERNAL_TOPICS
        from ottla.schema.definition import SettingError
        from ottla.server.controller.result import is_valid_topic_name
        from ottla.server.security.audit_log import AuditLog

        topic = self.config["audit.log.topic"]
        if topic and (not is_valid_topic_name(topic) or topic in INTERNAL_TOPICS):
            raise SettingError("audit.log.topic", f"audit.log.topic: {topic!r} cannot be the name of a topic for this")
        self._audit_log = AuditLog(self.config, self.env)
        await self._audit_log.open()
        self.broker.audit = self._audit_log.audit
        front.name_requests()

    def _open_audit_topic(self) -> None:
        """Broker and cluster are there: events may go into a topic."""
        name = self.config["audit.log.topic"]
        if name and self._audit_log is not None:
            from ottla.server.broker.audit_topic import AuditTopic

            most_kept = 10 * self.config["audit.log.max.events.per.second"]
            self._audit_topic = AuditTopic(self.broker, self._audit_log.audit, name, most_kept)
            self._audit_log.tell = self._audit_topic.put

    async def _close_audit_topic(self) -> None:
        """While the logs are open still."""
        audit_topic, self._audit_topic = self._audit_topic, None
        if audit_topic is not None and self._audit_log is not None:
            await self._audit_log.flush()
            self._audit_log.tell = None
            await audit_topic.close()

    async def _open_membership(self) -> None:
        from ottla.server.node.membership import Membership, check_formatted

        if not self.config.is_single:
            await self.env.run_blocking(check_formatted, self.config, self.env.disk)
        self._membership = Membership(self.config, self.env)

    async def _open_metadata(self, directories: LogDirectories) -> tuple[ClusterMetadata, MetadataLog]:
        """The metadata log with what follows it; nothing is read before it starts."""
        config, env, home = self.config, self.env, directories.metadata
        voter = LocalVoter(config.node_id, home.directory_id, directories.cluster_id)
        peers = None if self._membership is None else self._membership.peers
        metadata_log, bootstrap = await env.run_blocking(open_metadata_log, config, env, home.path, voter, peers)
        self._metadata_log = metadata_log
        metadata = self._metadata = ClusterMetadata(config, env, node_id=config.node_id)
        metadata.subscribe_failure(self._fail)
        if config.is_controller:
            self._controller = Controller(
                config, env, metadata_log, metadata, cluster_id=directories.cluster_id, bootstrap=bootstrap
            )
        return metadata, metadata_log

    def _compose(self, metadata: ClusterMetadata, metadata_log: MetadataLog, directories: LogDirectories) -> Front:
        config, env = self.config, self.env
        replicas = self._replicas = Replicas(config.node_id, config, directories)
        directories.on_replaced = self._on_replaced
        broker = self._broker = Broker(
            node_id=config.node_id,
            cluster_id=directories.cluster_id,
            config=config,
            env=env,
            metadata=metadata,
            metadata_log=metadata_log,
            controller=self._controller,
            replicas=replicas,
            log_directories=directories,
            coordinators=self._coordinators,
        )
        front = self._front = Front(config, broker, self.request_metrics)
        if config["authorizer.class.name"]:
            from ottla.server.node.authorization import AclFeed, open_authorizer

            broker.authorizer = open_authorizer(config)
            self._acl_feed = AclFeed(broker.authorizer, metadata, metadata_log)
        if self._membership is not None:
            self._membership.compose(broker, metadata, self._controller)
        return front

    async def _start_broker(self, front: Front, metadata: ClusterMetadata, directories: LogDirectories) -> None:
        await front.bind()
        registration = registration_of(self.config, front, directories, self.env.random_uuid())
        if self._membership is None:
            assert self._controller is not None
            await self._controller.register_own_broker(registration, is_sole=True)
        else:
            log_dirs = {directory.path: directory.directory_id for directory in directories.online}
            await self._membership.register(registration, log_dirs, self._controller, self._fail)
        self._take_over(front, metadata)
        await front.accept()
        if self._membership is not None:
            await self._membership.unfence()

    def _take_over(self, front: Front, metadata: ClusterMetadata) -> None:
        """Everything the image says, then every change to it."""
        assert self._replicas is not None
        self._adopt_settings(metadata.config)
        if self._acl_feed is not None:
            self._acl_feed.load()
        if self._membership is not None and self._log_directories is not None:
            self._membership.begin_replication(self._log_directories)
        self._replicas.load(metadata.image)
        self._coordinators.start(Surroundings(self.env, self._replicas, self.broker))
        if metadata.image.client_quotas:
            front.apply_quotas(metadata.image)
        metadata.subscribe(self._on_metadata)

    def _on_metadata(self, delta: MetadataDelta, image: MetadataImage) -> None:
        metadata, replicas, front = self._metadata, self._replicas, self._front
        if metadata is None:
            return  # the node is ending: whoever starts next reads it in the metadata log
        assert replicas is not None
        assert front is not None
        # Settings first: what the same commit creates is created with them.
        self._adopt_settings(metadata.config)
        replicas.apply(delta, image)
        if self._membership is not None:
            self._membership.apply(delta, image)
        self._coordinators.on_metadata_change(delta, image)
        if "client_quotas" in delta.changed:
            front.apply_quotas(image)

    def _adopt_settings(self, config: BrokerConfig) -> None:
        broker, replicas, front = self._broker, self._replicas, self._front
        assert broker is not None
        assert replicas is not None
        assert front is not None
        broker.config = replicas.config = config
        if self._log_directories is not None:
            self._log_directories.config = config
        front.follow_settings()
        if self._certificates is not None:
            self._certificates.look_now()

    # The end

    def _on_replaced(self, old: Log, new: Log) -> None:
        if self._replicas is not None:
            self._replicas.replace_log(old, new)
        if self._membership is not None:
            self._membership.log_replaced(new)

    def _on_directory_failure(self, path: str, error: OSError) -> None:
        if self._membership is not None:
            self._membership.directory_failed(path)
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
        await self._forget_certificates()
        front, membership = self._front, self._membership
        if membership is not None:
            await membership.leave()  # partitions are handed over: all parts still follow the metadata
        if front is not None:
            await front.close(grace_s)
        if self._broker is not None:
            await self._broker.close()
        await self._close_audit_topic()
        self._coordinators.stop()
        if membership is not None:
            if front is not None:  # a start that failed before has seen nobody
                await membership.see_others_off()
            await membership.stop()
        broker_epoch, clean = await self._stop_metadata()
        if front is not None:
            await front.close_controllers(grace_s)
        audit_log, self._audit_log = self._audit_log, None
        if audit_log is not None:
            await audit_log.close()
        if membership is not None:
            await membership.close()
        self._front = self._membership = None
        directories, self._log_directories = self._log_directories, None
        if self._encryption is not None:
            await self._encryption.stop()
        if directories is not None:
            await directories.stop(broker_epoch=broker_epoch, clean=clean)
        await self._close_endpoint()
        self.env.close()

    async def _stop_metadata(self) -> tuple[int, bool]:
        """Leave the quorum; the epoch of the broker's registration, and whether the log was closed in order."""
        controller, self._controller = self._controller, None
        metadata, self._metadata = self._metadata, None
        metadata_log, self._metadata_log = self._metadata_log, None
        if metadata is None or metadata_log is None:
            return -1, True
        broker = metadata.image.brokers.get(self.config.node_id)
        metadata.hush()
        try:
            if controller is not None:
                await controller.stop()
            await metadata.stop_snapshots()
            await metadata_log.stop()
        except DiskError as error:
            # A full disk mostly. The directories must be free for the next start, which then recovers.
            logger.error("the metadata log could not be closed in order: %s", error)
            return -1, False
        return -1 if broker is None else broker.broker_epoch, True

    async def abort(self) -> None:
        """End as a killed process does: connections break, nothing is flushed, fenced, or marked as left cleanly.

        What still runs of this node on the event loop is the caller's to cancel. The directories are free afterwards.
        """
        front, self._front = self._front, None
        if front is not None:
            front.abort()
        await self._forget_certificates()
        audit_log, self._audit_log = self._audit_log, None
        if audit_log is not None:
            audit_log.abort()
        audit_topic, self._audit_topic = self._audit_topic, None
        if audit_topic is not None:
            audit_topic.abort()
        membership, self._membership = self._membership, None
        if membership is not None:
            await membership.close()
        self._coordinators.stop()
        self._controller = self._metadata = None
        directories, self._log_directories = self._log_directories, None
        if self._encryption is not None:
            await self._encryption.stop()
        if directories is not None:
            await directories.stop(clean=False)
        await self._close_endpoint()
        self.env.close()

    async def _forget_certificates(self) -> None:
        certificates, self._certificates = self._certificates, None
        if certificates is not None:
            await certificates.stop()

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
