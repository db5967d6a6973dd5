"""Encode and decode messages: functions compiled per class and version at their first use.

    parts = []
    encode_into(response, version, parts)          # buffers to be sent in order
    request = decode(FetchRequest, 17, frame, offset)

Callers on the hot path keep the function that `encoder` or `decoder` gives them. Three errors: `ProtocolError` for a
peer's bad bytes, `UnsupportedVersionError` for a message that cannot be written at this version without losing
something, `EncodeError` for values that no version can carry.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ottla.core.binary import Buffer
from ottla.protocol.decoding import compile_decoder
from ottla.protocol.encoding import compile_encoder
from ottla.protocol.errors import EncodeError, ProtocolError, UnsupportedVersionError
from ottla.protocol.message import Message

__all__ = (
    "Decoder",
    "EncodeError",
    "Encoder",
    "ProtocolError",
    "UnsupportedVersionError",
    "decode",
    "decode_prefix",
    "decoder",
    "encode",
    "encode_into",
    "encoder",
)

M = TypeVar("M", bound=Message)

Decoder = Callable[[Buffer, int, int], tuple[M, int]]
"""`(buffer, offset, end) -> (message, next_offset)`. The buffer holds bytes (format "B" when a memoryview)."""
Encoder = Callable[[M, list[Buffer]], None]
"""`(message, parts)`: appends buffers to `parts`; the last one may be empty."""

_DECODERS: dict[tuple[type[Message], int], Callable[[Buffer, int, int], tuple[Any, int]]] = {}
_ENCODERS: dict[tuple[type[Message], int], Callable[[Any, list[Buffer]], None]] = {}


def encode(message: Message, version: int) -> bytes:
    """The message's bytes, without any header."""
    parts: list[Buffer] = []
    encoder(message.STRUCT, version)(message, parts)
    return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)


def encode_into(message: Message, version: int, parts: list[Buffer]) -> None:
    """Append the message's bytes to `parts`; a large record set stays the buffer it is, uncopied."""
    encoder(message.STRUCT, version)(message, parts)


def decode(cls: type[M], version: int, buffer: Buffer, offset: int = 0) -> M:
    """The message that fills `buffer` from `offset` to its end exactly."""
    end = len(buffer)
    message, next_offset = decoder(cls, version)(buffer, offset, end)
    if next_offset != end:
        raise ProtocolError(f"{cls.__name__} v{version}: {end - next_offset} bytes too many")
    return message


def decode_prefix(cls: type[M], version: int, buffer: Buffer, offset: int = 0) -> tuple[M, int]:
    """The message that starts at `offset`, and the offset behind it."""
    return decoder(cls, version)(buffer, offset, len(buffer))


def decoder(cls: type[M], version: int) -> Decoder[M]:
    """The compiled decoder; UnsupportedVersionError when the message has no such version."""
    function = _DECODERS.get((cls, version))
    if function is None:
        _require_version(cls, version)
        function = _DECODERS[cls, version] = compile_decoder(cls, version)
    return function


def encoder(cls: type[M], version: int) -> Encoder[M]:
    """The compiled encoder; UnsupportedVersionError when the message has no such version."""
    function = _ENCODERS.get((cls, version))
    if function is None:
        _require_version(cls, version)
        function = _ENCODERS[cls, version] = compile_encoder(cls, version)
    return function


def _require_version(cls: type[Message], version: int) -> None:
    if cls.KIND == "struct":
        raise TypeError(f"{cls.__name__} is part of a message, it has no encoding of its own")
    first, last = cls.VALID_VERSIONS
    if not first <= version <= last:
        raise UnsupportedVersionError(f"{cls.__name__} has no version {version}")
