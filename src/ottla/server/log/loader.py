"""From a partition's directory to a `Log`: leftovers of interrupted work, recovery after a crash, producer state.

Runs before the log has an owner, in a worker thread, many in parallel. A log that was closed cleanly is believed: its
last few kilobytes and its newest snapshot are all that is read. Otherwise every segment from the one that holds the
recovery point on is checked batch by batch and cut at the first bad one, and later segments go.
"""

from __future__ import annotations

from typing import NamedTuple

from ottla.core.ids import ZERO_UUID, TopicPartition
from ottla.records.batch import HEADER_SIZE, parse_header
from ottla.server.log.checkpoint import format_topic_id, read_leader_epochs, read_topic_id, write_unsynced
from ottla.server.log.config import MAXIMUM_INT32, LogConfig
from ottla.server.log.errors import LogError
from ottla.server.log.files import (
    CLEANED_SUFFIX,
    DELETED_SUFFIX,
    INDEX_SUFFIX,
    INDEX_SUFFIXES,
    LEADER_EPOCH_CHECKPOINT,
    LOG_SUFFIX,
    PARTITION_METADATA,
    SEGMENT_SUFFIXES,
    SNAPSHOT_SUFFIX,
    SWAP_SUFFIX,
    TIME_INDEX_SUFFIX,
    TRANSACTION_INDEX_SUFFIX,
    OffsetFile,
    offset_name,
    parse_offset_name,
)
from ottla.server.log.host import LogHost, SimpleHost
from ottla.server.log.indexes import OFFSET_ENTRY_SIZE, TIME_ENTRY_SIZE
from ottla.server.log.leader_epochs import LeaderEpochs
from ottla.server.log.log import Log, LogParts
from ottla.server.log.producer_loading import rebuild_producers
from ottla.server.log.producer_snapshot import SnapshotFiles
from ottla.server.log.producer_state import ProducerState
from ottla.server.log.recovery import recover_segment
from ottla.server.log.scan import batch_headers
from ottla.server.log.segment import LARGEST_HOLE, Segment
from ottla.server.log.transaction_index import ENTRY_SIZE as TRANSACTION_ENTRY_SIZE


class LoadRequest(NamedTuple):
    """What the checkpoints of a data directory say about a log; `was_clean`: its broker was stopped in an orderly
    way; `cleaned_offset`: the log is compacted up to here, -1 when it is not.
    """

    recovery_point: int = 0
    log_start_offset: int = 0
    high_watermark: int = 0
    was_clean: bool = False
    cleaned_offset: int = -1


def create_log(
    host: LogHost, topic_partition: TopicPartition, directory: str, topic_id: bytes, config: LogConfig
) -> Log:
    """Make a partition's directory. Nothing but its metadata is written: the first segment comes with the first
    append.
    """
    disk = host.disk
    disk.make_directories(directory)
    write_unsynced(disk, f"{directory}/{PARTITION_METADATA}", format_topic_id(topic_id))
    parts = LogParts(
        topic_id,
        [],
        0,
        0,
        0,
        0,
        LeaderEpochs(disk, f"{directory}/{LEADER_EPOCH_CHECKPOINT}"),
        ProducerState(),
        SnapshotFiles(disk, directory),
    )
    return Log(host, topic_partition, directory, config, parts)


def load_log(
    host: LogHost,
    topic_partition: TopicPartition,
    directory: str,
    config: LogConfig,
    request: LoadRequest,
    now_ms: int,
) -> Log:
    """Open an existing partition directory. Raises `LogError` (one line, names the file) and `DiskError`."""
    loader = _Loader(host, directory, config, request, now_ms)
    return Log(host, topic_partition, directory, config, loader.load())


class _Loader:
    """One load. Files are opened on a host of its own, so that loads in parallel share nothing."""

    def __init__(self, host: LogHost, directory: str, config: LogConfig, request: LoadRequest, now_ms: int) -> None:
        self._host = host
        self._disk = host.disk
        self._local = SimpleHost(host.disk, max_open_files=8)
        self._directory = directory
        self._config = config
        self._request = request
        self._now_ms = now_ms
        self._segments: list[Segment] = []

    def load(self) -> LogParts:
        directory, disk, request = self._directory, self._disk, self._request
        names = self._remove_leftovers(disk.list_directory(directory))
        topic_id = self._read_topic_id()
        files = [file for name in names if (file := parse_offset_name(name)) is not None and not file.state]
        bases = sorted(file.offset for file in files if file.kind == LOG_SUFFIX)
        self._remove_orphans(files, set(bases))
        self._segments = [self._segment(base_offset) for base_offset in bases]
        snapshots = SnapshotFiles(disk, directory, [file.offset for file in files if file.kind == SNAPSHOT_SUFFIX])
        state = ProducerState()
        epochs = self._read_epochs()
        if request.was_clean:
            log_end_offset = self._trust(set(names), snapshots)
            recovery_point = log_end_offset
        else:
            log_end_offset = self._recover(state, snapshots, epochs)
            recovery_point = min(request.recovery_point, log_end_offset)
        if self._segments and log_end_offset < request.log_start_offset:
            # Records below the log start offset were lost, none above it exist: go on where the log was said to start.
            self._drop_segments(self._segments, snapshots)
            epochs.clear()
        if not self._segments:
            log_end_offset = recovery_point = request.log_start_offset
            if log_end_offset:
                segment = self._segment(log_end_offset, is_new=True)
                segment.file.create()
                self._segments = [segment]
        log_start_offset = request.log_start_offset
        if self._segments:
            log_start_offset = max(log_start_offset, self._segments[0].base_offset)
        epochs.truncate_from_end(log_end_offset)
        epochs.truncate_from_start(log_start_offset)
        epochs.end_recovery()
        self._load_producers(state, snapshots, log_start_offset, log_end_offset)
        for segment in self._segments:
            segment.close()
            segment.adopt(self._host.open_files, self._host.index_cache)
        return LogParts(
            topic_id,
            self._segments,
            log_start_offset,
            log_end_offset,
            recovery_point,
            request.high_watermark,
            epochs,
            state,
            snapshots,
            min(request.cleaned_offset, log_end_offset),
            request.recovery_point,
        )

    # Files

    def _remove_leftovers(self, names: list[str]) -> list[str]:
        """Finish or undo what was going on when the process ended; the names that are left."""
        if not any(name.endswith((DELETED_SUFFIX, CLEANED_SUFFIX, SWAP_SUFFIX, ".tmp")) for name in names):
            return names
        files = {name: file for name in names if (file := parse_offset_name(name)) is not None}
        # Output of the cleaner that is not complete: the originals are still there. A swap above it belongs to the same
        # interrupted split of a segment (KAFKA-6264).
        cleaned = [file.offset for file in files.values() if file.state == CLEANED_SUFFIX]
        first_cleaned = min(cleaned, default=None)
        swaps = []
        for name in names:
            file = files.get(name)
            if file is None:
                if name.endswith((".tmp", DELETED_SUFFIX)):
                    self._disk.remove(f"{self._directory}/{name}")
            elif file.state in (DELETED_SUFFIX, CLEANED_SUFFIX):
                self._disk.remove(f"{self._directory}/{name}")
            elif file.state == SWAP_SUFFIX:
                if first_cleaned is not None and file.offset >= first_cleaned:
                    self._disk.remove(f"{self._directory}/{name}")
                else:
                    swaps.append((name, file))
        if swaps:
            self._finish_swaps(swaps)
        return self._disk.list_directory(self._directory)

    def _finish_swaps(self, swaps: list[tuple[str, OffsetFile]]) -> None:
        """Complete segments of the cleaner take the place of those they were made from."""
        bases = [file.offset for _, file in swaps if file.kind == LOG_SUFFIX]
        end_offset = -1
        for base_offset in bases:
            path = f"{self._directory}/{offset_name(base_offset, LOG_SUFFIX + SWAP_SUFFIX)}"
            data = self._disk.open(path, read_only=True)
            try:
                for _, header in batch_headers(data.read_at, 0, data.size()):
                    end_offset = max(end_offset, header.next_offset)
            finally:
                data.close()
        for name in self._disk.list_directory(self._directory):
            file = parse_offset_name(name)
            if file is None or file.state or file.kind not in SEGMENT_SUFFIXES or not bases:
                continue
            if min(bases) <= file.offset < end_offset or file.offset in bases:
                self._disk.remove(f"{self._directory}/{name}")
        for name, _ in swaps:
            path = f"{self._directory}/{name}"
            self._disk.rename(path, path.removesuffix(SWAP_SUFFIX))

    def _remove_orphans(self, files: list[OffsetFile], bases: set[int]) -> None:
        for file in files:
            if file.kind in INDEX_SUFFIXES and file.offset not in bases:
                self._disk.remove(f"{self._directory}/{offset_name(file.offset, file.kind)}")

    def _segment(self, base_offset: int, *, is_new: bool = False) -> Segment:
        path = f"{self._directory}/{offset_name(base_offset, LOG_SUFFIX)}"
        return Segment(
            self._disk,
            self._directory,
            base_offset,
            size=0 if is_new else self._disk.size(path),
            created_ms=self._now_ms,
            open_files=self._local.open_files,
            index_cache=self._local.index_cache,
            is_new=is_new,
        )

    def _drop_segments(self, segments: list[Segment], snapshots: SnapshotFiles) -> None:
        """Remove segments, durably: they must not come back behind what will be appended in their place."""
        for segment in segments[::-1]:
            segment.close()
            for path in segment.paths():
                if self._disk.exists(path):
                    self._disk.remove(path)
            snapshots.remove(segment.base_offset)
            self._segments.remove(segment)
        if segments:
            self._disk.sync_directory(self._directory)

    # A clean log

    def _trust(self, names: set[str], snapshots: SnapshotFiles) -> int:
        """The log end offset of a log that was closed in an orderly way; missing or impossible indexes are rebuilt."""
        for segment in self._segments:
            if not self._has_sane_indexes(segment, names):
                self._rebuild_indexes(segment, snapshots)
        if not self._segments:
            return 0
        active = self._segments[-1]
        active.load_timestamps()
        log_end_offset = active.base_offset
        if active.size:
            # Asked for at once when the log plans its next roll, and this file is open now.
            active.first_timestamp = parse_header(active.file.read_at(0, HEADER_SIZE)).max_timestamp
        last_position = active.offset_index.last_position
        for _, header in batch_headers(active.file.read_at, last_position, active.size, chunk_bytes=8192):
            log_end_offset = header.next_offset
        return log_end_offset

    def _has_sane_indexes(self, segment: Segment, names: set[str]) -> bool:
        for suffix, entry_size in ((INDEX_SUFFIX, OFFSET_ENTRY_SIZE), (TIME_INDEX_SUFFIX, TIME_ENTRY_SIZE)):
            name = offset_name(segment.base_offset, suffix)
            if name not in names:
                return suffix == TIME_INDEX_SUFFIX  # Kafka, too, only misses the offset index
            if self._disk.size(f"{self._directory}/{name}") % entry_size:
                return False
        name = offset_name(segment.base_offset, TRANSACTION_INDEX_SUFFIX)
        if name in names and self._disk.size(f"{self._directory}/{name}") % TRANSACTION_ENTRY_SIZE:
            return False
        if segment is self._segments[-1]:
            return segment.restore_indexes()
        return True

    def _rebuild_indexes(self, segment: Segment, snapshots: SnapshotFiles, *, keep_transactions: bool = False) -> None:
        """The indexes only: leader epochs of a clean log are in their file; open transactions are needed to know which
        ones a marker aborts.
        """
        state = ProducerState()
        self._rebuild_state(state, snapshots, self._request.log_start_offset, segment.base_offset)
        known_epochs = LeaderEpochs(self._disk, "", [(MAXIMUM_INT32, 0)], deferred=True)
        interval = self._config.index_interval_bytes
        recover_segment(segment, state, known_epochs, interval, keep_transactions=keep_transactions)
        # Nobody will flush them: the recovery point is above this segment.
        self._sync([path for path in segment.paths()[1:] if self._disk.exists(path)])

    def _sync(self, paths: list[str]) -> None:
        for path in paths:
            file = self._disk.open(path)
            try:
                file.sync()
            finally:
                file.close()
        if paths:
            self._disk.sync_directory(self._directory)

    # A log after a crash

    def _recover(self, state: ProducerState, snapshots: SnapshotFiles, epochs: LeaderEpochs) -> int:
        segments = self._segments
        if not segments:
            return 0
        first = max(
            (index for index, segment in enumerate(segments) if segment.base_offset <= self._request.recovery_point),
            default=0,
        )
        if first and epochs.latest < 0:
            self._learn_epochs(epochs, segments[:first])
        base_offset = segments[first].base_offset
        if first and base_offset == self._request.recovery_point and not segments[first - 1].check_indexes():
            # It was closed when all its records, but not yet its indexes, were on the device. (Its transaction index
            # was; removing that now would lose it for good, should the machine stop once more in the middle.)
            self._rebuild_indexes(segments[first - 1], snapshots, keep_transactions=True)
        snapshots.remove_outside(self._request.log_start_offset, base_offset)
        self._rebuild_state(state, snapshots, self._request.log_start_offset, base_offset)
        epochs.truncate_from_end(base_offset)  # the file may tell of an end that was lost; the batches tell it again
        next_offset = base_offset
        has_gaps = False
        # Below it a hole is what compaction has left (that of another broker also above the recovery point).
        known_end = max(self._request.recovery_point, self._request.cleaned_offset)
        for index in range(first, len(segments)):
            segment = segments[index]
            hole = segment.base_offset - next_offset if segment.base_offset > known_end else 0
            if 0 < hole <= LARGEST_HOLE and not has_gaps:
                # Records between the two were never flushed, and are lost: what follows a hole can not be kept. (One
                # that no segment has room for is the leader's compaction.)
                self._drop_segments(segments[index:], snapshots)
                break
            if next_offset > segment.base_offset:
                self._drop_segments(segments[index:], snapshots)  # it came back with the crash of its removal
                break
            if segment.base_offset > base_offset:
                snapshots.take(segment.base_offset, state.snapshot())
            interval = self._config.index_interval_bytes
            next_offset, removed, has_gaps = recover_segment(segment, state, epochs, interval)
            if removed:
                self._drop_segments(segments[index + 1 :], snapshots)
                break
        # Written anew below the recovery point, where no flush goes.
        rewritten = [segment.transaction_index for segment in segments if segment.transaction_index.unsynced]
        self._sync([transactions.path for transactions in rewritten])
        for transactions in rewritten:
            transactions.unsynced = False
        return max(next_offset, segments[-1].base_offset)

    def _read_topic_id(self) -> bytes:
        path = f"{self._directory}/{PARTITION_METADATA}"
        try:
            return read_topic_id(self._disk, path)
        except LogError:
            if self._request.was_clean:
                raise
            # Written but not synced before a crash: to be assigned again.
            self._disk.remove(path)
            return ZERO_UUID

    def _read_epochs(self) -> LeaderEpochs:
        path = f"{self._directory}/{LEADER_EPOCH_CHECKPOINT}"
        try:
            entries = read_leader_epochs(self._disk, path)
        except LogError:
            if self._request.was_clean:
                raise
            # Written but not synced before a crash: learned from the batches again, if there are any.
            self._disk.remove(path)
            entries = []
        return LeaderEpochs(self._disk, path, entries, deferred=True)

    @staticmethod
    def _learn_epochs(epochs: LeaderEpochs, segments: list[Segment]) -> None:
        for segment in segments:
            for _, header in batch_headers(segment.file.read_at, 0, segment.size):
                if header.partition_leader_epoch > epochs.latest:
                    epochs.assign(header.partition_leader_epoch, header.base_offset)

    # Producers

    def _load_producers(
        self, state: ProducerState, snapshots: SnapshotFiles, log_start_offset: int, log_end_offset: int
    ) -> None:
        snapshots.remove_strays({segment.base_offset for segment in self._segments})
        snapshots.remove_outside(log_start_offset, log_end_offset)
        if log_start_offset == log_end_offset or (self._request.was_clean and snapshots.latest is None):
            # Without a snapshot, a log that was closed cleanly never had a producer, or is from before there were
            # snapshots. Reading it all would tell no more than that.
            state.clear(log_end_offset)
        elif state.map_end_offset != log_end_offset:  # recovery leaves it complete
            self._rebuild_state(state, snapshots, log_start_offset, log_end_offset)
        if not self._request.was_clean and log_end_offset > (snapshots.latest or log_start_offset):
            snapshots.take(log_end_offset, state.snapshot())

    def _rebuild_state(
        self, state: ProducerState, snapshots: SnapshotFiles, log_start_offset: int, log_end_offset: int
    ) -> None:
        rebuild_producers(
            state,
            snapshots,
            self._segments,
            log_start_offset,
            log_end_offset,
            self._now_ms,
            self._host.producer_id_expiration_ms,
        )
