"""Batches on their way, the queues they stand in, and the deliveries that wait for them.

Plain state without a lock of its own: the accumulator's guards it.

A hot module: see docs/decisions/compiled-modules.md.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from copy import copy
from typing import Any, Protocol

from ottla.client.errors import KafkaError
from ottla.client.model import RecordMetadata
from ottla.client.producer.contents import Headers
from ottla.core.ids import TopicPartition
from ottla.records.writer import BatchWriter


class DeliveryQueue(Protocol):
    """The accumulator, as a delivery knows it."""

    @property
    def waiting(self) -> Waiting: ...

    @property
    def now_ms(self) -> Callable[[], int]: ...

    def notify(self, batch: ProducerBatch, index: int, callback: Callable[[Any], object], argument: Any) -> None:
        """Call `callback(argument)` when a record is delivered."""

    def looked_at(self, batch: ProducerBatch, first: int, count: int) -> None:
        """Somebody was told why these records were not written."""


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

    def __init__(self, accumulator: DeliveryQueue, name: str, growth_bytes: int) -> None:
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
        error = batch.error_of(index)
        if error is not None:
            self.batch.queue.topic.accumulator.looked_at(batch, index, 1)
        return error

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
