"""The bytes of a segment: everything that reads or writes records goes through `SegmentFile`.

It is the place for encryption at rest: above it nobody knows more than positions and bytes. A file is opened when it
is first needed and closed again when too many are (`OpenFiles`), so a log that rests costs no descriptor.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ottla.core.binary import Buffer
from ottla.runtime.disk import Disk, File
from ottla.runtime.file_range import FileRange
from ottla.server.log.movable_file import MovableFile

DEFAULT_OPEN_FILES = 512


class OpenFiles:
    """Bounds the number of open segment files of a process: a clock that closes those not used since its last round."""

    __slots__ = ("_ring", "limit")

    def __init__(self, limit: int = DEFAULT_OPEN_FILES) -> None:
        self.limit = limit
        self._ring: deque[SegmentFile] = deque()

    def __len__(self) -> int:
        return len(self._ring)

    def opened(self, file: SegmentFile) -> None:
        """Count a file in, closing others where there are too many."""
        ring = self._ring
        ring.append(file)
        while len(ring) > self.limit:
            candidate = ring.popleft()
            if not candidate.is_open:
                continue
            if candidate.used or candidate is file:
                candidate.used = False
                ring.append(candidate)
            else:
                candidate.close_handle()

    def closed(self, file: SegmentFile) -> None:
        """Forget a file that its owner closed."""
        try:
            self._ring.remove(file)
        except ValueError:
            pass


class SegmentFile(MovableFile):
    """The records file of one segment. `size` is what is in it; one owner appends and cuts.

    `read_cached_at` is for the owner's thread; `reader` for any.
    """

    __slots__ = ("_handle", "_open_files", "size", "used")

    def __init__(self, disk: Disk, open_files: OpenFiles, path: str, size: int) -> None:
        super().__init__(disk, path)
        self._open_files = open_files
        self._handle: File | None = None
        self.size = size
        self.used = True

    @property
    def is_open(self) -> bool:
        """Whether a descriptor is held."""
        return self._handle is not None

    def create(self) -> None:
        """Make the file, empty."""
        handle = self._open(create=True)
        if handle.size():
            handle.truncate(0)
        self.size = 0

    def append(self, data: Buffer) -> None:
        """Write at the end; on `DiskError` the file is as it was."""
        handle = self._handle or self._open()
        handle.append(data)
        self.size += len(data)
        self.used = True

    def read_cached_at(self, position: int, size: int) -> bytes | bytearray | None:
        """Bytes from the page cache, None when it does not have them all."""
        handle = self._handle or self._open()
        self.used = True
        return handle.read_cached_at(position, size)

    def cached_range(self, position: int, size: int) -> FileRange | None:
        """The bytes for the kernel to send, None when it can not or would have to wait for the device."""
        handle = self._handle or self._open()
        self.used = True
        return handle.cached_range(position, size)

    def read_at(self, position: int, size: int) -> bytes:
        """Bytes from wherever they are; in the owner's thread."""
        handle = self._handle or self._open()
        self.used = True
        return handle.read_at(position, size)

    @contextmanager
    def reader(self) -> Iterator[Callable[[int, int], bytes]]:
        """A `read_at` on a descriptor of its own, for a worker thread: the owner may close, rename or cut meanwhile."""
        handle = self.open_where_it_is()
        try:
            yield handle.read_at
        finally:
            handle.close()

    def sync(self) -> None:
        """fsync, in any thread."""
        handle = self.open_where_it_is(read_only=False)
        try:
            handle.sync()
        finally:
            handle.close()

    def truncate(self, size: int) -> None:
        """Cut to `size` bytes."""
        handle = self._handle or self._open()
        handle.truncate(size)
        self.size = size

    def close_handle(self) -> None:
        """Give the descriptor back; the next use opens the file again."""
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.close()

    def close(self) -> None:
        """Like `close_handle`, when it was the owner's idea."""
        if self._handle is not None:
            self._open_files.closed(self)
            self.close_handle()

    def move_to(self, open_files: OpenFiles) -> None:
        """Count among others from now on; the file must be closed."""
        assert self._handle is None
        self._open_files = open_files

    def _open(self, *, create: bool = False) -> File:
        handle = self._handle = self._disk.open(self.path, create=create)
        self.used = True
        self._open_files.opened(self)
        return handle
