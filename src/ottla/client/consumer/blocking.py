"""The blocking consumer, `ottla.Consumer`.

Records are taken from the buffer and deserialized in the caller's thread; everything else happens on the portal's loop.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Self, TypeVar

from ottla.client.consumer.committing import CommitCallback
from ottla.client.consumer.door import BEGINNING, END, MOST_COLUMN_RECORDS, Committable, Topics
from ottla.client.consumer.listener import Callbacks, ConsumerInterceptor
from ottla.client.consumer.operations import ConsumerOperations, position_timeout
from ottla.client.consumer.records import Records
from ottla.client.errors import ClientForkedError, IllegalStateError, KafkaTimeoutError
from ottla.client.model import OffsetAndMetadata, OffsetAndTimestamp, PartitionInfo, TopicPartition
from ottla.client.portal import EXIT_TIMEOUT_S, portal
from ottla.records.columns import Columns
from ottla.records.reader import ConsumerRecord
from ottla.serde.base import DeserializerLike, K, V

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Unpack

    from ottla.client.settings.names import ConsumerNames

_get_ident = threading.get_ident
_generation = 0
"""How many forks this process is away from the first one: os.getpid() is too slow to ask in every poll."""


def _forked() -> None:
    global _generation
    _generation += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)

T = TypeVar("T")


class Consumer(ConsumerOperations[K, V]):
    """Reads records, alone or as a member of a group. Fetching, heartbeats and rebalances go on in the background.

        with ottla.Consumer("localhost:9092", group_id="g", topics=["orders"]) as consumer:
            for record in consumer:
                ...

    Settings go by Kafka's names, in a mapping or with `_` for `.`. `topics` subscribes at once. Deserializers are
    anything that `ottla.serde` understands. `listener` (see `RebalanceListener`) or single callbacks hear of
    rebalances; they run inside `poll`. For one thread at a time, except `wakeup`.
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
        self._event = threading.Event()
        self._busy = threading.Lock()
        self._user = 0
        self._depth = 0
        self._generation = _generation
        self._portal = portal()
        self._portal.register(self)
        self._engine.notify = self._event.set
        self._engine.in_loop = self._portal.call_soon
        self._portal.close_forgotten(self, self._instruments.is_working, self._engine.abandon)

    def __enter__(self) -> Self:
        self._portal.call_soon(self._loop_news)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Whoever pressed Ctrl-C does not want to wait for brokers that are away.
        self._close(EXIT_TIMEOUT_S if isinstance(error, KeyboardInterrupt) else None, None, processed=kind is None)

    # --- one user at a time

    def _enter(self) -> None:
        me = _get_ident()
        if self._busy.acquire(False):
            self._user = me
        elif self._user != me:
            raise IllegalStateError("Two threads use this consumer at the same time.", hint="Make one for each thread.")
        self._depth += 1
        if self._closed or self._generation != _generation:
            self._leave()
            self._check_open()
            raise ClientForkedError("This consumer was made before the process forked.")

    def _leave(self) -> None:
        self._depth -= 1
        if not self._depth:
            self._user = 0
            self._busy.release()

    def _run(self, work: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """On the loop, for a user who waits."""
        try:
            self._enter()
        except BaseException:
            work.close()
            raise
        try:
            return self._portal.run(work, timeout_s)
        finally:
            self._leave()

    # --- records

    def poll(self, timeout_s: float | None = None, max_records: int | None = None) -> Records[K, V]:
        """Records, as soon as there are any: at most `max_records` (default max.poll.records), none when time runs
        out. `timeout_s` None waits without limit, 0 not at all.

        What the last poll gave counts as processed now: automatic commits include it from here on. Raises what the
        background met and cannot solve, `RecordDeserializationError`, `WakeupError`; and runs callbacks.
        """
        taken: list[ConsumerRecord[K, V]] = []
        limit = self._max_records if max_records is None else max(1, max_records)
        self._one_by_one = False
        self._poll(taken, self._take, limit, timeout_s)
        records: Records[K, V] = Records(taken)
        return self._consumed(records) if self._on_consume else records

    def poll_columns(self, timeout_s: float | None = None, max_records: int | None = None) -> Columns:
        """Like `poll`, as columns straight from the batches, with no object for each record. Keys and values are the
        bytes as they are; deserializers and interceptors play no part.
        """
        columns = Columns()
        limit = MOST_COLUMN_RECORDS if max_records is None else max(1, max_records)
        self._poll(columns, self._take_columns, limit, timeout_s)
        return columns

    def __iter__(self) -> Generator[ConsumerRecord[K, V], None, None]:
        rebalancing = self._engine.rebalancing
        in_hand = self._in_hand
        while True:
            if in_hand.index >= len(in_hand.records):
                in_hand.put(self.poll())
            self._one_by_one = True
            records = in_hand.records
            for record in islice(records, in_hand.index, None):
                in_hand.index += 1
                yield record
                if in_hand.records is not records:
                    break
                if rebalancing.user_wanted:
                    self._attend()
                    break

    def batches(self, timeout_s: float | None = None, max_records: int | None = None) -> Iterator[Records[K, V]]:
        """Polls again and again: `for records in consumer.batches()`. With a timeout, batches may be empty."""
        while True:
            yield self.poll(timeout_s, max_records)

    def _poll(self, output: Any, take: Callable[[Any, int], None], limit: int, timeout_s: float | None) -> None:
        self._enter()
        try:
            self._check_no_callback("poll()")
            if self._returned():
                self._portal.call_soon(self._loop_news)
            if self._is_undisturbed():
                take(output, limit)
                if len(output):
                    return
            self._poll_patiently(output, take, limit, timeout_s)
            if self._engine.metrics is not None:
                self._engine.metrics.poll.poll_ended()
        finally:
            self._leave()

    def _poll_patiently(
        self, output: Any, take: Callable[[Any, int], None], limit: int, timeout_s: float | None
    ) -> None:
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        rebalancing = self._engine.rebalancing
        while True:
            self._event.clear()
            self._check_open()
            self._check_subscribed()
            self._raise_pending()
            self._serve()
            if rebalancing.user_wanted:
                self._hand_over()
                self._portal.call_soon(self._loop_news)
            elif not rebalancing.callback_coming:
                take(output, limit)
                if len(output):
                    return
                self._engine.buffer.returned()
            remaining_s = None if deadline_s is None else deadline_s - time.monotonic()
            if remaining_s is not None and remaining_s <= 0:
                return
            if rebalancing.user_wanted:
                self._event.wait(0.001 if remaining_s is None else min(0.001, remaining_s))
            elif rebalancing.callback_coming or not self._has_something():
                self._wait(remaining_s)

    def _wait(self, timeout_s: float | None) -> None:
        engine = self._engine
        began_ms = engine.cluster.now_ms()
        engine.user_waits = True
        try:
            self._event.wait(timeout_s)
        finally:
            engine.user_waits = False
        if engine.cluster.now_ms() - began_ms >= self._news_interval_ms:
            self._portal.call_soon(engine.user_lives)

    def _attend(self) -> None:
        """Between two records, the group wants partitions back."""
        self._enter()
        try:
            self._let_go()
            rebalancing = self._engine.rebalancing
            self._portal.call(rebalancing.user_returned)
            while rebalancing.callback_coming or rebalancing.errands:
                self._event.clear()
                self._serve()
                if rebalancing.callback_coming and not rebalancing.errands:
                    self._event.wait()
        finally:
            self._leave()

    def _serve(self) -> None:
        """Run what has to run where the user is."""
        errands = self._engine.rebalancing.errands
        while errands:
            errand = errands.popleft()
            began_ms = self._engine.cluster.now_ms()
            try:
                self._in_callback = True
                self._finish(errand.call())
            finally:
                self._in_callback = False
                self._portal.call_soon(_resolve, errand.done)
                self._called(errand, began_ms)
        self._serve_commits()

    def _serve_commits(self) -> None:
        committing = self._engine.committing
        while committing is not None and committing.finished:
            callback, offsets, error = committing.finished.popleft()
            try:
                self._in_callback = True
                self._finish(callback(offsets, error))
            finally:
                self._in_callback = False

    def _finish(self, result: Any) -> None:
        """Callbacks may be coroutine functions too."""
        if inspect.isawaitable(result):
            self._portal.run(_awaited(result))

    def _serving(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait for `work` on the loop, and run the callbacks that it brings about."""
        done: list[asyncio.Task[None]] = []

        def finished(task: asyncio.Task[None]) -> None:
            done.append(task)
            self._event.set()

        def start() -> None:
            tasks.append(asyncio.ensure_future(work))
            tasks[0].add_done_callback(finished)

        tasks: list[asyncio.Task[None]] = []
        self._portal.call_soon(start)
        try:
            while not done:
                self._event.clear()
                self._serve()
                if not done and not self._engine.rebalancing.errands:
                    self._event.wait()
        except BaseException:
            self._portal.call_soon(lambda: tasks[0].cancel())
            raise
        self._serve()
        done[0].result()

    def wakeup(self) -> None:
        """End the `poll` that waits, or the next one, with a `WakeupError`. The only method for other threads."""
        self._woken = True
        self._event.set()

    # --- subscribing

    def subscribe(
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
        callbacks = Callbacks(listener, on_assigned, on_revoked, on_lost) if given else None
        self._run(self._subscribe(topics, callbacks))

    def unsubscribe(self) -> None:
        """Leave the group, or let go what was assigned. What was handed out counts as processed."""
        self._enter()
        try:
            self._check_no_callback("unsubscribe()")
            self._serving(self._unsubscribe())
        finally:
            self._leave()

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Consume exactly these partitions, without a group dividing them. Those assigned before keep their place."""
        self._run(self._assign(partitions))

    def pause(self, partitions: Iterable[TopicPartition] | TopicPartition | None = None) -> None:
        """Give no records of these (None: of all) until `resume`; the assignment stays."""
        self._run(self._pause(partitions, True))

    def resume(self, partitions: Iterable[TopicPartition] | TopicPartition | None = None) -> None:
        """Give records of these (None: of all) again."""
        self._run(self._pause(partitions, False))

    def enforce_rebalance(self) -> None:
        """Have a classic group rebalance although nothing changed; coordinators of others decide alone."""
        self._run(self._enforce_rebalance())

    # --- positions and commits

    def seek(self, partition: TopicPartition, offset: int | OffsetAndMetadata) -> None:
        """Go on at this offset."""
        self._run(self._seek(partition, offset))

    def seek_to_beginning(self, partitions: Iterable[TopicPartition] | TopicPartition | None = None) -> None:
        """Go on at the first record there is, of these partitions or of all."""
        self._run(self._seek_to(partitions, BEGINNING))

    def seek_to_end(self, partitions: Iterable[TopicPartition] | TopicPartition | None = None) -> None:
        """Go on behind the last record there is (the last stable offset when reading committed)."""
        self._run(self._seek_to(partitions, END))

    def position(self, partition: TopicPartition, timeout_s: float | None = None) -> int:
        """The offset of the next record to come; waits until it is known."""
        timeout_ms = self._timeout_ms(timeout_s)
        try:
            return self._run(self._position(partition), timeout_ms / 1000)
        except KafkaTimeoutError as error:
            raise position_timeout(partition, timeout_ms) from error

    def commit(self, offsets: Committable | None = None, timeout_s: float | None = None) -> None:
        """Commit, and wait until it is done: the positions behind everything handed out so far; or behind a record, or
        several; or what a mapping of partitions to offsets says. Transient errors are retried.
        """
        self._run(self._commit(offsets, self._timeout_ms(timeout_s)))
        self._serve_commits()

    def commit_async(self, offsets: Committable | None = None, callback: CommitCallback | None = None) -> None:
        """Commit in the background, after earlier commits; `callback(offsets, error)` runs in a later call."""
        self._run(self._commit_soon(offsets, callback))

    def committed(
        self, partitions: Iterable[TopicPartition] | TopicPartition | None = None, timeout_s: float | None = None
    ) -> dict[TopicPartition, OffsetAndMetadata | None]:
        """What the group has committed for these partitions (None: the assigned ones)."""
        return self._run(self._committed(partitions, self._timeout_ms(timeout_s)))

    def beginning_offsets(
        self, partitions: Iterable[TopicPartition], timeout_s: float | None = None
    ) -> dict[TopicPartition, int]:
        """The first offsets there are."""
        return self._run(self._beginning_offsets(partitions, self._timeout_ms(timeout_s)))

    def end_offsets(
        self, partitions: Iterable[TopicPartition], timeout_s: float | None = None
    ) -> dict[TopicPartition, int]:
        """The offsets behind the last records that can be read."""
        return self._run(self._end_offsets(partitions, self._timeout_ms(timeout_s)))

    def offsets_for_times(
        self, timestamps: Mapping[TopicPartition, int], timeout_s: float | None = None
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]:
        """The first offset with a timestamp (ms since 1970) that is not older; None when there is none such."""
        return self._run(self._offsets_for_times(timestamps, self._timeout_ms(timeout_s)))

    # --- the cluster

    def partitions_for(self, topic: str, timeout_s: float | None = None) -> list[PartitionInfo]:
        """The partitions of a topic, with their leaders and replicas."""
        return self._run(self._partitions_for(topic, self._timeout_ms(timeout_s)))

    def list_topics(self, timeout_s: float | None = None) -> dict[str, list[PartitionInfo]]:
        """All topics that this client may see."""
        return self._run(self._list_topics(self._timeout_ms(timeout_s)))

    def client_instance_id(self, timeout_s: float = 30.0) -> str:
        """The id under which the cluster files this consumer's metrics (KIP-714)."""
        return self._run(self._instruments.client_instance_id(timeout_s))

    # --- the end

    def close(self, timeout_s: float | None = 30.0, *, leave_group: bool | None = None) -> None:
        """Commit (when commits are automatic), run `on_revoked`, leave the group (None: unless a static member),
        disconnect. What was handed out counts as processed. Again is nothing.
        """
        self._close(timeout_s, leave_group, processed=True)

    def _close(self, timeout_s: float | None, leave_group: bool | None, *, processed: bool) -> None:
        if self._closed or self._closing:
            return
        self._check_no_callback("close()")
        self._enter()
        try:
            self._leaves(processed=processed)
            self._closing = True
            timeout_ms = 30_000 if timeout_s is None else max(0, int(timeout_s * 1000))
            self._serving(self._shut(timeout_ms, leave_group))
        finally:
            self._closed = True
            self._leave()
            self._close_interceptors()

    async def exit_now(self) -> None:
        """The interpreter exits without `close`."""
        if not self._closed:
            self._closed = True
            await self._engine.abandon()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _awaited(result: Any) -> Any:
    return await result
