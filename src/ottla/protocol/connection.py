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

The client's side is the mirror image: what it hands out is decoded, and lives as long as anybody wants it to.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Final, Literal

from ottla.core.binary import Buffer
from ottla.core.errors import ErrorCode
from ottla.protocol.apis import APIS, ApiKey
from ottla.protocol.codec import Decoder, decoder
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
CLIENT_BYTES = 32 * 1024
"""Receive buffer of a client's connection; a response above half of it has a buffer of its own."""
CLIENT_LEAP_BYTES = 64 * 1024 * 1024
"""A response up to this size gets its room at once, a larger one as its bytes arrive."""
MOST_KEPT_FRAMES = 32
"""So many large responses later, memory that nobody wanted again is given back."""


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

    @property
    def frame_bytes(self) -> int:
        """Size, with its prefix, of the frame of which a part has come; 0 when there is none, or it is not known."""
        unread = self._end - self._start
        if unread < 4:
            return 0
        (size,) = SIZE.unpack_from(self._buffer, self._start)
        return int(size) + 4 if 0 <= size <= self.max_frame_bytes and unread < size + 4 else 0

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

    def has_unread(self) -> bool:
        """Whether there may be another frame, whole or not; the one that was handed out last is done."""
        self._busy = False
        return self._start != self._end

    def put_back(self, offset: int) -> None:
        """Let the frame that was handed out last (from `offset` on) be the next one again."""
        self._start = offset - 4
        self._busy = False

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
    """The client's side: numbers requests, and reads each response as what its request asked for.

    Small responses are received into one buffer and decoded from there. A large one gets a buffer of its own as soon as
    its size is known, is received straight into it, and keeps it: its record sets are views of that buffer, valid as
    long as somebody holds them. Small responses with record sets are copied out first, for the same promise.

    `max_frame_bytes` may be changed at any time: low until the peer has shown that it speaks Kafka's protocol.
    """

    __slots__ = (
        "_buffer",
        "_end",
        "_frame",
        "_frame_bytes",
        "_frame_end",
        "_frames",
        "_in_flight",
        "_next_correlation_id",
        "_start",
        "_view",
        "client_id",
        "max_frame_bytes",
        "received_bytes",
    )

    def __init__(self, client_id: str | None = None, max_frame_bytes: int = 2**31 - 1) -> None:
        self.client_id = client_id
        self.max_frame_bytes = max_frame_bytes
        self.received_bytes = 0
        """Size of the response handed out last, behind its length prefix."""
        self._buffer = bytearray(CLIENT_BYTES)
        self._view = memoryview(self._buffer)
        self._start = 0
        self._end = 0
        self._frame: bytearray | None = None
        """A large response that is being received."""
        self._frame_bytes = 0
        """How large it will be."""
        self._frame_end = 0
        """How much of it is there. What comes after it goes to `_buffer` again."""
        self._frames = _Frames()
        self._in_flight: deque[tuple[int, ResponseFacts]] = deque()
        self._next_correlation_id = 0

    @property
    def in_flight(self) -> int:
        """Requests that have not been answered."""
        return len(self._in_flight)

    @property
    def missing_bytes(self) -> int:
        """What is still to come of the large response that is being received; 0 when there is none."""
        return self._frame_bytes - self._frame_end if self._frame is not None else 0

    @property
    def unread(self) -> bytes:
        """The first bytes of what has been received and not been understood, for messages."""
        return bytes(self._view[self._start : min(self._end, self._start + 16)])

    def send(self, request: RequestBody, version: int, *, expect_response: bool = True) -> list[Buffer]:
        """The buffers to send, none of them empty.

        Without `expect_response` (Produce with acks=0) the broker will not answer.
        """
        correlation_id = self._next_correlation_id
        parts = encode_request(request, version, correlation_id, self.client_id)
        if not parts[-1]:
            parts.pop()
        self._next_correlation_id = (correlation_id + 1) & 0x7FFFFFFF
        if expect_response:
            self.expect(correlation_id, request.API_KEY, version)
        return parts

    def expect(self, correlation_id: int, api_key: int, version: int) -> None:
        """A request was sent, be it by other means: this is what its response will be."""
        self._in_flight.append((correlation_id, response_facts(api_key, version)))

    def get_buffer(self) -> memoryview:
        """Room for the next receive, never empty. Valid until the next call of any method."""
        frame = self._frame
        if frame is not None and self._frame_end < self._frame_bytes:
            if self._frame_end == len(frame):
                grown = bytearray(min(self._frame_bytes, 2 * len(frame)))
                grown[: self._frame_end] = frame
                self._frame = frame = grown
            return memoryview(frame)[self._frame_end : self._frame_bytes]
        unread = self._end - self._start
        capacity = len(self._buffer)
        if not unread and capacity == CLIENT_BYTES:
            self._start = self._end = 0
        elif capacity - self._end < CLIENT_BYTES // 2 or not unread:
            wanted = CLIENT_BYTES if unread <= CLIENT_BYTES // 2 else 2 * unread
            held = self._view[self._start : self._end]
            if wanted != capacity:
                self._buffer = bytearray(wanted)
                self._view = memoryview(self._buffer)
            self._view[:unread] = held
            self._start, self._end = 0, unread
        return self._view[self._end :]

    def bytes_received(self, size: int) -> None:
        """`size` bytes have been written to the front of what `get_buffer` gave. Then ask for `next_response`."""
        if self._frame is not None and self._frame_end < self._frame_bytes:
            self._frame_end += size
        else:
            self._end += size

    def receive_data(self, data: Buffer) -> None:
        """Take bytes from elsewhere: `get_buffer` and `bytes_received` in one, as often as needed."""
        view = memoryview(data)
        while view:
            room = self.get_buffer()
            size = min(len(room), len(view))
            room[:size] = view[:size]
            self.bytes_received(size)
            view = view[size:]

    def next_response(self) -> Response | Literal[NeedData.NEED_DATA]:
        """The next response, in the order of the requests. ProtocolError when it is not what was asked for."""
        frame = self._frame
        if frame is not None:
            if self._frame_end < self._frame_bytes:
                return NEED_DATA
            self._frame = None
            self._frames.keep(frame)
            return self._read(frame, 0, self._frame_bytes, owned=True)
        start = self._start
        unread = self._end - start
        if unread < 4:
            return NEED_DATA
        (size,) = SIZE.unpack_from(self._buffer, start)
        if not 0 <= size <= self.max_frame_bytes:
            check_frame_size(size, self.max_frame_bytes)
        start += 4
        if unread >= size + 4:
            self._start = start + size
            self._frames.small_response()
            return self._read(self._buffer, start, start + size, owned=False)
        if size > CLIENT_BYTES // 2:
            # The room comes with the bytes: a length alone cannot make us allocate without bound.
            # The memory of an earlier one that nobody holds any more is there already.
            self._frame = self._frames.take(size) or bytearray(min(size, max(CLIENT_LEAP_BYTES, 2 * unread)))
            self._frame_bytes = size
            self._frame_end = unread - 4
            self._frame[: self._frame_end] = self._view[start : self._end]
            self._start = self._end = 0
        return NEED_DATA

    def _read(self, buffer: Buffer, start: int, end: int, *, owned: bool) -> Response:
        if not self._in_flight:
            raise ProtocolError("a response that nobody asked for")
        expected, (api_key, version, decode_body, header, has_records) = self._in_flight.popleft()
        if end - start < 4 + header or int.from_bytes(buffer[start : start + 4], "big", signed=True) != expected:
            raise ProtocolError(f"not the response to request {expected}")
        if header and buffer[start + 4]:
            raise ProtocolError("unexpected tagged fields in a response header")
        self.received_bytes = end - start
        if api_key == ApiKey.API_VERSIONS and version and buffer[start + 4 : start + 6] == _UNSUPPORTED_VERSION:
            # KIP-511: the broker does not know this version, and says so in one that everybody can read.
            version, decode_body = 0, response_facts(api_key, 0)[2]
        if has_records and not owned:
            buffer = bytes(memoryview(buffer)[start:end])
            start, end = 0, len(buffer)
        body, stop = decode_body(buffer, start + 4 + header, end)
        if stop != end:
            raise ProtocolError(f"{type(body).__name__} v{version}: {end - stop} bytes too many")
        return Response(api_key, version, expected, body)


class _Frames:
    """Memory of large responses, used again when nobody looks into it any more.

    Fresh memory has to be cleared, and mapped page by page where it is first written, which costs as much as receiving
    what then goes there. Who holds a record set has a view of the frame, and a bytearray tells whether it is viewed:
    it does not let itself be resized then. What has not been used again for a while is given back.
    """

    __slots__ = ("_ages", "_frames", "_quiet", "_time")

    def __init__(self) -> None:
        self._frames: list[bytearray] = []
        self._ages: list[int] = []
        self._time = 0
        self._quiet = 0
        """Small responses since the last large one."""

    def take(self, size: int) -> bytearray | None:
        """A frame of at least `size` bytes, and not many more, that is free."""
        self._time += 1
        for index, frame in enumerate(self._frames):
            if size <= len(frame) <= 2 * size and _is_free(frame):
                del self._frames[index], self._ages[index]
                return frame
        return None

    def keep(self, frame: bytearray) -> None:
        """Remember a frame that is handed out now."""
        oldest = self._time - MOST_KEPT_FRAMES
        while self._ages and self._ages[0] <= oldest:
            del self._frames[0], self._ages[0]
        self._frames.append(frame)
        self._ages.append(self._time)
        self._quiet = 0

    def small_response(self) -> None:
        """A response came that needs no frame: after many of them the connection is a quiet one."""
        self._quiet += 1
        if self._quiet > QUIET_RECEIVES:
            self._frames.clear()
            self._ages.clear()
            self._quiet = 0


def _is_free(frame: bytearray) -> bool:
    try:
        frame.append(frame.pop())
    except BufferError:
        return False
    return True


ResponseFacts = tuple[int, int, Decoder[ResponseBody], int, bool]
"""(api_key, api_version, decoder, extra bytes of the header, whether it carries record sets)"""

_RESPONSE_FACTS: dict[tuple[int, int], ResponseFacts] = {}


def response_facts(api_key: int, version: int) -> ResponseFacts:
    """What reading a response takes, looked up once."""
    facts = _RESPONSE_FACTS.get((api_key, version))
    if facts is None:
        facts = _RESPONSE_FACTS[api_key, version] = (
            api_key,
            version,
            decoder(APIS[api_key].response_class(), version),
            response_header_version(api_key, version),
            api_key in _WITH_RECORDS,
        )
    return facts


_UNSUPPORTED_VERSION = int(ErrorCode.UNSUPPORTED_VERSION).to_bytes(2, "big")
_WITH_RECORDS = frozenset((ApiKey.FETCH, ApiKey.FETCH_SNAPSHOT, ApiKey.SHARE_FETCH))
