"""What a log needs from whoever keeps it: disk, shared caches, background work, and somebody to tell about a failing
disk.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Protocol

from ottla.runtime.disk import Disk, DiskError
from ottla.server.log.indexes import IndexCache
from ottla.server.log.segment_file import OpenFiles

if TYPE_CHECKING:
    from ottla.server.log.log import Log

DEFAULT_PRODUCER_ID_EXPIRATION_MS = 86_400_000


class LogHost(Protocol):
    """One data directory, as its logs see it."""

    disk: Disk
    random: Random
    open_files: OpenFiles
    index_cache: IndexCache
    producer_id_expiration_ms: int
    failure: str | None  # why the directory takes no more writes

    def delete_later(self, paths: list[str], delay_ms: int) -> None:
        """Remove these (already renamed) files after a while."""

    def flush_later(self, log: Log) -> None:
        """Flush a log soon: it was rolled, or has reached `flush.messages`."""

    def disk_failed(self, error: DiskError) -> None:
        """An operation failed in a way that makes the directory unusable."""


class SimpleHost:
    """A host without background work, for a log on its own: flushes at once, deletes at once."""

    def __init__(self, disk: Disk, *, random: Random | None = None, max_open_files: int = 512) -> None:
        self.disk = disk
        self.random = random or Random(0)
        self.open_files = OpenFiles(max_open_files)
        self.index_cache = IndexCache()
        self.producer_id_expiration_ms = DEFAULT_PRODUCER_ID_EXPIRATION_MS
        self.failure: str | None = None

    def delete_later(self, paths: list[str], delay_ms: int) -> None:
        for path in paths:
            self.disk.remove(path)

    def flush_later(self, log: Log) -> None:
        log.flush()

    def disk_failed(self, error: DiskError) -> None:
        self.failure = str(error)
