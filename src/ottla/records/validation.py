"""What a leader checks on a batch before appending it, and what it rewrites.

The common path reads the 61 bytes of the header, computes one CRC and writes two fields. Records are looked at only
where a topic's settings need it: keys for a compacted topic, timestamps when a bound is broken (to name the records),
the compressed blob as a whole when the topic asks for another codec. A refusal concerns the whole batch.

Not checked here: sequences and epochs of producers (the log's producer state), the size of a segment (the log).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from ottla.core.binary import Buffer
from ottla.core.checksum import crc32c
from ottla.core.errors import ApiError, ErrorCode
from ottla.records.batch import (
    COMPRESSION_MASK,
    CONTROL_FLAG,
    CRC_START,
    HEADER,
    HEADER_SIZE,
    LENGTH_END,
    LOG_APPEND_TIME_FLAG,
    MAGIC_POSITION,
    NO_TIMESTAMP,
    BatchHeader,
    CorruptRecordError,
    assign_offsets,
    batch_size,
    parse_header,
    update_crc,
)
from ottla.records.compression import Codec, compress, decompress
from ottla.records.record import null_key_indexes, read_batch_records

# The first 16 bytes of a batch hold all that an append changes, and the length between.
_OFFSETS = struct.Struct(">qii")
FIRST_VERSION_WITH_ZSTD = 7  # of Produce, KIP-110
MAXIMUM_INT64 = 2**63 - 1
SHOWN_RECORD_ERRORS = 3


class AppendOrigin(IntEnum):
    """Who appends: a client may less than the broker's own coordinators and the metadata quorum."""

    REPLICATION = 0
    COORDINATOR = 1
    CLIENT = 2
    RAFT_LEADER = 3


_CLIENT = AppendOrigin.CLIENT
_RAFT_LEADER = AppendOrigin.RAFT_LEADER
_NOT_FROM_A_CLIENT = CONTROL_FLAG | LOG_APPEND_TIME_FLAG
_SMALLEST_BATCH = LENGTH_END + 14  # of any format
_NEWER_CODEC = 4  # zstd, and the ids that mean nothing
_new_tuple = tuple.__new__


@dataclass(frozen=True, slots=True)
class AppendRules:
    """The settings of a topic that decide about a batch (units: bytes and milliseconds)."""

    max_message_bytes: int = 1024 * 1024 + LENGTH_END
    compression: Codec | None = None  # None is `compression.type=producer`: as the producer sent it
    compression_level: int | None = None
    log_append_time: bool = False
    before_max_ms: int = MAXIMUM_INT64
    after_max_ms: int = 3_600_000
    compacted: bool = False


class NotOneBatchError(ApiError):
    """The bytes are not exactly one batch of the current format: nobody has looked any further."""


class RecordRefusal(NamedTuple):
    """Why one record of a batch was refused: its index in the batch and a text (KIP-467)."""

    batch_index: int
    message: str


class RecordValidationError(ApiError):
    """A batch was refused because of single records, which a Produce response (v8 and later) names."""

    def __init__(self, code: ErrorCode, message: str, record_errors: list[RecordRefusal]) -> None:
        super().__init__(code, message)
        self.record_errors = record_errors


def validate_and_assign(
    batch: bytearray | memoryview,
    *,
    base_offset: int,
    leader_epoch: int,
    now_ms: int,
    rules: AppendRules,
    produce_version: int | None = None,
    origin: AppendOrigin = _CLIENT,
) -> tuple[BatchHeader, bytearray | memoryview]:
    """Check the one batch in `batch` (writable) and make it ready to be appended at `base_offset`.

    Returns the header as it will stand in the log, and the bytes to write: `batch` itself, patched in place, or a
    new buffer when it had to be recompressed. Raises `ApiError` with the code that the producer is to see.
    """
    try:
        (
            first_offset,
            length,
            _,
            magic,
            crc,
            attributes,
            last_offset_delta,
            base_timestamp,
            max_timestamp,
            producer_id,
            producer_epoch,
            base_sequence,
            records_count,
        ) = HEADER.unpack_from(batch)
    except struct.error:
        raise _misframed(batch) from None
    size = len(batch)
    if magic != 2 or length + LENGTH_END != size:
        raise _misframed(batch)
    codec = attributes & COMPRESSION_MASK
    if codec >= _NEWER_CODEC:
        _check_codec(codec, produce_version)
    if size > rules.max_message_bytes:
        raise _too_large(size, rules)
    if crc32c(memoryview(batch)[CRC_START:]) != crc:
        raise ApiError(ErrorCode.CORRUPT_MESSAGE, "the batch has a wrong CRC")
    if origin is _CLIENT and (
        first_offset
        or records_count <= 0
        or records_count != last_offset_delta + 1
        or attributes & _NOT_FROM_A_CLIENT
        or (producer_id >= 0 and base_sequence < 0)
    ):
        raise _refused_header(parse_header(batch))
    target = rules.compression
    if origin is not _RAFT_LEADER:
        if not rules.log_append_time:
            latest = now_ms + rules.after_max_ms
            early = now_ms - rules.before_max_ms
            if max_timestamp > latest or base_timestamp > latest or base_timestamp < early or max_timestamp < early:
                _check_timestamps(batch, max_timestamp, early, latest)
        if rules.compacted or rules.log_append_time or (target is not None and target != codec):
            return _rewrite(batch, base_offset, leader_epoch, now_ms, rules)
    _OFFSETS.pack_into(batch, 0, base_offset, length, leader_epoch)
    fields = (
        base_offset,
        length,
        leader_epoch,
        2,
        crc,
        attributes,
        last_offset_delta,
        base_timestamp,
        max_timestamp,
        producer_id,
        producer_epoch,
        base_sequence,
        records_count,
    )
    return _new_tuple(BatchHeader, fields), batch


def _rewrite(
    batch: bytearray | memoryview, base_offset: int, leader_epoch: int, now_ms: int, rules: AppendRules
) -> tuple[BatchHeader, bytearray | memoryview]:
    """The uncommon paths: look at keys, change the codec, stamp the time."""
    header = parse_header(batch)
    records: Buffer | None = None
    if rules.compacted and not header.is_control:
        records = _decompressed(batch, header)
        _check_keys(records, header)
    target = rules.compression
    attributes = header.attributes
    if target is not None and target != header.compression and not header.is_control:
        if records is None:
            records = _decompressed(batch, header)
        payload = compress(target, records, rules.compression_level)
        attributes = attributes & ~COMPRESSION_MASK | target
        size = HEADER_SIZE + len(payload)
        if size > rules.max_message_bytes:
            raise _too_large(size, rules)
        rewritten = bytearray(memoryview(batch)[:HEADER_SIZE])
        rewritten += payload
        batch = rewritten
    max_timestamp = header.max_timestamp
    if rules.log_append_time:
        attributes |= LOG_APPEND_TIME_FLAG
        max_timestamp = now_ms
    changed = header._replace(batch_length=len(batch) - LENGTH_END, attributes=attributes, max_timestamp=max_timestamp)
    if changed != header:
        HEADER.pack_into(batch, 0, *changed)
        update_crc(batch, 0, len(batch))
    assign_offsets(batch, 0, base_offset, leader_epoch)
    return parse_header(batch), batch


def _decompressed(batch: Buffer, header: BatchHeader) -> Buffer:
    try:
        return decompress(header.compression, memoryview(batch)[HEADER_SIZE:])
    except CorruptRecordError as error:
        raise ApiError(ErrorCode.INVALID_RECORD, str(error)) from error


def _check_keys(records: Buffer, header: BatchHeader) -> None:
    try:
        indexes = null_key_indexes(records, header.records_count)
    except CorruptRecordError as error:
        raise ApiError(ErrorCode.INVALID_RECORD, str(error)) from error
    if indexes:
        raise _refused_records(
            ErrorCode.INVALID_RECORD,
            [RecordRefusal(index, "Compacted topic cannot accept message without key.") for index in indexes],
        )


def _check_codec(codec: int, produce_version: int | None) -> None:
    if codec > Codec.ZSTD:
        raise ApiError(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, f"unknown compression codec {codec}")
    if produce_version is not None and produce_version < FIRST_VERSION_WITH_ZSTD:
        raise ApiError(
            ErrorCode.UNSUPPORTED_COMPRESSION_TYPE,
            f"Produce requests with version {produce_version} are not allowed to use ZStandard compression",
        )


def _check_timestamps(batch: Buffer, max_timestamp: int, earliest: int, latest: int) -> None:
    """A time stamp in the header is out of bounds: refuse, naming the records, unless the records have none."""
    bounds = f"out of range. The timestamp should be within [{earliest}, {latest}]"
    try:
        timestamps = [record.timestamp_ms for record in read_batch_records(batch, 0, parse_header(batch))]
    except CorruptRecordError as error:
        raise ApiError(ErrorCode.INVALID_RECORD, str(error)) from error
    refusals = [
        RecordRefusal(index, f"Timestamp {timestamp} of message with offset {index} is {bounds}")
        for index, timestamp in enumerate(timestamps)
        if timestamp != NO_TIMESTAMP and not earliest <= timestamp <= latest
    ]
    if not refusals and max_timestamp not in (NO_TIMESTAMP, max(timestamps, default=NO_TIMESTAMP)):
        refusals = [RecordRefusal(0, f"Timestamp {max_timestamp} of the batch is {bounds}")]
    if refusals:
        raise _refused_records(ErrorCode.INVALID_TIMESTAMP, refusals)


def _refused_header(header: BatchHeader) -> ApiError:
    """Say which of the rules for clients a header breaks."""
    if header.base_offset:
        text = f"the base offset of a batch from a client should be 0, but it is {header.base_offset}"
    elif header.records_count <= 0:
        text = f"the batch has an invalid record count: {header.records_count}"
    elif header.records_count != header.last_offset_delta + 1:
        text = f"the batch has {header.records_count} records but a last offset delta of {header.last_offset_delta}"
    elif header.is_control:
        text = "clients are not allowed to write control records"
    elif header.uses_log_append_time:
        message = "producers should not set the timestamp type to LogAppendTime"
        return RecordValidationError(ErrorCode.INVALID_TIMESTAMP, message, [RecordRefusal(0, message)])
    else:
        text = f"the batch has producer id {header.producer_id} but the invalid base sequence {header.base_sequence}"
    return ApiError(ErrorCode.INVALID_RECORD, text)


def _refused_records(code: ErrorCode, refusals: list[RecordRefusal]) -> RecordValidationError:
    if code is ErrorCode.INVALID_TIMESTAMP:
        text = "One or more records have been rejected due to invalid timestamp"
    else:
        shown = "; ".join(f"{refusal.batch_index}: {refusal.message}" for refusal in refusals[:SHOWN_RECORD_ERRORS])
        text = (
            f"One or more records have been rejected due to {len(refusals)} record errors in total, "
            f"and only showing the first three errors at most: {shown}"
        )
    return RecordValidationError(code, text, refusals)


def _misframed(batch: Buffer) -> NotOneBatchError:
    """The bytes are not exactly one v2 batch: say in which way.

    Kafka's distinction: what can be no batch is corrupt (the producer tries again), while a batch that is not there in
    full is none at all, and the record set without a batch is invalid.
    """
    size = batch_size(batch)
    if size is not None and size < _SMALLEST_BATCH:
        return NotOneBatchError(ErrorCode.CORRUPT_MESSAGE, f"the batch claims a size of {size} bytes")
    magic = batch[MAGIC_POSITION] if len(batch) > MAGIC_POSITION else None
    if magic is not None and magic > 2:
        return NotOneBatchError(ErrorCode.CORRUPT_MESSAGE, f"the batch has the unknown magic {magic}")
    if size is None or magic is None or size > len(batch):
        return NotOneBatchError(ErrorCode.INVALID_RECORD, "a partition must have at least one whole record batch")
    if magic != 2:
        return NotOneBatchError(
            ErrorCode.INVALID_RECORD, f"only record batches with magic version 2 are allowed, not {magic}"
        )
    if size < HEADER_SIZE:
        return NotOneBatchError(ErrorCode.CORRUPT_MESSAGE, f"the batch claims a size of {size} bytes")
    next_size = batch_size(batch, size)
    if next_size is not None and next_size < _SMALLEST_BATCH:
        return NotOneBatchError(ErrorCode.CORRUPT_MESSAGE, f"{len(batch) - size} bytes behind the batch are no batch")
    return NotOneBatchError(ErrorCode.INVALID_RECORD, "exactly one record batch per partition is allowed")


def _too_large(size: int, rules: AppendRules) -> ApiError:
    return ApiError(
        ErrorCode.MESSAGE_TOO_LARGE,
        f"the record batch size of {size} bytes exceeds the maximum of {rules.max_message_bytes}",
    )
