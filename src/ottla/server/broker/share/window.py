"""The ranges of a share partition side by side: finding, parting, joining and dropping them."""

from __future__ import annotations

from bisect import bisect_right
from operator import attrgetter

from ottla.server.broker.share.delivery import ACKNOWLEDGED, ARCHIVED, AVAILABLE, InFlight

first_offset_of = attrgetter("first_offset")
_COMPACT_MARGIN = 64


class InFlightWindow:
    """Ranges without holes between `start_offset` and `end_offset`, in a list: a window holds some thousand records,
    and in the usual case a few ranges.
    """

    __slots__ = ("_available_from", "_compact_at", "_ranges", "end_offset", "start_offset")

    def __init__(self, start_offset: int) -> None:
        self.start_offset = start_offset
        self.end_offset = start_offset
        self._ranges: list[InFlight] = []
        self._available_from = start_offset  # no range before it is available
        self._compact_at = _COMPACT_MARGIN

    @property
    def ranges(self) -> list[InFlight]:
        """The ranges in flight; not to be changed."""
        return self._ranges

    def _index(self, offset: int) -> int:
        """Index of the range with this offset: 0 before the first one, the length after the last one."""
        if offset >= self.end_offset:
            return len(self._ranges)
        return max(bisect_right(self._ranges, offset, key=first_offset_of) - 1, 0)

    def _append(self, found: InFlight) -> None:
        if found.state == AVAILABLE:
            self._available_from = min(self._available_from, found.first_offset)
        self._ranges.append(found)
        self.end_offset = found.end_offset

    def _split(self, index: int, offset: int) -> InFlight:
        """Part a range; it keeps what lies before `offset`, the new one with the rest follows it."""
        found = self._ranges[index]
        rest = InFlight(offset, found.end_offset, found.state, found.delivery_count)
        rest.member_id, rest.deadline_ms, rest.target = found.member_id, found.deadline_ms, found.target
        rest.cause, rest.change, rest.batch_records = found.cause, found.change, found.batch_records
        if rest.change is not None:
            rest.change.ranges.append(rest)
        found.end_offset = offset
        self._ranges.insert(index + 1, rest)
        return rest

    def _carve(self, first_offset: int, end_offset: int) -> list[InFlight]:
        """The ranges that make up exactly these offsets."""
        index = self._index(first_offset)
        ranges = self._ranges
        if index < len(ranges) and ranges[index].first_offset < first_offset:
            self._split(index, first_offset)
            index += 1
        carved = []
        while index < len(ranges) and ranges[index].first_offset < end_offset:
            if ranges[index].end_offset > end_offset:
                self._split(index, end_offset)
            carved.append(ranges[index])
            index += 1
        return carved

    def _find_available(self) -> int | None:
        """Index of the first available range."""
        if self._available_from >= self.end_offset:
            return None
        ranges = self._ranges
        for index in range(self._index(self._available_from), len(ranges)):
            if ranges[index].state == AVAILABLE:
                self._available_from = ranges[index].first_offset
                return index
        self._available_from = self.end_offset
        return None

    def _advance(self) -> None:
        """Let the start offset pass what is done."""
        ranges = self._ranges
        done = 0
        for found in ranges:
            if not found.is_done:
                break
            done += 1
        if done:
            self.start_offset = ranges[done - 1].end_offset
            del ranges[:done]

    def _compact(self) -> None:
        """Make one range of neighbours that are done: how often they were delivered matters no more."""
        kept: list[InFlight] = []
        for found in self._ranges:
            if kept and found.change is None and found.state in (ACKNOWLEDGED, ARCHIVED):
                last = kept[-1]
                if last.change is None and last.state == found.state:
                    last.end_offset = found.end_offset
                    continue
            kept.append(found)
        self._ranges[:] = kept
        self._compact_at = 2 * len(kept) + _COMPACT_MARGIN
