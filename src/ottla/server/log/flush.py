"""A flush cut in three: the owner says what (`Log.begin_flush`), a worker thread waits, the owner moves the recovery
point.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from ottla.runtime.disk import Disk, MissingFileError
from ottla.server.log.config import MAXIMUM_INT64
from ottla.server.log.files import DELETED_SUFFIX, PARTITION_METADATA
from ottla.server.log.segment import Segment
from ottla.server.log.segment_file import SegmentFile

if TYPE_CHECKING:
    from ottla.server.log.log import Log


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

    def run(self, synced_directories: set[str] | None = None) -> None:
        """Wait for the device, in a worker thread. Raises `DiskError`; do not try again then: what failed once may be
        gone from the page cache, and a second fsync would claim success.

        `synced_directories`, shared by tasks that are run together, spares syncing their common parent for each.
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
        done = set() if synced_directories is None else synced_directories
        for directory in self.directories:
            if directory not in done and self._disk.exists(directory):
                self._disk.sync_directory(directory)
                done.add(directory)

    def _sync(self, path: str) -> None:
        try:
            file = self._disk.open(path)
        except MissingFileError:
            return
        try:
            file.sync()
        finally:
            file.close()


class FlushState:
    """What of a log is on the device, and what is not.

    `recovery_point`: everything below it is. `at`: the last offset that may be appended before `flush.messages` asks
    for a flush. `closed_segments`: closed since the last flush, so that their indexes are still to be synced.
    `highest`: the highest recovery point there ever was, and so what a checkpoint on the device may say.
    """

    __slots__ = (
        "at",
        "closed_segments",
        "directories_unsynced",
        "generation",
        "highest",
        "last_ms",
        "recovery_point",
    )

    def __init__(self, recovery_point: int, checkpointed: int, *, is_new: bool) -> None:
        self.recovery_point = recovery_point
        self.highest = max(recovery_point, checkpointed)
        self.generation = 0
        self.last_ms = -1
        self.directories_unsynced = is_new
        self.closed_segments: list[Segment] = []
        self.at = MAXIMUM_INT64

    @property
    def is_below_checkpoint(self) -> bool:
        """Whether a checkpoint may tell more than is on the device, as the log was cut. Recovery begins with the
        segment that holds it: those before have to be on the device when that one is begun.
        """
        return self.recovery_point < self.highest

    def plan(self, flush_messages: int) -> None:
        """Work out `at`."""
        self.at = MAXIMUM_INT64 if flush_messages == MAXIMUM_INT64 else self.recovery_point + flush_messages - 1

    def is_needed(self, log: Log) -> bool:
        """Whether anything is not on the device (of what recovery could not make again)."""
        return self.recovery_point < log.log_end_offset or log.leader_epochs.unsynced or bool(self.closed_segments)

    def is_due(self, now_ms: int, log_end_offset: int, flush_ms: int) -> bool:
        """Whether `flush.ms` have passed with something to flush."""
        if self.recovery_point >= log_end_offset or self.last_ms < 0:
            self.last_ms = now_ms
            return False
        return now_ms - self.last_ms >= flush_ms

    def truncated(self, offset: int) -> None:
        """The log was cut: flushes under way say nothing about what comes in its place."""
        self.recovery_point = min(self.recovery_point, offset)
        self.generation += 1

    def begin(self, log: Log, including_active_index: bool) -> FlushTask | None:
        """The work for everything appended so far; see `Log.begin_flush`."""
        if not self.is_needed(log) and not including_active_index:
            return None
        task = FlushTask(log.disk, log.log_end_offset, self.generation)
        segments = log.segments
        first = max(bisect_right(segments, self.recovery_point, key=lambda segment: segment.base_offset) - 1, 0)
        unsynced = segments[first:]
        for segment in unsynced:
            task.files.append(segment.file)
            if segment is not segments[-1] or including_active_index:
                task.paths += segment.write_indexes()
            elif segment.transaction_index.unsynced:
                task.paths.append(segment.transaction_index.path)
            segment.transaction_index.unsynced = False
        # A segment that was closed with all its records on the device still has its indexes to bring there.
        closed, self.closed_segments = self.closed_segments, []
        for segment in closed:
            if not segment.is_deleted and segment not in unsynced:
                task.paths += segment.write_indexes()
        task.snapshots = set(log.snapshots.unsynced)
        task.paths += [log.snapshots.path(offset) for offset in task.snapshots]
        if log.leader_epochs.unsynced:
            task.paths.append(log.leader_epochs.path)
            log.leader_epochs.unsynced = False
        if self.directories_unsynced:
            task.paths.append(f"{log.directory}/{PARTITION_METADATA}")
            task.directories += [log.directory, log.directory.rpartition("/")[0] or "."]
            self.directories_unsynced = False
        elif task.paths:
            task.directories.append(log.directory)
        return task

    def complete(self, task: FlushTask, now_ms: int) -> None:
        """A task was run without an error."""
        self.last_ms = now_ms
        if task.generation == self.generation and task.end_offset > self.recovery_point:
            self.recovery_point = task.end_offset
            self.highest = max(self.highest, task.end_offset)
