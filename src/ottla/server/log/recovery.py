"""After a crash: which batches of a segment are good, and the indexes they make."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from ottla.records.batch import LENGTH_END, BatchHeader, CorruptRecordError, crc_matches, parse_header
from ottla.server.log.leader_epochs import LeaderEpochs
from ottla.server.log.producer_loading import aborted_entry, replay_batch
from ottla.server.log.producer_state import ProducerState
from ottla.server.log.segment import MAXIMUM_RELATIVE_OFFSET, Segment

READ_BYTES = 1024 * 1024

_INT32 = struct.Struct(">i")


class RecoveredSegment(NamedTuple):
    """What recovery found: the offset after the last good batch, how many bytes after it were cut off, and whether
    offsets are missing in between, as only compaction leaves them.
    """

    next_offset: int
    removed_bytes: int
    has_gaps: bool


def recover_segment(
    segment: Segment,
    state: ProducerState,
    epochs: LeaderEpochs,
    index_interval_bytes: int,
    *,
    keep_transactions: bool = False,
) -> RecoveredSegment:
    """Check every batch, cut the file at the first bad one, and rebuild the indexes (`keep_transactions`: but that of
    the aborted transactions).

    `state` is the producer state at the segment's base offset and is carried on; epochs are learned from the batches.
    """
    segment.begin_rebuild(keep_transactions=keep_transactions)
    next_offset = segment.base_offset
    position = 0
    has_gaps = False
    for at, header, batch in _valid_batches(segment):
        if header.base_offset > next_offset or (header.records_count <= header.last_offset_delta and header.magic >= 2):
            has_gaps = True
        segment.index_batch(at, header, index_interval_bytes)
        if header.partition_leader_epoch > epochs.latest:
            epochs.assign(header.partition_leader_epoch, header.base_offset)
        if header.producer_id >= 0:
            completed = replay_batch(state, header, batch)
            if completed is not None and completed.is_aborted and not keep_transactions:
                segment.transaction_index.append(aborted_entry(state, completed))
        next_offset = header.next_offset
        position = at + header.size_in_bytes
    state.map_end_offset = next_offset
    removed = segment.size - position
    if removed:
        segment.file.truncate(position)
        # Else another crash could bring the old end back, behind what will have been appended by then.
        segment.file.sync()
    segment.timestamps_known = True
    segment.become_inactive()
    return RecoveredSegment(next_offset, removed, has_gaps)


def _valid_batches(segment: Segment) -> Iterator[tuple[int, BatchHeader, memoryview]]:
    """Position, header and bytes of every batch up to the first that is not whole, or not what its CRC says, or does
    not continue the offsets.
    """
    end = segment.size
    position = 0
    next_offset = segment.base_offset
    wanted = READ_BYTES
    while position < end:
        chunk = memoryview(segment.file.read_at(position, min(wanted, end - position)))
        at = 0
        wanted = READ_BYTES
        while len(chunk) - at >= LENGTH_END:
            size = LENGTH_END + _INT32.unpack_from(chunk, at + 8)[0]
            if size < LENGTH_END or size > end - position - at:
                return
            if size > len(chunk) - at:
                wanted = max(size, READ_BYTES)
                break
            batch = chunk[at : at + size]
            header = _checked_header(batch, next_offset, segment.base_offset)
            if header is None:
                return
            yield position + at, header, batch
            next_offset = header.next_offset
            at += size
        if at == 0 and wanted == READ_BYTES:
            return
        position += at


def _checked_header(batch: memoryview, next_offset: int, segment_base_offset: int) -> BatchHeader | None:
    try:
        header = parse_header(batch)
    except CorruptRecordError:
        return None
    is_good = (
        crc_matches(batch, 0, header)
        and header.base_offset >= next_offset
        and header.last_offset_delta >= 0
        and header.last_offset - segment_base_offset <= MAXIMUM_RELATIVE_OFFSET
    )
    return header if is_good else None
