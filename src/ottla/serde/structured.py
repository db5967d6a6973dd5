"""JSON, and msgspec's structs as JSON or MessagePack. msgspec does the work, and checks types while it decodes."""

from __future__ import annotations

from typing import Any, Literal, TypeVar, overload

import msgspec

from ottla.serde.base import Serde, wants

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)


class Structured(Serde[Any]):
    """Objects of a type (or of anything that the format can say) through msgspec."""

    def __init__(self, kind: Any, format: Literal["json", "msgpack"]) -> None:  # noqa: A002 (the public word)
        module = msgspec.json if format == "json" else msgspec.msgpack
        word = "JSON" if format == "json" else "MessagePack"
        self.name = word if kind is Any else f"{getattr(kind, '__name__', kind)} in {word}"
        # msgspec's own methods stand in for ours: one call less for every record.
        encode, decode = module.Encoder().encode, (module.Decoder() if kind is Any else module.Decoder(kind)).decode
        self.__dict__.update(_encode=encode, _decode=decode)


class StructSerde(Structured):
    """Structs of one type, and only of that when sending: another one would be read wrongly later."""

    def __init__(self, kind: type[msgspec.Struct], format: Literal["json", "msgpack"]) -> None:  # noqa: A002
        super().__init__(kind, format)
        encode = self._encode

        def checked(value: Any) -> bytes:
            if not isinstance(value, kind):
                raise wants(kind.__name__, value)
            return encode(value)

        self.__dict__["_encode"] = checked


@overload
def json() -> Serde[Any]: ...
@overload
def json(kind: type[T]) -> Serde[T]: ...
def json(kind: Any = Any) -> Serde[Any]:
    """JSON: of anything, or of one type (a struct, dataclass, TypedDict, `list[int]`, …) that is checked when reading.

    Values that are sent may be whatever msgspec encodes: dicts, lists, structs, dataclasses, datetimes, UUIDs, ….
    """
    return Structured(kind, "json")


def struct(kind: type[S], format: Literal["json", "msgpack"] = "json") -> Serde[S]:  # noqa: A002
    """A msgspec.Struct, as JSON or MessagePack; types are checked when sending and when reading."""
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        raise TypeError(f"struct() takes a subclass of msgspec.Struct, not {kind!r}")
    if format not in ("json", "msgpack"):
        raise ValueError(f"format is json or msgpack, not {format!r}")
    return StructSerde(kind, format)
