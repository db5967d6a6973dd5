"""`EncryptedDisk`: a disk port over another one, on which everything it writes is encrypted."""

from __future__ import annotations

import posixpath
import secrets
import threading
from collections import OrderedDict
from collections.abc import Collection
from errno import EIO
from typing import Final
from weakref import WeakValueDictionary

from ottla.runtime.disk import Disk, DiskError, DiskLock, File, disk_error
from ottla.runtime.encryption.file import Content, EncryptedFile, Keys, Layout
from ottla.runtime.encryption.header import HEADER_BYTES, Header, RandomBytes

TEMPORARY_SUFFIX: Final = ".recrypting"
"""Of a file that is being rewritten; nobody sees it through this disk."""

REMEMBERED_FILES = 16_384
"""Files of which the header is remembered while nobody has them open: they are opened again without reading it, and
appended to without a new extent."""


class EncryptedDisk:
    """See `runtime.disk.Disk`. Files whose names are among `plain_names` are left alone.

    `names` is held for every change of names, and where a name and the file behind it must not part.
    """

    def __init__(
        self,
        inner: Disk,
        keys: Keys,
        *,
        plain_names: Collection[str] = (),
        random_bytes: RandomBytes = secrets.token_bytes,
    ) -> None:
        self.inner = inner
        self.keys = keys
        self.names = threading.RLock()
        self.random_bytes = random_bytes
        self._plain_names = frozenset(plain_names)
        self._contents: WeakValueDictionary[str, Content] = WeakValueDictionary()
        self._recent: OrderedDict[str, Content] = OrderedDict()

    # --- files

    def open(self, path: str, *, create: bool = False, read_only: bool = False) -> File:
        if self.is_plain_name(path):
            return self.inner.open(path, create=create, read_only=read_only)
        return self.open_file(path, create=create, read_only=read_only)

    def open_file(self, path: str, *, create: bool = False, read_only: bool = False) -> EncryptedFile:
        """`open` of a file that is not among those left alone."""
        while True:
            with self.names:
                inner = self.inner.open(path, create=create, read_only=read_only)
                content = self.content(path)
                copies = content.copies
            try:
                with content.lock:
                    if content.copies == copies:
                        return EncryptedFile(
                            content, inner, self.keys, self.random_bytes, self._rewrite, read_only=read_only
                        )
            except DiskError:
                inner.close()
                raise
            inner.close()  # another file has taken the place of this one meanwhile

    def size(self, path: str) -> int:
        with self.names:
            physical = self.inner.size(path)
            if self.is_plain_name(path) or not physical:
                return physical
            layout = self.content(path).layout
        if layout is None:
            file = self.open(path, read_only=True)
            try:
                return file.size()
            finally:
                file.close()
        if layout.is_plain:
            return physical
        return 0 if layout.header is None else max(0, physical - HEADER_BYTES)

    def read(self, path: str) -> bytes:
        data = self.inner.read(path)
        if self.is_plain_name(path):
            return data
        layout = Layout.of(data[:HEADER_BYTES], self.keys, path)
        if layout.is_plain:
            return data
        if layout.header is None:
            return b""
        ciphertext = data[HEADER_BYTES:]
        if not layout.header.is_sealed_as(ciphertext):
            raise disk_error(EIO, "its content is not what was written: it was damaged, or changed by others", path)
        return layout.header.keystream.decrypted_bytes(ciphertext, 0)

    def replace(self, path: str, data: bytes) -> None:
        key = None if self.is_plain_name(path) else self.keys.current(path)
        if key is not None:
            header = Header.new(key[0], self.random_bytes)
            ciphertext = bytearray(len(data))
            header.keystream.apply(data, ciphertext, 0)
            header.seal = header.seal_for(ciphertext)
            data = header.page(key[1], self.random_bytes) + ciphertext
        with self.names:
            try:
                self.inner.replace(path, data)
            finally:
                self.forget(path)  # when it failed late, nobody knows which of both is there

    # --- names

    def rename(self, old: str, new: str) -> None:
        with self.names:
            self.inner.rename(old, new)
            source, target = _normal(old), _normal(new)
            if source == target:
                return
            content = self._contents.pop(source, None)
            self._recent.pop(source, None)
            if content is not None:
                self.forget(target)
                self._remember(target, content)
            elif self.inner.is_directory(new):
                self._move_below(source + "/", target + "/")
            else:
                self.forget(target)

    def _move_below(self, source: str, target: str) -> None:
        for path in sorted(self._contents.keys()):
            if path.startswith(source) and (content := self._contents.pop(path, None)) is not None:
                self._recent.pop(path, None)
                self._remember(target + path[len(source) :], content)

    def remove(self, path: str) -> None:
        with self.names:
            self.inner.remove(path)
            self.forget(path)

    def remove_tree(self, path: str) -> None:
        with self.names:
            try:
                self.inner.remove_tree(path)
            finally:
                below = _normal(path) + "/"
                for name in sorted(self._contents.keys()):
                    if name.startswith(below) and not self.inner.exists(name):
                        self.forget(name)

    def list_directory(self, path: str) -> list[str]:
        return [name for name in self.inner.list_directory(path) if not name.endswith(TEMPORARY_SUFFIX)]

    def make_directories(self, path: str) -> None:
        self.inner.make_directories(path)

    def exists(self, path: str) -> bool:
        return self.inner.exists(path)

    def is_directory(self, path: str) -> bool:
        return self.inner.is_directory(path)

    def sync_directory(self, path: str) -> None:
        self.inner.sync_directory(path)

    def modified_ms(self, path: str) -> int:
        return self.inner.modified_ms(path)

    def lock(self, path: str) -> DiskLock:
        return self.inner.lock(path)

    def free_bytes(self, path: str) -> int:
        return self.inner.free_bytes(path)

    def make_private(self, path: str) -> None:
        self.inner.make_private(path)

    def total_bytes(self, path: str) -> int:
        return self.inner.total_bytes(path)

    # --- what is known of files

    def is_plain_name(self, path: str) -> bool:
        """Whether files of this name are left alone."""
        return posixpath.basename(path) in self._plain_names

    def content(self, path: str) -> Content:
        """What is shared by all who have the file open; `names` is held."""
        name = _normal(path)
        content = self._contents.get(name)
        if content is None:
            content = Content(name)
        self._remember(name, content)
        return content

    def _remember(self, name: str, content: Content) -> None:
        content.path = name
        self._contents[name] = content
        self._recent[name] = content
        self._recent.move_to_end(name)
        if len(self._recent) > REMEMBERED_FILES:
            self._recent.popitem(last=False)

    def forget(self, path: str) -> None:
        """Another file takes this name, or none; `names` is held."""
        name = _normal(path)
        self._recent.pop(name, None)
        content = self._contents.pop(name, None)
        if content is not None:
            content.path = None

    def _rewrite(self, path: str) -> None:
        """A header is full of extents: copy the file, in which there is one then."""
        from ottla.runtime.encryption.conversion import Conversion

        if not Conversion(self, path).run():
            raise disk_error(EIO, "its encryption header is full, and it cannot be rewritten", path)


def _normal(path: str) -> str:
    return posixpath.normpath(path)
