"""A client's view of the cluster, and its way to send requests: the shell around the cores of this package."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import TYPE_CHECKING, Any

from ottla.client.errors import (
    ClientClosedError,
    ConnectionFailedError,
    IllegalStateError,
    KafkaError,
    KafkaTimeoutError,
)
from ottla.client.model import Node, TopicPartition
from ottla.client.network.addresses import bootstrap_nodes, canonical_addresses
from ottla.client.network.backoff import ExponentialBackoff
from ottla.client.network.connection import Call
from ottla.client.network.coordinators import CoordinatorLookup
from ottla.client.network.link import BrokerLink
from ottla.client.network.metadata import ClusterMetadata, TopicMetadata
from ottla.client.network.metadata_state import MetadataState
from ottla.client.network.node_state import NodeState, Phase, Reachability
from ottla.client.network.refresh import MetadataRefresh
from ottla.client.network.versions import CLUSTER_CHECK, FIRST_API_VERSIONS
from ottla.protocol.apis import ApiKey

if TYPE_CHECKING:
    from ottla.client.metrics.network import NetworkMetrics
    from ottla.client.network.security import ConnectionSecurity
    from ottla.client.settings import CommonSettings
    from ottla.protocol.message import Request

Clock = Callable[[], float]
"""Monotonic seconds."""

MetadataListener = Callable[[ClusterMetadata], None]

logger = logging.getLogger("ottla.client")


class Cluster:
    """Brokers, metadata and coordinators of one client.

    The constructor does no I/O; the first call that needs the cluster connects, on the loop it is made on. All methods
    belong to that loop, except that `metadata` and `now_ms` may be read from any thread.

    Requests are given as message objects; what comes back is the response's body. `timeout_ms` (default
    request.timeout.ms) covers waiting for the connection too. A broker that leaves a request unanswered for
    request.timeout.ms, or a longer `timeout_ms`, is given up: its connection is dropped.
    """

    def __init__(
        self,
        settings: CommonSettings,
        *,
        clock: Clock | None = None,
        random: Random | None = None,
        metrics: NetworkMetrics | None = None,
    ) -> None:
        self.settings = settings
        self.metrics = metrics
        random = random or Random()
        self.backoff = ExponentialBackoff(settings.retry_backoff_ms, settings.retry_backoff_max_ms, random)
        self.reachability = Reachability()
        self.controllers: list[str] = getattr(settings, "bootstrap_controllers", None) or []
        self._random = random
        self._clock = clock or time.monotonic
        self._clock_is_given = clock is not None
        self._reconnect = ExponentialBackoff(settings.reconnect_backoff_ms, settings.reconnect_backoff_max_ms, random)
        self._setup = ExponentialBackoff(
            settings.socket_connection_setup_timeout_ms, settings.socket_connection_setup_timeout_max_ms, random
        )
        self._bootstrap = bootstrap_nodes(self.controllers or settings.bootstrap_servers)
        self._links: dict[int, BrokerLink] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._security: ConnectionSecurity | None = None
        self._api_versions_version = FIRST_API_VERSIONS
        self._features: dict[str, int] = {}
        self._feature_epoch = -2
        self._listeners: list[MetadataListener] = []
        self._is_closed = False
        rebootstraps = settings.metadata_recovery_strategy.lower() == "rebootstrap"
        self.metadata_state = MetadataState(
            self.backoff,
            settings.metadata_max_age_ms,
            getattr(settings, "metadata_max_idle_ms", None),
            create_topics=_creates_topics(settings),
            rebootstrap_trigger_ms=settings.metadata_recovery_rebootstrap_trigger_ms if rebootstraps else None,
        )
        self.rebootstraps = rebootstraps
        self._coordinators = CoordinatorLookup(self)
        self._refresh = MetadataRefresh(self)

    # Life

    async def start(self) -> None:
        """Connect and get metadata now, instead of with the first call. `BootstrapError` when that fails."""
        await self._refresh.bootstrapped(self.settings.request_timeout_ms)

    async def close(self, timeout_ms: int = 5_000) -> None:
        """Close all connections; what is waiting or in flight fails with `ClientClosedError`.

        What has been written still goes out, for up to `timeout_ms`.
        """
        if self._is_closed:
            return
        self._is_closed = True
        if self._loop is not None and self._loop.is_closed():
            return  # which has ended all there was
        error = ClientClosedError("the client was closed.")
        # Nothing is waited for before everything is on its way to its end: the caller may be cancelled meanwhile.
        closing = [link.connection for link in self._links.values() if link.connection is not None]
        tasks = [*self._refresh.close(error), *self._coordinators.clear(error)]
        tasks += [task for link in self._links.values() if (task := link.close(error)) is not None]
        try:
            if tasks:
                await asyncio.wait(tasks)
            async with asyncio.timeout(timeout_ms / 1000):
                for connection in closing:
                    await connection.closed()
        except TimeoutError:
            pass
        finally:
            for connection in closing:
                connection.abort(error)

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def now_ms(self) -> int:
        """Milliseconds of a monotonic clock: the loop's, where loops have clocks of their own."""
        if self._loop is None and not self._clock_is_given:
            try:
                return int(_clock_of(asyncio.get_running_loop())() * 1000)
            except RuntimeError:
                pass
        return int(self._clock() * 1000)

    @property
    def is_bound(self) -> bool:
        """The loop is known: until then nothing goes on in the background."""
        return self._loop is not None

    def bind(self) -> asyncio.AbstractEventLoop:
        """The loop of this cluster: the one that runs now, at the first call.

        Waiting calls bind; a blocking client that is made inside somebody's loop does not, and must not.
        """
        running = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = running
            if not self._clock_is_given:
                self._clock = _clock_of(running)
        elif self._loop is not running:
            raise IllegalStateError(
                "this client belongs to another event loop.", hint="Make and use a client within one asyncio.run()."
            )
        return running

    # Metadata

    @property
    def metadata(self) -> ClusterMetadata:
        """The current snapshot."""
        return self.metadata_state.snapshot

    @property
    def all_topics(self) -> bool:
        """Whether metadata of all topics is kept, rather than of those of interest."""
        return self.metadata_state.all_topics

    @all_topics.setter
    def all_topics(self, wanted: bool) -> None:
        if self.metadata_state.set_all_topics(wanted):
            self._refresh.wake()

    def interest(self, topics: Iterable[str], *, replace: bool = False) -> None:
        """Keep the metadata of these topics fresh; with `replace`, of these only. New ones are asked for at once."""
        state = self.metadata_state
        add = state.replace_interest if replace else state.add_interest
        if add(topics, self.now_ms()):
            self._refresh.wake()

    def interest_in_ids(self, ids: Iterable[bytes]) -> None:
        """Find out the names of these topic ids (`metadata.topic_names`), and keep the topics fresh."""
        if self.metadata_state.want_ids(ids):
            self._refresh.wake()

    def request_metadata_update(self) -> None:
        """What is known turned out to be wrong: ask again soon, in the background."""
        self.metadata_state.request_update()
        self._refresh.wake()

    async def refresh_metadata(self, timeout_ms: int | None = None) -> ClusterMetadata:
        """Metadata that was asked for after this call. Raises like `wait_for_topic`."""
        return await self._refresh.refreshed(self._timeout(timeout_ms))

    async def wait_for_topic(self, topic: str, timeout_ms: int) -> TopicMetadata:
        """The topic's metadata, as soon as it exists.

        `InvalidTopicError` and `AuthorizationError` at once; `UnknownTopicError` when it does not exist in time,
        `BootstrapError` when no broker was reached, `KafkaTimeoutError` otherwise.
        """
        return await self._refresh.topic(topic, timeout_ms)

    def add_metadata_listener(self, listener: MetadataListener) -> None:
        """Call `listener(metadata)` on the loop whenever the snapshot is replaced."""
        self._listeners.append(listener)

    def learn_leaders(self, leaders: Iterable[tuple[TopicPartition, int, int]], nodes: Iterable[Node]) -> None:
        """Take in (partition, leader id, leader epoch) as a refused Produce, Fetch or ShareFetch names it (KIP-951)."""
        if self.metadata_state.learn_leaders(leaders, nodes):
            self.metadata_changed()

    def note_leader_epoch(self, tp: TopicPartition, leader_epoch: int) -> bool:
        """A response carried this leader epoch. When it is newer than ours, True, and metadata is asked for."""
        if not self.metadata_state.note_leader_epoch(tp, leader_epoch):
            return False
        self.metadata_changed()
        self._refresh.wake()
        return True

    def metadata_changed(self) -> None:
        """Tell links and listeners of the new snapshot."""
        snapshot = self.metadata
        for node_id, link in list(self._links.items()):
            node = self.node(node_id)
            if node is not None:
                link.node = node
            elif link.state.phase is Phase.DISCONNECTED and not link.load:
                del self._links[node_id]
                link.close(ConnectionFailedError(f"broker {node_id} is not known to the cluster (any more).", hint=""))
        for listener in self._listeners:
            listener(snapshot)

    def has_ready_node(self) -> bool:
        """A connection to a broker stands, be it that the broker has asked for a pause."""
        return any(link.state.is_ready for link in self._links.values())

    def rebootstrap(self, reason: str, *, keep_ready: bool = False) -> None:
        """Forget the brokers and start again from bootstrap.servers (KIP-899)."""
        logger.info("Starting again from %s: %s", ", ".join(map(str, self._bootstrap.values())), reason)
        error = ConnectionFailedError("the client starts again from its bootstrap servers.", hint="")
        self.metadata_state.rebootstrap(self.now_ms())
        links = self._links
        self._links = {one: link for one, link in links.items() if keep_ready and link.state.is_ready}
        if not keep_ready:
            self._coordinators.clear(error)
        for node_id, link in links.items():
            if node_id not in self._links:
                link.close(error)
        self.metadata_changed()

    async def expand_bootstrap(self) -> None:
        """client.dns.lookup=resolve_canonical_bootstrap_servers_only: names instead of aliases."""
        if self.settings.client_dns_lookup == "resolve_canonical_bootstrap_servers_only":
            addresses = self.controllers or self.settings.bootstrap_servers
            expanded = await canonical_addresses(addresses, self.settings.broker_address_family)
            self._bootstrap = bootstrap_nodes(expanded)

    @property
    def bootstrap(self) -> Mapping[int, Node]:
        """The bootstrap servers, by negative ids."""
        return self._bootstrap

    # Nodes

    def node(self, node_id: int) -> Node | None:
        """Where a node id leads: a broker, a bootstrap server (negative), or the coordinator of a group."""
        brokers = self.metadata.brokers
        found = brokers.get(node_id) or self._bootstrap.get(node_id) or self._coordinators.node(node_id)
        if found is not None and found.id != node_id:
            return brokers.get(found.id, found)
        return found

    def api_versions(self, node_id: int) -> Mapping[int, tuple[int, int]] | None:
        """The version ranges a node serves, by API key; None before the first connection to it."""
        link = self._links.get(node_id)
        return link.versions.ranges if link is not None and link.versions is not None else None

    def finalized_feature(self, name: str) -> int:
        """The level of a feature of the cluster; 0 when it is off or not known."""
        return self._features.get(name, 0)

    def is_ready(self, node_id: int) -> bool:
        """A request could be written to the node's connection right now."""
        link = self._links.get(node_id)
        return link is not None and link.is_ready(self.now_ms())

    def connect_delay_ms(self, node_id: int) -> int:
        """How long requests to the node would have to wait for a reconnect backoff or a throttling pause; 0 if not."""
        link = self._links.get(node_id)
        return 0 if link is None else link.state.delay_ms(self.now_ms())

    def in_flight(self, node_id: int) -> int:
        """Requests to the node that wait or are unanswered."""
        link = self._links.get(node_id)
        return 0 if link is None else link.load

    def least_loaded_node(self) -> int | None:
        """The node to ask what any node knows: ready with the fewest requests, else connecting, else untried the
        longest. Bootstrap servers only before the brokers are known. None while all of them are in backoff.
        """
        nodes = list(self.metadata.brokers or self._bootstrap)
        start = self._random.randrange(len(nodes)) if nodes else 0
        now_ms = self.now_ms()
        best: tuple[int, int, int] | None = None
        for index in range(len(nodes)):
            node_id = nodes[(start + index) % len(nodes)]
            link = self._links.get(node_id)
            if link is None:
                rank = (2, -1, node_id)
            elif link.is_ready(now_ms):
                rank = (0, link.load, node_id)
            elif link.state.phase in (Phase.CONNECTING, Phase.CHECKING):
                rank = (1, 0, node_id)
            elif link.state.may_connect(now_ms):
                rank = (2, link.state.last_attempt_ms, node_id)
            else:
                continue
            if best is None or rank[:2] < best[:2]:
                best = rank
        return None if best is None else best[2]

    async def any_node(self, timeout_ms: int) -> int:
        """A node to ask; `BootstrapError` when none is reached in time."""
        deadline_ms = self.now_ms() + timeout_ms
        await self._refresh.bootstrapped(timeout_ms)
        while (node_id := self.least_loaded_node()) is None:
            left_ms = deadline_ms - self.now_ms()
            if left_ms <= 0:
                raise KafkaTimeoutError(f"no broker could be reached within {timeout_ms} ms.")
            delays = [self.connect_delay_ms(one) for one in self.metadata.brokers or self._bootstrap]
            await asyncio.sleep(min(max(1, min(delays, default=1)), left_ms) / 1000)
        return node_id

    async def controller(self, timeout_ms: int) -> int:
        """The controller, as far as brokers tell: a node that takes requests for the controller."""
        await self._refresh.bootstrapped(timeout_ms)
        controller_id = self.metadata.controller_id
        if controller_id in self.metadata.brokers:
            return controller_id
        await self.refresh_metadata(timeout_ms)
        controller_id = self.metadata.controller_id
        return controller_id if controller_id in self.metadata.brokers else await self.any_node(timeout_ms)

    async def coordinator(self, key_type: int, key: str, timeout_ms: int) -> int:
        """The node id of the coordinator of a group (0), transactional id (1) or share group (2).

        For groups the id is that of a connection of its own; `node` tells the broker. Kept until `forget_coordinator`,
        or until a connection to it fails. `KafkaTimeoutError` when there is none in time, other errors as they are.
        """
        self._check_open()
        return await self._coordinators.find(key_type, key, timeout_ms)

    def forget_coordinator(self, key_type: int, key: str) -> None:
        """The broker said it is not the coordinator."""
        self._coordinators.forget(key_type, key)

    # Requests

    def send(
        self,
        node_id: int,
        request: Request,
        *,
        timeout_ms: int | None = None,
        min_version: int | None = None,
        max_version: int | None = None,
        expect_response: bool = True,
    ) -> asyncio.Future[Any]:
        """Send a request, in the order of calls; the future of the response's body. No retries.

        The highest version that both sides know is used, within `min_version` … `max_version`. Without
        `expect_response` (Produce with acks=0) the future gives None when the request is written. Errors:
        `ConnectionFailedError` (retriable), `KafkaTimeoutError`, `UnsupportedVersionError`, `AuthenticationError`.
        """
        loop = self.bind()
        timeout = self._timeout(timeout_ms)
        call = Call(
            request,
            loop.create_future(),
            self.now_ms() + timeout,
            timeout,
            min_version,
            max_version,
            expect_response,
            timeout_ms is None,
        )
        link = self._links.get(node_id)
        if link is None:
            if self._is_closed:
                call.fail(ClientClosedError("the client was closed."))
                return call.future
            node = self.node(node_id)
            if node is None:
                call.fail(ConnectionFailedError(f"broker {node_id} is not known to the cluster (any more).", hint=""))
                self.request_metadata_update()
                return call.future
            link = self._links[node_id] = BrokerLink(self, node_id, node, NodeState(self._reconnect, self._setup))
        elif self._is_closed:
            call.fail(ClientClosedError("the client was closed."))
            return call.future
        link.send(call)
        return call.future

    async def request(
        self,
        node_id: int,
        request: Request,
        *,
        timeout_ms: int | None = None,
        min_version: int | None = None,
        max_version: int | None = None,
    ) -> Any:
        """`send`, awaited."""
        return await self.send(
            node_id, request, timeout_ms=timeout_ms, min_version=min_version, max_version=max_version
        )

    async def request_any(
        self,
        request: Request,
        *,
        timeout_ms: int | None = None,
        min_version: int | None = None,
        max_version: int | None = None,
    ) -> Any:
        """`request` to the node that has the least to do."""
        timeout = self._timeout(timeout_ms)
        deadline_ms = self.now_ms() + timeout
        node_id = await self.any_node(timeout)
        left_ms = None if timeout_ms is None else max(1, deadline_ms - self.now_ms())
        return await self.request(
            node_id, request, timeout_ms=left_ms, min_version=min_version, max_version=max_version
        )

    def _timeout(self, timeout_ms: int | None) -> int:
        return self.settings.request_timeout_ms if timeout_ms is None else timeout_ms

    def _check_open(self) -> None:
        if self._is_closed:
            raise ClientClosedError("the client was closed.")

    # What links ask and tell

    def security(self) -> ConnectionSecurity | None:
        """TLS and SASL, loaded when the first connection needs them."""
        if self.settings.security_protocol == "PLAINTEXT":
            return None
        if self._security is None:
            from ottla.client.security import connection_security

            self._security = connection_security(self.settings)
        return self._security

    def api_versions_version(self) -> int:
        return self._api_versions_version

    def cluster_to_expect(self) -> str | None:
        checks = self.rebootstraps and self.settings.metadata_cluster_check_enable
        return self.metadata.cluster_id if checks else None

    def link_ready(self, link: BrokerLink, api_versions_version: int) -> None:
        versions = link.versions
        assert versions is not None
        served = versions.ranges.get(ApiKey.API_VERSIONS, (0, 0))[1]
        checks = self.rebootstraps and self.settings.metadata_cluster_check_enable and served >= CLUSTER_CHECK
        self._api_versions_version = CLUSTER_CHECK if checks else api_versions_version
        if versions.feature_epoch >= self._feature_epoch and versions.features:
            self._feature_epoch = versions.feature_epoch
            self._features = versions.features

    def link_answered(self, link: BrokerLink) -> None:
        # Not when it is ready: a listener for SASL takes a plain connection, and closes it with the first request.
        if self.reachability.reached(link.address):
            logger.info("Broker %s answers again", link.name)

    def link_failed(self, link: BrokerLink, error: KafkaError, *, was_ready: bool) -> None:
        if self.reachability.lost(link.address, error.message):
            if error.retriable:
                logger.warning("%s Trying again.", error.message)
            else:
                logger.warning("%s", error, extra={"is_final": True})
        self._coordinators.forget_node(link.id)
        self._refresh.link_failed(link, error)

    def link_closed(self, link: BrokerLink) -> None:
        if link.node.id >= 0:
            self.request_metadata_update()


def _clock_of(loop: asyncio.AbstractEventLoop) -> Clock:
    """The loop's own time; but uvloop's stands still while it waits, which other threads would see."""
    return time.monotonic if type(loop).__module__.startswith("uvloop") else loop.time


def _creates_topics(settings: CommonSettings) -> bool:
    """Whether asking for a topic may create it: producers always, consumers as they are set, nobody else."""
    kind = settings.kind
    return bool(getattr(settings, "allow_auto_create_topics", kind == "producer"))
