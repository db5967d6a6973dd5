"""What a partition knows of its producers: sequences (KIP-98), epochs, open transactions (KIP-98, KIP-890).

A batch goes through it in two steps: `check_batch` refuses or finds the duplicate before anything is written,
`append_batch` (and `end_transaction` for a control marker) takes over what was written. Loading and replication only
take over: the leader has checked already.

Of each producer the last five batches are remembered, so that any of five requests in flight can be answered again
with its original offset. A snapshot file keeps only the last one, as Kafka's does; what it leaves out is looked for in
the log when a producer repeats something that is not known (`forgets`, `remember`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from ottla.core.binary import Buffer
from ottla.core.errors import ApiError, ErrorCode
from ottla.records.batch import TRANSACTIONAL_FLAG, BatchHeader, CorruptRecordError
from ottla.records.record import read_batch_records
from ottla.server.log.producer_snapshot import SnapshotEntry
from ottla.server.log.verification import UNVERIFIED, Verification

KEPT_BATCHES = 5
NO_OFFSET = -1
NO_SEQUENCE = -1
NO_BATCH = (NO_SEQUENCE, NO_OFFSET, 0, -1)
HIGHEST_EPOCH = 32_767

ABORT_MARKER = 0
COMMIT_MARKER = 1

_CONTROL_KEY = struct.Struct(">hh")
_MARKER_VALUE = struct.Struct(">hi")


class ProducerBatch(NamedTuple):
    """One appended batch of a producer."""

    last_sequence: int
    last_offset: int
    offset_delta: int
    timestamp_ms: int

    @property
    def base_sequence(self) -> int:
        """Sequence of the first record."""
        return (self.last_sequence - self.offset_delta) & 0x7FFFFFFF if self.last_sequence >= 0 else NO_SEQUENCE

    @property
    def base_offset(self) -> int:
        """Offset of the first record."""
        return self.last_offset - self.offset_delta


class ProducerEntry:
    """State of one producer; `current_transaction_first_offset` is -1 outside a transaction."""

    __slots__ = (
        "batches",
        "coordinator_epoch",
        "current_transaction_first_offset",
        "is_abridged",
        "last_timestamp_ms",
        "producer_epoch",
        "producer_id",
    )

    def __init__(self, producer_id: int, producer_epoch: int) -> None:
        self.producer_id = producer_id
        self.producer_epoch = producer_epoch
        # Plain tuples with the fields of `ProducerBatch`: one is made for every batch that is appended.
        self.batches: list[tuple[int, int, int, int]] = []
        self.last_timestamp_ms = -1
        self.coordinator_epoch = -1
        self.current_transaction_first_offset = NO_OFFSET
        # Whether the log may have batches of this epoch that would be here had they not come before the snapshot.
        self.is_abridged = False

    @property
    def last_sequence(self) -> int:
        """Sequence of the last record appended in the current epoch, -1 when there is none."""
        return self.batches[-1][0] if self.batches else NO_SEQUENCE

    def remember(self, earlier: Iterable[BatchHeader]) -> None:
        """These data batches of its epoch, in the order of the log, come before what is known; that is all there is."""
        found = [
            (header.last_sequence, header.last_offset, header.last_offset_delta, header.max_timestamp)
            for header in earlier
        ]
        self.batches[:0] = found[max(len(found) + len(self.batches) - KEPT_BATCHES, 0) :]
        self.is_abridged = False


class EndTransactionMarker(NamedTuple):
    """The content of a COMMIT or ABORT control record."""

    is_abort: bool
    coordinator_epoch: int


class CompletedTransaction(NamedTuple):
    """A transaction that had data here, from its first record to its marker."""

    producer_id: int
    first_offset: int
    last_offset: int
    is_aborted: bool


class ProducerState:
    """All producers of one partition.

    `map_end_offset`: everything below it is reflected here. `ongoing`: first offset of each open transaction by
    producer id, in ascending order of that offset. `verifications`: by producer id, of those about to begin one.
    """

    __slots__ = ("_unreplicated", "map_end_offset", "ongoing", "producers", "verifications")

    def __init__(self) -> None:
        self.producers: dict[int, ProducerEntry] = {}
        self.ongoing: dict[int, int] = {}
        self.verifications: dict[int, Verification] = {}
        self.map_end_offset = 0
        # Completed transactions whose marker is not replicated yet: they hold back the last stable offset.
        self._unreplicated: list[CompletedTransaction] = []

    # Before the append

    def check_batch(self, header: BatchHeader, verification: Verification | None = None) -> ProducerBatch | None:
        """Check sequence, epoch and transaction of a client's batch.

        Returns the batch it repeats, or None when it is to be appended. Raises `ApiError`:
        OUT_OF_ORDER_SEQUENCE_NUMBER, INVALID_PRODUCER_EPOCH, INVALID_TXN_STATE.
        """
        entry = self.producers.get(header.producer_id)
        base_sequence = header.base_sequence
        if header.attributes & TRANSACTIONAL_FLAG:
            if (
                entry is not None
                and header.producer_epoch == entry.producer_epoch
                and (duplicate := _find_duplicate(header, entry.batches)) is not None
            ):
                return duplicate
            self._check_transaction(header, entry, verification)
        if entry is None:
            # All its records may have been deleted, so any sequence is fine.
            return None
        if header.producer_epoch == entry.producer_epoch:
            batches = entry.batches
            last_sequence = batches[-1][0] if batches else NO_SEQUENCE
            if base_sequence != (last_sequence + 1) & 0x7FFFFFFF:
                duplicate = _find_duplicate(header, batches)
                if duplicate is not None:
                    return duplicate
                raise _out_of_order(header, last_sequence)
        elif header.producer_epoch < entry.producer_epoch:
            raise _stale_epoch(header, entry)
        elif base_sequence != 0:
            raise ApiError(
                ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
                f"Producer {header.producer_id} starts its new epoch {header.producer_epoch} with sequence "
                f"{base_sequence}",
            )
        if entry.current_transaction_first_offset >= 0 and not header.attributes & TRANSACTIONAL_FLAG:
            raise ApiError(
                ErrorCode.INVALID_TXN_STATE,
                f"Producer {header.producer_id} wrote outside its open transaction",
            )
        return None

    def forgets(self, header: BatchHeader) -> ProducerEntry | None:
        """The producer's entry when a batch that was refused may be one that a snapshot has left out."""
        entry = self.producers.get(header.producer_id)
        if entry is None or not entry.is_abridged or entry.producer_epoch != header.producer_epoch:
            return None
        return entry if len(entry.batches) < KEPT_BATCHES else None

    def _check_transaction(
        self, header: BatchHeader, entry: ProducerEntry | None, verification: Verification | None
    ) -> None:
        """A transactional batch belongs to the open transaction, or begins one that was verified."""
        self._check_verified(header, entry, verification)
        known = self.verifications.get(header.producer_id)
        if known is None:
            return
        base_sequence = header.base_sequence
        if known.transactions_v2 and entry is None and base_sequence != 0:
            # Its epoch was bumped with the transaction before, so it starts with sequence 0 (KIP-890).
            raise _out_of_order(header, NO_SEQUENCE)
        if base_sequence > known.lowest_sequence:
            raise _out_of_order(header, known.lowest_sequence - 1)

    def _check_verified(
        self, header: BatchHeader, entry: ProducerEntry | None, verification: Verification | None
    ) -> None:
        if entry is not None:
            if header.producer_epoch < entry.producer_epoch:
                raise _stale_epoch(header, entry)
            if entry.current_transaction_first_offset >= 0 and header.producer_epoch == entry.producer_epoch:
                return
        if verification is not UNVERIFIED and (
            verification is None or self.verifications.get(header.producer_id) is not verification
        ):
            raise ApiError(
                ErrorCode.INVALID_TXN_STATE,
                f"The batch of producer {header.producer_id} is not part of an open transaction",
            )

    def is_in_transaction(self, producer_id: int, producer_epoch: int) -> bool:
        """Whether a batch of this producer continues its open transaction."""
        entry = self.producers.get(producer_id)
        return (
            entry is not None and entry.current_transaction_first_offset >= 0 and entry.producer_epoch == producer_epoch
        )

    def start_verification(
        self, producer_id: int, producer_epoch: int, base_sequence: int, *, transactions_v2: bool, now_ms: int
    ) -> Verification | None:
        """What to hand in with the batch after the coordinator has agreed; None when its transaction is open already.

        Raises `ApiError` INVALID_PRODUCER_EPOCH.
        """
        entry = self.producers.get(producer_id)
        if entry is not None:
            if producer_epoch < entry.producer_epoch:
                raise ApiError(
                    ErrorCode.INVALID_PRODUCER_EPOCH,
                    f"Epoch {producer_epoch} of producer {producer_id} is smaller than the last seen "
                    f"{entry.producer_epoch}",
                )
            if entry.current_transaction_first_offset >= 0 and entry.producer_epoch == producer_epoch:
                return None
        known = self.verifications.get(producer_id)
        if known is None:
            known = Verification(now_ms, base_sequence, producer_epoch, transactions_v2)
            self.verifications[producer_id] = known
        else:
            known.announce(base_sequence, producer_epoch)
        return known

    def check_commit(self, header: BatchHeader, verification: Verification | None) -> None:
        """A coordinator writes on behalf of a producer (transactional offset commits), without sequences.

        Raises `ApiError`: INVALID_PRODUCER_EPOCH, INVALID_TXN_STATE.
        """
        self._check_verified(header, self.producers.get(header.producer_id), verification)

    def check_marker(self, header: BatchHeader, marker: EndTransactionMarker, transaction_version: int) -> None:
        """Check a control marker that a transaction coordinator sends.

        Version 2 bumps the epoch with every transaction: an equal one is only fine as a repetition, when the
        transaction has ended already (KIP-890). Raises `ApiError`: INVALID_PRODUCER_EPOCH,
        TRANSACTION_COORDINATOR_FENCED.
        """
        entry = self.producers.get(header.producer_id)
        if entry is None:
            return
        if header.producer_epoch < entry.producer_epoch or (
            transaction_version >= 2
            and header.producer_epoch == entry.producer_epoch
            and entry.current_transaction_first_offset >= 0
            and header.producer_epoch != HIGHEST_EPOCH
        ):
            raise _stale_epoch(header, entry)
        if marker.coordinator_epoch < entry.coordinator_epoch:
            raise ApiError(
                ErrorCode.TRANSACTION_COORDINATOR_FENCED,
                f"Coordinator epoch {marker.coordinator_epoch} is older than {entry.coordinator_epoch}",
            )

    # After the append

    def append_batch(self, header: BatchHeader) -> None:
        """Take over a data batch with a producer id, its offsets as in the log."""
        producer_id = header.producer_id
        producer_epoch = header.producer_epoch
        entry = self.producers.get(producer_id)
        if entry is None:
            entry = self.producers[producer_id] = ProducerEntry(producer_id, producer_epoch)
        elif entry.producer_epoch != producer_epoch:
            entry.producer_epoch = producer_epoch
            entry.batches.clear()
            entry.is_abridged = False
        batches = entry.batches
        delta = header.last_offset_delta
        base_sequence = header.base_sequence
        last_sequence = (base_sequence + delta) & 0x7FFFFFFF if base_sequence >= 0 else NO_SEQUENCE
        timestamp_ms = entry.last_timestamp_ms = header.max_timestamp
        batches.append((last_sequence, header.base_offset + delta, delta, timestamp_ms))
        if len(batches) > KEPT_BATCHES:
            del batches[0]
        if header.attributes & TRANSACTIONAL_FLAG:
            if entry.current_transaction_first_offset < 0:
                entry.current_transaction_first_offset = header.base_offset
                self.ongoing[producer_id] = header.base_offset
            if self.verifications:
                self.verifications.pop(producer_id, None)

    def end_transaction(self, header: BatchHeader, marker: EndTransactionMarker) -> CompletedTransaction | None:
        """Take over a marker; the transaction it ends, or None when that had no data here."""
        known = self.verifications.get(header.producer_id)
        # With transactions v2 a marker has the epoch of the next transaction, which may be about to begin already.
        if known is not None and not (known.transactions_v2 and known.producer_epoch == header.producer_epoch):
            del self.verifications[header.producer_id]
        entry = self.producers.get(header.producer_id)
        if entry is None:
            entry = self.producers[header.producer_id] = ProducerEntry(header.producer_id, header.producer_epoch)
        elif entry.producer_epoch != header.producer_epoch:
            entry.producer_epoch = header.producer_epoch
            entry.batches.clear()
            entry.is_abridged = False
        first_offset = entry.current_transaction_first_offset
        entry.current_transaction_first_offset = NO_OFFSET
        entry.coordinator_epoch = marker.coordinator_epoch
        entry.last_timestamp_ms = header.max_timestamp
        if first_offset < 0:
            return None
        self.ongoing.pop(header.producer_id, None)
        completed = CompletedTransaction(header.producer_id, first_offset, header.last_offset, marker.is_abort)
        self._unreplicated.append(completed)
        return completed

    def stable_offset_after(self, completed: CompletedTransaction) -> int:
        """The last stable offset as it will be once the marker is replicated: what the transaction index keeps."""
        for first_offset in self.ongoing.values():
            return first_offset
        return completed.last_offset + 1

    # Last stable offset

    @property
    def holds_back_stable_offset(self) -> bool:
        """Whether there is any open, or not yet replicated, transaction."""
        return bool(self.ongoing) or bool(self._unreplicated)

    def first_unstable_offset(self) -> int | None:
        """First offset of the earliest transaction that is open or whose marker is not replicated yet."""
        offsets = [completed.first_offset for completed in self._unreplicated]
        for first_offset in self.ongoing.values():
            offsets.append(first_offset)
            break
        return min(offsets, default=None)

    def high_watermark_advanced(self, high_watermark: int) -> None:
        """Markers below the high watermark are replicated."""
        if self._unreplicated:
            self._unreplicated = [item for item in self._unreplicated if item.last_offset >= high_watermark]

    # Expiry, snapshots

    def remove_expired(self, now_ms: int, expiration_ms: int) -> int:
        """Forget producers that were idle for so long, unless in a transaction; how many."""
        expired = [entry.producer_id for entry in self.producers.values() if _is_expired(entry, now_ms, expiration_ms)]
        for producer_id in expired:
            del self.producers[producer_id]
        for producer_id, verification in list(self.verifications.items()):
            if now_ms - verification.started_ms >= expiration_ms:
                del self.verifications[producer_id]
        return len(expired)

    def clear(self, map_end_offset: int) -> None:
        """Forget everything; the log goes on at that offset."""
        self.producers.clear()
        self.ongoing.clear()
        self._unreplicated.clear()
        self.verifications.clear()
        self.map_end_offset = map_end_offset

    def last_batches(self) -> dict[int, tuple[int, int]]:
        """Last offset of data in the current epoch (-1: none), and epoch, by producer: what compaction must keep."""
        return {
            producer_id: (entry.batches[-1][1] if entry.batches else NO_OFFSET, entry.producer_epoch)
            for producer_id, entry in self.producers.items()
        }

    def snapshot(self) -> list[SnapshotEntry]:
        """What a snapshot file keeps."""
        entries = []
        for entry in self.producers.values():
            last_sequence, last_offset, offset_delta, _ = entry.batches[-1] if entry.batches else NO_BATCH
            entries.append(
                SnapshotEntry(
                    entry.producer_id,
                    entry.producer_epoch,
                    last_sequence,
                    last_offset,
                    offset_delta,
                    entry.last_timestamp_ms,
                    entry.coordinator_epoch,
                    entry.current_transaction_first_offset,
                )
            )
        return entries

    def restore(self, entries: Iterable[SnapshotEntry], offset: int, now_ms: int, expiration_ms: int) -> None:
        """Begin with a snapshot taken at `offset`, without the producers that expired meanwhile."""
        self.clear(offset)
        for item in entries:
            entry = ProducerEntry(item.producer_id, item.producer_epoch)
            if item.last_offset >= 0:
                entry.batches.append((item.last_sequence, item.last_offset, item.offset_delta, item.timestamp_ms))
                entry.is_abridged = True
            entry.last_timestamp_ms = item.timestamp_ms
            entry.coordinator_epoch = item.coordinator_epoch
            entry.current_transaction_first_offset = item.current_transaction_first_offset
            if not _is_expired(entry, now_ms, expiration_ms):
                self.producers[item.producer_id] = entry
        transactions = [
            (entry.current_transaction_first_offset, entry.producer_id)
            for entry in self.producers.values()
            if entry.current_transaction_first_offset >= 0
        ]
        self.ongoing.update((producer_id, first_offset) for first_offset, producer_id in sorted(transactions))


def read_marker(buffer: Buffer, position: int, header: BatchHeader) -> EndTransactionMarker | None:
    """The transaction marker in a control batch; None for control records of another type."""
    records = read_batch_records(buffer, position, header)
    if not records:
        return None  # emptied by compaction
    key, value = records[0].key, records[0].value
    try:
        _, kind = _CONTROL_KEY.unpack_from(key or b"")
        if kind not in (ABORT_MARKER, COMMIT_MARKER):
            return None
        _, coordinator_epoch = _MARKER_VALUE.unpack_from(value or b"")
    except struct.error:
        raise CorruptRecordError(f"the control record at offset {header.base_offset} is cut off") from None
    return EndTransactionMarker(kind == ABORT_MARKER, coordinator_epoch)


def _find_duplicate(header: BatchHeader, batches: list[tuple[int, int, int, int]]) -> ProducerBatch | None:
    last_sequence = header.last_sequence
    for batch in map(ProducerBatch._make, batches):
        if batch.last_sequence == last_sequence and batch.base_sequence == header.base_sequence:
            return batch
    return None


def _is_expired(entry: ProducerEntry, now_ms: int, expiration_ms: int) -> bool:
    return entry.current_transaction_first_offset < 0 and now_ms - entry.last_timestamp_ms >= expiration_ms


def _out_of_order(header: BatchHeader, last_sequence: int) -> ApiError:
    return ApiError(
        ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
        f"Out of order sequence number for producer {header.producer_id}: {header.base_sequence} (incoming), "
        f"{last_sequence} (current end)",
    )


def _stale_epoch(header: BatchHeader, entry: ProducerEntry) -> ApiError:
    return ApiError(
        ErrorCode.INVALID_PRODUCER_EPOCH,
        f"Epoch {header.producer_epoch} of producer {header.producer_id} is smaller than the last seen "
        f"{entry.producer_epoch}",
    )
