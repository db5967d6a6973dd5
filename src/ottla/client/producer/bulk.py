"""Many records in one call: `send_many`.

What may be sent: any iterable of values, with an iterable of as many keys; or a table (pyarrow Table or RecordBatch,
polars or pandas DataFrame). Of a table the columns `value`, `key`, `timestamp` and `headers` are taken when there is
one called `value` (or `value_column` names it); otherwise each whole row is a value, as a dict for the serializer. For
tables `keys` and `timestamps_ms` are names of columns. Binary and text columns are copied straight into batches,
without an object per record.

Records go in piece by piece: each piece has room reserved for it, and is then appended under one lock. An error is
raised at the first piece with a record that cannot be sent; the pieces before it are sent, `error.delivery` is theirs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from ottla.client.errors import KafkaError, KafkaTimeoutError, SerializationError
from ottla.client.producer.accumulator import Reservation
from ottla.client.producer.appending import STICKY
from ottla.client.producer.batches import Delivery, ProducerBatch, TopicQueue
from ottla.client.producer.contents import (
    BATCH_OVERHEAD,
    RECORD_OVERHEAD,
    as_bytes,
    as_timestamp,
    headers_size,
    normalized_headers,
    not_serialized,
)
from ottla.records.columns import BinaryColumn
from ottla.records.hashing import murmur2_partitions

if TYPE_CHECKING:
    from ottla.client.producer.engine import Engine

PIECE_RECORDS = 4096
PIECE_BYTES = 512 * 1024


class WrittenRange(NamedTuple):
    """Records that were written one after the other: offsets from `start_offset` to before `end_offset`.

    Both are -1 when the broker was not asked (`acks=0`).
    """

    topic: str
    partition: int
    start_offset: int
    end_offset: int


class RefusedRecords(NamedTuple):
    """Records that were not written: `records_count` from the `first` one on, in the order in which they were sent.

    Without keys that is the order of the values; with keys, the records of a piece are sorted by partition.
    """

    topic: str
    partition: int
    first: int
    records_count: int
    error: KafkaError


class BulkDelivery:
    """What becomes of the records of a `send_many`: runs of records in batches, no object per record."""

    __slots__ = ("_runs", "_wait", "count")

    def __init__(self, wait: Callable[[Delivery, float | None], None]) -> None:
        self.count = 0
        """How many records were sent."""
        self._runs: list[tuple[Delivery, int]] = []
        self._wait = wait

    def add(self, first: Delivery, count: int) -> None:
        """Records that went into one batch in a row."""
        self._runs.append((first, count))
        self.count += count

    def done(self) -> bool:
        """Whether all records were written, or could not be."""
        return all(batch.is_done for batch, _, _ in self._parts())

    def exception(self, timeout_s: float | None = None) -> KafkaError | None:
        """Why a record was not written, the first that was not; None when all were. Waits as `result` does."""
        self._wait_all(timeout_s)
        found: KafkaError | None = None
        for batch, first, count in self._parts():
            if batch.error is not None:
                for index in range(first, first + count):
                    error = batch.error_of(index)
                    found = found or error
                batch.queue.topic.accumulator.looked_at(batch, first, count)
        return found

    def result(self, timeout_s: float | None = None) -> list[WrittenRange]:
        """Where the records were written, in the order in which they were sent to each partition.

        Waits; KafkaTimeoutError after `timeout_s`, or why the first record that was not written was not. On the
        asyncio producer it does not wait: await the delivery, or IllegalStateError.
        """
        error = self.exception(timeout_s)
        if error is not None:
            raise copy(error)
        return self._written()

    def outcomes(self, timeout_s: float | None = None) -> tuple[list[WrittenRange], list[RefusedRecords]]:
        """Where records were written, and which were not and why. Waits as `result` does, and raises only for that."""
        self.exception(timeout_s)
        refused: list[RefusedRecords] = []
        sent = 0
        for batch, first, count in self._parts():
            for index in range(first, first + count if batch.error is not None else first):
                error = batch.error_of(index)
                assert error is not None
                last = refused[-1] if refused else None
                if last is not None and last.error is error and last.first + last.records_count == sent + index - first:
                    refused[-1] = last._replace(records_count=last.records_count + 1)
                else:
                    refused.append(RefusedRecords(*batch.tp, sent + index - first, 1, error))
            sent += count
        return self._written(), refused

    def _written(self) -> list[WrittenRange]:
        ranges: dict[tuple[str, int], list[WrittenRange]] = {}
        for batch, first, count in self._parts():
            if batch.error is not None:
                continue
            start = -1 if batch.base_offset < 0 else batch.base_offset + first
            end = -1 if start < 0 else start + count
            of_partition = ranges.setdefault(batch.tp, [])
            if of_partition and of_partition[-1].end_offset == start:
                of_partition[-1] = of_partition[-1]._replace(end_offset=end)
            else:
                of_partition.append(WrittenRange(*batch.tp, start, end))
        return [each for of_partition in ranges.values() for each in of_partition]

    def __await__(self) -> Generator[Any, None, list[WrittenRange]]:
        for delivery in self._unfinished():
            yield from _settled(delivery).__await__()
        return self.result()

    def _parts(self) -> Iterator[tuple[ProducerBatch, int, int]]:
        """The batches that the records are in now, with the first index and count in each."""
        for delivery, count in self._runs:
            yield from _within(delivery.batch, delivery.index, count)

    def _unfinished(self) -> Iterator[Delivery]:
        """Deliveries to wait for, until there are none."""
        for delivery, count in self._runs:
            while True:
                for batch, first, _ in _within(delivery.batch, delivery.index, count):
                    if not batch.is_done:
                        yield Delivery(batch, first, -1)
                        break
                else:
                    break

    def _wait_all(self, timeout_s: float | None) -> None:
        now_ms: Callable[[], int] | None = None
        deadline_ms = 0
        for delivery in self._unfinished():
            if now_ms is None:
                now_ms = delivery.batch.queue.topic.accumulator.now_ms
                deadline_ms = now_ms() + int((timeout_s or 0) * 1000)
            left_s = None if timeout_s is None else (deadline_ms - now_ms()) / 1000
            if left_s is not None and left_s <= 0:
                raise KafkaTimeoutError(f"the records were not delivered within {timeout_s} s; they are on their way.")
            self._wait(delivery, left_s)

    def __repr__(self) -> str:
        return f"<BulkDelivery of {self.count} records, {'done' if self.done() else 'on their way'}>"


def _within(batch: ProducerBatch, first: int, count: int) -> Iterator[tuple[ProducerBatch, int, int]]:
    if batch.parts is None:
        yield batch, first, count
        return
    end = first + count
    for start, part in batch.parts:
        low, high = max(first, start), min(end, start + part.records_count)
        if low < high:
            yield from _within(part, low - start, high - low)


async def _settled(delivery: Delivery) -> None:
    """Wait until it is done, whatever came of it."""
    from ottla.client.producer.client import resolve_on

    if not delivery.done():
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        delivery.add_done_callback(lambda _: resolve_on(loop, done))
        await done


class _Piece(NamedTuple):
    """Serialized records that are appended together."""

    values: Any
    """A list of bytes and None, or a BinaryColumn; so are the keys."""
    keys: Any
    timestamps: Any
    headers: list[Any] | None
    partitions: Any
    rows: range
    average_bytes: int


class Bulk:
    """The work of one `send_many`: iterate it for the room that is needed next, then `append` with that room."""

    def __init__(
        self,
        engine: Engine,
        topic: str,
        values: Any,
        keys: Any,
        timestamps_ms: Any,
        partition: int | None,
        headers: Any,
        value_column: str | None = None,
    ) -> None:
        if isinstance(values, str | bytes | bytearray | memoryview):
            raise SerializationError("send_many sends a record for each of its values.", hint="Use send for one.")
        self._accumulator = engine.accumulator
        self._topic = topic
        self._values = values
        self._keys = keys
        self._timestamps = timestamps_ms
        self._partition = partition
        self._headers = None if headers is None else normalized_headers(headers)
        self._headers_bytes = headers_size(self._headers) if self._headers else 0
        self._value_column = value_column
        self._piece: _Piece | None = None
        self.delivery = BulkDelivery(engine.accumulator.waiting.wait)

    @property
    def needs_topic(self) -> bool:
        """Whether the topic, or the partition, is not known yet."""
        queue = self._accumulator.topics.get(self._topic)
        return queue is None or (self._partition is not None and self._partition >= queue.count)

    def records(self) -> Iterator[tuple[Any, Any, int | None, Any, Any]]:
        """Value, key, partition, timestamp and headers of each record, not serialized: for interceptors."""
        for values, keys, timestamps, headers, partitions, count in self._chunks():
            for row in range(count):
                yield (
                    values[row],
                    None if keys is None else keys[row],
                    self._partition if partitions is None else partitions[row],
                    None if timestamps is None else timestamps[row],
                    self._headers if headers is None else headers[row],
                )

    def __iter__(self) -> Iterator[int]:
        for values, keys, timestamps, headers, partitions, count in self._chunks():
            data = self._serialized(values, "value", self._accumulator.value_serializer)
            key_data = None if keys is None else self._serialized(keys, "key", self._accumulator.key_serializer)
            if headers is None:
                yield from self._pieces(_Piece(data, key_data, timestamps, None, partitions, range(count), 0))
                continue
            extra = [headers_size(each) for each in headers]
            yield from self._pieces(_Piece(data, key_data, timestamps, headers, partitions, range(count), 0), extra)

    def _pieces(self, whole: _Piece, extra: Sequence[int] | None = None) -> Iterator[int]:
        """Cut what was looked at into pieces of `PIECE_BYTES`, as far as that is known from a record on average."""
        count = len(whole.rows)
        start, step = 0, min(count, 256)
        while start < count:
            rows = range(start, min(start + step, count))
            size_bytes = self._size(whole, rows, extra)
            if size_bytes > 2 * PIECE_BYTES and len(rows) > 1:
                step = max(1, len(rows) // 4)
                continue
            average = size_bytes // len(rows)
            self._piece = whole._replace(rows=rows, average_bytes=average)
            yield min(size_bytes + BATCH_OVERHEAD, self._accumulator.buffer_bytes)
            start = rows.stop
            step = max(1, PIECE_BYTES // average)

    @contextmanager
    def telling(self) -> Iterator[None]:
        """What is raised says what was sent before."""
        try:
            yield
        except Exception as error:
            if self.delivery.count:
                error.add_note(f"{self.delivery.count} records before were sent.")
                if isinstance(error, KafkaError):
                    error.delivery = self.delivery
            raise

    def append(self, reservation: Reservation) -> None:
        """Append the piece whose room was reserved."""
        piece, self._piece = self._piece, None
        assert piece is not None
        accumulator = self._accumulator
        try:
            topic = accumulator.topics[self._topic]
            destinations = self._destinations(topic, piece)
            with accumulator.lock:
                if accumulator.gate is not None:
                    raise copy(accumulator.gate)
                timestamp_ms = int(accumulator.time() * 1000)
                for number, rows in destinations.items():
                    self._extend(topic, number, rows, piece, timestamp_ms)
        finally:
            accumulator.give_back(reservation)

    # --- taking values in

    def _chunks(self) -> Iterator[tuple[Any, Any, Any, Any, Any, int]]:
        """Values, keys, timestamps, headers, partitions and count, as many records as are looked at in one go."""
        if hasattr(self._values, "__arrow_c_stream__") or hasattr(self._values, "__arrow_c_array__"):
            from ottla.records.frames import is_table

            if is_table(self._values):
                yield from self._table_chunks()
                return
        values = _iterated(self._values, "values")
        keys = None if self._keys is None else _iterated(self._keys, "keys")
        timestamps = None if self._timestamps is None else iter(self._timestamps)
        while chunk := list(islice(values, PIECE_RECORDS)):
            count = len(chunk)
            yield (
                chunk,
                _as_many(keys, count, "keys"),
                None if timestamps is None else _timestamps(_as_many(timestamps, count, "timestamps_ms")),
                None,
                None,
                count,
            )
        for left, name in ((keys, "keys"), (timestamps, "timestamps_ms")):
            if left is not None and next(left, left) is not left:
                raise SerializationError(f"there are more {name} than values.")

    def _table_chunks(self) -> Iterator[tuple[Any, Any, Any, Any, Any, int]]:
        from ottla.records.frames import rows_of

        for name in (self._keys, self._timestamps):
            if name is not None and not isinstance(name, str):
                raise SerializationError(
                    "the keys and timestamps of a table are columns of it.", hint="Give the names of the columns."
                )
        try:
            for chunk in rows_of(self._values, key=self._keys, value=self._value_column, timestamp=self._timestamps):
                headers = None if chunk.headers is None else [normalized_headers(each) for each in chunk.headers]
                yield chunk.values, chunk.keys, chunk.timestamps, headers, chunk.partitions, chunk.count
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, KafkaError):
                raise
            raise SerializationError(f"{error.args[0]}.") from None

    def _serialized(self, values: Any, what: str, serializer: Any) -> Any:
        """Values as bytes: a binary column stays one when nothing has to be done to it."""
        if isinstance(values, BinaryColumn):
            if serializer is None:
                return values
            values = list(values)
        if serializer is not None:
            serialize, topic, headers = serializer.serialize, self._topic, self._headers or ()
            try:
                values = [serialize(topic, value, headers) for value in values]
            except Exception as error:
                raise not_serialized(topic, error) from error
        if not set(map(type, values)) <= _READY:
            values = [value if value is None else as_bytes(value, what) for value in values]
        return values

    def _size(self, whole: _Piece, rows: range, extra: Sequence[int] | None) -> int:
        """What the rows need at most; RecordTooLargeError when one of them is too large."""
        accumulator = self._accumulator
        total, longest = _lengths(whole.values, rows)
        if whole.keys is not None:
            key_total, longest_key = _lengths(whole.keys, rows)
            total, longest = total + key_total, longest + longest_key
        fixed = RECORD_OVERHEAD + self._headers_bytes
        if extra is not None:
            of_headers = extra[rows.start : rows.stop]
            total, longest = total + sum(of_headers), longest + max(of_headers)
        allowed = min(accumulator.max_record_bytes, accumulator.buffer_bytes - BATCH_OVERHEAD)
        if longest + fixed > allowed:
            for row in rows:  # the longest key need not stand beside the longest value
                size = fixed + self._size_of_row(whole, row, extra)
                if size > allowed:
                    raise accumulator.too_large(size)
        return total + fixed * len(rows)

    def _size_of_row(self, whole: _Piece, row: int, extra: Sequence[int] | None) -> int:
        value = whole.values[row]
        key = None if whole.keys is None else whole.keys[row]
        return len(value or b"") + len(key or b"") + (0 if extra is None else extra[row])

    # --- appending; the lock is held from `_extend` on

    def _destinations(self, topic: TopicQueue, piece: _Piece) -> dict[int, Sequence[int]]:
        """The rows of each partition, in order."""
        if self._partition is not None:
            return {self._partition: piece.rows}
        accumulator = self._accumulator
        keys = piece.keys
        if piece.partitions is not None:
            numbers: Sequence[int] = piece.partitions
        elif accumulator.partitioner is not None:
            choose, values = accumulator.partitioner, piece.values
            numbers = [choose(topic, None if keys is None else keys[row], values[row]) for row in piece.rows]
        elif keys is None or accumulator.ignores_keys:
            return {STICKY: piece.rows}
        else:
            numbers = murmur2_partitions([keys[row] for row in piece.rows], topic.count)
        if piece.partitions is not None:
            numbers = [numbers[row] for row in piece.rows]
        destinations: dict[int, list[int]] = {}
        for row, number in zip(piece.rows, numbers, strict=True):
            destinations.setdefault(number, []).append(row)
        if destinations and max(destinations) >= topic.count:
            raise accumulator.no_such_partition(topic, max(destinations))
        return dict(destinations)

    def _extend(self, topic: TopicQueue, number: int, rows: Sequence[int], piece: _Piece, timestamp_ms: int) -> None:
        if number >= 0:
            self._extend_partition(topic, number, rows, piece, timestamp_ms)
            return
        # A batch's worth for one partition, then the next: as if they were sent one by one.
        step = max(1, self._accumulator.batch_bytes // max(1, piece.average_bytes))
        for start in range(0, len(rows), step):
            self._extend_partition(topic, STICKY, rows[start : start + step], piece, timestamp_ms)

    def _extend_partition(
        self, topic: TopicQueue, number: int, rows: Sequence[int], piece: _Piece, timestamp_ms: int
    ) -> None:
        accumulator = self._accumulator
        is_sticky = number < 0
        queue = (topic.sticky or topic.switch(accumulator.random)) if is_sticky else topic.partitions[number]
        if accumulator.record_appended is not None:
            accumulator.record_appended(queue.tp)
        done = 0
        while done < len(rows):
            batch = queue.open_batch or accumulator.open_batch(queue)
            first = batch.records_count
            went = self._write(batch, rows, done, piece, timestamp_ms)
            if went:
                batch.records_count = first + went
                accumulator.account(queue, batch, is_sticky)
                self.delivery.add(Delivery(batch, first, timestamp_ms), went)
                done += went
            if done < len(rows):
                accumulator.open_batch(queue)

    def _write(self, batch: ProducerBatch, rows: Sequence[int], start: int, piece: _Piece, timestamp_ms: int) -> int:
        """Write as many rows as fit into the batch."""
        writer = batch.writer
        assert writer is not None
        values, keys, times = piece.values, piece.keys, piece.timestamps
        if piece.headers is not None:
            return self._write_one_by_one(batch, rows, start, piece, timestamp_ms)
        if isinstance(values, BinaryColumn) and (keys is None or isinstance(keys, BinaryColumn)):
            return writer.extend_columns(
                values, keys, times, start, timestamp_ms=timestamp_ms, headers=self._headers, rows=rows
            )
        return writer.extend(values, keys, times, start, timestamp_ms=timestamp_ms, headers=self._headers, rows=rows)

    def _write_one_by_one(
        self, batch: ProducerBatch, rows: Sequence[int], start: int, piece: _Piece, timestamp_ms: int
    ) -> int:
        assert batch.writer is not None
        assert piece.headers is not None
        for done in range(start, len(rows)):
            row = rows[done]
            index = batch.writer.append(
                timestamp_ms if piece.timestamps is None else piece.timestamps[row],
                None if piece.keys is None else piece.keys[row],
                piece.values[row],
                piece.headers[row],
            )
            if index < 0:
                return done - start
        return len(rows) - start


_READY = {bytes, type(None)}


def _lengths(values: list[bytes | None] | BinaryColumn, rows: range) -> tuple[int, int]:
    """Bytes of some rows, all together and of the longest."""
    if isinstance(values, BinaryColumn):
        found: tuple[int, int] = values.lengths(rows.start, rows.stop)
        return found
    lengths = [0 if value is None else len(value) for value in values[rows.start : rows.stop]]
    return sum(lengths), max(lengths)


def _iterated(values: Any, name: str) -> Iterator[Any]:
    """One by one; an Arrow array has scalars, which are no values yet."""
    if isinstance(values, str | bytes | bytearray | memoryview | Mapping):
        raise SerializationError(f"{name} that are a {type(values).__name__} are not one for each record.")
    to_pylist = getattr(values, "to_pylist", None)
    try:
        return iter(values if to_pylist is None else to_pylist())
    except TypeError:
        raise SerializationError(
            f"{name} are an iterable or a table, not {type(values).__name__}.", hint="Use send for one record."
        ) from None


def _as_many(values: Iterator[Any] | None, count: int, name: str) -> list[Any] | None:
    if values is None:
        return None
    taken = list(islice(values, count))
    if len(taken) < count:
        raise SerializationError(f"there are more values than {name}.")
    return taken


def _timestamps(values: list[Any] | None) -> list[int] | None:
    return None if values is None else [as_timestamp(value) for value in values]
