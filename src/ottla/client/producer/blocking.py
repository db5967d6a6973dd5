"""The producer for threads: the same parts as the asyncio one, whose loop runs in the process's background thread.

`send` appends in the caller's thread and does not meet the loop, except to wake it once per batch.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Unpack

from ottla.client.errors import IllegalStateError, KafkaError, KafkaTimeoutError
from ottla.client.instruments import Instrumented
from ottla.client.model import ConsumerGroupMetadata, OffsetAndMetadata, PartitionInfo, TopicPartition
from ottla.client.portal import portal
from ottla.client.producer.accumulator import Reservation
from ottla.client.producer.batches import Delivery, HeldRecord
from ottla.client.producer.client import awaited, buffer_full, make_engine, make_interceptors, try_record
from ottla.client.producer.contents import BATCH_OVERHEAD, HeadersLike, K, V
from ottla.client.producer.engine import EXIT_TIMEOUT_S, Engine
from ottla.client.settings import ProducerSettings

if TYPE_CHECKING:
    from ottla.client.producer.bulk import BulkDelivery
    from ottla.client.settings.names import ProducerNames
    from ottla.serde.base import SerializerLike


class Producer(Instrumented, Generic[K, V]):
    """Sends records. Make one, use it from all threads, close it: `with ottla.Producer(...) as producer:`.

    `send` returns at once with a `Delivery`; its `result()`, or `flush()`, says that records were written. Settings are
    Kafka's: `linger_ms=5`, or `{"linger.ms": 5}` as second argument.
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
        self._portal = portal()
        self._engine = make_engine(
            parsed,
            wake=self._portal.call_soon,
            waiting=ThreadWaiting,
            partitioner=partitioner,
            key_serializer=key_serializer,
            value_serializer=value_serializer,
        )
        self._instruments = self._engine.the_instruments
        self._interceptors = make_interceptors(parsed, interceptors)
        self._accumulator = self._engine.accumulator
        self._try_send = self._accumulator.try_send
        self._portal.register(self._engine)
        self._portal.close_forgotten(self, self._instruments.is_working, self._engine.exit_now)

    def __enter__(self) -> Producer[K, V]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(error)

    def send(
        self,
        topic: str,
        value: V | None = None,
        key: K | None = None,
        *,
        partition: int | None = None,
        timestamp_ms: int | datetime | None = None,
        headers: HeadersLike | None = None,
    ) -> Delivery:
        """Append a record to what is sent next; the delivery's `result()` says where it was written.

        Blocks, up to max.block.ms, only for the metadata of a new topic and for room in the buffer (BufferFullError).
        Raises what is wrong with the record itself at once: SerializationError, RecordTooLargeError,
        UnknownTopicError, AuthorizationError.
        """
        if self._interceptors is not None:
            return self._send_intercepted(topic, value, key, partition, timestamp_ms, headers)
        outcome = self._try_send(topic, value, key, partition, timestamp_ms, headers)
        if type(outcome) is Delivery:
            return outcome
        return self._send_slowly(outcome, topic, value, key, partition, timestamp_ms, headers)

    def _send_slowly(
        self,
        outcome: HeldRecord | Delivery | None,
        topic: str,
        value: V | None,
        key: K | None,
        partition: int | None,
        timestamp_ms: Any,
        headers: Any,
    ) -> Delivery:
        engine = self._engine
        deadline_ms = engine.cluster.now_ms() + engine.settings.max_block_ms
        while outcome is None:
            left_ms = max(0, deadline_ms - engine.cluster.now_ms())
            self._portal.run(engine.learn(topic, partition, left_ms))
            outcome = self._try_send(topic, value, key, partition, timestamp_ms, headers)
        if isinstance(outcome, Delivery):
            return outcome
        reservation = self._room(outcome.size_bytes + BATCH_OVERHEAD, deadline_ms)
        return self._accumulator.append_held(outcome, reservation)

    def _room(self, size_bytes: int, deadline_ms: int) -> Reservation:
        """Wait in line for room in the buffer."""
        engine, accumulator = self._engine, self._accumulator
        granted = threading.Event()
        reservation = accumulator.reserve(size_bytes, granted.set)
        if reservation.is_granted:
            return reservation
        started_ms = engine.cluster.now_ms()
        try:
            if not on_loop_thread(self._portal.loop):
                granted.wait(max(0, deadline_ms - started_ms) / 1000)
        except BaseException:
            accumulator.give_back(reservation)
            raise
        if not reservation.is_granted:
            accumulator.give_back(reservation)
            if engine.metrics is not None:
                engine.metrics.buffer_exhausted()
            raise buffer_full(engine)
        if engine.metrics is not None:
            engine.metrics.waited_for_room((engine.cluster.now_ms() - started_ms) / 1000)
        return reservation

    def _send_intercepted(
        self, topic: str, value: Any, key: Any, partition: int | None, timestamp_ms: Any, headers: Any
    ) -> Delivery:
        from ottla.client.producer.interceptors import ProducerRecord

        assert self._interceptors is not None
        record = self._interceptors.sending(ProducerRecord(topic, value, key, partition, timestamp_ms, headers))
        try:
            outcome = try_record(self._accumulator, record)
            if not isinstance(outcome, Delivery):
                outcome = self._send_slowly(outcome, *record.arguments())
        except KafkaError as error:
            self._interceptors.refused(record, error)
            raise
        self._interceptors.watch(outcome)
        return outcome

    def send_many(
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

        engine = self._engine
        bulk = Bulk(engine, topic, values, keys, timestamps_ms, partition, headers, value_column)
        if bulk.needs_topic:
            self._portal.run(engine.learn(topic, partition, engine.settings.max_block_ms))
        with bulk.telling():
            if self._interceptors is not None:
                for value, key, number, timestamp_ms, pairs in bulk.records():
                    bulk.delivery.add(self._send_intercepted(topic, value, key, number, timestamp_ms, pairs), 1)
                return bulk.delivery
            for needed in bulk:
                bulk.append(self._room(needed, engine.cluster.now_ms() + engine.settings.max_block_ms))
        return bulk.delivery

    def flush(self, timeout_s: float | None = None) -> None:
        """Send what is buffered now, and wait until all of it is delivered or has failed.

        Raises why records were not delivered when nobody looked at their deliveries; KafkaTimeoutError.
        """
        self._portal.run(self._engine.flush(timeout_s))

    def partitions_for(self, topic: str, timeout_s: float | None = None) -> list[PartitionInfo]:
        """The partitions of a topic; waits for its metadata, up to max.block.ms by default."""
        return self._portal.run(self._engine.partitions_for(topic, self._engine.timeout_ms(timeout_s)))

    def client_instance_id(self, timeout_s: float = 30.0) -> str:
        """The id under which the cluster files this producer's metrics (KIP-714)."""
        return self._portal.run(self._engine.client_instance_id(timeout_s))

    def init_transactions(self, timeout_s: float | None = None, *, keep_prepared: bool = False) -> None:
        """Fence earlier producers of the transactional id. The first transaction does it when this was not called."""
        self._portal.run(self._engine.init_transactions(self._engine.timeout_ms(timeout_s), keep_prepared))

    def begin_transaction(self) -> None:
        """Open a transaction; prefer `with producer.transaction():`."""
        self._portal.run(self._engine.begin_transaction(self._engine.timeout_ms(None)))

    def commit_transaction(self, timeout_s: float | None = None) -> None:
        """Deliver what is buffered and commit. After KafkaTimeoutError call it again to see the end."""
        self._portal.run(self._engine.commit_transaction(self._engine.timeout_ms(timeout_s)))

    def abort_transaction(self, timeout_s: float | None = None) -> None:
        """Take back the transaction."""
        self._portal.run(self._engine.abort_transaction(self._engine.timeout_ms(timeout_s)))

    def send_offsets_to_transaction(
        self,
        offsets: Mapping[TopicPartition, OffsetAndMetadata | int],
        group_metadata: ConsumerGroupMetadata | str,
        timeout_s: float | None = None,
    ) -> None:
        """Commit a consumer's positions with the transaction; `group_metadata` is `consumer.group_metadata()`."""
        self._portal.run(self._engine.send_offsets(offsets, group_metadata, self._engine.timeout_ms(timeout_s)))

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """`with producer.transaction():` commits at the end, or aborts when the block raises."""
        self.begin_transaction()
        try:
            yield Transaction(self)
        except BaseException as error:
            self._portal.run(self._engine.abort_after(error))
            raise
        try:
            self.commit_transaction()
        except KafkaError as error:
            if not isinstance(error, TimeoutError):
                self._portal.run(self._engine.abort_after(error))
            raise

    def close(self, timeout_s: float | None = None) -> None:
        """Deliver what is buffered (an open transaction is aborted) and disconnect. Again costs nothing.

        What was not delivered after `timeout_s` fails with ClientClosedError; None waits as long as deliveries may
        take (delivery.timeout.ms). Raises why records were not delivered when nobody looked at their deliveries.
        """
        self._close(None, timeout_s)

    def _close(self, cause: BaseException | None, timeout_s: float | None = None) -> None:
        engine = self._engine
        if engine.is_closed or engine.is_forked:
            return
        try:
            if isinstance(cause, KeyboardInterrupt):
                timeout_s = EXIT_TIMEOUT_S  # whoever pressed Ctrl-C does not want to wait for brokers that are away
            self._portal.run(engine.close(timeout_s) if cause is None else engine.close_after(cause, timeout_s))
        finally:
            if self._interceptors is not None:
                self._interceptors.close()


class Transaction:
    """An open transaction, as `with producer.transaction() as transaction` gives it."""

    def __init__(self, producer: Producer[Any, Any]) -> None:
        self._producer = producer

    def send_offsets(self, consumer: Any, offsets: Mapping[TopicPartition, Any] | None = None) -> None:
        """Commit the positions of a consumer with the transaction; `offsets` in place of where it is now."""
        if offsets is None:
            offsets = {tp: consumer.position(tp) for tp in consumer.assignment()}
        self._producer.send_offsets_to_transaction(offsets, consumer.group_metadata())


class ThreadWaiting:
    """Whoever wants a delivery's result blocks."""

    def __init__(self, engine: Engine) -> None:
        self._loop = portal().loop
        self._engine = engine

    def wait(self, delivery: Delivery, timeout_s: float | None) -> None:
        """KafkaTimeoutError when the time is over."""
        if on_loop_thread(self._loop):
            raise IllegalStateError(
                "result() in a callback would wait for itself.", hint="Use add_done_callback, or another thread."
            )
        if self._engine.is_forked:
            raise self._engine.forked_error()
        done = threading.Event()
        delivery.add_done_callback(lambda _: done.set())
        if not done.wait(timeout_s):
            raise KafkaTimeoutError(f"the record was not delivered within {timeout_s} s; it is still on its way.")

    def wait_async(self, delivery: Delivery) -> Iterator[Any]:
        """The iterator behind `await delivery`, which works on any event loop."""
        return awaited(delivery).__await__()


def on_loop_thread(loop: Any) -> bool:
    """Whether this is the background thread, as in a callback."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
