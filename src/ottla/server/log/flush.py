"""A flush cut in three: the owner says what (`Log.begin_flush`), a worker thread waits, the owner moves the recovery point."""

from __future__ import annotations

from ottla.runtime.disk import Disk, MissingFileError
from ottla.server.log.files import DELETED_SUFFIX
from ottla.server.log.segment_file import SegmentFile


class FlushTask:
    """Everything that has to be on the device before the recovery point may be `end_offset`.

    `generation` tells whether the log was cut meanwhile, in which case the flush says nothing about its new end.
    """

    __slots__ = ("_disk", "directories", "end_offset", "files", "generation", "paths", "snapshots")

    def __init__(self, disk: Disk, end_offset: int, generation: int) -> None:
        self._disk = disk
        self.end_offset = end_offset
        self.generation = generation
        self.files: list[SegmentFile] = []
        self.paths: list[str] = []
        self.directories: list[str] = []
        self.snapshots: set[int] = set()

    def run(self) -> None:
        """Wait for the device, in a worker thread. Raises `DiskError`; do not try again then: what failed once may be
        gone from the page cache, and a second fsync would claim success.
        """
        for file in self.files:
            try:
                file.sync()
            except MissingFileError:
                continue  # deleted by retention meanwhile
        for path in self.paths:
            if self._disk.exists(path):
                self._sync(path)
            elif self._disk.exists(path + DELETED_SUFFIX):
                continue
        for directory in self.directories:
            if self._disk.exists(directory):
                self._disk.sync_directory(directory)

    def _sync(self, path: str) -> None:
        try:
            file = self._disk.open(path)
        except MissingFileError:
            return
        try:
            file.sync()
        finally:
            file.close()
