"""One partition's log: appends, reads, offsets, truncation, retention.

A `Log` is driven by one owner, the event loop; see the package docstring. It is made by `loader.load_log` (from what
is on disk) or `loader.create_log`.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable

from ottla.core.binary import Buffer
from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ids import TopicPartition
from ottla.records.batch import LENGTH_END, BatchHeader
from ottla.records.validation import AppendOrigin, validate_and_assign
from ottla.runtime.disk import Disk, DiskError, DiskFullError, MissingFileError
from ottla.server.log.checkpoint import format_topic_id, write_unsynced
from ottla.server.log.config import LogConfig
from ottla.server.log.files import LEADER_EPOCH_CHECKPOINT, PARTITION_METADATA
from ottla.server.log.flush import FlushState, FlushTask
from ottla.server.log.host import LogHost
from ottla.server.log.indexes import WouldBlockError
from ottla.server.log.parts import AppendResult, LogParts
from ottla.server.log.producer_loading import aborted_entry, rebuild_producers, recall_batches
from ottla.server.log.producer_state import (
    EndTransactionMarker,
    ProducerBatch,
    ProducerEntry,
    read_marker,
)
from ottla.server.log.retention import delete_old_segments, remove_segments
from ottla.server.log.rolling import NEVER, roll_limits
from ottla.server.log.segment import LARGEST_HOLE, MAXIMUM_RELATIVE_OFFSET, Segment
from ottla.server.log.slice import EMPTY_SLICE, LogSlice, SliceRequest
from ottla.server.log.timestamps import TimestampOffset, offset_for_timestamp, offset_of_max_timestamp
from ottla.server.log.transaction_index import AbortedTransaction
from ottla.server.log.verification import Verification

__all__ = ["AppendOrigin", "AppendResult", "Log", "LogParts"]

# A member of an enumeration costs more to look up than to compare, on Python 3.11.
_CLIENT = AppendOrigin.CLIENT
_INT32 = struct.Struct(">i")


class Log:
    """One partition directory.

    Offsets: `log_start_offset <= last_stable_offset <= high_watermark <= log_end_offset`, all but the first exclusive
    ends. `cleaned_offset`: where the dirty part of a compacted log begins, -1 when it was never cleaned.
    """

    __slots__ = (
        "_active",
        "_bases",
        "_flushing",
        "_host",
        "_roll_at_ms",
        "_roll_offset",
        "_roll_timestamp",
        "_rolled_bytes",
        "_segments",
        "cleaned_offset",
        "config",
        "directory",
        "high_watermark",
        "last_stable_offset",
        "leader_epochs",
        "log_end_offset",
        "log_start_offset",
        "on_flushed",
        "producers_state",
        "snapshots",
        "topic_id",
        "topic_partition",
    )

    def __init__(
        self, host: LogHost, topic_partition: TopicPartition, directory: str, config: LogConfig, parts: LogParts
    ) -> None:
        self._host = host
        self.topic_partition = topic_partition
        self.directory = directory
        self.config = config
        self.topic_id = parts.topic_id
        self._segments = parts.segments
        self._bases = [segment.base_offset for segment in parts.segments]
        self.log_start_offset = parts.log_start_offset
        self.log_end_offset = parts.log_end_offset
        self.high_watermark = min(max(parts.high_watermark, parts.log_start_offset), parts.log_end_offset)
        self.leader_epochs = parts.leader_epochs
        self.producers_state = parts.producers
        self.snapshots = parts.snapshots
        self.cleaned_offset = parts.cleaned_offset
        self._active: Segment | None = parts.segments[-1] if parts.segments else None
        self._flushing = FlushState(parts.recovery_point, parts.checkpointed, is_new=not parts.segments)
        self.on_flushed: Callable[[], None] | None = None  # called whenever the recovery point moved
        self._roll_timestamp = self._roll_at_ms = self._roll_offset = NEVER
        self._rolled_bytes = 0
        self.last_stable_offset = 0
        self._flushing.plan(self.config.flush_messages)
        self._plan_roll()
        self.producers_state.high_watermark_advanced(self.high_watermark)
        self._update_last_stable_offset()

    # Appending

    def append_as_leader(
        self,
        records: bytearray | memoryview,
        leader_epoch: int,
        now_ms: int,
        *,
        origin: AppendOrigin = _CLIENT,
        produce_version: int | None = None,
        transaction_version: int = 0,
        verification: Verification | None = None,
    ) -> AppendResult:
        """Give the batch in `records` (writable, patched in place) the next offsets and write it.

        A client appends one batch; coordinators and the metadata quorum may append several, all or none of which are
        written. `transaction_version` is that of a transaction marker, `verification` what lets a batch begin a
        transaction. Raises `ApiError` with the code for the producer; KAFKA_STORAGE_ERROR when the disk is full or
        fails, in which case the log is as it was.
        """
        if origin is not _CLIENT and LENGTH_END + _INT32.unpack_from(records, 8)[0] < len(records):
            return self._append_several(records, leader_epoch, now_ms, origin, transaction_version)
        if self._host.failure is not None:
            raise ApiError(ErrorCode.KAFKA_STORAGE_ERROR, self._host.failure)
        config = self.config
        header, batch = validate_and_assign(
            records,
            base_offset=self.log_end_offset,
            leader_epoch=leader_epoch,
            now_ms=now_ms,
            rules=config.rules,
            produce_version=produce_version,
            origin=origin,
        )
        if len(batch) > config.segment_bytes:
            raise ApiError(
                ErrorCode.RECORD_LIST_TOO_LARGE,
                f"the record batch size of {len(batch)} bytes exceeds the segment size of {config.segment_bytes}",
            )
        marker: EndTransactionMarker | None = None
        if header.producer_id >= 0:
            if origin is _CLIENT:
                try:
                    duplicate = self.producers_state.check_batch(header, verification)
                except ApiError:
                    entry = self.producers_state.forgets(header)
                    if entry is None:
                        raise
                    recall_batches(entry, self.segments)
                    duplicate = self.producers_state.check_batch(header, verification)
                if duplicate is not None:
                    return self._duplicate(duplicate)
            elif header.is_control:
                marker = read_marker(batch, 0, header)
                if marker is not None:
                    self.producers_state.check_marker(header, marker, transaction_version)
            else:
                self.producers_state.check_commit(header, verification)
        self.write_batch(header, batch, now_ms, marker)
        last_offset = self.log_end_offset - 1
        return AppendResult(
            header.base_offset,
            last_offset,
            header.max_timestamp if config.rules.log_append_time else -1,
            self.log_start_offset,
            False,
            last_offset >= self._flushing.at and self._request_flush(),
        )

    def append_as_follower(self, records: Buffer, now_ms: int = 0, *, leader_epoch: int | None = None) -> AppendResult:
        """Append batches as the leader has them: offsets and epochs stay. A cut-off last batch is left out, and so is
        what is younger than `leader_epoch`.

        Raises `CorruptRecordError` for bytes that are no batches, `ApiError` OFFSET_OUT_OF_RANGE when they do not
        follow, and KAFKA_STORAGE_ERROR.
        """
        if self._host.failure is not None:
            raise ApiError(ErrorCode.KAFKA_STORAGE_ERROR, self._host.failure)
        from ottla.server.log.follower_append import append_batches

        first_offset = self.log_end_offset
        append_batches(self, records, now_ms, leader_epoch)
        pending = self.log_end_offset > self._flushing.at and self._request_flush()
        return AppendResult(first_offset, self.log_end_offset - 1, -1, self.log_start_offset, False, pending)

    def takes_without_ado(self, header: BatchHeader, pending_bytes: int, pending_batches: int, now_ms: int) -> bool:
        """Whether a batch, behind others that are to be written with it, goes to the active segment, in the current
        leader epoch, and leaves room in the indexes.
        """
        segment = self._active
        return (
            segment is not None
            and segment.file.size > 0
            and pending_bytes + header.batch_length + LENGTH_END <= self.config.segment_bytes - segment.file.size
            and header.max_timestamp <= self._roll_timestamp
            and header.base_offset + header.last_offset_delta <= self._roll_offset
            and now_ms <= self._roll_at_ms
            and header.partition_leader_epoch == self.leader_epochs.latest
            and pending_batches < segment.index_room(self.config.segment_index_bytes)
        )

    def write_run(self, headers: list[BatchHeader], data: memoryview) -> None:
        """Write neighbouring batches that the active segment takes without ado, in one go.

        Raises `ApiError` KAFKA_STORAGE_ERROR; the log is as it was then.
        """
        segment = self._active
        assert segment is not None
        try:
            segment.append_run(headers, data, self.config.index_interval_bytes)
        except DiskError as error:
            raise self.storage_error(error) from error
        self.log_end_offset = headers[-1].next_offset
        if segment.has_full_index(self.config.segment_index_bytes):
            self._roll_offset = -1
        for header in headers:
            if header.producer_id >= 0:
                self.producers_state.append_batch(header)

    def write_batch(
        self, header: BatchHeader, batch: bytearray | memoryview, now_ms: int, marker: EndTransactionMarker | None
    ) -> None:
        """Write a checked batch and take over what it means."""
        base_offset = header.base_offset
        last_offset = base_offset + header.last_offset_delta
        max_timestamp = header.max_timestamp
        size = len(batch)
        segment = self._active
        try:
            if (
                segment is None
                or size > self.config.segment_bytes - segment.file.size
                or max_timestamp > self._roll_timestamp
                or last_offset > self._roll_offset
                or now_ms > self._roll_at_ms
            ):
                segment = self._next_segment(base_offset, now_ms)
            if header.partition_leader_epoch != self.leader_epochs.latest:
                self.leader_epochs.assign(header.partition_leader_epoch, base_offset)
            segment.append(base_offset, last_offset, max_timestamp, batch, self.config.index_interval_bytes)
        except DiskError as error:
            raise self.storage_error(error) from error
        self.log_end_offset = last_offset + 1
        if segment.bytes_since_index_entry == size:  # the first batch, or one that got an index entry
            if segment.file.size == size:
                self._plan_roll()
            elif segment.has_full_index(self.config.segment_index_bytes):
                self._roll_offset = -1
        if header.producer_id >= 0:
            self._update_producer(header, marker)

    def _update_producer(self, header: BatchHeader, marker: EndTransactionMarker | None) -> None:
        state = self.producers_state
        if not header.is_control:
            state.append_batch(header)
        elif marker is not None:
            completed = state.end_transaction(header, marker)
            if completed is not None and completed.is_aborted:
                assert self._active is not None
                try:
                    self._active.transaction_index.append(aborted_entry(state, completed))
                except DiskError as error:
                    # The marker is in the log; after a restart its index entry is made again from it.
                    self._host.disk_failed(error)
                    raise self.storage_error(error) from error

    def _append_several(
        self,
        records: bytearray | memoryview,
        leader_epoch: int,
        now_ms: int,
        origin: AppendOrigin,
        transaction_version: int,
    ) -> AppendResult:
        view = memoryview(records)
        first_offset = self.log_end_offset
        position = 0
        result: AppendResult | None = None
        try:
            while position < len(view):
                size = LENGTH_END + _INT32.unpack_from(view, position + 8)[0]
                result = self.append_as_leader(
                    view[position : position + size],
                    leader_epoch,
                    now_ms,
                    origin=origin,
                    transaction_version=transaction_version,
                )
                position += size
        except (ApiError, struct.error):
            self.truncate_to(first_offset)
            raise
        assert result is not None
        result.base_offset = first_offset
        return result

    def _duplicate(self, batch: ProducerBatch) -> AppendResult:
        append_time_ms = batch.timestamp_ms if self.config.rules.log_append_time else -1
        # A retry is no faster than what it repeats: when the flush is still due, it waits as well.
        flush_pending = self.log_end_offset > self._flushing.at and self._request_flush()
        return AppendResult(
            batch.base_offset, batch.last_offset, append_time_ms, self.log_start_offset, True, flush_pending
        )

    # Rolling

    @property
    def written_bytes(self) -> int:
        """A measure of what is appended: grows by the bytes of each batch, from a value that means nothing. Cutting the
        log turns it back.
        """
        active = self._active
        return self._rolled_bytes if active is None else self._rolled_bytes + active.file.size

    def roll(self, now_ms: int, *, base_offset: int | None = None) -> Segment:
        """Close the active segment and begin a new one at the log end offset (or `base_offset`, if that is higher)."""
        offset = max(base_offset or 0, self.log_end_offset)
        active = self._active
        if active is not None and active.base_offset == offset:
            return active  # it is empty
        if active is not None:
            self._rolled_bytes += active.file.size
            active.become_inactive()
            if self._flushing.is_below_checkpoint:
                self.flush()
            self._flushing.closed_segments.append(active)
        segment = self._create_segment(offset, now_ms)
        if active is not None:
            self.producers_state.map_end_offset = offset
            self.snapshots.take(offset, self.producers_state.snapshot())
            self._host.flush_later(self)
        self._plan_roll()
        return segment

    def _next_segment(self, base_offset: int, now_ms: int) -> Segment:
        """The segment to write to, where the quick checks do not let the active one pass.

        What follows a hole that the leader's compaction has left begins no segment of its own, if it can be helped:
        after a crash, a hole between two segments is taken for records that were lost, and one before the first
        segment for records that were deleted.
        """
        segment = self._active
        if (
            segment is not None
            and not segment.file.size
            and base_offset - segment.base_offset <= MAXIMUM_RELATIVE_OFFSET
        ):
            return segment
        is_far = base_offset - self.log_end_offset > LARGEST_HOLE
        return self.roll(now_ms, base_offset=base_offset if is_far else None)

    def _create_segment(self, base_offset: int, now_ms: int) -> Segment:
        host = self._host
        segment = Segment(
            host.disk,
            self.directory,
            base_offset,
            size=0,
            created_ms=now_ms,
            open_files=host.open_files,
            index_cache=host.index_cache,
            is_new=True,
        )
        segment.file.create()
        self._segments.append(segment)
        self._bases.append(base_offset)
        self._active = segment
        self._flushing.directories_unsynced = True
        return segment

    def _plan_roll(self) -> None:
        self._roll_timestamp, self._roll_at_ms, self._roll_offset = roll_limits(
            self._active, self.config, self.topic_partition.partition
        )

    # Reading

    def read(self, offset: int, max_bytes: int, *, upper_bound: int, min_one_batch: bool) -> LogSlice:
        """Where the batches from the one that holds `offset` up to `upper_bound` (exclusive offset) lie: at most
        `max_bytes`, of one segment; with `min_one_batch` the first batch whole, whatever its size (KIP-74).

        Raises `ApiError` OFFSET_OUT_OF_RANGE below the log start offset or above the log end offset.
        """
        end_offset = self.log_end_offset
        if not self.log_start_offset <= offset <= end_offset:
            raise self._out_of_range(offset)
        if offset >= upper_bound or offset == end_offset:
            return EMPTY_SLICE
        segment = self._active
        if upper_bound >= end_offset and segment is not None:
            # A consumer near the end: the place is known from the append.
            found = segment.recent_batch(offset)
            if found is not None:
                size = segment.file.size - found.position
                if size > max_bytes:
                    size = max_bytes if max_bytes >= found.size else found.size if min_one_batch else 0
                return LogSlice(segment.file, found.position, size)
        request = SliceRequest(offset, max_bytes, upper_bound, min_one_batch, end_offset)
        try:
            return request.locate(self._segments, self._bases)
        except WouldBlockError:
            return request.locate_later(self._segments, self._bases)
        except DiskError as error:
            raise self.storage_error(error) from error

    def aborted_transactions(self, start_offset: int, end_offset: int) -> list[AbortedTransaction]:
        """Aborted transactions that have records in the range, by first offset.

        Raises `ApiError` KAFKA_STORAGE_ERROR.
        """
        found: list[AbortedTransaction] = []
        index = max(bisect_right(self._bases, start_offset) - 1, 0)
        try:
            for segment in self._segments[index:]:
                if segment.transaction_index.collect(start_offset, end_offset, found):
                    break
        except DiskError as error:
            raise self.storage_error(error) from error
        found.sort(key=lambda transaction: transaction.first_offset)
        return found

    def offset_for_timestamp(self, timestamp_ms: int) -> TimestampOffset | None:
        """The first record that is not older than `timestamp_ms`; None when all are. Waits for the disk."""
        return self.timestamp_search(timestamp_ms)()

    def offset_of_max_timestamp(self) -> TimestampOffset | None:
        """The first record with the largest timestamp; None when none has any. Waits for the disk."""
        return self.max_timestamp_search()()

    def timestamp_search(self, timestamp_ms: int) -> Callable[[], TimestampOffset | None]:
        """`offset_for_timestamp` as a function for a worker thread."""
        return offset_for_timestamp(
            self._segments, timestamp_ms, self.log_start_offset, self.config.decompressed_limit_bytes
        )

    def max_timestamp_search(self) -> Callable[[], TimestampOffset | None]:
        """`offset_of_max_timestamp` as a function for a worker thread."""
        return offset_of_max_timestamp(self._segments, self.config.decompressed_limit_bytes)

    # Offsets and epochs

    @property
    def disk(self) -> Disk:
        """Where its files are."""
        return self._host.disk

    @property
    def failure(self) -> str | None:
        """Why its directory takes no more writes."""
        return self._host.failure

    @property
    def recovery_point(self) -> int:
        """Everything below this offset is on the device."""
        return self._flushing.recovery_point

    @property
    def generation(self) -> int:
        """A number that changes whenever the end of the log is cut."""
        return self._flushing.generation

    @property
    def size_in_bytes(self) -> int:
        """Bytes of records in all segments."""
        return sum(segment.file.size for segment in self._segments)

    @property
    def segments(self) -> list[Segment]:
        """The segments, oldest first; not to be changed."""
        return self._segments

    def advance_high_watermark(self, offset: int) -> None:
        """Records below `offset` are replicated. Never moves back, nor beyond the log end offset."""
        offset = min(offset, self.log_end_offset)
        if offset > self.high_watermark:
            self.high_watermark = offset
            state = self.producers_state
            if state.holds_back_stable_offset:
                state.high_watermark_advanced(offset)
                self._update_last_stable_offset()
            else:
                self.last_stable_offset = offset

    def end_offset_for_epoch(self, epoch: int) -> tuple[int, int]:
        """(epoch, end offset) of the largest known epoch not above `epoch`; (-1, -1) when there is none."""
        return self.leader_epochs.end_offset_for(epoch, self.log_end_offset)

    def epoch_for_offset(self, offset: int) -> int:
        """The leader epoch the record at `offset` was written in; -1 when it is not known."""
        return self.leader_epochs.epoch_for_offset(offset)

    def producers(self) -> list[ProducerEntry]:
        """The producers that are known, for DescribeProducers."""
        return list(self.producers_state.producers.values())

    def remove_expired_producers(self, now_ms: int) -> int:
        """Forget producers idle for longer than `producer.id.expiration.ms`; how many."""
        return self.producers_state.remove_expired(now_ms, self._host.producer_id_expiration_ms)

    def _update_last_stable_offset(self) -> None:
        first_unstable = self.producers_state.first_unstable_offset()
        if first_unstable is None:
            self.last_stable_offset = self.high_watermark
        else:
            self.last_stable_offset = min(max(first_unstable, self.log_start_offset), self.high_watermark)

    # Cutting

    def delete_records_before(self, offset: int) -> None:
        """Raise the log start offset (DeleteRecords); segments that are wholly below go with the next retention.

        Raises `ApiError` OFFSET_OUT_OF_RANGE above the high watermark. A lower offset changes nothing.
        """
        if offset > self.high_watermark:
            raise ApiError(
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"Cannot increment the log start offset to {offset} of partition {self.topic_partition} "
                f"since it is larger than the high watermark {self.high_watermark}",
            )
        if offset > self.log_start_offset:
            self._raise_log_start_offset(offset)

    def delete_old_segments(self, now_ms: int) -> int:
        """Apply retention by time, size and log start offset; how many segments went. Raises `DiskError`."""
        return delete_old_segments(self, now_ms)

    def truncate_to(self, offset: int, now_ms: int = 0) -> None:
        """Drop all records at or above `offset`, and with them the batch that holds it: within a batch the log ends at
        its base, lest the records before `offset` be taken for there. Reads up to a segment to rebuild the producer
        state.
        """
        if offset >= self.log_end_offset:
            return
        if not self._segments or offset < self._bases[0]:
            self.truncate_fully_and_start_at(offset, now_ms=now_ms)
            return
        try:
            self.remove_segments([segment for segment in self._segments if segment.base_offset > offset])
            active = self._segments[-1]
            offset = min(offset, active.truncate_to(offset, now_ms))
            if offset < self.recovery_point:
                # What was on the device must not come back with a crash, behind what will have been appended by then.
                active.file.sync()
                self._host.disk.sync_directory(self.directory)
            self._active = active
            self.leader_epochs.truncate_from_end(offset)
            self._set_end(offset, min(self.log_start_offset, offset))
            self.snapshots.remove_outside(self.log_start_offset, offset)
            rebuild_producers(
                self.producers_state,
                self.snapshots,
                self._segments,
                self.log_start_offset,
                offset,
                now_ms,
                self._host.producer_id_expiration_ms,
            )
        except DiskError as error:
            raise self.storage_error(error) from error
        self.producers_state.high_watermark_advanced(self.high_watermark)
        self._update_last_stable_offset()

    def truncate_fully_and_start_at(self, offset: int, log_start_offset: int | None = None, *, now_ms: int = 0) -> None:
        """Drop everything; the log goes on, empty, at `offset`."""
        try:
            self.remove_segments(list(self._segments))
            for snapshot in list(self.snapshots.offsets):
                self.snapshots.remove(snapshot)
            self.leader_epochs.clear()
            self._set_end(offset, offset if log_start_offset is None else log_start_offset)
            self._create_segment(offset, now_ms)
        except DiskError as error:
            raise self.storage_error(error) from error
        self.producers_state.clear(offset)
        self._plan_roll()
        self._update_last_stable_offset()

    def remove_segments(self, segments: list[Segment]) -> None:
        """Take segments out of the log; their files go after `file.delete.delay.ms`, until then reads under way
        work.
        """
        for segment in segments:
            self._segments.remove(segment)
            self._bases.remove(segment.base_offset)
            remove_segments(self._host, self.snapshots, segment, self.config.file_delete_delay_ms)
        self._active = self._segments[-1] if self._segments else None

    def replace_segments(self, replaced: list[Segment], successor: Segment) -> None:
        """Let a segment that the cleaner has written (closed, on the device, named `.swap`) take the place of
        neighbours, the first of which has its base offset. Reads under way keep the old ones.

        Raises `DiskError`; a start finishes what was begun.
        """
        doomed: list[str] = []
        for segment in replaced:
            doomed += segment.mark_deleted()
            if segment is not replaced[0]:
                doomed += self.snapshots.mark_deleted(segment.base_offset)
            segment.close()
        successor.name_finally()
        successor.adopt(self._host.open_files, self._host.index_cache)
        index = self._segments.index(replaced[0])
        end = index + len(replaced)
        assert self._segments[index:end] == replaced
        self._segments[index:end] = [successor]
        self._bases[index:end] = [successor.base_offset]
        self._host.delete_later(doomed, self.config.file_delete_delay_ms)

    def segments_removed_from_start(self) -> None:
        """After retention: the log starts where its first segment does, at least."""
        if self._bases and self._bases[0] > self.log_start_offset:
            self._raise_log_start_offset(self._bases[0])

    def _raise_log_start_offset(self, offset: int) -> None:
        self.log_start_offset = offset
        self.leader_epochs.truncate_from_start(offset)
        self.producers_state.high_watermark_advanced(offset)
        self._update_last_stable_offset()

    def _set_end(self, offset: int, log_start_offset: int) -> None:
        self.log_end_offset = offset
        self.log_start_offset = log_start_offset
        self.high_watermark = max(min(self.high_watermark, offset), log_start_offset)
        self.cleaned_offset = min(self.cleaned_offset, offset)
        self._flushing.truncated(offset)
        self._flushing.plan(self.config.flush_messages)
        self._plan_roll()

    # Flushing and closing

    def begin_flush(self, *, including_active_index: bool = False) -> FlushTask | None:
        """What has to reach the device for everything appended so far; None when it is there already.

        The indexes of the active segment are left out, unless asked for: recovery rebuilds them anyway.
        """
        return self._flushing.begin(self, including_active_index)

    def complete_flush(self, task: FlushTask, now_ms: int = -1) -> None:
        """The task was run without an error: move the recovery point."""
        self.snapshots.unsynced -= task.snapshots
        self._flushing.complete(task, now_ms)
        self._flushing.plan(self.config.flush_messages)
        if self.on_flushed is not None:
            self.on_flushed()

    @property
    def is_flush_due(self) -> bool:
        """Whether `flush.messages` asks for a flush."""
        return self.log_end_offset > self._flushing.at

    def flush(self) -> None:
        """All of it at once, waiting for the device. Raises `DiskError`; the directory has failed then."""
        task = self.begin_flush()
        if task is not None:
            try:
                task.run()
            except DiskError as error:
                self._host.disk_failed(error)
                raise
            self.complete_flush(task)

    def needs_flush(self, now_ms: int) -> bool:
        """Whether `flush.ms` have passed since the last flush and there is something to flush."""
        return self._flushing.is_due(now_ms, self.log_end_offset, self.config.flush_ms)

    def prepare_close(self) -> FlushTask | None:
        """The first half of a clean close: what is in memory goes to its files. Run the task, then `close`."""
        active = self._active
        if active is None:
            return self.begin_flush()
        # A log that was not touched since it was loaded has nothing to bring anywhere.
        active.become_inactive()
        if self.log_end_offset > (self.snapshots.latest or 0):
            self.producers_state.map_end_offset = self.log_end_offset
            self.snapshots.take(self.log_end_offset, self.producers_state.snapshot())
        elif not self._flushing.is_needed(self):
            return None
        return self.begin_flush(including_active_index=True)

    def take_over(self, other: Log, host: LogHost, directory: str) -> None:
        """Be the log that `other` was: this one has the same records, and its directory was renamed to `directory`."""
        for segment in self._segments:
            segment.close()
            segment.relocate(directory)
            segment.adopt(host.open_files, host.index_cache)
        self.snapshots.directory = directory
        self.leader_epochs.relocate(f"{directory}/{LEADER_EPOCH_CHECKPOINT}")
        self._flushing.directories_unsynced = True  # what is flushed from now on is found under the new name only
        self._host = host
        self.directory = directory
        self.log_start_offset = other.log_start_offset
        self.high_watermark = other.high_watermark
        self.last_stable_offset = other.last_stable_offset
        self.cleaned_offset = other.cleaned_offset
        self.producers_state = other.producers_state
        self.leader_epochs.truncate_from_start(self.log_start_offset)
        self.on_flushed = other.on_flushed
        self.update_config(other.config)
        if self.is_flush_due:
            self._host.flush_later(self)

    def close(self) -> None:
        """Give descriptors back. Without `prepare_close` it is as if the process had been killed."""
        for segment in self._segments:
            segment.close()

    def _request_flush(self) -> bool:
        self._host.flush_later(self)
        return self.recovery_point < self.log_end_offset

    # Settings, identity, failure

    def update_config(self, config: LogConfig) -> None:
        """Take over changed settings; they hold from the next append on."""
        self.config = config
        self._flushing.plan(self.config.flush_messages)
        self._plan_roll()

    def assign_topic_id(self, topic_id: bytes) -> None:
        """Keep the topic id of a partition that has none on disk, as it was lost or was never written."""
        self.topic_id = topic_id
        write_unsynced(self._host.disk, f"{self.directory}/{PARTITION_METADATA}", format_topic_id(topic_id))
        self._flushing.directories_unsynced = True

    def storage_error(self, error: DiskError) -> ApiError:
        """What a client hears of a disk error. A full disk refuses this write, a file that is gone belonged to a log
        that was deleted meanwhile; anything else fails the directory.
        """
        if isinstance(error, DiskFullError):
            return ApiError(ErrorCode.KAFKA_STORAGE_ERROR, f"the disk of log directory {self.directory} is full")
        if not isinstance(error, MissingFileError):
            self._host.disk_failed(error)
        return ApiError(ErrorCode.KAFKA_STORAGE_ERROR, f"log directory {self.directory} failed: {error}")

    def _out_of_range(self, offset: int) -> ApiError:
        return ApiError(
            ErrorCode.OFFSET_OUT_OF_RANGE,
            f"Received request for offset {offset} for partition {self.topic_partition}, but we only have log segments "
            f"from offset {self.log_start_offset} up to {self.log_end_offset}.",
        )

    def check_invariants(self) -> None:
        """For tests: what must hold between any two operations."""
        assert self.log_start_offset <= self.high_watermark <= self.log_end_offset
        assert self.last_stable_offset <= self.high_watermark
        assert self.recovery_point <= self.log_end_offset
        assert self._bases == sorted(set(self._bases)) == [segment.base_offset for segment in self._segments]
        assert self._active is (self._segments[-1] if self._segments else None)
