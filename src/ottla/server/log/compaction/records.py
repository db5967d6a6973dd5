"""Encoded records of v2 batches, taken apart as far as compaction needs it: boundaries, offsets, keys, tombstones.

Hot: these loops run once for every record that is compacted, so varints are read in place (one to three bytes cover
nearly all that occur) and no object is made but the key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ottla.core.checksum import crc32c
from ottla.records.batch import (
    COMPRESSION_MASK,
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

NULL = 1  # the varint of -1: the length of a key or value that is not there


def put_keys(data: bytes, position: int, end: int, base_offset: int, offsets: dict[bytes, int]) -> bool:
    """Note the offset of every record with a key under that key; whether any record is a tombstone.

    Raises `CorruptRecordError` when these bytes are no records.
    """
    has_tombstones = False
    try:
        while position < end:
            size = data[position]
            position += 1
            if size > 127:
                byte = data[position]
                position += 1
                size = size & 127 | byte << 7
                if byte > 127:
                    size, position = _read_rest(data, position, size & 0x3FFF, 14)
            following = position + (size >> 1)
            position += 1
            while data[position] > 127:
                position += 1
            delta = data[position + 1]
            position += 2
            if delta > 127:
                byte = data[position]
                position += 1
                delta = delta & 127 | byte << 7
                if byte > 127:
                    delta, position = _read_rest(data, position, delta & 0x3FFF, 14)
            length = data[position]
            position += 1
            if length > 127:
                length, position = _read_rest(data, position, length & 127, 7)
            if not length & 1:
                key_end = position + (length >> 1)
                if key_end >= following:
                    raise CorruptRecordError("the key of a record is longer than the record")
                offsets[data[position:key_end]] = base_offset + (delta >> 1)
                if data[key_end] == NULL:
                    has_tombstones = True
            position = following
    except IndexError:
        raise CorruptRecordError("record is cut off") from None
    if position != end:
        raise CorruptRecordError("the records do not end where the batch does")
    return has_tombstones


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
                size, position = _read_rest(data, position, size & 127, 7)
            following = position + (size >> 1)
            position += 1
            while data[position] > 127:
                position += 1
            delta = data[position + 1]
            position += 2
            if delta > 127:
                delta, position = _read_rest(data, position, delta & 127, 7)
            deltas.append(delta >> 1)
            length = data[position]
            position += 1
            if length > 127:
                length, position = _read_rest(data, position, length & 127, 7)
            if length & 1:
                keys.append(None)
                length = 0
            else:
                keys.append(data[position : position + (length >> 1)])
            key_end = position + (length >> 1)
            if key_end >= following:
                raise CorruptRecordError("the key of a record is longer than the record")
            if data[key_end] == NULL:
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


def pick_records(data: bytes, position: int, end: int, deltas: Sequence[int]) -> Kept | None:
    """The records with these offset deltas (ascending, one at least) of a batch without gaps, where a record's delta is
    its number. None when that turns out not to be so.
    """
    pieces: list[tuple[int, int]] = []
    remaining = iter(deltas)
    wanted = next(remaining)
    piece_start = piece_end = -1
    newest: int | None = None
    number = 0
    try:
        while position < end:
            start = position
            size = data[position]
            position += 1
            if size > 127:
                byte = data[position]
                position += 1
                size = size & 127 | byte << 7
                if byte > 127:
                    size, position = _read_rest(data, position, size & 0x3FFF, 14)
            if number == wanted:
                timestamp_delta, at = _read_varint(data, position + 1)
                if _read_varint(data, at)[0] != wanted:
                    return None
                position += size >> 1
                if newest is None or timestamp_delta > newest:
                    newest = timestamp_delta
                if start == piece_end:
                    piece_end = position
                else:
                    if piece_end >= 0:
                        pieces.append((piece_start, piece_end))
                    piece_start, piece_end = start, position
                wanted = next(remaining, -1)
                if wanted < 0:
                    break
            else:
                position += size >> 1
            number += 1
        else:
            return None
    except IndexError:
        raise CorruptRecordError("record is cut off") from None
    pieces.append((piece_start, piece_end))
    assert newest is not None
    return Kept(pieces, len(deltas), newest)


def keep_records(data: bytes, starts: Sequence[int], indexes: Sequence[int]) -> Kept:
    """The records with these indexes (ascending, one at least) of those that `split_records` found."""
    pieces: list[tuple[int, int]] = []
    newest = max(_timestamp_delta(data, starts[index]) for index in indexes)
    for index in indexes:
        start, end = starts[index], starts[index + 1]
        if pieces and pieces[-1][1] == start:
            pieces[-1] = pieces[-1][0], end
        else:
            pieces.append((start, end))
    return Kept(pieces, len(indexes), newest)


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
    if not header.attributes & LOG_APPEND_TIME_FLAG:
        header = header._replace(max_timestamp=header.base_timestamp + kept.newest)
    return _assemble(header, records, kept.records_count)


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
        _, position = _read_varint(data, starts[index])
        delta, rest = _read_varint(data, position + 1)
        newest = max(newest, header.base_timestamp + delta)
        encoded = _varint(delta + shift)
        end = starts[index + 1]
        records += _varint(1 + len(encoded) + end - rest)
        records.append(data[position])
        records += encoded
        records += data[rest:end]
    if header.attributes & LOG_APPEND_TIME_FLAG:
        newest = header.max_timestamp
    header = header._replace(
        attributes=header.attributes | DELETE_HORIZON_FLAG, base_timestamp=delete_horizon_ms, max_timestamp=newest
    )
    return _assemble(header, records, len(indexes))


def empty_batch(header: BatchHeader) -> bytes:
    """What is left of a batch when all its records are gone, but its offsets and sequences are still needed."""
    attributes = header.attributes & ~(COMPRESSION_MASK | DELETE_HORIZON_FLAG)
    return _assemble(header._replace(magic=2, attributes=attributes, base_timestamp=NO_TIMESTAMP), b"", 0)


def _assemble(header: BatchHeader, records: bytes | bytearray | memoryview, count: int) -> bytes:
    codec = header.attributes & COMPRESSION_MASK
    payload = compress(codec, records) if codec else records
    fields = header._replace(batch_length=HEADER_SIZE - LENGTH_END + len(payload), crc=0, records_count=count)
    packed = bytearray(HEADER.pack(*fields))
    crc = crc32c(payload, crc32c(memoryview(packed)[CRC_START:]))
    HEADER.pack_into(packed, 0, *fields._replace(crc=crc))
    return b"".join((packed, payload))


def _timestamp_delta(data: bytes, start: int) -> int:
    _, position = _read_varint(data, start)
    return _read_varint(data, position + 1)[0]


def _read_rest(data: bytes, position: int, value: int, shift: int) -> tuple[int, int]:
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


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = data[position]
    position += 1
    if value > 127:
        value, position = _read_rest(data, position, value & 127, 7)
    return value >> 1 ^ -(value & 1), position


def _varint(value: int) -> bytes:
    value = value << 1 if value >= 0 else (~value << 1) | 1
    output = bytearray()
    while value > 127:
        output.append(value & 127 | 128)
        value >>= 7
    output.append(value)
    return bytes(output)
