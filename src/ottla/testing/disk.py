"""A disk that has bad days: full, slow, failing, and gone with the process that used it.

`ClusterDisk` stands between a broker and its real disk (memory or file system) for as long as the cluster is there, so
that a broker which comes back finds what the one before has left. The switches may be turned from every thread, also
while the broker waits for a slow operation.
"""

from __future__ import annotations

import errno
import os
import threading
import time
import weakref
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from random import Random
from typing import TYPE_CHECKING

from ottla.runtime.disk import DiskError, disk_error
from ottla.runtime.memory_disk import MemoryDisk

if TYPE_CHECKING:
    from ottla.core.binary import Buffer
    from ottla.runtime.disk import Disk, DiskLock, File
    from ottla.runtime.file_range import FileRange

OPERATIONS = frozenset(
    {
        "open",
        "create",
        "read",
        "append",
        "write",
        "truncate",
        "sync",
        "list",
        "rename",
        "remove",
        "make_directory",
        "lock",
    }
)
TAKES_SPACE = frozenset({"create", "append", "write", "make_directory"})
"""What fails on a disk that is full; everything else goes on."""


class DiskFault:
    """What is wrong with a disk, until it is taken off again: `ClusterDisk.impose`, `lift`."""

    def __init__(
        self,
        *,
        operations: Collection[str] = OPERATIONS,
        number: int = 0,
        pause_s: float = 0.0,
        on_strike: Callable[[], object] = lambda: None,
    ) -> None:
        """Operations of these kinds wait for `pause_s` seconds, then fail with this errno unless it is 0."""
        if unknown := set(operations) - OPERATIONS:
            raise ValueError(f"no operation of a disk: {', '.join(sorted(unknown))} ({', '.join(sorted(OPERATIONS))})")
        self.operations = frozenset(operations)
        self.number = number
        self.pause_s = pause_s
        self.on_strike = on_strike


class ClusterDisk:
    """A `runtime.disk.Disk` on another one. `end_process` makes everything that is open useless."""

    def __init__(self, inner: Disk) -> None:
        self.inner = inner
        self.life = 0
        self.faults: tuple[DiskFault, ...] = ()
        self.mutex: AbstractContextManager[object]
        """A disk in memory is for one thread at a time, but while there are faults operations wait in workers."""
        self.mutex = threading.RLock() if isinstance(inner, MemoryDisk) else nullcontext()
        self._files: weakref.WeakSet[ClusterFile] = weakref.WeakSet()
        self._locks: weakref.WeakSet[ClusterLock] = weakref.WeakSet()

    # Faults

    def impose(self, fault: DiskFault) -> None:
        """From the next operation on."""
        self.faults = (*self.faults, fault)

    def lift(self, fault: DiskFault) -> None:
        """Nothing happens when it is not there."""
        self.faults = tuple(one for one in self.faults if one is not fault)

    def end_process(self) -> None:
        """The process that used the disk is gone, the machine is not: what was written is there, nothing is open or
        locked any more.
        """
        self.life += 1
        for file in list(self._files):
            file.inner.close()
        for lock in list(self._locks):
            lock.inner.release()
        if isinstance(self.inner, MemoryDisk):
            self.inner.restart_process()

    def lose_power(self, random: Random) -> None:
        """The machine is gone with it: what was not synced is kept, lost or damaged as `random` has it.

        For disks in memory only: what a file system has in its cache can not be taken from it.
        """
        if not isinstance(self.inner, MemoryDisk):
            raise ValueError("power can be lost only by a cluster in memory: make it without data=")
        self.end_process()
        self.inner.crash(random)

    def strike(self, operation: str, path: str) -> None:
        """An operation is about to happen: let it wait, let it fail. For operations that `faults` may be about."""
        for fault in self.faults:
            if operation in fault.operations:
                fault.on_strike()
                if fault.pause_s:
                    time.sleep(fault.pause_s)
                if fault.number:
                    raise disk_error(fault.number, os.strerror(fault.number), path)

    # The port

    def open(self, path: str, *, create: bool = False, read_only: bool = False) -> File:
        if self.faults:
            self.strike("create" if create and not self.inner.exists(path) else "open", path)
        with self.mutex:
            file = ClusterFile(self, self.inner.open(path, create=create, read_only=read_only))
        self._files.add(file)
        return file

    def make_directories(self, path: str) -> None:
        if self.faults and not self.inner.exists(path):
            self.strike("make_directory", path)
        with self.mutex:
            self.inner.make_directories(path)

    def list_directory(self, path: str) -> list[str]:
        if self.faults:
            self.strike("list", path)
        return self.inner.list_directory(path)

    def exists(self, path: str) -> bool:
        return self.inner.exists(path)

    def is_directory(self, path: str) -> bool:
        return self.inner.is_directory(path)

    def rename(self, old: str, new: str) -> None:
        if self.faults:
            self.strike("rename", old)
        with self.mutex:
            self.inner.rename(old, new)

    def remove(self, path: str) -> None:
        if self.faults:
            self.strike("remove", path)
        with self.mutex:
            self.inner.remove(path)

    def remove_tree(self, path: str) -> None:
        if self.faults:
            self.strike("remove", path)
        with self.mutex:
            self.inner.remove_tree(path)

    def sync_directory(self, path: str) -> None:
        if self.faults:
            self.strike("sync", path)
        with self.mutex:
            self.inner.sync_directory(path)

    def size(self, path: str) -> int:
        return self.inner.size(path)

    def modified_ms(self, path: str) -> int:
        return self.inner.modified_ms(path)

    def read(self, path: str) -> bytes:
        if self.faults:
            self.strike("read", path)
        return self.inner.read(path)

    def replace(self, path: str, data: bytes) -> None:
        if self.faults:
            self.strike("create", path)
            self.strike("sync", path)
        with self.mutex:
            self.inner.replace(path, data)

    def lock(self, path: str) -> DiskLock:
        if self.faults:
            self.strike("lock", path)
        with self.mutex:
            lock = ClusterLock(self.inner.lock(path))
        self._locks.add(lock)
        return lock

    def free_bytes(self, path: str) -> int:
        if any(fault.number == errno.ENOSPC for fault in self.faults):
            return 0
        return self.inner.free_bytes(path)

    def make_private(self, path: str) -> None:
        self.inner.make_private(path)

    def total_bytes(self, path: str) -> int:
        return self.inner.total_bytes(path)


class ClusterLock:
    """A lock file of a `ClusterDisk`."""

    __slots__ = ("__weakref__", "inner")

    def __init__(self, inner: DiskLock) -> None:
        self.inner = inner

    def release(self) -> None:
        self.inner.release()


class ClusterFile:
    """An open file of a `ClusterDisk`."""

    __slots__ = ("__weakref__", "_disk", "_life", "inner", "path")

    def __init__(self, disk: ClusterDisk, inner: File) -> None:
        self.path = inner.path
        self.inner = inner
        self._disk = disk
        self._life = disk.life

    def read_at(self, position: int, size: int) -> bytes:
        self._pass("read")
        return self.inner.read_at(position, size)

    def read_cached_at(self, position: int, size: int) -> bytes | bytearray | None:
        disk = self._disk
        if disk.faults and any("read" in fault.operations for fault in disk.faults):
            return None  # the page cache helps nobody then
        return self.inner.read_cached_at(position, size)

    def cached_range(self, position: int, size: int) -> FileRange | None:
        disk = self._disk
        if disk.faults and any("read" in fault.operations for fault in disk.faults):
            return None
        return self.inner.cached_range(position, size)

    def append(self, data: Buffer) -> None:
        self._pass("append")
        with self._disk.mutex:
            self.inner.append(data)

    def write_at(self, position: int, data: Buffer) -> None:
        self._pass("write")
        with self._disk.mutex:
            self.inner.write_at(position, data)

    def truncate(self, size: int) -> None:
        self._pass("truncate")
        with self._disk.mutex:
            self.inner.truncate(size)

    def sync(self) -> None:
        self._pass("sync")
        with self._disk.mutex:
            self.inner.sync()

    def size(self) -> int:
        return self.inner.size()

    def close(self) -> None:
        self.inner.close()

    def _pass(self, operation: str) -> None:
        disk = self._disk
        if self._life != disk.life:
            raise DiskError(errno.EBADF, "the process that opened it is gone", self.path)
        if disk.faults:
            disk.strike(operation, self.path)
