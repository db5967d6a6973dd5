"""Walking over batch headers in a records file, without reading the records."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

from ottla.records.batch import HEADER_SIZE, BatchHeader, CorruptRecordError, parse_header
from ottla.server.log.indexes import WouldBlockError

ReadAt: TypeAlias = Callable[[int, int], bytes | bytearray | None]
"""Bytes at a position; None when that would have to wait for the device."""

SCAN_BYTES = 4096

# base offset, batch length, magic, last offset delta
_HEADER = struct.Struct(">qi4xb6xi")
_SMALLEST_LENGTH = 14


class FoundBatch(NamedTuple):
    """Where a batch lies in its file."""

    position: int
    size: int
    base_offset: int


def find_batch(read_at: ReadAt, position: int, end: int, offset: int) -> FoundBatch | None:
    """The first batch from `position` on whose last offset is at or above `offset`; None when there is none before
    `end`.

    Raises `WouldBlockError` when `read_at` gives up, `CorruptRecordError` on a size that can not be.
    """
    unpack = _HEADER.unpack_from
    header_size = _HEADER.size
    while end - position >= header_size - 1:  # the smallest legacy message has a byte less than what is unpacked
        chunk = read_at(position, min(SCAN_BYTES, end - position))
        if chunk is None:
            raise WouldBlockError
        if position + len(chunk) >= end:
            chunk = bytes(chunk) + b"\0"
        at = 0
        limit = len(chunk) - header_size
        while at <= limit:
            base_offset, length, magic, last_offset_delta = unpack(chunk, at)
            last_offset = base_offset + last_offset_delta if magic >= 2 else base_offset
            if last_offset >= offset:
                return FoundBatch(position + at, length + 12, base_offset)
            if length < _SMALLEST_LENGTH:
                raise CorruptRecordError(f"batch length {length} at byte {position + at}")
            at += length + 12
        if at == 0:
            return None
        position += at
    return None


def batch_headers(
    read_at: Callable[[int, int], bytes], position: int, end: int, *, chunk_bytes: int = 64 * 1024
) -> Iterator[tuple[int, BatchHeader]]:
    """Position and header of every batch in a range that is known to hold whole batches."""
    while position < end:
        chunk = read_at(position, min(chunk_bytes, end - position))
        at = 0
        while at < len(chunk):
            if len(chunk) - at < HEADER_SIZE and position + len(chunk) < end:
                break
            header = parse_header(chunk, at)
            yield position + at, header
            at += header.size_in_bytes
        if at == 0:
            raise CorruptRecordError(f"a batch header at byte {position} is cut off")
        position += at
