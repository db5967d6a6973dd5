"""The offset index and the time index of a segment: sparse, sorted, fixed-size entries, looked up by bisection.

New entries stay in memory (`append`) until `write`, which a flush, a roll and a clean close call; so an append to the
log costs no write here, and what a crash takes is rebuilt from the batches. Entries in the file are read back only
when a lookup needs them, and given up again by `release`: an index that nobody asks for costs a few numbers of memory.

Like Kafka, a lookup trusts nothing but order: its answer is where a scan of batch headers begins.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Callable

from ottla.runtime.disk import Disk, File, MissingFileError
from ottla.server.log.errors import CorruptIndexError
from ottla.server.log.movable_file import MovableFile

OFFSET_ENTRY_SIZE = 8
TIME_ENTRY_SIZE = 12
NO_TIMESTAMP = -1
DEFAULT_CACHE_BYTES = 16 * 1024 * 1024

_OFFSET_ENTRY = struct.Struct(">ii")
_TIME_ENTRY = struct.Struct(">qi")
_SWAPPED = sys.byteorder == "little"


class WouldBlockError(Exception):
    """The page cache does not have the bytes: ask again in a worker thread."""


class IndexCache:
    """Bounds the memory of index entries read back from files; the one loaded first goes first."""

    __slots__ = ("_bytes", "_loaded", "limit_bytes")

    def __init__(self, limit_bytes: int = DEFAULT_CACHE_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self._bytes = 0
        self._loaded: deque[tuple[OffsetIndex, int]] = deque()

    def loaded(self, index: OffsetIndex, size: int) -> None:
        """Count an index in, releasing others where there is too much."""
        self._loaded.append((index, size))
        self._bytes += size
        while self._bytes > self.limit_bytes and len(self._loaded) > 1:
            oldest, oldest_size = self._loaded.popleft()
            self._bytes -= oldest_size
            if oldest is not index:
                oldest.release()


class SparseIndex(MovableFile):
    """What the two indexes share: the entries in the file, those in memory, and when they move.

    `entries`: how many there are in all; `last_offset`: offset of the last one, the base offset without any.
    """

    ENTRY = _OFFSET_ENTRY
    ENTRY_SIZE = OFFSET_ENTRY_SIZE

    __slots__ = ("_persisted", "_source", "base_offset", "entries", "last_offset", "restored")

    def __init__(
        self, disk: Disk, path: str, base_offset: int, *, restored: bool, source: MovableFile | None = None
    ) -> None:
        super().__init__(disk, path)
        # Another view of the same file knows where it is now.
        self._source = source or self
        self.base_offset = base_offset
        self.entries = 0
        self.last_offset = base_offset
        self._persisted = 0
        # False: there may be a file, and nobody has looked at it yet.
        self.restored = restored

    def restore(self) -> None:
        """Look at the file: number of entries and the last one. `CorruptIndexError` when they can not be right."""
        self._forget()
        self.restored = True
        try:
            file = self._open_to_read()
        except MissingFileError:
            return
        try:
            size = file.size()
            if size % self.ENTRY_SIZE:
                raise CorruptIndexError(f"{self.path} has {size} bytes, no multiple of {self.ENTRY_SIZE}")
            if size:
                self._restore_last(file.read_at(size - self.ENTRY_SIZE, self.ENTRY_SIZE))
                self._persisted = self.entries = size // self.ENTRY_SIZE
        finally:
            file.close()

    def ascends(self) -> bool:
        """Whether the entries in the file ascend, as those that were torn by a crash do not. Reads all of it."""
        last = (-1, -1)
        for first, second in self.ENTRY.iter_unpack(self._read_file() if self._persisted else b""):
            if first <= last[0] or second <= last[1]:
                return False
            last = first, second
        return True

    def is_full(self, maximum_bytes: int) -> bool:
        """Whether another entry would make the file larger than `segment.index.bytes`."""
        return self.room(maximum_bytes) <= 0

    def room(self, maximum_bytes: int) -> int:
        """How many entries fit into `segment.index.bytes` yet."""
        return maximum_bytes // self.ENTRY_SIZE - self.entries

    def write(self) -> bool:
        """Bring the entries in memory to the file (page cache only); whether there were any.

        The file is made when it is missing: Kafka takes a segment without one for damaged.
        """
        data = self._pack_pending()
        file = self._disk.open(self.path, create=True)
        try:
            # What follows the known entries belongs to nobody: another program's preallocation, a failed write.
            if file.size() > self._persisted * self.ENTRY_SIZE:
                file.truncate(self._persisted * self.ENTRY_SIZE)
            if data:
                file.append(data)
        finally:
            file.close()
        if not data:
            return False
        self._pending_written()
        self._persisted = self.entries
        return True

    @property
    def is_written(self) -> bool:
        """Whether the file has all entries."""
        return self._persisted == self.entries

    def reset(self) -> None:
        """Drop all entries, in the file too."""
        self._forget()
        self.restored = True
        if self._disk.exists(self.path) and self._disk.size(self.path):
            file = self._disk.open(self.path)
            try:
                file.truncate(0)
            finally:
                file.close()

    def _forget(self) -> None:
        self.entries = self._persisted = 0
        self.last_offset = self.base_offset

    def _keep_in_file(self, entries: int) -> bytes:
        """Cut the file to that many entries; what is the last one then, empty when there is none."""
        if entries < self._persisted:
            file = self._disk.open(self.path)
            try:
                file.truncate(entries * self.ENTRY_SIZE)
            finally:
                file.close()
            self._persisted = entries
        if not entries:
            return b""
        return self._read_file()[-self.ENTRY_SIZE :]

    def _open_to_read(self) -> File:
        return self._source.open_where_it_is()

    def _read_file(self) -> bytes:
        file = self._open_to_read()
        try:
            return file.read_at(0, self._persisted * self.ENTRY_SIZE)
        finally:
            file.close()

    def _file_searcher(self, entry: struct.Struct) -> Callable[[int], tuple[int, int] | None]:
        """Bisects the file by the first field of its entries: the last one not above a key."""
        open_to_read, persisted, size = self._source.open_where_it_is, self._persisted, self.ENTRY_SIZE

        def search(key: int) -> tuple[int, int] | None:
            if not persisted:
                return None
            low, high, best = 0, persisted, None
            file = open_to_read()
            try:
                while low < high:
                    middle = (low + high) // 2
                    found = entry.unpack(file.read_at(middle * size, size))
                    if found[0] <= key:
                        low, best = middle + 1, found
                    else:
                        high = middle
            finally:
                file.close()
            return best

        return search

    def _restore_last(self, entry: bytes) -> None:
        raise AssertionError("each index says what its last entry means")

    def _pack_pending(self) -> bytes:
        raise AssertionError("each index packs its own entries")

    def _pending_written(self) -> None:
        raise AssertionError("each index keeps its own entries")


class OffsetIndex(SparseIndex):
    """Last offset of a batch → position where the batch starts."""

    ENTRY_SIZE = OFFSET_ENTRY_SIZE

    __slots__ = ("_loaded", "_offsets", "_positions", "cache", "last_position")

    def __init__(
        self,
        disk: Disk,
        cache: IndexCache,
        path: str,
        base_offset: int,
        *,
        restored: bool,
        source: MovableFile | None = None,
    ) -> None:
        self.cache = cache
        self._offsets = array("i")
        self._positions = array("i")
        # Offsets and positions of the entries in the file, while they are wanted.
        self._loaded: tuple[array[int], array[int]] | None = None
        self.last_position = 0
        super().__init__(disk, path, base_offset, restored=restored, source=source)

    def append(self, offset: int, position: int) -> None:
        """Add an entry; offsets ascend."""
        self._positions.append(position)
        self._offsets.append(offset - self.base_offset)
        self.entries += 1
        self.last_offset = offset
        self.last_position = position

    def lookup(self, offset: int, *, cached: bool) -> int:
        """Position of the last indexed batch whose last offset is not above `offset`; 0 when there is none.

        Raises `WouldBlockError` when `cached` and the entries are neither in memory nor in the page cache.
        """
        relative = offset - self.base_offset
        offsets, positions = self._offsets, self._positions
        if not offsets or relative < offsets[0]:
            if not self._persisted:
                return 0
            offsets, positions = self._loaded or self._load(cached)
        index = bisect_right(offsets, relative) - 1
        return positions[index] if index >= 0 else 0

    def searcher(self) -> Callable[[int], int]:
        """A `lookup` for a worker thread: on a file of its own and on what is known now."""
        offsets, positions = self._offsets[:], self._positions[:]
        base_offset = self.base_offset
        search_file = self._file_searcher(_OFFSET_ENTRY)

        def search(offset: int) -> int:
            relative = offset - base_offset
            if offsets and relative >= offsets[0]:
                return positions[bisect_right(offsets, relative) - 1]
            found = search_file(relative)
            return 0 if found is None else found[1]

        return search

    def truncate_to(self, offset: int) -> None:
        """Drop entries for `offset` and above."""
        relative = offset - self.base_offset - 1
        keep = bisect_right(self._offsets, relative)
        del self._offsets[keep:], self._positions[keep:]
        if keep:
            self.last_offset, self.last_position = self.base_offset + self._offsets[-1], self._positions[-1]
        else:
            in_file = bisect_right(self._load(cached=False)[0], relative) if self._persisted else 0
            self.release()
            last = self._keep_in_file(in_file)
            relative, self.last_position = _OFFSET_ENTRY.unpack(last) if last else (0, 0)
            self.last_offset = self.base_offset + relative
        self.entries = self._persisted + keep

    def release(self) -> None:
        """Give up the memory of entries that are in the file."""
        self._loaded = None

    def _forget(self) -> None:
        super()._forget()
        self._offsets = array("i")
        self._positions = array("i")
        self._loaded = None
        self.last_position = 0

    def _restore_last(self, entry: bytes) -> None:
        relative, position = _OFFSET_ENTRY.unpack(entry)
        if relative <= 0 or position < 0:
            raise CorruptIndexError(f"the last entry of {self.path} is not above its base offset")
        self.last_offset = self.base_offset + relative
        self.last_position = position

    def _load(self, cached: bool) -> tuple[array[int], array[int]]:
        size = self._persisted * OFFSET_ENTRY_SIZE
        file = self._open_to_read()
        try:
            data = file.read_cached_at(0, size) if cached else file.read_at(0, size)
        finally:
            file.close()
        if data is None:
            raise WouldBlockError
        entries = array("i")
        entries.frombytes(data)
        if _SWAPPED:
            entries.byteswap()
        loaded = self._loaded = (entries[0::2], entries[1::2])
        self.cache.loaded(self, size)
        return loaded

    def _pack_pending(self) -> bytes:
        entries = array("i", bytes(OFFSET_ENTRY_SIZE * len(self._offsets)))
        entries[0::2] = self._offsets
        entries[1::2] = self._positions
        if _SWAPPED:
            entries.byteswap()
        return entries.tobytes()

    def _pending_written(self) -> None:
        if self._loaded is not None:
            self._loaded = (self._loaded[0] + self._offsets, self._loaded[1] + self._positions)
        self._offsets = array("i")
        self._positions = array("i")


class TimeIndex(SparseIndex):
    """Largest timestamp so far → last offset of the batch that has it, strictly ascending in both."""

    ENTRY = _TIME_ENTRY
    ENTRY_SIZE = TIME_ENTRY_SIZE

    __slots__ = ("_offsets", "_timestamps", "last_timestamp")

    def __init__(
        self, disk: Disk, path: str, base_offset: int, *, restored: bool, source: MovableFile | None = None
    ) -> None:
        self._timestamps = array("q")
        self._offsets = array("i")
        self.last_timestamp = NO_TIMESTAMP
        super().__init__(disk, path, base_offset, restored=restored, source=source)

    def room(self, maximum_bytes: int) -> int:
        """One entry is kept free for the last timestamp, added when the segment is closed."""
        return maximum_bytes // TIME_ENTRY_SIZE - 1 - self.entries

    def maybe_append(self, timestamp: int, offset: int) -> None:
        """Add an entry if the timestamp is above the last one."""
        if timestamp > self.last_timestamp:
            self._offsets.append(offset - self.base_offset)
            self._timestamps.append(timestamp)
            self.entries += 1
            self.last_timestamp = timestamp
            self.last_offset = offset

    def searcher(self) -> Callable[[int], tuple[int, int]]:
        """The last entry whose timestamp is not above one asked for, (-1, base offset) when there is none.

        The function may be called in a worker thread: it works on a file of its own and on what is known now.
        """
        timestamps, offsets = self._timestamps[:], self._offsets[:]
        base_offset = self.base_offset
        search_file = self._file_searcher(_TIME_ENTRY)

        def search(timestamp: int) -> tuple[int, int]:
            if timestamps and timestamp >= timestamps[0]:
                index = bisect_right(timestamps, timestamp) - 1
                return timestamps[index], base_offset + offsets[index]
            found = search_file(timestamp)
            return (NO_TIMESTAMP, base_offset) if found is None else (found[0], base_offset + found[1])

        return search

    def truncate_to(self, offset: int) -> None:
        """Drop entries for `offset` and above."""
        relative = offset - self.base_offset - 1
        keep = bisect_right(self._offsets, relative)
        del self._timestamps[keep:], self._offsets[keep:]
        if keep:
            self.last_timestamp, self.last_offset = self._timestamps[-1], self.base_offset + self._offsets[-1]
        else:
            offsets = [entry[1] for entry in _TIME_ENTRY.iter_unpack(self._read_file())] if self._persisted else []
            last = self._keep_in_file(bisect_right(offsets, relative))
            self.last_timestamp, relative = _TIME_ENTRY.unpack(last) if last else (NO_TIMESTAMP, 0)
            self.last_offset = self.base_offset + relative
        self.entries = self._persisted + keep

    def _forget(self) -> None:
        super()._forget()
        self._timestamps = array("q")
        self._offsets = array("i")
        self.last_timestamp = NO_TIMESTAMP

    def _restore_last(self, entry: bytes) -> None:
        timestamp, relative = _TIME_ENTRY.unpack(entry)
        if timestamp < 0 or relative < 0:
            raise CorruptIndexError(f"the last entry of {self.path} is neither a timestamp nor an offset")
        self.last_timestamp = timestamp
        self.last_offset = self.base_offset + relative

    def _pack_pending(self) -> bytes:
        pack = _TIME_ENTRY.pack
        return b"".join(
            [pack(timestamp, offset) for timestamp, offset in zip(self._timestamps, self._offsets, strict=True)]
        )

    def _pending_written(self) -> None:
        self._timestamps = array("q")
        self._offsets = array("i")
