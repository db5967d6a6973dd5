"""Accepting connections on one address, and looking after them: limits, idleness, shutting down."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections import deque
from typing import TYPE_CHECKING

from ottla.server.broker.connection import Connection
from ottla.server.broker.connection_limits import Admission

if TYPE_CHECKING:
    from ottla.schema.config import BrokerConfig
    from ottla.schema.listeners import Listener as ListenerAddress
    from ottla.server.broker.broker import Broker
    from ottla.server.broker.connection_limits import ConnectionLimits
    from ottla.server.broker.dispatch import Router

logger = logging.getLogger(__name__)

# Idle connections are looked for this many times per connections.max.idle.ms, within these bounds (seconds).
_SWEEPS_PER_IDLE_TIME = 10
_SHORTEST_SWEEP = 0.05
_LONGEST_SWEEP = 30.0


class ListenError(OSError):
    """A listener's address cannot be bound.  `address` is `host:port` as configured."""

    def __init__(self, name: str, address: str, cause: OSError) -> None:
        self.name = name
        self.address = address
        reason = "the port is already in use" if cause.errno == errno.EADDRINUSE else (cause.strerror or str(cause))
        super().__init__(cause.errno, f"cannot listen on {address} ({name}): {reason}")

    def __str__(self) -> str:
        return str(self.strerror)


class Listener:
    """One listening address of a broker, and its connections.

    All listeners of a broker share one `Router` and one `ConnectionLimits`. `port` is the bound one, also when 0 was
    asked for.
    """

    def __init__(self, broker: Broker, address: ListenerAddress, router: Router, limits: ConnectionLimits) -> None:
        config = broker.config
        self.broker = broker
        self.address = address
        self.name = address.name
        self.port = address.port
        self.router = router
        self.limits = limits
        self.max_request_bytes: int = config["socket.request.max.bytes"]
        self.connections: set[Connection] = set()
        self.accepted_count = 0
        self.refused_count = 0
        self.idle_closed_count = 0
        self._max_idle_s: float = config["connections.max.idle.ms"] / 1000
        self._backlog: int = config["socket.listen.backlog.size"]
        self._socket_options = _buffer_sizes(config)
        self._servers: list[asyncio.Server] = []
        self._sweep: asyncio.TimerHandle | None = None
        self._held: deque[Connection] = deque()
        self._retry: asyncio.TimerHandle | None = None
        self._closed: asyncio.Event | None = None

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

    async def start(self) -> None:
        """Bind and accept.  Raises ListenError."""
        await self.bind()
        await self.accept()

    async def _bind(self, host: str | None, port: int) -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: Connection(self), host, port, backlog=self._backlog, start_serving=False
        )
        self._servers.append(server)
        self.port = server.sockets[0].getsockname()[1]

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
        # The transports' last callbacks, so that nothing of this listener is left on the loop.
        await asyncio.sleep(0)

    # What connections call

    def connection_made(self, connection: Connection) -> None:
        """Count a new connection, and refuse or hold it where a limit says so."""
        loop = asyncio.get_running_loop()
        host = connection.context.client_host
        self.limits.follow(self.broker.config)
        admission = self.limits.admit(host, loop.time())
        if admission is Admission.REFUSE:
            self.refused_count += 1
            logger.info("refusing the connection of %s: too many connections", connection.client)
            connection.abort()
            return
        self.accepted_count += 1
        self.connections.add(connection)
        connection.idle_since = loop.time()
        _set_socket_options(connection.transport, self._socket_options)
        if admission is Admission.HOLD:
            connection.hold()
            self._held.append(connection)
            self._retry_later(loop)

    def connection_lost(self, connection: Connection) -> None:
        """Forget a connection, and let a held one in."""
        if connection not in self.connections:
            return
        self.connections.remove(connection)
        held = connection.is_held
        if held:
            self._held.remove(connection)
        self.limits.release(connection.context.client_host, held=held)
        if self._held:
            self._admit_held()
        if self._closed is not None and not self.connections:
            self._closed.set()

    def _admit_held(self) -> None:
        loop = asyncio.get_running_loop()
        self._retry = None
        while self._held and self.limits.promote(loop.time()):
            self._held.popleft().release()
        if self._held:
            self._retry_later(loop)

    def _retry_later(self, loop: asyncio.AbstractEventLoop) -> None:
        """When the rate is what holds connections back, time lets them in; else somebody has to leave (see
        `connection_lost`).

        Another listener's connection may be the one that leaves, so there is a slow retry as well.
        """
        if self._retry is None:
            slot_at = self.limits.next_slot_at(loop.time())
            self._retry = loop.call_at(loop.time() + 1.0 if slot_at is None else slot_at, self._admit_held)

    # Idle connections

    def _schedule_sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._max_idle_s > 0:
            pause = min(max(self._max_idle_s / _SWEEPS_PER_IDLE_TIME, _SHORTEST_SWEEP), _LONGEST_SWEEP)
            self._sweep = loop.call_later(pause, self._close_idle)

    def _close_idle(self) -> None:
        """One look at every connection instead of a timer for each."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in list(self.connections):
            if connection.active or connection.is_busy or connection.is_held:
                connection.active = False
                connection.idle_since = now
            elif now - connection.idle_since >= self._max_idle_s:
                self.idle_closed_count += 1
                connection.shut_down()
        self._schedule_sweep(loop)


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
