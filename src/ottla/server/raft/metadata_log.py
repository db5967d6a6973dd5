"""The port to wherever the metadata log lives, and to whoever follows it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from ottla.server.metadata.commits import CommittedBatch, LeaderAndEpoch, MetadataLogError

__all__ = (
    "CommittedBatch",
    "EpochEnd",
    "LeaderAndEpoch",
    "MetadataLog",
    "MetadataLogError",
    "NotLeaderError",
    "QuorumDescription",
    "RaftListener",
    "VoterState",
)


class NotLeaderError(Exception):
    """This node does not lead the metadata log, or not in that epoch any more."""


class EpochEnd(NamedTuple):
    """Where an epoch ends in a log (exclusive)."""

    epoch: int
    end_offset: int


class VoterState(NamedTuple):
    """One voter of the quorum as its leader sees it; `directory_id` is zero in a static quorum (kraft.version 0)."""

    voter_id: int
    directory_id: bytes
    log_end_offset: int
    endpoints: tuple[tuple[str, str, int], ...]
    """`(listener name, host, port)`."""


class QuorumDescription(NamedTuple):
    """Who leads the metadata log, how far it is committed, and how far each voter has come."""

    leader_id: int
    leader_epoch: int
    high_watermark: int
    voters: tuple[VoterState, ...]


class RaftListener(Protocol):
    """Follows the log. Called in order, on the event loop; while the log starts, perhaps in a worker thread.

    What it raises is the end of the log: it cannot be read.
    """

    def on_commit(self, batches: Sequence[CommittedBatch]) -> None:
        """The next committed batches."""

    def on_snapshot(self, end_offset: int, epoch: int, timestamp_ms: int, batches: Iterator[list[bytes]]) -> None:
        """Start afresh with the records of a snapshot. May be called in a worker thread, while nothing else is; the
        next call is `on_commit`, on the event loop, perhaps without any batch."""

    def on_leader(self, leader: LeaderAndEpoch) -> None:
        """Leader or epoch changed. A node is told that it leads when it has all committed records of earlier epochs."""

    def on_failure(self, error: BaseException) -> None:
        """The log is of no use any more: what the device holds is unknown, or it cannot be read."""


class MetadataLog(Protocol):
    """An ordered, durable log of framed metadata records with one writer: whoever leads. Used on the event loop, but
    for `write_snapshot`."""

    async def start(self, listener: RaftListener) -> None:
        """Recover, hand over what is known to be committed, and take part in the quorum.

        A quorum of one leads when this returns. Raises MetadataLogError, DiskError for the operator.
        """

    async def stop(self) -> None:
        """Leave the quorum in order; everything appended is durable then. Raises DiskError when it can not be."""

    @property
    def leader(self) -> LeaderAndEpoch:
        """Who leads, as far as this node knows."""

    def leader_address(self) -> tuple[str, int] | None:
        """Host and port of the leader's controller listener; None when either is unknown."""

    @property
    def is_leader(self) -> bool:
        """This node leads, and the listener was told so."""

    @property
    def end_offset(self) -> int:
        """The offset that the next appended record will get."""

    @property
    def committed_offset(self) -> int:
        """End of what is committed: records at smaller offsets are durable and never go away."""

    @property
    def kraft_version(self) -> int:
        """Level of `kraft.version`: 0 for a static quorum, 1 when the voters stand in the log (KIP-853)."""

    def append(self, epoch: int, frames: Sequence[bytes], now_ms: int, prepared: Any = None) -> int:
        """Append one batch; the offset of its last record. `prepared` comes back with the commit.

        All or nothing; raises NotLeaderError unless this node leads in `epoch`, DiskError or ApiError when the disk
        refuses, MetadataLogError when the log takes nothing more.
        """

    async def wait_committed(self, end_offset: int) -> None:
        """Wait until `committed_offset` has reached `end_offset`. Raises NotLeaderError when leadership is lost
        before, MetadataLogError when the log fails."""

    def resign(self, epoch: int) -> None:
        """Give up leadership of `epoch`, if this node still has it; another node is asked to take over."""

    def describe_quorum(self) -> QuorumDescription:
        """The quorum as of now. Raises NotLeaderError: only the leader knows."""

    def upgrade_kraft_version(self, epoch: int, now_ms: int) -> int:
        """Append what makes a static quorum a dynamic one; the end offset to wait for. Raises NotLeaderError."""

    @property
    def bytes_since_snapshot(self) -> int:
        """Size of the batches behind the newest snapshot."""

    @property
    def snapshot_timestamp_ms(self) -> int:
        """Timestamp of the newest snapshot's last record; -1 without one."""

    @property
    def election_ns(self) -> int:
        """How long the last election took, for metrics; 0 before any."""

    def write_snapshot(self, end_offset: int, epoch: int, timestamp_ms: int, frames: Iterable[bytes]) -> None:
        """Keep a state that contains everything before `end_offset` (committed), the last of it from `epoch`. Waits
        for the disk: for a worker thread."""

    def drop_before_snapshot(self) -> None:
        """Forget the log, and older snapshots, that the newest snapshot makes unnecessary."""
