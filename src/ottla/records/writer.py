"""Building v2 batches record by record: the inner loop of the producer.

A `BatchWriter` encodes each record into the buffer that will be sent; nothing else is kept of it. The buffer begins
small and grows up to the limit, so a thousand quiet partitions cost little and a full batch wastes nothing; `close`
puts the header into the room left for it in front, so that an uncompressed batch is never copied.

A hot module: see docs/decisions/compiled-modules.md.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

from ottla.core.binary import Buffer
from ottla.records import memory
from ottla.records.batch import (
    HEADER,
    HEADER_SIZE,
    LENGTH_END,
    NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID,
    NO_SEQUENCE,
    NO_TIMESTAMP,
    TRANSACTIONAL_FLAG,
    parse_header,
    update_crc,
)
from ottla.records.compression import compress
from ottla.records.record import read_batch_records

_FIRST_CAPACITY = 1024
_MAXIMUM_BYTES = 0x7FFFFFFF - 1024
_MAXIMUM_TIMESTAMP = 1 << 61  # so that differences stay in 62 bits
_ATTRIBUTES = struct.Struct(">h")
_ATTRIBUTES_POSITION = 21
_PRODUCER = struct.Struct(">qhi")
_PRODUCER_POSITION = 43
_MAXIMUM_SEQUENCE = 0x7FFFFFFF

Headers = Iterable[tuple[str, bytes | str | None]]
"""Headers of a record as users give them."""


class BatchWriter:
    """Encodes records until `limit_bytes` of an uncompressed batch are full. Not thread-safe.

    Contents may be bytes, other buffers, str (sent as UTF-8) or None; TypeError for anything else. The first record
    always goes in, however large.
    """

    __slots__ = (
        "_base_timestamp_ms",
        "_buffer",
        "_capacity",
        "_limit_bytes",
        "closed",
        "max_timestamp_ms",
        "records_count",
        "size_bytes",
    )

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = min(limit_bytes, _MAXIMUM_BYTES)
        self._capacity = max(min(self._limit_bytes, _FIRST_CAPACITY), 2 * HEADER_SIZE)
        self._buffer = bytearray(self._capacity)
        self._base_timestamp_ms = NO_TIMESTAMP
        self.max_timestamp_ms = NO_TIMESTAMP
        self.records_count = 0
        self.size_bytes = HEADER_SIZE
        self.closed = False

    @property
    def first_timestamp_ms(self) -> int:
        """Timestamp of the first record, -1 while there is none."""
        return self._base_timestamp_ms

    def append(self, timestamp_ms: int, key: Any, value: Any, headers: Headers | None = None) -> int:
        """Add one record: its index in the batch, or -1 when the batch has no room for it."""
        return self._append(
            timestamp_ms,
            key if key is None or type(key) is bytes else content(key, "key"),
            value if value is None or type(value) is bytes else content(value, "value"),
            encode_headers(headers) if headers else None,
        )

    def extend(
        self,
        values: Sequence[Any],
        keys: Sequence[Any] | None = None,
        timestamps: Sequence[int] | None = None,
        start: int = 0,
        timestamp_ms: int = NO_TIMESTAMP,
        headers: Headers | None = None,
        rows: Sequence[int] | None = None,
    ) -> int:
        """Add `values[start:]` with the keys and timestamps at the same indexes as far as there is room: how many.

        `timestamp_ms` and `headers` are those of all records when they have none of their own. With `rows` the
        records are `values[row] for row in rows[start:]`.
        """
        encoded = encode_headers(headers) if headers else None
        count = len(values) if rows is None else len(rows)
        index = start
        while index < count:
            row = index if rows is None else rows[index]
            value = values[row]
            if value is not None and type(value) is not bytes:
                value = content(value, "value")
            key = None
            if keys is not None:
                key = keys[row]
                if key is not None and type(key) is not bytes:
                    key = content(key, "key")
            if timestamps is not None:
                timestamp_ms = timestamps[row]
            if self._append(timestamp_ms, key, value, encoded) < 0:
                break
            index += 1
        return index - start

    def extend_columns(
        self,
        values: Any,
        keys: Any = None,
        timestamps: Any = None,
        start: int = 0,
        timestamp_ms: int = NO_TIMESTAMP,
        headers: Headers | None = None,
        rows: Sequence[int] | None = None,
    ) -> int:
        """As `extend`, from `columns.BinaryColumn`s of equal length and a buffer of int64 timestamps.

        No Python object is made for a record.
        """
        encoded = encode_headers(headers) if headers else None
        count = values.length if rows is None else len(rows)
        has_keys = keys is not None
        if has_keys and keys.length != values.length:
            raise ValueError(f"{keys.length} keys for {values.length} values")
        value_bytes = memory.bytes_of(values.data)
        key_bytes = memory.bytes_of(keys.data if has_keys else values.data)
        has_timestamps = timestamps is not None
        times_view = memoryview(timestamps).cast("B") if has_timestamps else _NO_TIMES
        if has_timestamps and len(times_view) < 8 * values.length:
            raise ValueError(f"{len(times_view) // 8} timestamps for {values.length} values")
        times = memory.int64s_of(times_view)
        key_start = 0
        key_length = -1
        index = start
        while index < count:
            row = index if rows is None else rows[index]
            if row < 0 or row >= values.length:
                raise IndexError(f"row {row} of {values.length}")
            value_start, value_length = values._span(row)
            if has_keys:
                key_start, key_length = keys._span(row)
            if value_start < 0 or key_start < 0:
                raise ValueError(f"row {row} of a column lies outside of its data")
            if has_timestamps:
                timestamp_ms = times[row]
            position = self._begin(timestamp_ms, key_length, value_length, encoded)
            if position < 0:
                break
            self._finish(position, key_bytes, key_start, key_length, value_bytes, value_start, value_length, encoded)
            index += 1
        return index - start

    def close(
        self,
        compression: int = 0,
        level: int | None = None,
        producer_id: int = NO_PRODUCER_ID,
        producer_epoch: int = NO_PRODUCER_EPOCH,
        base_sequence: int = NO_SEQUENCE,
        transactional: bool = False,
    ) -> bytearray:
        """The finished batch, compressed and with its CRC; nothing can be added any more."""
        self._check_open()
        batch = self._buffer
        memory.resize(batch, self.size_bytes)
        if compression:
            payload = compress(compression, memoryview(batch)[HEADER_SIZE:], level)
            batch = bytearray(HEADER_SIZE)
            batch += payload
        self._buffer = bytearray()
        self.closed = True
        HEADER.pack_into(
            batch,
            0,
            0,
            len(batch) - LENGTH_END,
            -1,
            2,
            0,
            compression | (TRANSACTIONAL_FLAG if transactional else 0),
            self.records_count - 1,
            self._base_timestamp_ms,
            self.max_timestamp_ms,
            producer_id,
            producer_epoch,
            base_sequence,
            self.records_count,
        )
        update_crc(batch, 0, len(batch))
        return batch

    def _append(self, timestamp_ms: int, key: bytes | None, value: bytes | None, headers: bytes | None) -> int:
        key_length = -1 if key is None else len(key)
        value_length = -1 if value is None else len(value)
        position = self._begin(timestamp_ms, key_length, value_length, headers)
        if position < 0:
            return -1
        key_bytes = _EMPTY if key is None else key
        value_bytes = _EMPTY if value is None else value
        self._finish(position, key_bytes, 0, key_length, value_bytes, 0, value_length, headers)
        return self.records_count - 1

    def _begin(self, timestamp_ms: int, key_length: int, value_length: int, headers: bytes | None) -> int:
        """Write what stands before the key; where the key's length goes, -1 when there is no room for the record."""
        self._check_open()
        if timestamp_ms < NO_TIMESTAMP or timestamp_ms > _MAXIMUM_TIMESTAMP:
            raise ValueError(f"{timestamp_ms} is no timestamp in milliseconds")
        if key_length > _MAXIMUM_BYTES or value_length > _MAXIMUM_BYTES:
            raise ValueError("a record has 2 GiB at most")
        index = self.records_count
        timestamp_delta = timestamp_ms - self._base_timestamp_ms if index else 0
        headers_length = 1 if headers is None else len(headers)
        length = 1 + _size(timestamp_delta) + _size(index) + _size(key_length) + _size(value_length) + headers_length
        if key_length > 0:
            length += key_length
        if value_length > 0:
            length += value_length
        end = self.size_bytes + _size(length) + length
        if end > self._limit_bytes and (index or end > _MAXIMUM_BYTES):
            if index:
                return -1
            raise ValueError("a record has 2 GiB at most")
        if end > self._capacity:
            self._grow(end)
        if index == 0:
            self._base_timestamp_ms = timestamp_ms
        if timestamp_ms > self.max_timestamp_ms:
            self.max_timestamp_ms = timestamp_ms
        target = memory.writable(self._buffer)
        position = _write(target, self.size_bytes, length)
        target[position] = 0
        position = _write(target, position + 1, timestamp_delta)
        position = _write(target, position, index)
        self.size_bytes = end
        self.records_count = index + 1
        return position

    def _finish(
        self,
        position: int,
        key: memory.View,
        key_start: int,
        key_length: int,
        value: memory.View,
        value_start: int,
        value_length: int,
        headers: bytes | None,
    ) -> None:
        target = memory.writable(self._buffer)
        position = _write(target, position, key_length)
        if key_length > 0:
            memory.copy(target, position, key, key_start, key_length)
            position += key_length
        position = _write(target, position, value_length)
        if value_length > 0:
            memory.copy(target, position, value, value_start, value_length)
            position += value_length
        if headers is None:
            target[position] = 0
        else:
            header_bytes = headers
            memory.copy(target, position, header_bytes, 0, len(headers))

    def _grow(self, needed: int) -> None:
        """Room for `needed` bytes: twice as much as now, but not more than the limit unless it must be."""
        self._capacity = max(needed, min(2 * self._capacity, self._limit_bytes))
        memory.resize(self._buffer, self._capacity)

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("the batch is closed")


def content(value: object, what: str) -> bytes:
    """The bytes of a key, value or header that is no bytes object already."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise TypeError(
        f"a {what} of type {type(value).__name__} is neither bytes nor str: give the producer a "
        f"{what if what == 'key' else 'value'}_serializer"
    )


def encode_headers(headers: Headers) -> bytes:
    """Headers as they stand in a record, their count in front."""
    pairs = list(headers)
    output = bytearray(_varint(len(pairs)))
    for name, value in pairs:
        if not isinstance(name, str):
            raise TypeError(f"the name of a header is a str, not {type(name).__name__}")
        encoded = name.encode("utf-8", "surrogateescape")
        output += _varint(len(encoded))
        output += encoded
        if value is None:
            output.append(1)
        else:
            data = value if type(value) is bytes else content(value, "header")
            output += _varint(len(data))
            output += data
    return bytes(output)


def set_producer(
    batch: bytearray, producer_id: int, producer_epoch: int, base_sequence: int, transactional: bool
) -> None:
    """Give a finished batch another producer id, epoch and sequence, as sending it again may need."""
    (attributes,) = _ATTRIBUTES.unpack_from(batch, _ATTRIBUTES_POSITION)
    attributes = attributes | TRANSACTIONAL_FLAG if transactional else attributes & ~TRANSACTIONAL_FLAG
    _ATTRIBUTES.pack_into(batch, _ATTRIBUTES_POSITION, attributes)
    _PRODUCER.pack_into(batch, _PRODUCER_POSITION, producer_id, producer_epoch, base_sequence)
    update_crc(batch, 0, len(batch))


def split_batch(batch: Buffer, limit_bytes: int, level: int | None = None) -> list[bytearray]:
    """The records of a batch in several of at most `limit_bytes` (before compression), which a broker refused as one.

    Order, codec and producer stay; sequences go on from part to part. A record that is larger stands alone.
    """
    header = parse_header(batch)
    parts: list[bytearray] = []
    writer = BatchWriter(limit_bytes)
    sequence = header.base_sequence

    def finish() -> None:
        nonlocal sequence
        count = writer.records_count
        parts.append(
            writer.close(
                header.compression,
                level,
                header.producer_id,
                header.producer_epoch,
                sequence,
                header.is_transactional,
            )
        )
        if sequence != NO_SEQUENCE:
            sequence = (sequence + count) & _MAXIMUM_SEQUENCE

    for record in read_batch_records(batch, 0, header):
        if writer.append(record.timestamp_ms, record.key, record.value, record.headers) < 0:
            finish()
            writer = BatchWriter(limit_bytes)
            writer.append(record.timestamp_ms, record.key, record.value, record.headers)
    finish()
    return parts


_EMPTY = b""
_NO_TIMES = memoryview(bytes(8))


def _size(value: int) -> int:
    """Bytes of a zigzag varint."""
    value = value << 1 ^ value >> 63
    size = 1
    while value > 127:
        value >>= 7
        size += 1
    return size


def _write(target: memory.View, position: int, value: int) -> int:
    """Write a zigzag varint; the position after it."""
    value = value << 1 ^ value >> 63
    while value > 127:
        target[position] = value & 127 | 128
        value >>= 7
        position += 1
    target[position] = value
    return position + 1


def _varint(value: int) -> bytes:
    encoded = bytearray(_size(value))
    _write(memory.writable(encoded), 0, value)
    return bytes(encoded)
