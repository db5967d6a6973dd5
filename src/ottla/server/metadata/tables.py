"""Large mappings that change a little: the next one shares nearly everything with the one before.

A small table is an ordinary dict, and is copied. A large one is a dict that stays as it is and the few entries that
are different by now; every so often, when those have become many, both become one dict again. So a change costs about
the square root of the size, and looking up a little more than in a dict.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, ValuesView
from math import isqrt
from typing import Any, Final, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

SMALL: Final = 2048
"""Up to this size a copy is as cheap as anything else."""

_GONE: Final[Any] = object()


def changed(table: Mapping[K, V], changes: Mapping[K, V], removed: tuple[K, ...] = ()) -> Mapping[K, V]:
    """The table with entries added or replaced, after others were removed; `table` stays as it is."""
    if type(table) is not Layered:
        if len(table) <= SMALL:
            return _copied(table, changes, removed)
        table = Layered(table, {}, len(table))
    return table.changed(changes, removed)


class Layered(Mapping[K, V], Generic[K, V]):
    """`base` with what `over` says instead. Never changed after it was made."""

    __slots__ = ("_base", "_over", "_size")

    def __init__(self, base: Mapping[K, V], over: dict[K, V], size: int) -> None:
        self._base = base
        self._over = over
        self._size = size

    def changed(self, changes: Mapping[K, V], removed: tuple[K, ...]) -> Mapping[K, V]:
        """See the function of that name."""
        base, size = self._base, self._size
        if len(self._over) + len(changes) + len(removed) > SMALL // 8 + 2 * isqrt(size):
            return _copied(self, changes, removed)
        over = dict(self._over)
        for key in removed:
            size -= 1
            if key in base:
                over[key] = _GONE
            else:
                del over[key]
        for key, value in changes.items():
            current = over.get(key)
            if current is _GONE or (current is None and key not in base):
                size += 1
            over[key] = value
        return Layered(base, over, size)

    def __getitem__(self, key: K) -> V:
        value = self._over.get(key)
        if value is None:
            return self._base[key]
        if value is _GONE:
            raise KeyError(key)
        return value

    def get(self, key: K, default: Any = None) -> Any:
        """As a dict's."""
        value = self._over.get(key)
        if value is None:
            return self._base.get(key, default)
        return default if value is _GONE else value

    def __contains__(self, key: object) -> bool:
        over: dict[Any, V] = self._over
        value = over.get(key)
        return key in self._base if value is None else value is not _GONE

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[K]:
        base, over = self._base, self._over
        for key in base:
            if over.get(key) is not _GONE:
                yield key
        for key in over:
            if key not in base:
                yield key

    def items(self) -> ItemsView[K, V]:
        """As a dict's."""
        return _Items(self)

    def values(self) -> ValuesView[V]:
        """As a dict's."""
        return _Values(self)

    def pairs(self) -> Iterator[tuple[K, V]]:
        """Keys with their values, without looking each up twice."""
        base, over = self._base, self._over
        for key, value in base.items():
            newer = over.get(key)
            if newer is None:
                yield key, value
            elif newer is not _GONE:
                yield key, newer
        for key, value in over.items():
            if key not in base:
                yield key, value


class _Items(ItemsView[K, V]):
    _mapping: Layered[K, V]

    def __iter__(self) -> Iterator[tuple[K, V]]:
        return self._mapping.pairs()


class _Values(ValuesView[V]):
    _mapping: Layered[Any, V]

    def __iter__(self) -> Iterator[V]:
        return (value for _, value in self._mapping.pairs())


def _copied(table: Mapping[K, V], changes: Mapping[K, V], removed: tuple[K, ...]) -> dict[K, V]:
    copy = dict(table)
    for key in removed:
        del copy[key]
    copy.update(changes)
    return copy
