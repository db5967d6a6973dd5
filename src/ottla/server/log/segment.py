"""One segment of a log: records of a range of offsets, in one file, with the indexes that lead into it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence

from ottla.core.binary import Buffer
from ottla.records.batch import LENGTH_END, BatchHeader
from ottla.runtime.disk import Disk
from ottla.server.log.errors import CorruptIndexError
from ottla.server.log.files import (
    CLEANED_SUFFIX,
    DELETED_SUFFIX,
    INDEX_SUFFIX,
    LOG_SUFFIX,
    SWAP_SUFFIX,
    TIME_INDEX_SUFFIX,
    TRANSACTION_INDEX_SUFFIX,
    offset_name,
)
from ottla.server.log.indexes import NO_TIMESTAMP, IndexCache, OffsetIndex, TimeIndex
from ottla.server.log.movable_file import MovableFile
from ottla.server.log.scan import FoundBatch, ReadAt, batch_headers, find_batch
from ottla.server.log.segment_file import OpenFiles, SegmentFile
from ottla.server.log.transaction_index import TransactionIndex

MAXIMUM_RELATIVE_OFFSET = 2**31 - 1
LARGEST_HOLE = 2**30
"""A segment begins where the log ended, unless its first batch is farther away than so many offsets."""
REMEMBERED_BATCHES = 256


class Segment:
    """Records from `base_offset` on. `size` is in bytes; `max_timestamp` is -1 while no record has one.

    `first_timestamp` (largest timestamp of the first batch) is what the age of a segment counts from; -1 while it is
    not known, then the time of creation counts.
    """

    __slots__ = (
        "_disk",
        "_offset_index",
        "_recent_offsets",
        "_recent_positions",
        "_time_index",
        "base_offset",
        "bytes_since_index_entry",
        "created_ms",
        "directory",
        "file",
        "first_timestamp",
        "is_deleted",
        "max_timestamp",
        "max_timestamp_offset",
        "timestamps_known",
        "transaction_index",
    )

    def __init__(
        self,
        disk: Disk,
        directory: str,
        base_offset: int,
        *,
        size: int,
        created_ms: int,
        open_files: OpenFiles,
        index_cache: IndexCache,
        is_new: bool = False,
        suffix: str = "",
    ) -> None:
        self._disk = disk
        self.directory = directory
        self.base_offset = base_offset
        self.created_ms = created_ms
        prefix = f"{directory}/{offset_name(base_offset, '')}"
        self.file = SegmentFile(disk, open_files, prefix + LOG_SUFFIX + suffix, size)
        self._offset_index = OffsetIndex(
            disk, index_cache, prefix + INDEX_SUFFIX + suffix, base_offset, restored=is_new
        )
        self._time_index = TimeIndex(disk, prefix + TIME_INDEX_SUFFIX + suffix, base_offset, restored=is_new)
        self.transaction_index = TransactionIndex(disk, prefix + TRANSACTION_INDEX_SUFFIX + suffix, restored=is_new)
        self.first_timestamp = NO_TIMESTAMP
        self.max_timestamp = NO_TIMESTAMP
        self.max_timestamp_offset = base_offset
        self.timestamps_known = is_new
        self.bytes_since_index_entry = 0
        self.is_deleted = False
        # Base offsets and positions of the batches appended last: what a consumer at the end of the log asks for.
        self._recent_offsets: list[int] = []
        self._recent_positions: list[int] = []

    @property
    def size(self) -> int:
        """Bytes of records."""
        return self.file.size

    @property
    def offset_index(self) -> OffsetIndex:
        """The offset index, looked at when first needed; one that can not be right counts as empty."""
        index = self._offset_index
        if not index.restored:
            try:
                index.restore()
            except CorruptIndexError:
                pass
            if index.last_position >= self.file.size > 0:
                index.reset()
        return index

    @property
    def time_index(self) -> TimeIndex:
        """The time index, looked at when first needed; one that can not be right counts as empty."""
        index = self._time_index
        if not index.restored:
            try:
                index.restore()
            except CorruptIndexError:
                pass
        return index

    def unopened_time_index(self) -> TimeIndex:
        """Another view of the time index file of a closed segment, for a worker thread."""
        source = self._time_index
        index = TimeIndex(self._disk, source.path, self.base_offset, restored=False, source=source)
        index.restore()
        return index

    def unopened_offset_index(self) -> OffsetIndex:
        """Another view of the offset index file of a closed segment, for a worker thread."""
        source = self._offset_index
        index = OffsetIndex(self._disk, IndexCache(), source.path, self.base_offset, restored=False, source=source)
        index.restore()
        return index

    # Appending

    def append(
        self, base_offset: int, last_offset: int, max_timestamp: int, data: Buffer, index_interval_bytes: int
    ) -> None:
        """Write one batch at the end. On `DiskError` nothing has changed."""
        file = self.file
        position = file.size
        file.append(data)
        if max_timestamp > self.max_timestamp:
            self.max_timestamp = max_timestamp
            self.max_timestamp_offset = last_offset
        if not position:
            self.first_timestamp = max_timestamp
        elif self.bytes_since_index_entry > index_interval_bytes:
            self.offset_index.append(last_offset, position)
            self.time_index.maybe_append(self.max_timestamp, self.max_timestamp_offset)
            self.bytes_since_index_entry = 0
        self.bytes_since_index_entry += file.size - position
        offsets = self._recent_offsets
        offsets.append(base_offset)
        self._recent_positions.append(position)
        if len(offsets) > REMEMBERED_BATCHES:
            del offsets[: REMEMBERED_BATCHES // 2], self._recent_positions[: REMEMBERED_BATCHES // 2]

    def append_run(self, headers: Sequence[BatchHeader], data: Buffer, index_interval_bytes: int) -> None:
        """Write neighbouring batches at the end, as `append` does one. On `DiskError` nothing has changed."""
        file = self.file
        position = file.size
        file.append(data)
        offset_index, time_index = self.offset_index, self.time_index
        offsets, positions = self._recent_offsets, self._recent_positions
        since_entry = self.bytes_since_index_entry
        for header in headers:
            last_offset = header.base_offset + header.last_offset_delta
            if header.max_timestamp > self.max_timestamp:
                self.max_timestamp = header.max_timestamp
                self.max_timestamp_offset = last_offset
            if since_entry > index_interval_bytes:
                offset_index.append(last_offset, position)
                time_index.maybe_append(self.max_timestamp, self.max_timestamp_offset)
                since_entry = 0
            offsets.append(header.base_offset)
            positions.append(position)
            size = header.batch_length + LENGTH_END
            since_entry += size
            position += size
        self.bytes_since_index_entry = since_entry
        if len(offsets) > REMEMBERED_BATCHES:
            gone = len(offsets) - REMEMBERED_BATCHES // 2
            del offsets[:gone], positions[:gone]

    def begin_rebuild(self, *, keep_transactions: bool = False) -> None:
        """Empty all indexes, before `index_batch` is called for every batch there is."""
        for index in (self._offset_index, self._time_index):
            index.reset()
        if not keep_transactions:
            self.transaction_index.reset()
        self.max_timestamp = NO_TIMESTAMP
        self.max_timestamp_offset = self.base_offset
        self.bytes_since_index_entry = 0

    def index_batch(self, position: int, header: BatchHeader, index_interval_bytes: int) -> None:
        """What `append` does, for a batch that is in the file already."""
        self.index_range(position, header.last_offset, header.max_timestamp, header.size_in_bytes, index_interval_bytes)

    def index_range(
        self, position: int, last_offset: int, max_timestamp: int, size: int, index_interval_bytes: int
    ) -> None:
        """`index_batch`, for a batch of which just that is known."""
        if max_timestamp > self.max_timestamp:
            self.max_timestamp = max_timestamp
            self.max_timestamp_offset = last_offset
        if not position:
            self.first_timestamp = max_timestamp
        elif self.bytes_since_index_entry > index_interval_bytes:
            self._offset_index.append(last_offset, position)
            self._time_index.maybe_append(self.max_timestamp, self.max_timestamp_offset)
            self.bytes_since_index_entry = 0
        self.bytes_since_index_entry += size

    def restore_indexes(self) -> bool:
        """Look at the index files; whether they can be right."""
        try:
            self._offset_index.restore()
            self._time_index.restore()
            self.transaction_index.entries()
        except CorruptIndexError:
            return False
        return self._offset_index.last_position < max(self.file.size, 1)

    def check_indexes(self) -> bool:
        """Whether the index files of a closed segment, perhaps not synced before a crash, are whole, ascending, and
        complete in what they say of timestamps. Reads both, and the records behind their last entries.
        """
        offset_index, time_index = self._offset_index, self._time_index
        if not (self._disk.exists(offset_index.path) and self._disk.exists(time_index.path)):
            return False
        if not (self.restore_indexes() and offset_index.ascends() and time_index.ascends()):
            return False
        position = offset_index.lookup(time_index.last_offset, cached=False)
        headers = batch_headers(self.file.read_at, position, self.file.size)
        return all(header.max_timestamp <= time_index.last_timestamp for _, header in headers)

    def has_full_index(self, maximum_bytes: int) -> bool:
        """Whether an index has no room for another entry below `segment.index.bytes`."""
        return self.offset_index.is_full(maximum_bytes) or self.time_index.is_full(maximum_bytes)

    def index_room(self, maximum_bytes: int) -> int:
        """How many entries the indexes take before they are full."""
        return min(self.offset_index.room(maximum_bytes), self.time_index.room(maximum_bytes))

    def load_timestamps(self) -> None:
        """Find out the largest timestamp: the last entry of the time index, complete since the last roll, close or
        recovery.
        """
        if not self.timestamps_known:
            index = self.time_index
            if index.last_timestamp > self.max_timestamp:
                self.max_timestamp = index.last_timestamp
                self.max_timestamp_offset = index.last_offset
            self.timestamps_known = True

    def largest_timestamp_ms(self) -> int:
        """The age of the segment for retention: its largest timestamp, else when the file was last written."""
        self.load_timestamps()
        if self.max_timestamp >= 0:
            return self.max_timestamp
        return self._disk.modified_ms(self.file.path)

    # Looking up

    def recent_batch(self, offset: int) -> FoundBatch | None:
        """The batch that holds `offset`, when it is among those appended last."""
        offsets = self._recent_offsets
        if not offsets or offset < offsets[0]:
            return None
        index = bisect_right(offsets, offset)
        positions = self._recent_positions
        position = positions[index - 1]
        end = positions[index] if index < len(positions) else self.file.size
        return FoundBatch(position, end - position, offsets[index - 1])

    def recent_position_from(self, offset: int) -> int | None:
        """Position of the first batch that starts at or above `offset`, when that can be told from the recent ones."""
        offsets = self._recent_offsets
        if not offsets or offset < offsets[0]:
            return None
        index = bisect_left(offsets, offset)
        return self._recent_positions[index] if index < len(offsets) else self.file.size

    def find(self, offset: int, *, cached: bool = False) -> FoundBatch | None:
        """The first batch whose last offset is at or above `offset`.

        With `cached`, raises `WouldBlockError` instead of waiting for the device.
        """
        position = self.offset_index.lookup(offset, cached=cached)
        read_at: ReadAt = self.file.read_cached_at if cached else self.file.read_at
        return find_batch(read_at, position, self.file.size, offset)

    # Cutting and closing

    def truncate_to(self, offset: int, now_ms: int) -> int:
        """Drop the batches that hold `offset` or more; the base offset of the first that went, `offset` if none did."""
        found = self.find(offset)
        if found is None:
            return offset
        self.load_timestamps()
        self.offset_index.truncate_to(offset)
        self.time_index.truncate_to(offset)
        self.transaction_index.truncate_to(offset)
        self.file.truncate(found.position)
        self._recent_offsets.clear()
        self._recent_positions.clear()
        if not found.position:
            self.created_ms = now_ms
            self.first_timestamp = NO_TIMESTAMP
        self.bytes_since_index_entry = 0
        self.max_timestamp = self.time_index.last_timestamp
        self.max_timestamp_offset = self.time_index.last_offset
        self._scan_timestamps()
        return found.base_offset

    def _scan_timestamps(self) -> None:
        """Timestamps of the batches after the last index entry, which no entry stands for."""
        position = self.offset_index.last_position
        for _, header in batch_headers(self.file.read_at, position, self.file.size):
            if header.max_timestamp > self.max_timestamp:
                self.max_timestamp = header.max_timestamp
                self.max_timestamp_offset = header.last_offset

    def become_inactive(self) -> None:
        """The last time entry, so that the largest timestamp of a closed segment is in its index."""
        self.load_timestamps()
        self.time_index.maybe_append(self.max_timestamp, self.max_timestamp_offset)
        self.write_indexes()
        self._recent_offsets = []
        self._recent_positions = []

    def write_indexes(self) -> list[str]:
        """Bring index entries to their files (page cache only); the paths of the files that hold any of this
        segment.
        """
        paths = []
        for index in (self._offset_index, self._time_index):
            if index.restored and (not index.is_written or not index.entries):
                index.write()
            # Of an empty file there is only the name, which goes with the directory.
            if index.entries or not index.restored:
                paths.append(index.path)
        if self.transaction_index.unsynced:
            paths.append(self.transaction_index.path)
        return paths

    def close(self) -> None:
        """Give descriptor and caches back; the next use takes them again."""
        self.file.close()
        self._offset_index.release()

    def adopt(self, open_files: OpenFiles, index_cache: IndexCache) -> None:
        """Count among these files and indexes from now on; the segment must be closed."""
        self.file.move_to(open_files)
        self._offset_index.cache = index_cache

    def relocate(self, directory: str) -> None:
        """The directory of the segment, which must be closed, has another name now."""
        self.directory = directory
        for file in self._files():
            file.path = f"{directory}/{file.path.rpartition('/')[2]}"

    def mark_deleted(self) -> list[str]:
        """Rename all files to `.deleted`; the new paths. Reads that know the segment go on."""
        self.is_deleted = True
        return self._rename(lambda path: _name_for_removal(self._disk, path))

    def name_finally(self) -> None:
        """Give a segment that was written under another suffix the names that the log goes by."""
        self._rename(lambda path: path.removesuffix(SWAP_SUFFIX))

    def name_for_swap(self) -> None:
        """From `.cleaned` to `.swap`: the segment is complete and may take the place of others."""
        self._rename(lambda path: path.removesuffix(CLEANED_SUFFIX) + SWAP_SUFFIX)

    def _rename(self, new_name: Callable[[str], str]) -> list[str]:
        renamed = []
        for file in self._files():
            path = new_name(file.path)
            if self._disk.exists(file.path):
                file.rename(path)
                renamed.append(path)
            else:
                file.path = path  # the old name may become another file's
        return renamed

    def paths(self) -> list[str]:
        """All files a segment may have."""
        return [file.path for file in self._files()]

    def _files(self) -> list[MovableFile]:
        return [self.file, self._offset_index, self._time_index, self.transaction_index]


def _name_for_removal(disk: Disk, path: str) -> str:
    """`.deleted`, with a number where an older file of that name, perhaps still being read, waits for its removal."""
    name = path + DELETED_SUFFIX
    number = 0
    while disk.exists(name):
        number += 1
        name = f"{path}.{number}{DELETED_SUFFIX}"
    return name
