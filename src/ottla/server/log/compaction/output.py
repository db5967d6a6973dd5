"""The segment that a round writes in place of others."""

from __future__ import annotations

from collections.abc import Iterator

from ottla.runtime.disk import Disk
from ottla.server.log.errors import LogError
from ottla.server.log.files import CLEANED_SUFFIX
from ottla.server.log.indexes import IndexCache
from ottla.server.log.segment import MAXIMUM_RELATIVE_OFFSET, Segment
from ottla.server.log.segment_file import OpenFiles
from ottla.server.log.transaction_index import AbortedTransaction

WRITE_BYTES = 1024 * 1024
MAXIMUM_POSITION = MAXIMUM_RELATIVE_OFFSET


class Output:
    """Collects batches for a `.cleaned` segment. All of it belongs to a worker thread.

    Where one segment takes the place of one other, nothing is written as long as nothing has changed: a clean segment
    costs reading it. `changed` says whether there is a segment to swap in; before the first batch that is not kept as
    it was, `begin` has to be called.
    """

    def __init__(self, disk: Disk, group: list[Segment], index_interval_bytes: int, created_ms: int) -> None:
        self._disk = disk
        self._source = group[0]
        self._index_interval_bytes = index_interval_bytes
        self.segment = Segment(
            disk,
            group[0].directory,
            group[0].base_offset,
            size=0,
            created_ms=created_ms,
            open_files=OpenFiles(),
            index_cache=IndexCache(),
            is_new=True,
            suffix=CLEANED_SUFFIX,
        )
        self.changed = False
        self.size = 0
        self._pieces: list[bytes | memoryview] = []
        self._pending = 0
        # Neighbouring batches that are kept are one piece.
        self._chunk = b""
        self._run_start = self._run_end = 0

    def begin(self) -> Iterator[int]:
        """Make the file, and copy what was kept so far; gives the bytes moved, slice by slice."""
        if self.changed:
            return
        self.changed = True
        self._pieces.clear()
        self._chunk = b""
        self._run_start = self._run_end = self._pending = 0
        self.segment.file.create()
        position = 0
        with self._source.file.reader() as read_at:
            while position < self.size:
                data = read_at(position, min(WRITE_BYTES, self.size - position))
                if not data:
                    raise LogError(f"{self._source.file.path} is shorter than it was")
                self.segment.file.append(data)
                position += len(data)
                yield 2 * len(data)

    def keep(self, chunk: bytes, position: int, size: int, last_offset: int, max_timestamp: int) -> None:
        """A batch as it was."""
        if self.changed:
            if chunk is self._chunk and position == self._run_end:
                self._run_end += size
            else:
                self._end_run()
                self._chunk = chunk
                self._run_start, self._run_end = position, position + size
            self._pending += size
        self._index(size, last_offset, max_timestamp)

    def add(self, batch: bytes, last_offset: int, max_timestamp: int) -> None:
        """A batch that takes the place of another."""
        assert self.changed
        self._end_run()
        self._pieces.append(batch)
        self._pending += len(batch)
        self._index(len(batch), last_offset, max_timestamp)

    def _index(self, size: int, last_offset: int, max_timestamp: int) -> None:
        self.segment.index_range(self.size, last_offset, max_timestamp, size, self._index_interval_bytes)
        self.size += size
        if self.size > MAXIMUM_POSITION:
            raise LogError(f"{self.segment.file.path} would be larger than a segment can be")

    def _end_run(self) -> None:
        if self._run_end > self._run_start:
            self._pieces.append(memoryview(self._chunk)[self._run_start : self._run_end])
        self._run_start = self._run_end = 0

    def write(self, *, at_least: int = WRITE_BYTES) -> int:
        """Write what has come together if it is that much; how many bytes."""
        if self._pending < at_least or not self._pending:
            return 0
        self._end_run()
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._pending = 0
        self._chunk = b""
        self.segment.file.append(data)
        return len(data)

    def complete(self, aborted: list[AbortedTransaction]) -> None:
        """Write the rest, bring all of it to the device, and give it the name that says so."""
        segment = self.segment
        self.write(at_least=0)
        for transaction in aborted:
            segment.transaction_index.append(transaction)
        segment.become_inactive()
        segment.file.sync()
        for path in segment.paths()[1:]:
            if self._disk.exists(path):
                file = self._disk.open(path)
                try:
                    file.sync()
                finally:
                    file.close()
        segment.transaction_index.unsynced = False
        segment.close()
        segment.name_for_swap()

    def discard(self) -> None:
        """Remove what was written."""
        self.segment.close()
        for path in self.segment.paths():
            if self._disk.exists(path):
                self._disk.remove(path)
