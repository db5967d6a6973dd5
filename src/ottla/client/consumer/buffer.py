"""Fetched batches on their way to the user: filled by the client's loop, emptied where the user calls `poll`.

That may be another thread, so there is a lock, held for a few assignments only: a take claims the next chunk, reads
records from it without the lock (deserializers are the user's code), and then settles how far it came. What happened
to the partition meanwhile (a seek, a revocation) shows in its incarnation; a chunk of an earlier one changes nothing.

Partitions take turns, a chunk each; a chunk is what one fetch brought of one partition. Records of a partition come in
the order of their offsets, each once. A partition that is paused keeps what it has, and does not count against the
limit: others could not go on otherwise.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from threading import Lock
from typing import TYPE_CHECKING, Any

from ottla.client.consumer.positions import PartitionState
from ottla.client.errors import CorruptRecordsError, KafkaError, RecordDeserializationError
from ottla.client.model import TopicPartition
from ottla.core.binary import Buffer
from ottla.records.batch import BatchHeader, CorruptRecordError
from ottla.records.reader import RecordCursor, UndeserializableRecordError

if TYPE_CHECKING:
    from ottla.client.consumer.resets import ResetStrategy
    from ottla.records.columns import Columns


class Chunk:
    """What one fetch brought of a partition: batches to read, or (`error`) why there are none."""

    __slots__ = (
        "batches",
        "check_crcs",
        "cursor",
        "end_epoch",
        "end_offset",
        "epoch",
        "error",
        "incarnation",
        "index",
        "next_offset",
        "records",
        "size_bytes",
        "start_offset",
        "state",
        "taken",
    )

    def __init__(
        self,
        state: PartitionState,
        records: Buffer,
        batches: list[tuple[int, BatchHeader]],
        end_offset: int,
        end_epoch: int,
        error: KafkaError | None = None,
        *,
        check_crcs: bool = True,
    ) -> None:
        self.state = state
        self.incarnation = state.incarnation
        self.records = records
        self.batches = batches
        self.start_offset = self.next_offset = state.fetch_offset
        self.epoch = state.fetch_epoch
        self.end_offset = end_offset
        self.end_epoch = end_epoch
        self.size_bytes = len(records)
        self.error = error
        self.check_crcs = check_crcs
        self.index = 0
        self.taken = 0
        """Records that were read from it."""
        self.cursor: RecordCursor | None = None

    @property
    def exhausted(self) -> bool:
        """Nothing is left to read."""
        return self.index == len(self.batches)

    def read(self, limit: int, key_deserializer: Any, value_deserializer: Any, output: list[Any]) -> None:
        """Append up to `limit` records. A record that can not be deserialized stays the next one."""
        while self.index < len(self.batches):
            cursor = self._cursor()
            try:
                count = cursor.take(limit, key_deserializer, value_deserializer, output)
                self.taken += count
                limit -= count
            except UndeserializableRecordError as error:
                raise _undeserializable(error) from (error.__cause__ or error)
            except CorruptRecordError as error:
                raise self._corrupt(error) from error
            finally:
                self._passed(cursor)
            if limit <= 0:
                break
        if self.index == len(self.batches):
            self.next_offset, self.epoch = self.end_offset, self.end_epoch

    def read_columns(self, limit: int, columns: Columns) -> None:
        """Append up to `limit` records to `columns`."""
        while self.index < len(self.batches):
            cursor = self._cursor()
            try:
                count = cursor.take_columns(limit, columns)
                self.taken += count
                limit -= count
            except CorruptRecordError as error:
                raise self._corrupt(error) from error
            finally:
                self._passed(cursor)
            if limit <= 0:
                break
        if self.index == len(self.batches):
            self.next_offset, self.epoch = self.end_offset, self.end_epoch

    def _cursor(self) -> RecordCursor:
        cursor = self.cursor
        if cursor is None:
            position, header = self.batches[self.index]
            topic, partition = self.state.tp
            cursor = self.cursor = RecordCursor(
                self.records,
                position,
                header,
                topic=topic,
                partition=partition,
                from_offset=self.next_offset,
                check_crc=self.check_crcs,
            )
        return cursor

    def _passed(self, cursor: RecordCursor) -> None:
        if cursor.next_offset > self.next_offset:
            self.next_offset = cursor.next_offset
            self.epoch = self.batches[self.index][1].partition_leader_epoch
        if cursor.exhausted:
            self.cursor = None
            self.index += 1

    def _corrupt(self, error: CorruptRecordError) -> CorruptRecordsError:
        return CorruptRecordsError(
            f"The records of {self.state.tp} at offset {self.next_offset} are corrupt: {error}.",
            retriable=False,
            hint="Seek behind them to go on without them.",
        )


class FetchBuffer:
    """All chunks of a consumer. `on_room` is called when a fetch that waited for room may go, in the taking thread."""

    def __init__(self, limit_bytes: int, partition_limit_bytes: int) -> None:
        self.on_room: Callable[[], None] = _nothing
        self.on_consumed: Callable[[Chunk], None] | None = None
        """Called in the taking thread when all of a chunk was handed out."""
        self.limit_bytes = limit_bytes
        self.partition_limit_bytes = partition_limit_bytes
        self.size_bytes = 0
        """Of the partitions that can be handed out."""
        self.waits_for_room = False
        """A partition was not fetched because there is too much already."""
        self.in_use: dict[TopicPartition, PartitionState] = {}
        """Partitions of which the user got records since `returned` was called last."""
        self.taken_away: set[TopicPartition] = set()
        """Those of them that are not ours any more, though the user is not back yet."""
        self.lock = Lock()
        self._claimed: Chunk | None = None
        self._queue: deque[PartitionState] = deque()

    # --- the loop's side

    def has_room(self, state: PartitionState, partitions: int) -> bool:
        """Whether to fetch more of this one of so many partitions: each has its share of the whole, and may have what
        one fetch brings. With less, the user waits for every next fetch instead of for none.
        """
        share_bytes = max(self.partition_limit_bytes, self.limit_bytes // partitions)
        if state.buffered_bytes >= share_bytes or self.size_bytes >= self.limit_bytes:
            return False
        return not state.chunks or state.chunks[-1].error is None  # the user has to see the error first

    def add(self, chunk: Chunk) -> None:
        """The next chunk of a partition; its end is where the next fetch starts."""
        state = chunk.state
        with self.lock:
            state.chunks.append(chunk)
            state.buffered_bytes += chunk.size_bytes
            state.fetch_offset, state.fetch_epoch = chunk.end_offset, chunk.end_epoch
            if state.ready:
                self.size_bytes += chunk.size_bytes
            elif state.may_be_handed_out:
                self._enqueue(state)

    def drop(self, state: PartitionState) -> None:
        """Throw away what is buffered of a partition that is taken away."""
        with self.lock:
            self._clear(state)
            state.incarnation += 1
            if self.in_use.pop(state.tp, None) is not None:
                self.taken_away.add(state.tp)

    def reset(self, state: PartitionState, strategy: ResetStrategy) -> None:
        """`PartitionState.need_reset`, with nothing buffered."""
        with self.lock:
            self._clear(state)
            state.need_reset(strategy)
            self.in_use.pop(state.tp, None)

    def jump(self, state: PartitionState, offset: int, epoch: int = -1) -> None:
        """`PartitionState.jump`, with nothing buffered."""
        with self.lock:
            self._clear(state)
            state.jump(offset, epoch)
            self.in_use.pop(state.tp, None)

    def rewind(self, state: PartitionState) -> bool:
        """Fetch again from the position. False while the user's take is just moving it."""
        with self.lock:
            if self._claimed is not None and self._claimed.state is state:
                return False
            self._clear(state)
            state.rewind()
            return True

    def give_back(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Records from these offsets on were handed out, but the user does not want them now after all."""
        with self.lock:
            for tp, offset in offsets.items():
                state = self.in_use.get(tp)
                if state is not None and state.has_position and state.processed <= offset <= state.position:
                    self._clear(state)
                    state.position, state.position_epoch = offset, -1
                    state.rewind()

    def positions(
        self,
        states: Iterable[PartitionState],
        *,
        processed: bool,
        in_hand: Mapping[TopicPartition, tuple[int, int]] | None = None,
    ) -> dict[TopicPartition, tuple[int, int]]:
        """Offset and epoch to commit of each: what was handed out, or only what the user is done with. `in_hand` says
        with which records of the last take he is not; without it, with none of them.
        """
        with self.lock:
            found = {}
            for state in states:
                if not state.has_position:
                    continue
                place = state.position, state.position_epoch
                if processed and state.tp in self.in_use:
                    place = (
                        (state.processed, state.processed_epoch) if in_hand is None else in_hand.get(state.tp, place)
                    )
                found[state.tp] = place
            return found

    def pause(self, state: PartitionState, paused: bool) -> None:
        """What it has is kept, and handed out later."""
        with self.lock:
            state.paused = paused
            self._requeue(state)

    def suspend(self, states: Iterable[PartitionState], suspended: bool) -> bool:
        """Do not hand out these, or do again; whether the user has records of any of them."""
        in_use = False
        with self.lock:
            for state in states:
                state.suspended = suspended
                self._requeue(state)
                in_use = in_use or state.tp in self.in_use
        return in_use

    # --- the taker's side

    @property
    def has_data(self) -> bool:
        """Whether a take finds something (or an error to raise)."""
        return bool(self._queue)

    def returned(self, partitions: Iterable[TopicPartition] | None = None) -> None:
        """The user is back: what was handed out (None: of all partitions) counts as processed now."""
        if self.in_use or self.taken_away:
            with self.lock:
                if partitions is None:
                    self.taken_away.clear()
                for tp in list(self.in_use) if partitions is None else partitions:
                    self.in_use.pop(tp, None)

    def take(self, max_records: int, key_deserializer: Any, value_deserializer: Any, output: list[Any]) -> None:
        """Append up to `max_records` records. What is wrong with a record or a fetch is raised when it is first."""
        while (limit := max_records - len(output)) > 0:
            chunk = self._claim(errors=not output)
            if chunk is None:
                return
            try:
                chunk.read(limit, key_deserializer, value_deserializer, output)
            except (RecordDeserializationError, CorruptRecordsError):
                if not output:
                    raise
                return  # what came before it first; it is met again then
            finally:
                self._settle(chunk)

    def take_columns(self, max_records: int, columns: Columns) -> None:
        """Append up to `max_records` records to `columns`."""
        while (limit := max_records - len(columns)) > 0:
            chunk = self._claim(errors=not len(columns))
            if chunk is None:
                return
            try:
                chunk.read_columns(limit, columns)
            except CorruptRecordsError:
                if not len(columns):
                    raise
                return
            finally:
                self._settle(chunk)

    def _claim(self, errors: bool) -> Chunk | None:
        with self.lock:
            while self._queue:
                state = self._queue[0]
                if not state.may_be_handed_out:
                    self._dequeue(state)
                    continue
                chunk = state.chunks[0]
                if chunk.error is None:
                    if state.tp not in self.in_use:
                        self.in_use[state.tp] = state
                        state.processed, state.processed_epoch = state.position, state.position_epoch
                    self._claimed = chunk
                    return chunk
                if not errors:
                    return None
                self._pop(state)
                break
            else:
                return None
        self._make_room()
        raise chunk.error

    def _settle(self, chunk: Chunk) -> None:
        state = chunk.state
        with self.lock:
            self._claimed = None
            if state.incarnation != chunk.incarnation or not state.chunks or state.chunks[0] is not chunk:
                return
            state.position = chunk.next_offset
            state.position_epoch = chunk.epoch
            if chunk.exhausted:
                self._pop(state)
        if chunk.exhausted:
            self._make_room()
            if self.on_consumed is not None:
                self.on_consumed(chunk)

    def _make_room(self) -> None:
        if self.waits_for_room:
            self.waits_for_room = False
            self.on_room()

    # --- with the lock

    def _pop(self, state: PartitionState) -> None:
        chunk = state.chunks.popleft()
        state.buffered_bytes -= chunk.size_bytes
        if state.ready:
            self.size_bytes -= chunk.size_bytes
            if not state.chunks:
                self._dequeue(state)
            elif len(self._queue) > 1:
                self._queue.remove(state)  # it is the first
                self._queue.append(state)

    def _requeue(self, state: PartitionState) -> None:
        if not state.may_be_handed_out:
            self._dequeue(state)
        elif state.chunks and not state.ready:
            self._enqueue(state)

    def _clear(self, state: PartitionState) -> None:
        self._dequeue(state)
        state.chunks.clear()
        state.buffered_bytes = 0

    def _enqueue(self, state: PartitionState) -> None:
        state.ready = True
        self.size_bytes += state.buffered_bytes
        self._queue.append(state)

    def _dequeue(self, state: PartitionState) -> None:
        if state.ready:
            state.ready = False
            self.size_bytes -= state.buffered_bytes
            self._queue.remove(state)

    def check_invariants(self) -> None:
        """What holds whenever no method is running."""
        assert self.size_bytes == sum(state.buffered_bytes for state in self._queue)
        assert len(set(map(id, self._queue))) == len(self._queue)
        for state in self._queue:
            assert state.ready
            assert state.chunks


def _undeserializable(error: UndeserializableRecordError) -> RecordDeserializationError:
    tp = TopicPartition(error.topic, error.partition)
    raised = RecordDeserializationError(
        f"The {error.origin} at offset {error.offset} of {tp} can not be deserialized: {error.__cause__}.",
        hint=f"Go on behind it with seek(TopicPartition{tuple(tp)!r}, {error.offset + 1}).",
    )
    raised.topic, raised.partition, raised.offset = error.topic, error.partition, error.offset
    raised.origin, raised.raw_key, raised.raw_value = error.origin, error.raw_key, error.raw_value
    return raised


def _nothing() -> None:
    pass
