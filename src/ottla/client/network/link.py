"""The way to one node: makes the connection when somebody wants to send, keeps what cannot be sent yet, watches time.

The requests of a node keep their order, also those that wait for the connection or for the end of a pause.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from ottla.client.errors import (
    AuthenticationError,
    ConnectionFailedError,
    KafkaError,
    KafkaTimeoutError,
    UnsupportedVersionError,
)
from ottla.client.network.addresses import join_address, resolve
from ottla.client.network.connection import BrokerConnection, Call, cut_in_tls, reason_of, tls_error
from ottla.client.network.node_state import NodeState, Phase
from ottla.client.network.versions import NodeVersions, api_versions_request, client_throttles, downgrade
from ottla.protocol.apis import ApiKey

if TYPE_CHECKING:
    from ottla.client.metrics.network import NetworkMetrics
    from ottla.client.model import Node
    from ottla.client.network.security import ConnectionSecurity
    from ottla.client.settings import CommonSettings
    from ottla.protocol.connection import Response
    from ottla.protocol.message import Request

logger = logging.getLogger("ottla.client")

REAUTHENTICATE_AFTER = 0.85
"""Share of a session's lifetime after which it is renewed; Kafka's own client takes 85 to 95 %."""


class LinkHost(Protocol):
    """What a link needs of the cluster it belongs to."""

    settings: CommonSettings
    metrics: NetworkMetrics | None

    def now_ms(self) -> int: ...

    def security(self) -> ConnectionSecurity | None:
        """None for PLAINTEXT."""

    def api_versions_version(self) -> int:
        """The version of ApiVersions to begin with."""

    def cluster_to_expect(self) -> str | None:
        """The id of the cluster that brokers have to belong to, if it is known."""

    def link_ready(self, link: BrokerLink, api_versions_version: int) -> None:
        """The connection is ready, its versions are known."""

    def link_answered(self, link: BrokerLink) -> None:
        """The first request that was not about the connection itself has an answer."""

    def link_failed(self, link: BrokerLink, error: KafkaError, *, was_ready: bool) -> None:
        """The connection could not be made, or was lost while something was in flight."""

    def link_closed(self, link: BrokerLink) -> None:
        """The broker closed the connection with nothing in flight."""


class BrokerLink:
    """One node: its connection, and what waits for it."""

    def __init__(self, host: LinkHost, node_id: int, node: Node, state: NodeState) -> None:
        self.id = node_id
        """What requests name; not the broker's own id when this is its connection as coordinator."""
        self.node = node
        self.state = state
        self.versions: NodeVersions | None = None
        self.connection: BrokerConnection | None = None
        self.pending: deque[Call] = deque()
        self._host = host
        self._settings = host.settings
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        """Connects or authenticates anew."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_ms = 0
        self._last_used_ms = 0
        self._renew_at_ms: int | None = None
        self._has_answered = False
        self._is_closed = False

    # For the cluster

    @property
    def address(self) -> str:
        return join_address(self.node.host, self.node.port)

    @property
    def name(self) -> str:
        """The node in messages."""
        return str(self.node) if self.node.id >= 0 else self.address

    def is_ready(self, now_ms: int) -> bool:
        return self.state.is_ready and self._task is None and self.state.muted_until_ms <= now_ms

    @property
    def load(self) -> int:
        """Requests that are waiting or in flight."""
        return len(self.pending) + (len(self.connection.in_flight) if self.connection is not None else 0)

    def send(self, call: Call) -> None:
        """Write the call, or keep it until it can be written."""
        now_ms = self._host.now_ms()
        if not self.pending and self._may_write(now_ms):
            self._write(call, now_ms)
            return
        self.pending.append(call)
        self._arm(call.deadline_ms, now_ms)
        self._work(now_ms)

    def close(self, error: KafkaError) -> asyncio.Task[None] | None:
        """Nothing can be sent any more; what waits or is in flight fails with `error`.

        Returns the cancelled task of an attempt that was under way.
        """
        self._is_closed = True
        return self.reset(error)

    def reset(self, error: KafkaError) -> asyncio.Task[None] | None:
        """Close the connection, and fail all that waits or is in flight."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        connection, self.connection = self.connection, None
        self.state.closed()
        self._renew_at_ms = None
        if connection is not None:
            for call in connection.in_flight:
                call.fail(error)
            connection.close()
        self._fail_pending(error)
        return task

    # Writing

    def _may_write(self, now_ms: int) -> bool:
        return (
            self.state.is_ready
            and self._task is None
            and self.state.muted_until_ms <= now_ms
            and (self._renew_at_ms is None or now_ms < self._renew_at_ms)
        )

    def _write(self, call: Call, now_ms: int) -> None:
        if call.future.done():
            return
        assert self.connection is not None
        assert self.versions is not None
        try:
            version = self.versions.choose(call.request.API_KEY, call.min_version, call.max_version)
        except KafkaError as error:
            call.fail(error)
            return
        call.sent_ms = self._last_used_ms = now_ms
        call.drop_at_ms = now_ms + max(call.timeout_ms, self._settings.request_timeout_ms)
        if call.deadline_is_default:
            call.deadline_ms = call.drop_at_ms
        size = self.connection.write(call, version)
        if size and self._host.metrics is not None:
            self._host.metrics.request_sent(self.id, size)
        if call.expect_response:
            self._arm(min(call.deadline_ms, call.drop_at_ms), now_ms)

    def _work(self, now_ms: int) -> None:
        """Do what can be done for the calls that wait."""
        if self._task is not None or self._is_closed:
            return
        if self.state.phase is Phase.DISCONNECTED:
            self._task = self._loop.create_task(self._connect())
        elif self.state.is_ready:
            if self._renew_at_ms is not None and now_ms >= self._renew_at_ms:
                self._task = self._loop.create_task(self._renew())
            elif self.state.muted_until_ms > now_ms:
                self._arm(self.state.muted_until_ms, now_ms)
            else:
                self._flush(now_ms)

    def _flush(self, now_ms: int) -> None:
        while self.pending and self._may_write(now_ms):
            self._write(self.pending.popleft(), now_ms)
        if self.pending:
            self._work(now_ms)

    def _fail_pending(self, error: KafkaError) -> None:
        pending, self.pending = self.pending, deque()
        for call in pending:
            call.fail(error)

    # Connecting

    async def _connect(self) -> None:
        now_ms = self._host.now_ms()
        while (delay_ms := self.state.delay_ms(now_ms)) > 0:
            await asyncio.sleep(delay_ms / 1000)
            now_ms = self._host.now_ms()
            self.pending = deque(call for call in self.pending if not call.future.done())
            if not self.pending:
                self._task = None
                return
        self.state.connecting(now_ms)
        self._has_answered = False
        timeout_ms = self.state.setup_timeout_ms()
        try:
            connection = self.connection = await self._open(timeout_ms)
            self.state.connected()
            api_versions = await self._negotiate(connection)
            await self._authenticate(connection, is_renewal=False)
            if not connection.is_open:
                raise ConnectionFailedError(f"{self.name} closed the connection.")
        except Exception as error:
            self._task = None
            self._connect_failed(self.connection, self._connect_error(error))
            return
        self.state.ready()
        self._task = None
        now_ms = self._last_used_ms = self._host.now_ms()
        self._host.link_ready(self, api_versions)
        self._arm(now_ms + self._settings.connections_max_idle_ms, now_ms)
        self._flush(now_ms)

    def _connect_error(self, error: Exception) -> KafkaError:
        if isinstance(error, KafkaError):
            return error
        if isinstance(error, ssl.SSLError):
            return tls_error(self.name, error)
        if isinstance(error, OSError):
            return ConnectionFailedError(f"{self.name} cannot be reached: {reason_of(error)}.")
        logger.error("The connection to %s failed as it never should", self.name, exc_info=error)
        return KafkaError(f"{self.name} cannot be used: {reason_of(error)}.", retriable=False)

    def _connect_failed(self, connection: BrokerConnection | None, error: KafkaError) -> None:
        self.connection = None
        self.state.failed(self._host.now_ms())
        if connection is not None:
            connection.abort(error)
        self._host.link_failed(self, error, was_ready=False)
        self._fail_pending(error)

    async def _open(self, timeout_ms: int) -> BrokerConnection:
        """A connection to the first address of the name that takes one."""
        security = self._host.security()
        tls = security.ssl_context(self.node.host) if security is not None else None
        options: dict[str, Any] = {}
        if tls is not None:
            context, server_hostname = tls
            options = {"ssl": context, "server_hostname": server_hostname}
        problem: OSError | None = None
        async with asyncio.timeout(timeout_ms / 1000):
            addresses = await resolve(self.node.host, self.node.port, self._settings.broker_address_family)
        for address in addresses:
            try:
                async with asyncio.timeout(timeout_ms / 1000):
                    _, connection = await self._loop.create_connection(
                        lambda: BrokerConnection(self, self._settings.client_id, self.name),
                        address,
                        self.node.port,
                        **options,
                    )
            except ssl.SSLError:
                raise
            except ConnectionResetError as error:
                if tls is not None:
                    raise cut_in_tls(self.name) from error
                problem = error
                continue
            except OSError as error:  # TimeoutError is one
                problem = error
                continue
            settings = self._settings
            connection.set_socket_options(
                _explicit(settings, "send.buffer.bytes"), _explicit(settings, "receive.buffer.bytes")
            )
            if self._host.metrics is not None:
                self._host.metrics.connection_created()
            return connection
        raise problem or OSError("the name has no address")

    async def _negotiate(self, connection: BrokerConnection) -> int:
        """Learn what the broker serves; the version of ApiVersions it understood."""
        version: int | None = self._host.api_versions_version()
        understood = version or 0
        cluster_id = self._host.cluster_to_expect() if self.node.id >= 0 else None
        node_id = self.node.id if cluster_id is not None else -1
        while version is not None:
            understood = version
            request = api_versions_request(version, cluster_id, node_id)
            response = await self._call(connection, request, version)
            version = downgrade(response, version)
        connection.accept_large_frames()
        self.versions = NodeVersions(response, self.name)
        self._note_throttle(ApiKey.API_VERSIONS, understood, response)
        return understood

    async def _call(self, connection: BrokerConnection, request: Request, version: int) -> Any:
        """One request of the connection's beginning, outside the queue."""
        timeout_ms = self._settings.request_timeout_ms
        call = Call(request, self._loop.create_future(), 0, timeout_ms)
        call.sent_ms = self._host.now_ms()
        call.deadline_ms = call.drop_at_ms = call.sent_ms + timeout_ms
        size = connection.write(call, version)
        if size and self._host.metrics is not None:
            self._host.metrics.request_sent(self.id, size)
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                return await call.future
        except TimeoutError:
            raise ConnectionFailedError(f"{self.name} did not answer for {timeout_ms} ms.") from None

    # Authentication

    async def _authenticate(self, connection: BrokerConnection, *, is_renewal: bool) -> None:
        security = self._host.security()
        if security is None:
            return
        assert self.versions is not None
        versions, metrics = self.versions, self._host.metrics

        async def send_and_receive(request: Request) -> Any:
            try:
                version = versions.choose(request.API_KEY, None, None)
            except UnsupportedVersionError:
                raise AuthenticationError(
                    f"{self.name} does not know SASL.", hint="Check security.protocol and the port."
                ) from None
            return await self._call(connection, request, version)

        started_ms = self._host.now_ms()
        try:
            lifetime_ms = await security.authenticate(send_and_receive, self.node.host)
        except AuthenticationError:
            if metrics is not None:
                metrics.authentication_failed(again=is_renewal)
            raise
        now_ms = self._host.now_ms()
        self._renew_at_ms = now_ms + round(lifetime_ms * REAUTHENTICATE_AFTER) if lifetime_ms else None
        if metrics is not None:
            metrics.authenticated(again_ms=now_ms - started_ms if is_renewal else None)

    async def _renew(self) -> None:
        """Authenticate again, before what waits is written (KIP-368)."""
        connection = self.connection
        assert connection is not None
        try:
            await self._authenticate(connection, is_renewal=True)
        except Exception as error:
            self._task = None
            connection.abort(self._connect_error(error))
            return
        self._task = None
        self._flush(self._host.now_ms())

    # What the connection tells

    def response_received(self, call: Call, response: Response, size_bytes: int) -> None:
        now_ms = self._host.now_ms()
        self._last_used_ms = now_ms
        if self._host.metrics is not None:
            self._host.metrics.response_received(self.id, size_bytes, now_ms - call.sent_ms)
        if self.state.is_ready:
            if not self._has_answered:
                self._has_answered = True
                self._host.link_answered(self)
            self._note_throttle(response.api_key, response.api_version, response.body)

    def _note_throttle(self, api_key: int, version: int, body: Any) -> None:
        throttle_time_ms = getattr(body, "throttle_time_ms", 0)
        if throttle_time_ms > 0 and client_throttles(api_key, version):
            self.state.throttle(self._host.now_ms(), throttle_time_ms)

    def connection_closed(self, connection: BrokerConnection, error: KafkaError | None) -> None:
        if self._host.metrics is not None and connection.was_made:
            self._host.metrics.connection_closed()
        if connection is not self.connection or not self.state.is_ready:
            return  # ours, or the attempt that is under way deals with it
        self.connection = None
        self._renew_at_ms = None
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        was_in_use = bool(connection.in_flight_at_end or self.pending)
        if not was_in_use or error is None:
            self.state.closed()
            self._host.link_closed(self)
            return
        self.state.failed(self._host.now_ms())
        self._host.link_failed(self, error, was_ready=True)
        self._fail_pending(error)

    # Time

    def _arm(self, at_ms: int, now_ms: int) -> None:
        """Look at the clock at `at_ms`, or earlier."""
        if self._timer is not None:
            if self._timer_at_ms <= at_ms:
                return
            self._timer.cancel()
        self._timer_at_ms = at_ms
        self._timer = self._loop.call_later(max(0, at_ms - now_ms) / 1000, self._tick)

    def _tick(self) -> None:
        """Fail what has waited too long, send what may be sent now, close what is idle."""
        self._timer = None
        now_ms = self._host.now_ms()
        for call in self.pending:
            if call.deadline_ms <= now_ms:
                call.fail(self._timeout(call, "could not be sent"))
        self.pending = deque(call for call in self.pending if not call.future.done())
        connection = self.connection
        in_flight = connection.in_flight if connection is not None else ()
        if connection is not None and any(call.drop_at_ms <= now_ms for call in in_flight):
            timeout_ms = self._settings.request_timeout_ms
            connection.abort(ConnectionFailedError(f"{self.name} did not answer for {timeout_ms} ms."))
            return
        for call in in_flight:
            if call.deadline_ms <= now_ms:
                call.fail(self._timeout(call, "was not answered"))
        if self.state.is_ready and not self.load:
            idle_at_ms = self._last_used_ms + self._settings.connections_max_idle_ms
            if idle_at_ms <= now_ms:
                self.reset(ConnectionFailedError(f"the connection to {self.name} was closed, being idle.", hint=""))
                return
            self._arm(idle_at_ms, now_ms)
            return
        if self.pending:
            self._work(now_ms)
        self._arm_next(now_ms)

    def _arm_next(self, now_ms: int) -> None:
        times = [call.deadline_ms for call in self.pending]
        if self.connection is not None:
            times += (
                call.drop_at_ms if call.future.done() else min(call.deadline_ms, call.drop_at_ms)
                for call in self.connection.in_flight
            )
        if self.pending and self.state.is_ready and self.state.muted_until_ms > now_ms:
            times.append(self.state.muted_until_ms)
        if times:
            self._arm(min(times), now_ms)

    def _timeout(self, call: Call, what: str) -> KafkaError:
        return KafkaTimeoutError(f"a request to {self.name} {what} within {call.timeout_ms} ms.")

    def check_invariants(self) -> None:
        self.state.check_invariants()
        assert self.state.is_ready == (
            self.connection is not None and self.versions is not None and self.state.is_ready
        )
        assert not self.pending or self._task is not None or self._timer is not None, "nobody looks after what waits"


def _explicit(settings: CommonSettings, name: str) -> int | None:
    """A buffer's size when the user has chosen one; the operating system's own tuning is better than any default."""
    size: int = settings.value(name)
    return size if settings.is_given(name) and size >= 0 else None
