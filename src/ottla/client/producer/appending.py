"""From `send` to the batch: the few steps that every record takes, in the thread of whoever sends it.

A leaf module of plain classes, so that it can be compiled (`appending.pxd` says with which types); it runs the same
uncompiled. Everything that happens per batch instead of per record is elsewhere (`accumulator`, `sender`).

One lock guards all state here. It is taken for one append, never while something is waited for, and is handed in
together with clock and wake-up: nothing here knows threads, event loops or the time.

    gate        what `send` raises now: closed, forked, no transaction, a fatal error; None when it may go on
    topics      name → TopicQueue, once the metadata are known; a topic that is missing here takes the slow path
    pending     partitions that have something to send, oldest first; the sender looks at no others
    used_bytes  what all batches that are not completed hold, plus what was promised to those who wait for room
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from datetime import datetime
from operator import index as as_index
from typing import TYPE_CHECKING, Any, Protocol

from ottla.client.errors import KafkaError, RecordTooLargeError, SerializationError, UnknownTopicError
from ottla.client.model import RecordMetadata
from ottla.core.ids import TopicPartition
from ottla.records.hashing import murmur2
from ottla.records.writer import BatchWriter

if TYPE_CHECKING:
    from types import TracebackType

Headers = tuple[tuple[str, bytes | None], ...] | list[tuple[str, bytes | None]]
HeadersLike = Mapping[str, bytes | str | None] | Iterable[tuple[str, bytes | str | None]]
Order = tuple[int, ...]

RECORD_OVERHEAD = 21
"""What a record may take besides its key, value and headers."""
BATCH_OVERHEAD = 61
HEADER_OVERHEAD = 10
_RECORD_OVERHEAD = RECORD_OVERHEAD
_BATCH_OVERHEAD = BATCH_OVERHEAD
LATEST_TIMESTAMP_MS = 1 << 62
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


class Waiting(Protocol):
    """How the caller of a delivery waits: as a thread, or as a coroutine."""

    def wait(self, delivery: Delivery, timeout_s: float | None) -> None:
        """Block until the delivery is done; KafkaTimeoutError, or IllegalStateError where one must not block."""

    def wait_async(self, delivery: Delivery) -> Any:
        """The iterator behind `await delivery`."""


class ProducerBatch:
    """Records on their way to one partition, and what became of them.

    Life: open (`writer` takes records) → closed (`data` holds the batch of the wire, perhaps sent several times) →
    done (`base_offset`, or `error`). A batch that was too large for the broker is never done itself: its `parts` are,
    as (first index, batch). `order` is where it stands among the batches of its partition: parts sort in the place of
    what they are parts of.
    """

    __slots__ = (
        "attempts",
        "base_offset",
        "base_sequence",
        "callbacks",
        "created_ms",
        "data",
        "error",
        "in_flight",
        "is_done",
        "is_ripe",
        "last_error",
        "leader_epoch",
        "log_append_time_ms",
        "order",
        "parts",
        "producer_epoch",
        "producer_id",
        "queue",
        "raw_bytes",
        "record_errors",
        "records_count",
        "retry_at_ms",
        "size_bytes",
        "tp",
        "transactional",
        "writer",
    )

    def __init__(
        self, queue: PartitionQueue, writer: BatchWriter | None, created_ms: int, order: tuple[int, ...]
    ) -> None:
        self.queue = queue
        self.tp: TopicPartition = queue.tp
        self.writer = writer
        self.created_ms = created_ms
        self.order = order
        self.records_count = 0
        self.size_bytes = 0
        self.raw_bytes = 0
        self.is_ripe = False
        self.is_done = False
        self.in_flight = False
        self.data: bytearray | None = None
        self.attempts = 0
        self.retry_at_ms = 0
        self.last_error: KafkaError | None = None
        self.leader_epoch = -1
        self.producer_id = -1
        self.producer_epoch = -1
        self.base_sequence = -1
        self.transactional = False
        self.base_offset = -1
        self.log_append_time_ms = -1
        self.error: KafkaError | None = None
        self.record_errors: dict[int, KafkaError] | None = None
        self.callbacks: list[tuple[int, Callable[[Any], object], Any]] | None = None
        self.parts: list[tuple[int, ProducerBatch]] | None = None

    def restamp(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        """The records get another place in the sequence of a producer; bytes are patched when it is sent again."""
        self.producer_id = producer_id
        self.producer_epoch = producer_epoch
        self.base_sequence = base_sequence

    def error_of(self, index: int) -> KafkaError | None:
        """Why the record was not written; None when it was."""
        if self.record_errors is not None and index in self.record_errors:
            return self.record_errors[index]
        return self.error

    def metadata_of(self, index: int, timestamp_ms: int) -> RecordMetadata:
        """Where the record of a batch that was written is."""
        return RecordMetadata(
            self.tp.topic,
            self.tp.partition,
            self.base_offset + index if self.base_offset >= 0 else -1,
            timestamp_ms if self.log_append_time_ms < 0 else self.log_append_time_ms,
        )


def located(batch: ProducerBatch, index: int) -> tuple[ProducerBatch, int]:
    """The batch that a record ended up in, and its index there."""
    while batch.parts is not None:
        for first, part in reversed(batch.parts):
            if index >= first:
                batch, index = part, index - first
                break
    return batch, index


class PartitionQueue:
    """What waits for one partition: batches in order, the last of which may be open; and what is in flight."""

    __slots__ = (
        "batches",
        "in_flight",
        "is_pending",
        "last_error_code",
        "open_batch",
        "queued_bytes",
        "topic",
        "tp",
    )

    def __init__(self, topic: TopicQueue, partition: int) -> None:
        self.topic = topic
        self.tp = TopicPartition(topic.name, partition)
        self.batches: deque[ProducerBatch] = deque()
        self.open_batch: ProducerBatch | None = None
        self.in_flight: list[ProducerBatch] = []
        self.is_pending = False
        self.queued_bytes = 0
        self.last_error_code = 0


class TopicQueue:
    """A topic's partitions, and the one that records without key go to at the moment (KIP-480, KIP-794)."""

    __slots__ = (
        "accumulator",
        "available",
        "count",
        "growth_bytes",
        "load_table",
        "name",
        "partitions",
        "sticky",
        "sticky_bytes",
    )

    def __init__(self, accumulator: Appender, name: str, growth_bytes: int) -> None:
        self.accumulator = accumulator
        self.name = name
        self.growth_bytes = growth_bytes
        self.count = 0
        self.available: tuple[int, ...] = ()
        self.partitions: list[PartitionQueue] = []
        self.sticky: PartitionQueue | None = None
        self.sticky_bytes = 0
        self.load_table: tuple[list[int], list[int]] | None = None
        """Running sums of weights, and the partition of each (adaptive partitioning)."""

    def update(self, count: int, available: tuple[int, ...]) -> None:
        """The metadata changed. Partitions that are gone keep what is queued, until it expires."""
        while len(self.partitions) < count:
            self.partitions.append(PartitionQueue(self, len(self.partitions)))
        if count != self.count or available != self.available:
            self.load_table = None
            if self.sticky is not None and self.sticky.tp.partition not in available:
                self.sticky = None
        self.count = count
        self.available = available

    def switch(self, random: Callable[[], float]) -> PartitionQueue:
        """Go on with another partition: any available one, or one with little to do when the load is known."""
        table = self.load_table
        if table is not None:
            sums, partitions = table
            point = random() * sums[-1]
            index = 0
            while sums[index] <= point:
                index += 1
            chosen = partitions[index]
        elif self.available:
            chosen = self.available[int(random() * len(self.available))]
        else:
            chosen = int(random() * self.count)
        self.sticky_bytes = 0
        self.sticky = queue = self.partitions[chosen]
        return queue


class Delivery:
    """What becomes of a sent record: `result()` for threads, `await` for coroutines, callbacks for both.

    Only a reference to the record's batch: completion happens once per batch.
    """

    __slots__ = ("batch", "index", "timestamp_ms")

    def __init__(self, batch: ProducerBatch, index: int, timestamp_ms: int) -> None:
        self.batch = batch
        self.index = index
        self.timestamp_ms = timestamp_ms

    def done(self) -> bool:
        """Whether the record was written, or could not be."""
        return located(self.batch, self.index)[0].is_done

    def result(self, timeout_s: float | None = None) -> RecordMetadata:
        """Where the record was written. Waits; KafkaTimeoutError after `timeout_s`, or the reason it was not written.

        On the asyncio producer it does not wait (`await` the delivery): IllegalStateError while there is no result.
        """
        error = self.exception(timeout_s)
        if error is not None:
            raise copy(error)
        return self.metadata()

    def metadata(self) -> RecordMetadata:
        """Topic, partition, and where in it the record is: offset -1 as long as that is not known."""
        batch, index = located(self.batch, self.index)
        return batch.metadata_of(index, self.timestamp_ms)

    def exception(self, timeout_s: float | None = None) -> KafkaError | None:
        """Why the record was not written, None when it was. Waits as `result` does."""
        batch, index = located(self.batch, self.index)
        if not batch.is_done:
            self.batch.queue.topic.accumulator.waiting.wait(self, timeout_s)
            batch, index = located(self.batch, self.index)
        return batch.error_of(index)

    def add_done_callback(self, callback: Callable[[Delivery], object]) -> None:
        """Call `callback(delivery)` when it is done, or now when it is already.

        It runs where the sender runs, in the order of sending, and holds it up: be quick there.
        """
        self.batch.queue.topic.accumulator.notify(self.batch, self.index, callback, self)

    def __await__(self) -> Any:
        return self.batch.queue.topic.accumulator.waiting.wait_async(self)

    def __repr__(self) -> str:
        batch, index = located(self.batch, self.index)
        if not batch.is_done:
            return f"<Delivery to {batch.queue.tp}: on its way>"
        error = batch.error_of(index)
        if error is not None:
            return f"<Delivery to {batch.queue.tp}: {error}>"
        return f"<Delivery to {batch.queue.tp} at offset {batch.metadata_of(index, 0).offset}>"


class HeldRecord:
    """A record, serialized and with its partition chosen, that found the buffer full."""

    __slots__ = ("headers", "key", "partition", "size_bytes", "timestamp_ms", "topic", "value")

    def __init__(
        self,
        topic: TopicQueue,
        partition: PartitionQueue | None,
        timestamp_ms: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        size_bytes: int,
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.timestamp_ms = timestamp_ms
        self.key = key
        self.value = value
        self.headers = headers
        self.size_bytes = size_bytes


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
        if self.key_serializer is not None:
            key = self.key_serializer.serialize(topic, key, record_headers)
        if self.value_serializer is not None:
            value = self.value_serializer.serialize(topic, value, record_headers)
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
        number = int(partition)
        if number < 0:
            raise UnknownTopicError(
                f"there is no partition {number}.", hint="Leave the partition out to have one chosen."
            )
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


def as_bytes(value: Any, what: str) -> bytes:
    """A key or value that was not serialized: bytes as they are, text as UTF-8."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise SerializationError(
        f"a {what} of type {type(value).__name__} cannot be sent as it is.",
        hint=f'Send bytes or text, or give the producer a {what}_serializer, for example {what}_serializer="json".',
    )


def as_timestamp(timestamp: Any) -> int:
    """Milliseconds since 1970 of an int-like or a datetime (a naive one is local time, as everywhere in Python)."""
    if isinstance(timestamp, datetime):
        return int(timestamp.timestamp() * 1000)
    try:
        timestamp_ms = as_index(timestamp)
    except TypeError:
        raise SerializationError(
            f"a timestamp of type {type(timestamp).__name__} cannot be used.", hint="Give milliseconds or a datetime."
        ) from None
    if not 0 <= timestamp_ms < LATEST_TIMESTAMP_MS:
        raise SerializationError(f"{timestamp_ms} is no timestamp in milliseconds.")
    return timestamp_ms


def normalized_headers(headers: Any) -> list[tuple[str, bytes | None]]:
    """Headers given as a mapping or as pairs, as a list of pairs; text becomes UTF-8."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    result: list[tuple[str, bytes | None]] = []
    try:
        for name, content in pairs:
            if not isinstance(name, str):
                raise SerializationError(f"the name of a header must be text, not {type(name).__name__}.")
            result.append((name, content if content is None or type(content) is bytes else as_bytes(content, "header")))
    except (TypeError, ValueError) as error:
        if isinstance(error, SerializationError):
            raise
        raise SerializationError(
            f"headers are a mapping or pairs of a name and bytes, not {type(headers).__name__}."
        ) from None
    return result


def headers_size(headers: Headers) -> int:
    """An upper bound of what headers take in a batch."""
    size = 0
    for name, content in headers:
        size += HEADER_OVERHEAD + 4 * len(name) + (0 if content is None else len(content))
    return size
