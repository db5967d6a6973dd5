"""Kafka's deserializers by the names of their classes, down to the text that Java makes of what they return."""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable, Mapping
from uuid import UUID

from ottla.cli.kafka.common import ToolError
from ottla.cli.kafka.java_text import double, printable

_PACKAGE = "org.apache.kafka.common.serialization."
_SERIALIZATION_ERROR = "org.apache.kafka.common.errors.SerializationException"

Deserialize = Callable[[bytes], bytes]


def AS_IT_IS(data: bytes) -> bytes:  # noqa: N802 - a value that happens to be a function
    """Without a deserializer bytes are written as they are."""
    return data


def deserializer(name: str, properties: Mapping[str, str], *, is_key: bool) -> Deserialize:
    """The deserializer of a class name (Kafka's, or what `ottla.serde` knows); raises `ToolError`."""
    short = name.removeprefix(_PACKAGE)
    if name.startswith(_PACKAGE) and short in _READERS:
        return _READERS[short]
    if name.startswith(_PACKAGE) and short == "StringDeserializer":
        return _string(properties, is_key=is_key)
    if ":" in name or "." not in name:
        from ottla.serde.resolve import resolve_deserializer

        try:
            found = resolve_deserializer(_imported(name) if ":" in name else name)
        except (ValueError, TypeError, ImportError, AttributeError):
            pass
        else:
            return lambda data: str(found.deserialize("", data, ())).encode()
    raise ToolError(name, "ClassNotFoundException")


def _imported(name: str) -> object:
    from importlib import import_module

    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


def _string(properties: Mapping[str, str], *, is_key: bool) -> Deserialize:
    named = properties.get(f"{'key' if is_key else 'value'}.deserializer.encoding")
    encoding = named if named is not None else properties.get("deserializer.encoding", "UTF-8")
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise ToolError(f"Unsupported encoding {encoding}", _SERIALIZATION_ERROR) from None
    return lambda data: data.decode(encoding, "replace").encode()


def _sized(name: str, size: int, show: Callable[[bytes], str]) -> Deserialize:
    def read(data: bytes) -> bytes:
        if len(data) != size:
            raise ToolError(f"Size of data received by {name} is not {size}", _SERIALIZATION_ERROR)
        return show(data).encode()

    return read


def _integer(data: bytes) -> str:
    return str(int.from_bytes(data, "big", signed=True))


def _float32(data: bytes) -> str:
    # Java shows as many digits as tell this float from its neighbours.
    number: float = struct.unpack(">f", data)[0]
    for digits in range(1, 10):
        short = float(f"{number:.{digits}g}")
        if number != number or abs(number) == float("inf") or struct.pack(">f", short) == data:
            return double(number if number != number else short)
    return double(number)


def _boolean(data: bytes) -> str:
    if data[0] > 1:
        number = int.from_bytes(data, "big", signed=True)
        raise ToolError(f"Unexpected byte received by BooleanDeserializer: {number}", _SERIALIZATION_ERROR)
    return "true" if data[0] else "false"


def _uuid(data: bytes) -> bytes:
    try:
        return str(UUID(data.decode())).encode()
    except ValueError:
        raise ToolError("Error parsing data into UUID", _SERIALIZATION_ERROR) from None


def _void(data: bytes) -> bytes:
    raise ToolError("Data should be null for a VoidDeserializer.")


_READERS: dict[str, Deserialize] = {
    "BooleanDeserializer": _sized("BooleanDeserializer", 1, _boolean),
    # What Java shows of an array is its type and a number that means nothing.
    "ByteArrayDeserializer": lambda data: f"[B@{id(data) & 0x7FFFFFFF:x}".encode(),
    "ByteBufferDeserializer": lambda data: f"java.nio.HeapByteBuffer[pos=0 lim={len(data)} cap={len(data)}]".encode(),
    "BytesDeserializer": lambda data: printable(data).encode(),
    "DoubleDeserializer": _sized("Deserializer", 8, lambda data: double(struct.unpack(">d", data)[0])),
    "FloatDeserializer": _sized("Deserializer", 4, _float32),
    "IntegerDeserializer": _sized("IntegerDeserializer", 4, _integer),
    "LongDeserializer": _sized("LongDeserializer", 8, _integer),
    "ShortDeserializer": _sized("ShortDeserializer", 2, _integer),
    "UUIDDeserializer": _uuid,
    "VoidDeserializer": _void,
}
