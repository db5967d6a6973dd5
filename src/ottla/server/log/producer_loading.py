"""Bringing a producer state up to date from a snapshot and the batches after it."""

from __future__ import annotations

from typing import Final

from ottla.core.binary import Buffer
from ottla.records.batch import BatchHeader
from ottla.server.log.producer_snapshot import SnapshotFiles
from ottla.server.log.producer_state import (
    KEPT_BATCHES,
    CompletedTransaction,
    ProducerEntry,
    ProducerState,
    read_marker,
)
from ottla.server.log.scan import batch_headers
from ottla.server.log.segment import Segment
from ottla.server.log.transaction_index import AbortedTransaction

RECALLED_BYTES: Final = 4 * 1024 * 1024
"""So far behind its last batch the earlier ones of a producer are looked for (and not much farther)."""

_FIRST_REACH: Final = 1000
"""Offsets that are looked at first: what was in flight is close together."""


def rebuild_producers(
    state: ProducerState,
    snapshots: SnapshotFiles,
    segments: list[Segment],
    log_start_offset: int,
    log_end_offset: int,
    now_ms: int,
    expiration_ms: int,
) -> None:
    """Make `state` what it is at `log_end_offset`: the newest snapshot not above it, and what follows in the log.

    Snapshots that can not be read are removed and older ones taken; without any the whole log is read (headers only).
    """
    loaded = snapshots.load_newest(log_end_offset)
    if loaded is None:
        state.clear(log_start_offset)
    else:
        state.restore(loaded[1], loaded[0], now_ms, expiration_ms)
    start_offset = state.map_end_offset
    for index, segment in enumerate(segments):
        if index + 1 < len(segments) and segments[index + 1].base_offset <= start_offset:
            continue
        if segment.base_offset >= log_end_offset:
            break
        position = segment.offset_index.lookup(start_offset, cached=False)
        for at, header in batch_headers(segment.file.read_at, position, segment.size):
            if header.base_offset >= log_end_offset:
                break
            if header.producer_id >= 0 and header.base_offset >= start_offset:
                batch = segment.file.read_at(at, header.size_in_bytes) if header.is_control else b""
                replay_batch(state, header, batch)
    state.map_end_offset = log_end_offset


def recall_batches(entry: ProducerEntry, segments: list[Segment]) -> None:
    """Find in the log what a snapshot has left out of the last batches of a producer, within `RECALLED_BYTES`.

    A producer that did not hear of batches repeats all of them when the broker is there again, or another one leads;
    the leader may know them from its log only. Nothing is read before somebody asks: few producers are in that
    situation, and a start must not wait for all of them.
    """
    before_offset = entry.batches[0][1] - entry.batches[0][2]
    found: list[BatchHeader] = []
    for segment in reversed(segments):
        if segment.base_offset < before_offset:
            wanted = KEPT_BATCHES - len(entry.batches) - len(found)
            earlier, read_bytes = _batches_before(segment, before_offset, entry, wanted)
            found[:0] = earlier
            if len(earlier) >= wanted or read_bytes >= RECALLED_BYTES:
                break
    entry.remember(found)


def _batches_before(
    segment: Segment, before_offset: int, entry: ProducerEntry, wanted: int
) -> tuple[list[BatchHeader], int]:
    """Data batches of the producer's epoch below an offset, at least so many if they are near; and how far they were
    looked for, in bytes.
    """
    end = segment.offset_index.lookup(before_offset, cached=False)
    reach = _FIRST_REACH
    while True:
        position = segment.offset_index.lookup(before_offset - reach, cached=False)
        found = []
        for _, header in batch_headers(segment.file.read_at, position, segment.size):
            if header.base_offset >= before_offset:
                break
            if (
                header.producer_id == entry.producer_id
                and header.producer_epoch == entry.producer_epoch
                and not header.is_control
            ):
                found.append(header)
        if len(found) >= wanted or not position or end - position >= RECALLED_BYTES:
            return found, end - position
        reach *= 8


def replay_batch(state: ProducerState, header: BatchHeader, batch: Buffer) -> CompletedTransaction | None:
    """Take over a batch that is in the log; its bytes are only needed of a control batch."""
    if not header.is_control:
        state.append_batch(header)
        return None
    marker = read_marker(batch, 0, header)
    return None if marker is None else state.end_transaction(header, marker)


def aborted_entry(state: ProducerState, completed: CompletedTransaction) -> AbortedTransaction:
    """The entry in the transaction index for a transaction that was just aborted."""
    return AbortedTransaction(
        completed.producer_id, completed.first_offset, completed.last_offset, state.stable_offset_after(completed)
    )
