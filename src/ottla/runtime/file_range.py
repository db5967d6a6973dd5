"""Bytes of a file that the kernel sends to a socket by itself (sendfile), without a copy through the process.

Sending from the page cache must not wait for the device on the event loop, so a range is made only when all of its
pages are cached, which Linux tells since 6.5 (`cachestat`). Where it does not, there are no ranges and files are read.

The range of an encrypted file comes into the process, a piece at a time, and is decrypted in place there: the room for
a piece stays in the processor's cache, and a slow reader costs no memory.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from ottla.core.binary import Buffer

_CACHESTAT = 451  # the number of the system call, on every architecture but alpha
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MORE = getattr(socket, "MSG_MORE", 0)
can_send_files = hasattr(os, "sendfile") and bool(_MORE)
PIECE_BYTES = 64 * 1024
"""So much of an encrypted file is decrypted at a time."""

Decrypt = Callable[[memoryview, int], None]
"""Make plain bytes of what stands at this position of the file, in place."""


class Descriptor(Protocol):
    """A file descriptor that stays open as long as this object lives."""

    number: int


class FileRange:
    """`size` bytes of a file from `position`; keeps the file open. Its `len` is its size, as with a buffer.

    What is there is not what is meant where there is `decrypt`.
    """

    __slots__ = ("_descriptor", "decrypt", "position", "size")

    def __init__(self, descriptor: Descriptor, position: int, size: int, decrypt: Decrypt | None = None) -> None:
        self._descriptor = descriptor
        self.position = position
        self.size = size
        self.decrypt = decrypt

    def __len__(self) -> int:
        return self.size

    @property
    def number(self) -> int:
        """The file descriptor."""
        return self._descriptor.number

    def after(self, count: int) -> FileRange:
        """What is left behind the first `count` bytes."""
        return FileRange(self._descriptor, self.position + count, self.size - count, self.decrypt)

    def decrypted_by(self, decrypt: Decrypt) -> FileRange:
        """The same range of a file that is encrypted."""
        return FileRange(self._descriptor, self.position, self.size, decrypt)

    def read_into(self, room: memoryview) -> int:
        """Read the first bytes, about as many as there is room for; how many. Raises OSError."""
        count = os.preadv(self.number, [room[: self.size]], self.position)
        if not count:
            raise OSError(errno.EIO, "the file is shorter than it was")
        if self.decrypt is not None:
            beyond = (self.position + count) % _PAGE
            if count < self.size and beyond < count:
                count -= beyond  # the next piece begins with a page: what was never written is recognized by its start
            self.decrypt(room[:count], self.position)
        return count

    def read(self) -> bytes:
        """The bytes themselves. Raises OSError."""
        if self.decrypt is not None:
            data = bytearray(self.size)
            room, part = memoryview(data), self
            while part.size:
                part = part.after(part.read_into(room[self.size - part.size :]))
            return bytes(data)
        pieces = []
        position, left = self.position, self.size
        while left:
            piece = os.pread(self.number, left, position)
            if not piece:
                raise OSError(errno.EIO, "the file is shorter than it was")
            pieces.append(piece)
            position += len(piece)
            left -= len(piece)
        return b"".join(pieces)


class _Room(threading.local):
    """For a piece of what is encrypted; empty again before anybody else of the thread has a turn."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(PIECE_BYTES))


_room: _Room | None = None


class FileSender:
    """Sends buffers and file ranges on the socket of a transport whose own write buffer is empty.

    It works on a duplicate of the descriptor, so that it can wait for the socket beside the transport.
    """

    __slots__ = ("_loop", "_offset", "_on_done", "_parts", "_socket", "_waiting")

    def __init__(self, number: int, loop: AbstractEventLoop) -> None:
        self._socket = socket.socket(fileno=os.dup(number))
        self._loop = loop
        self._parts: deque[Buffer | FileRange] = deque()
        self._offset = 0
        self._on_done: Callable[[OSError | None], None] | None = None
        self._waiting = False

    @property
    def is_busy(self) -> bool:
        """True until everything given to `send` is with the kernel."""
        return bool(self._parts)

    def send(self, parts: Sequence[Buffer | FileRange], on_done: Callable[[OSError | None], None]) -> bool:
        """Send all of it. True when that is done at once; otherwise `on_done` is called later, with what went wrong."""
        assert not self._parts, "one response at a time"
        self._parts.extend(part for part in parts if len(part))
        self._on_done = on_done
        if self._push():
            return True
        self._waiting = True
        self._loop.add_writer(self._socket.fileno(), self._writable)
        return False

    def close(self) -> None:
        """Give everything up."""
        self._stop_waiting()
        self._parts.clear()
        self._on_done = None
        self._socket.close()

    def _writable(self) -> None:
        error: OSError | None = None
        try:
            if not self._push():
                return
        except OSError as problem:
            error = problem
            self._parts.clear()
        self._stop_waiting()
        on_done, self._on_done = self._on_done, None
        if on_done is not None:
            on_done(error)

    def _push(self) -> bool:
        parts, sock = self._parts, self._socket
        while parts:
            part: Any = parts[0]
            offset = self._offset
            try:
                if part.__class__ is FileRange and part.decrypt is None:
                    sent = os.sendfile(sock.fileno(), part.number, part.position + offset, part.size - offset)
                    if not sent:
                        raise OSError(errno.EIO, "the file is shorter than it was")
                elif part.__class__ is FileRange:
                    sent = self._send_decrypted(part.after(offset), len(parts) > 1)
                else:
                    sent = sock.send(memoryview(part)[offset:], _MORE if len(parts) > 1 else 0)
            except (BlockingIOError, InterruptedError):
                return False
            self._offset = offset + sent
            if self._offset == len(part):
                parts.popleft()
                self._offset = 0
        return True

    def _send_decrypted(self, part: FileRange, more: bool) -> int:
        """Send the first bytes. What the socket does not take is decrypted again later, and kept nowhere."""
        global _room
        if _room is None:
            _room = _Room()
        room = _room.view
        count = part.read_into(room)
        return self._socket.send(room[:count], _MORE if more or count < part.size else 0)

    def _stop_waiting(self) -> None:
        if self._waiting:
            self._waiting = False
            self._loop.remove_writer(self._socket.fileno())


def is_cached(number: int, position: int, size: int) -> bool:
    """Whether the page cache holds all of these bytes; False also where the kernel does not tell."""
    global _count_cached_pages
    if _count_cached_pages is None:
        _count_cached_pages = _page_counter()
    wanted = (position + size - 1) // _PAGE - position // _PAGE + 1
    return _count_cached_pages(number, position, size) >= wanted


_count_cached_pages: Callable[[int, int, int], int] | None = None


def _page_counter() -> Callable[[int, int, int], int]:
    """A function (descriptor, position, size) → number of cached pages; always 0 where there is no cachestat."""
    import ctypes

    try:
        syscall = ctypes.CDLL(None, use_errno=True).syscall
    except (OSError, AttributeError):
        return lambda number, position, size: 0
    wanted = (ctypes.c_uint64 * 2)()
    found = (ctypes.c_uint64 * 5)()
    call, wanted_at, found_at = ctypes.c_long(_CACHESTAT), ctypes.byref(wanted), ctypes.byref(found)

    def count(number: int, position: int, size: int) -> int:
        wanted[0] = position
        wanted[1] = size
        return int(found[0]) if syscall(call, number, wanted_at, found_at, 0) == 0 else 0

    return count
