"""Giving partitions their positions: committed offsets, resets, and whether a new leader's log has our offset.

Each kind of question is one round over all partitions that wait for it; no round begins while another of its kind is on
its way. A partition that moved meanwhile (a seek) does not care about the answer any more.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from ottla.client.consumer.buffer import FetchBuffer
from ottla.client.consumer.offsets import EpochEnd, epoch_ends_round, list_offsets_round
from ottla.client.consumer.positions import PartitionState, Stage
from ottla.client.consumer.resets import LATEST, ResetStrategy
from ottla.client.consumer.subscription import Subscription
from ottla.client.errors import (
    KafkaError,
    LogTruncatedError,
    NoOffsetForPartitionError,
    UnsupportedVersionError,
)
from ottla.client.model import OffsetAndMetadata, TopicPartition
from ottla.core.errors import ErrorCode

if TYPE_CHECKING:
    from ottla.client.network.cluster import Cluster
    from ottla.client.settings.model import ConsumerSettings

LOG = logging.getLogger("ottla.client")
_MOVING_RETRY_MS = 5
_NO_MEMBER = (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.STALE_MEMBER_EPOCH, ErrorCode.ILLEGAL_GENERATION)
"""We just left the group, or are about to join it again: membership knows, and asking again helps."""

Committed = Callable[[Iterable[TopicPartition]], Awaitable[Mapping[TopicPartition, OffsetAndMetadata | None]]]


def wall_clock_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Lookups:
    """The shell that finds positions. `committed` asks the group's coordinator, None without a group."""

    def __init__(
        self,
        cluster: Cluster,
        settings: ConsumerSettings,
        subscription: Subscription,
        buffer: FetchBuffer,
        default_reset: ResetStrategy | None,
        *,
        committed: Committed | None,
        moved: Callable[[], None],
        fail: Callable[[KafkaError], None],
    ) -> None:
        self._cluster = cluster
        self._timeout_ms = settings.request_timeout_ms
        self._read_committed = settings.isolation_level == "read_committed"
        self._subscription = subscription
        self._buffer = buffer
        self._default_reset = default_reset
        self._committed = committed
        self._moved = moved
        self._fail = fail
        self._running: dict[Stage, asyncio.Task[None]] = {}

    def start(self, now_ms: int) -> int | None:
        """Begin what can begin; when to call again if nothing happens before."""
        waiting: dict[Stage, list[PartitionState]] = {}
        deadline_ms: int | None = None
        for state in self._subscription.partitions.values():
            stage = state.stage
            if stage is Stage.FETCHING:
                continue
            if state.not_before_ms <= now_ms:
                waiting.setdefault(stage, []).append(state)
            elif deadline_ms is None or state.not_before_ms < deadline_ms:
                deadline_ms = state.not_before_ms
        for stage, states in waiting.items():
            if stage not in self._running:
                task = self._running[stage] = asyncio.ensure_future(self._round(stage, states))
                task.add_done_callback(partial(self._ended, stage))
        return deadline_ms

    def stop(self) -> None:
        """Forget about all of it."""
        for task in self._running.values():
            task.cancel()

    def _ended(self, stage: Stage, task: asyncio.Task[None]) -> None:
        self._running.pop(stage, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            LOG.error("looking up offsets failed", exc_info=error)
        self._moved()

    async def _round(self, stage: Stage, states: list[PartitionState]) -> None:
        incarnations = {state: state.incarnation for state in states}

        def current(state: PartitionState) -> bool:
            return (
                state.stage is stage
                and state.incarnation == incarnations.get(state)  # a partition may have been lost, and be back
                and self._subscription.partitions.get(state.tp) is state
            )

        try:
            if stage is Stage.INITIALIZING:
                await self._initialize(states, current)
            elif stage is Stage.RESETTING:
                await self._reset(states, current)
            else:
                await self._validate(states, current)
        except KafkaError as error:
            self._retry([state for state in states if current(state)], error)

    def _retry(self, states: Iterable[PartitionState], error: KafkaError) -> None:
        """Later again; and the user hears of what time alone does not heal."""
        now_ms = self._cluster.now_ms()
        for state in states:
            state.failed(now_ms, self._cluster.backoff.delay_ms(state.attempts))
        if not error.retriable and error.code not in _NO_MEMBER:
            self._fail(error)

    # --- committed offsets

    async def _initialize(self, states: list[PartitionState], current: Callable[[PartitionState], bool]) -> None:
        found: Mapping[TopicPartition, OffsetAndMetadata | None] = {}
        if self._committed is not None:
            found = await self._committed([state.tp for state in states])
        missing = []
        for state in states:
            if not current(state):
                continue
            committed = found.get(state.tp)
            if committed is not None:
                epoch = committed.leader_epoch
                self._buffer.jump(state, committed.offset, -1 if epoch is None else epoch)
            elif self._default_reset is not None:
                self._buffer.reset(state, self._default_reset)
            else:
                missing.append(state)
        if missing:
            names = ", ".join(str(state.tp) for state in missing[:5])
            self._retry(
                missing,
                NoOffsetForPartitionError(f"There is no committed offset of {names}, and auto.offset.reset is none."),
            )

    # --- resets

    async def _reset(self, states: list[PartitionState], current: Callable[[PartitionState], bool]) -> None:
        now_ms = wall_clock_ms()
        targets = {state.tp: state.reset.timestamp(now_ms) for state in states if state.reset is not None}
        found = await list_offsets_round(
            self._cluster, targets, read_committed=self._read_committed, timeout_ms=self._timeout_ms
        )
        for state in states:
            if not current(state) or (result := found.get(state.tp)) is None:
                continue
            if result.offset < 0:
                self._buffer.reset(state, LATEST)  # nothing is that young: what comes next is
                continue
            self._buffer.jump(state, result.offset)
            LOG.debug("%s: begins at offset %d", state.tp, result.offset)
        for tp, error in found.failed.items():
            failed = self._subscription.partitions.get(tp)
            if failed is not None and current(failed):
                self._retry([failed], error)

    # --- truncation

    async def _validate(self, states: list[PartitionState], current: Callable[[PartitionState], bool]) -> None:
        targets: dict[TopicPartition, int] = {}
        offsets: dict[TopicPartition, int] = {}
        metadata = self._cluster.metadata
        for state in states:
            leader = metadata.leader(state.tp)
            if leader is not None:
                state.leader_seen(*leader)
            if state.fetch_epoch < 0 or (leader is not None and leader[1] < 0):
                state.validated()  # nobody knows epochs
            else:
                targets[state.tp] = state.fetch_epoch
                offsets[state.tp] = state.fetch_offset
        if not targets:
            return
        found = await epoch_ends_round(self._cluster, targets, timeout_ms=self._timeout_ms)
        for state in states:
            end = found.get(state.tp)
            if end is not None and current(state) and state.fetch_offset == offsets[state.tp]:
                self._compare(state, end)
        for tp, error in found.failed.items():
            failed = self._subscription.partitions.get(tp)
            if failed is None or not current(failed):
                continue
            if isinstance(error, UnsupportedVersionError):
                failed.validated()
            else:
                self._retry([failed], error)

    def _compare(self, state: PartitionState, end: EpochEnd) -> None:
        if end.leader_epoch >= 0 and state.fetch_offset <= end.end_offset:
            state.validated()
            return
        if state.chunks:
            # What is buffered does not count, the position may still be good: it is asked for next.
            if not self._buffer.rewind(state):
                state.failed(self._cluster.now_ms(), _MOVING_RETRY_MS)
            return
        known = end.leader_epoch >= 0 and end.end_offset >= 0
        offset, epoch = state.fetch_offset, state.fetch_epoch
        what = f"The log of {state.tp} was cut: offset {offset} of leader epoch {epoch} is not in it any more"
        if self._default_reset is None:
            hint = f"Seek to {end.end_offset} or elsewhere." if known else "Seek to an offset that exists."
            self._retry([state], LogTruncatedError(f"{what}.", hint=hint))
        elif known:
            LOG.warning("%s; going on at %d", what, end.end_offset)
            self._buffer.jump(state, end.end_offset)
        else:
            LOG.warning("%s; going on at the %s offset", what, self._default_reset.name)
            self._buffer.reset(state, self._default_reset)
