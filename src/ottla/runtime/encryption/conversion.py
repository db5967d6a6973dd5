"""Rewriting files while they are used: plain ones encrypted, encrypted ones plain, or under another key.

A file is copied next to itself, the copy takes its name, and all who have it open go on with the copy. Only for the
last piece, what was appended meanwhile, do writers wait.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from contextlib import suppress

from ottla.runtime.disk import Disk, DiskError, MissingFileError
from ottla.runtime.encryption.disk import TEMPORARY_SUFFIX, EncryptedDisk
from ottla.runtime.encryption.file import PIECE_BYTES, Content, EncryptedFile
from ottla.runtime.encryption.header import HEADER_BYTES, is_encrypted, is_void, read_key_id

ATTEMPTS = 3


class FileState:
    """What kind of file one is: `key_id` None means plain. Needs no key."""

    __slots__ = ("is_void", "key_id", "physical_bytes")

    def __init__(self, page: bytes, physical_bytes: int) -> None:
        self.is_void = is_void(page)
        self.key_id = read_key_id(page) if is_encrypted(page) and not self.is_void else None
        self.physical_bytes = physical_bytes

    @property
    def is_plain(self) -> bool:
        """Whether it has content that anybody can read."""
        return self.key_id is None and not self.is_void


def state_of(disk: Disk, path: str) -> FileState:
    """What a file is on a disk that does not decrypt. Raises `DiskError`."""
    file = disk.open(path, read_only=True)
    try:
        return FileState(file.read_at(0, HEADER_BYTES), file.size())
    finally:
        file.close()


class _UnwantedError(Exception):
    """Somebody wants the conversion to end."""


class Conversion:
    """Copies one file to what the keys say that new files are: encrypted, or plain. Any thread may `run` it.

    It ends, leaving the file as it is, when it `is_wanted` no more.
    """

    def __init__(self, disk: EncryptedDisk, path: str, is_wanted: Callable[[], bool] = lambda: True) -> None:
        self._disk = disk
        self._is_wanted = is_wanted
        self._path = path
        self._temporary = path + TEMPORARY_SUFFIX

    def run(self) -> bool:
        """Whether the file is converted; it is not when it was removed, renamed, or changed again and again.

        Raises `DiskError`; then the file is what it was.
        """
        for _ in range(ATTEMPTS):
            try:
                if self._attempt():
                    return True
            except (MissingFileError, _UnwantedError):
                return False
            finally:
                with suppress(DiskError):
                    self._disk.inner.remove(self._temporary)
        return False

    def _attempt(self) -> bool:
        disk = self._disk
        with disk.names:
            source = disk.open_file(self._path, read_only=True)
            content = disk.content(self._path)
        try:
            changes = content.changes
            with suppress(MissingFileError):
                disk.inner.remove(self._temporary)  # of an attempt that a crash ended
            target = disk.open_file(self._temporary, create=True)
            try:
                copied = self._copy(source, target, 0)
                target.sync()
                with disk.names, content.lock:
                    if content.changes != changes or content.path != posixpath.normpath(self._path):
                        return False
                    self._copy(source, target, copied)
                    self._take_place(content, target)
                    return True
            finally:
                target.close()
        finally:
            source.close()

    def _copy(self, source: EncryptedFile, target: EncryptedFile, position: int) -> int:
        while data := source.read_at(position, PIECE_BYTES):
            if not self._is_wanted():
                raise _UnwantedError
            target.append(data)
            position += len(data)
        return position

    def _take_place(self, content: Content, target: EncryptedFile) -> None:
        """The copy is complete: make it durable under the name, and have everybody go on with it."""
        disk = self._disk
        target.sync()
        copy = disk.content(self._temporary)
        layout = copy.layout
        assert layout is not None
        disk.inner.rename(self._temporary, self._path)
        disk.forget(self._temporary)
        content.layout = layout
        content.copies += 1
        for handle in content.open_handles():
            handle.rebind(disk.inner, self._path, layout)
        # What is appended from now on may be synced at once: the name must lead to it after a crash.
        disk.inner.sync_directory(posixpath.dirname(self._path) or ".")


def rewrap(disk: EncryptedDisk, path: str) -> bool:
    """Have the current key wrap a file's data key; whether there was anything to do. Raises `DiskError`."""
    try:
        file = disk.open_file(path)
    except MissingFileError:
        return False
    try:
        return file.rewrap()
    finally:
        file.close()
