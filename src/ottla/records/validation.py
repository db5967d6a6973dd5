"""What a leader checks on a batch before appending it, and what it rewrites.

The common path reads the 61 bytes of the header, computes one CRC and writes two fields. Records are looked at only
where a topic's settings need it: keys for a compacted topic, timestamps when a bound is broken (to name the records),
the compressed blob as a whole when the topic asks for another codec. A refusal concerns the whole batch.

A batch of a client whose records have to be looked at, and which may take long, is not for the event loop: it is
refused with `LaboriousBatchError`, opened in a worker thread (`open_batch`), and comes again as an `OpenedBatch`.

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
from ottla.records.compression import DEFAULT_LIMIT_BYTES, Codec, TooLargeError, compress, decompress
from ottla.records.record import null_key_indexes, record_times

# The first 16 bytes of a batch hold all that an append changes, and the length between.
_OFFSETS = struct.Struct(">qii")
FIRST_VERSION_WITH_ZSTD = 7  # of Produce, KIP-110
MAXIMUM_INT64 = 2**63 - 1
SHOWN_RECORD_ERRORS = 3
MOST_RECORD_ERRORS = 1000
"""So many records are named in a refusal; the rest is counted."""

MOST_RECORDS = 1_000_000
"""A batch that has to be opened has no more records: looking at one takes a microsecond."""

SMALLEST_RECORD_BYTES = 7

# What is opened where it came in: about a millisecond of work.
QUICK_SIZE = 16 * 1024
QUICK_BYTES = 256 * 1024
QUICK_RECORDS = 2048


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
    max_decompressed_bytes: int = DEFAULT_LIMIT_BYTES


class NotOneBatchError(ApiError):
    """The bytes are not exactly one batch of the current format: nobody has looked any further."""


class LaboriousBatchError(Exception):
    """The batch is to be opened with `open_batch` first, in a worker thread. Nothing was changed."""


class OpenedBatch(bytearray):
    """A batch whose records are as `rules` want them: only its place in the log is missing."""

    __slots__ = ("rules",)

    rules: AppendRules


class Allowance:
    """How long records may still become, and how many may be looked at: of all batches that it is handed on to."""

    __slots__ = ("records", "size")

    def __init__(self, size: int, records: int = MOST_RECORDS) -> None:
        self.size = size
        self.records = records


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
    new buffer when it had to be recompressed. Raises `ApiError` with the code that the producer is to see, and
    `LaboriousBatchError` for a batch of a client that is to be opened first.
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
                opened = _opened(batch, now_ms, rules, origin)
                return _rewrite(opened, base_offset, leader_epoch, now_ms, rules, origin)
        if rules.compacted or rules.log_append_time or (target is not None and target != codec):
            return _rewrite(batch, base_offset, leader_epoch, now_ms, rules, origin)
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


def open_batch(batch: Buffer, now_ms: int, rules: AppendRules, allowance: Allowance | None = None) -> OpenedBatch:
    """Look at the records of a batch whose header and checksum are right, and write them in the codec of the topic.

    May take long: for a worker thread. Compressed records may become as long as the rules and what is left of the
    allowance permit; what they take is taken from it.

    Raises `ApiError`: MESSAGE_TOO_LARGE (a producer splits the batch and tries again), INVALID_RECORD,
    INVALID_TIMESTAMP.
    """
    header = parse_header(batch)
    if allowance is None:
        allowance = Allowance(rules.max_decompressed_bytes)
    limit = min(rules.max_decompressed_bytes, allowance.size)
    allowance.records -= header.records_count
    if allowance.records < 0 or limit <= 0:
        raise ApiError(
            ErrorCode.MESSAGE_TOO_LARGE,
            f"these are too many records to be looked at, {header.records_count} in a batch",
        )
    records: Buffer = memoryview(batch)[HEADER_SIZE:]
    try:
        if header.compression:
            allowance.size -= limit
            records = decompress(header.compression, records, limit)
            allowance.size += limit - len(records)
        return _looked_at(batch, header, records, now_ms, rules)
    except TooLargeError as error:
        raise ApiError(ErrorCode.MESSAGE_TOO_LARGE, str(error)) from error
    except CorruptRecordError as error:
        raise ApiError(ErrorCode.INVALID_RECORD, str(error)) from error


def _looked_at(batch: Buffer, header: BatchHeader, records: Buffer, now_ms: int, rules: AppendRules) -> OpenedBatch:
    if not rules.log_append_time:
        latest = now_ms + rules.after_max_ms
        early = now_ms - rules.before_max_ms
        stamps = (header.max_timestamp, header.base_timestamp)
        if max(stamps) > latest or min(stamps) < early:
            _check_timestamps(records, header, early, latest)
    if rules.compacted and not header.is_control:
        _check_keys(records, header)
    opened = OpenedBatch(memoryview(batch)[:HEADER_SIZE])
    opened.rules = rules
    target = rules.compression
    if target is None or target == header.compression or header.is_control:
        opened += memoryview(batch)[HEADER_SIZE:]
        return opened
    opened += compress(target, records, rules.compression_level)
    if len(opened) > rules.max_message_bytes:
        raise _too_large(len(opened), rules)
    changed = header._replace(
        batch_length=len(opened) - LENGTH_END, attributes=header.attributes & ~COMPRESSION_MASK | target
    )
    HEADER.pack_into(opened, 0, *changed)
    update_crc(opened, 0, len(opened))
    return opened


def _opened(batch: bytearray | memoryview, now_ms: int, rules: AppendRules, origin: AppendOrigin) -> OpenedBatch:
    """The batch opened: as it comes, or here and now when that takes no time, or when nobody else would do it."""
    if isinstance(batch, OpenedBatch) and batch.rules is rules:
        return batch
    if origin is not _CLIENT:
        return open_batch(batch, now_ms, rules)
    header = parse_header(batch)
    if header.records_count > QUICK_RECORDS or len(batch) > QUICK_SIZE:
        raise LaboriousBatchError
    try:
        return open_batch(batch, now_ms, rules, Allowance(QUICK_BYTES))
    except ApiError as error:
        if isinstance(error.__cause__, TooLargeError):
            raise LaboriousBatchError from None
        raise


def _rewrite(
    batch: bytearray | memoryview,
    base_offset: int,
    leader_epoch: int,
    now_ms: int,
    rules: AppendRules,
    origin: AppendOrigin,
) -> tuple[BatchHeader, bytearray | memoryview]:
    """The uncommon paths: look at keys, change the codec, stamp the time."""
    header = parse_header(batch)
    target = rules.compression
    if not header.is_control and (rules.compacted or (target is not None and target != header.compression)):
        batch = _opened(batch, now_ms, rules, origin)
        header = parse_header(batch)
    if rules.log_append_time:
        stamped = header._replace(attributes=header.attributes | LOG_APPEND_TIME_FLAG, max_timestamp=now_ms)
        if stamped != header:
            HEADER.pack_into(batch, 0, *stamped)
            update_crc(batch, 0, len(batch))
    assign_offsets(batch, 0, base_offset, leader_epoch)
    return parse_header(batch), batch


def _check_keys(records: Buffer, header: BatchHeader) -> None:
    indexes = null_key_indexes(records, header.records_count)
    if indexes:
        text = "Compacted topic cannot accept message without key."
        refusals = [RecordRefusal(index, text) for index in indexes[:MOST_RECORD_ERRORS]]
        raise _refused_records(ErrorCode.INVALID_RECORD, refusals, len(indexes))


def _check_codec(codec: int, produce_version: int | None) -> None:
    if codec > Codec.ZSTD:
        raise ApiError(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, f"unknown compression codec {codec}")
    if produce_version is not None and produce_version < FIRST_VERSION_WITH_ZSTD:
        raise ApiError(
            ErrorCode.UNSUPPORTED_COMPRESSION_TYPE,
            f"Produce requests with version {produce_version} are not allowed to use ZStandard compression",
        )


def _check_timestamps(records: Buffer, header: BatchHeader, earliest: int, latest: int) -> None:
    """A time stamp in the header is out of bounds: refuse, naming the records, unless the records have none."""
    bounds = f"out of range. The timestamp should be within [{earliest}, {latest}]"
    refusals: list[RecordRefusal] = []
    count = 0
    largest = NO_TIMESTAMP
    for index, (_, timestamp) in enumerate(record_times(bytes(records), header)):
        largest = max(largest, timestamp)
        if timestamp != NO_TIMESTAMP and not earliest <= timestamp <= latest:
            count += 1
            if count <= MOST_RECORD_ERRORS:
                text = f"Timestamp {timestamp} of message with offset {index} is {bounds}"
                refusals.append(RecordRefusal(index, text))
    if not refusals and header.max_timestamp not in (NO_TIMESTAMP, largest):
        count = 1
        refusals = [RecordRefusal(0, f"Timestamp {header.max_timestamp} of the batch is {bounds}")]
    if refusals:
        raise _refused_records(ErrorCode.INVALID_TIMESTAMP, refusals, count)


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


def _refused_records(code: ErrorCode, refusals: list[RecordRefusal], count: int) -> RecordValidationError:
    if code is ErrorCode.INVALID_TIMESTAMP:
        text = "One or more records have been rejected due to invalid timestamp"
    else:
        shown = "; ".join(f"{refusal.batch_index}: {refusal.message}" for refusal in refusals[:SHOWN_RECORD_ERRORS])
        text = (
            f"One or more records have been rejected due to {count} record errors in total, "
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
