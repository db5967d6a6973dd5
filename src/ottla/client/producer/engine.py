"""What the blocking and the asyncio producer share: the parts, put together, and the calls that need the cluster.

All coroutines run on the loop of the producer's cluster. `send` does not come here, except for a topic's first record.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from random import Random
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from ottla.client.errors import (
    ClientClosedError,
    ClientForkedError,
    IllegalStateError,
    InvalidTopicError,
    KafkaError,
    KafkaTimeoutError,
    ProducerFencedError,
    UnknownTopicError,
)
from ottla.client.model import ConsumerGroupMetadata, OffsetAndMetadata, PartitionInfo, TopicPartition, topic_partition
from ottla.client.producer.accumulator import Accumulator
from ottla.client.producer.batches import ProducerBatch, TopicQueue, Waiting
from ottla.client.producer.contents import as_partition
from ottla.client.producer.partitioners import resolve_partitioner
from ottla.client.producer.sender import Sender
from ottla.client.settings import ProducerSettings

if TYPE_CHECKING:
    from ottla.client.instruments import Instruments
    from ottla.client.metrics.producer import ProducerMetrics
    from ottla.client.network.cluster import Cluster
    from ottla.client.network.metadata import TopicMetadata
    from ottla.client.producer.completion import Completion
    from ottla.client.producer.transaction_requests import TransactionRequests
    from ottla.client.producer.transactions import ProducerState

logger = logging.getLogger("ottla.client")

LARGEST_BATCH_BYTES = 1024 * 1024
"""Batches do not grow beyond what a topic takes by default (`max.message.bytes`)."""

EXIT_TIMEOUT_S = 4.0
"""How long the exit of the interpreter waits for deliveries of a producer that was not closed."""

_engines: WeakSet[Engine] = WeakSet()


class Engine:
    """A producer without its doors."""

    def __init__(
        self,
        settings: ProducerSettings,
        cluster: Cluster,
        *,
        wake: Callable[[Callable[[], None]], None],
        waiting: Callable[[Engine], Waiting],
        partitioner: object = None,
        random: Random | None = None,
        metrics: ProducerMetrics | None = None,
        instruments: Instruments | None = None,
    ) -> None:
        """`wake(fn)` runs a function on the cluster's loop soon, from any thread."""
        self.settings = settings
        self.cluster = cluster
        self.metrics = metrics
        self._instruments = instruments
        self.is_closed = False
        self.is_forked = False
        chance = (random or Random()).random
        self.accumulator = Accumulator(
            lock=threading.Lock(),
            now_ms=cluster.now_ms,
            time=time.time,
            random=chance,
            wake=lambda: wake(self._look),
            waiting=waiting(self),
            batch_bytes=settings.batch_size,
            growth_bytes=growth_bytes(settings),
            buffer_bytes=settings.buffer_memory,
            max_request_bytes=settings.max_request_size,
            linger_ms=settings.linger_ms,
            adaptive=settings.partitioner_adaptive_partitioning_enable,
            availability_timeout_ms=settings.partitioner_availability_timeout_ms,
        )
        self.accumulator.partitioner = resolve_partitioner(
            settings.partitioner_class if partitioner is None else partitioner, chance
        )
        self.accumulator.ignores_keys = settings.partitioner_ignore_keys
        self.accumulator.one_by_one = settings.max_in_flight_requests_per_connection == 1
        self.state: ProducerState | None = None
        self._requests: TransactionRequests | None = None
        if settings.enable_idempotence:
            self._make_exactly_once()
        self.sender = Sender(cluster, self.accumulator, settings, self.state, metrics)
        self._is_started = False
        self._initialized = False
        if metrics is not None:
            metrics.watch(
                buffer_total_bytes=lambda: settings.buffer_memory,
                buffer_available_bytes=lambda: settings.buffer_memory - self.accumulator.used_bytes,
                waiting=lambda: self.accumulator.waiting_count,
                requests_in_flight=lambda: self.sender.requests_in_flight,
                metadata_age_s=lambda: cluster.metadata_state.age_ms(cluster.now_ms()) / 1000,
            )
        _engines.add(self)

    def _make_exactly_once(self) -> None:
        from ottla.client.producer.transactions import ProducerState

        settings = self.settings
        self.state = state = ProducerState(
            settings.transactional_id,
            settings.transaction_timeout_ms,
            enable_2pc=settings.transaction_two_phase_commit_enable,
            backoff=self.cluster.backoff.delay_ms,
            max_in_flight=settings.max_in_flight_requests_per_connection,
        )
        self.accumulator.admission = state
        if state.is_transactional:
            self.accumulator.record_appended = state.record_appended
            self.accumulator.tells_failures = False

    def _look(self) -> None:
        self.sender.look()

    def start(self) -> None:
        """On the loop, before anything else; again costs nothing."""
        self.check_usable()
        if self._is_started:
            return
        self._is_started = True
        self.cluster.add_metadata_listener(self._metadata_changed)
        if self._instruments is not None:
            self._instruments.start()
        if self.state is not None:
            from ottla.client.producer.transaction_requests import TransactionRequests

            self._requests = TransactionRequests(
                self.cluster,
                self.state,
                request_timeout_ms=self.settings.request_timeout_ms,
                on_progress=self.sender.look,
            )

    def check_usable(self) -> None:
        """Raise what every call of a closed or forked producer raises."""
        if self.is_forked:
            raise self.forked_error()
        if self.is_closed:
            raise ClientClosedError("the producer is closed.")

    def timeout_ms(self, timeout_s: float | None) -> int:
        """A caller's timeout; max.block.ms when there is none."""
        return self.settings.max_block_ms if timeout_s is None else int(timeout_s * 1000)

    # --- topics

    async def learn(self, name: str, partition: int | None, timeout_ms: int) -> TopicQueue:
        """Wait until a topic, and a partition of it, are known."""
        if not isinstance(name, str):
            raise InvalidTopicError(f"a topic's name is text, not {type(name).__name__}.", hint="")
        if not name:
            raise InvalidTopicError("a topic's name cannot be empty.")
        if partition is not None:
            partition = as_partition(partition)
        self.start()
        started_ms = self.cluster.now_ms()
        deadline_ms = started_ms + timeout_ms
        topic = await self.cluster.wait_for_topic(name, timeout_ms)
        unanswered: KafkaTimeoutError | None = None
        is_answered = False
        while partition is not None and partition >= len(topic.partitions):
            left_ms = deadline_ms - self.cluster.now_ms()
            if left_ms <= 0 and unanswered is not None and not is_answered:
                raise KafkaTimeoutError(
                    f"topic {name} had {len(topic.partitions)} partitions, and whether it has partition {partition} by "
                    f"now no broker has said within max.block.ms ({timeout_ms}).",
                    hint="Check that the brokers run and can be reached.",
                ) from unanswered
            if left_ms <= 0:
                raise UnknownTopicError(
                    f"topic {name} has no partition {partition} but {len(topic.partitions)} partitions, still after "
                    f"max.block.ms ({timeout_ms}).",
                    hint="Create it, or send to another.",
                )
            await asyncio.sleep(min(left_ms, self.cluster.backoff.delay_ms(0)) / 1000)
            try:
                await self.cluster.refresh_metadata(max(1, deadline_ms - self.cluster.now_ms()))
                is_answered = True
            except KafkaTimeoutError as error:
                unanswered = error
            topic = self.cluster.metadata.topics.get(name) or topic
        if self.metrics is not None:
            self.metrics.took("metadata-wait", (self.cluster.now_ms() - started_ms) / 1000)
        return self._learn(topic)

    def _learn(self, topic: TopicMetadata) -> TopicQueue:
        return self.accumulator.learn_topic(topic.name, len(topic.partitions), self._available(topic))

    def _available(self, topic: TopicMetadata) -> tuple[int, ...]:
        """Partitions with a leader; with `partitioner.rack.aware` only those led in our rack, if there are any."""
        led = tuple(each.partition for each in topic.partitions if each.leader >= 0)
        rack = self.settings.client_rack
        if not (self.settings.partitioner_rack_aware and rack):
            return led
        brokers = self.cluster.metadata.brokers
        near = {node_id for node_id, node in brokers.items() if node.rack == rack}
        return tuple(each.partition for each in topic.partitions if each.leader in near) or led

    def _metadata_changed(self, metadata: object) -> None:
        topics = self.cluster.metadata.topics
        for name in list(self.accumulator.topics):
            topic = topics.get(name)
            if topic is not None and topic.partitions:
                self._learn(topic)
        if self.accumulator.pending:
            self.sender.look()

    async def partitions_for(self, topic: str, timeout_ms: int) -> list[PartitionInfo]:
        """The partitions of a topic."""
        self.start()
        await self.cluster.wait_for_topic(topic, timeout_ms)
        return list(self.cluster.metadata.partition_infos(topic) or ())

    # --- waiting for deliveries

    async def flush(self, timeout_s: float | None = None) -> None:
        """Send what is buffered without lingering, wait until all of it is done, and raise what nobody looked at."""
        self.check_usable()
        started_ms = self.cluster.now_ms()
        await self._flush(timeout_s)
        if self.metrics is not None:
            self.metrics.took("flush", (self.cluster.now_ms() - started_ms) / 1000)
        self._raise_unseen()

    def _raise_unseen(self) -> None:
        """A record that was not written is not lost silently: who looked at no delivery is told here."""
        error = self.accumulator.take_unseen()
        if error is not None:
            raise error

    async def _flush(self, timeout_s: float | None) -> None:
        batches = self.accumulator.unfinished()
        if not batches:
            return
        self.accumulator.hurry(1)
        try:
            async with asyncio.timeout(timeout_s):
                await self.all_done(batches)
        except TimeoutError:
            left = sum(batch.records_count for batch in leaves(batches) if not batch.is_done)
            raise KafkaTimeoutError(
                f"{left} records were not delivered within {timeout_s} s.",
                hint="They stay buffered until delivery.timeout.ms is over; flush again, or raise the timeout.",
            ) from None
        finally:
            self.accumulator.hurry(-1)

    async def all_done(self, batches: Iterable[ProducerBatch]) -> None:
        """Wait until batches, and what they are split into, are done."""
        remaining = list(batches)
        while remaining := [batch for batch in leaves(remaining) if not batch.is_done]:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.accumulator.notify(remaining[-1], 0, _set, done)
            await done

    # --- transactions

    async def init_transactions(self, timeout_ms: int, keep_prepared: bool = False) -> None:
        """Become the one producer of the transactional id; done by the first `begin` when it was not before."""
        state = self.transactional("init_transactions()")
        self.start()
        await self._timed("txn-init", state.init_transactions(keep_prepared), timeout_ms)
        self._initialized = True

    async def begin_transaction(self, timeout_ms: int) -> None:
        """Open a transaction, after the end of an abort that took too long to be waited for."""
        state = self.transactional("begin_transaction()")
        if not self._initialized:
            await self.init_transactions(timeout_ms)
        if state.abort_is_unseen:
            await self.abort_transaction(timeout_ms)
        state.begin()

    async def send_offsets(
        self,
        offsets: Mapping[TopicPartition, OffsetAndMetadata | int],
        group_metadata: ConsumerGroupMetadata | str,
        timeout_ms: int,
    ) -> None:
        """Commit a consumer's positions with the transaction."""
        state = self.transactional("send_offsets_to_transaction()")
        group = ConsumerGroupMetadata(group_metadata) if isinstance(group_metadata, str) else group_metadata
        exact = {
            topic_partition(tp): OffsetAndMetadata(offset) if isinstance(offset, int) else offset
            for tp, offset in offsets.items()
        }
        await self._timed("txn-send-offsets", state.add_offsets(exact, group), timeout_ms)

    async def commit_transaction(self, timeout_ms: int) -> None:
        """Deliver everything, then commit. Raises why a record was not delivered, and nothing is committed then."""
        state = self.transactional("commit_transaction()")
        if state.state.value == "in a transaction":
            await self._flush(timeout_ms / 1000)
        await self._timed("txn-commit", state.commit(), timeout_ms)

    async def abort_transaction(self, timeout_ms: int) -> None:
        """Take back everything since `begin`."""
        state = self.transactional("abort_transaction()")
        completion = state.abort()
        self.sender.look()
        await self._timed("txn-abort", completion, timeout_ms)

    async def _timed(self, what: Any, completion: Completion, timeout_ms: int) -> None:
        assert self._requests is not None
        started_ms = self.cluster.now_ms()
        self._requests.wake()
        await self._requests.wait(completion, timeout_ms)
        if self.metrics is not None:
            self.metrics.took(what, (self.cluster.now_ms() - started_ms) / 1000)

    def transactional(self, what: str) -> ProducerState:
        """The state of a transactional producer; IllegalStateError for another."""
        self.check_usable()
        if self.state is None or not self.state.is_transactional:
            raise IllegalStateError(f"{what} needs a transactional producer.", hint="Set transactional.id.")
        self.start()
        return self.state

    async def abort_after(self, cause: BaseException) -> None:
        """Abort because something was raised: that is what the caller must see, not what the abort makes of it.

        But ProducerFencedError is raised in place of a KafkaError: there is nothing to try again.
        """
        try:
            most_ms = int(EXIT_TIMEOUT_S * 1000) if isinstance(cause, KeyboardInterrupt) else self.settings.max_block_ms
            await self.abort_transaction(min(most_ms, self.settings.max_block_ms))
        except KafkaError as error:
            is_fenced = isinstance(error, ProducerFencedError)
            if is_fenced and isinstance(cause, KafkaError) and not isinstance(cause, ProducerFencedError):
                raise error from cause
            if not (is_fenced and isinstance(cause, ProducerFencedError)):
                logger.warning("a transaction could not be aborted: %s", error)

    # --- the end

    async def exit_now(self) -> None:
        """The interpreter ends, or the producer was forgotten."""
        await self.close_after(None, EXIT_TIMEOUT_S)

    async def close_after(self, cause: BaseException | None, timeout_s: float | None = None) -> None:
        """Close where what went wrong before, or nobody being there to hear of it, must not be hidden by more."""
        try:
            await self.close(timeout_s)
        except KafkaError as error:
            logger.error("closing a producer%s: %s", "" if cause is None else f" after {type(cause).__name__}", error)

    async def close(self, timeout_s: float | None = None) -> None:
        """Deliver what is buffered within the time, give up the rest, close the connections; and raise what nobody
        looked at.
        """
        if self.is_closed or self.is_forked:
            return
        self.is_closed = True
        accumulator = self.accumulator
        error = ClientClosedError("the producer is closed.")
        with accumulator.lock:
            accumulator.gate = error
            accumulator.is_closed = True
        async with AsyncExitStack() as ends:  # whoever cancels this gets a closed producer, too; the last comes first
            ends.push_async_callback(self.cluster.close)
            if self._instruments is not None:
                ends.push_async_callback(self._instruments.close)
            ends.callback(self.sender.close)
            if self._requests is not None:
                ends.push_async_callback(self._requests.close, error)
            undelivered = ClientClosedError("the producer was closed before the record was delivered.", hint="")
            ends.callback(self.sender.give_up_all, undelivered)
            if self._is_started:
                await self._end(timeout_s)
        self._raise_unseen()

    async def _end(self, timeout_s: float | None) -> None:
        state = self.state
        try:
            if state is not None and state.is_transactional and state.in_transaction:
                timeout_ms = self.settings.max_block_ms if timeout_s is None else int(timeout_s * 1000)
                ending = state.ending  # a commit whose caller ran out of time is not taken back
                if ending is None:
                    ending = state.abort()
                    self.sender.look()
                await self._timed("txn-abort", ending, timeout_ms)
            else:
                self.sender.look()
                await self._flush(timeout_s)
        except KafkaTimeoutError as problem:
            logger.warning("closing a producer: %s", problem.message)
        except KafkaError as problem:
            logger.warning("closing a producer: %s", problem)

    @property
    def the_instruments(self) -> Instruments:
        """What counts; the engine of a user's producer always has it."""
        assert self._instruments is not None
        return self._instruments

    async def client_instance_id(self, timeout_s: float) -> str:
        """The id under which the cluster files this producer's metrics (KIP-714)."""
        self.start()
        return await self.the_instruments.client_instance_id(timeout_s)

    def forked(self) -> None:
        """This is a child process now: the threads and connections are the parent's."""
        self.is_forked = True
        self.accumulator.gate = self.forked_error()

    def forked_error(self) -> ClientForkedError:
        """What every call of a producer raises in a child process."""
        return ClientForkedError("the producer was made before this process was forked.")


def growth_bytes(settings: ProducerSettings) -> int:
    """How large a batch may become while it waits; `batch.size` 0 keeps meaning one record per batch."""
    if not settings.batch_size:
        return 0
    return max(settings.batch_size, min(settings.max_request_size, LARGEST_BATCH_BYTES))


def leaves(batches: Iterable[ProducerBatch]) -> Iterable[ProducerBatch]:
    """The batches themselves, or what became of those that were split."""
    for batch in batches:
        if batch.parts is None:
            yield batch
        else:
            yield from leaves(part for _, part in batch.parts)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _after_fork() -> None:
    for engine in list(_engines):
        engine.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
