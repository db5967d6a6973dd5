"""Serdes of bytes, text, numbers and the like, with the bytes that Java's own serializers write."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from ottla.serde.base import Headers, Serde, wants

if TYPE_CHECKING:
    from uuid import UUID


class Raw(Serde[bytes]):
    """Bytes as they are; also bytearray and memoryview when sending."""

    name = "bytes"
    is_identity = True

    def _encode(self, value: Any) -> bytes:
        if isinstance(value, bytes):
            return value
        if isinstance(value, (bytearray, memoryview)):
            return bytes(value)
        raise wants("bytes", value)

    def _decode(self, data: bytes) -> bytes:
        return data


class RawOrText(Raw):
    """What a producer takes when nothing is said: bytes as they are, text as UTF-8."""

    name = "bytes or text"
    is_identity = False

    def serialize(self, topic: str, value: Any, headers: Headers = None, /) -> bytes | None:
        if type(value) is bytes or value is None:
            return value
        if type(value) is str:
            try:
                return value.encode()
            except UnicodeEncodeError:
                pass  # A lone surrogate: the general way says so.
        return super().serialize(topic, value, headers)

    def _encode(self, value: Any) -> bytes:
        if isinstance(value, str):
            return value.encode()
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value)
        raise TypeError(f"bytes or str is needed, not {type(value).__name__}; a serializer takes other types")


class String(Serde[str]):
    """Text in an encoding; UTF-8 as in Java."""

    def __init__(self, encoding: str = "utf-8") -> None:
        "".encode(encoding)  # An unknown encoding is noticed here, not with the first record.
        self.encoding = encoding
        self.name = "text" if encoding.lower() in ("utf-8", "utf8") else f"text ({encoding})"

    def serialize(self, topic: str, value: str, headers: Headers = None, /) -> bytes | None:
        if type(value) is str and self.encoding == "utf-8":
            try:
                return value.encode()
            except UnicodeEncodeError:
                pass  # A lone surrogate: the general way says so.
        return super().serialize(topic, value, headers)

    def _encode(self, value: str) -> bytes:
        if not isinstance(value, str):
            raise wants("str", value)
        return value.encode(self.encoding)

    def _decode(self, data: bytes) -> str:
        return str(data, self.encoding)


class Integer(Serde[int]):
    """A signed big-endian integer of a fixed size."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.size = bits // 8
        self.name = f"int{bits}"

    def _encode(self, value: int) -> bytes:
        if not isinstance(value, int) or isinstance(value, bool):
            raise wants("int", value)
        try:
            return value.to_bytes(self.size, "big", signed=True)
        except OverflowError:
            raise ValueError(f"it does not fit into {self.bits} bits") from None

    def _decode(self, data: bytes) -> int:
        if len(data) != self.size:
            raise ValueError(f"{self.size} bytes are needed")
        return int.from_bytes(data, "big", signed=True)


class Float(Serde[float]):
    """An IEEE 754 number, big-endian."""

    def __init__(self, bits: int) -> None:
        self.size = bits // 8
        self.name = f"float{bits}"
        self._struct = struct.Struct(">f" if bits == 32 else ">d")

    def _encode(self, value: float) -> bytes:
        if not isinstance(value, (float, int)) or isinstance(value, bool):
            raise wants("float", value)
        return self._struct.pack(value)

    def _decode(self, data: bytes) -> float:
        if len(data) != self.size:
            raise ValueError(f"{self.size} bytes are needed")
        return self._struct.unpack(data)[0]  # type: ignore[no-any-return]


class Boolean(Serde[bool]):
    """One byte: 1 or 0."""

    name = "boolean"

    def _encode(self, value: bool) -> bytes:
        if not isinstance(value, bool):
            raise wants("bool", value)
        return b"\x01" if value else b"\x00"

    def _decode(self, data: bytes) -> bool:
        if data not in (b"\x00", b"\x01"):
            raise ValueError("one byte, 0 or 1, is needed")
        return data == b"\x01"


class Uuid(Serde["UUID"]):
    """A UUID as its text (`123e4567-e89b-…`), as Java's UUIDSerializer writes it."""

    name = "UUID"
    size = 36

    def _encode(self, value: UUID) -> bytes:
        from uuid import UUID

        if not isinstance(value, UUID):
            raise wants("uuid.UUID", value)
        return str(value).encode()

    def _decode(self, data: bytes) -> UUID:
        from uuid import UUID

        if len(data) != self.size:
            raise ValueError("36 characters of text are needed")
        return UUID(str(data, "ascii"))


class Void(Serde[None]):
    """Nothing but None."""

    name = "void"

    def _encode(self, value: None) -> bytes:
        raise wants("None", value)

    def _decode(self, data: bytes) -> None:
        raise ValueError("there must be none")


def raw() -> Serde[bytes]:
    """Bytes as they are: the clients hand them over without a call."""
    return RAW


def string(encoding: str = "utf-8") -> Serde[str]:
    """Text; raises `LookupError` for an unknown encoding."""
    return String(encoding)


def int16() -> Serde[int]:
    """Java's short: 2 bytes, big-endian."""
    return Integer(16)


def int32() -> Serde[int]:
    """Java's int: 4 bytes, big-endian."""
    return Integer(32)


def int64() -> Serde[int]:
    """Java's long: 8 bytes, big-endian."""
    return Integer(64)


def float32() -> Serde[float]:
    """Java's float: 4 bytes, big-endian; what Python has in 8 is rounded."""
    return Float(32)


def float64() -> Serde[float]:
    """Java's double: 8 bytes, big-endian."""
    return Float(64)


def boolean() -> Serde[bool]:
    """Java's boolean: one byte, 1 or 0."""
    return Boolean()


def uuid() -> Serde[UUID]:
    """A UUID as its text, which is what Java writes."""
    return Uuid()


def void() -> Serde[None]:
    """Nothing but None."""
    return Void()


RAW = Raw()
RAW_OR_TEXT = RawOrText()
