"""Reading fetched batches: as one slotted object a record, or straight into columns.

A `RecordCursor` stands in one batch. It opens it on first use (checksum, decompression; what it has taken stays in the
batch's own memory) and gives as many records as it is asked for; where it stands is `next_offset`. Bytes that can not
be records raise `CorruptRecordError`, and nothing outside of the batch is ever looked at. An error concerns the record
at `next_offset`: what came before it has been given, and the next call raises it again.

Control batches and aborted transactions are the caller's business.
A hot module: see docs/decisions/compiled-modules.md.
"""

from __future__ import annotations

from enum import IntEnum
from types import GenericAlias
from typing import Any, Generic, Protocol, TypeVar

from ottla.core.binary import Buffer
from ottla.records import memory
from ottla.records.batch import (
    HEADER_SIZE,
    LENGTH_END,
    NO_LEADER_EPOCH,
    NO_TIMESTAMP,
    BatchHeader,
    CorruptRecordError,
    crc_matches,
)
from ottla.records.columns import Columns, read_headers
from ottla.records.compression import DEFAULT_LIMIT_BYTES, decompress
from ottla.records.record import Record, read_batch_records

K = TypeVar("K", covariant=True)
V = TypeVar("V", covariant=True)
_LAST_OFFSET = (1 << 63) - 1
_MAXIMUM_TIME = 1 << 62
_MAXIMUM_INT32 = 0x7FFFFFFF
_SMALLEST_RECORD = 7  # bytes: length, attributes, two deltas, two lengths, number of headers


class TimestampType(IntEnum):
    """What the timestamp of a record says."""

    NONE = -1
    CREATE_TIME = 0
    LOG_APPEND_TIME = 1


class Deserializer(Protocol):
    """What turns the bytes of a key or value into what users work with."""

    def deserialize(self, topic: str, data: bytes | None, headers: tuple[tuple[str, bytes | None], ...]) -> Any: ...


class UndeserializableRecordError(Exception):
    """A deserializer raised; its error is the `__cause__`. `origin` is "key" or "value"."""

    def __init__(
        self, topic: str, partition: int, offset: int, origin: str, raw_key: bytes | None, raw_value: bytes | None
    ) -> None:
        super().__init__(f"the {origin} of the record at offset {offset} of {topic}-{partition} cannot be deserialized")
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.origin = origin
        self.raw_key = raw_key
        self.raw_value = raw_value


class ConsumerRecord(Generic[K, V]):
    """One consumed record; not to be changed. Two are equal when all that they carry is.

    `timestamp_ms` is -1 when there is none (see `timestamp_type`), serialized sizes are -1 for None, `leader_epoch` is
    None when unknown, `delivery_count` when the record did not come through a share group.
    """

    __slots__ = (
        "_delivery_count",
        "_leader_epoch",
        "_timestamp_type",
        "headers",
        "key",
        "offset",
        "partition",
        "serialized_key_size",
        "serialized_value_size",
        "timestamp_ms",
        "topic",
        "value",
    )

    # What the compiled form has of Generic.
    __class_getitem__ = classmethod(GenericAlias)  # type: ignore[var-annotated]

    def __init__(
        self,
        topic: str,
        partition: int,
        offset: int,
        key: K,
        value: V,
        timestamp_ms: int = NO_TIMESTAMP,
        timestamp_type: int = 0,
        headers: tuple[tuple[str, bytes | None], ...] = (),
        leader_epoch: int | None = None,
        delivery_count: int | None = None,
        serialized_key_size: int = -1,
        serialized_value_size: int = -1,
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.key = key
        self.value = value
        self.timestamp_ms = timestamp_ms
        self._timestamp_type = timestamp_type
        self.headers = headers
        self._leader_epoch = NO_LEADER_EPOCH if leader_epoch is None else leader_epoch
        self._delivery_count = 0 if delivery_count is None else delivery_count
        self.serialized_key_size = serialized_key_size
        self.serialized_value_size = serialized_value_size

    @property
    def timestamp_type(self) -> TimestampType:
        """Whether the producer or the broker set the timestamp."""
        return TimestampType(self._timestamp_type)

    @property
    def leader_epoch(self) -> int | None:
        """Epoch of the leader that appended the record."""
        return None if self._leader_epoch < 0 else self._leader_epoch

    @property
    def delivery_count(self) -> int | None:
        """How many times a share group has delivered the record, this time included."""
        return None if self._delivery_count <= 0 else self._delivery_count

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ConsumerRecord):
            return NotImplemented
        return bool(self._fields() == other._fields())

    def __hash__(self) -> int:
        # Values need not be hashable, and where a record stands says enough.
        return hash((self.topic, self.partition, self.offset))

    def __repr__(self) -> str:
        return (
            f"ConsumerRecord(topic={self.topic!r}, partition={self.partition}, offset={self.offset}, key={self.key!r}, "
            f"value={self.value!r}, timestamp_ms={self.timestamp_ms}, headers={self.headers!r})"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), self._fields())

    def _fields(self) -> tuple[Any, ...]:
        return (
            self.topic,
            self.partition,
            self.offset,
            self.key,
            self.value,
            self.timestamp_ms,
            self._timestamp_type,
            self.headers,
            self.leader_epoch,
            self.delivery_count,
            self.serialized_key_size,
            self.serialized_value_size,
        )


class RecordCursor:
    """Where the reading of one batch stands.

    The batch is at `position` of `buffer`, complete, with its `header` as parsed before. Given are its records with
    `from_offset` ≤ offset < `end_offset`. `delivery_count` (a share group's) is passed on to the records. Not
    thread-safe; the buffer must not change.
    """

    __slots__ = (
        "_base_offset",
        "_base_time",
        "_buffer",
        "_check_crc",
        "_count",
        "_data",
        "_delivery_count",
        "_end",
        "_end_offset",
        "_fixed_time",
        "_from_offset",
        "_headers_length",
        "_headers_start",
        "_held",
        "_index",
        "_key_length",
        "_key_start",
        "_legacy",
        "_limit_bytes",
        "_offset",
        "_opened",
        "_parsed",
        "_position",
        "_start",
        "_timestamp_ms",
        "_timestamp_type",
        "_value_length",
        "_value_start",
        "header",
        "next_offset",
        "partition",
        "topic",
    )

    def __init__(
        self,
        buffer: Buffer,
        position: int,
        header: BatchHeader,
        *,
        topic: str,
        partition: int,
        from_offset: int = 0,
        end_offset: int | None = None,
        delivery_count: int | None = None,
        check_crc: bool = True,
        limit_bytes: int = DEFAULT_LIMIT_BYTES,
    ) -> None:
        self.header = header
        self.topic = topic
        self.partition = partition
        self.next_offset = from_offset
        self._from_offset = from_offset
        self._end_offset = _LAST_OFFSET if end_offset is None else end_offset
        self._delivery_count = delivery_count or 0
        self._check_crc = check_crc
        self._limit_bytes = limit_bytes
        self._buffer: Buffer | None = buffer
        self._start = position
        self._opened = False
        self._parsed = False
        self._held: Any = None
        self._legacy: list[Record] | None = None
        self._count = -1
        self._index = 0
        self._position = 0
        self._end = 0

    @property
    def exhausted(self) -> bool:
        """Whether every record has been given: there is nothing more to take. False when nobody has looked yet."""
        if self._opened and self._index >= self._count:
            return not self._parsed
        return self.next_offset >= self._end_offset or (
            not self._opened and self.next_offset >= self.header.next_offset
        )

    def open(self) -> None:
        """Check and decompress the batch now, which the first `take` does otherwise. CorruptRecordError."""
        if self._opened:
            return
        header = self.header
        buffer = self._buffer
        assert buffer is not None
        end = self._start + LENGTH_END + header.batch_length
        if end > len(buffer) or self._start < 0:
            raise CorruptRecordError("batch is cut off")
        if self._check_crc and not crc_matches(buffer, self._start, header):
            raise CorruptRecordError(f"the batch at offset {header.base_offset} has a wrong CRC")
        if header.magic < 2:
            self._legacy = read_batch_records(buffer, self._start, header, limit_bytes=self._limit_bytes)
            self._count = len(self._legacy)
            self._timestamp_type = -1 if header.magic == 0 else int(header.uses_log_append_time)
        else:
            if header.records_count < 0:
                raise CorruptRecordError(f"batch has a count of {header.records_count} records")
            if (
                not 0 <= header.base_offset <= _LAST_OFFSET - _MAXIMUM_INT32
                or not -_MAXIMUM_TIME <= header.base_timestamp <= _MAXIMUM_TIME
            ):
                raise CorruptRecordError(f"no batch begins at offset {header.base_offset}")
            view = memoryview(buffer)[self._start + HEADER_SIZE : end]
            blob = decompress(header.compression, view, self._limit_bytes)
            self._held = memory.held(blob)
            self._data = memory.readable(self._held)
            self._end = len(blob)
            self._count = header.records_count
            self._base_offset = header.base_offset
            self._base_time = header.base_timestamp
            self._fixed_time = header.max_timestamp
            self._timestamp_type = int(header.uses_log_append_time)
            if not self._count and self._end:
                raise CorruptRecordError(f"{self._end} bytes in a batch without records")
        self._buffer = None
        self._opened = True

    def take(
        self,
        max_records: int,
        key_deserializer: Deserializer | None,
        value_deserializer: Deserializer | None,
        output: list[ConsumerRecord[Any, Any]],
    ) -> int:
        """Append at most `max_records` to `output`: how many. Without deserializers keys and values are bytes | None.

        Raises CorruptRecordError, and UndeserializableRecordError when a deserializer fails; only when the very first
        record does, else it comes with the next call.
        """
        deserialize_key = None if key_deserializer is None else key_deserializer.deserialize
        deserialize_value = None if value_deserializer is None else value_deserializer.deserialize
        taken = 0
        try:
            self.open()
            if self._legacy is not None:
                return self._take_legacy(max_records, deserialize_key, deserialize_value, output)
            epoch = self.header.partition_leader_epoch
            while taken < max_records and self._advance():
                data = self._data
                start = self._key_start
                key: Any = None if self._key_length < 0 else data[start : start + self._key_length]
                start = self._value_start
                value: Any = None if self._value_length < 0 else data[start : start + self._value_length]
                start = self._headers_start
                headers = read_headers(data[start : start + self._headers_length]) if self._headers_length else ()
                if deserialize_key is not None or deserialize_value is not None:
                    raw_key = key
                    raw_value = value
                    if deserialize_key is not None:
                        key = self._deserialized(deserialize_key, "key", raw_key, headers, raw_key, raw_value)
                    if deserialize_value is not None:
                        value = self._deserialized(deserialize_value, "value", raw_value, headers, raw_key, raw_value)
                record = _record(
                    self.topic,
                    self.partition,
                    self._offset,
                    self._timestamp_ms,
                    self._timestamp_type,
                    key,
                    value,
                    headers,
                    epoch,
                    self._delivery_count,
                    self._key_length,
                    self._value_length,
                )
                output.append(record)
                self._parsed = False
                self.next_offset = self._offset + 1
                taken += 1
        except (CorruptRecordError, UndeserializableRecordError):
            if not taken:
                raise
            return taken
        self._end_if_done()
        return taken

    def take_columns(self, max_records: int, columns: Columns) -> int:
        """Append at most `max_records` to `columns`: how many. Raises CorruptRecordError as `take` does."""
        self.open()
        if self._legacy is not None:
            return self._take_legacy_columns(max_records, columns)
        rest = self._end - self._position
        rows = min(max_records, self._count - self._index, rest // _SMALLEST_RECORD + 1)
        chunk = columns.room(rows, rest)
        keys = chunk.keys
        values = chunk.values
        header_column = chunk.headers
        first = row = chunk.rows
        offsets = memory.int64s(chunk.offsets)
        timestamps = memory.int64s(chunk.timestamps)
        key_ends = memory.int32s(keys.ends)
        key_data = memory.writable(keys.data)
        key_bits = memory.writable(keys.validity)
        key_used = keys.used
        value_ends = memory.int32s(values.ends)
        value_data = memory.writable(values.data)
        value_bits = memory.writable(values.validity)
        value_used = values.used
        header_ends = memory.int32s(header_column.ends)
        header_data = memory.writable(header_column.data)
        header_used = header_column.used
        data = self._data
        end = first + max_records
        try:
            while row < end and self._advance():
                offsets[row] = self._offset
                timestamps[row] = self._timestamp_ms
                length = self._key_length
                if length < 0:
                    keys.nulls += 1
                    key_bits[row >> 3] &= 255 ^ 1 << (row & 7)
                else:
                    memory.copy(key_data, key_used, data, self._key_start, length)
                    key_used += length
                length = self._value_length
                if length < 0:
                    values.nulls += 1
                    value_bits[row >> 3] &= 255 ^ 1 << (row & 7)
                else:
                    memory.copy(value_data, value_used, data, self._value_start, length)
                    value_used += length
                length = self._headers_length
                if length:
                    memory.copy(header_data, header_used, data, self._headers_start, length)
                    header_used += length
                row += 1
                key_ends[row] = key_used
                value_ends[row] = value_used
                header_ends[row] = header_used
                self._parsed = False
                self.next_offset = self._offset + 1
        except CorruptRecordError:
            if row == first:
                raise
        else:
            self._end_if_done()
        chunk.rows = row
        keys.used = key_used
        values.used = value_used
        header_column.used = header_used
        chunk.end_run(self.topic, self.partition)
        return row - first

    def _advance(self) -> bool:
        """Find the next record to give, whose fields are then in the `_…_start` and `_…_length`; False at the end."""
        if self._parsed:
            return True
        data = self._data
        while self._index < self._count:
            length, position = memory.read_varint(data, self._position, self._end)
            if position < 0 or length < 0 or length > self._end - position:
                raise self._corrupt("is cut off")
            end = position + length
            timestamp_delta, position = memory.read_varint(data, position + 1, end)
            offset_delta, position = memory.read_varint(data, position, end)
            self._key_length, position = memory.read_varint(data, position, end)
            if position < 0 or self._key_length < -1 or self._key_length > end - position:
                raise self._corrupt("has a key that is longer than itself, or is cut off")
            self._key_start = position
            if self._key_length > 0:
                position += self._key_length
            self._value_length, position = memory.read_varint(data, position, end)
            if position < 0 or self._value_length < -1 or self._value_length >= end - position:
                raise self._corrupt("has a value that is longer than itself, or is cut off")
            self._value_start = position
            if self._value_length > 0:
                position += self._value_length
            self._headers_start = position
            self._headers_length = end - position
            if self._headers_length == 1 and data[position] == 0:
                self._headers_length = 0
            elif not _headers_fit(data, position, end):
                raise self._corrupt("has damaged headers, or bytes after them")
            if (
                offset_delta < 0
                or offset_delta > _MAXIMUM_INT32
                or timestamp_delta < -_MAXIMUM_TIME
                or timestamp_delta > _MAXIMUM_TIME
            ):
                raise self._corrupt("has an impossible offset or timestamp")
            if self._index + 1 == self._count and end != self._end:
                raise self._corrupt(f"is the last one, and {self._end - end} bytes follow")
            self._position = end
            self._index += 1
            self._offset = self._base_offset + offset_delta
            if self._offset >= self._end_offset:
                self._index = self._count
                break
            if self._offset >= self._from_offset:
                self._timestamp_ms = self._fixed_time if self._timestamp_type else self._base_time + timestamp_delta
                self._parsed = True
                return True
        return False

    def _end_if_done(self) -> None:
        """After the last record go on behind the batch: compaction may have removed what stood at its end."""
        if self._index >= self._count and not self._parsed:
            self.next_offset = max(self.next_offset, min(self.header.next_offset, self._end_offset))

    def _corrupt(self, what: str) -> CorruptRecordError:
        return CorruptRecordError(
            f"record {self._index} of {self._count} in the batch at offset {self.header.base_offset} {what}"
        )

    def _deserialized(
        self,
        deserialize: Any,
        origin: str,
        data: bytes | None,
        headers: tuple[tuple[str, bytes | None], ...],
        raw_key: bytes | None,
        raw_value: bytes | None,
    ) -> Any:
        try:
            return deserialize(self.topic, data, headers)
        except Exception as error:
            raise UndeserializableRecordError(
                self.topic, self.partition, self._offset, origin, raw_key, raw_value
            ) from error

    def _next_legacy(self) -> Record | None:
        """The next record to give of a batch of magic 0 or 1, which stays the next one."""
        records = self._legacy
        assert records is not None
        while self._index < self._count:
            record = records[self._index]
            if record.offset >= self._end_offset:
                self._index = self._count
                break
            if record.offset >= self._from_offset:
                return record
            self._index += 1
        return None

    def _take_legacy(self, max_records: int, deserialize_key: Any, deserialize_value: Any, output: Any) -> int:
        taken = 0
        while taken < max_records:
            found = self._next_legacy()
            if found is None:
                break
            self._offset, timestamp_ms, key, value, _ = found
            try:
                record = _record(
                    self.topic,
                    self.partition,
                    self._offset,
                    timestamp_ms,
                    self._timestamp_type,
                    key if deserialize_key is None else self._deserialized(deserialize_key, "key", key, (), key, value),
                    value
                    if deserialize_value is None
                    else self._deserialized(deserialize_value, "value", value, (), key, value),
                    (),
                    NO_LEADER_EPOCH,
                    self._delivery_count,
                    -1 if key is None else len(key),
                    -1 if value is None else len(value),
                )
            except UndeserializableRecordError:
                if not taken:
                    raise
                return taken
            output.append(record)
            self._step_legacy()
            taken += 1
        self._end_if_done()
        return taken

    def _take_legacy_columns(self, max_records: int, columns: Columns) -> int:
        taken = 0
        while taken < max_records:
            found = self._next_legacy()
            if found is None:
                break
            self._offset, timestamp_ms, key, value, _ = found
            columns.append(self.topic, self.partition, self._offset, timestamp_ms, key, value)
            self._step_legacy()
            taken += 1
        self._end_if_done()
        return taken

    def _step_legacy(self) -> None:
        self._index += 1
        self.next_offset = self._offset + 1


def _record(
    topic: str,
    partition: int,
    offset: int,
    timestamp_ms: int,
    timestamp_type: int,
    key: Any,
    value: Any,
    headers: tuple[tuple[str, bytes | None], ...],
    leader_epoch: int,
    delivery_count: int,
    serialized_key_size: int,
    serialized_value_size: int,
) -> ConsumerRecord[Any, Any]:
    """A record without the detour of a call with keywords: compiled, this is a few stores."""
    record: ConsumerRecord[Any, Any] = ConsumerRecord.__new__(ConsumerRecord)
    record.topic = topic
    record.partition = partition
    record.offset = offset
    record.timestamp_ms = timestamp_ms
    record._timestamp_type = timestamp_type
    record.key = key
    record.value = value
    record.headers = headers
    record._leader_epoch = leader_epoch
    record._delivery_count = delivery_count
    record.serialized_key_size = serialized_key_size
    record.serialized_value_size = serialized_value_size
    return record


def _headers_fit(data: memory.View, position: int, end: int) -> bool:
    """Whether the headers from `position` on end exactly at `end`."""
    count, position = memory.read_varint(data, position, end)
    if position < 0 or count < 0 or count > end - position:
        return False
    for _ in range(count):
        length, position = memory.read_varint(data, position, end)
        if position < 0 or length < 0 or length > end - position:
            return False
        length, position = memory.read_varint(data, position + length, end)
        if position < 0 or length < -1 or length > end - position:
            return False
        if length > 0:
            position += length
    return position == end
