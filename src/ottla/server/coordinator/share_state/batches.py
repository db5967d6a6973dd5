"""Delivery states of a share partition's records as ranges of offsets: sorted, disjoint, as few as possible.

A new range may cover others. Where two states meet the one that got further wins: the higher delivery count, then the
higher delivery state; so the order in which writes arrive does not matter.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import pairwise
from operator import attrgetter
from typing import NamedTuple


class StateBatch(NamedTuple):
    """Offsets from `first_offset` to `last_offset`, both inclusive, with the state they share."""

    first_offset: int
    last_offset: int
    delivery_state: int
    delivery_count: int


_first = attrgetter("first_offset")
_last = attrgetter("last_offset")


def merge_batch(batches: list[StateBatch], new: StateBatch) -> None:
    """Lay one batch over the list, in place. Costs two searches and what the new one touches."""
    # Neighbours that only touch take part, since they may become one with it.
    begin = bisect_left(batches, new.first_offset - 1, key=_last)
    end = bisect_right(batches, new.last_offset + 1, lo=begin, key=_first)
    if begin == end:
        batches.insert(begin, new)
    else:
        batches[begin:end] = _overlay(batches[begin:end], new)


def merged(batches: Iterable[StateBatch], start_offset: int) -> list[StateBatch]:
    """Any batches as a proper list, without what lies below `start_offset` (-1: everything stays)."""
    result: list[StateBatch] = []
    for batch in batches:
        merge_batch(result, batch)
    prune(result, start_offset)
    return result


def prune(batches: list[StateBatch], start_offset: int) -> None:
    """Forget what lies below the offset, in place; a batch across it is cut. -1 forgets nothing."""
    if start_offset < 0:
        return
    del batches[: bisect_left(batches, start_offset, key=_last)]
    if batches and batches[0].first_offset < start_offset:
        batches[0] = batches[0]._replace(first_offset=start_offset)


def _overlay(touched: list[StateBatch], new: StateBatch) -> list[StateBatch]:
    pieces: list[StateBatch] = []
    rank = (new.delivery_count, new.delivery_state)
    next_offset = new.first_offset  # what the new batch has not filled yet
    for old in touched:
        if old.first_offset < new.first_offset:
            _put(pieces, old, old.first_offset, min(old.last_offset, new.first_offset - 1))
        if next_offset < old.first_offset:
            _put(pieces, new, next_offset, min(old.first_offset - 1, new.last_offset))
        first, last = max(old.first_offset, new.first_offset), min(old.last_offset, new.last_offset)
        if first <= last:
            _put(pieces, old if (old.delivery_count, old.delivery_state) > rank else new, first, last)
        if old.last_offset > new.last_offset:
            _put(pieces, old, max(old.first_offset, new.last_offset + 1), old.last_offset)
        next_offset = max(next_offset, old.last_offset + 1)
    if next_offset <= new.last_offset:
        _put(pieces, new, next_offset, new.last_offset)
    return pieces


def _put(pieces: list[StateBatch], state: StateBatch, first_offset: int, last_offset: int) -> None:
    """Append a piece with that state, which may continue the one before."""
    if pieces:
        before = pieces[-1]
        if before.last_offset + 1 == first_offset and before[2:] == state[2:]:
            pieces[-1] = before._replace(last_offset=last_offset)
            return
    pieces.append(StateBatch(first_offset, last_offset, state.delivery_state, state.delivery_count))


def check_batches(batches: list[StateBatch]) -> None:
    """AssertionError unless sorted, disjoint and combined; for tests and simulations."""
    for before, after in pairwise(batches):
        assert before.last_offset < after.first_offset
        assert before.last_offset + 1 < after.first_offset or before[2:] != after[2:]
    assert all(batch.first_offset <= batch.last_offset for batch in batches)
