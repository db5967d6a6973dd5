"""A replica's metadata log in memory, with what a crash would leave of it: the model behind the quorum's simulation."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from ottla.core.binary import Buffer
from ottla.records.batch import batches
from ottla.records.control import ControlMessage, control_batch, read_control_message
from ottla.records.record import Record, build_batch, read_batch_records
from ottla.server.raft.metadata_log import EpochEnd
from ottla.server.raft.snapshot import SnapshotId
from ottla.server.raft.voters import VoterHistory, VoterSet


class Batch(NamedTuple):
    """One batch, and where it stands."""

    base_offset: int
    end_offset: int
    epoch: int
    data: bytes

    @property
    def is_control(self) -> bool:
        return next(batches(self.data))[1].is_control


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What stands for the log before `id.end_offset`; `data` is what is downloaded of it."""

    id: SnapshotId
    data: bytes
    kraft_version: int | None
    voters: VoterSet | None


class ModelLog:
    """Implements `ReplicaLog`."""

    def __init__(self, bootstrap: Snapshot | None = None) -> None:
        self.bootstrap = bootstrap
        """What `storage format` wrote, where it wrote anything."""
        self.batches: list[Batch] = []
        self.snapshots: dict[SnapshotId, Snapshot] = {}
        self.log_start = SnapshotId(0, 0)
        self.flushed_end_offset = 0
        self._cut_off: list[Batch] = []
        """What was truncated, and might be there again after a crash."""

    @property
    def start_offset(self) -> int:
        return self.log_start.end_offset

    @property
    def end_offset(self) -> int:
        return self.batches[-1].end_offset if self.batches else self.start_offset

    @property
    def last_epoch(self) -> int:
        return self.batches[-1].epoch if self.batches else self.log_start.epoch

    @property
    def latest_snapshot(self) -> SnapshotId | None:
        return max(self.snapshots, default=None)

    @property
    def earliest_snapshot(self) -> SnapshotId | None:
        return min(self.snapshots, default=None)

    def end_offset_for_epoch(self, epoch: int) -> EpochEnd:
        position = bisect_right(self.batches, epoch, key=lambda batch: batch.epoch)
        if position:
            batch = self.batches[position - 1]
            return EpochEnd(batch.epoch, batch.end_offset)
        known = self.log_start.epoch <= epoch
        return EpochEnd(self.log_start.epoch if known else 0, self.start_offset)

    def append_as_leader(self, epoch: int, frames: Sequence[bytes], timestamp_ms: int) -> int:
        records = [Record(0, timestamp_ms, None, frame) for frame in frames]
        return self._add(bytes(build_batch(records, base_offset=self.end_offset, leader_epoch=epoch))) - 1

    def append_control(self, epoch: int, messages: Sequence[ControlMessage]) -> int:
        base_offset = self.end_offset
        self._add(bytes(control_batch(messages, timestamp_ms=0, base_offset=base_offset, leader_epoch=epoch)))
        return base_offset

    def append_as_follower(self, data: Buffer) -> None:
        for position, header in batches(data):
            assert header.base_offset == self.end_offset, "a gap, or the same again"
            self._add(bytes(memoryview(data)[position : position + header.size_in_bytes]))

    def truncate_to(self, offset: int) -> None:
        assert offset >= self.start_offset
        keep = [batch for batch in self.batches if batch.end_offset <= offset]
        self._cut_off = self.batches[len(keep) :]
        self.batches = keep
        self.flushed_end_offset = min(self.flushed_end_offset, self.end_offset)

    def read(self, offset: int, max_bytes: int) -> Buffer:
        position = bisect_right(self.batches, offset, key=lambda batch: batch.base_offset) - 1
        data = bytearray()
        for batch in self.batches[max(0, position) :]:
            if data and len(data) + len(batch.data) > max_bytes:
                break
            data += batch.data
        return bytes(data)

    def snapshot_size(self, snapshot_id: SnapshotId) -> int | None:
        snapshot = self.snapshots.get(snapshot_id)
        return None if snapshot is None else len(snapshot.data)

    def _add(self, data: bytes) -> int:
        _, header = next(batches(data))
        assert header.partition_leader_epoch >= self.last_epoch, "epochs never go back"
        self.batches.append(Batch(header.base_offset, header.next_offset, header.partition_leader_epoch, data))
        self._cut_off = []
        return header.next_offset

    # What the shell does

    def take_snapshot(self, snapshot: Snapshot) -> None:
        """Keep a snapshot."""
        self.snapshots[snapshot.id] = snapshot

    def drop_before(self, snapshot_id: SnapshotId) -> None:
        """Let the log begin at a snapshot, and forget older ones; what is unflushed stays so."""
        self.snapshots = {one: snapshot for one, snapshot in self.snapshots.items() if one >= snapshot_id}
        self.batches = [batch for batch in self.batches if batch.base_offset >= snapshot_id.end_offset]
        self.log_start = snapshot_id
        self.flushed_end_offset = max(self.flushed_end_offset, snapshot_id.end_offset)

    def install(self, snapshot: Snapshot) -> None:
        """Replace everything by a snapshot."""
        self.snapshots = {snapshot.id: snapshot}
        self.batches, self._cut_off = [], []
        self.log_start = snapshot.id
        self.flushed_end_offset = snapshot.id.end_offset

    def crash(self, random: Random) -> None:
        """Lose some or all of what is not flushed; or find again what was cut off."""
        if self._cut_off and random.random() < 0.5:
            self.batches += self._cut_off
        lost = [batch for batch in self.batches if batch.end_offset > self.flushed_end_offset]
        kept = random.randrange(len(lost) + 1)
        del self.batches[len(self.batches) - len(lost) + kept :]
        self._cut_off = []
        self.flushed_end_offset = self.end_offset if random.random() < 0.5 else self.flushed_end_offset

        latest = self.latest_snapshot
        if latest is not None and latest.end_offset > self.end_offset:
            self.install(self.snapshots[latest])  # what was taken of records that are lost now stands for them

    def history(self, static: VoterSet | None) -> VoterHistory:
        """The voters as the log and its newest snapshot have them."""
        history = VoterHistory(static)
        latest = self.latest_snapshot
        snapshot = self.bootstrap if latest is None else self.snapshots[latest]
        if snapshot is not None:
            history.load_snapshot(snapshot.id.end_offset, snapshot.kraft_version, snapshot.voters)
        for batch in self.batches:
            if batch.is_control and (latest is None or batch.base_offset >= latest.end_offset):
                for record in read_batch_records(batch.data, 0, next(batches(batch.data))[1]):
                    history.replay(record.offset, read_control_message(record))
        return history
