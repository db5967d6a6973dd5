"""One round over one log: learning the last offsets of its keys, then writing it anew group by group."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from ottla.records.batch import (
    CONTROL_FLAG,
    HEADER,
    HEADER_SIZE,
    LEGACY_HEADER_SIZE,
    LENGTH_END,
    MAGIC_POSITION,
    TRANSACTIONAL_FLAG,
    BatchHeader,
    CorruptRecordError,
    parse_header,
)
from ottla.server.log.compaction.batch_filter import KEEP, BatchFilter, put_batch
from ottla.server.log.compaction.dirty_batches import DirtyBatches
from ottla.server.log.compaction.key_map import KeyMap
from ottla.server.log.compaction.output import Output
from ottla.server.log.compaction.plan import CleaningPlan, group_segments
from ottla.server.log.compaction.transactions import PassedTransactions
from ottla.server.log.log import Log
from ottla.server.log.producer_state import read_marker
from ottla.server.log.segment import Segment
from ottla.server.log.transaction_index import AbortedTransaction

# A slice is so many records (a batch counts for several), some two milliseconds of the interpreter.
SLICE_RECORDS = 4096
SORTED_IN_A_SLICE = 16_384
BATCH_COST = 4
BYTES_PER_RECORD_COST = 4096
SMALLEST_BATCH = 26

# Batches whose fate depends on others.
_DEPENDENT = CONTROL_FLAG | TRANSACTIONAL_FLAG

_INT32 = struct.Struct(">i")
_header_of = partial(tuple.__new__, BatchHeader)  # `_make` in C


class CleaningAbortedError(Exception):
    """The log was cut, deleted or closed while it was cleaned: what was prepared is of no use."""


@dataclass(slots=True)
class CleaningStatistics:
    """What a round did."""

    bytes_indexed: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    keys: int = 0
    memory_bytes: int = 0
    groups_replaced: int = 0


@dataclass(slots=True)
class Cleaning:
    """One round.

    The iterators are run in a worker thread, `next` by `next`, and give the bytes that were moved; everything else
    belongs to the owner of the log. The order: `learn_keys`, then for every group of `groups()` `write_group` and,
    if there is an `output`, `swap`. At the end the log is clean up to `cleaned_offset`.
    """

    plan: CleaningPlan
    budget_bytes: int
    io_bytes: int
    now_ms: int
    statistics: CleaningStatistics = field(default_factory=CleaningStatistics)
    output: Output | None = None
    cleaned_offset: int = -1
    _all_segments: list[Segment] = field(default_factory=list)
    _segments: list[Segment] = field(default_factory=list)
    _keys: KeyMap = field(init=False)
    _aborted: list[AbortedTransaction] = field(default_factory=list)
    _filter: BatchFilter | None = None
    _generation: int = 0
    _last_batches: dict[int, tuple[int, int]] = field(default_factory=dict)
    # By base offset of the segment; of segments that are wholly in the map.
    _dirty: dict[int, DirtyBatches] = field(default_factory=dict)

    def __post_init__(self) -> None:
        log = self.plan.log
        self._keys = KeyMap(self.budget_bytes)
        self._all_segments = list(log.segments)
        self._segments = [segment for segment in self._all_segments if segment.base_offset < self.plan.end_offset]
        self._generation = log.generation
        self._last_batches = log.producers_state.last_batches()

    @property
    def log(self) -> Log:
        """What is cleaned."""
        return self.plan.log

    # Learning (in a worker thread)

    def learn_keys(self) -> Iterator[int]:
        """Fill the map from the dirty part, as far as its budget goes. Raises `CorruptRecordError`, `DiskError`."""
        plan, keys, statistics = self.plan, self._keys, self.statistics
        first_offset = plan.first_dirty_offset
        # Transactions of the cleaned part may end after it; all have ended below the last stable offset.
        entries = (item for segment in self._all_segments for item in list(segment.transaction_index.entries()))
        self._aborted = [item for item in entries if item.first_offset < plan.end_offset]
        transactions = PassedTransactions([item for item in self._aborted if item.last_offset >= first_offset])
        cost = moved = 0
        for number, segment in enumerate(self._segments):
            following = self._segments[number + 1].base_offset if number + 1 < len(self._segments) else plan.end_offset
            if following <= first_offset:
                continue
            batches = DirtyBatches(segment.base_offset)
            with segment.file.reader() as read_at:
                for chunk, position, header in stored_batches(read_at, segment.size, self.io_bytes):
                    last_offset = header.base_offset + header.last_offset_delta
                    if last_offset >= first_offset:
                        if keys.is_full and keys.latest_offset >= 0:
                            break
                        is_plain = header.producer_id < 0 and header.records_count
                        if is_plain or not _is_without_keys(chunk, position, header, transactions):
                            put_batch(keys, chunk, position, header, first_offset, plan.log.config.compactable_bytes)
                        keys.latest_offset = last_offset
                    size = header.batch_length + LENGTH_END
                    batches.append(header.base_offset, size, header.records_count)
                    keys.noted_bytes += DirtyBatches.BYTES_PER_BATCH
                    if header.attributes & _DEPENDENT or header.magic < 2:
                        batches.is_plain = False
                    moved += size
                    cost += header.records_count + BATCH_COST + size // BYTES_PER_RECORD_COST
                    if cost >= SLICE_RECORDS:
                        statistics.bytes_indexed += moved
                        yield moved
                        cost = moved = 0
                else:
                    keys.latest_offset = following - 1  # there may be a hole
                    if segment.base_offset >= first_offset and batches.is_plain:
                        batches.next_offset = following
                        self._dirty[segment.base_offset] = batches
                    continue
            break
        statistics.bytes_indexed += moved
        yield moved
        for _ in keys.sort(first_offset, SORTED_IN_A_SLICE):
            yield 0
        self.cleaned_offset = keys.latest_offset + 1
        statistics.keys = len(keys)
        statistics.memory_bytes = keys.size_in_bytes
        self._filter = BatchFilter(
            keys,
            PassedTransactions(self._aborted),
            self._last_batches,
            first_dirty_offset=first_offset,
            end_offset=plan.end_offset,
            now_ms=self.now_ms,
            delete_retention_ms=plan.log.config.delete_retention_ms,
            limit_bytes=plan.log.config.compactable_bytes,
        )

    # Writing (in a worker thread)

    def groups(self) -> list[list[Segment]]:
        """The segments to be written anew, those that become one together."""
        segments = [segment for segment in self._segments if segment.base_offset < self.cleaned_offset]
        return group_segments(segments, self.plan.end_offset, self.log.config)

    def write_group(self, group: list[Segment]) -> Iterator[int]:
        """Write a group's successor, ready to be swapped in; `output` is None when there is nothing to change.

        Raises `CorruptRecordError`, `DiskError`, `LogError`; nothing of it is left on disk then.
        """
        batch_filter = self._filter
        assert batch_filter is not None
        self.output = None
        if len(group) == 1 and self._is_untouched(group[0]):
            return
        batch_filter.retained_aborted = []
        config = self.log.config
        output = Output(self.log.disk, group, config.index_interval_bytes, group[0].created_ms)
        try:
            if len(group) > 1 or group[0].base_offset in self._dirty:
                yield from output.begin()
            for segment in group:
                yield from self._write_segment(segment, output, batch_filter)
            if output.changed:
                moved = output.size
                output.complete(batch_filter.retained_aborted)
                self.statistics.bytes_written += moved
                self.output = output
        finally:
            if self.output is not output:
                output.discard()

    def _is_untouched(self, segment: Segment) -> bool:
        """Whether it is known that every record of a segment stays, and every batch as it is."""
        batches = self._dirty.get(segment.base_offset)
        return batches is not None and self._keys.keeps_all(batches.first_offset, batches.next_offset, batches.records)

    def _batches_to_write(
        self, segment: Segment, read_at: Callable[[int, int], bytes]
    ) -> Iterator[tuple[bytes, int, BatchHeader]]:
        """The batches of a segment, or those of them that are not sure to be dropped."""
        batches = self._dirty.get(segment.base_offset)
        if batches is None or batches.end != segment.size:
            yield from stored_batches(read_at, segment.size, self.io_bytes)
            return
        assert self._filter is not None
        unpack = HEADER.unpack_from
        for together in batches.ranges(self._filter.next_wanted, self.io_bytes):
            first = together[0][0]
            chunk = read_at(first, together[-1][1] - first)
            if len(chunk) < together[-1][1] - first:
                raise CorruptRecordError(f"{segment.file.path} is shorter than it was")
            for start, _ in together:
                yield chunk, start - first, _header_of(unpack(chunk, start - first))

    def _write_segment(self, segment: Segment, output: Output, batch_filter: BatchFilter) -> Iterator[int]:
        decide = batch_filter.decide
        cost = moved = 0
        with segment.file.reader() as read_at:
            for chunk, position, header in self._batches_to_write(segment, read_at):
                verdict = decide(chunk, position, header)
                size = header.batch_length + LENGTH_END
                last_offset = header.base_offset + header.last_offset_delta
                if verdict is KEEP:
                    output.keep(chunk, position, size, last_offset, header.max_timestamp)
                else:
                    if not output.changed:
                        yield from output.begin()
                    if verdict:
                        # What is written instead may have a smaller timestamp, and never another last offset.
                        assert isinstance(verdict, bytes)
                        output.add(verdict, last_offset, HEADER.unpack_from(verdict)[8])
                    cost += header.records_count
                cost += BATCH_COST + size // BYTES_PER_RECORD_COST
                moved += size
                if cost >= SLICE_RECORDS:
                    self.statistics.bytes_read += moved
                    yield moved + output.write()
                    cost = moved = 0
        self.statistics.bytes_read += moved
        yield moved + output.write()

    # Swapping (the owner of the log)

    def check_still_valid(self, group: list[Segment]) -> None:
        """Raise `CleaningAbortedError` when the log is not what it was when the round began."""
        segments = self.log.segments
        if self.log.generation != self._generation or not segments:
            raise CleaningAbortedError
        if segments[-1].base_offset < self.plan.end_offset:
            raise CleaningAbortedError
        present = {id(segment) for segment in segments}
        if any(id(segment) not in present for segment in group):
            raise CleaningAbortedError  # retention has taken some of them

    def swap(self, group: list[Segment]) -> None:
        """Let the output take the place of its originals. Raises `DiskError`."""
        output, self.output = self.output, None
        assert output is not None
        self.log.replace_segments(group, output.segment)
        self.statistics.groups_replaced += 1


def stored_batches(
    read_at: Callable[[int, int], bytes], end: int, chunk_bytes: int
) -> Iterator[tuple[bytes, int, BatchHeader]]:
    """All batches of a records file: a chunk that has the whole batch, where in it, and its header.

    Raises `CorruptRecordError` on what is no batch.
    """
    header_of = _header_of
    unpack_header = HEADER.unpack_from
    unpack_size = _INT32.unpack_from
    position = 0
    wanted = chunk_bytes
    while position < end:
        chunk = read_at(position, min(wanted, end - position))
        limit = len(chunk)
        at = 0
        wanted = chunk_bytes
        while limit - at >= LEGACY_HEADER_SIZE:
            size = LENGTH_END + unpack_size(chunk, at + 8)[0]
            if size > limit - at:
                wanted = max(size, chunk_bytes)
                break
            if chunk[at + MAGIC_POSITION] == 2 and size >= HEADER_SIZE:
                header = header_of(unpack_header(chunk, at))
            else:
                header = parse_header(chunk, at)  # of an older format, or none at all
            if size < SMALLEST_BATCH:
                raise CorruptRecordError(f"a batch of {size} bytes at byte {position + at}")
            yield chunk, at, header
            at += size
        if not at and (wanted == chunk_bytes or wanted > end - position):
            raise CorruptRecordError(f"the batch at byte {position} is cut off")
        position += at


def _is_without_keys(chunk: bytes, position: int, header: BatchHeader, transactions: PassedTransactions) -> bool:
    """Whether a batch adds nothing to the map: control records, data of aborted transactions, no records."""
    if header.producer_id >= 0:
        last_offset = header.last_offset
        if header.attributes & CONTROL_FLAG:
            marker = read_marker(chunk, position, header) if header.records_count else None
            if marker is not None and marker.is_abort:
                transactions.end_aborted(header.producer_id, last_offset)
            elif marker is not None:
                transactions.end_committed(header.producer_id, last_offset)
            return True
        if header.attributes & TRANSACTIONAL_FLAG and transactions.is_aborted(header.producer_id, last_offset):
            return True
    return not header.records_count
