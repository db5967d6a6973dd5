"""Lists of one type, as Java's ListSerializer writes them (KIP-466).

A byte says how: 0 for items of a fixed size (numbers but booleans, UUIDs), preceded by the indexes of the missing ones;
1 for any other, each preceded by its size, -1 for a missing one.
"""

from __future__ import annotations

import struct
from typing import Any, Final, overload

from ottla.serde.base import Headers, Serde, SerdeError, T, wants

_FIXED_SIZE: Final = 0
_OWN_SIZES: Final = 1
_NULL: Final = -1
_INT = struct.Struct(">i")


class ListOf(Serde[list[T | None]]):
    """A list whose items are written by another serde."""

    def __init__(self, inner: Serde[T]) -> None:
        self.inner = inner
        self.name = f"list of {inner.name}"
        self._item_size: int | None = getattr(inner, "size", None)

    def serialize(self, topic: str, value: Any, headers: Headers = None, /) -> bytes | None:
        if value is None:
            return None
        if not isinstance(value, (list, tuple)):
            raise SerdeError(topic, f"{self.name}: {wants('a list', value)}")
        items = [self.inner.serialize(topic, item, headers) for item in value]
        parts: list[bytes] = []
        if self._item_size is None:
            parts += (bytes([_OWN_SIZES]), _INT.pack(len(items)))
            for item in items:
                parts.append(_INT.pack(_NULL if item is None else len(item)))
                if item is not None:
                    parts.append(item)
        else:
            missing = [index for index, item in enumerate(items) if item is None]
            parts += (bytes([_FIXED_SIZE]), _INT.pack(len(missing)), *map(_INT.pack, missing), _INT.pack(len(items)))
            parts += [item for item in items if item is not None]
        return b"".join(parts)

    def deserialize(self, topic: str, data: bytes | None, headers: Headers = None, /) -> Any:
        if data is None:
            return None
        try:
            items = self._items(data)
        except (ValueError, IndexError, struct.error) as error:
            raise SerdeError(topic, f"{len(data)} bytes cannot be read as {self.name}: {error}") from error
        return [self.inner.deserialize(topic, item, headers) for item in items]

    def _items(self, data: bytes) -> list[bytes | None]:
        flag = data[0]
        if flag not in (_FIXED_SIZE, _OWN_SIZES):
            raise ValueError(f"they begin with {flag}, not 0 or 1")
        if flag == _FIXED_SIZE and self._item_size is None:
            raise ValueError(f"they hold items of a fixed size, which {self.inner.name} has not")
        position = 1
        missing: set[int] = set()
        if flag == _FIXED_SIZE:
            number, position = _count(data, position)
            missing.update(struct.unpack_from(f">{number}i", data, position))
            position += 4 * number
        number, position = _count(data, position)
        items: list[bytes | None] = []
        for index in range(number):
            if index in missing:
                items.append(None)
                continue
            size = self._item_size or 0
            if flag == _OWN_SIZES:
                (size,) = _INT.unpack_from(data, position)
                position += 4
                if size == _NULL:
                    items.append(None)
                    continue
            if size < 0 or position + size > len(data):
                raise ValueError("they end within an item")
            items.append(data[position : position + size])
            position += size
        if position != len(data):
            raise ValueError(f"{len(data) - position} bytes are left over")
        return items


def _count(data: bytes, position: int) -> tuple[int, int]:
    (number,) = _INT.unpack_from(data, position)
    if not 0 <= number <= len(data):
        raise ValueError(f"there cannot be {number} items in them")
    return number, position + 4


@overload
def list_of(inner: Serde[T] | type[T]) -> Serde[list[T]]: ...
@overload
def list_of(inner: object) -> Serde[list[Any]]: ...
def list_of(inner: object) -> Serde[list[Any]]:
    """A list whose items are of `inner`: a serde, or anything that `resolve_serializer` knows (`int`, `"string"`)."""
    from ottla.serde.resolve import resolve_serde

    return ListOf(resolve_serde(inner))
