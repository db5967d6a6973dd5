"""What goes into a log when it is made, and what comes out of an append."""

from __future__ import annotations

from typing import NamedTuple

from ottla.server.log.leader_epochs import LeaderEpochs
from ottla.server.log.producer_snapshot import SnapshotFiles
from ottla.server.log.producer_state import ProducerState
from ottla.server.log.segment import Segment


class AppendResult:
    """What became of an append. `last_offset` is inclusive; `log_append_time_ms` is -1 for CreateTime.

    `duplicate`: the batch was appended before, the offsets are those of then. `flush_pending`: the topic asks for a
    flush that is still under way; an acknowledgement that promises it waits for `LogDirectories.flush`.
    """

    __slots__ = ("base_offset", "duplicate", "flush_pending", "last_offset", "log_append_time_ms", "log_start_offset")

    def __init__(
        self,
        base_offset: int,
        last_offset: int,
        log_append_time_ms: int,
        log_start_offset: int,
        duplicate: bool = False,
        flush_pending: bool = False,
    ) -> None:
        self.base_offset = base_offset
        self.last_offset = last_offset
        self.log_append_time_ms = log_append_time_ms
        self.log_start_offset = log_start_offset
        self.duplicate = duplicate
        self.flush_pending = flush_pending


class LogParts(NamedTuple):
    """What a log is put together from when it was found, or made, on disk."""

    topic_id: bytes
    segments: list[Segment]
    log_start_offset: int
    log_end_offset: int
    recovery_point: int
    high_watermark: int
    leader_epochs: LeaderEpochs
    producers: ProducerState
    snapshots: SnapshotFiles
    cleaned_offset: int = -1
    checkpointed: int = 0
    """The recovery point as it stands in its file; more than is here when the end was lost."""
