"""The disk port on a POSIX file system.

Files are read and written by position (`pread`, `pwrite`), never through a shared file offset, so that a worker thread
may read while the event loop appends. The end of a file that is open for writing is kept in memory: its one owner is
the only one who moves it, and a failed append is cut back to it.

The descriptor lives in an object of its own, closed when the last reference goes. A reader holds a reference for
the length of its system call: closing a segment while a worker reads it can not hand the number to another file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sys
from collections.abc import Callable, Iterator

from ottla.core.binary import Buffer
from ottla.runtime.disk import DiskError, DiskLockedError, disk_error
from ottla.runtime.file_range import FileRange, can_send_files, is_cached

# Where preadv2 can not say what is cached (macOS, some file systems), the last bytes of a file are taken as cached.
PRESUMED_CACHED_BYTES = 64 * 1024 * 1024

_READ_NOWAIT = getattr(os, "RWF_NOWAIT", 0)
_NOWAIT_UNSUPPORTED = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENOTSUP})
_fdatasync = getattr(os, "fdatasync", os.fsync)


class RealFile:
    """An open file on a real disk; see `runtime.disk.File`."""

    __slots__ = ("_descriptor", "_end", "_nowait", "path")

    def __init__(self, path: str, descriptor: _Descriptor, end: int | None) -> None:
        self.path = path
        self._descriptor = descriptor
        self._end = end  # None for a read-only file: another one may append to it
        self._nowait = _READ_NOWAIT

    def read_at(self, position: int, size: int) -> bytes:
        descriptor = self._descriptor
        try:
            data = os.pread(descriptor.number, size, position)
            if len(data) == size or not data:
                return data
            pieces = [data]
            remaining = size - len(data)
            while remaining and (data := os.pread(descriptor.number, remaining, position + size - remaining)):
                pieces.append(data)
                remaining -= len(data)
            return b"".join(pieces)
        except OSError as error:
            raise self._error(error) from error

    def read_cached_at(self, position: int, size: int) -> bytes | bytearray | None:
        if not self._nowait:
            return self._read_presumed_cached_at(position, size)
        descriptor = self._descriptor
        # A bytearray is handed out as it is: turning it into bytes would copy a megabyte for nothing.
        data = bytearray(size)
        try:
            count = os.preadv(descriptor.number, (data,), position, self._nowait)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno in _NOWAIT_UNSUPPORTED:
                self._nowait = 0
                return self._read_presumed_cached_at(position, size)
            raise self._error(error) from error
        if count == size:
            return data
        if position + count < self.size():
            return None  # only the first pages were cached
        del data[count:]
        return data

    def cached_range(self, position: int, size: int) -> FileRange | None:
        descriptor = self._descriptor
        if not can_send_files or not is_cached(descriptor.number, position, size):
            return None
        return FileRange(descriptor, position, size)

    def append(self, data: Buffer) -> None:
        end = self.size()
        number = self._descriptor.number
        try:
            written = os.pwrite(number, data, end)
            if written != len(data):
                self._write_rest(memoryview(data), written, end)
        except OSError as error:
            # Should cutting fail as well, the next append still starts at the old end and overwrites the remains.
            with contextlib.suppress(OSError):
                os.ftruncate(number, end)
            raise self._error(error) from error
        self._end = end + len(data)

    def write_at(self, position: int, data: Buffer) -> None:
        try:
            self._write_rest(memoryview(data), 0, position)
        except OSError as error:
            raise self._error(error) from error
        if data:  # writing nothing does not reach out to the position
            self._end = max(self.size(), position + len(data))

    def truncate(self, size: int) -> None:
        try:
            os.ftruncate(self._descriptor.number, size)
        except OSError as error:
            raise self._error(error) from error
        self._end = size

    def sync(self) -> None:
        descriptor = self._descriptor
        try:
            _fdatasync(descriptor.number)
        except OSError as error:
            raise self._error(error) from error

    def size(self) -> int:
        if self._end is not None:
            return self._end
        descriptor = self._descriptor
        try:
            return os.fstat(descriptor.number).st_size
        except OSError as error:
            raise self._error(error) from error

    def close(self) -> None:
        self._descriptor = _CLOSED
        self._end = None

    def _write_rest(self, data: memoryview, written: int, position: int) -> None:
        while written < len(data):
            written += os.pwrite(self._descriptor.number, data[written:], position + written)

    def _read_presumed_cached_at(self, position: int, size: int) -> bytes | None:
        if position < self.size() - PRESUMED_CACHED_BYTES:
            return None
        return self.read_at(position, size)

    def _error(self, error: OSError) -> DiskError:
        return disk_error(error.errno or 0, error.strerror or str(error), self.path)


_CLOSED_NUMBER = 2**31 - 1  # the kernel answers EBADF, which becomes a DiskError


class _Descriptor:
    """Owner of a file descriptor."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    # The names are bound early: when the interpreter shuts down, those of the module are gone.
    def __del__(self, close: Callable[[int], None] = os.close, closed: int = _CLOSED_NUMBER) -> None:
        if self.number != closed:
            close(self.number)


_CLOSED = _Descriptor(_CLOSED_NUMBER)


class RealLock:
    """A lock file held through `flock`, and on Linux through `fcntl` too, which is what Java locks with."""

    __slots__ = ("_number",)

    def __init__(self, path: str) -> None:
        with _errors_of(path):
            number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                # flock excludes another node of this very process, which fcntl locks (one owner: the process) can not.
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if sys.platform == "linux":
                    fcntl.lockf(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(number)
                if error.errno in (errno.EAGAIN, errno.EACCES):
                    raise DiskLockedError(error.errno, "locked by another process", path) from error
                raise
        self._number = number

    def release(self) -> None:
        number, self._number = self._number, -1
        if number >= 0:
            os.close(number)


class RealDisk:
    """The machine's file system; see `runtime.disk.Disk`."""

    __slots__ = ()

    def open(self, path: str, *, create: bool = False, read_only: bool = False) -> RealFile:
        flags = os.O_CLOEXEC | (os.O_RDONLY if read_only else os.O_RDWR) | (os.O_CREAT if create else 0)
        with _errors_of(path):
            descriptor = _Descriptor(os.open(path, flags, 0o644))
            end = None if read_only else os.fstat(descriptor.number).st_size
        return RealFile(path, descriptor, end)

    def make_directories(self, path: str) -> None:
        with _errors_of(path):
            os.makedirs(path, exist_ok=True)

    def list_directory(self, path: str) -> list[str]:
        with _errors_of(path):
            return sorted(os.listdir(path))

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def is_directory(self, path: str) -> bool:
        return os.path.isdir(path)

    def rename(self, old: str, new: str) -> None:
        with _errors_of(old):
            os.rename(old, new)

    def remove(self, path: str) -> None:
        with _errors_of(path):
            os.unlink(path)

    def remove_tree(self, path: str) -> None:
        with _errors_of(path), contextlib.suppress(FileNotFoundError):
            # It brings the compression libraries along, which a start need not load.
            from shutil import rmtree

            rmtree(path)

    def sync_directory(self, path: str) -> None:
        with _errors_of(path):
            number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(number)
            finally:
                os.close(number)

    def size(self, path: str) -> int:
        with _errors_of(path):
            return os.stat(path).st_size

    def modified_ms(self, path: str) -> int:
        with _errors_of(path):
            return os.stat(path).st_mtime_ns // 1_000_000

    def read(self, path: str) -> bytes:
        with _errors_of(path), open(path, "rb") as file:
            return file.read()

    def replace(self, path: str, data: bytes) -> None:
        temporary = path + ".tmp"
        with _errors_of(path):
            number = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            try:
                written = 0
                while written < len(data):
                    written += os.write(number, data[written:])
                os.fsync(number)
            finally:
                os.close(number)
            os.rename(temporary, path)
        self.sync_directory(os.path.dirname(path) or ".")

    def lock(self, path: str) -> RealLock:
        return RealLock(path)

    def free_bytes(self, path: str) -> int:
        with _errors_of(path):
            status = os.statvfs(path)
        return status.f_bavail * status.f_frsize

    def make_private(self, path: str) -> None:
        with _errors_of(path):
            os.chmod(path, 0o600)

    def total_bytes(self, path: str) -> int:
        with _errors_of(path):
            status = os.statvfs(path)
        return status.f_blocks * status.f_frsize


@contextlib.contextmanager
def _errors_of(path: str) -> Iterator[None]:
    """Turn every OSError into a DiskError that names `path`."""
    try:
        yield
    except DiskError:
        raise
    except OSError as error:
        raise disk_error(error.errno or 0, error.strerror or str(error), path) from error
