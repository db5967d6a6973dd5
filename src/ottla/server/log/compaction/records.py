"""Encoded records of v2 batches, taken apart as far as compaction needs it, and put together from the same bytes."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from ottla.core.checksum import crc32c
from ottla.records.batch import (
    COMPRESSION_MASK,
    CRC_POSITION,
    CRC_START,
    DELETE_HORIZON_FLAG,
    HEADER,
    HEADER_SIZE,
    LENGTH_END,
    LOG_APPEND_TIME_FLAG,
    NO_TIMESTAMP,
    BatchHeader,
    CorruptRecordError,
)
from ottla.records.compression import compress

_CRC = struct.Struct(">I")

NULL_LENGTH = 1  # the varint of -1: of a key or value that is not there


class Records(NamedTuple):
    """Records side by side: where each starts (and, last, where the last one ends), offset deltas, keys; `tombstones`
    are indexes.
    """

    starts: list[int]
    deltas: list[int]
    keys: list[bytes | None]
    tombstones: list[int]


def split_records(data: bytes, position: int, end: int) -> Records:
    """Find every record. Raises `CorruptRecordError`."""
    starts: list[int] = []
    deltas: list[int] = []
    keys: list[bytes | None] = []
    tombstones: list[int] = []
    try:
        while position < end:
            starts.append(position)
            size = data[position]
            position += 1
            if size > 127:
                size, position = read_rest(data, position, size & 127, 7)
            following = position + (size >> 1)
            position += 1
            while data[position] > 127:
                position += 1
            delta = data[position + 1]
            position += 2
            if delta > 127:
                delta, position = read_rest(data, position, delta & 127, 7)
            deltas.append(delta >> 1)
            length = data[position]
            position += 1
            if length > 127:
                length, position = read_rest(data, position, length & 127, 7)
            if length & 1:
                keys.append(None)
                length = 0
            else:
                keys.append(data[position : position + (length >> 1)])
            key_end = position + (length >> 1)
            if key_end >= following:
                raise CorruptRecordError("the key of a record is longer than the record")
            if data[key_end] == NULL_LENGTH:
                tombstones.append(len(starts) - 1)
            position = following
    except IndexError:
        raise CorruptRecordError("record is cut off") from None
    if position != end:
        raise CorruptRecordError("the records do not end where the batch does")
    starts.append(end)
    return Records(starts, deltas, keys, tombstones)


class Kept(NamedTuple):
    """Records of a batch that stay: their places in the data, neighbours in one piece, and what a header says of
    them. `newest` is the largest timestamp delta.
    """

    pieces: list[tuple[int, int]]
    records_count: int
    newest: int


def records_at(data: bytes, starts: Sequence[int], end: int) -> Kept:
    """The records that start at these places (ascending, one at least). Raises `CorruptRecordError`."""
    pieces: list[tuple[int, int]] = []
    piece_start = piece_end = -1
    newest: int | None = None
    try:
        for start in starts:
            size = data[start]
            position = start + 1
            if size > 127:
                size, position = read_rest(data, position, size & 127, 7)
            timestamp_delta = data[position + 1]
            if timestamp_delta > 127:
                timestamp_delta, _ = read_rest(data, position + 2, timestamp_delta & 127, 7)
            timestamp_delta = timestamp_delta >> 1 ^ -(timestamp_delta & 1)
            if newest is None or timestamp_delta > newest:
                newest = timestamp_delta
            position += size >> 1
            if start == piece_end:
                piece_end = position
            else:
                if piece_end >= 0:
                    pieces.append((piece_start, piece_end))
                piece_start, piece_end = start, position
    except IndexError:
        raise CorruptRecordError("record is cut off") from None
    if piece_end > end:
        raise CorruptRecordError("record is cut off")
    pieces.append((piece_start, piece_end))
    assert newest is not None
    return Kept(pieces, len(starts), newest)


def keep_records(data: bytes, starts: Sequence[int], indexes: Sequence[int]) -> Kept:
    """The records with these indexes (ascending, one at least) of those that `split_records` found."""
    return records_at(data, [starts[index] for index in indexes], starts[-1])


def batch_of_kept(header: BatchHeader, data: bytes, kept: Kept) -> bytes:
    """The batch with these of its (decompressed) records: the same offsets, sequences and base timestamp, so that no
    record has to change.
    """
    view = memoryview(data)
    records: bytes | memoryview
    if len(kept.pieces) == 1:
        records = view[kept.pieces[0][0] : kept.pieces[0][1]]
    else:
        records = b"".join([view[start:end] for start, end in kept.pieces])
    attributes, base_timestamp = header.attributes, header.base_timestamp
    newest = header.max_timestamp if attributes & LOG_APPEND_TIME_FLAG else base_timestamp + kept.newest
    return _assemble(header, attributes, base_timestamp, newest, records, kept.records_count)


def batch_with_delete_horizon(
    header: BatchHeader, data: bytes, starts: Sequence[int], indexes: Sequence[int], delete_horizon_ms: int
) -> bytes:
    """The batch with these of its records and a delete horizon, which takes the place of the base timestamp (KIP-534):
    each record gets a new timestamp delta, all that follows it stays as it is.
    """
    shift = header.base_timestamp - delete_horizon_ms
    records = bytearray()
    newest = NO_TIMESTAMP
    for index in indexes:
        _, position = read_varint(data, starts[index])
        delta, rest = read_varint(data, position + 1)
        newest = max(newest, header.base_timestamp + delta)
        encoded = _varint(delta + shift)
        end = starts[index + 1]
        records += _varint(1 + len(encoded) + end - rest)
        records.append(data[position])
        records += encoded
        records += data[rest:end]
    if header.attributes & LOG_APPEND_TIME_FLAG:
        newest = header.max_timestamp
    attributes = header.attributes | DELETE_HORIZON_FLAG
    return _assemble(header, attributes, delete_horizon_ms, newest, records, len(indexes))


def empty_batch(header: BatchHeader) -> bytes:
    """What is left of a batch when all its records are gone, but its offsets and sequences are still needed."""
    attributes = header.attributes & ~(COMPRESSION_MASK | DELETE_HORIZON_FLAG)
    return _assemble(header, attributes, NO_TIMESTAMP, header.max_timestamp, b"", 0)


def _assemble(
    header: BatchHeader,
    attributes: int,
    base_timestamp: int,
    max_timestamp: int,
    records: bytes | bytearray | memoryview,
    count: int,
) -> bytes:
    """A batch with the place and the producer that `header` says."""
    codec = attributes & COMPRESSION_MASK
    payload = compress(codec, records) if codec else records
    packed = bytearray(
        HEADER.pack(
            header.base_offset,
            HEADER_SIZE - LENGTH_END + len(payload),
            header.partition_leader_epoch,
            2,
            0,
            attributes,
            header.last_offset_delta,
            base_timestamp,
            max_timestamp,
            header.producer_id,
            header.producer_epoch,
            header.base_sequence,
            count,
        )
    )
    _CRC.pack_into(packed, CRC_POSITION, crc32c(payload, crc32c(memoryview(packed)[CRC_START:])))
    return b"".join((packed, payload))


def read_rest(data: bytes, position: int, value: int, shift: int) -> tuple[int, int]:
    """The further bytes of a varint whose first ones were above 127: the value, still in zigzag, and where it ends."""
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
        if shift > 63:
            raise CorruptRecordError("varint is too long")


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """A zigzag varint and where it ends. IndexError at the end of the data."""
    value = data[position]
    position += 1
    if value > 127:
        value, position = read_rest(data, position, value & 127, 7)
    return value >> 1 ^ -(value & 1), position


def _varint(value: int) -> bytes:
    value = value << 1 if value >= 0 else (~value << 1) | 1
    output = bytearray()
    while value > 127:
        output.append(value & 127 | 128)
        value >>= 7
    output.append(value)
    return bytes(output)
