"""Where records wait to be sent: batches per partition, a bounded buffer, and the order they leave in.

A core without I/O. Users append (see `appending`), the sender drains; everything that happens once per batch is here.

- A batch is *ripe* with `batch.size` bytes, and ready to go when it is ripe, has lingered, comes back for another
  attempt, or when somebody is in a hurry (flush, close, callers that wait for room). While the broker is busy with
  what it has, a ripe batch goes on growing up to what one request may carry: under load batches become large by
  themselves, and what a batch costs is paid less often.
- A node with one ready batch is sent the first batches of all its partitions, up to `max.request.size`.
- Order within a partition: a batch that comes back takes its old place (`ProducerBatch.order`), and goes again only
  when nothing older of the partition is on its way.
- Memory: `used_bytes` is what all incomplete batches hold plus what was promised. Callers who find the buffer full
  queue up, and are served in their order before anybody else.

All methods but those named `*_locked` take the lock themselves. Callbacks of deliveries run outside of it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

from ottla.client.errors import KafkaError
from ottla.client.producer.appending import Appender
from ottla.client.producer.batches import Delivery, HeldRecord, PartitionQueue, ProducerBatch, TopicQueue
from ottla.client.producer.contents import BATCH_OVERHEAD, RECORD_OVERHEAD
from ottla.core.ids import TopicPartition

logger = logging.getLogger("ottla.client")

NEVER_MS = 1 << 62

MOST_UNSEEN = 1000
"""Of how many failed batches it is kept in mind that nobody has looked at them."""


class Reservation:
    """A place in the line of those who wait for room."""

    __slots__ = ("grant", "is_granted", "size_bytes")

    def __init__(self, size_bytes: int, grant: Callable[[], None]) -> None:
        self.size_bytes = size_bytes
        self.grant = grant
        self.is_granted = False


class Admission(Protocol):
    """Who may be sent at the moment, for producers with an id; `ProducerState` is the real one."""

    def may_send(self, tp: TopicPartition) -> bool: ...
    def must_hold_back(self, tp: TopicPartition) -> bool: ...
    def may_resend(self, batch: ProducerBatch) -> bool: ...
    def stamp(self, batch: ProducerBatch) -> None: ...


class Drained(NamedTuple):
    """What to send now, and when to look again."""

    requests: list[tuple[int, list[ProducerBatch]]]
    """Node and the batches of one request to it, at most one of each partition."""
    look_again_ms: int
    unknown_topics: set[str]
    """Topics with something to send to a partition whose leader is not known."""
    waiting_nodes: set[int]
    """Nodes for which something is ready, but that take no request at the moment."""


class Accumulator(Appender):
    """All that is not delivered yet."""

    def __init__(
        self, *, adaptive: bool = True, availability_timeout_ms: int = 0, max_request_bytes: int, **appending: Any
    ) -> None:
        super().__init__(max_request_bytes=max_request_bytes, **appending)
        self.max_request_bytes = max_request_bytes
        self.adaptive = adaptive
        self.availability_timeout_ms = availability_timeout_ms
        self.flushing = 0
        self.is_closed = False
        self.admission: Admission | None = None
        self._line: deque[Reservation] = deque()
        self._ready_since_ms: dict[int, int] = {}
        """Nodes that something has been ready for, and since when they take nothing."""
        self._weighed: set[TopicQueue] = set()
        self.one_by_one = False
        """Without sequence numbers, only one batch of a partition may be on its way if order must hold: a new leader
        could have the second before the old one has refused the first.
        """
        self.tells_failures = True
        """Failures that nobody looks at are kept for `take_unseen` (a transaction's commit tells them anyway)."""
        self._unseen: dict[ProducerBatch, set[int]] = {}
        """Failed batches, and which of their records somebody asked for."""

    # --- topics

    def learn_topic(self, name: str, count: int, available: tuple[int, ...]) -> TopicQueue:
        """The metadata of a topic came, for the first time or again."""
        with self.lock:
            topic = self.topics.get(name)
            if topic is None:
                topic = TopicQueue(self, name, self.growth_bytes)
                topic.update(count, available)
                self.topics[name] = topic
            else:
                topic.update(count, available)
            return topic

    # --- room

    def reserve(self, size_bytes: int, grant: Callable[[], None]) -> Reservation:
        """Take a place in the line for room; `grant` is called (under the lock) when it was not free at once.

        Whoever holds a granted reservation appends with it, or gives it back.
        """
        with self.lock:
            reservation = Reservation(size_bytes, grant)
            if not self._line and self.used_bytes + size_bytes <= self.buffer_bytes:
                self.used_bytes += size_bytes
                reservation.is_granted = True
            else:
                self._line.append(reservation)
                self.waiting_count += 1
                self.call_sender()
            return reservation

    def give_back(self, reservation: Reservation) -> None:
        """The caller does not wait any longer, or does not need what it was granted."""
        with self.lock:
            if reservation.is_granted:
                self.used_bytes -= reservation.size_bytes
            else:
                self._line.remove(reservation)
                self.waiting_count -= 1
            self._grant_locked()

    def append_held(self, record: HeldRecord, reservation: Reservation) -> Delivery:
        """Append what had to wait, in the room that was granted."""
        with self.lock:
            self.used_bytes -= reservation.size_bytes
            try:
                return self.append(
                    record.topic, record.partition, record.timestamp_ms, record.key, record.value, record.headers
                )
            finally:
                self._grant_locked()

    def _release_locked(self, size_bytes: int) -> None:
        self.used_bytes -= size_bytes
        self._grant_locked()

    def _grant_locked(self) -> None:
        line = self._line
        while line and self.used_bytes + line[0].size_bytes <= self.buffer_bytes:
            reservation = line.popleft()
            self.waiting_count -= 1
            self.used_bytes += reservation.size_bytes
            reservation.is_granted = True
            reservation.grant()

    # --- draining

    def drain(
        self,
        now_ms: int,
        leader_of: Callable[[TopicPartition], tuple[int, int] | None],
        room_of: Callable[[int], int],
    ) -> Drained:
        """Take what should leave now. `room_of(node)`: how many more requests the node takes at once.

        `leader_of` gives node and leader epoch.
        """
        with self.lock:
            self.wake_wanted = False
            self.wake_missed = False
            self.next_look_ms = NEVER_MS
            hurry = bool(self.flushing or self.is_closed or self.waiting_count)
            by_node: dict[int, list[tuple[PartitionQueue, int]]] = {}
            ready_nodes: set[int] = set()
            unknown: set[str] = set()
            look_again_ms = NEVER_MS
            for queue in self.pending:
                leader = leader_of(queue.tp)
                if leader is None:
                    unknown.add(queue.tp.topic)
                    continue
                node, epoch = leader
                ready_ms = self._ready_ms(queue, epoch, hurry, now_ms)
                if ready_ms <= now_ms:
                    ready_nodes.add(node)
                elif ready_ms < look_again_ms:
                    look_again_ms = ready_ms
                if ready_ms <= now_ms or (ready_ms < NEVER_MS and not queue.batches[0].attempts):
                    by_node.setdefault(node, []).append((queue, epoch))
            if self.adaptive:
                self._weigh(by_node, now_ms)
            requests: list[tuple[int, list[ProducerBatch]]] = []
            waiting: set[int] = set()
            for node in ready_nodes:
                room = room_of(node)
                if room <= 0:
                    waiting.add(node)
                    self._ready_since_ms.setdefault(node, now_ms)
                    continue
                self._ready_since_ms.pop(node, None)
                self._drain_node(node, by_node[node], room, requests, hurry)
            return Drained(requests, look_again_ms, unknown, waiting)

    def rest(self, next_look_ms: int, wake_wanted: bool) -> None:
        """The sender has looked, and will again at `next_look_ms` by itself; `wake_wanted`: call it when needed before.

        Also closes the gap between looking and resting: what became ripe in between is looked at at once.
        """
        with self.lock:
            if wake_wanted and self.wake_missed:
                self.wake()
                return
            self.next_look_ms = next_look_ms
            self.wake_wanted = wake_wanted

    def _ready_ms(self, queue: PartitionQueue, epoch: int, hurry: bool, now_ms: int) -> int:
        """When the first batch of a partition should leave, NEVER_MS when something else has to happen before."""
        batch = queue.batches[0]
        admission = self.admission
        if admission is not None and not admission.may_send(queue.tp):
            return NEVER_MS
        if batch.data is not None:  # it was sent before, or is a part of what was sent
            if any(other.order < batch.order for other in queue.in_flight):
                return NEVER_MS
            if admission is not None and not admission.may_resend(batch):
                return NEVER_MS
            if batch.leader_epoch >= 0 and epoch > batch.leader_epoch:
                return now_ms  # another leader: nothing says that it is as unwell as the last one
            return batch.retry_at_ms
        if admission is not None and admission.must_hold_back(queue.tp):
            return NEVER_MS
        if self.one_by_one and queue.in_flight:
            return NEVER_MS
        if hurry or batch.is_ripe or len(queue.batches) > 1:
            return now_ms
        return batch.created_ms + self.linger_ms

    def _drain_node(
        self,
        node: int,
        queues: list[tuple[PartitionQueue, int]],
        room: int,
        requests: list[tuple[int, list[ProducerBatch]]],
        hurry: bool,
    ) -> None:
        """Fill requests with the first batches of the node's partitions, as long as something is ready."""
        while room > 0:
            taken: list[ProducerBatch] = []
            size_bytes = 0
            left: list[tuple[PartitionQueue, int]] = []
            for queue, epoch in queues:
                batch = queue.batches[0]
                if taken and size_bytes + batch.size_bytes > self.max_request_bytes:
                    left.append((queue, epoch))
                    continue
                size_bytes += batch.size_bytes
                batch.leader_epoch = epoch
                self._take_locked(queue, batch)
                taken.append(batch)
                if queue.is_pending and self._may_follow(queue, hurry):
                    left.append((queue, epoch))
            requests.append((node, taken))
            room -= 1
            if not left:
                return
            # What did not fit goes first, here and the next time, so that no partition starves another.
            queues = left
        for queue, _ in reversed(queues):
            if queue.is_pending:
                del self.pending[queue]
        self.pending = {**dict.fromkeys(queue for queue, _ in queues if queue.is_pending), **self.pending}

    def _may_follow(self, queue: PartitionQueue, hurry: bool) -> bool:
        """Whether another batch of the partition may leave right behind the one just taken."""
        batch = queue.batches[0]
        if batch.data is not None or (self.admission is not None and self.admission.must_hold_back(queue.tp)):
            return False
        return hurry or batch.is_ripe or len(queue.batches) > 1

    def _take_locked(self, queue: PartitionQueue, batch: ProducerBatch) -> None:
        queue.batches.popleft()
        if batch is queue.open_batch:
            queue.open_batch = None
        queue.queued_bytes -= batch.size_bytes
        queue.in_flight.append(batch)
        batch.in_flight = True
        if self.admission is not None:
            self.admission.stamp(batch)
        if not queue.batches:
            queue.is_pending = False
            del self.pending[queue]

    def _weigh(self, by_node: dict[int, list[tuple[PartitionQueue, int]]], now_ms: int) -> None:
        """How much each partition of a topic has to do, for the choice of the next sticky one (KIP-794)."""
        node_of = {queue: node for node, queues in by_node.items() for queue, _ in queues}
        topics = {queue.topic for queue in node_of}
        for topic in self._weighed - topics:
            topic.load_table = None
        self._weighed = topics
        for topic in topics:
            if topic.count < 2:
                continue
            sizes: list[int] = []
            partitions: list[int] = []
            for partition in topic.available:
                queue = topic.partitions[partition]
                node = node_of.get(queue, -1)
                waited_ms = now_ms - self._ready_since_ms.get(node, now_ms)
                if 0 < self.availability_timeout_ms < waited_ms:
                    continue
                sizes.append(queue.queued_bytes // self.batch_bytes)
                partitions.append(partition)
            topic.load_table = load_table(sizes, partitions, len(topic.available))

    # --- outcomes

    def closed_batch(self, batch: ProducerBatch, data: bytearray) -> None:
        """A batch was closed, perhaps compressed: from now on it takes what its bytes take."""
        with self.lock:
            batch.writer = None
            batch.data = data
            batch.raw_bytes = batch.size_bytes
            freed = batch.size_bytes - len(data)
            batch.size_bytes = len(data)
            self._release_locked(freed)

    def returned(self, batch: ProducerBatch) -> None:
        """The node has answered, or never will: the batch is not on its way any more."""
        with self.lock:
            batch.in_flight = False
            if batch in batch.queue.in_flight:
                batch.queue.in_flight.remove(batch)
            if batch.is_done:
                self._forget_locked(batch)

    def requeue(self, batch: ProducerBatch) -> None:
        """Send the batch again, from its old place."""
        with self.lock:
            self._insert_locked(batch)

    def split_limit(self, batch: ProducerBatch) -> int:
        """How large the parts of a batch that the broker found too large may be, uncompressed."""
        if batch.raw_bytes > self.batch_bytes and len(batch.order) == 1:
            return self.batch_bytes
        return max(BATCH_OVERHEAD + RECORD_OVERHEAD, batch.raw_bytes // 2)

    def split(
        self, batch: ProducerBatch, datas: Iterable[tuple[bytearray, int]], limit_bytes: int
    ) -> list[ProducerBatch]:
        """Put parts of a batch that was too large in its place. `datas`: closed batches and how many records each.

        From now on batches of the topic do not grow beyond `batch.size`.
        """
        with self.lock:
            batch.queue.topic.growth_bytes = min(self.batch_bytes, limit_bytes)
            parts: list[tuple[int, ProducerBatch]] = []
            first = 0
            for number, (data, count) in enumerate(datas):
                part = ProducerBatch(batch.queue, None, batch.created_ms, (*batch.order, number))
                part.data = data
                part.size_bytes = len(data)
                part.raw_bytes = limit_bytes
                part.records_count = count
                part.is_ripe = True
                part.attempts = batch.attempts
                part.transactional = batch.transactional
                parts.append((first, part))
                first += count
            assert first == batch.records_count
            self.used_bytes += sum(part.size_bytes for _, part in parts)
            self.incomplete.discard(batch)
            self.incomplete.update(part for _, part in parts)
            for _, part in parts:
                self._insert_locked(part)
            for index, callback, argument in batch.callbacks or ():
                for first, part in reversed(parts):
                    if index >= first:
                        part.callbacks = part.callbacks or []
                        part.callbacks.append((index - first, callback, argument))
                        break
            batch.callbacks = None
            batch.parts = parts
            self._forget_locked(batch)
            return [part for _, part in parts]

    def complete(self, batch: ProducerBatch, base_offset: int, log_append_time_ms: int) -> None:
        """The batch was written."""
        with self.lock:
            if batch.is_done:
                return
            batch.base_offset = base_offset
            batch.log_append_time_ms = log_append_time_ms
            callbacks = self._finish_locked(batch)
        self._call(callbacks)

    def fail(self, batch: ProducerBatch, error: KafkaError, record_errors: dict[int, KafkaError] | None = None) -> bool:
        """The batch will not be written. False when it was done before."""
        with self.lock:
            if batch.is_done:
                return False
            batch.error = error
            batch.record_errors = record_errors
            callbacks = self._finish_locked(batch)
            if self.tells_failures:
                self._unseen[batch] = set()
                if len(self._unseen) > MOST_UNSEEN:
                    del self._unseen[next(iter(self._unseen))]
        self._call(callbacks)
        return True

    def looked_at(self, batch: ProducerBatch, first: int, count: int) -> None:
        """Somebody was told why these records were not written."""
        with self.lock:
            seen = self._unseen.get(batch)
            if seen is not None:
                seen.update(range(first, first + count))
                if len(seen) == batch.records_count:
                    del self._unseen[batch]

    def take_unseen(self) -> KafkaError | None:
        """What to raise for the records that were not written, and nobody was told of; once."""
        with self.lock:
            unseen, self._unseen = self._unseen, {}
        count = sum(batch.records_count - len(seen) for batch, seen in unseen.items())
        for batch, seen in unseen.items():
            cause = batch.error_of(next(index for index in range(batch.records_count) if index not in seen))
            assert cause is not None
            what = f"a record for {batch.tp} was" if count == 1 else f"{count} records were"
            first = "" if count == 1 else f" (the first for {batch.tp})"
            message = f"{what} not delivered{first}: {cause.message}"
            error = type(cause)(message, code=cause.number, retriable=cause.retriable, hint=cause.hint)
            error.__cause__ = cause
            return error
        return None

    def expired(self, before_ms: int) -> tuple[list[ProducerBatch], int]:
        """Batches made before a time and still not delivered, queued or in flight; and when the oldest other was made.

        They stay where they are: the caller fails them.
        """
        with self.lock:
            found = [batch for batch in self.incomplete if batch.created_ms <= before_ms]
            others = (batch.created_ms for batch in self.incomplete if batch.created_ms > before_ms)
            oldest_ms = min(others, default=NEVER_MS)
            found.sort(key=lambda batch: batch.order)
            return found, oldest_ms

    def undrained(self) -> list[ProducerBatch]:
        """Batches that are not on their way."""
        with self.lock:
            found = [batch for batch in self.incomplete if not batch.in_flight]
            found.sort(key=lambda batch: batch.order)
            return found

    def unfinished(self) -> list[ProducerBatch]:
        """All batches that are not done."""
        with self.lock:
            return sorted(self.incomplete, key=lambda batch: batch.order)

    def hurry(self, change: int) -> None:
        """A flush begins (1) or ends (-1): while one goes on nothing lingers."""
        with self.lock:
            self.flushing += change
            if change > 0:
                self.call_sender()

    def _insert_locked(self, batch: ProducerBatch) -> None:
        queue = batch.queue
        place = 0
        for other in queue.batches:
            if other.order > batch.order:
                break
            place += 1
        queue.batches.insert(place, batch)
        queue.queued_bytes += batch.size_bytes
        if not queue.is_pending:
            queue.is_pending = True
            self.pending[queue] = None

    def _finish_locked(self, batch: ProducerBatch) -> list[tuple[int, Callable[[Any], object], Any]] | None:
        batch.is_done = True
        self.incomplete.discard(batch)
        queue = batch.queue
        if not batch.in_flight:
            if batch in queue.batches:
                queue.batches.remove(batch)
                queue.queued_bytes -= batch.size_bytes
                if batch is queue.open_batch:
                    queue.open_batch = None
                if not queue.batches:
                    queue.is_pending = False
                    del self.pending[queue]
            self._forget_locked(batch)
        callbacks, batch.callbacks = batch.callbacks, None
        return callbacks

    def _forget_locked(self, batch: ProducerBatch) -> None:
        """Nobody needs the bytes of the batch any more: not the network either."""
        batch.writer = None
        batch.data = None
        freed, batch.size_bytes = batch.size_bytes, 0
        self._release_locked(freed)

    def _call(self, callbacks: list[tuple[int, Callable[[Any], object], Any]] | None) -> None:
        for _, callback, argument in callbacks or ():
            try:
                callback(argument)
            except BaseException:  # even an exit, even a CancelledError of its own: others wait for their deliveries
                logger.exception("a callback of a delivery failed")

    def check_invariants(self) -> None:
        """What holds between any two calls."""
        with self.lock:
            queues = {queue for topic in self.topics.values() for queue in topic.partitions}
            batches = {batch for queue in queues for batch in (*queue.batches, *queue.in_flight)}
            promised = self.used_bytes - sum(batch.size_bytes for batch in batches)
            assert promised >= 0, f"{promised} bytes are accounted wrongly"
            assert self.incomplete <= batches
            assert self.waiting_count == len(self._line)
            for queue in queues:
                assert queue.is_pending == bool(queue.batches) == (queue in self.pending)
                orders = [batch.order for batch in queue.batches]
                assert orders == sorted(orders)
                assert queue.open_batch is None or queue.open_batch is queue.batches[-1]
                assert queue.queued_bytes == sum(batch.size_bytes for batch in queue.batches)
                assert all(batch.in_flight for batch in queue.in_flight)


def load_table(sizes: list[int], partitions: list[int], available_count: int) -> tuple[list[int], list[int]] | None:
    """Running sums of the partitions' weights, the less waiting the heavier; None when all weigh the same (KIP-794).

    0, 3 and 1 waiting batches weigh 4, 1 and 3: the sums are 4, 5, 8.
    """
    if not sizes or (len(sizes) == available_count and min(sizes) == max(sizes)):
        return None
    most = max(sizes) + 1
    sums = []
    total = 0
    for size in sizes:
        total += most - size
        sums.append(total)
    return sums, partitions
