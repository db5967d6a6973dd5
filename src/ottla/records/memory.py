"""Raw memory, under names that mean the same in both forms of a hot module.

Plain Python sees here what it can do with buffers; a compiled module takes the C twins from `memory.pxd` instead, where
a *view* is a bare pointer. Both are indexed, sliced and assigned to with the same syntax, so a hot module is written
once. A pointer knows no bounds: whoever indexes has compared with a length before. A view must not be held while its
buffer is resized.
"""

from __future__ import annotations

from typing import Any

from ottla.core.binary import Buffer

View = Any
"""Something to index: a buffer, or a pointer."""


def held(buffer: Buffer) -> Any:
    """What to keep so that `readable(...)` stays valid: its slices are bytes."""
    return bytes(buffer)


def readable(held_buffer: View) -> View:
    """A view of the bytes that `held` keeps."""
    return held_buffer


def writable(buffer: bytearray) -> View:
    """A view of the bytes of `buffer`, to be written."""
    return buffer


def int32s(buffer: bytearray) -> View:
    """A view of `buffer` as native 32-bit integers."""
    return memoryview(buffer).cast("i")


def int64s(buffer: bytearray) -> View:
    """A view of `buffer` as native 64-bit integers."""
    return memoryview(buffer).cast("q")


def bytes_of(view: memoryview) -> View:
    """A view of what a memoryview of bytes shows."""
    return view


def int32s_of(view: memoryview) -> View:
    """A view of what a memoryview of bytes shows, as native 32-bit integers."""
    return view.cast("i")


def int64s_of(view: memoryview) -> View:
    """A view of what a memoryview of bytes shows, as native 64-bit integers."""
    return view.cast("q")


def copy(target: View, position: int, source: View, start: int, length: int) -> None:
    """Copy `length` bytes of `source` from `start` on to `target` at `position`; both are there in full."""
    target[position : position + length] = source[start : start + length]


def resize(buffer: bytearray, size: int) -> None:
    """Make `buffer` `size` bytes long; what is new is undefined."""
    missing = size - len(buffer)
    if missing > 0:
        buffer.extend(bytes(missing))
    else:
        del buffer[size:]


def read_varint(data: View, position: int, end: int) -> tuple[int, int]:
    """A zigzag varint of at most 64 bits and the position after it; position -1 when there is none before `end`.

    A negative `position` stays one, so that a chain of reads needs only one check.
    """
    value = shift = 0
    while 0 <= position < end and shift < 70:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                break
            return value >> 1 ^ -(value & 1), position
        shift += 7
    return 0, -1
