"""TCP between the programs of one simulation: connections with latency, no sockets.

Bytes arrive in order, after a seeded delay, now and then cut in two as a real network cuts them. Writers see
backpressure when the other side does not read; a closed side is seen as end of file, an aborted one as a reset.

Each side's protocol is called in the context in which its program connected or listened (see `process`). Programs run
on hosts, and what happens between two hosts is the matter of `links`: cut (one way or both), slow, throttled.
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
from ottla.testing.sim.links import HOST, Link, Links

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
FIRST_RETRY_S = 1.0
LAST_RETRY_S = 64.0
"""Between attempts to connect to a host that does not answer; each waits twice as long. Then it is given up."""
LONGEST_RESEND_S = 0.4
"""What was lost is sent again within this time after the way is free."""

_END = b""  # in a direction's queue: the other side has closed


class SimulatedNetwork:
    """All listening addresses and connections of a simulation."""

    def __init__(self, loop: VirtualTimeLoop, random: Random) -> None:
        self.loop = loop
        self.connections: list[SimulatedTransport] = []
        self.links = Links()
        self._random = random
        self._servers: dict[int, SimulatedServer] = {}
        self._hosts: dict[int, str] = {}  # who had a port that was connected to
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

    # Faults

    def cut(self, source: str, target: str) -> None:
        """Nothing that the host `source` sends arrives at `target`, until `heal`; a cut counts."""
        self.links.cut(source, target)

    def heal(self, source: str, target: str) -> None:
        """The way is free again: what was sent meanwhile arrives."""
        self._send_again(self.links.heal(source, target))

    def hold(self, target: str) -> None:
        """Nothing arrives at the host `target`, until `let_through`."""
        self.links.hold(target)

    def let_through(self, target: str) -> None:
        """The host can be reached again: what was sent meanwhile arrives."""
        self._send_again(self.links.let_through(target))

    def reset(self, one: str, other: str, share: float = 1.0) -> int:
        """Break connections between two hosts, this share of them; how many."""
        found = [
            transport
            for transport in self.connections
            if transport.host == one and transport.peer is not None and transport.peer.host == other
        ]
        chosen = [transport for transport in found if self._random.random() < share]
        for transport in chosen:
            transport.break_off()
        return len(chosen)

    def _send_again(self, held: list[tuple[SimulatedTransport, bytes]]) -> None:
        waits: dict[SimulatedTransport, float] = {}
        for transport, piece in held:
            if transport not in waits:
                waits[transport] = self._random.uniform(0, LONGEST_RESEND_S)
            transport.send_again(piece, waits[transport])

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
        """The program that has these contexts is gone: its addresses are free, its connections are reset.

        No reset comes from a host that is powerless.
        """
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
        """Open a connection; ConnectionRefusedError when nobody listens, TimeoutError when nobody answers."""
        await asyncio.sleep(self.delay())
        server = self._servers.get(port)
        wait_s = FIRST_RETRY_S
        while not self._answers(server, port):
            if wait_s > LAST_RETRY_S:
                raise TimeoutError(errno.ETIMEDOUT, f"{host}:{port} does not answer")
            await asyncio.sleep(wait_s)
            wait_s *= 2
            server = self._servers.get(port)
        if server is None or not server.is_serving():
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"nobody listens on {host}:{port}")
        self._hosts[port] = server.host
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

    def _answers(self, server: SimulatedServer | None, port: int) -> bool:
        """Whether a connection is accepted or refused, and this is heard."""
        links, here = self.links, HOST.get()
        there = self._hosts.get(port, "") if server is None else server.host
        return there not in links.powerless and not links.link(here, there).cuts and not links.link(there, here).cuts


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
        self.host = HOST.get()
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
        self.host = context.get(HOST, "")
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
        self._link: Link | None = None  # to the peer's host
        self._ended_unheard = False  # the other side does not know that this one is gone

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
        if peer is None:
            return
        link = self._link
        if link is None:
            link = self._link = self._network.links.link(self.host, peer.host)
        if link.cuts:
            link.held.append((self, piece))
        elif not peer._is_lost:
            wait_s = self._network.delay()
            if link.delay_s:
                wait_s += self._network.delay() * (link.delay_s / MEAN_DELAY)
            started = self._loop.time()
            if link.bytes_per_s:
                started = max(started, peer._last_arrival)
                wait_s += len(piece) / link.bytes_per_s
            self._put_on_the_way(peer, piece, started + wait_s)
        elif peer._ended_unheard:
            self._be_told_of_end(peer)

    def _put_on_the_way(self, peer: SimulatedTransport, piece: bytes, arrival: float) -> None:
        peer._on_the_way.append(piece)
        # Pieces never overtake each other; each arrival takes the oldest one.
        peer._last_arrival = max(peer._last_arrival, arrival)
        self._loop.call_at(peer._last_arrival, peer._arrive, context=peer.context)

    def send_again(self, piece: bytes, wait_s: float) -> None:
        """A piece that did not arrive, now that the way is free."""
        peer = self.peer
        assert peer is not None
        link = self._network.links.link(self.host, peer.host)
        if link.cuts:
            link.held.append((self, piece))
        elif not peer._is_lost:
            self._put_on_the_way(peer, piece, self._loop.time() + wait_s + self._network.delay())
        elif peer._ended_unheard:
            self._be_told_of_end(peer)

    def _be_told_of_end(self, peer: SimulatedTransport) -> None:
        """Something arrived where the connection is not known (any more): a reset comes back."""
        links = self._network.links
        if not self._is_lost and peer.host not in links.powerless and not links.link(peer.host, self.host).cuts:
            self._loop.call_later(2 * self._network.delay(), self._reset, context=self.context)

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
            if peer is not None and not peer._is_lost and self._tells_of_end(peer):
                peer._on_the_way.clear()
                self._loop.call_later(self._network.delay(), peer._reset, context=peer.context)

    def break_off(self) -> None:
        """Something between the two hosts resets both sides."""
        for side in (self, self.peer):
            if side is not None and not side._is_lost:
                self._loop.call_later(self._network.delay(), side._reset, context=side.context)

    def _tells_of_end(self, peer: SimulatedTransport) -> bool:
        """Whether the reset arrives that says so. Sent once: when the way is cut, the other side keeps half of it."""
        links = self._network.links
        if self.host not in links.powerless and not links.link(self.host, peer.host).cuts:
            return True
        self._ended_unheard = True
        return False

    def vanish(self) -> None:
        """The program on this side is gone: what it sent still arrives, as a rule, and then a reset."""
        if self._is_lost:
            return
        self._is_closing = self._is_lost = True
        self._network.connections.remove(self)
        if self._link is not None and self.host in self._network.links.powerless:
            self._link.held = [one for one in self._link.held if one[0] is not self]
        peer = self.peer
        if peer is not None and not peer._is_lost and self._tells_of_end(peer):
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
