"""Connections without I/O: received bytes in, requests (or, at the client, responses) out.

    size = sock.recv_into(connection.get_buffer())
    connection.bytes_received(size)
    while (request := connection.next_request()) is not NEED_DATA: ...

Who owns the memory. A `ServerConnection` owns one receive buffer, and a request is a window in it: `request.buffer`
from `body_offset` to `end`. Decoding copies everything but record sets, which stay views into the window; they may be
patched there, since the window belongs to the request alone. The window is valid until the next call of `next_request`,
which says that the request is done: requests of a connection are answered one at a time, in order. Until then nothing
moves or overwrites it, however much is received meanwhile. A request that must live longer keeps the whole buffer
(`detach`), and the connection goes on in new memory.

The buffer starts small, grows while the peer fills it, and takes a large frame at its final place: the kernel copies
once, we never do. It grows with the bytes that really arrive, so that a length prefix alone cannot make us allocate,
and falls back to its first size when only little has come in for a while.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Final, Literal

from ottla.core.binary import Buffer
from ottla.protocol.apis import APIS
from ottla.protocol.codec import decode
from ottla.protocol.errors import ProtocolError
from ottla.protocol.framing import SIZE, check_frame_size, encode_request
from ottla.protocol.headers import parse_request_header, response_header_version
from ottla.protocol.message import Request as RequestBody
from ottla.protocol.message import Response as ResponseBody

FIRST_BYTES = 16 * 1024
"""Receive buffer of a new or idle connection."""
STREAM_BYTES = 256 * 1024
"""Largest buffer that a stream of small frames is received into."""
ALONE_BYTES = 128 * 1024
"""A frame above this size is received without what follows it, which then never has to move."""
LEAP_BYTES = 2 * 1024 * 1024
"""A frame up to this size gets its room at once; a larger one as its bytes arrive."""
ROOM_BYTES = 1024
"""Less room than this at the end of the buffer is not worth a receive."""
QUIET_RECEIVES = 64
"""After so many small receives without a large frame, a large buffer is given back."""


class NeedData(Enum):
    """Type of `NEED_DATA`."""

    NEED_DATA = "no complete frame has been received"


NEED_DATA: Final = NeedData.NEED_DATA


class Request:
    """A request as it came in: its header, and where its body lies."""

    __slots__ = ("api_key", "api_version", "body_offset", "buffer", "client_id", "correlation_id", "end", "size")

    api_key: int
    api_version: int
    correlation_id: int
    client_id: str | None
    buffer: bytearray
    body_offset: int
    end: int
    size: int
    """Bytes of the frame behind its length prefix."""

    def __repr__(self) -> str:
        return (
            f"<Request {self.api_key} v{self.api_version} correlation {self.correlation_id}"
            f" from {self.client_id!r}, {self.size} bytes>"
        )


class ServerConnection:
    """The receiving side of one client's connection. `max_frame_bytes` is socket.request.max.bytes."""

    __slots__ = ("_buffer", "_busy", "_end", "_full", "_quiet", "_start", "_view", "max_frame_bytes")

    def __init__(self, max_frame_bytes: int = 100 * 1024 * 1024) -> None:
        self.max_frame_bytes = max_frame_bytes
        self._buffer = bytearray(FIRST_BYTES)
        self._view = memoryview(self._buffer)
        self._start = 0
        """Where the first frame that is not handed out yet starts."""
        self._end = 0
        """Where received bytes end."""
        self._busy = False
        """A request has been handed out and lies in the buffer."""
        self._full = False
        """The last receive filled the buffer: there may be more than it can take."""
        self._quiet = 0
        """Small receives since the last large frame."""

    @property
    def buffered_bytes(self) -> int:
        """Received but not handed out: while a request is being worked on, stop reading when this grows."""
        return self._end - self._start

    def get_buffer(self) -> memoryview:
        """Room for the next receive, never empty. Valid until the next call of any method."""
        capacity = len(self._buffer)
        unread = self._end - self._start
        if not unread and not self._busy:
            self._start = self._end = 0
            if self._quiet > QUIET_RECEIVES:
                self.trim()
            elif self._full and capacity < STREAM_BYTES:
                self._replace(2 * capacity)
            self._full = False
            return self._view
        wanted = self._missing_frame(unread)
        if wanted > capacity - self._start or (not wanted and capacity - self._end < ROOM_BYTES):
            self._make_room(unread, wanted)
        if wanted > ALONE_BYTES:
            return self._view[self._end : self._start + wanted]
        return self._view[self._end :]

    def bytes_received(self, size: int) -> None:
        """`size` bytes have been written to the front of what `get_buffer` gave."""
        self._end += size
        self._full = self._end == len(self._buffer)
        if size < FIRST_BYTES:
            self._quiet += 1

    def trim(self) -> None:
        """Give back what a busy time has left, if nothing lies in it: for a connection that has become idle."""
        if not self._busy and self._start == self._end and len(self._buffer) > FIRST_BYTES:
            self._replace(FIRST_BYTES)
            self._start = self._end = 0
            self._quiet = 0

    def receive_data(self, data: Buffer) -> None:
        """Take bytes from elsewhere: `get_buffer` and `bytes_received` in one, as often as needed."""
        view = memoryview(data)
        while view:
            room = self.get_buffer()
            size = min(len(room), len(view))
            room[:size] = view[:size]
            self.bytes_received(size)
            view = view[size:]

    def next_frame(self) -> tuple[bytearray, int, int] | Literal[NeedData.NEED_DATA]:
        """The next frame as (buffer, offset, end), without its length prefix. The one before it is done.

        ProtocolError for a size that is negative or above the limit; the connection is of no use afterwards.
        """
        self._busy = False
        start = self._start
        unread = self._end - start
        if unread < 4:
            return NEED_DATA
        (size,) = SIZE.unpack_from(self._buffer, start)
        if not 0 <= size <= self.max_frame_bytes:
            check_frame_size(size, self.max_frame_bytes)
        if unread < size + 4:
            return NEED_DATA
        self._start = end = start + 4 + size
        self._busy = True
        if size >= FIRST_BYTES:
            self._quiet = 0
        return self._buffer, start + 4, end

    def next_request(self) -> Request | Literal[NeedData.NEED_DATA]:
        """The next request; the one before it is done. ProtocolError for a bad frame size or header."""
        frame = self.next_frame()
        if frame is NEED_DATA:
            return NEED_DATA
        buffer, offset, end = frame
        request = Request()
        request.buffer = buffer
        request.end = end
        request.size = end - offset
        (
            request.api_key,
            request.api_version,
            request.correlation_id,
            request.client_id,
            request.body_offset,
        ) = parse_request_header(buffer, offset, end)
        return request

    def detach(self) -> None:
        """Leave the buffer to the request handed out last, for good; later bytes go elsewhere."""
        if self._busy:
            unread = self._end - self._start
            self._move(max(FIRST_BYTES, unread))
            self._busy = False

    def _missing_frame(self, unread: int) -> int:
        """Room for the incomplete frame at `_start`, prefix included, as far as its bytes so far justify it; else 0."""
        if unread < 4:
            return 0
        (size,) = SIZE.unpack_from(self._buffer, self._start)
        if not 0 <= size <= self.max_frame_bytes or unread >= size + 4:
            return 0
        return int(min(size + 4, max(LEAP_BYTES, 2 * unread)))

    def _make_room(self, unread: int, wanted: int) -> None:
        """Bring the unread bytes to where `wanted` bytes, or else some more than there are, have room."""
        capacity = len(self._buffer)
        if self._full and capacity < STREAM_BYTES:
            capacity *= 2
        wanted = max(wanted, unread + unread // 2 + ROOM_BYTES)
        if wanted > capacity:
            capacity = -(-wanted // FIRST_BYTES) * FIRST_BYTES
        if self._busy or capacity != len(self._buffer):
            self._move(capacity)
        else:
            self._view[:unread] = self._view[self._start : self._end]
            self._start, self._end = 0, unread
        self._full = False

    def _move(self, capacity: int) -> None:
        """Go on in a new buffer, with the unread bytes at its front."""
        unread = self._view[self._start : self._end]
        self._replace(capacity)
        size = len(unread)
        self._view[:size] = unread
        self._start, self._end = 0, size
        self._busy = False

    def _replace(self, capacity: int) -> None:
        self._buffer = bytearray(capacity)
        self._view = memoryview(self._buffer)


class Response:
    """A response with its correlation id."""

    __slots__ = ("api_key", "api_version", "body", "correlation_id")

    def __init__(self, api_key: int, api_version: int, correlation_id: int, body: ResponseBody) -> None:
        self.api_key = api_key
        self.api_version = api_version
        self.correlation_id = correlation_id
        self.body = body


class ClientConnection:
    """The client's side: numbers requests, and reads each response as what its request asked for."""

    __slots__ = ("_in_flight", "_next_correlation_id", "_received", "client_id", "max_frame_bytes")

    def __init__(self, client_id: str | None = None, max_frame_bytes: int = 2**31 - 1) -> None:
        self.client_id = client_id
        self.max_frame_bytes = max_frame_bytes
        self._received = bytearray()
        self._in_flight: deque[tuple[int, int, int]] = deque()
        self._next_correlation_id = 0

    def send(self, request: RequestBody, version: int, *, expect_response: bool = True) -> list[Buffer]:
        """The buffers to send. Without `expect_response` (Produce with acks=0) the broker will not answer."""
        correlation_id = self._next_correlation_id
        parts = encode_request(request, version, correlation_id, self.client_id)
        self._next_correlation_id = (correlation_id + 1) & 0x7FFFFFFF
        if expect_response:
            self._in_flight.append((correlation_id, request.API_KEY, version))
        return parts

    def receive_data(self, data: Buffer) -> None:
        """Take bytes as they come in."""
        self._received += data

    def next_response(self) -> Response | Literal[NeedData.NEED_DATA]:
        """The next response, in the order of the requests. ProtocolError when it is not what was asked for."""
        received = self._received
        if len(received) < 4:
            return NEED_DATA
        (size,) = SIZE.unpack_from(received)
        check_frame_size(size, self.max_frame_bytes)
        if len(received) < size + 4:
            return NEED_DATA
        # A copy, so that record sets may outlive what is received next.
        frame = bytes(received[4 : size + 4])
        del received[: size + 4]
        if not self._in_flight:
            raise ProtocolError("a response that nobody asked for")
        expected, api_key, version = self._in_flight.popleft()
        header = response_header_version(api_key, version)
        if size < 4 + header or int.from_bytes(frame[:4], "big", signed=True) != expected:
            raise ProtocolError(f"not the response to request {expected}")
        if header and frame[4]:
            raise ProtocolError("unexpected tagged fields in a response header")
        return Response(api_key, version, expected, decode(APIS[api_key].response_class(), version, frame, 4 + header))
