"""Commits: by the user, in the background, and automatic ones.

An automatic commit says what the user is done with: the position before the records that he got last and may still be
working on. So a record that was handed out and not processed comes again after a crash (at least once).

Commits go out one after the other, in the order of the calls: an older one never overwrites a newer.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from ottla.client.consumer.buffer import FetchBuffer
from ottla.client.consumer.positions import PartitionState
from ottla.client.consumer.subscription import Subscription
from ottla.client.errors import KafkaError, KafkaTimeoutError
from ottla.client.model import OffsetAndMetadata, TopicPartition

if TYPE_CHECKING:
    from ottla.client.consumer.group.member import GroupMember

LOG = logging.getLogger("ottla.client")

Offsets = Mapping[TopicPartition, OffsetAndMetadata]
CommitCallback = Callable[[dict[TopicPartition, OffsetAndMetadata], KafkaError | None], object]


class Committing:
    """The shell of commits. `on_commit` hears of each that came through."""

    def __init__(
        self,
        member: GroupMember,
        subscription: Subscription,
        buffer: FetchBuffer,
        *,
        automatic: bool,
        interval_ms: int,
        timeout_ms: int,
        on_commit: Callable[[Offsets], None],
        notify: Callable[[], None],
    ) -> None:
        self.automatic = automatic
        self.finished: deque[tuple[CommitCallback, dict[TopicPartition, OffsetAndMetadata], KafkaError | None]] = (
            deque()
        )
        """Callbacks of background commits, to be run where the user is."""
        self._member = member
        self._subscription = subscription
        self._buffer = buffer
        self._interval_ms = interval_ms
        self._timeout_ms = timeout_ms
        self._on_commit = on_commit
        self._notify = notify
        self.unprocessed: Callable[[], Mapping[TopicPartition, tuple[int, int]] | None] = _nothing
        """What the user has in hand, as far as the buffer does not know."""
        self._known: dict[TopicPartition, int] = {}
        self._last: asyncio.Task[None] | None = None
        self._background: dict[asyncio.Task[None], None] = {}
        """Commits that are under way or wait for earlier ones, in their order."""
        self._timer: asyncio.TimerHandle | None = None

    # --- by the user

    async def commit(self, offsets: Offsets, timeout_ms: int) -> None:
        """After all earlier ones: commit, retrying what can be retried."""
        if self._last is not None and not self._last.done():
            clock = asyncio.get_running_loop().time
            deadline_s = clock() + timeout_ms / 1000
            await asyncio.wait([self._last], timeout=timeout_ms / 1000)
            if not self._last.done():
                raise KafkaTimeoutError(f"earlier commits were still under way after {timeout_ms} ms.")
            timeout_ms = max(1, int((deadline_s - clock()) * 1000))
        await self._commit(offsets, timeout_ms)

    def commit_soon(self, offsets: dict[TopicPartition, OffsetAndMetadata], callback: CommitCallback | None) -> None:
        """In the background; `callback(offsets, error or None)` runs in a later call of the user's."""
        before = self._last

        async def run() -> None:
            if before is not None and not before.done():
                await asyncio.wait([before])
            error: KafkaError | None = None
            try:
                await self._commit(offsets, self._timeout_ms)
            except KafkaError as failed:
                error = failed
                if callback is None:
                    LOG.warning("offsets were not committed: %s", failed)
            if callback is not None:
                self.finished.append((callback, offsets, error))
                self._notify()

        task = self._last = asyncio.ensure_future(run())
        self._background[task] = None
        task.add_done_callback(self._background.pop)

    async def _commit(self, offsets: Offsets, timeout_ms: int) -> None:
        if not offsets:
            return
        await self._member.commit(offsets, timeout_ms)
        for tp, committed in offsets.items():
            self._known[tp] = committed.offset
        self._on_commit(offsets)

    def note(self, committed: Mapping[TopicPartition, OffsetAndMetadata | None]) -> None:
        """The coordinator has these: no need to tell it again."""
        for tp, offset in committed.items():
            if offset is not None:
                self._known[tp] = offset.offset

    # --- automatic

    def start(self) -> None:
        """Begin to commit by the clock."""
        if self.automatic and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._interval_ms / 1000, self._tick)

    def stop(self) -> None:
        """No more by the clock."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.automatic = False

    async def finish(self, timeout_ms: int) -> None:
        """Wait for the commits in the background."""
        if self._background:
            await asyncio.wait(self._background, timeout=timeout_ms / 1000)

    def end(self) -> None:
        """Commit nothing any more: who is asked now may have nothing to do with the group any more."""
        self.stop()
        for task in list(self._background):
            task.cancel()

    def _tick(self) -> None:
        self._timer = None
        if self._last is None or self._last.done():
            offsets = self.processed(self._subscription.partitions.values())
            if offsets:
                self.commit_soon(offsets, None)
        self.start()

    def processed(self, states: Iterable[PartitionState]) -> dict[TopicPartition, OffsetAndMetadata]:
        """What an automatic commit would say of these now: only news."""
        known = self._known
        positions = self._buffer.positions(states, processed=True, in_hand=self.unprocessed())
        return {
            tp: OffsetAndMetadata(offset, "", epoch if epoch >= 0 else None)
            for tp, (offset, epoch) in positions.items()
            if known.get(tp) != offset
        }

    async def commit_processed(self, states: list[PartitionState], timeout_ms: int | None = None) -> None:
        """Before these are given away. A failure is logged: the group goes on without."""
        offsets = self.processed(states) if self.automatic else {}
        try:
            if offsets:
                await self.commit(offsets, self._timeout_ms if timeout_ms is None else timeout_ms)
        except KafkaError as error:
            LOG.warning("offsets were not committed before partitions were given away: %s", error)
        for state in states:
            self._known.pop(state.tp, None)


def _nothing() -> None:
    return None
