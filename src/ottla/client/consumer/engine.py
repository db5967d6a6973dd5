"""Everything of a consumer that runs on its event loop, whichever door the user came in by.

    Fetching (core) ──requests──> Cluster ──answers──> Fetching ──chunks──> FetchBuffer ──> the user's poll
    Lookups: positions                Rebalancing: what the GroupMember says           Committing

`pump` is the heart: it sends what the core wants to fetch, starts lookups, and sets one timer for what has to wait. It
is called when something changed: an answer, metadata, the assignment, room in the buffer. No task per fetch.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ottla.client.consumer.buffer import Chunk, FetchBuffer
from ottla.client.consumer.committing import Committing, Offsets
from ottla.client.consumer.fetching import Attempt, Fetching, FetchLimits
from ottla.client.consumer.lookups import Lookups, wall_clock_ms
from ottla.client.consumer.positions import PartitionState
from ottla.client.consumer.rebalancing import Rebalancing
from ottla.client.consumer.resets import ResetStrategy, reset_strategy
from ottla.client.consumer.subscription import Mode, Subscription
from ottla.client.errors import AuthenticationError, ClientClosedError, KafkaError, UnsupportedVersionError
from ottla.client.model import OffsetAndMetadata, TopicPartition, topic_partition
from ottla.core.errors import ErrorCode

if TYPE_CHECKING:
    from ottla.client.consumer.group.member import GroupMember
    from ottla.client.instruments import Instruments
    from ottla.client.metrics.consumer import ConsumerMetrics
    from ottla.client.network.cluster import Cluster
    from ottla.client.network.metadata import ClusterMetadata
    from ottla.client.settings.model import ConsumerSettings
    from ottla.protocol.messages.fetch import FetchResponse

LOG = logging.getLogger("ottla.client")
_SOONEST_S = 0.001
_GRACE_S = 0.05
_ABANDON_MS = 1000
_MISSING_S = 1.0

MemberFactory = Callable[..., "GroupMember"]


class ConsumerEngine:
    """Made anywhere, used on one loop from `start` on. `notify` is called when the user, who may be in another thread,
    should have a look.
    """

    def __init__(
        self,
        settings: ConsumerSettings,
        cluster: Cluster,
        *,
        on_commit: Sequence[Callable[[Offsets], object]] = (),
        metrics: ConsumerMetrics | None = None,
        instruments: Instruments | None = None,
        make_member: MemberFactory | None = None,
    ) -> None:
        self.settings = settings
        self.cluster = cluster
        self.metrics = metrics
        self._instruments = instruments
        self.notify: Callable[[], None] = _nothing
        self.in_loop: Callable[[Callable[[], None]], None] = _call
        """How the taking thread reaches the loop."""
        self.progress: Callable[[], object] = _nothing
        """Something that changes while the user works through records without polling."""
        self.error: KafkaError | None = None
        """For the next poll to raise."""
        self.started = False
        self.closed = False
        self.awaits_poll = False
        """Partitions were assigned, and perhaps a seek comes next: nothing is fetched before the first poll, or the
        seek would have to wait until a fetch is answered that nobody wants any more."""
        self.subscription = Subscription(exclude_internal_topics=settings.exclude_internal_topics)
        self.buffer = FetchBuffer(settings.prefetch_max_bytes, settings.max_partition_fetch_bytes)
        self.buffer.on_room = self._room
        if metrics is not None:
            self.buffer.on_consumed = self._measure
            metrics.group.watch(lambda: len(self.subscription.partitions))
        self.default_reset = reset_strategy(settings.auto_offset_reset, settings.auto_offset_reset_duration_ms)
        self.fetching = Fetching(self.subscription, self.buffer, FetchLimits.of(settings), self.default_reset)
        self.rebalancing = Rebalancing(
            self.subscription,
            self.buffer,
            max_poll_interval_ms=settings.max_poll_interval_ms,
            commit_processed=self._commit_processed,
            changed=self._assignment_changed,
            notify=self._notify,
            fail=self.fail,
        )
        self.member: GroupMember | None = None
        self.committing: Committing | None = None
        if settings.group_id is not None:
            self._make_member(make_member)
        self.lookups = Lookups(
            cluster,
            settings,
            self.subscription,
            self.buffer,
            self.default_reset,
            committed=None if self.member is None else self._committed,
            moved=self._moved,
            fail=self.fail,
        )
        self._on_commit = on_commit
        self._timer: asyncio.TimerHandle | None = None
        self._activity_timer: asyncio.TimerHandle | None = None
        self._last_progress: object = None
        self._missing_timer: asyncio.TimerHandle | None = None
        self._told_missing: set[str] = set()
        """Topics that are not there, of which that was said."""
        self.user_waits = False
        """The user is in a poll, where there is nothing to give."""
        self._waiters: list[asyncio.Future[None]] = []
        self._measured: set[TopicPartition] = set()
        self._bootstrap: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def _make_member(self, make_member: MemberFactory | None) -> None:
        if make_member is None:
            from ottla.client.consumer.group.member import GroupMember

            make_member = GroupMember
        settings = self.settings
        self.member = make_member(
            self.cluster, settings, self.subscription, self.rebalancing, metrics=getattr(self.metrics, "group", None)
        )
        self.committing = Committing(
            self.member,
            self.subscription,
            self.buffer,
            automatic=settings.enable_auto_commit,
            interval_ms=settings.auto_commit_interval_ms,
            timeout_ms=settings.default_api_timeout_ms,
            on_commit=self._intercept_commit,
            notify=self._notify,
        )

    # --- beginning and end

    def start(self) -> None:
        """Connect and fetch in the background. May be called again and again."""
        if self.closed:
            return
        self.cluster.bind()
        if self._bootstrap is None or (self._bootstrap.done() and self._bootstrap.exception() is not None):
            self._bootstrap = asyncio.ensure_future(self.cluster.start())
            self._bootstrap.add_done_callback(self._bootstrapped)
        if self.started:
            return
        self.started = True
        self._loop = asyncio.get_running_loop()
        self.cluster.add_metadata_listener(self._metadata_changed)
        if self.committing is not None:
            self.committing.start()
        self._watch_progress()
        if self._instruments is not None:
            self._instruments.start()
        self.subscription_changed()

    def _bootstrapped(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or self.closed:
            return
        error = task.exception()
        if isinstance(error, KafkaError):
            self.fail(error)
        elif error is not None:
            LOG.error("the consumer could not start", exc_info=error)
        else:
            self.pump()

    async def close(self, timeout_ms: int, leave: bool | None) -> None:
        """Commit what is processed, leave the group, end fetch sessions, disconnect. Nothing of it takes longer than
        the timeout in all, nor keeps the rest from being done. Who is cancelled meanwhile disconnects at once.
        """
        if self.closed:
            return
        deadline_ms = self.cluster.now_ms() + timeout_ms

        async def step(action: Callable[[int], Coroutine[Any, Any, None]]) -> None:
            remaining_ms = max(0, deadline_ms - self.cluster.now_ms())
            try:
                async with asyncio.timeout(remaining_ms / 1000 + _GRACE_S):
                    await action(remaining_ms)
            except (TimeoutError, KafkaError) as error:
                LOG.warning("closing the consumer: %s", error or f"not done within {timeout_ms} ms")

        committing, member = self.committing, self.member
        self.rebalancing.user_leaves()
        try:
            if self.started:
                if committing is not None:
                    states = list(self.subscription.partitions.values())
                    await step(lambda remaining_ms: committing.commit_processed(states, remaining_ms))
                    committing.stop()
                    await step(committing.finish)
                if member is not None:
                    await step(lambda remaining_ms: member.close(remaining_ms, leave))
                self._halt()
                await step(self._end_sessions)
        except asyncio.CancelledError:
            deadline_ms = 0
            raise
        finally:
            self._halt()
            for state in self.subscription.partitions.values():
                self.buffer.drop(state)
            self._wake_waiters()
            self.notify()
            if self.started:
                try:
                    if self._instruments is not None:
                        instruments = self._instruments
                        await step(lambda _: instruments.close())
                finally:
                    await step(lambda remaining_ms: self.cluster.close(timeout_ms=remaining_ms))

    async def abandon(self) -> None:
        """The interpreter exits, or the consumer was forgotten: leave the group; what was handed out last may come
        again.
        """
        self.rebalancing.close()
        await self.close(_ABANDON_MS, None)

    def _halt(self) -> None:
        """Begin nothing any more."""
        self.closed = True
        self.rebalancing.close()
        self.lookups.stop()
        if self.committing is not None:
            self.committing.end()
        if self.member is not None:
            self.member.stop()
        for timer in (self._timer, self._activity_timer, self._missing_timer):
            if timer is not None:
                timer.cancel()
        if self._bootstrap is not None:
            self._bootstrap.cancel()

    async def _end_sessions(self, timeout_ms: int) -> None:
        requests = [
            self.cluster.send(node_id, request, timeout_ms=max(1, min(timeout_ms, 500)))
            for node_id, request in self.fetching.closing_requests()
            if self.cluster.is_ready(node_id)
        ]
        if requests:
            await asyncio.gather(*requests, return_exceptions=True)

    # --- the heart

    def pump(self) -> None:
        """Do what can be done now."""
        if self.closed or not self.started:
            return
        now_ms = self.cluster.now_ms()
        cluster = self.cluster
        fetches = () if self.awaits_poll else self.fetching.plan(cluster.metadata, now_ms, cluster.connect_delay_ms)
        for attempt in fetches:
            future = cluster.send(
                attempt.node_id,
                attempt.request,
                max_version=attempt.max_version,
                timeout_ms=self.settings.request_timeout_ms,
            )
            future.add_done_callback(partial(self._fetched, attempt, now_ms))
        if self.fetching.needs_metadata:
            cluster.request_metadata_update()
        deadlines = [self.fetching.deadline_ms, self.lookups.start(now_ms)]
        self._set_timer(min((at_ms for at_ms in deadlines if at_ms is not None), default=None), now_ms)

    def _set_timer(self, at_ms: int | None, now_ms: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if at_ms is not None:
            delay_s = max((at_ms - now_ms) / 1000, _SOONEST_S)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self.pump)

    def _fetched(self, attempt: Attempt, sent_ms: int, future: asyncio.Future[FetchResponse]) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if self.closed:
            return
        now_ms = self.cluster.now_ms()
        if error is None:
            response = future.result()
            counters = self.fetching.counters
            bytes_before, records_before = counters.bytes, counters.records
            outcome = self.fetching.answered(attempt, response, now_ms)
            if self.metrics is not None:
                self.metrics.fetch.fetch_answered(
                    counters.bytes - bytes_before,
                    counters.records - records_before,
                    now_ms - sent_ms,
                    response.throttle_time_ms,
                )
            if outcome.leaders:
                self.cluster.learn_leaders(outcome.leaders, outcome.nodes)
        else:
            outcome = self.fetching.failed(attempt, now_ms)
            if isinstance(error, AuthenticationError | UnsupportedVersionError):
                self.fail(error)
            elif not isinstance(error, KafkaError):
                LOG.error("fetching failed", exc_info=error)
        if outcome.metadata_update:
            self.cluster.request_metadata_update()
        self.pump()
        if self.buffer.has_data:
            self.notify()

    def _room(self) -> None:
        self.in_loop(self.pump)

    def _moved(self) -> None:
        """Positions were found, or not."""
        self._wake_waiters()
        self.pump()

    def _wake_waiters(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def fail(self, error: KafkaError) -> None:
        """The next poll raises it."""
        self.error = error
        self._wake_waiters()
        self._notify()

    def _notify(self) -> None:
        self.notify()

    # --- what is subscribed

    def subscription_changed(self) -> None:
        """The user said something new."""
        self.awaits_poll = False
        if not self.started:
            return
        self._show_interest()
        if self.subscription.mode is Mode.PATTERN:
            self._match(self.cluster.metadata)
        topics = self.subscription.topics
        if self.subscription.mode is Mode.TOPICS:
            unwanted = [state for tp, state in self.subscription.partitions.items() if tp.topic not in topics]
            self.buffer.suspend(unwanted, True)
        if self.member is not None:
            self.member.subscription_changed()
        self.pump()

    def _assignment_changed(self) -> None:
        self._wake_waiters()
        self._measure_assignment()
        self._show_interest()
        self.pump()

    def _show_interest(self) -> None:
        subscription = self.subscription
        self.cluster.all_topics = subscription.mode is Mode.PATTERN
        topics = subscription.assigned_topics() | subscription.topics
        # A member of a group has interests of its own, which stay.
        self.cluster.interest(topics, replace=not subscription.uses_group)

    def _match(self, metadata: ClusterMetadata) -> bool:
        return self.subscription.match(
            {name: topic.internal for name, topic in metadata.topics.items() if not topic.error}
        )

    def _metadata_changed(self, metadata: ClusterMetadata) -> None:
        if self.closed:
            return
        self.fetching.metadata_changed(metadata)
        self._look_for_missing()
        if self.subscription.mode is Mode.PATTERN and self._match(metadata) and self.member is not None:
            self.member.subscription_changed()
        self.pump()

    def _missing(self) -> set[str]:
        """Topics by name that the cluster says are not there."""
        subscription, topics = self.subscription, self.cluster.metadata.topics
        wanted = subscription.topics if subscription.mode is Mode.TOPICS else subscription.assigned_topics()
        known = {name: topics[name] for name in wanted if name in topics}
        return {name for name, topic in known.items() if topic.error is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}

    def _look_for_missing(self) -> None:
        """A misspelt topic looks like one without records: one line is said of it, unless it is made soon."""
        missing = self._missing()
        self._told_missing &= missing
        if missing - self._told_missing and self._missing_timer is None and self._loop is not None:
            self._missing_timer = self._loop.call_later(_MISSING_S, self._tell_of_missing)

    def _tell_of_missing(self) -> None:
        self._missing_timer = None
        if self.closed:
            return
        missing = self._missing()
        for name in sorted(missing - self._told_missing):
            LOG.warning("topic %s does not exist; its records are waited for. Create it, or check its name.", name)
        self._told_missing = missing

    def _measure_assignment(self) -> None:
        if self.metrics is None:
            return
        partitions = self.subscription.partitions
        for tp in self._measured - partitions.keys():
            self.metrics.partition_gone(tp)
        for tp in partitions.keys() - self._measured:
            self.metrics.partition_assigned(tp, partial(self._preferred_replica, tp))
        self._measured = set(partitions)

    def _preferred_replica(self, tp: TopicPartition) -> float:
        state = self.subscription.partitions.get(tp)
        return -1 if state is None else state.preferred_replica

    async def unsubscribe(self) -> None:
        """Leave the group, or let go what was assigned."""
        subscription = self.subscription
        if subscription.uses_group and self.member is not None and self.started:
            held = subscription.assigned()
            subscription.leave()
            self.member.subscription_changed()
            while held & subscription.assigned() and not self.closed:
                await self._waits()
        for state in list(subscription.partitions.values()):
            self.buffer.drop(state)
        subscription.unsubscribe()
        self.subscription_changed()

    async def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Exactly these partitions."""
        before = dict(self.subscription.partitions)
        wanted = {topic_partition(tp) for tp in partitions}
        await self._commit_processed([state for tp, state in before.items() if tp not in wanted])
        self.subscription.assign(sorted(wanted))
        self.awaits_poll = True
        for tp, state in before.items():
            if self.subscription.partitions.get(tp) is not state:
                self.buffer.drop(state)
        self._assignment_changed()

    # --- positions

    def seek(self, tp: TopicPartition, offset: int, leader_epoch: int = -1) -> None:
        """The next record is the one at this offset."""
        self.buffer.jump(self.subscription.state(tp), offset, leader_epoch)
        self._moved()

    def seek_to(self, partitions: Iterable[TopicPartition], strategy: ResetStrategy) -> None:
        """The beginning or the end, found in the background."""
        for state in [self.subscription.state(tp) for tp in partitions]:
            self.buffer.reset(state, strategy)
        self.pump()

    def pause(self, partitions: Iterable[TopicPartition], paused: bool) -> None:
        """Hand out nothing of them, or do again."""
        for state in [self.subscription.state(tp) for tp in partitions]:
            self.buffer.pause(state, paused)
        self.pump()

    async def position(self, tp: TopicPartition) -> int:
        """The offset of the next record to hand out, once it is known."""
        while True:
            state = self.subscription.state(tp)
            if state.has_position:
                return state.position
            self.raise_error()
            if self.closed:
                raise ClientClosedError("The consumer was closed.")
            await self._waits()

    async def _waits(self) -> None:
        """Until positions or the assignment changed, or something failed."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def raise_error(self) -> None:
        """Raise what waits to be raised."""
        error = self.error
        if error is not None:
            self.error = None
            raise error

    async def _committed(
        self, partitions: Iterable[TopicPartition]
    ) -> Mapping[TopicPartition, OffsetAndMetadata | None]:
        assert self.member is not None
        assert self.committing is not None
        found = await self.member.committed(partitions, self.settings.default_api_timeout_ms)
        self.committing.note(found)
        return found

    async def _commit_processed(self, states: list[PartitionState]) -> None:
        if self.committing is not None:
            await self.committing.commit_processed(states)

    # --- the user is alive

    def user_polled(self) -> None:
        """He is in poll: the group may keep him, and records may be fetched."""
        if self.awaits_poll:
            self.awaits_poll = False
            self.pump()
        if self.rebalancing.user_wanted and not self.buffer.in_use:
            self.rebalancing.user_returned()
        if self.member is not None:
            self.member.user_polled(self.cluster.now_ms())

    def user_lives(self) -> None:
        """max.poll.interval.ms starts anew."""
        if self.member is not None:
            self.member.user_polled(self.cluster.now_ms())

    def _watch_progress(self) -> None:
        """Who waits in a long poll, or works through many records one after the other, is alive as well."""
        progress = self.progress()
        if self.user_waits or progress != self._last_progress:
            self._last_progress = progress
            self.user_lives()
        interval_s = self.settings.max_poll_interval_ms / 3000
        self._activity_timer = asyncio.get_running_loop().call_later(interval_s, self._watch_progress)

    def _measure(self, chunk: Chunk) -> None:
        """All that a fetch brought of a partition was handed out."""
        metrics = self.metrics
        assert metrics is not None
        state = chunk.state
        metrics.fetch.topic_fetched(state.tp.topic, chunk.size_bytes, chunk.taken)
        metrics.fetch.records_consumed(state.tp.topic, chunk.taken, chunk.size_bytes)
        lag = state.lag(self.settings.isolation_level == "read_committed")
        if lag is not None:
            metrics.lag(state.tp, lag, max(0, state.position - max(0, state.log_start_offset)))

    def _intercept_commit(self, offsets: Offsets) -> None:
        for on_commit in self._on_commit:
            try:
                on_commit(dict(offsets))
            except Exception:
                LOG.exception("an interceptor failed in on_commit")


def _nothing() -> None:
    pass


def _call(function: Callable[[], None]) -> None:
    function()


__all__ = ["ConsumerEngine", "wall_clock_ms"]
