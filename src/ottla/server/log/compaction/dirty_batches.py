"""Where the batches of a dirty segment are, so that only those are read again that have something to keep."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator

# Ranges that are nearer to each other than this are read as one.
NEAR_BYTES = 16 * 1024


class DirtyBatches:
    """Base offsets and positions of all batches of one segment, in order, and how many records they have.

    It covers `[first_offset, next_offset)`. `is_plain`: there are no transactions in it, whose batches depend on each
    other.
    """

    BYTES_PER_BATCH = 16

    __slots__ = ("_offsets", "_positions", "end", "first_offset", "is_plain", "next_offset", "records")

    def __init__(self, first_offset: int) -> None:
        self.first_offset = self.next_offset = first_offset
        self.records = 0
        self._offsets = array("q")
        self._positions = array("q")
        self.end = 0
        self.is_plain = True

    def __len__(self) -> int:
        return len(self._offsets)

    def append(self, base_offset: int, size: int, records_count: int) -> None:
        """The next batch."""
        self.records += records_count
        self._offsets.append(base_offset)
        self._positions.append(self.end)
        self.end += size

    def ranges(self, next_wanted: Callable[[int], int | None], limit_bytes: int) -> Iterator[list[tuple[int, int]]]:
        """Positions (start, end) of the batches to look at, those together that are best read at once.

        `next_wanted` tells the lowest offset at or above one that has to be looked at. The last batch always is: it may
        be the end of what is cleaned.
        """
        offsets, positions = self._offsets, self._positions
        last = len(offsets) - 1
        together: list[tuple[int, int]] = []
        index = -1
        while index < last:
            wanted = next_wanted(offsets[index + 1])
            index = last if wanted is None else max(bisect_right(offsets, wanted, index + 1) - 1, index + 1)
            start = positions[index]
            end = positions[index + 1] if index < last else self.end
            if together and (start - together[-1][1] > NEAR_BYTES or end - together[0][0] > limit_bytes):
                yield together
                together = []
            together.append((start, end))
        if together:
            yield together
