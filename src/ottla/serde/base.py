"""What a serializer is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from typing_extensions import TypeVar as DefaultingTypeVar

    K = DefaultingTypeVar("K", default=bytes)
    V = DefaultingTypeVar("V", default=bytes)
else:
    # What is consumed without a deserializer is bytes (PEP 696, which this Python does not know).
    K = TypeVar("K")
    V = TypeVar("V")

T = TypeVar("T")
T_in = TypeVar("T_in", contravariant=True)
T_out = TypeVar("T_out", covariant=True)

Headers = Any
"""The headers of the record: pairs of a name and bytes or None; a list when sending, a tuple when consuming."""


class Serializer(Protocol[T_in]):
    """Objects to bytes. Must not change what it is given; may be called from several threads."""

    def serialize(self, topic: str, value: T_in, headers: Headers, /) -> bytes | None:
        """The bytes of a key or value; None stays None."""
        ...


class Deserializer(Protocol[T_out]):
    """Bytes to objects. May be called from several threads."""

    def deserialize(self, topic: str, data: bytes | None, headers: Headers, /) -> T_out:
        """The object that the bytes of a key or value stand for."""
        ...


class SerdeError(ValueError):
    """A value that cannot become bytes, or bytes that cannot become a value. `str()` is one complete line."""

    def __init__(self, topic: str, reason: str) -> None:
        self.topic = topic
        self.reason = reason
        super().__init__(f"topic {topic}: {reason}")

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.topic, self.reason))


class SerializationContext:
    """What functions in confluent-kafka's style get as their second argument."""

    __slots__ = ("field", "headers", "topic")

    def __init__(self, topic: str, field: str, headers: Headers = None) -> None:
        self.topic = topic
        self.field = field
        """`"key"` or `"value"`."""
        self.headers = headers


class Serde(Generic[T]):
    """A serializer and its deserializer in one. Subclasses write `_encode` and `_decode`, which never see None."""

    name = "serde"
    """What it is called in errors."""

    is_identity = False
    """Whether bytes go in and come out unchanged: then the clients do not call it at all."""

    def serialize(self, topic: str, value: T, headers: Headers = None, /) -> bytes | None:
        """The bytes of `value`; raises `SerdeError`. None is None, which the type leaves out."""
        if value is None:
            return None
        try:
            return self._encode(value)
        except SerdeError:
            raise
        except Exception as error:
            raise SerdeError(
                topic, f"a value of type {type(value).__name__} cannot be sent as {self.name}: {_reason(error)}"
            ) from error

    def deserialize(self, topic: str, data: bytes | None, headers: Headers = None, /) -> T:
        """The value of `data`; raises `SerdeError`. None is None, which the type leaves out."""
        if data is None:
            return None  # type: ignore[return-value]  # to have to ask of every value of every topic helps nobody
        try:
            return self._decode(data)
        except SerdeError:
            raise
        except Exception as error:
            raise SerdeError(topic, f"{len(data)} bytes cannot be read as {self.name}: {_reason(error)}") from error

    def _encode(self, value: T) -> bytes:
        raise TypeError("it only reads")

    def _decode(self, data: bytes) -> T:
        raise TypeError("it only writes")

    def __repr__(self) -> str:
        return f"<serde {self.name}>"


SerializerLike = (
    Serializer[T] | type[T] | Callable[[T], bytes | None] | Callable[[T, SerializationContext], bytes | None]
)
"""What a client takes as a serializer of `T`. Names (`"json"`) too, for settings; they have no type to go by."""

DeserializerLike = Deserializer[T] | type[T] | Callable[[bytes], T] | Callable[[bytes, SerializationContext], T]
"""What a client takes as a deserializer to `T`; so it is known what the records of a consumer carry."""


def wants(expected: str, value: object) -> TypeError:
    """The error for a value of the wrong type."""
    return TypeError(f"{expected} is needed, not {type(value).__name__}")


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
