"""Frames: an int32 size in front of header and body."""

from __future__ import annotations

from struct import Struct
from typing import Final

from ottla.core.binary import Buffer
from ottla.protocol.codec import Encoder, M, encode_into, encoder
from ottla.protocol.errors import ProtocolError
from ottla.protocol.headers import encode_request_header, response_header_version
from ottla.protocol.message import Request, Response

SIZE = Struct(">i")
_pack_header_v0 = Struct(">ii").pack
_pack_header_v1 = Struct(">iix").pack


def frame_response(encode: Encoder[M], message: M, correlation_id: int, header_version: int) -> list[Buffer]:
    """A response as buffers to be sent in order, by a compiled encoder: the hot path.

    Small responses are one buffer. A large record set is a buffer of its own, the very object that was in the message.
    """
    parts: list[Buffer] = []
    encode(message, parts)
    size = len(parts[0]) if len(parts) == 1 else sum(map(len, parts))
    if header_version:
        parts[0] = _pack_header_v1(size + 5, correlation_id) + parts[0]
    else:
        parts[0] = _pack_header_v0(size + 4, correlation_id) + parts[0]
    if not parts[-1]:
        parts.pop()
    return parts


def encode_response(message: Response, version: int, correlation_id: int) -> list[Buffer]:
    """`frame_response` for callers that keep no encoder."""
    header_version = response_header_version(message.API_KEY, version)
    return frame_response(encoder(type(message), version), message, correlation_id, header_version)


def encode_request(message: Request, version: int, correlation_id: int, client_id: str | None = None) -> list[Buffer]:
    """A request as buffers to be sent in order."""
    header = encode_request_header(message.API_KEY, version, correlation_id, client_id)
    parts: list[Buffer] = [header]
    encode_into(message, version, parts)
    parts[0] = SIZE.pack(sum(map(len, parts))) + header
    return parts


_TLS: Final = (0x1503, 0x1603)
_GREETINGS: Final = {
    0x1503: "a TLS alert",
    0x1603: "a TLS hello",
    **{int.from_bytes(word, "big"): "HTTP" for word in (b"GET ", b"POST", b"PUT ", b"HEAD", b"HTTP")},
}
"""What length prefixes often are when somebody speaks another protocol."""


def check_frame_size(size: int, max_frame_bytes: int) -> None:
    """ProtocolError when a length prefix is negative or above the limit (socket.request.max.bytes)."""
    if not 0 <= size <= max_frame_bytes:
        looks_like = _GREETINGS.get(size if size >> 16 not in _TLS else size >> 16)
        if looks_like is not None:
            raise ProtocolError(f"this looks like {looks_like}, where Kafka's protocol is spoken in plain text")
        raise ProtocolError(f"a frame of {size} bytes: the limit is {max_frame_bytes}")
