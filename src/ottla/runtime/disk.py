"""The disk port: what the rest of the broker may ask of a file system.

Two implementations stand behind it, `runtime.real_disk` and `runtime.memory_disk` (which can crash, tear writes and
run full); one property test holds them to the same behaviour. All methods are synchronous; those which may wait for the
device (everything but `File.read_cached_at`, and `append` which only reaches the page cache) belong in
`Env.run_blocking`. Every failure is a `DiskError` that names the file.

Paths are plain strings, separated by "/".
"""

from __future__ import annotations

import errno
from typing import Protocol

from ottla.core.binary import Buffer
from ottla.runtime.file_range import FileRange


class DiskError(OSError):
    """An operation on the disk failed; `path` names the file or directory."""

    @property
    def path(self) -> str:
        return str(self.filename)


class DiskFullError(DiskError):
    """No space, or no quota, left on the device."""


class MissingFileError(DiskError, FileNotFoundError):
    """The file or directory does not exist."""


class DiskLockedError(DiskError):
    """Another process (or another node in this one) holds the lock file."""


_KINDS: dict[int, type[DiskError]] = {
    errno.ENOSPC: DiskFullError,
    errno.EDQUOT: DiskFullError,
    errno.ENOENT: MissingFileError,
}


def disk_error(number: int, text: str, path: str) -> DiskError:
    """The `DiskError` subclass that fits an errno."""
    return _KINDS.get(number, DiskError)(number, text, path)


class File(Protocol):
    """An open file. One owner appends and truncates; any thread may read, also while the file is being closed."""

    @property
    def path(self) -> str:
        """Where the file was when it was opened; a rename does not change it."""

    def read_at(self, position: int, size: int) -> bytes:
        """Bytes from `position`, fewer than `size` only at the end of the file."""

    def read_cached_at(self, position: int, size: int) -> bytes | bytearray | None:
        """Like `read_at`, but only when the page cache has it all; None when the device would have to be waited for."""

    def cached_range(self, position: int, size: int) -> FileRange | None:
        """These bytes for the kernel to send, when the page cache has them all and this kind of file can do that."""

    def append(self, data: Buffer) -> None:
        """Write all of `data` at the end; on `DiskError` the file is as it was before."""

    def write_at(self, position: int, data: Buffer) -> None:
        """Overwrite, growing the file where necessary (a gap reads as zeros)."""

    def truncate(self, size: int) -> None:
        """Cut, or extend with zeros, to exactly `size` bytes."""

    def sync(self) -> None:
        """Return once content and size are on the device (fdatasync)."""

    def size(self) -> int:
        """Current size in bytes."""

    def close(self) -> None:
        """Give the file back; reads that are under way finish undisturbed. A second close does nothing."""


class DiskLock(Protocol):
    """A held lock file."""

    def release(self) -> None:
        """Let others have it. A second release does nothing."""


class Disk(Protocol):
    """A file system."""

    def open(self, path: str, *, create: bool = False, read_only: bool = False) -> File:
        """Open a file for reading and (unless `read_only`) writing; `create` makes an empty one where none is."""

    def make_directories(self, path: str) -> None:
        """Make a directory and its missing parents; fine when it is there already."""

    def list_directory(self, path: str) -> list[str]:
        """Names (not paths) in a directory, sorted."""

    def exists(self, path: str) -> bool:
        """Whether a file or directory of that name is there."""

    def is_directory(self, path: str) -> bool:
        """Whether `path` is there and a directory."""

    def rename(self, old: str, new: str) -> None:
        """Atomically move a file (replacing the target) or a directory (onto nothing or an empty one)."""

    def remove(self, path: str) -> None:
        """Remove a file."""

    def remove_tree(self, path: str) -> None:
        """Remove a directory with all below it; fine when it is not there."""

    def sync_directory(self, path: str) -> None:
        """Return once the names in this directory are on the device."""

    def size(self, path: str) -> int:
        """Size of a file in bytes."""

    def modified_ms(self, path: str) -> int:
        """Time of the last modification, wall clock."""

    def read(self, path: str) -> bytes:
        """A whole file."""

    def replace(self, path: str, data: bytes) -> None:
        """Atomically and durably give a file new content: temporary file, fsync, rename, fsync of the directory."""

    def lock(self, path: str) -> DiskLock:
        """Take a lock file (made when missing) or raise `DiskLockedError`."""

    def free_bytes(self, path: str) -> int:
        """Bytes an unprivileged process may still write to the file system that holds `path`."""

    def make_private(self, path: str) -> None:
        """Let nobody but us read or write a file, where the system knows such a thing."""

    def total_bytes(self, path: str) -> int:
        """Size in bytes of the file system that holds `path`."""
