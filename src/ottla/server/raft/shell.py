"""What every home of the metadata log has in common: a replica on the disk, and snapshots of its state."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ottla.runtime.env import Env
    from ottla.server.raft.replica_log import DiskReplicaLog


class ReplicaShell:
    """See `MetadataLog` for the methods."""

    def __init__(self, env: Env, replica: DiskReplicaLog) -> None:
        self.replica = replica
        self._env = env

    @property
    def end_offset(self) -> int:
        """The offset of the next record."""
        return self.replica.end_offset

    @property
    def kraft_version(self) -> int:
        """Level of `kraft.version`."""
        return self.replica.history.kraft_version

    @property
    def bytes_since_snapshot(self) -> int:
        """Bytes of batches behind the newest snapshot."""
        return self.replica.bytes_since_snapshot

    @property
    def snapshot_timestamp_ms(self) -> int:
        """Timestamp of the newest snapshot's last record; -1 without one."""
        return self.replica.snapshot_timestamp_ms

    def write_snapshot(self, end_offset: int, epoch: int, timestamp_ms: int, frames: Iterable[bytes]) -> None:
        """Write a snapshot file; from then on loading starts from it."""
        self.replica.write_snapshot(end_offset, epoch, timestamp_ms, frames)

    def drop_before_snapshot(self) -> None:
        """Remove older snapshots, and the segments before the oldest that stays."""
        self.replica.history.forget_before(self.replica.drop_before_snapshot())
