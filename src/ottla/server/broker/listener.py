"""Accepting connections on one address, and looking after them: limits, idleness, shutting down."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from ottla.server.broker.connection import Connection
from ottla.server.broker.connection_limits import Admission, Decision, ListenerLimits
from ottla.server.broker.patience import Patience

if TYPE_CHECKING:
    from ottla.schema.config import BrokerConfig
    from ottla.schema.listeners import Listener as ListenerAddress
    from ottla.server.broker.broker import Broker
    from ottla.server.broker.complaints import Complaints
    from ottla.server.broker.connection_limits import ConnectionLimits
    from ottla.server.broker.dispatch import Router
    from ottla.server.broker.handshakes import Handshakes
    from ottla.server.broker.response_memory import ResponseMemory
    from ottla.server.broker.sasl_listener import SaslListener

logger = logging.getLogger(__name__)

# Idle connections are looked for this many times per connections.max.idle.ms, within these bounds (seconds).
_SWEEPS_PER_IDLE_TIME = 10
_SHORTEST_SWEEP = 0.05
_LONGEST_SWEEP = 30.0
# A client has so many seconds to take what it was answered before its connection was closed.
_CLOSING_S = 30.0


class ListenError(OSError):
    """A listener's address cannot be bound.  `address` is `host:port` as configured."""

    def __init__(self, name: str, address: str, cause: OSError) -> None:
        self.name = name
        self.address = address
        reason = "the port is already in use" if cause.errno == errno.EADDRINUSE else (cause.strerror or str(cause))
        super().__init__(cause.errno, f"cannot listen on {address} ({name}): {reason}")

    def __str__(self) -> str:
        return str(self.strerror)


class Logins:
    """How many have said who they are, and how that went; on listeners that ask."""

    __slots__ = ("expired", "failed", "failed_again", "reauthenticated", "succeeded")

    def __init__(self) -> None:
        self.succeeded = self.failed = 0
        self.reauthenticated = self.failed_again = 0
        self.expired = 0
        """Connections that were closed because their session was over."""


class Listener:
    """One listening address of a broker, and its connections.

    All listeners of a broker share one `ConnectionLimits`; each has a `Router` of its own. `port` is the bound one,
    also when 0 was asked for.
    """

    def __init__(self, broker: Broker, address: ListenerAddress, router: Router, limits: ConnectionLimits) -> None:
        config = broker.config
        self.broker = broker
        self.address = address
        self.name = address.name
        self.port = address.port
        self.router = router
        self.limits = ListenerLimits(limits, address.name)
        self._complaints: Complaints | None = None
        self._patience = Patience(config, must_log_in=address.protocol.startswith("SASL"))
        self.max_request_bytes: int = config["socket.request.max.bytes"]
        self.connections: dict[Connection, None] = {}  # in the order in which they came
        self.accepted_count = 0
        self.refused_count = 0
        # Of these, because of how many come from an address, and of how fast they do.
        self.refused_addresses = self.refused_rates = 0
        self.idle_closed_count = 0
        self.slow_closed_count = 0
        """Connections that did not send a whole request in time."""
        # Of connections that are gone.
        self._past_bytes_in = self._past_bytes_out = 0
        self.clock_ns = broker.env.work_clock
        self._max_idle_s: float = config["connections.max.idle.ms"] / 1000
        self._backlog: int = config["socket.listen.backlog.size"]
        self._socket_options = _buffer_sizes(config)
        self.logins = Logins()
        self.handshakes: Handshakes | None = None
        if address.protocol.endswith("SSL"):
            from ottla.server.broker.handshakes import Handshakes

            self.handshakes = Handshakes(self)
        self.sasl: SaslListener | None = None
        if address.protocol.startswith("SASL"):
            from ottla.server.broker.sasl_listener import SaslListener

            self.sasl = SaslListener(broker, address.name, router)
        self._servers: list[asyncio.Server] = []
        self._sweep: asyncio.TimerHandle | None = None
        # Waiting for the limits, the longest first; at most as many as there may wait in the kernel.
        self._held: deque[Connection] = deque()
        self._retry: asyncio.TimerHandle | None = None
        self._is_full = False
        # Connections that do not count: those kept waiting before they are closed, and those being closed to make room.
        self._unwelcome: dict[Connection, asyncio.TimerHandle] = {}
        self._making_room: set[Connection] = set()
        limits.on_change.append(self._limits_changed)
        self._closed: asyncio.Event | None = None
        # Told of each new connection before it may say anything: the seam for faults in tests.
        self.on_connection: Callable[[Connection], object] | None = None

    async def bind(self) -> None:
        """Take the address: afterwards `port` is known, but nobody is let in before `accept`.  Raises ListenError."""
        host, port = self.address.host or None, self.address.port
        try:
            if port:
                await self._bind(host, port)
            else:
                await self._bind_to_any_port(host)
        except OSError as error:
            self.stop_accepting()
            raise ListenError(self.name, self.address.address, error) from error

    async def accept(self) -> None:
        """Let clients in."""
        for server in self._servers:
            await server.start_serving()
        self._schedule_sweep(asyncio.get_running_loop())

    async def accept_again(self) -> None:
        """After `stop_accepting`: at the same port.  Raises ListenError when somebody else has taken it."""
        try:
            await self._bind(self.address.host or None, self.port)
        except OSError as error:
            raise ListenError(self.name, self.address.address, error) from error
        await self.accept()

    async def start(self) -> None:
        """Bind and accept.  Raises ListenError."""
        await self.bind()
        await self.accept()

    async def _bind(self, host: str | None, port: int) -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self._make_protocol, host, port, backlog=self._backlog, start_serving=False)
        if not server.sockets:
            # The event loop passes over addresses for which it gets no socket: for lack of files, which this tells.
            socket.socket().close()
            raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
        self._servers.append(server)
        self.port = server.sockets[0].getsockname()[1]

    def _make_protocol(self) -> asyncio.BufferedProtocol:
        """What the socket of a new connection talks to: the connection itself, or TLS in front of it."""
        connection = self._make_connection()
        return connection if self.handshakes is None else self.handshakes.before(connection)

    def _make_connection(self) -> Connection:
        requests = self.limits.shared.requests
        if self.sasl is not None:
            from ottla.server.broker import sasl_connection

            return (
                sasl_connection.SaslConnection(self)
                if requests is None
                else sasl_connection.bounded_connection()(self, requests)
            )
        if requests is None:
            return Connection(self)
        from ottla.server.broker.connection_memory import BoundedConnection

        return BoundedConnection(self, requests)

    async def _bind_to_any_port(self, host: str | None) -> None:
        """A free port, the same one on all addresses of the host (the loop alone would take one for each)."""
        found = await asyncio.get_running_loop().getaddrinfo(
            host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE if host is None else 0
        )
        addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
        await self._bind(addresses[0], 0)
        for other in addresses[1:]:
            try:
                await self._bind(other, self.port)
            except OSError as error:
                logger.debug("%s does not listen on %s: %s", self.name, other, error)

    def stop_accepting(self) -> None:
        """Close the listening socket; connections stay."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        for timer in (self._sweep, self._retry):
            if timer is not None:
                timer.cancel()

    def abort(self) -> None:
        """Stop accepting and drop every connection, at once."""
        self.stop_accepting()
        self._closed = asyncio.Event()
        for connection in list(self.connections):
            connection.abort()

    async def close(self, grace_s: float = 5.0) -> None:
        """Stop accepting, let requests in flight finish (at most `grace_s` seconds), close every connection."""
        self.stop_accepting()
        self._closed = asyncio.Event()
        for connection in list(self.connections):
            connection.shut_down()
        if self.connections:
            try:
                await asyncio.wait_for(self._closed.wait(), grace_s)
            except TimeoutError:
                for connection in list(self.connections):
                    connection.abort()
        if self.sasl is not None:
            await self.sasl.close()
        # The transports' last callbacks, so that nothing of this listener is left on the loop.
        await asyncio.sleep(0)

    @property
    def complaints(self) -> Complaints:
        """For lines about what clients do that they should not."""
        if self._complaints is None:
            from ottla.server.broker.complaints import Complaints

            self._complaints = Complaints(logger)
        return self._complaints

    @property
    def answers(self) -> ResponseMemory:
        """Answers that clients do not read, of all listeners of the broker."""
        return self.limits.shared.answers

    # What was counted

    @property
    def bytes_in(self) -> int:
        """Bytes received, on all connections that there are and were."""
        return self._past_bytes_in + sum(connection.bytes_in for connection in self.connections)

    @property
    def bytes_out(self) -> int:
        """Bytes sent, as `bytes_in`."""
        return self._past_bytes_out + sum(connection.bytes_out for connection in self.connections)

    @property
    def requests(self) -> int:
        """Requests received."""
        return sum(route.requests for route in list(self.router.routes.values()))

    # What connections call

    def connection_made(self, connection: Connection) -> None:
        """Count a new connection, and refuse or hold it where a limit says so."""
        loop = asyncio.get_running_loop()
        self.follow_settings()
        self.connections[connection] = None
        if self._closed is not None:  # it was on its way in when the listener was closed
            connection.abort()
            return
        connection.idle_since = connection.progress.since = loop.time()
        if self.on_connection is not None:
            self.on_connection(connection)
        if self._held:
            self._hold(connection)
        else:
            self._carry_out(connection, self.limits.decide(connection.context.client_host, _now_ms(loop)))

    def connection_lost(self, connection: Connection) -> None:
        """Forget a connection, and let a held one in."""
        self.connections.pop(connection, None)
        self._past_bytes_in += connection.bytes_in
        self._past_bytes_out += connection.bytes_out
        if connection in self._unwelcome:
            self._unwelcome.pop(connection).cancel()
        elif connection in self._held:
            if self._held[0] is connection:
                self.limits.give_up()
            self._held.remove(connection)
        elif connection.was_accepted:
            if connection in self._making_room:
                self._making_room.remove(connection)
                self.limits.shared.closing -= 1
            self.limits.release(connection.context.client_host)
            self.limits.shared.changed()
        if self._closed is not None and not self.connections:
            self._closed.set()

    def _carry_out(self, connection: Connection, decision: Decision) -> None:
        """Do with a connection what the limits have decided."""
        loop = asyncio.get_running_loop()
        if decision.admission is Admission.ACCEPT:
            self.accepted_count += 1
            self._is_full = False
            connection.was_accepted = True
            _set_socket_options(connection.transport, self._socket_options)
            if connection.is_held:
                connection.release()
            if self.limits.shared.has_too_many:
                self.limits.shared.changed()
        elif decision.admission is Admission.HOLD:
            self._hold(connection)
            self._wait(loop, decision.wait_ms)
        elif decision.admission is Admission.CLOSE_LATER:
            assert decision.wait_ms is not None
            self.refused_count += 1
            self.refused_rates += 1
            logger.debug("closing the connection of %s soon: its address connects too often", connection.client)
            connection.hold()
            self._unwelcome[connection] = loop.call_later(decision.wait_ms / 1000, connection.abort)
        else:
            self.refused_addresses += 1
            self._refuse(connection)

    def _hold(self, connection: Connection) -> None:
        if len(self._held) >= self._backlog:
            self._refuse(connection)
        else:
            connection.hold()
            self._held.append(connection)

    def _refuse(self, connection: Connection) -> None:
        self.refused_count += 1
        now = asyncio.get_running_loop().time()
        self.complaints.log(now, logging.INFO, "refusing the connection of %s: too many connections", connection.client)
        connection.abort()

    def _admit_held(self) -> None:
        """Decide on those that wait, the longest first, until one has to go on waiting."""
        loop = asyncio.get_running_loop()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        while self._held:
            decision = self.limits.decide(self._held[0].context.client_host, _now_ms(loop))
            if decision.admission is Admission.HOLD:
                self._wait(loop, decision.wait_ms)
                return
            self._carry_out(self._held.popleft(), decision)

    def _wait(self, loop: asyncio.AbstractEventLoop, wait_ms: int | None) -> None:
        """When the rate is what holds connections back, time lets them in; else somebody has to leave."""
        if wait_ms is not None:
            self._retry = loop.call_later(wait_ms / 1000, self._admit_held)
        elif not self._is_full:
            self._is_full = True
            logger.warning(
                "%s has no room: there are %d connections, of %d in all; new ones wait until others are closed",
                self.name,
                self.limits.count,
                self.limits.shared.total,
            )

    # Limits that change

    def follow_settings(self) -> None:
        """Take over limits that were changed at run time; free when they were not."""
        if self.sasl is not None:
            self.sasl.follow_settings(self.broker.config)
        if self.limits.shared.follow(self.broker.config):
            self.limits.shared.changed()

    def _limits_changed(self) -> None:
        if self._closed is None:
            if self._held:
                self._admit_held()
            if self.limits.shared.has_too_many and not self.limits.is_protected:
                self._make_room()

    def _make_room(self) -> None:
        """Close as many connections as there are too many, those first that have been idle longest."""
        shared = self.limits.shared
        counted = (one for one in self.connections if one.was_accepted and one not in self._making_room)
        for connection in sorted(counted, key=lambda one: (one.is_busy, one.active, one.idle_since)):
            if not shared.has_too_many:
                return
            self._making_room.add(connection)
            shared.closing += 1
            logger.info("closing the connection of %s: too many connections", connection.client)
            if connection.is_busy:
                connection.abort()
            else:
                connection.shut_down()

    # Idle connections

    def _schedule_sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        pauses = [] if self._patience.interval_s is None else [self._patience.interval_s]
        if self._max_idle_s > 0:
            pauses.append(self._max_idle_s / _SWEEPS_PER_IDLE_TIME)
        if pauses:
            self._sweep = loop.call_later(min(max(min(pauses), _SHORTEST_SWEEP), _LONGEST_SWEEP), self._close_idle)

    def _close_idle(self) -> None:
        """One look at every connection instead of timers for each."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        is_exhausted = self._patience.is_exhausted
        slow = 0
        for connection in list(self.connections):
            if connection.is_closing and not connection.is_busy:
                if connection.active:
                    connection.active = False
                    connection.idle_since = now
                elif now - connection.idle_since >= _CLOSING_S:
                    connection.abort()  # its client does not take what it was answered last
            elif is_exhausted(connection, now):
                slow += 1
                logger.debug("closing the connection of %s: no whole request came in time", connection.client)
                connection.abort()
            elif connection.active or connection.is_busy or connection.is_waiting:
                connection.active = False
                connection.idle_since = now
            elif 0 < self._max_idle_s <= now - connection.idle_since:
                self.idle_closed_count += 1
                connection.idle_since = now
                connection.shut_down()
        if slow:
            self.slow_closed_count += slow
            logger.info("%s closed %d connections that sent no whole request in time", self.name, slow)
        self._schedule_sweep(loop)


def _now_ms(loop: asyncio.AbstractEventLoop) -> int:
    return int(loop.time() * 1000)


def _buffer_sizes(config: BrokerConfig) -> list[tuple[int, int]]:
    """Socket buffer sizes; -1 leaves them to the kernel.

    Sending, Kafka's default of 100 KiB is more than tradition: a large fetch in such portions, which the reader takes
    from the processor's cache, moved 2.7 GB/s over loopback where the kernel's own choice (up to 4 MB) moved 1.2.
    Receiving, the kernel's choice is the better one, and our default.
    """
    options = []
    for name, option in (
        ("socket.send.buffer.bytes", socket.SO_SNDBUF),
        ("socket.receive.buffer.bytes", socket.SO_RCVBUF),
    ):
        size = config[name]
        if size > 0:
            options.append((option, size))
    return options


def _set_socket_options(transport: asyncio.Transport, options: list[tuple[int, int]]) -> None:
    if options:
        raw = transport.get_extra_info("socket")
        if raw is not None:
            for option, size in options:
                raw.setsockopt(socket.SOL_SOCKET, option, size)
