"""What a record is made of, from what users hand in to bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from operator import index as as_index
from typing import TYPE_CHECKING, Any, TypeVar

from ottla.client.errors import KafkaError, SerializationError, UnknownTopicError

if TYPE_CHECKING:
    from typing_extensions import TypeVar as DefaultingTypeVar

    K = DefaultingTypeVar("K", default=bytes | bytearray | memoryview | str)
    V = DefaultingTypeVar("V", default=bytes | bytearray | memoryview | str)
else:
    # What goes without a serializer is bytes and text (PEP 696, which this Python does not know).
    K = TypeVar("K")
    V = TypeVar("V")

Headers = tuple[tuple[str, bytes | None], ...] | list[tuple[str, bytes | None]]
HeadersLike = Mapping[str, bytes | str | None] | Iterable[tuple[str, bytes | str | None]]

RECORD_OVERHEAD = 21
"""What a record may take besides its key, value and headers."""
BATCH_OVERHEAD = 61
HEADER_OVERHEAD = 10
LATEST_TIMESTAMP_MS = 1 << 61


def as_bytes(value: Any, what: str) -> bytes:
    """A key or value that was not serialized: bytes as they are, text as UTF-8."""
    if isinstance(value, str):
        return encoded(value, what)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise SerializationError(
        f"a {what} of type {type(value).__name__} cannot be sent as it is.",
        hint="Give bytes or text."
        if what == "header"
        else f'Send bytes or text, or give the producer a {what}_serializer, for example {what}_serializer="json".',
    )


def encoded(text: str, what: str) -> bytes:
    """Text as UTF-8; SerializationError for what has no bytes, such as half a surrogate pair."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise SerializationError(f"a {what} is no proper text: {error}.") from None


def not_serialized(topic: str, error: Exception) -> KafkaError:
    """The error of a record whose serializer raised."""
    if isinstance(error, KafkaError):
        return error
    said = " ".join(str(error).split()) or type(error).__name__
    return SerializationError(said if said.startswith("topic ") else f"topic {topic}: not serialized: {said}")


def as_partition(partition: Any) -> int:
    """The number of a partition that is asked for."""
    try:
        number: int = as_index(partition)
    except TypeError:
        raise UnknownTopicError(
            f"the number of a partition is an int, not {type(partition).__name__}.", hint=""
        ) from None
    if number < 0:
        raise UnknownTopicError(f"there is no partition {number}.", hint="Leave the partition out to have one chosen.")
    return number


def as_timestamp(timestamp: Any) -> int:
    """Milliseconds since 1970 of an int-like or a datetime (a naive one is local time, as everywhere in Python)."""
    if isinstance(timestamp, datetime):
        return int(timestamp.timestamp() * 1000)
    try:
        timestamp_ms = as_index(timestamp)
    except TypeError:
        raise SerializationError(
            f"a timestamp of type {type(timestamp).__name__} cannot be used.", hint="Give milliseconds or a datetime."
        ) from None
    if not 0 <= timestamp_ms < LATEST_TIMESTAMP_MS:
        raise SerializationError(f"{timestamp_ms} is no timestamp in milliseconds.")
    return timestamp_ms


def normalized_headers(headers: Any) -> list[tuple[str, bytes | None]]:
    """Headers given as a mapping or as pairs, as a list of pairs; text becomes UTF-8."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    result: list[tuple[str, bytes | None]] = []
    try:
        for name, content in pairs:
            if not isinstance(name, str):
                raise SerializationError(f"the name of a header must be text, not {type(name).__name__}.")
            if not name.isascii():
                encoded(name, "header's name")
            result.append((name, content if content is None or type(content) is bytes else as_bytes(content, "header")))
    except (TypeError, ValueError) as error:
        if isinstance(error, SerializationError):
            raise
        raise SerializationError(
            f"headers are a mapping or pairs of a name and bytes, not {type(headers).__name__}."
        ) from None
    return result


def headers_size(headers: Headers) -> int:
    """An upper bound of what headers take in a batch."""
    size = 0
    for name, content in headers:
        size += HEADER_OVERHEAD + 4 * len(name) + (0 if content is None else len(content))
    return size
