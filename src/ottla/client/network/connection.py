"""One connection to a broker: an asyncio protocol around the sans-I/O `ClientConnection`.

Requests are pipelined; responses come in their order. Whatever ends the connection fails all that is in flight.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import sys
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, cast

from ottla.client.errors import ConnectionFailedError, KafkaError, UnsupportedVersionError
from ottla.protocol.connection import NEED_DATA, ClientConnection
from ottla.protocol.errors import EncodeError, ProtocolError
from ottla.protocol.errors import UnsupportedVersionError as LossyVersionError

if TYPE_CHECKING:
    from ottla.core.binary import Buffer
    from ottla.protocol.connection import Response
    from ottla.protocol.message import Request

FIRST_FRAME_BYTES = 1024 * 1024
"""No response is larger until the peer has answered ApiVersions: other servers' greetings look like huge frames."""

_LARGE_BYTES = 2 * 1024 * 1024
"""Of a response of which more than this is missing we are told in pieces of _PIECE_BYTES."""
_PIECE_BYTES = 1024 * 1024
_MOST_PARTS = 64
"""Pieces of a request that are handed to the system in one call, which takes 1024 at most."""


class Call:
    """A request on its way, and the future of its response's body."""

    __slots__ = (
        "deadline_is_default",
        "deadline_ms",
        "drop_at_ms",
        "expect_response",
        "future",
        "max_version",
        "min_version",
        "request",
        "sent_ms",
        "timeout_ms",
    )

    def __init__(
        self,
        request: Request,
        future: asyncio.Future[Any],
        deadline_ms: int,
        timeout_ms: int,
        min_version: int | None = None,
        max_version: int | None = None,
        expect_response: bool = True,
        deadline_is_default: bool = False,
    ) -> None:
        self.request = request
        self.future = future
        self.deadline_ms = deadline_ms
        """Nobody waits for the response any longer."""
        self.deadline_is_default = deadline_is_default
        """The caller named no time: once it is sent, the request has all of request.timeout.ms."""
        self.timeout_ms = timeout_ms
        self.drop_at_ms = 0
        """A broker that has not answered by then is given up, and the connection with it."""
        self.min_version = min_version
        self.max_version = max_version
        self.expect_response = expect_response
        self.sent_ms = 0

    def fail(self, error: KafkaError) -> None:
        future = self.future
        if not future.done():
            future.set_exception(error)
            # Somebody may have gone away without asking; that is no news for the log.
            future.exception()


class ConnectionOwner(Protocol):
    """Who is told what happens on a connection."""

    def response_received(self, call: Call, response: Response, size_bytes: int) -> None:
        """A response came in, whether or not anybody waits for it."""

    def connection_closed(self, connection: BrokerConnection, error: KafkaError | None) -> None:
        """The connection is gone; `error` says why unless we closed it."""


class BrokerConnection(asyncio.BufferedProtocol):
    """The protocol of one transport."""

    def __init__(self, owner: ConnectionOwner, client_id: str, name: str) -> None:
        self.name = name
        """The broker in messages: address and id."""
        self.in_flight: deque[Call] = deque()
        self._owner = owner
        self._wire = ClientConnection(client_id, FIRST_FRAME_BYTES)
        self._transport: asyncio.Transport | None = None
        self._descriptor = -1
        """Of the socket, when it takes bytes as they are."""
        self._low_water_bytes = 1
        self._is_paused = False
        self._unwritten: list[asyncio.Future[Any]] = []
        self._error: KafkaError | None = None
        self._is_lost = False
        self._when_lost: asyncio.Future[None] | None = None
        self.in_flight_at_end = 0
        """Requests that were not answered when the connection ended."""

    # For the owner

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._is_lost and not self._transport.is_closing()

    @property
    def was_made(self) -> bool:
        """The transport was connected once."""
        return self._transport is not None

    def write(self, call: Call, version: int) -> int:
        """Send a request; its size in bytes, 0 when it cannot be encoded, which its future tells."""
        transport = self._transport
        if transport is None or self._is_lost or transport.is_closing():
            call.fail(self._error or ConnectionFailedError(f"the connection to {self.name} is closed."))
            return 0
        try:
            parts = self._wire.send(call.request, version, expect_response=call.expect_response)
        except LossyVersionError as error:
            call.fail(UnsupportedVersionError(f"{self.name} is too old for this: {error}."))
            return 0
        except EncodeError as error:
            call.fail(KafkaError(f"a request cannot be written: {error}.", retriable=False))
            return 0
        if call.expect_response:
            self.in_flight.append(call)
        size_bytes = sum(map(len, parts))
        unsent = parts
        if self._descriptor >= 0 and not transport.get_write_buffer_size():
            unsent = _written(self._descriptor, parts)
        if len(unsent) == 1:
            transport.write(unsent[0])
        elif unsent:
            transport.writelines(unsent)
        if not call.expect_response:
            if self._is_paused:
                self._unwritten.append(call.future)
            elif not call.future.done():
                call.future.set_result(None)
        return size_bytes

    def accept_large_frames(self) -> None:
        """The peer has shown that it speaks our protocol."""
        self._wire.max_frame_bytes = 2**31 - 1

    def set_socket_options(self, send_buffer_bytes: int | None, receive_buffer_bytes: int | None) -> None:
        """Keep-alive, no delay, and the buffers' sizes unless the operating system is to choose them."""
        transport = self._transport
        found = transport.get_extra_info("socket") if transport is not None else None
        if found is None:
            return
        sock = cast("socket.socket", found)
        if hasattr(os, "writev") and transport is not None and transport.get_extra_info("ssl_object") is None:
            self._descriptor = sock.fileno()
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if send_buffer_bytes is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
            if receive_buffer_bytes is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        except OSError:
            pass  # not a TCP socket, or a system that refuses: none of it is needed for correctness

    def close(self) -> None:
        """Send what has been written, then close."""
        if self._transport is not None:
            self._transport.close()

    async def closed(self) -> None:
        """The transport has ended."""
        if self._transport is not None and not self._is_lost:
            self._when_lost = asyncio.get_running_loop().create_future()
            await self._when_lost

    def abort(self, error: KafkaError) -> None:
        """Close at once, for this reason."""
        if self._error is None:
            self._error = error
        if self._transport is not None and not self._is_lost:
            self._transport.abort()
            self._finish()

    # For the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._wire.get_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        wire = self._wire
        wire.bytes_received(nbytes)
        if self._is_lost:
            return
        try:
            while (response := wire.next_response()) is not NEED_DATA:
                call = self.in_flight.popleft()
                self._owner.response_received(call, response, wire.received_bytes)
                if not call.future.done():
                    call.future.set_result(response.body)
            if self._descriptor >= 0 and (wire.missing_bytes > _LARGE_BYTES or self._low_water_bytes > 1):
                self._receive_at_least(min(wire.missing_bytes, _PIECE_BYTES) or 1)
        except ProtocolError as error:
            what = _other_protocol(wire.unread) if wire.max_frame_bytes == FIRST_FRAME_BYTES else None
            self.abort(
                ConnectionFailedError(
                    f"{self.name} sent what is not Kafka's protocol: {what or error}.",
                    hint="Check the port, and security.protocol.",
                )
            )

    def _receive_at_least(self, count: int) -> None:
        """Have the system wake us for so many bytes, or the end, or when it has no room for more, but not for fewer.

        Each time costs this thread a wait for the interpreter, and the one that decodes records a stop.
        """
        if count != self._low_water_bytes and sys.platform == "linux" and self._transport is not None:
            self._low_water_bytes = count
            sock = cast("socket.socket", self._transport.get_extra_info("socket"))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        written, self._unwritten = self._unwritten, []
        for future in written:
            if not future.done():
                future.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and self._error is None:
            if isinstance(exc, ssl.SSLError):
                self._error = tls_error(self.name, exc)
            else:
                self._error = ConnectionFailedError(f"the connection to {self.name} was lost: {reason_of(exc)}.")
        self._finish()

    def _finish(self) -> None:
        if self._is_lost:
            return
        self._is_lost = True
        error = self._error or ConnectionFailedError(f"{self.name} closed the connection.")
        calls, self.in_flight = self.in_flight, deque()
        self.in_flight_at_end = len(calls)
        unwritten, self._unwritten = self._unwritten, []
        if self._when_lost is not None and not self._when_lost.done():
            self._when_lost.set_result(None)
        self._owner.connection_closed(self, error)
        for call in calls:
            call.fail(error)
        for future in unwritten:
            if not future.done():
                future.set_exception(error)
                future.exception()


ConnectionFactory = Callable[[], BrokerConnection]


def _written(descriptor: int, parts: list[Buffer]) -> list[Buffer]:
    """Write what the socket takes at once; what is left. Unlike a transport, this lets other threads run meanwhile:
    a megabyte takes the system a while, and waking the broker may cost us the processor.
    """
    try:
        count = os.writev(descriptor, parts[:_MOST_PARTS])
    except OSError:  # it is full; or gone, and then the transport finds out
        return parts
    for index, part in enumerate(parts):
        if count < len(part):
            return [memoryview(part)[count:], *parts[index + 1 :]]
        count -= len(part)
    return []


def _other_protocol(received: bytes) -> str | None:
    """Who answers, when it is no broker or not in plain text."""
    if received.startswith(b"HTTP"):
        return "an HTTP server answers there"
    if received[:2] in (b"\x15\x03", b"\x16\x03"):
        return "it speaks TLS; security.protocol is to be SSL or SASL_SSL"
    return None


def tls_error(name: str, error: ssl.SSLError) -> KafkaError:
    """Why TLS came to nothing. A refusal, of either side, stays one; a connection that was cut may be tried again."""
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)):
        return cut_in_tls(name)
    from ottla.client.security.tls import explain_tls_error

    return explain_tls_error(error, name)


def cut_in_tls(name: str) -> ConnectionFailedError:
    """The connection ended before TLS was agreed on: who does not speak it does so, and who is stopped just then."""
    return ConnectionFailedError(
        f"{name} closed the connection in the middle of TLS. If it does not speak TLS, security.protocol is to be "
        "PLAINTEXT or SASL_PLAINTEXT."
    )


def reason_of(error: BaseException) -> str:
    """What the operating system says, in its words and without its numbers."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, socket.gaierror):
        return f"the name cannot be resolved ({error.strerror or error})"
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__
