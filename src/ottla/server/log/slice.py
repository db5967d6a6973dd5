"""A range of a segment's bytes for one fetch: found at once in the usual case, else when it is read."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable

from ottla.runtime.disk import DiskError
from ottla.runtime.file_range import FileRange
from ottla.server.log.scan import find_batch
from ottla.server.log.segment import Segment
from ottla.server.log.segment_file import SegmentFile


class LogSlice:
    """Batches from the one that holds the wanted offset on; the last one may be cut off.

    `size` is the number of bytes; while the place is not found yet (`is_located` is False, only after a miss of the
    page cache) it is an upper bound. Ask `read_cached` first, on the event loop, and `read` in a worker thread when
    that gives None.
    """

    __slots__ = ("_file", "_locate", "_position", "size")

    def __init__(
        self,
        file: SegmentFile | None,
        position: int,
        size: int,
        locate: Callable[[], tuple[SegmentFile, int, int] | None] | None = None,
    ) -> None:
        self._file = file
        self._position = position
        self._locate = locate
        self.size = size

    @property
    def is_located(self) -> bool:
        """Whether position and size are known."""
        return self._locate is None

    def read_cached(self) -> bytes | bytearray | None:
        """The bytes if the page cache has them all, else None (also on an error, which `read` will tell). On the
        owner's thread only.
        """
        if self._locate is not None:
            return None
        if self._file is None:
            return b""
        try:
            return self._file.read_cached_at(self._position, self.size)
        except DiskError:
            return None

    def cached_range(self) -> FileRange | None:
        """The bytes for the kernel to send to a socket; None where that is not possible. On the owner's thread only."""
        if self._locate is not None or self._file is None:
            return None
        return self._file.cached_range(self._position, self.size)

    def read(self) -> bytes:
        """The bytes, waiting for the device where necessary; in any thread. Raises `DiskError`."""
        if self._locate is not None:
            found = self._locate()
            self._locate = None
            if found is None:
                self.size = 0
            else:
                self._file, self._position, self.size = found
        if self._file is None or not self.size:
            return b""
        with self._file.reader() as read_at:
            return read_at(self._position, self.size)


EMPTY_SLICE = LogSlice(None, 0, 0)


class SliceRequest:
    """What a fetch wants of a log, and how to find it; `upper_bound` and `end_offset` are exclusive offsets."""

    __slots__ = ("end_offset", "max_bytes", "min_one_batch", "offset", "upper_bound")

    def __init__(self, offset: int, max_bytes: int, upper_bound: int, min_one_batch: bool, end_offset: int) -> None:
        self.offset = offset
        self.max_bytes = max_bytes
        self.upper_bound = upper_bound
        self.min_one_batch = min_one_batch
        self.end_offset = end_offset

    def locate(self, segments: list[Segment], bases: list[int]) -> LogSlice:
        """Find the range in memory and page cache. Raises `WouldBlockError`."""
        index = max(bisect_right(bases, self.offset) - 1, 0)
        for number in range(index, len(segments)):
            segment = segments[number]
            found = segment.recent_batch(self.offset) or segment.find(self.offset, cached=True)
            if found is None:
                continue  # a gap between segments, as compaction leaves them
            end = segment.file.size
            if self.upper_bound < (bases[number + 1] if number + 1 < len(bases) else self.end_offset):
                position = segment.recent_position_from(self.upper_bound)
                if position is None:
                    # Bounds lie between batches, so the first that holds the bound is the first one outside.
                    bound = segment.find(self.upper_bound, cached=True)
                    position = end if bound is None else bound.position
                end = position
            size = self.fit(end - found.position, found.size)
            return LogSlice(segment.file, found.position, size) if size else EMPTY_SLICE
        return EMPTY_SLICE

    def locate_later(self, segments: list[Segment], bases: list[int]) -> LogSlice:
        """The same as a piece of work for a worker thread."""
        index = max(bisect_right(bases, self.offset) - 1, 0)
        candidates = []
        for number in range(index, len(segments)):
            segment = segments[number]
            end_offset = bases[number + 1] if number + 1 < len(bases) else self.end_offset
            candidates.append((segment.file, segment.file.size, segment.offset_index.searcher(), end_offset))
            # What is not in the segment that should have it is in the next one that has anything (compaction leaves
            # holes, and empty segments).
            if number > index and segment.file.size:
                break

        def locate() -> tuple[SegmentFile, int, int] | None:
            for file, end, position_of, end_offset in candidates:
                with file.reader() as read_at:
                    found = find_batch(read_at, position_of(self.offset), end, self.offset)
                    if found is None:
                        continue
                    if self.upper_bound < end_offset:
                        bound = find_batch(read_at, position_of(self.upper_bound), end, self.upper_bound)
                        end = end if bound is None else bound.position
                    return file, found.position, self.fit(end - found.position, found.size)
            return None

        estimate = sum(size for _, size, _, _ in candidates)
        return LogSlice(None, 0, min(self.max_bytes, estimate), locate)

    def fit(self, available: int, first_batch_size: int) -> int:
        """How many of the available bytes a reader gets (KIP-74): the first batch whole, or nothing of it."""
        if available <= self.max_bytes:
            return max(available, 0)
        if self.max_bytes >= first_batch_size:
            return self.max_bytes
        return min(first_batch_size, available) if self.min_one_batch else 0
