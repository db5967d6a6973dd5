"""The asynchronous consumer, `ottla.aio.Consumer`."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

from ottla.client.consumer.committing import CommitCallback
from ottla.client.consumer.door import BEGINNING, END, MOST_COLUMN_RECORDS, Committable, Topics
from ottla.client.consumer.listener import Callbacks, ConsumerInterceptor
from ottla.client.consumer.operations import ConsumerOperations, position_timeout
from ottla.client.consumer.records import Records
from ottla.client.errors import IllegalStateError
from ottla.client.model import OffsetAndMetadata, OffsetAndTimestamp, PartitionInfo, TopicPartition
from ottla.records.columns import Columns
from ottla.records.reader import ConsumerRecord
from ottla.serde.base import DeserializerLike, K, V

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Unpack

    from ottla.client.settings.names import ConsumerNames

_YIELD_AFTER_S = 0.002
"""How long polls that find data may follow each other before the loop gets a turn."""


class Consumer(ConsumerOperations[K, V]):
    """Reads records, alone or as a member of a group. Fetching, heartbeats and rebalances go on in the background.

        async with ottla.aio.Consumer("localhost:9092", group_id="g", topics=["orders"]) as consumer:
            async for record in consumer:
                ...

    Settings go by Kafka's names, in a mapping or with `_` for `.`. `topics` subscribes at once. Deserializers are
    anything that `ottla.serde` understands. `listener` (see `RebalanceListener`) or single callbacks hear of
    rebalances; plain functions or coroutine functions, called in `poll`. For one task at a time.
    """

    def __init__(
        self,
        bootstrap_servers: str | Iterable[str] | None = None,
        settings: Mapping[str, object] | None = None,
        /,
        *,
        topics: Topics | None = None,
        key_deserializer: DeserializerLike[K] | None = None,
        value_deserializer: DeserializerLike[V] | None = None,
        listener: Any = None,
        on_assigned: Callable[[list[TopicPartition]], Any] | None = None,
        on_revoked: Callable[[list[TopicPartition]], Any] | None = None,
        on_lost: Callable[[list[TopicPartition]], Any] | None = None,
        interceptors: Sequence[ConsumerInterceptor | type[ConsumerInterceptor]] = (),
        **names: Unpack[ConsumerNames],
    ) -> None:
        super().__init__(
            bootstrap_servers,
            settings,
            names,
            topics=topics,
            key_deserializer=key_deserializer,
            value_deserializer=value_deserializer,
            callbacks=Callbacks(listener, on_assigned, on_revoked, on_lost),
            interceptors=interceptors,
        )
        self._waiter: asyncio.Future[None] | None = None
        self._polling = False
        self._last_yield_s = 0.0
        self._engine.notify = self._notify

    async def __aenter__(self) -> Self:
        self._begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is GeneratorExit:  # the coroutine is thrown away, and nothing may be awaited in it any more
            return
        await self._close(None, None, processed=kind is None)

    # --- records

    async def poll(self, timeout_s: float | None = None, max_records: int | None = None) -> Records[K, V]:
        """Records, as soon as there are any: at most `max_records` (default max.poll.records), none when time runs
        out. `timeout_s` None waits without limit, 0 not at all.

        What the last poll gave counts as processed now: automatic commits include it from here on. Raises what the
        background met and cannot solve, `RecordDeserializationError`, `WakeupError`; and runs callbacks.
        """
        taken: list[ConsumerRecord[K, V]] = []
        limit = self._max_records if max_records is None else max(1, max_records)
        self._one_by_one = False
        await self._poll(taken, self._take, limit, timeout_s)
        records: Records[K, V] = Records(taken)
        return self._consumed(records) if self._on_consume else records

    async def poll_columns(self, timeout_s: float | None = None, max_records: int | None = None) -> Columns:
        """Like `poll`, as columns straight from the batches, with no object for each record. Keys and values are the
        bytes as they are; deserializers and interceptors play no part.
        """
        columns = Columns()
        limit = MOST_COLUMN_RECORDS if max_records is None else max(1, max_records)
        await self._poll(columns, self._take_columns, limit, timeout_s)
        return columns

    async def __aiter__(self) -> AsyncGenerator[ConsumerRecord[K, V], None]:
        rebalancing = self._engine.rebalancing
        in_hand = self._in_hand
        while True:
            if in_hand.index >= len(in_hand.records):
                in_hand.put(await self.poll())
            self._one_by_one = True
            records = in_hand.records
            for record in islice(records, in_hand.index, None):
                in_hand.index += 1
                yield record
                if in_hand.records is not records:
                    break
                if rebalancing.user_wanted:
                    await self._attend()
                    break

    async def batches(
        self, timeout_s: float | None = None, max_records: int | None = None
    ) -> AsyncIterator[Records[K, V]]:
        """Polls again and again: `async for records in consumer.batches()`. With a timeout, batches may be empty."""
        while True:
            yield await self.poll(timeout_s, max_records)

    async def _poll(self, output: Any, take: Callable[[Any, int], None], limit: int, timeout_s: float | None) -> None:
        self._check_no_callback("poll()")
        if self._polling:
            raise IllegalStateError("Two tasks poll this consumer at the same time.", hint="Make one for each task.")
        self._check_open()
        self._polling = True
        try:
            if self._returned():
                self._loop_news()
            loop = self._engine.cluster.bind()
            if loop.time() - self._last_yield_s > _YIELD_AFTER_S:
                await asyncio.sleep(0)  # before anything is taken: who is cancelled here has lost no record
                self._last_yield_s = loop.time()
            if self._is_undisturbed():
                take(output, limit)
                if len(output):
                    return
            await self._poll_patiently(output, take, limit, timeout_s)
            if self._engine.metrics is not None:
                self._engine.metrics.poll.poll_ended()
        finally:
            self._polling = False

    async def _poll_patiently(
        self, output: Any, take: Callable[[Any, int], None], limit: int, timeout_s: float | None
    ) -> None:
        loop = asyncio.get_running_loop()
        deadline_s = None if timeout_s is None else loop.time() + timeout_s
        rebalancing = self._engine.rebalancing
        while True:
            self._check_open()
            self._check_subscribed()
            self._raise_pending()
            await self._serve()
            if rebalancing.user_wanted:
                self._hand_over()
                self._loop_news()
            elif not rebalancing.callback_coming:
                take(output, limit)
                if len(output):
                    return
                self._engine.buffer.returned()
            if deadline_s is not None and loop.time() >= deadline_s:
                return
            if rebalancing.callback_coming or not self._has_something():
                await self._wait(deadline_s)
                self._last_yield_s = loop.time()

    async def _wait(self, deadline_s: float | None) -> None:
        loop, engine = asyncio.get_running_loop(), self._engine
        waiter = self._waiter = loop.create_future()
        timer = None if deadline_s is None else loop.call_at(deadline_s, self._notify)
        began_ms = engine.cluster.now_ms()
        engine.user_waits = True
        try:
            await waiter
        finally:
            self._waiter = None
            engine.user_waits = False
            if timer is not None:
                timer.cancel()
        if engine.cluster.now_ms() - began_ms >= self._news_interval_ms:
            engine.user_lives()

    def _notify(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _attend(self) -> None:
        """Between two records, the group wants partitions back."""
        self._let_go()
        rebalancing = self._engine.rebalancing
        rebalancing.user_returned()
        while rebalancing.callback_coming or rebalancing.errands:
            await self._serve()
            if rebalancing.callback_coming:
                await self._wait(None)

    async def _serve(self) -> None:
        """Run what has to run where the user is."""
        errands = self._engine.rebalancing.errands
        while errands:
            errand = errands.popleft()
            began_ms = self._engine.cluster.now_ms()
            try:
                self._in_callback = True
                result = errand.call()
                if inspect.isawaitable(result):
                    await result
            finally:
                self._in_callback = False
                if not errand.done.done():
                    errand.done.set_result(None)
                self._called(errand, began_ms)
        await self._serve_commits()

    async def _serving(self, work: Coroutine[Any, Any, None]) -> None:
        """Await `work`, and run the callbacks that it brings about."""
        try:
            task = asyncio.ensure_future(work)
        except RuntimeError:  # no loop runs any more
            work.close()
            raise
        task.add_done_callback(lambda _: self._notify())
        try:
            while not task.done():
                await self._serve()
                if not task.done() and not self._engine.rebalancing.errands:
                    await self._wait(None)
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait([task])
        await self._serve()
        task.result()

    def wakeup(self) -> None:
        """End the `poll` that waits, or the next one, with a `WakeupError`. The only method for other tasks; from
        another thread use `loop.call_soon_threadsafe(consumer.wakeup)`.
        """
        self._woken = True
        self._notify()

    # --- subscribing

    async def subscribe(
        self,
        topics: Topics,
        *,
        listener: Any = None,
        on_assigned: Callable[[list[TopicPartition]], Any] | None = None,
        on_revoked: Callable[[list[TopicPartition]], Any] | None = None,
        on_lost: Callable[[list[TopicPartition]], Any] | None = None,
    ) -> None:
        """Consume these topics as a member of the group, in place of those before: names, a compiled `re.Pattern` (or a
        str beginning with "^") that is matched here, or a `SubscriptionPattern` that the coordinator matches. With
        callbacks, these replace the earlier ones.
        """
        given = listener or on_assigned or on_revoked or on_lost
        await self._subscribe(topics, Callbacks(listener, on_assigned, on_revoked, on_lost) if given else None)

    async def unsubscribe(self) -> None:
        """Leave the group, or let go what was assigned. What was handed out counts as processed."""
        self._check_no_callback("unsubscribe()")
        await self._serving(self._unsubscribe())

    async def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Consume exactly these partitions, without a group dividing them. Those assigned before keep their place."""
        await self._assign(partitions)

    async def pause(self, partitions: Iterable[TopicPartition] | TopicPartition | None = None) -> None:
        """Give no records of these (None: of all) until `resume`; the assignment stays."""
        await self._pause(partitions, True)

    async def resume(self, partitions: Iterable[TopicPartition] | TopicPartition | None = None) -> None:
        """Give records of these (None: of all) again."""
        await self._pause(partitions, False)

    async def enforce_rebalance(self) -> None:
        """Have a classic group rebalance although nothing changed; coordinators of others decide alone."""
        await self._enforce_rebalance()

    # --- positions and commits

    async def seek(self, partition: TopicPartition, offset: int | OffsetAndMetadata) -> None:
        """Go on at this offset."""
        await self._seek(partition, offset)

    async def seek_to_beginning(self, partitions: Iterable[TopicPartition] | TopicPartition | None = None) -> None:
        """Go on at the first record there is, of these partitions or of all."""
        await self._seek_to(partitions, BEGINNING)

    async def seek_to_end(self, partitions: Iterable[TopicPartition] | TopicPartition | None = None) -> None:
        """Go on behind the last record there is (the last stable offset when reading committed)."""
        await self._seek_to(partitions, END)

    async def position(self, partition: TopicPartition, timeout_s: float | None = None) -> int:
        """The offset of the next record to come; waits until it is known."""
        timeout_ms = self._timeout_ms(timeout_s)
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                return await self._position(partition)
        except TimeoutError as error:
            raise position_timeout(partition, timeout_ms) from error

    async def commit(self, offsets: Committable | None = None, timeout_s: float | None = None) -> None:
        """Commit, and wait until it is done: the positions behind everything handed out so far; or behind a record, or
        several; or what a mapping of partitions to offsets says. Transient errors are retried.
        """
        await self._commit(offsets, self._timeout_ms(timeout_s))
        await self._serve_commits()

    async def commit_async(self, offsets: Committable | None = None, callback: CommitCallback | None = None) -> None:
        """Commit in the background, after earlier commits; `callback(offsets, error)` runs in a later call."""
        await self._commit_soon(offsets, callback)

    async def _serve_commits(self) -> None:
        committing = self._engine.committing
        while committing is not None and committing.finished:
            callback, offsets, error = committing.finished.popleft()
            try:
                self._in_callback = True
                result = callback(offsets, error)
                if inspect.isawaitable(result):
                    await result
            finally:
                self._in_callback = False

    async def committed(
        self, partitions: Iterable[TopicPartition] | TopicPartition | None = None, timeout_s: float | None = None
    ) -> dict[TopicPartition, OffsetAndMetadata | None]:
        """What the group has committed for these partitions (None: the assigned ones)."""
        return await self._committed(partitions, self._timeout_ms(timeout_s))

    async def beginning_offsets(
        self, partitions: Iterable[TopicPartition], timeout_s: float | None = None
    ) -> dict[TopicPartition, int]:
        """The first offsets there are."""
        return await self._beginning_offsets(partitions, self._timeout_ms(timeout_s))

    async def end_offsets(
        self, partitions: Iterable[TopicPartition], timeout_s: float | None = None
    ) -> dict[TopicPartition, int]:
        """The offsets behind the last records that can be read."""
        return await self._end_offsets(partitions, self._timeout_ms(timeout_s))

    async def offsets_for_times(
        self, timestamps: Mapping[TopicPartition, int], timeout_s: float | None = None
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        """The first offset with a timestamp (ms since 1970) that is not older; None when there is none such."""
        return await self._offsets_for_times(timestamps, self._timeout_ms(timeout_s))

    # --- the cluster

    async def partitions_for(self, topic: str, timeout_s: float | None = None) -> list[PartitionInfo]:
        """The partitions of a topic, with their leaders and replicas."""
        return await self._partitions_for(topic, self._timeout_ms(timeout_s))

    async def list_topics(self, timeout_s: float | None = None) -> dict[str, list[PartitionInfo]]:
        """All topics that this client may see."""
        return await self._list_topics(self._timeout_ms(timeout_s))

    async def client_instance_id(self, timeout_s: float = 30.0) -> str:
        """The id under which the cluster files this consumer's metrics (KIP-714)."""
        self._begin()
        return await self._instruments.client_instance_id(timeout_s)

    # --- the end

    async def close(self, timeout_s: float | None = 30.0, *, leave_group: bool | None = None) -> None:
        """Commit (when commits are automatic), run `on_revoked`, leave the group (None: unless a static member),
        disconnect. What was handed out counts as processed. Again is nothing.
        """
        await self._close(timeout_s, leave_group, processed=True)

    async def _close(self, timeout_s: float | None, leave_group: bool | None, *, processed: bool) -> None:
        if self._closed or self._closing:
            return
        self._check_no_callback("close()")
        self._leaves(processed=processed)
        self._closing = True
        timeout_ms = 30_000 if timeout_s is None else max(0, int(timeout_s * 1000))
        try:
            await self._serving(self._shut(timeout_ms, leave_group))
        finally:
            self._closed = True
            self._close_interceptors()
