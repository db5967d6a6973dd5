"""TLS between a transport and a protocol of asyncio, on either side of a connection.

`TlsTransport` is the protocol of a plain transport, and the transport of the protocol behind it. asyncio and uvloop
have such a thing of their own (`ssl=`); this one is made for what a broker does:

- Ciphertext is received into one buffer that all connections of a listener share, so that ten thousand idle ones cost
  no memory; plain bytes are decrypted straight into the protocol's own buffer, as much as fits before it is told.
- What is sent is encrypted in large pieces, and only while the transport below takes it: a large answer for a slow
  reader waits as what it is, not as a second, encrypted copy. A range of a file that is in the page cache is read a
  piece at a time, so that it goes from there to the socket through the processor's cache, and what stands before it
  in an answer leaves in its first record: a reader is not woken for a few bytes.
- A server's protocol gets its transport when a client connects, before the handshake, and can hold it off with
  `pause_reading`: limits on connections are there to protect from the cost of handshakes. It can never receive nor
  send anything before `on_established`.

Nothing here is a thread: OpenSSL moves several GB/s on one core, and a piece takes a fraction of a millisecond.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, cast

from ottla.runtime.file_range import FileRange

if TYPE_CHECKING:
    from ottla.core.binary import Buffer

RECEIVE_BYTES: Final = 256 * 1024
"""Size of the buffer for ciphertext."""
PIECE_BYTES: Final = 96 * 1024
"""So much is encrypted at a time: it stays in the processor's cache from OpenSSL to the kernel, and the memory it is
copied to on the way is less than the 128 KiB from which malloc has the kernel map it anew each time."""
_COPIED_BYTES: Final = 16 * 1024
"""Up to this size, a record's, what stands beside other things is copied to be encrypted with them."""
_ROOM_BYTES: Final = PIECE_BYTES + _COPIED_BYTES
_HIGH_WATER: Final = 512 * 1024
_LOW_WATER: Final = 256 * 1024
_HELLO: Final = 0x16
"""What a TLS handshake begins with."""


class HandshakeError(Exception):
    """A connection came to nothing before TLS was agreed on. `str()` says why, without names and secrets.

    `cause` is OpenSSL's error where there is one. `is_silent`: the other side has just gone, or never said anything, as
    port scans and health checks do.
    """

    def __init__(self, reason: str, cause: ssl.SSLError | None = None, *, is_silent: bool = False) -> None:
        super().__init__(reason)
        self.cause = cause
        self.is_silent = is_silent


class ReceiveBuffer:
    """Room for ciphertext, shared by the connections of one event loop: it is empty again whenever one has received.

    (Not where the loop hands a buffer to the system before there is something to read: Windows. There each has one.)
    """

    __slots__ = ("_piece", "_view")

    def __init__(self) -> None:
        self._view: memoryview | None = None
        self._piece: memoryview | None = None

    def piece(self) -> memoryview:
        """Room for plain bytes that are gathered, for as long as it takes to encrypt them."""
        if self._piece is None:
            self._piece = memoryview(bytearray(_ROOM_BYTES))
        return self._piece

    def view(self) -> memoryview:
        """The room; of the caller's own where it cannot be shared."""
        if sys.platform == "win32":
            return memoryview(bytearray(RECEIVE_BYTES))
        if self._view is None:
            self._view = memoryview(bytearray(RECEIVE_BYTES))
        return self._view


class TlsTransport(asyncio.Transport, asyncio.BufferedProtocol):
    """TLS for one connection; `server_hostname` makes it the client's side, and is what its certificate must say.

    `on_established` is called when the handshake is over, before anything is received, and may abort; if there is none,
    `on_failed` is called, once. A client's protocol gets its transport after `on_established`.
    """

    __slots__ = (
        "_backlog",
        "_backlog_bytes",
        "_context",
        "_failure",
        "_has_failed",
        "_incoming",
        "_is_blocked",
        "_is_closing",
        "_is_established",
        "_is_known",
        "_is_paused",
        "_is_told",
        "_loop",
        "_object",
        "_on_established",
        "_on_failed",
        "_outgoing",
        "_protocol",
        "_raw",
        "_room",
        "_server_hostname",
        "_shared",
        "_timeout_s",
        "_timer",
    )

    def __init__(
        self,
        protocol: asyncio.BufferedProtocol,
        context: ssl.SSLContext,
        *,
        receive_buffer: ReceiveBuffer,
        timeout_s: float,
        on_established: Callable[[TlsTransport], object],
        on_failed: Callable[[TlsTransport, HandshakeError], object],
        server_hostname: str | None = None,
    ) -> None:
        super().__init__()
        self._protocol = protocol
        self._context = context
        self._server_hostname = server_hostname
        self._timeout_s = timeout_s
        self._on_established = on_established
        self._on_failed = on_failed
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object: ssl.SSLObject = None  # type: ignore[assignment]  # made when there is something to do
        self._raw: asyncio.Transport = None  # type: ignore[assignment]  # set before anything else happens
        self._loop = asyncio.get_running_loop()
        self._shared = receive_buffer
        self._room: memoryview | None = None
        self._timer: asyncio.TimerHandle | None = None
        # Plain bytes that wait until the transport below takes more.
        self._backlog: deque[Buffer | FileRange] = deque()
        self._backlog_bytes = 0
        self._has_failed = False
        self._failure: ConnectionAbortedError | None = None
        self._is_known = False  # the protocol has got its transport
        self._is_established = False
        self._is_paused = False  # the protocol does not want to receive
        self._is_blocked = False  # the transport below does not take more
        self._is_told = False  # ... and the protocol has been told
        self._is_closing = False

    # What is known of the other side

    @property
    def is_established(self) -> bool:
        """Whether the handshake is over."""
        return self._is_established

    @property
    def protocol_behind(self) -> asyncio.BufferedProtocol:
        """Who uses this transport."""
        return self._protocol

    def peer_certificate(self) -> bytes | None:
        """The other side's certificate, which has been checked, as DER; None when it has shown none."""
        return None if self._object is None else self._object.getpeercert(binary_form=True)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "sslcontext":
            return self._context
        if name == "ssl_object":
            return self._object
        if name == "cipher":
            return None if self._object is None else self._object.cipher()
        return self._raw.get_extra_info(name, default)

    # The plain transport's protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = cast("asyncio.Transport", transport)
        self._raw.set_write_buffer_limits(high=_HIGH_WATER, low=_LOW_WATER)
        if self._is_closing:  # it was given up while it was being opened
            self._raw.abort()
        elif self._server_hostname is None:
            self._is_known = True
            self._protocol.connection_made(self)
            if not self._is_paused and not self._is_closing:
                self._start_timer()
        else:
            self._start_timer()
            self._shake()

    def get_buffer(self, sizehint: int) -> Buffer:
        self._room = self._shared.view()
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        room = self._room
        assert room is not None
        if self._is_closing:
            return
        if self._object is None and room[0] != _HELLO and self._server_hostname is None:
            self._fail(HandshakeError(_what_else(bytes(room[: min(nbytes, 16)]))))
            return
        self._incoming.write(room[:nbytes])
        if self._is_established:
            self._decrypt()
        elif not self._is_paused:
            self._shake()

    def eof_received(self) -> bool:
        """The other side has closed its end; the transport below closes ours."""
        if self._is_established and not self._is_closing:
            self._protocol.eof_received()
        return False

    def pause_writing(self) -> None:
        self._is_blocked = True
        self._tell_blocked()

    def resume_writing(self) -> None:
        self._is_blocked = False
        self._drain()

    def connection_lost(self, exc: Exception | None) -> None:
        by_whom = "from here" if self._is_closing else "from the other side"
        self._is_closing = True
        self._stop_timer()
        self._backlog.clear()
        self._backlog_bytes = 0
        if not self._is_established and not self._has_failed:
            self._on_failed(self, HandshakeError(f"the connection was closed {by_whom}", is_silent=True))
        if self._is_known:
            self._protocol.connection_lost(exc or self._failure)

    # The transport of the protocol behind

    def is_closing(self) -> bool:
        return self._is_closing or self._raw.is_closing()

    def is_reading(self) -> bool:
        return not self._is_paused and not self._is_closing

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast("asyncio.BufferedProtocol", protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def pause_reading(self) -> None:
        if not self._is_paused and not self._is_closing:
            self._is_paused = True
            self._stop_timer()
            self._raw.pause_reading()

    def resume_reading(self) -> None:
        if self._is_paused and not self._is_closing:
            self._is_paused = False
            if not self._is_established:
                self._start_timer()
            self._raw.resume_reading()
            self._loop.call_soon(self._go_on)  # the protocol does not expect to be called from here

    def write(self, data: Buffer | FileRange) -> None:
        """Besides bytes it takes ranges of files."""
        if self._is_closing or not len(data):
            return
        if self._backlog or self._is_blocked or len(data) > PIECE_BYTES or data.__class__ is FileRange:
            self._put((data,))
            return
        try:
            self._object.write(cast("Buffer", data))
            self._raw.write(self._outgoing.read())
        except ssl.SSLError:  # it was shut down from the other side
            self.abort()

    def writelines(self, list_of_data: Iterable[Buffer | FileRange]) -> None:
        """As `write`, all of it together: no record and no system call for each."""
        if not self._is_closing:
            self._put(list_of_data)

    def get_write_buffer_size(self) -> int:
        return self._backlog_bytes + self._raw.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return _LOW_WATER, _HIGH_WATER

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """They are what suits encryption."""

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._stop_timer()
            if not self._backlog and self._raw is not None:
                self._shut()

    def abort(self) -> None:
        self._is_closing = True
        self._stop_timer()
        self._backlog.clear()
        self._backlog_bytes = 0
        if self._raw is not None:
            self._raw.abort()

    # The handshake

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout_s, self._expired)

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _expired(self) -> None:
        self._timer = None
        if not self._is_established:
            waited = f"it has not finished within {self._timeout_s:g} s"
            self._fail(HandshakeError(waited, is_silent=self._object is None))

    def give_up(self, reason: str) -> None:
        """End a handshake that is under way, for a reason that is told to `on_failed`."""
        if not self._is_established and not self._is_closing:
            self._fail(HandshakeError(reason, is_silent=self._object is None))

    def _shake(self) -> None:
        try:
            if self._object is None:
                self._object = self._context.wrap_bio(
                    self._incoming,
                    self._outgoing,
                    server_side=self._server_hostname is None,
                    server_hostname=self._server_hostname or None,
                )
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            self._send()
            return
        except ssl.SSLError as error:
            self._send()  # the alert, which says why
            self._fail(HandshakeError(_reason(error), error))
            return
        except ValueError as error:  # a name that cannot be in a certificate
            self._fail(HandshakeError(str(error)))
            return
        self._send()
        self._stop_timer()
        self._is_established = True
        self._on_established(self)
        if not self._is_known and not self._is_closing:
            self._is_known = True
            self._protocol.connection_made(self)
        if not self._is_closing:
            self._decrypt()

    def _fail(self, error: HandshakeError) -> None:
        """Told first, and closed then: what was written, an alert, goes out."""
        self._is_closing = self._has_failed = True
        self._stop_timer()
        self._on_failed(self, error)
        self._raw.close()

    # Bytes

    def _go_on(self) -> None:
        if self._is_paused or self._is_closing:
            return
        if self._is_established:
            self._decrypt()
        elif self._incoming.pending:
            self._shake()

    def _decrypt(self) -> None:
        """Give the protocol all that has arrived, a buffer of its own at a time."""
        protocol, incoming, pending = self._protocol, self._incoming, self._object.pending
        read: Callable[[int, memoryview], int] = self._object.read  # type: ignore[assignment]  # with a buffer
        failure: ssl.SSLError | None = None
        is_empty = is_over = False
        while not (is_empty or self._is_paused or self._is_closing):
            room = memoryview(protocol.get_buffer(-1))
            size, have = len(room), 0
            try:
                while have < size:
                    count = read(size - have, room[have:])  # one record, 16 KiB, at most
                    if not count:
                        is_empty = is_over = True
                        break
                    have += count
                    # Asking for more than there is costs an exception.
                    if not incoming.pending and not pending():
                        is_empty = True
                        break
            except ssl.SSLWantReadError:
                is_empty = True
            except ssl.SSLError as error:
                failure, is_empty = error, True
            if have:
                protocol.buffer_updated(have)
        if self._outgoing.pending:
            self._send()
        if failure is not None or is_over:
            self._end(failure)

    def _end(self, failure: ssl.SSLError | None) -> None:
        """The other side has said goodbye, or what came is not what it has sent."""
        if not self._is_closing:
            self._protocol.eof_received()
            if failure is None:
                self.close()
            else:
                self._failure = ConnectionAbortedError(f"TLS: {_reason(failure)}")
                self.abort()

    def _put(self, parts: Iterable[Buffer | FileRange]) -> None:
        """Send as much as the transport below takes; the rest waits."""
        backlog = self._backlog
        for part in parts:
            if size := len(part):
                backlog.append(part)
                self._backlog_bytes += size
        if self._is_blocked:
            self._tell_blocked()
        else:
            self._encrypt()

    def _encrypt(self) -> None:
        """Send what waits, a piece at a time, as long as the transport below takes it."""
        try:
            while self._backlog and not self._is_blocked:
                self._encrypt_piece()
                self._raw.write(self._outgoing.read())
        except (ssl.SSLError, OSError):  # it was shut down from the other side, or the file cannot be read
            self.abort()

    def _encrypt_piece(self) -> None:
        """Encrypt the first bytes that wait."""
        backlog = self._backlog
        # No piece of its own for the last few bytes.
        left = PIECE_BYTES if self._backlog_bytes > _ROOM_BYTES else _ROOM_BYTES
        while backlog and left >= _COPIED_BYTES:
            part = backlog[0]
            if part.__class__ is FileRange or len(part) <= _COPIED_BYTES:
                count = self._gather(left)
                gathered = self._shared.piece()[:count]
                done = self._object.write(gathered)
                assert done == count, "there is room for everything in memory"
            else:
                view = memoryview(cast("Buffer", part))
                count = self._object.write(view[:left])
                if count == len(view):
                    backlog.popleft()
                else:
                    backlog[0] = view[count:]
            self._backlog_bytes -= count
            left -= count

    def _gather(self, most: int) -> int:
        """Copy ranges of files and small parts that wait to where they stand together; how many bytes."""
        backlog, room = self._backlog, self._shared.piece()
        count = 0
        while backlog and count < most:
            part = backlog[0]
            if isinstance(part, FileRange):
                size = part.read_into(room[count:most])
                if size < len(part):
                    backlog[0] = part.after(size)
                    return count + size
            else:
                size = len(part)
                if size > min(_COPIED_BYTES, most - count):
                    break
                room[count : count + size] = part
            backlog.popleft()
            count += size
        return count

    def _drain(self) -> None:
        self._encrypt()
        if self._backlog or self._is_blocked:
            return
        if self._is_closing:
            self._shut()
        elif self._is_told:
            self._is_told = False
            self._protocol.resume_writing()

    def _tell_blocked(self) -> None:
        if not self._is_told and self._is_known:
            self._is_told = True
            self._protocol.pause_writing()

    def _send(self) -> None:
        if self._outgoing.pending:
            self._raw.write(self._outgoing.read())

    def _shut(self) -> None:
        """Say goodbye, which tells the other side that nothing was cut off, and close."""
        if self._is_established and not self._raw.is_closing():
            try:
                self._object.unwrap()
            except ssl.SSLError:
                pass  # the answer to it is not waited for
            self._send()
        self._raw.close()


async def connect_tls(
    protocol: asyncio.BufferedProtocol,
    host: str,
    port: int,
    context: ssl.SSLContext,
    *,
    receive_buffer: ReceiveBuffer,
    timeout_s: float,
) -> None:
    """Connect, and agree on TLS with who must be `host`; `protocol` has its transport then.

    Raises OSError, and HandshakeError.
    """
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()

    def established(_: TlsTransport) -> None:
        if not over.done():
            over.set_result(None)

    def failed(_: TlsTransport, error: HandshakeError) -> None:
        if not over.done():
            over.set_exception(error)

    transport = TlsTransport(
        protocol,
        context,
        receive_buffer=receive_buffer,
        timeout_s=timeout_s,
        on_established=established,
        on_failed=failed,
        server_hostname=host,
    )
    await loop.create_connection(lambda: transport, host, port)
    try:
        await over
    except asyncio.CancelledError:
        transport.abort()
        raise


def _what_else(received: bytes) -> str:
    """What plain bytes look like, where a TLS hello was expected."""
    if received[:4] in (b"GET ", b"POST", b"PUT ", b"HEAD", b"OPTI", b"DELE"):
        return "this looks like plain HTTP on a TLS listener"
    if received[:1] == b"\x00":
        return "this looks like Kafka's protocol in plain text on a TLS listener; set security.protocol at the client"
    return "this is no TLS hello"


def _reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of the other side is not trusted: {error.verify_message}"
    said = (error.reason or "the other side does not keep to TLS").lower().replace("_", " ")
    if said.endswith(_NOT_BELIEVED):
        return f"the other side does not believe the certificate that it was shown: {said}"
    return said


_NOT_BELIEVED = ("alert unknown ca", "alert bad certificate", "alert certificate unknown", "alert certificate expired")
