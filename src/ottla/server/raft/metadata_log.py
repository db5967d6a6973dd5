"""The port to wherever the metadata log lives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol


class MetadataLogError(Exception):
    """The metadata log cannot be used as it is; the text is one line for the person who starts the node."""


class LoadedBatch(NamedTuple):
    """Framed records of one batch, or of one stretch of a snapshot (all of which have the snapshot's last offset)."""

    frames: list[bytes]
    last_offset: int
    epoch: int
    timestamp_ms: int


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


class MetadataLog(Protocol):
    """An ordered, durable log of framed metadata records with one writer: whoever leads.

    `load`, `lead`, `write_snapshot` and `close` wait for the disk and belong in a worker thread; the rest is called on
    the event loop.
    """

    @property
    def leader_epoch(self) -> int:
        """Epoch of this node's leadership; -1 before `lead`."""

    @property
    def end_offset(self) -> int:
        """The offset that the next appended record will get."""

    @property
    def committed_offset(self) -> int:
        """End of what is committed: records at smaller offsets are durable and never go away."""

    @property
    def kraft_version(self) -> int:
        """Level of `kraft.version`: 0 for a static quorum, 1 when the voters stand in the log (KIP-853)."""

    def describe_quorum(self) -> QuorumDescription:
        """The quorum as of now; for the leader."""

    def upgrade_kraft_version(self, now_ms: int) -> None:
        """Append what makes a static quorum a dynamic one; a later commit covers it."""

    @property
    def bytes_since_snapshot(self) -> int:
        """Size of what was appended, or found at loading, behind the newest snapshot."""

    @property
    def snapshot_timestamp_ms(self) -> int:
        """Timestamp of the newest snapshot's last record; -1 without one."""

    def load(self) -> Iterator[LoadedBatch]:
        """Everything from the newest snapshot on, in order. Once, before `lead`."""

    def lead(self, now_ms: int) -> None:
        """Take leadership under a new epoch, durably, and begin it in the log."""

    def append(self, frames: Sequence[bytes], now_ms: int) -> int:
        """Append one batch; the offset of its last record. All or nothing; raises DiskError or ApiError, and
        MetadataLogError when the log takes nothing more.
        """

    async def commit(self) -> int:
        """Wait until all that is appended now is committed; the new `committed_offset`. Raises DiskError, after which
        the log takes nothing more: what the device holds is unknown."""

    def write_snapshot(self, end_offset: int, epoch: int, timestamp_ms: int, frames: Iterable[bytes]) -> None:
        """Keep a state that contains everything before `end_offset` (committed), the last of it from `epoch`."""

    def drop_before_snapshot(self) -> None:
        """Forget the log, and older snapshots, that the newest snapshot makes unnecessary."""

    def close(self) -> None:
        """Release files; everything appended is durable."""
