"""ListOffsets by timestamp: which record is the first at or after a time, which has the largest one (KIP-734)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ottla.records.batch import HEADER_SIZE, BatchHeader
from ottla.records.compression import DEFAULT_LIMIT_BYTES, decompress
from ottla.records.record import read_batch_records, record_times
from ottla.server.log.scan import batch_headers
from ottla.server.log.segment import Segment
from ottla.server.log.segment_file import SegmentFile


class TimestampOffset(NamedTuple):
    """A record: when, where, and in which leader epoch it was written."""

    timestamp_ms: int
    offset: int
    leader_epoch: int


class _Candidate(NamedTuple):
    """What a worker thread may know of a segment."""

    file: SegmentFile
    size: int
    largest_timestamp: Callable[[], int]
    entry_for_timestamp: Callable[[int], tuple[int, int]]
    position_of: Callable[[int], int]


def offset_for_timestamp(
    segments: list[Segment], timestamp_ms: int, start_offset: int, limit_bytes: int = DEFAULT_LIMIT_BYTES
) -> Callable[[], TimestampOffset | None]:
    """A search for the first record at or after `start_offset` that is not older than `timestamp_ms`.

    Called in the owner's thread; the function that comes back does the reading and may be called in any. It raises
    CorruptRecordError, also for a batch that is longer than `limit_bytes` uncompressed.
    """
    candidates = [_candidate(segment) for segment in list(segments)]

    def search() -> TimestampOffset | None:
        for candidate in candidates:
            if candidate.largest_timestamp() < timestamp_ms:
                continue
            _, entry_offset = candidate.entry_for_timestamp(timestamp_ms)
            position = candidate.position_of(max(entry_offset, start_offset))
            with candidate.file.reader() as read_at:
                for at, header in batch_headers(read_at, position, candidate.size):
                    if header.max_timestamp >= timestamp_ms and header.last_offset >= start_offset:
                        found = _first_record(
                            read_at(at, header.size_in_bytes), header, timestamp_ms, start_offset, limit_bytes
                        )
                        if found is not None:
                            return found
        return None

    return search


def offset_of_max_timestamp(
    segments: list[Segment], limit_bytes: int = DEFAULT_LIMIT_BYTES
) -> Callable[[], TimestampOffset | None]:
    """A search for the first record with the largest timestamp; to be used like `offset_for_timestamp`."""
    candidates = [_candidate(segment) for segment in list(segments)]

    def search() -> TimestampOffset | None:
        best: _Candidate | None = None
        largest = -1
        for candidate in candidates:
            timestamp = candidate.largest_timestamp()
            if timestamp > largest:
                best, largest = candidate, timestamp
        if best is None:
            return None
        _, entry_offset = best.entry_for_timestamp(largest - 1)
        position = best.position_of(entry_offset)
        with best.file.reader() as read_at:
            for at, header in batch_headers(read_at, position, best.size):
                if header.max_timestamp >= largest:
                    return _first_record(read_at(at, header.size_in_bytes), header, largest, 0, limit_bytes)
        return None

    return search


def _candidate(segment: Segment) -> _Candidate:
    if segment.timestamps_known:
        known = segment.max_timestamp
        return _Candidate(
            segment.file,
            segment.size,
            lambda: known,
            segment.time_index.searcher(),
            segment.offset_index.searcher(),
        )
    # A closed segment that nobody has looked at: its index files are read where it may take time.
    return _Candidate(
        segment.file,
        segment.size,
        lambda: segment.unopened_time_index().last_timestamp,
        lambda timestamp: segment.unopened_time_index().searcher()(timestamp),
        lambda offset: segment.unopened_offset_index().searcher()(offset),
    )


def _first_record(
    batch: bytes, header: BatchHeader, timestamp_ms: int, start_offset: int, limit_bytes: int
) -> TimestampOffset | None:
    epoch = header.partition_leader_epoch
    if header.uses_log_append_time and header.magic >= 2:
        return TimestampOffset(header.max_timestamp, max(header.base_offset, start_offset), epoch)
    if header.magic >= 2:
        # One record at a time: there can be millions in a batch that takes a few kilobytes here.
        records = bytes(decompress(header.compression, memoryview(batch)[HEADER_SIZE:], limit_bytes))
        for offset, record_timestamp_ms in record_times(records, header):
            if record_timestamp_ms >= timestamp_ms and offset >= start_offset:
                return TimestampOffset(record_timestamp_ms, offset, epoch)
        return None
    for record in read_batch_records(batch, 0, header, limit_bytes=limit_bytes):
        if record.timestamp_ms >= timestamp_ms and record.offset >= start_offset:
            return TimestampOffset(record.timestamp_ms, record.offset, epoch)
    return None
