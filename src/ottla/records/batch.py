"""The record batch header: all that a broker reads of the data it moves.

A v2 batch is 61 bytes of header and a blob of records, which stays opaque here. Base offset and partition leader epoch
lie outside the CRC: a leader rewrites both in place. Entries of the legacy formats (magic 0 and 1, still readable on an
old disk, KIP-724) are presented with the same header class: one entry is one batch, a compressed wrapper carries the
offset of its last inner message, so `base_offset` is exact only for the uncompressed ones.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from ottla.core.binary import Buffer
from ottla.core.checksum import crc32c

HEADER_SIZE = 61
LENGTH_END = 12  # base offset and batch length; the batch length counts what follows
LEGACY_HEADER_SIZE = 17  # as far as the magic byte, which stands at the same place in all formats
MAGIC_POSITION = 16
CRC_POSITION = 17
CRC_START = 21
RECORDS_COUNT_POSITION = 57

NO_PRODUCER_ID = -1
NO_PRODUCER_EPOCH = -1
NO_SEQUENCE = -1
NO_TIMESTAMP = -1
NO_LEADER_EPOCH = -1

COMPRESSION_MASK = 0x07
LOG_APPEND_TIME_FLAG = 0x08
TRANSACTIONAL_FLAG = 0x10
CONTROL_FLAG = 0x20
DELETE_HORIZON_FLAG = 0x40

HEADER = struct.Struct(">qiibIhiqqqhii")
_PREFIX = struct.Struct(">qiIb")
_LEGACY = struct.Struct(">qiIbb")
_INT64 = struct.Struct(">q")
_INT32 = struct.Struct(">i")

_MINIMUM_LENGTH_V2 = HEADER_SIZE - LENGTH_END
_MINIMUM_LENGTH_LEGACY = (14, 22)


class CorruptRecordError(Exception):
    """Bytes that claim to be records, and are not."""


class BatchHeader(NamedTuple):
    """The header of a batch, fields in the order of the wire."""

    base_offset: int
    batch_length: int
    partition_leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    records_count: int

    @property
    def last_offset(self) -> int:
        """Offset of the last record, also when compaction has removed it."""
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> int:
        """Offset after the last record."""
        return self.base_offset + self.last_offset_delta + 1

    @property
    def last_sequence(self) -> int:
        """Sequence of the last record, wrapped after 2^31-1; -1 without producer."""
        if self.base_sequence == NO_SEQUENCE:
            return NO_SEQUENCE
        return (self.base_sequence + self.last_offset_delta) & 0x7FFFFFFF

    @property
    def size_in_bytes(self) -> int:
        """Size of the whole batch, header included."""
        return LENGTH_END + self.batch_length

    @property
    def compression(self) -> int:
        """The codec id (`records.compression.Codec`)."""
        return self.attributes & COMPRESSION_MASK

    @property
    def has_producer_id(self) -> bool:
        return self.producer_id >= 0

    @property
    def is_transactional(self) -> bool:
        return self.attributes & TRANSACTIONAL_FLAG != 0

    @property
    def is_control(self) -> bool:
        return self.attributes & CONTROL_FLAG != 0

    @property
    def uses_log_append_time(self) -> bool:
        return self.attributes & LOG_APPEND_TIME_FLAG != 0

    @property
    def delete_horizon_ms(self) -> int | None:
        """When tombstones and markers in it may go (KIP-534); it stands in the place of the base timestamp."""
        return self.base_timestamp if self.attributes & DELETE_HORIZON_FLAG else None


def parse_header(buffer: Buffer, position: int = 0) -> BatchHeader:
    """Read the header at `position`; `CorruptRecordError` when there is none. The CRC is not looked at.

    Only header bytes need to be there, not the records.
    """
    try:
        header = BatchHeader._make(HEADER.unpack_from(buffer, position))
        if header.magic == 2:
            if header.batch_length < _MINIMUM_LENGTH_V2:
                raise CorruptRecordError(f"batch length {header.batch_length} is smaller than a batch header")
            return header
    except struct.error:
        pass
    return _parse_legacy_header(buffer, position)


def batch_size(buffer: Buffer, position: int = 0) -> int | None:
    """Size of the batch at `position` as its length field has it, or None when that field is not there in full."""
    if len(buffer) - position < LENGTH_END:
        return None
    return LENGTH_END + int(_INT32.unpack_from(buffer, position + 8)[0])


def batches(buffer: Buffer) -> Iterator[tuple[int, BatchHeader]]:
    """Position and header of each complete batch; a batch cut off at the end (as a fetch may do) ends the iteration."""
    position = 0
    end = len(buffer)
    while end - position >= LEGACY_HEADER_SIZE:
        size = LENGTH_END + _INT32.unpack_from(buffer, position + 8)[0]
        if size < LENGTH_END + _MINIMUM_LENGTH_LEGACY[0]:
            raise CorruptRecordError(
                f"batch length {size - LENGTH_END} at byte {position} is smaller than a batch header"
            )
        if end - position < size:
            return
        yield position, parse_header(buffer, position)
        position += size


def crc_matches(buffer: Buffer, position: int, header: BatchHeader) -> bool:
    """Whether the content of a complete batch has the checksum that its header names."""
    end = position + LENGTH_END + header.batch_length
    if len(buffer) < end:
        return False
    view = memoryview(buffer)
    if header.magic == 2:
        return crc32c(view[position + CRC_START : end]) == header.crc
    return zlib.crc32(view[position + MAGIC_POSITION : end]) == header.crc


def assign_offsets(buffer: bytearray | memoryview, position: int, base_offset: int, leader_epoch: int) -> None:
    """Write base offset and partition leader epoch into a batch; its CRC stays right."""
    _INT64.pack_into(buffer, position, base_offset)
    _INT32.pack_into(buffer, position + LENGTH_END, leader_epoch)


def update_crc(buffer: bytearray | memoryview, position: int, size: int) -> None:
    """Compute and store the CRC of the v2 batch of `size` bytes at `position`."""
    crc = crc32c(memoryview(buffer)[position + CRC_START : position + size])
    struct.pack_into(">I", buffer, position + CRC_POSITION, crc)


def _parse_legacy_header(buffer: Buffer, position: int) -> BatchHeader:
    try:
        offset, length, crc, magic = _PREFIX.unpack_from(buffer, position)
        if magic not in (0, 1):
            raise CorruptRecordError(
                f"unknown record batch format (magic {magic}) at byte {position}, or a cut-off header"
            )
        if length < _MINIMUM_LENGTH_LEGACY[magic]:
            raise CorruptRecordError(f"message length {length} is smaller than a message header")
        attributes = _LEGACY.unpack_from(buffer, position)[4] & 0x0F
        timestamp = _INT64.unpack_from(buffer, position + 18)[0] if magic == 1 else NO_TIMESTAMP
    except struct.error as error:
        raise CorruptRecordError(f"{len(buffer) - position} bytes are too few for a batch header") from error
    return BatchHeader(
        base_offset=offset,
        batch_length=length,
        partition_leader_epoch=NO_LEADER_EPOCH,
        magic=magic,
        crc=crc,
        attributes=attributes if magic == 1 else attributes & COMPRESSION_MASK,
        last_offset_delta=0,
        base_timestamp=timestamp,
        max_timestamp=timestamp,
        producer_id=NO_PRODUCER_ID,
        producer_epoch=NO_PRODUCER_EPOCH,
        base_sequence=NO_SEQUENCE,
        records_count=1,
    )
