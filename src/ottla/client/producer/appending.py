"""From `send` to the batch: the few steps that every record takes, in the thread of whoever sends it.

A hot module: see docs/decisions/compiled-modules.md. Everything that happens per batch instead of per record is
elsewhere (`accumulator`, `sender`).

One lock guards all state here. It is taken for one append, never while something is waited for, and is handed in
together with clock and wake-up: nothing here knows threads, event loops or the time.

    gate        what `send` raises now: closed, forked, no transaction, a fatal error; None when it may go on
    topics      name → TopicQueue, once the metadata are known; a topic that is missing here takes the slow path
    pending     partitions that have something to send, oldest first; the sender looks at no others
    used_bytes  what all batches that are not completed hold, plus what was promised to those who wait for room
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import TYPE_CHECKING, Any, Protocol

from ottla.client.errors import KafkaError, RecordTooLargeError, UnknownTopicError
from ottla.client.producer.batches import (
    Delivery,
    HeldRecord,
    PartitionQueue,
    ProducerBatch,
    TopicQueue,
    Waiting,
    located,
)
from ottla.client.producer.contents import (
    BATCH_OVERHEAD,
    RECORD_OVERHEAD,
    Headers,
    as_bytes,
    as_partition,
    as_timestamp,
    headers_size,
    normalized_headers,
    not_serialized,
)
from ottla.core.ids import TopicPartition
from ottla.records.hashing import murmur2
from ottla.records.writer import BatchWriter

if TYPE_CHECKING:
    from types import TracebackType

_RECORD_OVERHEAD = RECORD_OVERHEAD
_BATCH_OVERHEAD = BATCH_OVERHEAD
STICKY = -1
"""A partitioner's answer: whichever partition is filled at the moment."""


class Lock(Protocol):
    """What is needed of a lock; `threading.Lock` has it."""

    def acquire(self) -> Any: ...
    def release(self) -> Any: ...
    def __enter__(self) -> Any: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> Any: ...


class Appender:
    """The accumulator as `send` sees it: takes records into batches while there is room."""

    def __init__(
        self,
        *,
        lock: Lock,
        now_ms: Callable[[], int],
        time: Callable[[], float],
        random: Callable[[], float],
        wake: Callable[[], None],
        waiting: Waiting,
        batch_bytes: int,
        growth_bytes: int,
        buffer_bytes: int,
        max_request_bytes: int,
        linger_ms: int,
    ) -> None:
        """`now_ms` is monotonic, `time` the wall clock in seconds; `wake` makes the sender look, from any thread."""
        self.lock = lock
        self._acquire = lock.acquire
        self._release = lock.release
        self.now_ms = now_ms
        self.time = time
        self.random = random
        self.wake = wake
        self.waiting = waiting
        self.batch_bytes = max(1, batch_bytes)
        self.growth_bytes = growth_bytes
        self.buffer_bytes = buffer_bytes
        self.max_record_bytes = max_request_bytes - BATCH_OVERHEAD
        self.linger_ms = linger_ms
        self.key_serializer: Any = None
        self.value_serializer: Any = None
        self.partitioner: Callable[[TopicQueue, bytes | None, bytes | None], int] | None = None
        self.ignores_keys = False
        self.record_appended: Callable[[TopicPartition], None] | None = None
        """Asked for each record of a transactional producer; raises when it may not be sent now."""
        self.gate: KafkaError | None = None
        self.topics: dict[str, TopicQueue] = {}
        self.pending: dict[PartitionQueue, None] = {}
        self.incomplete: set[ProducerBatch] = set()
        self.used_bytes = 0
        self.waiting_count = 0
        self.wake_wanted = True
        self.wake_missed = False
        self.next_look_ms = 1 << 62
        self.created_count = 0
        self.appended_bytes = 0
        self.pause_at_bytes = 1 << 62
        self.pause_due = False
        """Whether `appended_bytes` reached `pause_at_bytes`: time for others on the same event loop."""

    # --- per record

    def try_send(
        self, topic: str, value: Any, key: Any, partition: Any, timestamp_ms: Any, headers: Any
    ) -> Delivery | HeldRecord | None:
        """Append a record to its batch. None: the topic or partition is not known (yet); `HeldRecord`: no room."""
        if self.gate is not None:
            raise copy(self.gate)
        topic_queue = self.topics.get(topic)
        if topic_queue is None:
            return None
        record_headers: Any = () if headers is None else normalized_headers(headers)
        try:
            if self.key_serializer is not None:
                key = self.key_serializer.serialize(topic, key, record_headers)
            if self.value_serializer is not None:
                value = self.value_serializer.serialize(topic, value, record_headers)
        except Exception as error:
            raise not_serialized(topic, error) from error
        size_bytes = _RECORD_OVERHEAD
        if key is not None:
            if type(key) is not bytes:
                key = as_bytes(key, "key")
            size_bytes += len(key)
        if value is not None:
            if type(value) is not bytes:
                value = as_bytes(value, "value")
            size_bytes += len(value)
        if record_headers:
            size_bytes += headers_size(record_headers)
        if size_bytes > self.max_record_bytes or size_bytes > self.buffer_bytes - _BATCH_OVERHEAD:
            raise self.too_large(size_bytes)
        if timestamp_ms is None:
            seconds = self.time()
            stamp_ms = int(seconds * 1000)
        else:
            stamp_ms = as_timestamp(timestamp_ms)
        if partition is not None:
            number = self._explicit(topic_queue, partition)
            if number < 0:
                return None
        elif self.partitioner is not None:
            number = self.partitioner(topic_queue, key, value)
            if number >= topic_queue.count:
                raise self.no_such_partition(topic_queue, number)
        elif key is None or self.ignores_keys:
            number = -1
        else:
            number = (murmur2(key) & 0x7FFFFFFF) % topic_queue.count
        queue = None if number < 0 else topic_queue.partitions[number]
        self._acquire()
        try:
            if self.waiting_count or self.used_bytes + size_bytes + _BATCH_OVERHEAD > self.buffer_bytes:
                return HeldRecord(topic_queue, queue, stamp_ms, key, value, record_headers, size_bytes)
            return self._append(topic_queue, queue, stamp_ms, key, value, record_headers)
        finally:
            self._release()

    def append(
        self,
        topic: TopicQueue,
        queue: PartitionQueue | None,
        timestamp_ms: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
    ) -> Delivery:
        """Put a record into the open batch of a partition (None: of the sticky one). The lock is held, room is there.

        The gate is asked again: it may have closed since the caller looked.
        """
        return self._append(topic, queue, timestamp_ms, key, value, headers)

    def account(self, queue: PartitionQueue, batch: ProducerBatch, is_sticky: bool) -> None:
        """The batch has grown: count the bytes, wake the sender when it is ripe, turn to another sticky partition."""
        self._account(queue, batch, is_sticky)

    def _append(
        self,
        topic: TopicQueue,
        queue: PartitionQueue | None,
        timestamp_ms: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
    ) -> Delivery:
        if self.gate is not None:
            raise copy(self.gate)
        is_sticky = queue is None
        if queue is None:
            queue = topic.sticky
            if queue is None:
                queue = topic.switch(self.random)
        if self.record_appended is not None:
            self.record_appended(queue.tp)
        batch = queue.open_batch
        if batch is None:
            batch = self.open_batch(queue)
        assert batch.writer is not None
        index = batch.writer.append(timestamp_ms, key, value, headers)
        if index < 0:
            batch = self.open_batch(queue)
            assert batch.writer is not None
            index = batch.writer.append(timestamp_ms, key, value, headers)
        batch.records_count = index + 1
        self._account(queue, batch, is_sticky)
        delivery = Delivery.__new__(Delivery)  # compiled, this saves the boxing of arguments
        delivery.batch = batch
        delivery.index = index
        delivery.timestamp_ms = timestamp_ms
        return delivery

    def _account(self, queue: PartitionQueue, batch: ProducerBatch, is_sticky: bool) -> None:
        assert batch.writer is not None
        size_bytes = batch.writer.size_bytes
        added = size_bytes - batch.size_bytes
        batch.size_bytes = size_bytes
        queue.queued_bytes += added
        self.used_bytes += added
        self.appended_bytes += added
        if self.appended_bytes >= self.pause_at_bytes:
            self.pause_due = True
        if not batch.is_ripe and size_bytes >= self.batch_bytes:
            batch.is_ripe = True
            self.call_sender()
        if is_sticky:
            topic = queue.topic
            topic.sticky_bytes += added
            if topic.sticky_bytes >= self.batch_bytes and (batch.is_ripe or topic.sticky_bytes >= 2 * self.batch_bytes):
                topic.switch(self.random)

    def open_batch(self, queue: PartitionQueue) -> ProducerBatch:
        """A new batch behind the others of the partition. The one that was open is ripe now: nothing fits in."""
        previous = queue.open_batch
        now_ms = self.now_ms()
        self.created_count += 1
        batch = ProducerBatch(queue, BatchWriter(queue.topic.growth_bytes), now_ms, (self.created_count,))
        queue.batches.append(batch)
        queue.open_batch = batch
        if not queue.is_pending:
            queue.is_pending = True
            self.pending[queue] = None
        self.incomplete.add(batch)
        ready_ms = now_ms + self.linger_ms
        if previous is not None:
            previous.is_ripe = True
            ready_ms = now_ms
        if ready_ms < self.next_look_ms:
            self.next_look_ms = ready_ms
            self.call_sender()
        return batch

    def call_sender(self) -> None:
        """Make the sender look, unless it is busy (then it is told that it missed something) or was called before."""
        if self.wake_wanted:
            self.wake_wanted = False
            self.wake()
        else:
            self.wake_missed = True

    def notify(self, batch: ProducerBatch, index: int, callback: Callable[[Any], object], argument: Any) -> None:
        """Call `callback(argument)` when a record is delivered."""
        self.lock.acquire()
        try:
            batch, index = located(batch, index)
            if not batch.is_done:
                if batch.callbacks is None:
                    batch.callbacks = []
                batch.callbacks.append((index, callback, argument))
                return
        finally:
            self.lock.release()
        callback(argument)

    # --- refusals

    def _explicit(self, topic: TopicQueue, partition: Any) -> int:
        number = as_partition(partition)
        return number if number < topic.count else -1

    def no_such_partition(self, topic: TopicQueue, partition: int) -> UnknownTopicError:
        """The error for a number that a partitioner invented."""
        return UnknownTopicError(
            f"the partitioner chose partition {partition} of {topic.name}, which has {topic.count}.",
            hint="Mend the partitioner.",
        )

    def too_large(self, size_bytes: int) -> RecordTooLargeError:
        """The error for a record that no request or buffer can hold."""
        if size_bytes > self.max_record_bytes:
            limit = f"max.request.size ({self.max_record_bytes + BATCH_OVERHEAD})"
        else:
            limit = f"buffer.memory ({self.buffer_bytes})"
        return RecordTooLargeError(
            f"a record of {size_bytes} bytes is larger than {limit} allows.", hint="Raise it, or send smaller records."
        )
