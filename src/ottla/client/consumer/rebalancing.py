"""A rebalance as the consumer lives through it: what membership calls when partitions come and go.

All of it runs in the background, beside the user's code. The user is waited for in two cases only: he works on records
of partitions that are being taken away (until he asks for more, so that they count as processed and are committed), and
when there are callbacks, which run where he calls `poll`. Such calls are *errands* here: put down on the loop, run by
the user's thread or task, reported back.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Literal, NamedTuple

from ottla.client.consumer.buffer import FetchBuffer
from ottla.client.consumer.listener import Callbacks
from ottla.client.consumer.positions import PartitionState
from ottla.client.consumer.subscription import Subscription
from ottla.client.errors import KafkaError
from ottla.client.model import TopicPartition

LOG = logging.getLogger("ottla.client")


Event = Literal["assigned", "revoked", "lost"]


class Errand(NamedTuple):
    """A callback to run where the user is."""

    callbacks: Callbacks
    event: Event
    partitions: frozenset[TopicPartition]
    done: asyncio.Future[None]

    def call(self) -> Any:
        """Run it; a coroutine comes back."""
        return self.callbacks.call(self.event, self.partitions)


class Rebalancing:
    """The `MemberDelegate` of a consumer."""

    def __init__(
        self,
        subscription: Subscription,
        buffer: FetchBuffer,
        *,
        max_poll_interval_ms: int,
        commit_processed: Callable[[list[PartitionState]], Awaitable[None]],
        changed: Callable[[], None],
        notify: Callable[[], None],
        fail: Callable[[KafkaError], None],
    ) -> None:
        self.callbacks = Callbacks()
        self.errands: deque[Errand] = deque()
        self.assignments = 0
        """Counts the times that partitions came or went."""
        self.user_wanted = False
        """Somebody waits for the user to be done with what he has."""
        self.callback_coming = False
        """The user is back, and a callback is about to follow: he should stay."""
        self._subscription = subscription
        self._buffer = buffer
        self._max_poll_interval_ms = max_poll_interval_ms
        self._commit_processed = commit_processed
        self._changed = changed
        self._notify = notify
        self._fail = fail
        self._returns: list[asyncio.Future[None]] = []
        self.closing = False
        """Nobody will run callbacks any more."""
        self._user_gone = False

    # --- what membership calls

    async def partitions_assigned(self, partitions: frozenset[TopicPartition]) -> None:
        """They are ours: find their positions, and hand out once the user knows of them."""
        added = self._subscription.add(sorted(partitions))
        told = self.callbacks.has("assigned")
        self._buffer.suspend(added, told)
        if partitions:
            LOG.info("assigned: %s", _names(partitions))
        self._changed()
        if told:
            await self._run("assigned", partitions)
            self._buffer.suspend(added, False)
            self._changed()

    async def partitions_revoked(self, partitions: frozenset[TopicPartition]) -> None:
        """They go to somebody else, as soon as the user is done with their records."""
        states = self._states(partitions)
        self.assignments += 1
        told = self.callbacks.has("revoked")
        if self._buffer.suspend(states, True):
            self.callback_coming = told
            await self._user_returns()
        try:
            await self._commit_processed(states)
            if told:
                await self._run("revoked", partitions)
        finally:
            self.callback_coming = False
            self._remove(states)
        LOG.info("revoked: %s", _names(partitions))

    async def partitions_lost(self, partitions: frozenset[TopicPartition]) -> None:
        """They belong to somebody else already."""
        self._remove(self._states(partitions))
        LOG.warning("lost: %s", _names(partitions))
        if self.callbacks.has("lost"):
            await self._run("lost", partitions)

    def member_failed(self, error: KafkaError) -> None:
        """Raised by the next poll."""
        self._fail(error)

    # --- the user's side

    def user_returned(self) -> None:
        """He polls (or closes): he is done with what he had."""
        self.user_wanted = False
        waiting, self._returns = self._returns, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def user_leaves(self) -> None:
        """He closes: nobody has to wait for him any more, but callbacks still run."""
        self._user_gone = True
        self.user_returned()

    def close(self) -> None:
        """Let go whoever waits for the user."""
        self.closing = True
        self.user_returned()
        while self.errands:
            errand = self.errands.popleft()
            if not errand.done.done():
                errand.done.set_result(None)

    # ---

    async def _user_returns(self) -> None:
        if self._user_gone:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._returns.append(future)
        self.user_wanted = True
        self._notify()
        try:
            async with asyncio.timeout(self._max_poll_interval_ms / 1000):
                await future
        except TimeoutError:
            LOG.warning("the application did not poll for max.poll.interval.ms; its partitions are given away")

    async def _run(self, event: Event, partitions: frozenset[TopicPartition]) -> None:
        if self.closing or not partitions:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.errands.append(Errand(self.callbacks, event, partitions, done))
        self.callback_coming = False
        self._notify()
        await done

    def _states(self, partitions: Iterable[TopicPartition]) -> list[PartitionState]:
        return [state for tp in partitions if (state := self._subscription.partitions.get(tp)) is not None]

    def _remove(self, states: list[PartitionState]) -> None:
        self.assignments += 1
        for state in states:
            if self._subscription.partitions.get(state.tp) is state:
                self._subscription.remove([state.tp])
            self._buffer.drop(state)
        self._changed()


def _names(partitions: Iterable[TopicPartition]) -> str:
    names = [str(tp) for tp in sorted(partitions)]
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "") or "nothing"
