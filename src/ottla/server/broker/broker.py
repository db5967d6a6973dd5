"""What a request handler gets to work with: the broker's parts and the request's surroundings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from ottla.core.errors import ApiError, ErrorCode
from ottla.server.broker.api_table import APIS
from ottla.server.broker.fetch_sessions import FetchSessionCache

if TYPE_CHECKING:
    from ottla.runtime.env import Env
    from ottla.schema.config import BrokerConfig
    from ottla.server.broker.api_table import Api
    from ottla.server.broker.connection import Connection
    from ottla.server.broker.controller_channel import ControllerChannel
    from ottla.server.broker.departures import Departures
    from ottla.server.broker.dispatch import Router
    from ottla.server.broker.encoded_topics import EncodedTopics
    from ottla.server.broker.produce_shapes import ProduceShapes
    from ottla.server.broker.quotas.client_quotas import ClientQuotas
    from ottla.server.broker.quotas.usage import Usage
    from ottla.server.broker.share.coordinator_requests import ShareCoordinators
    from ottla.server.broker.share.share_partitions import SharePartitions
    from ottla.server.broker.telemetry.telemetry import Telemetry
    from ottla.server.broker.verification_requests import VerificationRequests
    from ottla.server.controller.service import Controller
    from ottla.server.coordinator.service import GroupCoordinator
    from ottla.server.coordinator.share.service import ShareGroupService
    from ottla.server.coordinator.share_state.service import ShareStateCoordinator
    from ottla.server.coordinator.streams.service import StreamsGroupService
    from ottla.server.coordinator.transactions.service import TransactionCoordinator
    from ottla.server.log.directories import LogDirectories
    from ottla.server.metadata.cluster import ClusterMetadata
    from ottla.server.metadata.image import MetadataImage
    from ottla.server.peers.peers import Peers
    from ottla.server.raft.metadata_log import MetadataLog
    from ottla.server.replication.replicas import Replicas
    from ottla.server.security.audit import Audit
    from ottla.server.security.authorizer import Authorizer
    from ottla.server.security.session import Session

RACK_AWARE_SELECTOR = "org.apache.kafka.common.replica.RackAwareReplicaSelector"
"""The one `replica.selector.class` there is; others do not pass the checks of settings."""


class Coordinators(Protocol):
    """The parts that are made when they are first asked for (`ottla.server.node.coordinators`)."""

    def part(self, name: str) -> Any:
        """The part of that name."""

    def existing(self, name: str) -> Any | None:
        """The part when it was made already."""


class Broker:
    """The parts of one running broker, wired by `ottla.server.node`.  Handlers get it as their first argument.

    It owns no behaviour: each part decides for itself.  `image` is the cluster as last committed.
    """

    __slots__ = (
        "_controller",
        "_controller_router",
        "_telemetry",
        "audit",
        "authorizer",
        "channel",
        "check_certificates",
        "cluster_id",
        "config",
        "coordinators",
        "departures",
        "encoded_topics",
        "env",
        "fetch_sessions",
        "log_directories",
        "metadata",
        "metadata_log",
        "node_id",
        "on_loggers_changed",
        "open_peers",
        "openings",
        "producer_ids",
        "quotas",
        "reads_from_racks",
        "refused_nodes",
        "replicas",
    )

    def __init__(
        self,
        *,
        node_id: int,
        cluster_id: str,
        config: BrokerConfig,
        env: Env,
        metadata: ClusterMetadata,
        metadata_log: MetadataLog,
        controller: Controller | None,
        replicas: Replicas,
        log_directories: LogDirectories,
        coordinators: Coordinators,
    ) -> None:
        self.node_id = node_id
        self.cluster_id = cluster_id
        self.config = config
        self.env = env
        self.metadata = metadata
        self.metadata_log = metadata_log
        self._controller = controller
        # To the active controller; None while that can only be the one of this process.
        self.channel: ControllerChannel | None = None
        self._controller_router: Router | None = None
        # A node that has to do with others takes blocks of ids through the channel.
        self.producer_ids: ProducerIdSource = controller or _NoProducerIds()
        self.replicas = replicas
        self.log_directories = log_directories
        self.coordinators = coordinators
        # Notices brokers that die; for controllers of more than one node.
        self.departures: Departures | None = None
        # Called after the level of a logger was changed; the node, which knows who has to hear of it, sets it.
        self.on_loggers_changed: Callable[[], object] = _nobody_listens
        # Connections to other nodes, made when the first of them is asked for something; the node sets it.
        self.open_peers: Callable[[], Peers] | None = None
        # Raises SettingError unless the node's TLS can be had with these settings; None without TLS. The node sets it.
        self.check_certificates: Callable[[BrokerConfig], Awaitable[None]] | None = None
        # None: everybody may do everything. The node sets it.
        self.authorizer: Authorizer | None = None
        # Principals that were told in the log to ask as nodes do, and may not.
        self.refused_nodes: set[str] = set()
        # Who writes down who did what; None: nobody. The node sets it.
        self.audit: Audit | None = None
        self.fetch_sessions = FetchSessionCache(config["max.incremental.fetch.session.cache.slots"], env.random)
        # How many batches are opened at once; made with the first one (`laborious_produce`).
        self.openings: asyncio.Semaphore | None = None
        # None while no user and no client id has a quota.
        self.quotas: ClientQuotas | None = None
        # Whether consumers are sent to a replica in their own rack (replica.selector.class, KIP-392).
        self.reads_from_racks = config["replica.selector.class"] == RACK_AWARE_SELECTOR
        self._telemetry: Telemetry | None = None
        # Made with the first Metadata request.
        self.encoded_topics: EncodedTopics | None = None

    @property
    def groups(self) -> GroupCoordinator:
        """The group coordinator; it is made when first asked for, as the other coordinators."""
        groups: GroupCoordinator = self.coordinators.part("groups")
        return groups

    @property
    def telemetry(self) -> Telemetry:
        """Client metrics (KIP-714); made when the first client asks for them."""
        if self._telemetry is None:
            from ottla.server.broker.telemetry.telemetry import Telemetry

            self._telemetry = Telemetry(self)
        return self._telemetry

    @property
    def existing_telemetry(self) -> Telemetry | None:
        """The same, when it was made already."""
        return self._telemetry

    async def close(self) -> None:
        """Finish what handlers have left to do; no request comes any more."""
        if self._telemetry is not None:
            await self._telemetry.close()

    @property
    def share_groups(self) -> ShareGroupService:
        """Members and offsets of share groups."""
        share_groups: ShareGroupService = self.coordinators.part("share_groups")
        return share_groups

    @property
    def share_state(self) -> ShareStateCoordinator:
        """The share coordinator: how far share groups got in the partitions they consume."""
        share_state: ShareStateCoordinator = self.coordinators.part("share_state")
        return share_state

    @property
    def share_partitions(self) -> SharePartitions:
        """The data path of share groups: their sessions, and the partitions they consume here."""
        share_partitions: SharePartitions = self.coordinators.part("share_partitions")
        return share_partitions

    @property
    def transactions(self) -> TransactionCoordinator:
        """The transaction coordinator."""
        transactions: TransactionCoordinator = self.coordinators.part("transactions")
        return transactions

    @property
    def verification_requests(self) -> VerificationRequests:
        """Transactions that other brokers coordinate."""
        requests: VerificationRequests = self.coordinators.part("verification_requests")
        return requests

    @property
    def share_coordinators(self) -> ShareCoordinators:
        """The share coordinators of the cluster, this broker's own among them."""
        share_coordinators: ShareCoordinators = self.coordinators.part("share_coordinators")
        return share_coordinators

    @property
    def peers(self) -> Peers:
        """Connections to other nodes of the cluster."""
        assert self.open_peers is not None, "a cluster of one node"
        return self.open_peers()

    @property
    def streams_groups(self) -> StreamsGroupService:
        """Streams groups, which the group coordinator's shards hold."""
        streams_groups: StreamsGroupService = self.coordinators.part("streams_groups")
        return streams_groups

    @property
    def controller(self) -> Controller:
        """The controller of this process, active or not. Raises ApiError NOT_CONTROLLER when this node has none."""
        if self._controller is None:
            raise ApiError(ErrorCode.NOT_CONTROLLER)
        return self._controller

    @property
    def existing_controller(self) -> Controller | None:
        """The same, None on nodes without the controller role."""
        return self._controller

    @property
    def controller_router(self) -> Router:
        """The routes of what controllers are asked: by requests in envelopes, and by this node itself."""
        if self._controller_router is None:
            from ottla.server.broker.api_table import CONTROLLER_APIS
            from ottla.server.broker.dispatch import Router

            self._controller_router = Router(CONTROLLER_APIS)
        return self._controller_router

    @controller_router.setter
    def controller_router(self, router: Router) -> None:
        """Use the one of a controller listener, so that all that is asked of a controller is counted together."""
        self._controller_router = router

    @property
    def image(self) -> MetadataImage:
        """The metadata image after the newest commit; immutable, so a handler may keep it."""
        return self.metadata.image


class RequestContext:
    """Who asks, on which connection, in which version.

    One object per connection, refilled for each request: a connection handles one request at a time, so it is valid
    until the handler's response (or its awaitable) is done. Keep its values, not the object.
    """

    __slots__ = (
        "api_name",
        "api_version",
        "apis",
        "client_host",
        "client_id",
        "client_port",
        "client_software",
        "connection",
        "correlation_id",
        "is_internal",
        "listener_name",
        "on_close",
        "principal",
        "produce_shapes",
        "session",
    )

    def __init__(
        self,
        connection: Connection | None = None,
        *,
        listener_name: str = "PLAINTEXT",
        principal: str = "User:ANONYMOUS",
        client_host: str = "",
        api_version: int = 0,
        correlation_id: int = 0,
        client_id: str | None = None,
    ) -> None:
        self.connection = connection
        self.listener_name = listener_name
        self.principal = principal
        self.client_host = client_host
        self.api_version = api_version
        self.correlation_id = correlation_id
        self.client_id = client_id
        self.api_name = ""
        """Which API is asked, where there is an audit log that wants to know."""
        self.produce_shapes: ProduceShapes | None = None
        self.is_internal = False
        """This node itself asks, so that nothing is checked."""
        self.session: Session | None = None
        """What its authentication has found out; None where nobody is asked, then the principal is User:ANONYMOUS."""
        self.client_port = 0
        self.client_software = ("unknown", "unknown")
        """Name and version, as ApiVersions has told them (KIP-511)."""
        self.on_close: dict[str, Callable[[], object]] | None = None
        self.apis: Mapping[int, Api] = APIS
        """What is served on the listener that was asked."""

    @property
    def is_for_controller(self) -> bool:
        """It was asked as a controller: on one of their listeners, by a broker on behalf of a client, or from here."""
        return self.apis is not APIS

    def when_closed(self, name: str, callback: Callable[[], object]) -> None:
        """Have `callback` called when the connection is gone; it takes the place of an earlier one of that name."""
        if self.on_close is None:
            self.on_close = {}
        self.on_close[name] = callback


class Handler(Protocol):
    """`handle` of a module in `ottla.server.broker.handlers`.

    Returns the response message, or an awaitable of it (a coroutine, a future, or the lean `DelayedResponse`), or None
    where the protocol wants no response (Produce with acks=0). Raises `ottla.core.errors.ApiError` for a refusal of the
    whole request.

    A handler module may also define ``error_response(request, context, code, message) -> response`` for refusals of the
    whole request; without it the response's top-level error_code is used, and where there is none the connection is
    closed.

    It may define ``throttled_response(broker, request, response) -> response``: what is sent instead of `response` when
    the client is above a quota, and the broker shall not send what it asked for (KIP-219).

    And it may define ``handle_quickly(broker, buffer, offset, end, context)``, which sees the request body first, not
    decoded. It answers with the encoded response body as `bytes`, or like `handle`, or leaves it to `handle` (None).
    """

    def __call__(self, broker: Broker, request: Any, context: RequestContext) -> Any | Awaitable[Any] | None:
        """Answer one request."""


def _nobody_listens() -> None:
    """What a broker on its own has to do when log levels change."""


class ProducerIdSource(Protocol):
    """Where handlers and the transaction coordinator get producer ids from."""

    def try_producer_id(self) -> int | None:
        """A fresh producer id, if there is one at hand."""

    async def producer_id(self) -> int:
        """A fresh producer id. Raises ApiError when there is none."""


class _NoProducerIds:
    """A broker without a controller that nobody has told where ids come from."""

    def try_producer_id(self) -> None:
        """None."""

    async def producer_id(self) -> int:
        """Refused."""
        raise ApiError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)


class CloseConnectionError(Exception):
    """Raised by a handler when the protocol's only answer is to close the connection (a failed Produce with acks=0)."""


class DelayedResponse:
    """A response that will come later, for handlers on the hot path: like a future, without the trip through the event
    loop.

    The handler returns it and later calls `respond` (or `fail`) once. The connection sets `on_done` right after the
    handler returned, or calls `cancel` when it goes away first; `on_cancel` then releases what the wait held. It also
    sets `usage` where a quota is about the request: to be resumed by who has more to do for the response than a moment.
    """

    __slots__ = ("done", "error", "is_owed", "on_cancel", "on_done", "response", "usage")

    lets_next_in = False
    """Whether what the client sent behind this request may be handled meanwhile; its answer then leaves later."""

    def __init__(self, on_cancel: Callable[[], object] | None = None) -> None:
        self.on_cancel = on_cancel
        self.on_done: Callable[[DelayedResponse], None] | None = None
        self.usage: Usage | None = None
        # Whether the connection takes the answer in a turn of its own, so that it may come at any moment.
        self.is_owed = False
        self.done = False
        self.response: Any = None
        self.error: BaseException | None = None

    def respond(self, response: Any) -> None:
        """Hand the response over; a second call, or one after `cancel`, does nothing."""
        if not self.done:
            self.done = True
            self.response = response
            if self.on_done is not None:
                self.on_done(self)

    def respond_with(self, make: Callable[[], Any]) -> None:
        """Hand over what `make` gives; when it fails, that is what the client hears of instead of nothing."""
        try:
            response = make()
        except Exception as error:
            self.fail(error)
        else:
            self.respond(response)

    def fail(self, error: BaseException) -> None:
        """There will be no response, because of `error`."""
        if not self.done:
            self.done = True
            self.error = error
            if self.on_done is not None:
                self.on_done(self)

    async def outcome(self) -> Any:
        """Wait for it in a coroutine, instead of the connection."""
        arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.on_done = lambda _: None if arrived.done() else arrived.set_result(None)
        try:
            if not self.done:
                await arrived
        finally:
            self.cancel()
        if self.error is not None:
            raise self.error
        return self.response

    def continue_with(self, rest: Coroutine[Any, Any, Any]) -> None:
        """Let a coroutine find the response, in a task of its own."""
        if self.usage is not None:
            self.usage.pause()
            rest = self.usage.timed(rest)
        task = asyncio.get_running_loop().create_task(rest)
        self.on_cancel = task.cancel
        task.add_done_callback(self._continued)

    def _continued(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            self.fail(asyncio.CancelledError())
        elif (error := task.exception()) is not None:
            self.fail(error)
        else:
            self.respond(task.result())

    def cancel(self) -> None:
        """The connection is gone: nobody waits any more."""
        if not self.done:
            self.done = True
            if self.on_cancel is not None:
                self.on_cancel()
