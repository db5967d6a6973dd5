"""TCP between the programs of one simulation: connections with latency, no sockets.

Bytes arrive in order, after a seeded delay, now and then cut in two as a real network cuts them. Writers see
backpressure when the other side does not read; a closed side is seen as end of file, an aborted one as a reset.

Each side's protocol is called in the context in which its program connected or listened (see `process`).
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
from collections import deque
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from ottla.core.binary import Buffer

if TYPE_CHECKING:
    from ottla.testing.sim.loop import VirtualTimeLoop

ProtocolFactory = Callable[[], asyncio.BaseProtocol]
Address = tuple[str, int]

SHORTEST_DELAY = 50e-6
MEAN_DELAY = 0.3e-3
CUT_PROBABILITY = 0.05
LOSS_PROBABILITY = 0.5
FIRST_FREE_PORT = 49_152
HIGH_WATER_BYTES = 64 * 1024

_END = b""  # in a direction's queue: the other side has closed


class SimulatedNetwork:
    """All listening addresses and connections of a simulation."""

    def __init__(self, loop: VirtualTimeLoop, random: Random) -> None:
        self.loop = loop
        self.connections: list[SimulatedTransport] = []
        self._random = random
        self._servers: dict[int, SimulatedServer] = {}
        self._next_port = FIRST_FREE_PORT

    def delay(self) -> float:
        """Seconds that the next piece takes to arrive."""
        return SHORTEST_DELAY + self._random.expovariate(1 / MEAN_DELAY)

    def pieces(self, data: bytes) -> list[bytes]:
        """What was written at once, as it arrives."""
        if len(data) > 1 and self._random.random() < CUT_PROBABILITY:
            cut = self._random.randint(1, len(data) - 1)
            return [data[:cut], data[cut:]]
        return [data]

    def loses_sent(self) -> bool:
        """Whether a program that ends takes with it what it sent and nobody got yet."""
        return self._random.random() < LOSS_PROBABILITY

    def listen(self, factory: ProtocolFactory, host: str, port: int) -> SimulatedServer:
        """Take an address; port 0 is any free one. OSError EADDRINUSE when somebody has it."""
        if not port:
            port = self.free_port()
        if port in self._servers:
            raise OSError(errno.EADDRINUSE, f"address {host}:{port} is already in use")
        server = self._servers[port] = SimulatedServer(self, factory, (host, port))
        return server

    def release(self, server: SimulatedServer) -> None:
        """An address is free again."""
        if self._servers.get(server.address[1]) is server:
            del self._servers[server.address[1]]

    def close(self) -> None:
        """The simulation is over: connections that are left end without a word."""
        for transport in self.connections:
            transport.forget()
        self.connections = []

    def abort_all(self, owned: Callable[[contextvars.Context], bool]) -> None:
        """The program that has these contexts is gone: its addresses are free, its connections are reset."""
        for server in [server for server in self._servers.values() if owned(server.context)]:
            server.close()
        for transport in [transport for transport in self.connections if owned(transport.context)]:
            transport.vanish()

    def free_port(self) -> int:
        """A port that nobody has had yet."""
        self._next_port += 1
        return self._next_port

    async def connect(
        self, factory: ProtocolFactory, host: str, port: int
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        """Open a connection; ConnectionRefusedError when nobody listens."""
        await asyncio.sleep(self.delay())
        server = self._servers.get(port)
        if server is None or not server.is_serving():
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"nobody listens on {host}:{port}")
        local = ("127.0.0.1", self.free_port())
        protocol = factory()
        ours = SimulatedTransport(self, protocol, local, server.address, contextvars.copy_context())
        accepted = server.context.copy().run(server.factory)
        theirs = SimulatedTransport(self, accepted, server.address, local, server.context.copy())
        ours.peer, theirs.peer = theirs, ours
        self.connections += (ours, theirs)
        theirs.context.run(accepted.connection_made, theirs)
        protocol.connection_made(ours)
        return ours, protocol


class _ListeningSocket:
    """As much of a socket as a server shows."""

    def __init__(self, address: Address) -> None:
        self._address = address

    def getsockname(self) -> Address:
        return self._address


class SimulatedServer(asyncio.AbstractServer):
    """A listening address."""

    def __init__(self, network: SimulatedNetwork, factory: ProtocolFactory, address: Address) -> None:
        self.factory = factory
        self.address = address
        self.context = contextvars.copy_context()
        self.sockets = (_ListeningSocket(address),)
        self._network = network
        self._is_serving = False

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._network.loop

    def is_serving(self) -> bool:
        return self._is_serving

    async def start_serving(self) -> None:
        self._is_serving = True

    async def serve_forever(self) -> None:
        await self.start_serving()
        await asyncio.Event().wait()

    def close(self) -> None:
        self._is_serving = False
        self._network.release(self)

    async def wait_closed(self) -> None:
        pass


class SimulatedTransport(asyncio.Transport):
    """One side of a connection."""

    def __init__(
        self,
        network: SimulatedNetwork,
        protocol: asyncio.BaseProtocol,
        address: Address,
        peer_address: Address,
        context: contextvars.Context,
    ) -> None:
        super().__init__({"sockname": address, "peername": peer_address})
        self.context = context
        self.peer: SimulatedTransport | None = None
        self._network = network
        self._loop = network.loop
        self._protocol = protocol
        self._is_closing = False
        self._is_lost = False
        self._is_paused = False
        self._writer_paused = False
        self._high_water = HIGH_WATER_BYTES
        self._low_water = HIGH_WATER_BYTES // 4
        self._unread_by_peer = 0
        self._on_the_way: deque[bytes] = deque()  # to this side
        self._inbox: deque[bytes] = deque()  # has arrived, is not read
        self._last_arrival = 0.0

    # Writing

    def write(self, data: Buffer) -> None:
        if self._is_closing or not data:
            return
        copy = bytes(data)
        self._unread_by_peer += len(copy)
        for piece in self._network.pieces(copy):
            self._send(piece)
        if self._unread_by_peer > self._high_water and not self._writer_paused:
            self._writer_paused = True
            self._protocol.pause_writing()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._send(_END)

    def get_write_buffer_size(self) -> int:
        return self._unread_by_peer

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low_water, self._high_water

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high_water = HIGH_WATER_BYTES if high is None else high
        self._low_water = self._high_water // 4 if low is None else low

    def _send(self, piece: bytes) -> None:
        peer = self.peer
        if peer is not None and not peer._is_lost:
            peer._on_the_way.append(piece)
            # Pieces never overtake each other; each arrival takes the oldest one.
            peer._last_arrival = max(peer._last_arrival, self._loop.time() + self._network.delay())
            self._loop.call_at(peer._last_arrival, peer._arrive, context=peer.context)

    # Reading

    def is_reading(self) -> bool:
        return not (self._is_paused or self._is_closing)

    def pause_reading(self) -> None:
        self._is_paused = True

    def resume_reading(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self._loop.call_soon(self._deliver, context=self.context)

    def _arrive(self) -> None:
        if self._on_the_way:
            self._inbox.append(self._on_the_way.popleft())
            self._deliver()

    def _deliver(self) -> None:
        while self._inbox and not (self._is_paused or self._is_closing):
            data = self._inbox.popleft()
            if data is _END:
                if not self._protocol.eof_received():  # type: ignore[attr-defined]
                    self.close()
                return
            self._hand_over(data)
            if self.peer is not None:
                self.peer._was_read(len(data))

    def _hand_over(self, data: bytes) -> None:
        protocol = self._protocol
        if isinstance(protocol, asyncio.BufferedProtocol):
            while data and not self._is_closing:
                buffer = memoryview(protocol.get_buffer(len(data))).cast("B")
                size = min(len(buffer), len(data))
                buffer[:size] = data[:size]
                buffer.release()
                data = data[size:]
                protocol.buffer_updated(size)
        else:
            assert isinstance(protocol, asyncio.Protocol)
            protocol.data_received(data)

    def _was_read(self, size: int) -> None:
        self._unread_by_peer -= size
        if self._writer_paused and self._unread_by_peer <= self._low_water:
            self._writer_paused = False
            self._loop.call_soon(self._resume_writing, context=self.context)

    def _resume_writing(self) -> None:
        if not self._is_lost:
            self._protocol.resume_writing()

    # Ending

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        """What was written still arrives, then the end."""
        if not self._is_closing:
            self._is_closing = True
            self._send(_END)
            self._loop.call_soon(self._lose, None, context=self.context)

    def abort(self) -> None:
        """Nothing that is on its way arrives; the other side sees a reset."""
        if not self._is_lost:
            self._is_closing = True
            self._loop.call_soon(self._lose, None, context=self.context)
            peer = self.peer
            if peer is not None and not peer._is_lost:
                peer._on_the_way.clear()
                self._loop.call_later(self._network.delay(), peer._reset, context=peer.context)

    def vanish(self) -> None:
        """The program on this side is gone: what it sent still arrives, as a rule, and then a reset."""
        if self._is_lost:
            return
        self._is_closing = self._is_lost = True
        self._network.connections.remove(self)
        peer = self.peer
        if peer is not None and not peer._is_lost:
            if self._network.loses_sent():
                peer._on_the_way.clear()
            reset_at = max(peer._last_arrival, self._loop.time() + self._network.delay())
            self._loop.call_at(reset_at, peer._reset, context=peer.context)

    def forget(self) -> None:
        """Be closed, without telling anybody."""
        self._is_closing = self._is_lost = True

    def _reset(self) -> None:
        self._is_closing = True
        self._lose(ConnectionResetError(errno.ECONNRESET, "connection reset by peer"))

    def _lose(self, error: Exception | None) -> None:
        if not self._is_lost:
            self._is_lost = True
            self._inbox.clear()
            self._on_the_way.clear()
            self._network.connections.remove(self)
            self._protocol.connection_lost(error)

    # The rest of the interface

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def __repr__(self) -> str:
        state: Any = "closing" if self._is_closing else "open"
        return f"<SimulatedTransport {self.get_extra_info('sockname')} {state}>"
