"""An open file of an encrypted disk, and what all open files of the same name share."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from errno import EIO
from typing import TYPE_CHECKING, Protocol

from ottla.core.binary import Buffer
from ottla.runtime.disk import Disk, DiskError, File, disk_error
from ottla.runtime.encryption.header import (
    HEADER_BYTES,
    Header,
    HeaderError,
    RandomBytes,
    is_encrypted,
    is_void,
    read_header,
)
from ottla.runtime.encryption.keystream import FOREVER
from ottla.runtime.file_range import FileRange

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers import CipherContext

PIECE_BYTES = 1024 * 1024


class _FullHeaderError(Exception):
    """There is no place for another extent; nothing has happened yet that could not be done again."""


class Keys(Protocol):
    """Key-encryption keys by id. Any thread may ask."""

    def current(self, path: str) -> tuple[bytes, bytes] | None:
        """Id and key for a new file of this name; None when it is to be a plain one."""

    def find(self, key_id: bytes) -> bytes | None:
        """The key of an id, None when nobody knows it."""


class Layout:
    """What is known of the bytes of one file on the inner disk: plain, encrypted (`header`), or nothing yet.

    `used_to` is how far the keystream of the last extent was used up, -1 when this process did not begin it; `stream`
    goes on there.
    """

    __slots__ = ("header", "is_plain", "stream", "used_to")

    def __init__(self, *, is_plain: bool = False, header: Header | None = None) -> None:
        self.is_plain = is_plain
        self.header = header
        self.used_to = -1
        self.stream: CipherContext | None = None

    @classmethod
    def of(cls, page: bytes, keys: Keys, path: str) -> Layout:
        """Of a file that begins with this page. Raises `DiskError`."""
        if is_void(page):
            return cls()
        if not is_encrypted(page):
            return cls(is_plain=True)
        if len(page) < HEADER_BYTES:
            raise disk_error(EIO, "it ends in its encryption header", path)
        try:
            return cls(header=read_header(page, keys.find))
        except HeaderError as error:
            raise disk_error(EIO, str(error), path) from None


class Content:
    """The file behind a name, shared by all who have it open. Who changes it, or its layout, holds the lock.

    `changes` counts what a copy that is being made would not notice: everything but appends. `copies` counts how often
    a copy took the file's place.
    """

    __slots__ = ("__weakref__", "changes", "copies", "handles", "layout", "lock", "path")

    def __init__(self, path: str) -> None:
        self.path: str | None = path
        """Where it is now; None when it was removed, or another file took its name."""
        self.lock = threading.RLock()
        self.layout: Layout | None = None
        self.changes = 0
        self.copies = 0
        self.handles: list[weakref.ref[EncryptedFile]] = []

    def loaded(self, inner: File, keys: Keys) -> Layout:
        """The layout, read when it is not known. Raises `DiskError`."""
        layout = self.layout
        if layout is None:
            with self.lock:
                if self.layout is None:
                    self.layout = Layout.of(inner.read_at(0, HEADER_BYTES), keys, inner.path)
                layout = self.layout
        return layout

    def open_handles(self) -> list[EncryptedFile]:
        """The files that are open; the lock is held."""
        alive = [(reference, file) for reference in self.handles if (file := reference()) is not None]
        self.handles = [reference for reference, _ in alive]
        return [file for _, file in alive]


class EncryptedFile:
    """See `runtime.disk.File`; it is made with the lock of `content` held.

    Reads take what they need at once, and go on undisturbed by whoever writes.
    """

    __slots__ = ("__weakref__", "_bound", "_content", "_keys", "_random_bytes", "_rewrite", "path", "read_only")

    def __init__(
        self,
        content: Content,
        inner: File,
        keys: Keys,
        random_bytes: RandomBytes,
        rewrite: Callable[[str], None],
        *,
        read_only: bool,
    ) -> None:
        self.path = inner.path
        self.read_only = read_only
        self._content = content
        self._keys = keys
        self._random_bytes = random_bytes
        self._rewrite = rewrite
        self._bound = (inner, content.loaded(inner, keys))
        content.handles.append(weakref.ref(self))

    # --- reading

    def read_at(self, position: int, size: int) -> bytes:
        inner, layout = self._bound
        if layout.is_plain:
            return inner.read_at(position, size)
        header = layout.header
        if header is None:
            return inner.read_at(0, 0)
        data = inner.read_at(position + HEADER_BYTES, size)
        return header.keystream.decrypted_bytes(data, position) if data else data

    def read_cached_at(self, position: int, size: int) -> bytes | bytearray | None:
        inner, layout = self._bound
        if layout.is_plain:
            return inner.read_cached_at(position, size)
        header = layout.header
        if header is None:
            return inner.read_cached_at(0, 0)
        data = inner.read_cached_at(position + HEADER_BYTES, size)
        return header.keystream.decrypted(data, position) if data else data

    def cached_range(self, position: int, size: int) -> FileRange | None:
        inner, layout = self._bound
        if layout.is_plain:
            return inner.cached_range(position, size)
        header = layout.header
        found = None if header is None else inner.cached_range(position + HEADER_BYTES, size)
        return None if found is None or header is None else found.decrypted_by(header.decrypt_in_place)

    def size(self) -> int:
        inner, layout = self._bound
        size = inner.size()
        if layout.is_plain:
            return size
        return 0 if layout.header is None else max(0, size - HEADER_BYTES)

    def sync(self) -> None:
        self._bound[0].sync()

    def close(self) -> None:
        content = self._content
        with content.lock:
            self._bound[0].close()
            content.handles = [reference for reference in content.handles if reference() not in (self, None)]

    # --- writing

    def append(self, data: Buffer) -> None:
        try:
            with self._content.lock:
                self._append(data)
        except _FullHeaderError:
            self._rewrite(self._content.path or self.path)
            self.append(data)

    def write_at(self, position: int, data: Buffer) -> None:
        try:
            with self._content.lock:
                self._write_at(position, data)
        except _FullHeaderError:
            self._rewrite(self._content.path or self.path)
            self.write_at(position, data)

    def truncate(self, size: int) -> None:
        try:
            with self._content.lock:
                self._truncate(size)
        except _FullHeaderError:
            self._rewrite(self._content.path or self.path)
            self.truncate(size)

    def rewrap(self) -> bool:
        """Have the current key wrap the data key, durably; whether that was to be done, and was. Raises `DiskError`."""
        inner, layout = self._bound
        header = layout.header
        key = self._keys.current(self.path)
        if header is None or key is None or header.key_id == key[0]:
            return False
        inner.sync()  # one of both places is always readable: what is there must be on the device
        for write in header.rewrapped(key[0], key[1], self._random_bytes):
            with self._content.lock:
                if self._bound[1] is not layout or layout.header is not header:
                    return False
                inner.write_at(write.position, write.data)
            inner.sync()
        header.key_id = key[0]
        return True

    def _append(self, data: Buffer) -> None:
        inner, layout = self._bound
        header = layout.header
        if layout.is_plain or not data:
            inner.append(data)
            return
        if header is None:
            self._begin(inner, layout, data)
            return
        end = inner.size() - HEADER_BYTES
        if layout.used_to < 0 or end < layout.used_to:
            self._unseal(inner, layout)
            self._add_extent(inner, header, end, FOREVER)
            layout.stream = None
        stream = layout.stream
        if stream is None or layout.used_to != end:
            stream = layout.stream = header.keystream.stream(end)
        # Should the append fail, some of it may be on the device all the same: this keystream is used up.
        layout.used_to = end + len(data)
        inner.append(stream.update(data))

    def _write_at(self, position: int, data: Buffer) -> None:
        inner, layout = self._bound
        self._content.changes += 1
        if layout.is_plain or not data:
            inner.write_at(position, data)
            return
        end = self.size()
        if position > end:
            self._extend(position)
            end = position
        over = min(len(data), end - position)
        if over:
            self._overwrite(position, data[:over])
        if over < len(data):
            self._append(data[over:])

    def _truncate(self, size: int) -> None:
        inner, layout = self._bound
        self._content.changes += 1
        if layout.is_plain:
            inner.truncate(size)
        elif size == 0:
            inner.truncate(0)
            layout.header = None
        elif size > self.size():
            self._extend(size)
        else:
            self._unseal(inner, layout)
            inner.truncate(HEADER_BYTES + size)

    def _begin(self, inner: File, layout: Layout, data: Buffer) -> None:
        """The first bytes of an empty file: the header goes with them."""
        key = self._keys.current(self._content.path or self.path)
        if inner.size():
            inner.truncate(0)  # a first write that was torn
        if key is None:
            inner.append(data)
            layout.is_plain = True
            return
        header = Header.new(key[0], self._random_bytes)
        block = bytearray(HEADER_BYTES + len(data))
        block[:HEADER_BYTES] = header.page(key[1], self._random_bytes)
        header.keystream.apply(data, memoryview(block)[HEADER_BYTES:], 0)
        inner.append(block)
        layout.header, layout.used_to, layout.stream = header, len(data), None

    def _overwrite(self, position: int, data: Buffer) -> None:
        inner, layout = self._bound
        header = layout.header
        assert header is not None, "an empty file has nothing to overwrite"
        self._unseal(inner, layout)
        before = header.keystream.extents
        self._add_extent(inner, header, position, position + len(data))
        scratch = bytearray(len(data))
        header.keystream.apply(data, scratch, position)
        try:
            inner.write_at(HEADER_BYTES + position, scratch)
        except DiskError:
            header.keystream.extents = before
            raise

    def _add_extent(self, inner: File, header: Header, start: int, end: int) -> None:
        before = header.keystream.extents
        write = header.add_extent(start, end, self._random_bytes)
        if write is None:
            raise _FullHeaderError
        try:
            inner.write_at(write.position, write.data)
        except DiskError:
            header.keystream.extents = before
            raise

    def _extend(self, size: int) -> None:
        """Zeros up to `size`; the file is as it was when that fails."""
        start = position = self.size()
        try:
            while position < size:
                count = min(PIECE_BYTES, size - position)
                self._append(bytes(count))
                position += count
        except DiskError:
            with suppress(DiskError):
                self._bound[0].truncate(0 if start == 0 else start + HEADER_BYTES)
            raise

    def _unseal(self, inner: File, layout: Layout) -> None:
        """A file that was written whole is about to be changed: its code does not hold any more."""
        header = layout.header
        if header is None or header.seal is None:
            return
        key = self._keys.find(header.key_id)
        assert key is not None, "its data key was unwrapped"
        header.seal = None
        for write in header.rewrapped(header.key_id, key, self._random_bytes):
            inner.write_at(write.position, write.data)
            inner.sync()

    # --- another file takes this one's place

    def rebind(self, disk: Disk, path: str, layout: Layout) -> None:
        """Go on with the file at `path`, which has the same content; the content's lock is held."""
        before = self._bound[0]
        self._bound = (disk.open(path, read_only=self.read_only), layout)
        before.close()
