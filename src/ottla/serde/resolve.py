"""What may be given where a serializer or deserializer is wanted, and what it stands for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ottla.serde.base import Deserializer, Headers, Serde, SerdeError, SerializationContext, Serializer
from ottla.serde.primitive import (
    RAW,
    RAW_OR_TEXT,
    boolean,
    float32,
    float64,
    int16,
    int32,
    int64,
    string,
    uuid,
    void,
)

_JAVA_PACKAGE = "org.apache.kafka.common.serialization."


def resolve_serializer(spec: object = None, field: str = "value") -> Serializer[Any]:
    """The serializer that `spec` stands for; raises `TypeError` or `ValueError`, in one line, for what is none.

    None: bytes and text. A type: `int` (64 bits), `float` (64 bits), `str`, `bytes`, `bool`, `uuid.UUID`, `dict`,
    `list` (JSON), a msgspec.Struct subclass or dataclass (JSON). A name: `"string"`, `"json"`, `"int32"`, Java's class
    names. An object with `serialize(topic, value, headers)`, or without the headers. A function of the value, or of the
    value and a `SerializationContext`, as confluent-kafka has it; `field` ("key" or "value") is what that is told.
    """
    if spec is None:
        return RAW_OR_TEXT
    found = _serde(spec)
    if found is not None:
        return found
    spec = _instance(spec, "serialize")
    method = getattr(spec, "serialize", None)
    if callable(method):
        return spec if _arguments(method) != 2 else _Calls(lambda topic, value, headers: method(topic, value))  # type: ignore[return-value]
    if callable(spec):
        return _Calls(_function(spec, field))
    raise _no_serde("serializer", spec)


def resolve_deserializer(spec: object = None, field: str = "value") -> Deserializer[Any]:
    """The deserializer that `spec` stands for; as `resolve_serializer`, but None is bytes as they are."""
    if spec is None:
        return RAW
    found = _serde(spec)
    if found is not None:
        return found
    spec = _instance(spec, "deserialize")
    method = getattr(spec, "deserialize", None)
    if callable(method):
        return spec if _arguments(method) != 2 else _Reads(lambda topic, data, headers: method(topic, data))  # type: ignore[return-value]
    if callable(spec):
        return _Reads(_function(spec, field))
    raise _no_serde("deserializer", spec)


def resolve_serde(spec: object) -> Serde[Any]:
    """What `spec` stands for when it must be able to both write and read (a type, a name, a serde)."""
    found = _serde(spec)
    if found is None:
        raise _no_serde("serde", spec)
    return found


class _Calls:
    """A function as a serializer. What it raises goes to the caller with the topic."""

    is_identity = False

    def __init__(self, function: Callable[[str, Any, Headers], Any]) -> None:
        self._function = function

    def serialize(self, topic: str, value: Any, headers: Headers = None, /) -> bytes | None:
        data = self._function(topic, value, headers)
        if data is None or isinstance(data, bytes):
            return data
        if isinstance(data, (bytearray, memoryview)):
            return bytes(data)
        how = "; encode() makes bytes of it" if isinstance(data, str) else ""
        raise SerdeError(topic, f"the serializer returned {type(data).__name__}, not bytes or None{how}")


class _Reads:
    """A function as a deserializer."""

    is_identity = False

    def __init__(self, function: Callable[[str, Any, Headers], Any]) -> None:
        self._function = function

    def deserialize(self, topic: str, data: bytes | None, headers: Headers = None, /) -> Any:
        return self._function(topic, data, headers)


def _function(function: Callable[..., Any], field: str) -> Callable[[str, Any, Headers], Any]:
    """Functions of the value alone never see None; those with a context do, as they do in confluent-kafka."""
    if _arguments(function) >= 2:
        return lambda topic, value, headers: function(value, SerializationContext(topic, field, headers))
    return lambda topic, value, headers: None if value is None else function(value)


def _arguments(function: Callable[..., Any]) -> int:
    """How many positional arguments a call must have; 1 when nobody can tell (functions written in C)."""
    from inspect import Parameter, signature

    try:
        parameters = signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1
    positional = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    needed = [each for each in parameters if each.kind in positional]
    required = sum(each.default is Parameter.empty for each in needed)
    # `def f(value, ctx=None)` is written for a context too; `def dumps(value, indent=None)` is not.
    if required == 1 and len(needed) > 1 and needed[1].name in ("ctx", "context"):
        return 2
    return required


def _instance(spec: object, method: str) -> object:
    """A class with the method is made an instance of, as settings in files name classes."""
    return spec() if isinstance(spec, type) and callable(getattr(spec, method, None)) else spec


def _serde(spec: object) -> Serde[Any] | None:
    """The serde of a type or a name, or the one given; None for other objects."""
    if isinstance(spec, Serde):
        return spec
    if isinstance(spec, str):
        return _named(spec)
    if spec is bytes or spec is bytearray or spec is memoryview:
        return RAW
    simple = _TYPES.get(spec) if isinstance(spec, type) else None
    if simple is not None:
        return simple()
    return _typed(spec)


def _typed(spec: object) -> Serde[Any] | None:
    if spec is dict or spec is list:
        from ottla.serde.structured import json

        return json()
    if isinstance(spec, type):
        from uuid import UUID

        if issubclass(spec, Serde):
            return spec()
        if spec is UUID:
            return uuid()
        if callable(getattr(spec, "serialize", None)) or callable(getattr(spec, "deserialize", None)):
            return None
    return _schema(spec)


def _schema(spec: object) -> Serde[Any] | None:
    """Types that msgspec reads: structs, dataclasses, TypedDicts, `dict[str, int]`, `A | B`."""
    from dataclasses import is_dataclass
    from types import GenericAlias, UnionType
    from typing import get_origin, is_typeddict

    import msgspec

    from ottla.serde.structured import json, struct

    if isinstance(spec, type) and issubclass(spec, msgspec.Struct):
        return struct(spec)
    generic = isinstance(spec, (GenericAlias, UnionType)) or get_origin(spec) is not None
    if generic or is_typeddict(spec) or (isinstance(spec, type) and is_dataclass(spec)):
        kind: Any = spec
        return json(kind)
    return None


def _named(text: str) -> Serde[Any]:
    word = text.strip()
    short = word.removeprefix(_JAVA_PACKAGE).removeprefix("Serdes$")
    for ending in ("Serializer", "Deserializer", "Serde"):
        if short.endswith(ending) and short != ending:
            found = _JAVA.get(short.removesuffix(ending))
            if found is not None:
                return found()
    name = word.lower()
    if name == "json":
        from ottla.serde.structured import json

        return json()
    factory = _NAMES.get(name)
    if factory is None:
        hint = ""
        if "confluent" in word or any(part in name for part in ("avro", "protobuf", "schema")):
            hint = " Avro, JSON Schema and Protobuf need a serializer of the schema registry."
        raise ValueError(f"{text!r} is no serializer: known are {', '.join(sorted({*_NAMES, 'json'}))}.{hint}")
    return factory()


_TYPES: dict[type, Callable[[], Serde[Any]]] = {
    str: string,
    bool: boolean,
    int: int64,
    float: float64,
    type(None): void,
}


def _raw() -> Serde[Any]:
    return RAW


_NAMES: dict[str, Callable[[], Serde[Any]]] = {
    "bool": boolean,
    "boolean": boolean,
    "bytes": _raw,
    "double": float64,
    "float": float64,
    "float32": float32,
    "float64": float64,
    "int": int64,
    "int16": int16,
    "int32": int32,
    "int64": int64,
    "integer": int32,
    "long": int64,
    "short": int16,
    "str": string,
    "string": string,
    "uuid": uuid,
    "void": void,
}
"""`int` and `float` are Python's, in 64 bits; `integer` and Java's class names say what Java means by them."""

_JAVA: dict[str, Callable[[], Serde[Any]]] = {
    "Boolean": boolean,
    "ByteArray": _raw,
    "ByteBuffer": _raw,
    "Bytes": _raw,
    "Double": float64,
    "Float": float32,
    "Integer": int32,
    "Long": int64,
    "Short": int16,
    "String": string,
    "UUID": uuid,
    "Void": void,
}


def _no_serde(what: str, spec: object) -> TypeError:
    return TypeError(f"{spec!r} is no {what}: give a type (str, int, a struct, …), a name, a function or an object.")
