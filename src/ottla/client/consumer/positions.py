"""Where a consumer stands in one partition, and what it needs before it may fetch there.

A partition has two offsets. `position` is the next record to hand to the user; `fetch_offset` is where the next fetch
starts. What lies between them is in the buffer. Each has the leader epoch of the record before it (KIP-320), -1 when it
is not known.

    INITIALIZING ──committed offset──> FETCHING <──offset found── RESETTING <──nothing committed, out of range
                                        │   ▲
                         leader changed │   │ the log of our epoch reaches our offset
                                        ▼   │
                                      VALIDATING ──it does not──> the log was cut: reset there, or an error

`incarnation` counts the jumps (seek, reset): an answer that belongs to an earlier one is thrown away. A partition that
is assigned anew is a new object.
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto
from typing import TYPE_CHECKING

from ottla.client.model import TopicPartition
from ottla.core.ids import ZERO_UUID

if TYPE_CHECKING:
    from ottla.client.consumer.buffer import Chunk
    from ottla.client.consumer.resets import ResetStrategy


class Stage(Enum):
    """What a partition waits for."""

    INITIALIZING = auto()
    """For the offset that the group has committed."""
    RESETTING = auto()
    """For the offset that the reset strategy stands for."""
    VALIDATING = auto()
    """For the leader's word that our offset is in its log."""
    FETCHING = auto()
    """For nothing."""


class PartitionState:
    """One assigned partition. Changed on the client's loop only; `position` and the chunks also by the user's take,
    under the buffer's lock.
    """

    __slots__ = (
        "attempts",
        "buffered_bytes",
        "chunks",
        "fetch_epoch",
        "fetch_offset",
        "fresh",
        "high_watermark",
        "incarnation",
        "last_stable_offset",
        "leader_epoch",
        "leader_id",
        "log_start_offset",
        "looking_up",
        "not_before_ms",
        "paused",
        "position",
        "position_epoch",
        "preferred_replica",
        "preferred_until_ms",
        "processed",
        "processed_epoch",
        "ready",
        "reset",
        "stage",
        "suspended",
        "topic_id",
        "tp",
    )

    def __init__(self, tp: TopicPartition) -> None:
        self.tp = tp
        self.topic_id = ZERO_UUID
        """Of the topic that the position belongs to: another one may come under its name."""
        self.stage = Stage.INITIALIZING
        self.incarnation = 0
        self.position = -1
        self.position_epoch = -1
        self.fetch_offset = -1
        self.fetch_epoch = -1
        self.processed = -1
        self.processed_epoch = -1
        """The position before the records that the user works on now; meant only while there are such."""
        self.reset: ResetStrategy | None = None
        """While RESETTING."""
        self.paused = False
        """By the user."""
        self.suspended = False
        """By the group: it is being taken away, or its `on_assigned` callback has not run yet."""
        self.leader_id = -1
        self.leader_epoch = -1
        """Of the leader that the position was last found good for."""
        self.high_watermark = -1
        self.last_stable_offset = -1
        self.log_start_offset = -1
        self.preferred_replica = -1
        self.preferred_until_ms = 0
        self.attempts = 0
        self.not_before_ms = 0
        """Back-off after an error of this partition."""
        self.looking_up = False
        """A request about its offset is on its way."""
        self.chunks: deque[Chunk] = deque()
        self.buffered_bytes = 0
        self.ready = False
        """It stands in the buffer's queue of partitions with data."""
        self.fresh = True
        """Nothing of it was fetched yet in this incarnation."""

    # --- positions

    @property
    def has_position(self) -> bool:
        """Whether `position` may be shown to the user and committed."""
        return self.stage in (Stage.FETCHING, Stage.VALIDATING)

    @property
    def may_be_handed_out(self) -> bool:
        """Whether the user may get its records now."""
        return not self.paused and not self.suspended and self.stage in (Stage.FETCHING, Stage.VALIDATING)

    def may_fetch(self, now_ms: int) -> bool:
        """Whether a fetch makes sense as far as this partition is concerned."""
        return self.stage is Stage.FETCHING and not self.paused and not self.suspended and now_ms >= self.not_before_ms

    def jump(self, offset: int, epoch: int = -1) -> None:
        """Go on at `offset`; the caller has thrown away what is buffered. With an epoch it is validated first."""
        self.incarnation += 1
        self.position = self.fetch_offset = offset
        self.position_epoch = self.fetch_epoch = epoch
        self.preferred_replica = -1
        self.leader_epoch = -1
        self.reset = None
        self.fresh = True
        self._at_once()
        self.stage = Stage.FETCHING if epoch < 0 else Stage.VALIDATING

    def need_reset(self, strategy: ResetStrategy) -> None:
        """Find the position anew; the caller has thrown away what is buffered."""
        self.incarnation += 1
        self.position = self.fetch_offset = self.position_epoch = self.fetch_epoch = -1
        self.preferred_replica = -1
        self.reset = strategy
        self.fresh = True
        self._at_once()
        self.stage = Stage.RESETTING

    def rewind(self) -> None:
        """Fetch again from the position; the caller has thrown away what is buffered."""
        assert self.has_position
        self.incarnation += 1
        self.fetch_offset, self.fetch_epoch = self.position, self.position_epoch

    # --- the leader

    def leader_seen(self, leader_id: int, leader_epoch: int, *, can_validate: bool = True) -> None:
        """The metadata names this leader. A leader of a later epoch has to say first that our offset is in its log."""
        if leader_id != self.leader_id or leader_epoch > self.leader_epoch:
            self._at_once()
            if leader_epoch > self.leader_epoch and self.preferred_replica >= 0 and self.leader_id != leader_id:
                self.preferred_replica = -1
        newer = leader_epoch > self.leader_epoch
        self.leader_id = leader_id
        if not newer:
            return
        self.leader_epoch = leader_epoch
        if self.stage is Stage.FETCHING and can_validate and self.fetch_epoch >= 0:
            self.stage = Stage.VALIDATING

    def validated(self) -> None:
        """The leader's log has our offset."""
        if self.stage is Stage.VALIDATING:
            self.stage = Stage.FETCHING
            self._at_once()

    def failed(self, now_ms: int, delay_ms: int) -> None:
        """Leave it alone for a while."""
        self.attempts += 1
        self.not_before_ms = now_ms + delay_ms

    def _at_once(self) -> None:
        self.attempts = 0
        self.not_before_ms = 0

    # --- how far behind

    def lag(self, read_committed: bool) -> int | None:
        """Records (offsets) between the position and what can be read; None when it is not known yet."""
        end = self.last_stable_offset if read_committed else self.high_watermark
        if end < 0 or not self.has_position:
            return None
        return max(0, end - self.position)

    def check_invariants(self) -> None:
        """What holds whenever no method is running."""
        assert (self.reset is not None) == (self.stage is Stage.RESETTING)
        assert self.buffered_bytes >= 0
        assert self.buffered_bytes == sum(chunk.size_bytes for chunk in self.chunks)
        if self.has_position:
            assert 0 <= self.position <= self.fetch_offset, (self.position, self.fetch_offset)
            expected = self.position
            for chunk in self.chunks:
                assert chunk.incarnation == self.incarnation
                assert chunk.start_offset <= expected <= chunk.end_offset
                expected = chunk.end_offset
            assert expected == self.fetch_offset or not self.chunks
        else:
            assert not self.chunks
