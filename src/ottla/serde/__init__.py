"""Serializers and deserializers: Python objects to the bytes of keys and values, and back.

One object does both (a `Serde`): `Producer(value_serializer=serde.json(Order))`, `Consumer(value_deserializer=…)`.

| factory | Python | bytes | names that resolve to it |
| --- | --- | --- | --- |
| `raw()` | bytes | as they are | `bytes`, Java's ByteArray, ByteBuffer, Bytes |
| `string(encoding)` | str | text | `str`, `"string"`, Java's String |
| `int16()`, `int32()`, `int64()` | int | big-endian | `int` (64 bits), `"short"`, `"integer"`, `"long"`, Java's |
| `float32()`, `float64()` | float | IEEE 754, big-endian | `float` (64 bits), `"double"`, Java's Float, Double |
| `boolean()` | bool | one byte | `bool`, Java's Boolean |
| `uuid()` | uuid.UUID | its text | `uuid.UUID`, Java's UUID |
| `void()` | None | none at all | `type(None)`, Java's Void |
| `list_of(inner)` | list | as Java's ListSerializer | |
| `json(type)` | what JSON can say, or of the type | JSON | `dict`, `list`, dataclasses, `"json"` |
| `struct(type, format)` | a msgspec.Struct | JSON or MessagePack | a subclass of msgspec.Struct |

Clients are generic over what goes in and comes out: `Consumer(value_deserializer=serde.struct(Order))` is a
`Consumer[bytes, Order]` to a type checker, and so it is with a type, a function or an object of one's own
(`SerializerLike[T]`, `DeserializerLike[T]`). Without a deserializer it is bytes. A name says no type: annotate the
variable, `consumer: Consumer[bytes, dict[str, int]] = Consumer({"value.deserializer": "json"})`.

None is None on both sides (a tombstone as a value), whatever the serde. What cannot be done raises `SerdeError`, which
names the topic and says why; the clients turn it into their `SerializationError`. `resolve.py` says what else may be
given where a serializer is wanted: a function of the value, a function as confluent-kafka has it, an object.

The bytes of everything that Java has too are the same as Java's. Avro, JSON Schema and Protobuf belong to the schema
registry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.lazy import load

if TYPE_CHECKING:
    from ottla.serde.base import Deserializer as Deserializer
    from ottla.serde.base import DeserializerLike as DeserializerLike
    from ottla.serde.base import Headers as Headers
    from ottla.serde.base import Serde as Serde
    from ottla.serde.base import SerdeError as SerdeError
    from ottla.serde.base import SerializationContext as SerializationContext
    from ottla.serde.base import Serializer as Serializer
    from ottla.serde.base import SerializerLike as SerializerLike
    from ottla.serde.lists import list_of as list_of
    from ottla.serde.primitive import boolean as boolean
    from ottla.serde.primitive import float32 as float32
    from ottla.serde.primitive import float64 as float64
    from ottla.serde.primitive import int16 as int16
    from ottla.serde.primitive import int32 as int32
    from ottla.serde.primitive import int64 as int64
    from ottla.serde.primitive import raw as raw
    from ottla.serde.primitive import string as string
    from ottla.serde.primitive import uuid as uuid
    from ottla.serde.primitive import void as void
    from ottla.serde.resolve import resolve_deserializer as resolve_deserializer
    from ottla.serde.resolve import resolve_serializer as resolve_serializer
    from ottla.serde.structured import json as json
    from ottla.serde.structured import struct as struct

_HOMES = {
    "Deserializer": "ottla.serde.base",
    "DeserializerLike": "ottla.serde.base",
    "Headers": "ottla.serde.base",
    "Serde": "ottla.serde.base",
    "SerdeError": "ottla.serde.base",
    "SerializationContext": "ottla.serde.base",
    "Serializer": "ottla.serde.base",
    "SerializerLike": "ottla.serde.base",
    "boolean": "ottla.serde.primitive",
    "float32": "ottla.serde.primitive",
    "float64": "ottla.serde.primitive",
    "int16": "ottla.serde.primitive",
    "int32": "ottla.serde.primitive",
    "int64": "ottla.serde.primitive",
    "json": "ottla.serde.structured",
    "list_of": "ottla.serde.lists",
    "raw": "ottla.serde.primitive",
    "resolve_deserializer": "ottla.serde.resolve",
    "resolve_serializer": "ottla.serde.resolve",
    "string": "ottla.serde.primitive",
    "struct": "ottla.serde.structured",
    "uuid": "ottla.serde.primitive",
    "void": "ottla.serde.primitive",
}
"""Where each public name lives; loaded on first use."""

__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    return load(name, globals(), _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
