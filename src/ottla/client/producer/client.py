"""The producer for asyncio."""

from __future__ import annotations

import asyncio
from asyncio import get_running_loop
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from random import Random
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Unpack

from ottla.client.errors import BufferFullError, IllegalStateError, KafkaError
from ottla.client.instruments import Instrumented
from ottla.client.model import ConsumerGroupMetadata, OffsetAndMetadata, PartitionInfo, TopicPartition
from ottla.client.producer.accumulator import Reservation
from ottla.client.producer.batches import Delivery, HeldRecord
from ottla.client.producer.contents import BATCH_OVERHEAD, HeadersLike, K, V
from ottla.client.producer.engine import Engine
from ottla.client.serdes import serializer_of
from ottla.client.settings import ProducerSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ottla.client.producer.bulk import BulkDelivery
    from ottla.client.producer.interceptors import Interceptors, ProducerRecord
    from ottla.client.settings.names import ProducerNames
    from ottla.serde.base import SerializerLike

YIELD_BYTES = 512 * 1024
"""How much may be sent before `send` lets the loop run once, so that the network has its turn."""


class Producer(Instrumented, Generic[K, V]):
    """Sends records. Make one, use it for everything, close it: `async with ottla.aio.Producer(...) as producer:`.

    `send` waits for nothing but room in the buffer; await the `Delivery` it gives, or `flush()`, to know that records
    were written. Settings are Kafka's: `linger_ms=5`, or `{"linger.ms": 5}` as second argument.
    """

    def __init__(
        self,
        bootstrap_servers: str | Iterable[str] | None = None,
        settings: Mapping[str, object] | None = None,
        /,
        *,
        key_serializer: SerializerLike[K] | str | None = None,
        value_serializer: SerializerLike[V] | str | None = None,
        partitioner: Any = None,
        interceptors: Iterable[object] = (),
        **names: Unpack[ProducerNames],
    ) -> None:
        """Connects with the first call that needs the cluster. Raises ConfigError.

        Serializers are objects, functions or names as `ottla.serde` has them; without, bytes and text are sent.
        `partitioner`: a name or function as `ottla.client.producer.partitioners` has them.
        """
        parsed = ProducerSettings.of(bootstrap_servers, settings, names)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._engine = make_engine(
            parsed,
            wake=self._call_soon,
            waiting=TaskWaiting,
            partitioner=partitioner,
            key_serializer=key_serializer,
            value_serializer=value_serializer,
        )
        self._instruments = self._engine.the_instruments
        self._interceptors = make_interceptors(parsed, interceptors)
        self._accumulator = self._engine.accumulator
        self._try_send = self._accumulator.try_send
        self._accumulator.pause_at_bytes = YIELD_BYTES

    def _call_soon(self, function: Callable[[], None]) -> None:
        (self._loop or asyncio.get_running_loop()).call_soon(function)

    async def __aenter__(self) -> Producer[K, V]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is GeneratorExit:  # the coroutine is thrown away, and nothing may be awaited in it any more
            return
        await self._close(error)

    async def send(
        self,
        topic: str,
        value: V | None = None,
        key: K | None = None,
        *,
        partition: int | None = None,
        timestamp_ms: int | datetime | None = None,
        headers: HeadersLike | None = None,
    ) -> Delivery:
        """Append a record to what is sent next; `await` the delivery for where it was written.

        Waits, up to max.block.ms, only for the metadata of a new topic and for room in the buffer (BufferFullError).
        Raises what is wrong with the record itself at once: SerializationError, RecordTooLargeError,
        UnknownTopicError, AuthorizationError.
        """
        if self._loop is not get_running_loop():
            self._bind()
        if self._interceptors is not None:
            return await self._send_intercepted(topic, value, key, partition, timestamp_ms, headers)
        if self._accumulator.pause_due:  # before the record goes in: who is cancelled here has not sent it
            await self._pause()
        outcome = self._try_send(topic, value, key, partition, timestamp_ms, headers)
        if type(outcome) is not Delivery:
            return await self._send_slowly(outcome, topic, value, key, partition, timestamp_ms, headers)
        return outcome

    async def _pause(self) -> None:
        """Let the loop run once."""
        accumulator = self._accumulator
        accumulator.pause_due = False
        accumulator.pause_at_bytes = accumulator.appended_bytes + YIELD_BYTES
        await asyncio.sleep(0)

    async def _send_slowly(
        self,
        outcome: HeldRecord | Delivery | None,
        topic: str,
        value: V | None,
        key: K | None,
        partition: int | None,
        timestamp_ms: Any,
        headers: Any,
    ) -> Delivery:
        engine, accumulator = self._engine, self._accumulator
        self._bind()
        block_ms = engine.settings.max_block_ms
        deadline_ms = engine.cluster.now_ms() + block_ms
        while outcome is None:
            await engine.learn(topic, partition, max(0, deadline_ms - engine.cluster.now_ms()))
            outcome = self._try_send(topic, value, key, partition, timestamp_ms, headers)
        if isinstance(outcome, Delivery):
            return outcome
        reservation = await self._room(outcome.size_bytes + BATCH_OVERHEAD, deadline_ms)
        return accumulator.append_held(outcome, reservation)

    async def _room(self, size_bytes: int, deadline_ms: int) -> Reservation:
        """Wait in line for room in the buffer."""
        engine, accumulator = self._engine, self._accumulator
        room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        reservation = accumulator.reserve(size_bytes, lambda: _resolve(room))
        if reservation.is_granted:
            return reservation
        started_ms = engine.cluster.now_ms()
        try:
            async with asyncio.timeout(max(0, deadline_ms - started_ms) / 1000):
                await room
        except TimeoutError:
            if not reservation.is_granted:
                accumulator.give_back(reservation)
                if engine.metrics is not None:
                    engine.metrics.buffer_exhausted()
                raise buffer_full(engine) from None
        except BaseException:
            accumulator.give_back(reservation)
            raise
        if engine.metrics is not None:
            engine.metrics.waited_for_room((engine.cluster.now_ms() - started_ms) / 1000)
        return reservation

    async def _send_intercepted(
        self, topic: str, value: Any, key: Any, partition: int | None, timestamp_ms: Any, headers: Any
    ) -> Delivery:
        from ottla.client.producer.interceptors import ProducerRecord

        assert self._interceptors is not None
        record = self._interceptors.sending(ProducerRecord(topic, value, key, partition, timestamp_ms, headers))
        try:
            outcome = try_record(self._accumulator, record)
            if not isinstance(outcome, Delivery):
                outcome = await self._send_slowly(outcome, *record.arguments())
        except KafkaError as error:
            self._interceptors.refused(record, error)
            raise
        self._interceptors.watch(outcome)
        return outcome

    async def send_many(
        self,
        topic: str,
        values: Any,
        keys: Any = None,
        *,
        value_column: str | None = None,
        partition: int | None = None,
        timestamps_ms: Any = None,
        headers: HeadersLike | None = None,
    ) -> BulkDelivery:
        """Send a record for each of `values`, with the key and timestamp at the same place of `keys`, `timestamps_ms`.

        `values` may be any iterable, or an Arrow table or batch, or a polars or pandas frame: see
        `ottla.client.producer.bulk` for what its columns mean. `headers` are those of all records. When a record cannot
        be sent, `error.delivery` is the delivery of those before it.
        """
        from ottla.client.producer.bulk import Bulk

        self._bind()
        bulk = Bulk(self._engine, topic, values, keys, timestamps_ms, partition, headers, value_column)
        if bulk.needs_topic:
            await self._engine.learn(topic, partition, self._engine.settings.max_block_ms)
        engine = self._engine
        with bulk.telling():
            if self._interceptors is not None:
                for value, key, number, timestamp_ms, pairs in bulk.records():
                    bulk.delivery.add(await self._send_intercepted(topic, value, key, number, timestamp_ms, pairs), 1)
                return bulk.delivery
            for needed in bulk:
                bulk.append(await self._room(needed, engine.cluster.now_ms() + engine.settings.max_block_ms))
                await asyncio.sleep(0)
        return bulk.delivery

    def _bind(self) -> None:
        """The producer belongs to the loop it is first used on."""
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise IllegalStateError(
                "the producer was used on another event loop before.", hint="Make one producer per loop."
            )
        self._engine.start()

    async def flush(self, timeout_s: float | None = None) -> None:
        """Send what is buffered now, and wait until all of it is delivered or has failed.

        Raises why records were not delivered when nobody looked at their deliveries; KafkaTimeoutError.
        """
        self._bind()
        await self._engine.flush(timeout_s)

    async def partitions_for(self, topic: str, timeout_s: float | None = None) -> list[PartitionInfo]:
        """The partitions of a topic; waits for its metadata, up to max.block.ms by default."""
        self._bind()
        return await self._engine.partitions_for(topic, self._engine.timeout_ms(timeout_s))

    async def client_instance_id(self, timeout_s: float = 30.0) -> str:
        """The id under which the cluster files this producer's metrics (KIP-714)."""
        self._bind()
        return await self._engine.client_instance_id(timeout_s)

    async def init_transactions(self, timeout_s: float | None = None, *, keep_prepared: bool = False) -> None:
        """Fence earlier producers of the transactional id. The first transaction does it when this was not called."""
        self._bind()
        await self._engine.init_transactions(self._engine.timeout_ms(timeout_s), keep_prepared)

    async def begin_transaction(self) -> None:
        """Open a transaction; prefer `async with producer.transaction():`."""
        self._bind()
        await self._engine.begin_transaction(self._engine.timeout_ms(None))

    async def commit_transaction(self, timeout_s: float | None = None) -> None:
        """Deliver what is buffered and commit. After KafkaTimeoutError call it again to see the end."""
        self._bind()
        await self._engine.commit_transaction(self._engine.timeout_ms(timeout_s))

    async def abort_transaction(self, timeout_s: float | None = None) -> None:
        """Take back the transaction."""
        self._bind()
        await self._engine.abort_transaction(self._engine.timeout_ms(timeout_s))

    async def send_offsets_to_transaction(
        self,
        offsets: Mapping[TopicPartition, OffsetAndMetadata | int],
        group_metadata: ConsumerGroupMetadata | str,
        timeout_s: float | None = None,
    ) -> None:
        """Commit a consumer's positions with the transaction; `group_metadata` is `consumer.group_metadata()`."""
        self._bind()
        await self._engine.send_offsets(offsets, group_metadata, self._engine.timeout_ms(timeout_s))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """`async with producer.transaction():` commits at the end, or aborts when the block raises."""
        await self.begin_transaction()
        try:
            yield Transaction(self)
        except BaseException as error:
            await self._engine.abort_after(error)
            raise
        try:
            await self.commit_transaction()
        except KafkaError as error:
            if not isinstance(error, TimeoutError):
                await self._engine.abort_after(error)
            raise

    async def close(self, timeout_s: float | None = None) -> None:
        """Deliver what is buffered (an open transaction is aborted) and disconnect. Again costs nothing.

        What was not delivered after `timeout_s` fails with ClientClosedError; None waits as long as deliveries may
        take (delivery.timeout.ms). Raises why records were not delivered when nobody looked at their deliveries.
        """
        await self._close(None, timeout_s)

    async def _close(self, cause: BaseException | None, timeout_s: float | None = None) -> None:
        engine = self._engine
        if engine.is_closed or engine.is_forked:
            return
        try:
            await (engine.close(timeout_s) if cause is None else engine.close_after(cause, timeout_s))
        finally:
            if self._interceptors is not None:
                self._interceptors.close()


class Transaction:
    """An open transaction, as `async with producer.transaction() as transaction` gives it."""

    def __init__(self, producer: Producer[Any, Any]) -> None:
        self._producer = producer

    async def send_offsets(self, consumer: Any, offsets: Mapping[TopicPartition, Any] | None = None) -> None:
        """Commit the positions of a consumer with the transaction; `offsets` in place of where it is now."""
        await self._producer.send_offsets_to_transaction(
            await positions_of(consumer) if offsets is None else offsets, await group_of(consumer)
        )


class TaskWaiting:
    """Deliveries are awaited."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def wait(self, delivery: Delivery, timeout_s: float | None) -> None:
        """Nobody blocks the event loop."""
        raise IllegalStateError(
            "the record is still on its way.", hint="Await the delivery, or call result() when it is done."
        )

    def wait_async(self, delivery: Delivery) -> Iterator[Any]:
        """The iterator behind `await delivery`."""
        return awaited(delivery).__await__()


async def awaited(delivery: Delivery) -> Any:
    """The delivery's result, on any event loop."""
    if not delivery.done():
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        delivery.add_done_callback(lambda _: resolve_on(loop, done))
        await done
    return delivery.result()


def resolve_on(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
    """Complete a future from whichever thread this is."""
    try:
        running: object = asyncio.get_running_loop()
    except RuntimeError:
        running = None
    if running is loop:
        _resolve(future)
    elif not loop.is_closed():
        loop.call_soon_threadsafe(_resolve, future)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def make_engine(
    settings: ProducerSettings,
    *,
    wake: Callable[[Callable[[], None]], None],
    waiting: Any,
    partitioner: object,
    key_serializer: object,
    value_serializer: object,
) -> Engine:
    """The engine of a producer, with what users hand in."""
    from ottla.client.instruments import Instruments
    from ottla.client.metrics.producer import ProducerMetrics
    from ottla.client.network.cluster import Cluster

    random = Random()
    instruments = Instruments(
        settings,
        "producer",
        lambda: [("transactional_id", settings.transactional_id)],
        Cluster(settings, random=random),
    )
    engine = Engine(
        settings,
        instruments.cluster,
        wake=wake,
        waiting=waiting,
        partitioner=partitioner,
        random=random,
        metrics=ProducerMetrics(instruments.metrics),
        instruments=instruments,
    )
    engine.accumulator.key_serializer = serializer_of(key_serializer, settings.key_serializer, "key")
    engine.accumulator.value_serializer = serializer_of(value_serializer, settings.value_serializer, "value")
    return engine


def make_interceptors(settings: ProducerSettings, given: Iterable[object]) -> Interceptors | None:
    """None when there are none, so that nothing is asked per record."""
    found = [*settings.interceptor_classes, *given]
    if not found:
        return None
    from ottla.client.producer.interceptors import Interceptors

    return Interceptors(found)


def try_record(accumulator: Any, record: ProducerRecord) -> Delivery | HeldRecord | None:
    """`try_send` with a record's fields."""
    outcome: Delivery | HeldRecord | None = accumulator.try_send(*record.arguments())
    return outcome


def buffer_full(engine: Engine) -> BufferFullError:
    """The error of a caller that waited long enough."""
    settings = engine.settings
    return BufferFullError(
        f"buffer.memory ({settings.buffer_memory} bytes) was full for max.block.ms ({settings.max_block_ms} ms)."
    )


async def positions_of(consumer: Any) -> dict[TopicPartition, OffsetAndMetadata | int]:
    """Where a consumer is in each partition it has."""
    assignment = consumer.assignment()
    if isinstance(assignment, Awaitable):
        assignment = await assignment
    positions: dict[TopicPartition, OffsetAndMetadata | int] = {}
    for tp in assignment:
        position = consumer.position(tp)
        positions[tp] = await position if isinstance(position, Awaitable) else position
    return positions


async def group_of(consumer: Any) -> ConsumerGroupMetadata:
    """The group and member a consumer is."""
    group = consumer.group_metadata()
    found: ConsumerGroupMetadata = await group if isinstance(group, Awaitable) else group
    return found
