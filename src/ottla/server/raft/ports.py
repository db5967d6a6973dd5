"""What the quorum core needs from the log of its replica."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ottla.core.binary import Buffer
from ottla.records.control import ControlMessage
from ottla.server.raft.metadata_log import EpochEnd
from ottla.server.raft.snapshot import SnapshotId


class ReplicaLog(Protocol):
    """One replica's metadata log; every method returns at once (the page cache, not the device).

    The core is the only one that appends and truncates. Snapshots and the log's start may move at any time.
    """

    @property
    def start_offset(self) -> int:
        """The first offset that can be read."""

    @property
    def end_offset(self) -> int:
        """The offset of the next record."""

    @property
    def flushed_end_offset(self) -> int:
        """End of what survives a crash; at most `end_offset`, and lowered by truncation."""

    @property
    def last_epoch(self) -> int:
        """Epoch of the last record, of the newest snapshot when there is none behind it, else 0."""

    @property
    def latest_snapshot(self) -> SnapshotId | None:
        """The newest complete snapshot; that of `storage format`, (0, 0), is none."""

    @property
    def earliest_snapshot(self) -> SnapshotId | None:
        """The oldest one; when the log does not begin at 0 there is one that ends at `start_offset`, or later."""

    def end_offset_for_epoch(self, epoch: int) -> EpochEnd:
        """The newest epoch of the log that is not newer than `epoch`, and where it ends.

        The epoch before `start_offset` is that of the snapshot which ends there; without any the answer is
        `(0, start_offset)`.
        """

    def append_as_leader(self, epoch: int, frames: Sequence[bytes], timestamp_ms: int) -> int:
        """Append one batch of records; the offset of the last one. All or nothing; raises what the disk raises."""

    def append_control(self, epoch: int, messages: Sequence[ControlMessage]) -> int:
        """Append one control batch, stamped with the wall clock; its base offset."""

    def append_as_follower(self, data: Buffer) -> None:
        """Append whole batches that a leader sent, offsets and epochs as they are; `data` begins at `end_offset`.

        Raises CorruptRecordError when a batch is damaged; what stands before it is kept. A last batch that is cut off
        is ignored.
        """

    def truncate_to(self, offset: int) -> None:
        """Remove everything at `offset` and later."""

    def read(self, offset: int, max_bytes: int) -> Buffer:
        """Whole batches from `offset` on, the first one even when it is larger; empty at the end.

        Includes what is not flushed: followers replicate it before it is committed. `offset` lies inside the log.
        """

    def snapshot_size(self, snapshot_id: SnapshotId) -> int | None:
        """Bytes of a complete snapshot; None when there is no such one."""
