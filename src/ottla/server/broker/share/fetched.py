"""The batches that were read for a share fetch: where they begin and end, and which of them are nobody's to process."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from struct import Struct
from typing import TYPE_CHECKING

from ottla.records.batch import (
    CONTROL_FLAG,
    HEADER_SIZE,
    LEGACY_HEADER_SIZE,
    LENGTH_END,
    MAGIC_POSITION,
    TRANSACTIONAL_FLAG,
    CorruptRecordError,
    parse_header,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ottla.core.binary import Buffer
    from ottla.server.log.transaction_index import AbortedTransaction

# Base offset, batch length, attributes, last offset delta, producer id of a v2 header.
_FIELDS = Struct(">qi9xhi16xq").unpack_from
_SPECIAL = CONTROL_FLAG | TRANSACTIONAL_FLAG


class FetchedBatches:
    """Complete batches, read at `offset`.

    Batch i holds the offsets `[bases[i], ends[i])` in the bytes up to `positions[i]`; the first one begins at `start`.
    `skipped` are ascending ranges of offsets without a record for a consumer: gaps between batches, control batches,
    batches of aborted transactions.
    """

    __slots__ = ("bases", "buffer", "ends", "offset", "positions", "skipped", "start")

    def __init__(self, offset: int, buffer: Buffer) -> None:
        self.offset = offset
        self.buffer = buffer
        self.bases: list[int] = []
        self.ends: list[int] = []
        self.positions: list[int] = []
        self.start = 0
        self.skipped: list[tuple[int, int]] = []

    @property
    def end_offset(self) -> int:
        """Exclusive end of the last batch; `offset` when there is none."""
        return self.ends[-1] if self.ends else self.offset

    def bytes_of(self, first_offset: int, last_offset: int) -> Buffer:
        """The batches from the one with `first_offset` to the one with `last_offset` (inclusive)."""
        ends = self.ends
        first = 0
        while ends[first] <= first_offset:
            first += 1
        last = first
        while ends[last] <= last_offset:
            last += 1
        start = self.positions[first - 1] if first else self.start
        stop = self.positions[last]
        if start == 0 and stop == len(self.buffer):
            return self.buffer
        return memoryview(self.buffer)[start:stop]

    def part(self, offset: int, wanted_end_offset: int, max_bytes: int) -> FetchedBatches | None:
        """What a read at `offset` would have given, if all of it is here; at least one batch, whatever its size."""
        ends = self.ends
        if not self.offset <= offset < wanted_end_offset <= self.end_offset:
            return None
        first = bisect_right(ends, offset)
        last = bisect_left(ends, wanted_end_offset)
        start = self.positions[first - 1] if first else self.start
        while last > first and self.positions[last] - start > max_bytes:
            last -= 1
        found = FetchedBatches(offset, self.buffer)
        found.start = start
        found.bases = self.bases[first : last + 1]
        found.ends = ends[first : last + 1]
        found.positions = self.positions[first : last + 1]
        if self.skipped:
            end_offset = ends[last]
            found.skipped = [
                (max(skip_offset, offset), skip_end_offset)
                for skip_offset, skip_end_offset in self.skipped
                if skip_end_offset > offset and skip_offset < end_offset
            ]
        return found

    def cut(self, first_offset: int, end_offset: int, max_records: int, *, is_strict: bool) -> int:
        """Where to end a range that is too long: at the limit or, not strictly, after the batch that reaches it."""
        target = first_offset + max_records
        if not is_strict:
            index = bisect_left(self.ends, target)
            if self.bases[index] < target:
                target = self.ends[index]
        return min(target, end_offset)

    def piece(self, first_offset: int, end_offset: int, batch_size: int) -> int:
        """Where to end the next range of a large acquisition: at a batch, after at least `batch_size` records."""
        if end_offset - first_offset <= batch_size:
            return end_offset
        index = bisect_left(self.bases, first_offset + batch_size)
        return min(self.bases[index], end_offset) if index < len(self.bases) else end_offset


def scan(
    buffer: Buffer, offset: int, wanted_end_offset: int, aborted: Sequence[AbortedTransaction] | None = None
) -> FetchedBatches:
    """Look at the headers of batches that were read at `offset`, up to the batch that reaches `wanted_end_offset`.

    `aborted` are the aborted transactions of that part of the log, for a group that reads committed records only.
    """
    found = FetchedBatches(offset, buffer)
    bases, ends, positions, skipped = found.bases, found.ends, found.positions, found.skipped
    position = 0
    size = len(buffer)
    expected = offset
    while size - position >= LEGACY_HEADER_SIZE and expected < wanted_end_offset:
        if buffer[position + MAGIC_POSITION] != 2:
            # The base offset of an old compressed wrapper is not known: no gap is seen in front of it.
            header = parse_header(buffer, position)
            base_offset, length, attributes, producer_id = expected, header.batch_length, 0, -1
            end_offset = header.next_offset
        elif size - position < HEADER_SIZE:
            break
        else:
            base_offset, length, attributes, last_offset_delta, producer_id = _FIELDS(buffer, position)
            end_offset = base_offset + last_offset_delta + 1
        position += LENGTH_END + length
        if position > size:
            break
        if base_offset > expected:
            _skip(skipped, expected, base_offset)
        if attributes & _SPECIAL and (
            attributes & CONTROL_FLAG or (aborted and _is_aborted(aborted, producer_id, base_offset))
        ):
            _skip(skipped, max(base_offset, offset), end_offset)
        if end_offset <= expected and bases:
            raise CorruptRecordError(f"the batch at offset {base_offset} ends before it begins")
        expected = end_offset
        bases.append(base_offset)
        ends.append(end_offset)
        positions.append(position)
    return found


def _skip(skipped: list[tuple[int, int]], first_offset: int, end_offset: int) -> None:
    if skipped and skipped[-1][1] == first_offset:
        first_offset = skipped.pop()[0]
    skipped.append((first_offset, end_offset))


def _is_aborted(aborted: Sequence[AbortedTransaction], producer_id: int, base_offset: int) -> bool:
    for transaction in aborted:
        if (
            transaction.producer_id == producer_id
            and transaction.first_offset <= base_offset <= transaction.last_offset
        ):
            return True
    return False
