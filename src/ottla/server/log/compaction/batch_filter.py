"""What becomes of a batch when a log is compacted: dropped, copied as it is, or written with fewer records.

The rules are Kafka's. A record of the cleaned part stays when it is the last one of its key; without a key it goes. A
tombstone stays until the delete horizon that its batch got when it was first cleaned (KIP-534). Data of aborted
transactions goes at once; a marker goes after its data, and after a horizon of its own. A batch is kept, empty if need
be, when it is the last one of a producer that is still active (its sequence and epoch live in it), or the last one of
the part that is cleaned (the end of the log must not move).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Final

from ottla.core.checksum import crc32c
from ottla.records.batch import (
    COMPRESSION_MASK,
    CONTROL_FLAG,
    CRC_START,
    DELETE_HORIZON_FLAG,
    HEADER_SIZE,
    LENGTH_END,
    LOG_APPEND_TIME_FLAG,
    TRANSACTIONAL_FLAG,
    BatchHeader,
    CorruptRecordError,
    crc_matches,
)
from ottla.records.compression import DEFAULT_LIMIT_BYTES, decompress
from ottla.records.record import Record, assemble_batch, encode_records, read_batch_records
from ottla.server.log.compaction.key_map import KeyMap
from ottla.server.log.compaction.records import (
    Kept,
    batch_of_kept,
    batch_with_delete_horizon,
    empty_batch,
    keep_records,
    records_at,
    split_records,
)
from ottla.server.log.compaction.transactions import PassedTransactions
from ottla.server.log.producer_state import read_marker
from ottla.server.log.transaction_index import AbortedTransaction

KEEP: Final = True
DROP: Final = None
Verdict = bytes | bool | None
"""KEEP (the batch as it is), DROP, or the bytes of the batch that takes its place."""


def record_bytes(
    chunk: bytes, position: int, header: BatchHeader, limit_bytes: int = DEFAULT_LIMIT_BYTES
) -> tuple[bytes, int, int]:
    """The encoded records of a v2 batch, uncompressed: the buffer that has them, and from where to where.

    Raises `CorruptRecordError`: what does not fit its checksum must not get a new one.
    """
    end = position + LENGTH_END + header.batch_length
    if crc32c(memoryview(chunk)[position + CRC_START : end]) != header.crc:
        raise CorruptRecordError(f"the batch at offset {header.base_offset} has a wrong CRC")
    codec = header.attributes & COMPRESSION_MASK
    if not codec:
        return chunk, position + HEADER_SIZE, end
    data = bytes(decompress(codec, memoryview(chunk)[position + HEADER_SIZE : end], limit_bytes))
    return data, 0, len(data)


def put_batch(
    keys: KeyMap,
    chunk: bytes,
    position: int,
    header: BatchHeader,
    first_offset: int,
    limit_bytes: int = DEFAULT_LIMIT_BYTES,
) -> None:
    """Take the records of a data batch from `first_offset` on into the map."""
    if header.magic >= 2 and header.base_offset >= first_offset:
        data, start, end = record_bytes(chunk, position, header, limit_bytes)
        has_gaps = header.records_count != header.last_offset_delta + 1
        keys.put_batch(data, start, end, header.base_offset, has_gaps=has_gaps)
        return
    if not crc_matches(chunk, position, header):
        raise CorruptRecordError(f"the batch at offset {header.base_offset} has a wrong CRC")
    for record in read_batch_records(chunk, position, header, limit_bytes=limit_bytes):
        if record.key is not None and record.offset >= first_offset:
            keys.put(record.key, record.offset)


class BatchFilter:
    """Decides batch by batch, in the order of the log.

    `first_dirty_offset`: below it are records that earlier rounds left, above it those in the map. `end_offset`: of the
    part that is cleaned. `last_batches`: last data offset (-1: none) and epoch of every producer that is known.
    `retained_aborted` collects aborted transactions whose marker stays. A batch's records may take `limit_bytes`
    uncompressed.
    """

    def __init__(
        self,
        keys: KeyMap,
        transactions: PassedTransactions,
        last_batches: Mapping[int, tuple[int, int]],
        *,
        first_dirty_offset: int,
        end_offset: int,
        now_ms: int,
        delete_retention_ms: int,
        limit_bytes: int = DEFAULT_LIMIT_BYTES,
    ) -> None:
        self._keys = keys
        self._transactions = transactions
        self._last_batches = last_batches
        self._needed_offsets = sorted(offset for offset, _ in last_batches.values() if offset >= 0)
        self._first_dirty_offset = first_dirty_offset
        self._end_offset = end_offset
        self._now_ms = now_ms
        self._limit_bytes = limit_bytes
        self._new_horizon_ms = now_ms + delete_retention_ms
        self.retained_aborted: list[AbortedTransaction] = []

    def next_wanted(self, offset: int) -> int | None:
        """The lowest offset from `offset` on whose batch is not sure to be dropped, in a segment that is wholly in the
        map and has no transactions; None when there is none.
        """
        survivor = self._keys.next_survivor(offset)
        index = bisect_left(self._needed_offsets, offset)
        needed = self._needed_offsets[index] if index < len(self._needed_offsets) else None
        if survivor is None or needed is None:
            return needed if survivor is None else survivor
        return min(survivor, needed)

    def decide(self, chunk: bytes, position: int, header: BatchHeader) -> Verdict:
        """What becomes of the batch at `position`. Raises `CorruptRecordError`."""
        attributes = header.attributes
        last_offset = header.base_offset + header.last_offset_delta
        is_needed = last_offset + 1 == self._end_offset
        if header.producer_id >= 0:
            is_needed = is_needed or self._is_last_of_producer(header)
            if attributes & CONTROL_FLAG:
                return self._decide_control(chunk, position, header, is_needed)
            if attributes & TRANSACTIONAL_FLAG and self._transactions.is_aborted(header.producer_id, last_offset):
                return self._emptied(header, is_needed)
        if header.magic < 2:
            verdict = self._decide_legacy(chunk, position, header)
        elif not header.records_count:
            verdict = DROP
        elif (
            header.base_offset >= self._first_dirty_offset
            and last_offset <= self._keys.latest_offset
            and not attributes & DELETE_HORIZON_FLAG
        ):
            verdict = self._decide_dirty(chunk, position, header)
        elif header.base_offset > self._keys.latest_offset:
            return KEEP
        else:
            verdict = self._decide_any(chunk, position, header)
        return self._emptied(header, is_needed) if verdict is DROP else verdict

    def _emptied(self, header: BatchHeader, is_needed: bool) -> Verdict:
        if not is_needed:
            return DROP
        return empty_batch(header) if header.records_count or header.magic < 2 else KEEP

    def _is_last_of_producer(self, header: BatchHeader) -> bool:
        last = self._last_batches.get(header.producer_id)
        if last is None:
            return False
        last_data_offset, producer_epoch = last
        if last_data_offset >= 0:
            return header.last_offset == last_data_offset
        # Nothing but a marker is known of it: that has the epoch which fences its predecessors.
        return header.is_control and header.producer_epoch == producer_epoch

    def _decide_control(self, chunk: bytes, position: int, header: BatchHeader, is_needed: bool) -> Verdict:
        transactions = self._transactions
        if header.records_count:
            if not crc_matches(chunk, position, header):
                raise CorruptRecordError(f"the batch at offset {header.base_offset} has a wrong CRC")
            marker = read_marker(chunk, position, header)
            if marker is None:
                return KEEP
            if marker.is_abort:
                aborted = transactions.end_aborted(header.producer_id, header.last_offset)
                if aborted is not None:
                    self.retained_aborted.append(aborted)
                has_data = aborted is not None
            else:
                has_data = transactions.end_committed(header.producer_id, header.last_offset)
            if has_data:
                return KEEP
            horizon_ms = header.delete_horizon_ms
            if horizon_ms is None:
                data, start, end = record_bytes(chunk, position, header, self._limit_bytes)
                return batch_with_delete_horizon(header, data, [start, end], [0], self._new_horizon_ms)
            if horizon_ms > self._now_ms:
                return KEEP
        # Emptied, as Kafka does it, it would no longer tell a start without snapshots of its producer's epoch.
        return KEEP if is_needed else DROP

    def _decide_dirty(self, chunk: bytes, position: int, header: BatchHeader) -> Verdict:
        """A batch that is wholly in the map: it is known where the records are that stay."""
        keys = self._keys
        starts = keys.survivors(header.base_offset, header.next_offset)
        if not starts:
            return DROP
        if header.base_offset in keys.tombstone_batches:
            return self._decide_any(chunk, position, header)
        if len(starts) == header.records_count:
            return KEEP
        data, start, end = record_bytes(chunk, position, header, self._limit_bytes)
        if start:
            starts = [start + local for local in starts]
        return batch_of_kept(header, data, records_at(data, starts, end))

    def _decide_any(self, chunk: bytes, position: int, header: BatchHeader) -> Verdict:
        """Any v2 batch of data, record by record."""
        data, start, end = record_bytes(chunk, position, header, self._limit_bytes)
        records = split_records(data, start, end)
        if len(records.keys) != header.records_count:
            raise CorruptRecordError(f"the batch at offset {header.base_offset} has another number of records")
        places, latest_offset = self._keys.places, self._keys.latest_offset
        base_offset = header.base_offset
        if header.last_offset < self._first_dirty_offset:
            # All records of the map are newer than these.
            if None not in records.keys and places.keys().isdisjoint(records.keys):
                indexes = list(range(len(records.keys)))
            else:
                indexes = [index for index, key in enumerate(records.keys) if key is not None and key not in places]
        else:
            offset_of = self._keys.offset_of
            indexes = [
                index
                for index, key in enumerate(records.keys)
                if (offset := base_offset + records.deltas[index]) > latest_offset
                or (key is not None and offset >= offset_of(key))
            ]
        tombstones = set(records.tombstones)
        horizon_ms = header.delete_horizon_ms
        if tombstones and horizon_ms is not None and horizon_ms <= self._now_ms:
            indexes = [
                index
                for index in indexes
                if index not in tombstones or base_offset + records.deltas[index] > latest_offset
            ]
        if not indexes:
            return DROP
        if horizon_ms is None and not tombstones.isdisjoint(indexes):
            return batch_with_delete_horizon(header, data, records.starts, indexes, self._new_horizon_ms)
        if len(indexes) == len(records.keys):
            return KEEP
        kept: Kept = keep_records(data, records.starts, indexes)
        return batch_of_kept(header, data, kept)

    def _decide_legacy(self, chunk: bytes, position: int, header: BatchHeader) -> Verdict:
        """A message of format 0 or 1. What stays is written in format 2, as Kafka does; a tombstone gets its horizon
        with that.
        """
        if not crc_matches(chunk, position, header):
            raise CorruptRecordError(f"the message at offset {header.base_offset} has a wrong CRC")
        offset_of, latest_offset = self._keys.offset_of, self._keys.latest_offset
        records = read_batch_records(chunk, position, header, limit_bytes=self._limit_bytes)
        kept = [
            record
            for record in records
            if record.offset > latest_offset or (record.key is not None and record.offset >= offset_of(record.key))
        ]
        if not kept:
            return DROP
        return self._convert(header, kept)

    def _convert(self, header: BatchHeader, records: list[Record]) -> bytes:
        base_offset = records[0].offset
        has_tombstone = any(record.value is None for record in records)
        base_timestamp = self._new_horizon_ms if has_tombstone else records[0].timestamp_ms
        attributes = header.attributes & (COMPRESSION_MASK | LOG_APPEND_TIME_FLAG)
        converted = header._replace(
            base_offset=base_offset,
            magic=2,
            attributes=attributes | (DELETE_HORIZON_FLAG if has_tombstone else 0),
            last_offset_delta=records[-1].offset - base_offset,
            base_timestamp=base_timestamp,
            max_timestamp=max(record.timestamp_ms for record in records),
            records_count=len(records),
        )
        encoded = encode_records(records, base_timestamp, base_offset=base_offset)
        return bytes(assemble_batch(converted, encoded, header.compression))
