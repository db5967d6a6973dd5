"""Records: the content of batches, encoded and decoded one by one.

This is the work of clients, coordinators and compaction; a broker that moves batches has no use for it. Reading
covers the legacy formats too (KIP-724: what lies on an old disk stays readable), writing only v2. Bytes that can not be
records raise `CorruptRecordError`, never another exception, and never make more than the limit of memory.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ottla.core.binary import Buffer
from ottla.records.batch import (
    CONTROL_FLAG,
    HEADER,
    HEADER_SIZE,
    LENGTH_END,
    LOG_APPEND_TIME_FLAG,
    NO_LEADER_EPOCH,
    NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID,
    NO_SEQUENCE,
    NO_TIMESTAMP,
    TRANSACTIONAL_FLAG,
    BatchHeader,
    CorruptRecordError,
    batches,
    crc_matches,
    update_crc,
)
from ottla.records.compression import DEFAULT_LIMIT_BYTES, Codec, compress, decompress, decompress_lz4


class Record(NamedTuple):
    """One record. `timestamp_ms` is -1 when there is none; a None value is a tombstone."""

    offset: int = 0
    timestamp_ms: int = NO_TIMESTAMP
    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()


def build_batch(
    records: Sequence[Record],
    *,
    base_offset: int = 0,
    compression: int = Codec.NONE,
    level: int | None = None,
    producer_id: int = NO_PRODUCER_ID,
    producer_epoch: int = NO_PRODUCER_EPOCH,
    base_sequence: int = NO_SEQUENCE,
    transactional: bool = False,
    control: bool = False,
    leader_epoch: int = NO_LEADER_EPOCH,
    log_append_time_ms: int | None = None,
) -> bytearray:
    """A v2 batch of records with the offsets `base_offset`, `base_offset + 1`, …; their own offsets do not matter."""
    base_timestamp = records[0].timestamp_ms if records else NO_TIMESTAMP
    max_timestamp = max([record.timestamp_ms for record in records], default=NO_TIMESTAMP)
    attributes = (TRANSACTIONAL_FLAG if transactional else 0) | (CONTROL_FLAG if control else 0)
    if log_append_time_ms is not None:
        attributes |= LOG_APPEND_TIME_FLAG
        max_timestamp = log_append_time_ms
    header = BatchHeader(
        base_offset=base_offset,
        batch_length=0,
        partition_leader_epoch=leader_epoch,
        magic=2,
        crc=0,
        attributes=attributes,
        last_offset_delta=len(records) - 1,
        base_timestamp=base_timestamp,
        max_timestamp=max_timestamp,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=base_sequence,
        records_count=len(records),
    )
    return assemble_batch(header, encode_records(records, base_timestamp), compression, level)


def assemble_batch(
    header: BatchHeader, records: Buffer, compression: int = Codec.NONE, level: int | None = None
) -> bytearray:
    """Put a header before encoded records, compressing them; length, codec and CRC are filled in."""
    payload = compress(compression, records, level) if compression else records
    batch = bytearray(HEADER_SIZE)
    batch += payload
    attributes = header.attributes & ~0x07 | compression
    HEADER.pack_into(batch, 0, *header._replace(batch_length=len(batch) - LENGTH_END, attributes=attributes))
    update_crc(batch, 0, len(batch))
    return batch


def encode_records(records: Iterable[Record], base_timestamp: int, *, base_offset: int | None = None) -> bytearray:
    """Records as they stand in a v2 batch, one after the other, uncompressed.

    Offset deltas are 0, 1, … or, with `base_offset`, what the records' own offsets say (a batch with gaps, as
    compaction leaves them).
    """
    output = bytearray()
    body = bytearray()
    for index, (offset, timestamp, key, value, headers) in enumerate(records):
        del body[:]
        body.append(0)
        _write_varint(body, timestamp - base_timestamp)
        _write_varint(body, index if base_offset is None else offset - base_offset)
        _write_nullable(body, key)
        _write_nullable(body, value)
        _write_varint(body, len(headers))
        for name, content in headers:
            _write_nullable(body, name.encode("utf-8", "surrogateescape"))
            _write_nullable(body, content)
        _write_varint(output, len(body))
        output += body
    return output


def read_records(
    buffer: Buffer, *, check_crc: bool = True, skip_control: bool = False, limit_bytes: int = DEFAULT_LIMIT_BYTES
) -> Iterator[Record]:
    """The records of all complete batches, of any format, in order. `limit_bytes` bounds each decompressed batch.

    Control batches are included unless `skip_control`. Records may have smaller offsets than was asked for in a fetch:
    a batch is only read whole.
    """
    for position, header in batches(buffer):
        if check_crc and not crc_matches(buffer, position, header):
            raise CorruptRecordError(f"the batch at offset {header.base_offset} has a wrong CRC")
        if not (skip_control and header.is_control):
            yield from read_batch_records(buffer, position, header, limit_bytes=limit_bytes)


def read_batch_records(
    buffer: Buffer, position: int, header: BatchHeader, *, limit_bytes: int = DEFAULT_LIMIT_BYTES
) -> list[Record]:
    """The records of the one batch at `position`, whose header was parsed before; its CRC is not looked at."""
    end = position + LENGTH_END + header.batch_length
    if end > len(buffer):
        raise CorruptRecordError("batch is cut off")
    view = memoryview(buffer)[position:end]
    if header.magic < 2:
        return _read_legacy_entry(view, header, limit_bytes)
    if header.records_count < 0:
        raise CorruptRecordError(f"batch has a count of {header.records_count} records")
    blob = decompress(header.compression, view[HEADER_SIZE:], limit_bytes)
    return _decode_records(bytes(blob), header)


def null_key_indexes(records: Buffer, count: int) -> list[int]:
    """Indexes of records without key in an uncompressed blob of `count` records, with the framing of all checked."""
    data = bytes(records)
    indexes = []
    position = 0
    try:
        for index in range(count):
            length, position = _read_varint(data, position)
            end = position + length
            if length < 0 or end > len(data):
                raise CorruptRecordError(f"record {index} of {count} is cut off")
            _, position = _read_varint(data, position + 1)
            offset_delta, position = _read_varint(data, position)
            if offset_delta != index:
                raise CorruptRecordError(f"record {index} has offset delta {offset_delta}")
            key_length, position = _read_varint(data, position)
            if key_length < 0:
                indexes.append(index)
            if position + max(key_length, 0) > end:
                raise CorruptRecordError(f"the key of record {index} is longer than the record")
            position = end
    except IndexError:
        raise CorruptRecordError("record is cut off") from None
    if position != len(data):
        raise CorruptRecordError(f"{len(data) - position} bytes follow the {count} records of the batch")
    return indexes


def record_times(data: bytes, header: BatchHeader) -> Iterator[tuple[int, int]]:
    """Offset and timestamp of the records of a v2 batch, uncompressed: one after the other, for who may need few."""
    base_offset = header.base_offset
    base_timestamp = header.base_timestamp
    fixed_timestamp = header.max_timestamp if header.uses_log_append_time else None
    position = 0
    try:
        for index in range(header.records_count):
            length, position = _read_varint(data, position)
            end = position + length
            if length < 0 or end > len(data):
                raise CorruptRecordError(f"record {index} of {header.records_count} is cut off")
            timestamp_delta, position = _read_varint(data, position + 1)
            offset_delta, _ = _read_varint(data, position)
            position = end
            yield (
                base_offset + offset_delta,
                (base_timestamp + timestamp_delta if fixed_timestamp is None else fixed_timestamp),
            )
    except IndexError:
        raise CorruptRecordError("record is cut off") from None


def _decode_records(data: bytes, header: BatchHeader) -> list[Record]:
    base_offset = header.base_offset
    base_timestamp = header.base_timestamp
    fixed_timestamp = header.max_timestamp if header.uses_log_append_time else None
    count = header.records_count
    records: list[Record] = []
    position = 0
    try:
        for _ in range(count):
            length, position = _read_varint(data, position)
            end = position + length
            if length < 0 or end > len(data):
                raise CorruptRecordError(f"record {len(records)} of {count} is cut off")
            timestamp_delta, position = _read_varint(data, position + 1)
            offset_delta, position = _read_varint(data, position)
            key, position = _read_nullable(data, position, end)
            value, position = _read_nullable(data, position, end)
            if position < end and data[position] == 0:  # no headers: nearly always
                position += 1
                headers: tuple[tuple[str, bytes | None], ...] = ()
            else:
                headers, position = _read_headers(data, position, end)
            if position != end:
                raise CorruptRecordError(f"record {len(records)} of {count} has {end - position} bytes too many")
            timestamp = base_timestamp + timestamp_delta if fixed_timestamp is None else fixed_timestamp
            records.append(Record(base_offset + offset_delta, timestamp, key, value, headers))
    except IndexError:
        raise CorruptRecordError(f"record {len(records)} of {count} is cut off") from None
    if position != len(data):
        raise CorruptRecordError(f"{len(data) - position} bytes follow the {count} records of the batch")
    return records


def _read_headers(data: bytes, position: int, end: int) -> tuple[tuple[tuple[str, bytes | None], ...], int]:
    count, position = _read_varint(data, position)
    if not 0 <= count <= end - position:  # each takes two bytes at least
        raise CorruptRecordError(f"record claims {count} headers")
    headers = []
    for _ in range(count):
        name, position = _read_nullable(data, position, end)
        if name is None:
            raise CorruptRecordError("record header without a key")
        value, position = _read_nullable(data, position, end)
        # Names that are no UTF-8 come through unharmed: what is read here may be written again.
        headers.append((name.decode("utf-8", "surrogateescape"), value))
    return tuple(headers), position


def _read_nullable(data: bytes, position: int, end: int) -> tuple[bytes | None, int]:
    byte = data[position]
    if byte < 0x80:
        length = byte >> 1 ^ -(byte & 1)
        position += 1
    else:
        length, position = _read_varint(data, position)
    if length < 0:
        if length != -1:
            raise CorruptRecordError(f"negative length {length} in a record")
        return None, position
    field_end = position + length
    if field_end > end:
        raise CorruptRecordError("a field is longer than its record")
    return data[position:field_end], field_end


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Zigzag varint of up to ten bytes: value and the position after it. IndexError at the end of the data."""
    byte = data[position]
    position += 1
    if byte < 0x80:
        return byte >> 1 ^ -(byte & 1), position
    value = byte & 0x7F
    shift = 7
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            raise CorruptRecordError("varint is too long")
    return value >> 1 ^ -(value & 1), position


def _write_varint(output: bytearray, value: int) -> None:
    value = value << 1 if value >= 0 else (~value << 1) | 1
    while value > 0x7F:
        output.append(value & 0x7F | 0x80)
        value >>= 7
    output.append(value)


def _write_nullable(output: bytearray, content: bytes | None) -> None:
    if content is None:
        output.append(1)
    else:
        _write_varint(output, len(content))
        output += content


# --- legacy formats

_LEGACY_ATTRIBUTES = 17
_LEGACY_BODY = (18, 26)  # where the key length stands, by magic
_INT32 = struct.Struct(">i")


def _read_legacy_entry(view: memoryview, header: BatchHeader, limit_bytes: int) -> list[Record]:
    """A message of magic 0 or 1; a compressed one is the wrapper of a nested message set."""
    key, value = _read_legacy_body(view, header.magic)
    codec = header.compression
    if codec == Codec.NONE:
        return [Record(header.base_offset, header.max_timestamp, key, value)]
    if value is None:
        raise CorruptRecordError("compressed message without a value")
    if codec == Codec.LZ4:
        try:
            nested = decompress_lz4(value, limit_bytes, check_header=header.magic > 0)
        except struct.error as error:
            raise CorruptRecordError(f"lz4 data is cut off: {error}") from error
    else:
        nested = decompress(codec, value, limit_bytes)
    records: list[Record] = []
    consumed = 0
    for position, inner in batches(nested):
        consumed = position + inner.size_in_bytes
        if inner.magic != header.magic or inner.compression != Codec.NONE:
            raise CorruptRecordError("nested message of another format, or compressed once more")
        if not crc_matches(nested, position, inner):
            raise CorruptRecordError(f"the nested message at offset {inner.base_offset} has a wrong CRC")
        inner_key, inner_value = _read_legacy_body(memoryview(nested)[position:consumed], inner.magic)
        timestamp = header.max_timestamp if header.uses_log_append_time else inner.max_timestamp
        records.append(Record(inner.base_offset, timestamp, inner_key, inner_value))
    if not records or consumed != len(nested):
        raise CorruptRecordError("nested message set is empty or cut off")
    if header.magic == 0:
        return records
    # From v1 on inner offsets are relative, and the wrapper has the offset of the last one (KIP-31).
    shift = header.base_offset - records[-1].offset
    return [record._replace(offset=record.offset + shift) for record in records]


def _read_legacy_body(view: memoryview, magic: int) -> tuple[bytes | None, bytes | None]:
    try:
        key, position = _read_legacy_bytes(view, _LEGACY_BODY[magic])
        value, position = _read_legacy_bytes(view, position)
    except struct.error:
        raise CorruptRecordError("message is cut off") from None
    if position != len(view):
        raise CorruptRecordError("message is longer than its key and value")
    return key, value


def _read_legacy_bytes(view: memoryview, position: int) -> tuple[bytes | None, int]:
    (length,) = _INT32.unpack_from(view, position)
    position += 4
    if length < 0:
        return None, position
    if position + length > len(view):
        raise CorruptRecordError("a field is longer than its message")
    return bytes(view[position : position + length]), position + length
