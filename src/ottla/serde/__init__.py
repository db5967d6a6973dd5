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

None is None on both sides (a tombstone as a value), whatever the serde. What cannot be done raises `SerdeError`, which
names the topic and says why; the clients turn it into their `SerializationError`. `resolve.py` says what else may be
given where a serializer is wanted: a function of the value, a function as confluent-kafka has it, an object.

The bytes of everything that Java has too are the same as Java's. Avro, JSON Schema and Protobuf belong to the schema
registry.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ottla.serde.base import Deserializer as Deserializer
    from ottla.serde.base import Headers as Headers
    from ottla.serde.base import Serde as Serde
    from ottla.serde.base import SerdeError as SerdeError
    from ottla.serde.base import SerializationContext as SerializationContext
    from ottla.serde.base import Serializer as Serializer
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
    "Deserializer": "base",
    "Headers": "base",
    "Serde": "base",
    "SerdeError": "base",
    "SerializationContext": "base",
    "Serializer": "base",
    "boolean": "primitive",
    "float32": "primitive",
    "float64": "primitive",
    "int16": "primitive",
    "int32": "primitive",
    "int64": "primitive",
    "json": "structured",
    "list_of": "lists",
    "raw": "primitive",
    "resolve_deserializer": "resolve",
    "resolve_serializer": "resolve",
    "string": "primitive",
    "struct": "structured",
    "uuid": "primitive",
    "void": "primitive",
}
"""Where each public name lives; loaded on first use."""

__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'ottla.serde' has no attribute {name!r}")
    value: object = getattr(import_module(f"ottla.serde.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
