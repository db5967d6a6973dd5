"""One replica's metadata log on the disk: records, control batches and snapshots, in Kafka's `__cluster_metadata-0`.

It is the `ReplicaLog` of the quorum core. Appending and cutting reach the page cache and return; `begin_flush` gives
what brings them to the device, for a worker thread. What was on the device and is cut goes from the device first
(`Log.truncate_to` waits for it), so that a crash brings nothing back.

Snapshots stand for the log before them. The newest one bounds what a start has to read; older ones, and the log before
the oldest, stay for replicas that are behind, within `metadata.max.retention.bytes` and `.ms`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from ottla.core.binary import Buffer
from ottla.core.errors import ApiError
from ottla.core.ids import ONE_UUID, TopicPartition
from ottla.records.batch import LENGTH_END, CorruptRecordError, batches, crc_matches
from ottla.records.control import ControlMessage, control_batch, read_control_message
from ottla.records.record import Record, build_batch, read_batch_records
from ottla.records.validation import AppendOrigin
from ottla.runtime.disk import File
from ottla.runtime.env import Env
from ottla.server.log.config import LogConfig
from ottla.server.log.files import METADATA_TOPIC
from ottla.server.log.flush import FlushTask
from ottla.server.log.host import SimpleHost
from ottla.server.log.loader import LoadRequest, create_log, load_log
from ottla.server.log.log import Log
from ottla.server.raft.metadata_log import CommittedBatch, EpochEnd, MetadataLogError, RaftListener
from ottla.server.raft.snapshot import (
    SnapshotId,
    SnapshotReader,
    find_snapshots,
    snapshot_pieces,
    write_snapshot_file,
)
from ottla.server.raft.voters import VoterHistory, VoterSet

READ_BYTES: Final = 1024 * 1024

_INT32 = struct.Struct(">i")


@dataclass(frozen=True, slots=True)
class ReplicaLogSettings:
    """`metadata.log.segment.*` and `metadata.max.retention.*`; -1: no bound.

    With `keeps_for_others` False, older snapshots go as soon as there is a newer one: nobody will ask for them.
    """

    segment_bytes: int
    segment_ms: int
    retention_bytes: int = -1
    retention_ms: int = -1
    keeps_for_others: bool = True


class ReadBatch(NamedTuple):
    """One batch of the log: framed records, or control messages with their offsets."""

    batch: CommittedBatch
    control: list[tuple[int, ControlMessage | None]]
    size_in_bytes: int


class _Host(SimpleHost):
    """A host for one log: removes at once, and leaves flushing to who drives it."""

    def flush_later(self, log: Log) -> None:
        """The next flush covers every segment that is not on the device yet."""


def open_replica_log(env: Env, path: str, settings: ReplicaLogSettings, history: VoterHistory) -> DiskReplicaLog:
    """Recover the log in the directory `path`; `history` learns what the newest snapshot says of the quorum.

    Like Kafka's, it is checked batch by batch from the newest snapshot on, however it was closed. Waits for the disk.
    Raises MetadataLogError, LogError or DiskError, each with one line for the operator.
    """
    disk = env.disk
    names = disk.list_directory(path)
    for name in names:
        if name.endswith((".checkpoint.part", ".checkpoint.deleted")):
            disk.remove(f"{path}/{name}")
    config = LogConfig(
        cleanup_policy=(),  # what goes is decided by snapshots alone
        max_message_bytes=settings.segment_bytes,
        segment_bytes=settings.segment_bytes,
        segment_ms=settings.segment_ms,
    )
    host = _Host(disk, random=env.random)
    partition = TopicPartition(METADATA_TOPIC, 0)
    snapshots = find_snapshots(disk, path)
    newest = snapshots[-1] if snapshots else None
    start = newest.end_offset if newest is not None else 0
    if any(name.endswith(".log") for name in names):
        log = load_log(host, partition, path, config, LoadRequest(recovery_point=start), now_ms=env.clock.now_ms())
    else:
        log = create_log(host, partition, path, ONE_UUID, config)
    replica = DiskReplicaLog(env, path, settings, log, host, history)
    if newest is not None:
        with SnapshotReader(disk, f"{path}/{newest.file_name}") as reader:
            voters = None if reader.voters is None else VoterSet(reader.voters)
            replica.begin_at(newest, reader.kraft_version, voters, reader.timestamp_ms)
    if log.log_start_offset > start:
        raise MetadataLogError(
            f"{path} is incomplete: the log begins at offset {log.log_start_offset}, "
            f"the newest snapshot ends at {start}"
        )
    return replica


class DiskReplicaLog:
    """See `ports.ReplicaLog` for what the core uses; one owner, the event loop, but for what names a worker thread.

    `on_truncated(offset)` is called when records at `offset` and later have gone.
    """

    def __init__(
        self, env: Env, path: str, settings: ReplicaLogSettings, log: Log, host: SimpleHost, history: VoterHistory
    ) -> None:
        self.path = path
        self.history = history
        self.on_truncated: Callable[[int], None] | None = None
        self.snapshot_timestamp_ms = -1
        self.bytes_since_snapshot = 0
        self._env = env
        self._settings = settings
        self._log = log
        self._host = host
        self._snapshots = [one for one in find_snapshots(env.disk, path) if one.end_offset > 0]
        self._download: tuple[SnapshotId, File, int] | None = None

    def begin_at(
        self, snapshot: SnapshotId, kraft_version: int | None, voters: VoterSet | None, timestamp_ms: int
    ) -> None:
        """The state up to here is in this snapshot, the newest one: a log that ends before, or is of an earlier epoch
        (what a download replaced before a crash), begins anew behind it."""
        log = self._log
        self.history.load_snapshot(snapshot.end_offset, kraft_version, voters)
        if snapshot.end_offset == 0:
            return
        self.snapshot_timestamp_ms = timestamp_ms
        last_epoch = log.leader_epochs.latest if log.log_end_offset > log.log_start_offset else -1
        if log.log_end_offset < snapshot.end_offset or 0 <= last_epoch < snapshot.epoch:
            log.truncate_fully_and_start_at(snapshot.end_offset, now_ms=self._env.clock.now_ms())
        log.advance_high_watermark(snapshot.end_offset)

    # Offsets and epochs

    @property
    def start_offset(self) -> int:
        """The first offset that can be read."""
        return self._log.log_start_offset

    @property
    def end_offset(self) -> int:
        """The offset of the next record."""
        return self._log.log_end_offset

    @property
    def flushed_end_offset(self) -> int:
        """End of what survives a crash. What a snapshot stands for does."""
        return max(self._log.recovery_point, self._log.log_start_offset)

    @property
    def last_epoch(self) -> int:
        """Epoch of the last record, or of the newest snapshot, else 0."""
        return self.end_offset_for_epoch(2**31 - 1).epoch

    @property
    def latest_snapshot(self) -> SnapshotId | None:
        """The newest complete snapshot of records."""
        return self._snapshots[-1] if self._snapshots else None

    @property
    def earliest_snapshot(self) -> SnapshotId | None:
        """The oldest one."""
        return self._snapshots[0] if self._snapshots else None

    def end_offset_for_epoch(self, epoch: int) -> EpochEnd:
        """The newest epoch that is not newer than `epoch`, and where it ends."""
        entries = self._log.leader_epochs.entries()
        end_offset = self.end_offset
        for known, start_offset in reversed(entries):
            if known <= epoch:
                return EpochEnd(known, end_offset)
            end_offset = start_offset
        start_offset = self.start_offset
        for snapshot in self._snapshots:
            if snapshot.end_offset == start_offset and snapshot.epoch <= epoch:
                return EpochEnd(snapshot.epoch, end_offset)
        return EpochEnd(0, start_offset)

    # Appending

    def append_as_leader(self, epoch: int, frames: Sequence[bytes], timestamp_ms: int) -> int:
        """Append one batch; the offset of its last record."""
        records = [Record(0, timestamp_ms, None, frame) for frame in frames]
        return self._append(build_batch(records, base_offset=self.end_offset, leader_epoch=epoch), epoch, timestamp_ms)

    def append_control(self, epoch: int, messages: Sequence[ControlMessage]) -> int:
        """Append one control batch; its base offset."""
        now_ms = self._env.clock.now_ms()
        base_offset = self.end_offset
        batch = control_batch(messages, timestamp_ms=now_ms, base_offset=base_offset, leader_epoch=epoch)
        self._append(batch, epoch, now_ms)
        return base_offset

    def _append(self, batch: bytearray, epoch: int, now_ms: int) -> int:
        try:
            result = self._log.append_as_leader(batch, epoch, now_ms, origin=AppendOrigin.RAFT_LEADER)
        except ApiError as error:
            raise self._failure(error) from error
        self.bytes_since_snapshot += len(batch)
        return result.last_offset

    def append_as_follower(self, data: Buffer) -> None:
        """Append whole batches that a leader sent."""
        before = self._log.size_in_bytes
        try:
            self._log.append_as_follower(data, self._env.clock.now_ms())
        except ApiError as error:
            raise self._failure(error) from error
        finally:
            self.bytes_since_snapshot += self._log.size_in_bytes - before

    def truncate_to(self, offset: int) -> None:
        """Remove everything at `offset` and later; waits for the device where that was on it."""
        if offset >= self.end_offset:
            return
        try:
            self._log.truncate_to(offset, self._env.clock.now_ms())
        except ApiError as error:
            raise self._failure(error) from error
        if self.on_truncated is not None:
            self.on_truncated(offset)

    def _failure(self, error: ApiError) -> Exception:
        """A disk that failed for good fails the log; a full one has refused this write."""
        return error if self._host.failure is None else MetadataLogError(error.message)

    # Reading

    def read(self, offset: int, max_bytes: int) -> Buffer:
        """Whole batches from `offset` on, the first one even when it is larger; empty at the end."""
        return self.read_before(offset, max_bytes, self.end_offset)

    def read_before(self, offset: int, max_bytes: int, end_offset: int) -> Buffer:
        """The same up to `end_offset`, which lies between batches."""
        found = self._log.read(offset, max_bytes, upper_bound=end_offset, min_one_batch=True)
        data = found.read_cached()
        return _whole_batches(found.read() if data is None else data)

    def batches(self, start_offset: int, end_offset: int) -> Iterator[ReadBatch]:
        """The batches from `start_offset` up to `end_offset`, decoded.

        Raises MetadataLogError for what is damaged, DiskError. Waits for the disk where the page cache has it not.
        """
        offset = start_offset
        while offset < end_offset:
            before = offset
            for one in self.decode(self.read_before(offset, READ_BYTES, end_offset), offset):
                offset = one.batch.last_offset + 1
                yield one
            if offset == before:
                raise self.damage(f"nothing can be read at offset {offset}")

    def decode(self, data: Buffer, offset: int) -> Iterator[ReadBatch]:
        """The batches in `data`, without records before `offset`."""
        for position, header in batches(data):
            if header.last_offset < offset:
                continue
            if not crc_matches(data, position, header):
                raise self.damage(f"wrong CRC at offset {header.base_offset}")
            try:
                records = [one for one in read_batch_records(data, position, header) if one.offset >= offset]
                control = [(one.offset, read_control_message(one)) for one in records] if header.is_control else []
            except CorruptRecordError as error:
                raise self.damage(str(error)) from error
            frames = [] if control else [one.value for one in records if one.value is not None]
            batch = CommittedBatch(frames, header.last_offset, header.partition_leader_epoch, header.max_timestamp)
            yield ReadBatch(batch, control, header.size_in_bytes)

    def damage(self, what: str) -> MetadataLogError:
        """The log cannot be read."""
        return MetadataLogError(f"{self.path} is damaged: {what}")

    def learn(self) -> None:
        """After opening: let the voters' history, and the size of what follows the newest snapshot, be those of the
        log. Waits for the disk."""
        newest = self.latest_snapshot
        start_offset = max(self.start_offset, newest.end_offset if newest is not None else 0)
        for one in self.batches(start_offset, self.end_offset):
            self.take_note(one)

    def take_note(self, read: ReadBatch) -> None:
        """The same for one batch behind the newest snapshot, in order."""
        self.bytes_since_snapshot += read.size_in_bytes
        for offset, message in read.control:
            self.history.replay(offset, message)

    # Flushing

    def begin_flush(self) -> FlushTask | None:
        """What brings everything appended so far to the device; None when it is there. Its `run` waits."""
        return self._log.begin_flush()

    def complete_flush(self, task: FlushTask) -> None:
        """It was run without an error."""
        self._log.complete_flush(task)

    def advance_high_watermark(self, offset: int) -> None:
        """Records before `offset` are committed."""
        self._log.advance_high_watermark(offset)

    def close(self, *, flush: bool = True) -> None:
        """Bring everything to the device and release the files. Waits for the disk. Raises DiskError."""
        self._drop_download()
        task = self._log.prepare_close() if flush else None
        try:
            if task is not None:
                task.run()
                self._log.complete_flush(task)
        finally:
            self._log.close()

    # Snapshots of this replica

    def snapshot_path(self, snapshot_id: SnapshotId) -> str:
        """Where a snapshot is."""
        return f"{self.path}/{snapshot_id.file_name}"

    def snapshot_size(self, snapshot_id: SnapshotId) -> int | None:
        """Bytes of a complete snapshot; None when there is no such one."""
        return self._env.disk.size(self.snapshot_path(snapshot_id)) if snapshot_id in self._snapshots else None

    def read_snapshot(self, snapshot_id: SnapshotId, position: int, max_bytes: int) -> bytes:
        """A piece of a snapshot. Waits for the disk; any thread. Raises DiskError (MissingFileError: it has gone)."""
        file = self._env.disk.open(self.snapshot_path(snapshot_id), read_only=True)
        try:
            return file.read_at(position, max_bytes)
        finally:
            file.close()

    def feed_snapshot(self, snapshot_id: SnapshotId, listener: RaftListener) -> None:
        """Have the listener start afresh from a snapshot. Waits for the disk; any thread."""
        with SnapshotReader(self._env.disk, self.snapshot_path(snapshot_id)) as reader:
            listener.on_snapshot(snapshot_id.end_offset, snapshot_id.epoch, reader.timestamp_ms, reader.batches())

    def write_snapshot(self, end_offset: int, epoch: int, timestamp_ms: int, frames: Iterable[bytes]) -> None:
        """Keep a state that contains everything before `end_offset`, which is committed. For a worker thread."""
        assert end_offset <= self._log.high_watermark, "only what is committed may enter a snapshot"
        snapshot = SnapshotId(end_offset, epoch)
        if self._snapshots and snapshot <= self._snapshots[-1]:
            return
        bytes_before = self.bytes_since_snapshot
        pieces = snapshot_pieces(
            frames,
            kraft_version=self.history.kraft_version_at(end_offset - 1),
            voters=tuple(self.history.voters_at(end_offset - 1)),
            timestamp_ms=timestamp_ms,
            now_ms=self._env.clock.now_ms(),
        )
        suffix = f"{self._env.random.getrandbits(48):012x}"
        write_snapshot_file(self._env.disk, self.snapshot_path(snapshot), pieces, suffix)
        self._snapshots = [*self._snapshots, snapshot]
        self.snapshot_timestamp_ms = timestamp_ms
        self.bytes_since_snapshot -= bytes_before

    def drop_before_snapshot(self) -> int:
        """Forget snapshots that nobody needs any more, and the log before the oldest that stays; the new start."""
        if not self._snapshots:
            return self.start_offset
        now_ms = self._env.clock.now_ms()
        self._log.roll(now_ms)  # only whole segments can go, so a later call finds one that ends here
        keep = self._first_to_keep(now_ms)
        for snapshot in find_snapshots(self._env.disk, self.path):
            if snapshot < keep:
                self._env.disk.remove(self.snapshot_path(snapshot))
        self._snapshots = [one for one in self._snapshots if one >= keep]
        self._log.delete_records_before(keep.end_offset)
        self._log.delete_old_segments(now_ms)
        return self.start_offset

    def _first_to_keep(self, now_ms: int) -> SnapshotId:
        """As Kafka does: too old, or more than may be kept, is what has a newer snapshot behind it."""
        settings, snapshots = self._settings, self._snapshots
        if not settings.keeps_for_others:
            return snapshots[-1]
        sizes = [self._env.disk.size(self.snapshot_path(one)) for one in snapshots]
        total = self._log.size_in_bytes + sum(sizes)
        for snapshot, size in zip(snapshots[:-1], sizes, strict=False):
            too_much = 0 <= settings.retention_bytes < total
            if not too_much and not self._is_too_old(snapshot, now_ms):
                return snapshot
            total -= size
        return snapshots[-1]

    def _is_too_old(self, snapshot: SnapshotId, now_ms: int) -> bool:
        if self._settings.retention_ms < 0:
            return False
        with SnapshotReader(self._env.disk, self.snapshot_path(snapshot)) as reader:
            return now_ms - reader.timestamp_ms > self._settings.retention_ms

    # Snapshots of the leader

    def store_snapshot_piece(self, snapshot_id: SnapshotId, position: int, data: Buffer) -> None:
        """Append a piece to a download; position 0 begins it anew. Raises DiskError."""
        if position == 0:
            self._drop_download()
            file = self._env.disk.open(self._part_path(snapshot_id), create=True)
            file.truncate(0)
        else:
            assert self._download is not None, "pieces come in order"
            known, file, size = self._download
            assert (known, size) == (snapshot_id, position), "pieces come in order"
        file.append(data)
        self._download = snapshot_id, file, position + len(data)

    def finish_download(self, snapshot_id: SnapshotId) -> tuple[int | None, VoterSet | None, int]:
        """Check what was downloaded and give it its name: kraft.version, voters and timestamp in it.

        For a worker thread. Raises MetadataLogError when it is damaged (the file has gone then), DiskError.
        """
        assert self._download is not None
        _, file, _ = self._download
        self._download = None
        part = self._part_path(snapshot_id)
        try:
            file.sync()
        finally:
            file.close()
        try:
            with SnapshotReader(self._env.disk, part) as reader:
                reader.check()
        except MetadataLogError:
            self._env.disk.remove(part)
            raise
        self._env.disk.rename(part, self.snapshot_path(snapshot_id))
        self._env.disk.sync_directory(self.path)
        return reader.kraft_version, None if reader.voters is None else VoterSet(reader.voters), reader.timestamp_ms

    def install_snapshot(self, snapshot_id: SnapshotId, timestamp_ms: int) -> None:
        """Let the log begin, empty, where a finished download ends. Then flush, before anything is built on it."""
        for snapshot in find_snapshots(self._env.disk, self.path):
            if snapshot < snapshot_id:
                self._env.disk.remove(self.snapshot_path(snapshot))
        self._snapshots = [snapshot_id]
        self._log.truncate_fully_and_start_at(snapshot_id.end_offset, now_ms=self._env.clock.now_ms())
        self._log.advance_high_watermark(snapshot_id.end_offset)
        self.snapshot_timestamp_ms = timestamp_ms
        self.bytes_since_snapshot = 0
        if self.on_truncated is not None:
            self.on_truncated(0)

    def _part_path(self, snapshot_id: SnapshotId) -> str:
        return f"{self.path}/{snapshot_id.file_name}.part"

    def _drop_download(self) -> None:
        if self._download is not None:
            known, file, _ = self._download
            self._download = None
            file.close()
            self._env.disk.remove(self._part_path(known))


def _whole_batches(data: Buffer) -> Buffer:
    """`data` without a last batch that is cut off."""
    position, end = 0, len(data)
    while end - position >= LENGTH_END:
        size = LENGTH_END + _INT32.unpack_from(data, position + 8)[0]
        if size > end - position:
            break
        position += size
    return data if position == end else memoryview(data)[:position]
