"""The shell around shards: appending, replaying, committing, loading and timers, the same for every coordinator.

A ``CoordinatorPartition`` drives one shard over one partition of an internal topic; a `partitions.CoordinatorRuntime`
keeps the partitions that this broker leads. A command runs like this:

    partition = runtime.active(index)                    # or ApiError NOT_COORDINATOR, COORDINATOR_LOAD_IN_PROGRESS
    result = partition.shard.some_command(request, now)  # pure
    answer = partition.complete(result, refusal)         # append, replay; the response, or a Pending until the commit

Records are replayed after their append succeeded, so a refused append has nothing to undo. Where the broker is alone
in the ISR the append commits at once and ``complete`` returns the response itself: no task, no trip through the loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.errors import EncodeError, ProtocolError, UnsupportedVersionError
from ottla.records.batch import CorruptRecordError
from ottla.records.record import Record, build_batch
from ottla.server.coordinator.loading import replay_log
from ottla.server.coordinator.result import (
    Completions,
    CoordinatorRecord,
    Instant,
    Pending,
    RecordCodec,
    Result,
)

logger = logging.getLogger(__name__)

R = TypeVar("R")

#: A batch stays below this, which leaves room under the default max.message.bytes (1,048,588).
MAX_BATCH_BYTES = 1_000_000
# Whatever is due after these has its turn when the loop has looked after everybody else.
_MOST_TIMERS_AT_ONCE = 1_000


class PartitionLog(Protocol):
    """One partition of an internal topic, as its leader: the coordinator's port to replication and log."""

    @property
    def log_start_offset(self) -> int: ...

    @property
    def log_end_offset(self) -> int: ...

    @property
    def high_watermark(self) -> int:
        """Records below it are committed."""

    def append(
        self, records: bytearray, now_ms: int, *, verification: Any | None = None, transaction_version: int = 0
    ) -> int:
        """Append one batch (wall clock ``now_ms``) and return its last offset; ApiError when it is refused.

        ``verification`` lets a batch of a producer begin a transaction, ``transaction_version`` is that of a marker.
        """

    async def read(self, offset: int, max_bytes: int) -> bytes:
        """Whole batches from the one that holds ``offset`` on, at least one; empty at the end. May raise OSError."""

    def set_listener(self, listener: Callable[[], None] | None) -> None:
        """Call ``listener`` (in any context, it does little) whenever the high watermark moved."""


class TransactionalWrite(NamedTuple):
    """On whose behalf records are written inside a transaction; ``verification`` is what the log wants to see first."""

    producer_id: int
    producer_epoch: int
    verification: Any | None


class CoordinatorShard(Protocol):
    """A coordinator's state machine for one partition."""

    completions: Completions

    def replay(self, record: CoordinatorRecord, record_offset: int, producer_id: int) -> None:
        """Apply a record; ``producer_id`` is -1 outside a transaction."""

    def replay_end_of_transaction(self, producer_id: int, *, committed: bool) -> None:
        """Apply a transaction marker."""

    def loaded(self, now: Instant) -> None:
        """Everything in the log was replayed."""

    def next_deadline_ms(self) -> int | None:
        """When ``take_due`` wants to be called, on the monotonic clock."""

    def take_due(self, now: Instant) -> Result[None] | None:
        """Do one thing whose time has come; None when there is none."""

    def unload(self, code: ErrorCode) -> None:
        """The shard ends here: refuse with the code what is parked."""


S = TypeVar("S", bound=CoordinatorShard)


class PartitionState(Enum):
    """Life of a ``CoordinatorPartition``."""

    LOADING = "loading"
    ACTIVE = "active"
    FAILED = "failed"
    CLOSED = "closed"


class RuntimeSettings:
    """What the shell itself needs to know; times in milliseconds."""

    __slots__ = ("commit_timeout_ms", "compression", "load_chunk_bytes", "max_batch_bytes")

    def __init__(
        self,
        *,
        compression: int = 0,
        commit_timeout_ms: int = 5_000,
        load_chunk_bytes: int = 5_242_880,
        max_batch_bytes: int = MAX_BATCH_BYTES,
    ) -> None:
        self.compression = compression
        self.commit_timeout_ms = commit_timeout_ms
        self.load_chunk_bytes = load_chunk_bytes
        self.max_batch_bytes = max_batch_bytes


class CoordinatorPartition(Generic[S]):
    """One shard with its log. ``wall_clock_ms`` gives epoch milliseconds; monotonic time is the event loop's."""

    __slots__ = (
        "_awaiting_commit",
        "_codec",
        "_commit_timer",
        "_deferred",
        "_loading",
        "_log",
        "_loop",
        "_settings",
        "_timer",
        "_timer_deadline_ms",
        "_wall_clock_ms",
        "_when_active",
        "_written_end_offset",
        "leader_epoch",
        "load_ms",
        "partition",
        "shard",
        "state",
    )

    def __init__(
        self,
        partition: int,
        leader_epoch: int,
        log: PartitionLog,
        shard: S,
        codec: RecordCodec,
        settings: RuntimeSettings,
        wall_clock_ms: Callable[[], int],
    ) -> None:
        self.partition = partition
        self.leader_epoch = leader_epoch
        self.shard = shard
        self.state = PartitionState.LOADING
        #: How long loading took.
        self.load_ms = 0
        self._log = log
        self._codec = codec
        self._settings = settings
        self._wall_clock_ms = wall_clock_ms
        self._loop = asyncio.get_running_loop()
        self._loading: asyncio.Task[None] | None = None
        #: Answers that wait for the high watermark: (end offset they need, when they give up, pending, response).
        self._deferred: deque[tuple[int, int, Pending[Any], Any]] = deque()
        #: What is to be done once the high watermark gets there: (end offset, action).
        self._awaiting_commit: deque[tuple[int, Callable[[], None]]] = deque()
        self._commit_timer: asyncio.TimerHandle | None = None
        self._written_end_offset = 0
        self._when_active: list[Callable[[], None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_deadline_ms = 0

    # -- time

    def now(self) -> Instant:
        """Monotonic and wall clock, in milliseconds."""
        return Instant(int(self._loop.time() * 1000), self._wall_clock_ms())

    def monotonic_ms(self) -> int:
        """The event loop's clock in milliseconds."""
        return int(self._loop.time() * 1000)

    # -- commands

    def complete(
        self, result: Result[R], refusal: Callable[[ErrorCode], R], write: TransactionalWrite | None = None
    ) -> R | Pending[R]:
        """Append the command's records and give its response, or a ``Pending`` that waits for their commit.

        A refused append becomes ``refusal(code)`` with the log's own code, unless the command takes it itself. With
        ``write`` the records are part of a transaction.
        """
        response = result.response
        records = result.records
        if records:
            code = self._append(records, result.replay, write)
            if result.appended is not None:
                result.appended(code)
            elif code is not None:
                response = refusal(code)
        return self._answer(response, refusal)

    def end_transaction(
        self, marker: bytearray, producer_id: int, *, committed: bool, transaction_version: int
    ) -> ErrorCode | Pending[ErrorCode]:
        """Append a transaction marker, have the shard take it over, and say when it is committed."""
        try:
            last_offset = self._log.append(marker, self._wall_clock_ms(), transaction_version=transaction_version)
        except ApiError as error:
            return error.code
        self._written_end_offset = last_offset + 1
        self.shard.replay_end_of_transaction(producer_id, committed=committed)
        return self._answer(ErrorCode.NONE, _the_code)

    def when_committed(self, action: Callable[[], None]) -> None:
        """Do something, in a later turn of the loop, once all that is written by now is committed.

        It is not done any more when this broker stops coordinating first.
        """
        if self._written_end_offset <= self._log.high_watermark and not self._awaiting_commit:
            self._loop.call_soon(self._act, action)
            return
        if not self._deferred and not self._awaiting_commit:
            self._log.set_listener(self._high_watermark_moved)
        self._awaiting_commit.append((self._written_end_offset, action))

    def _act(self, action: Callable[[], None]) -> None:
        if self.state is PartitionState.ACTIVE:
            action()

    def _answer(self, response: R, refusal: Callable[[ErrorCode], R]) -> R | Pending[R]:
        """The response, or a ``Pending`` while something is not committed that it depends on."""
        if self._written_end_offset > self._log.high_watermark:
            pending = Pending(refusal)
            self._defer(pending, response)
            self._arm_timer()
            return pending
        self._release_completions()
        self._arm_timer()
        return response

    def _append(
        self, records: list[CoordinatorRecord], replay: bool, write: TransactionalWrite | None
    ) -> ErrorCode | None:
        """Append in as few batches as fit, each replayed once it is in the log; the error code of a refusal."""
        now_ms = self._wall_clock_ms()
        encode = self._codec.encode
        try:
            encoded = [encode(record) for record in records]
        except EncodeError:
            # A client's text is longer than the record's format can carry (32,767 bytes). Nothing is appended yet.
            return ErrorCode.INVALID_REQUEST
        batch: list[Record] = []
        begin = size = 0
        for index, (key, value) in enumerate(encoded):
            record_size = len(key) + (len(value) if value is not None else 0) + 32
            if batch and size + record_size > self._settings.max_batch_bytes:
                code = self._append_batch(batch, records[begin:index], replay, now_ms, write)
                if code is not None:
                    return code
                batch = []
                begin, size = index, 0
            batch.append(Record(0, now_ms, key, value))
            size += record_size
        return self._append_batch(batch, records[begin:] if begin else records, replay, now_ms, write)

    def _append_batch(
        self,
        batch: list[Record],
        records: list[CoordinatorRecord],
        replay: bool,
        now_ms: int,
        write: TransactionalWrite | None,
    ) -> ErrorCode | None:
        compression = self._settings.compression
        producer_id = -1
        try:
            if write is None:
                last_offset = self._log.append(build_batch(batch, compression=compression), now_ms)
            else:
                producer_id = write.producer_id
                data = build_batch(
                    batch,
                    compression=compression,
                    producer_id=producer_id,
                    producer_epoch=write.producer_epoch,
                    transactional=True,
                )
                last_offset = self._log.append(data, now_ms, verification=write.verification)
        except ApiError as error:
            return error.code
        self._written_end_offset = last_offset + 1
        if replay:
            offset = last_offset - len(records) + 1
            for record in records:
                self.shard.replay(record, offset, producer_id)
                offset += 1
        return None

    # -- commit

    def _defer(self, pending: Pending[Any], response: Any) -> None:
        """Keep the response, and whatever the command settled, until the records written so far are committed."""
        gives_up_ms = self.monotonic_ms() + self._settings.commit_timeout_ms
        if not self._deferred:
            if not self._awaiting_commit:
                self._log.set_listener(self._high_watermark_moved)
            self._arm_commit_timer(self._settings.commit_timeout_ms)
        completions = self._take_completions()
        for settled, settled_response in (*completions, (pending, response)):
            self._deferred.append((self._written_end_offset, gives_up_ms, settled, settled_response))

    def _arm_commit_timer(self, delay_ms: int) -> None:
        """One timer, for the oldest of those that wait: the high watermark may move thousands of times meanwhile."""
        if self._commit_timer is not None:
            self._commit_timer.cancel()
        self._commit_timer = self._loop.call_later(delay_ms / 1000, self._release_committed)

    def _high_watermark_moved(self) -> None:
        self._loop.call_soon(self._release_committed)

    def _release_committed(self) -> None:
        """Let go what is committed by now, and refuse what waited too long."""
        if self.state is PartitionState.CLOSED:
            return
        deferred = self._deferred
        high_watermark = self._log.high_watermark
        actions = self._awaiting_commit
        while actions and actions[0][0] <= high_watermark:
            self._loop.call_soon(self._act, actions.popleft()[1])
        if not deferred:
            if not actions:
                self._log.set_listener(None)
            return
        now_ms = self.monotonic_ms()
        while deferred:
            end_offset, gives_up_ms, pending, response = deferred[0]
            if end_offset > high_watermark and gives_up_ms > now_ms:
                self._arm_commit_timer(gives_up_ms - now_ms)
                return
            deferred.popleft()
            if end_offset > high_watermark:
                response = pending.refusal(ErrorCode.COORDINATOR_NOT_AVAILABLE)
            pending.release(response)
        if not actions:
            self._log.set_listener(None)

    def _take_completions(self) -> Completions:
        completions = self.shard.completions
        if not completions:
            return []
        taken = completions[:]
        completions.clear()
        return taken

    def _release_completions(self) -> None:
        for pending, response in self._take_completions():
            pending.release(response)

    # -- timers

    def _arm_timer(self) -> None:
        deadline_ms = self.shard.next_deadline_ms()
        if self._timer is not None:
            # An early wake-up is harmless, so only an earlier deadline moves the timer.
            if deadline_ms is None or deadline_ms >= self._timer_deadline_ms:
                return
            self._timer.cancel()
        if deadline_ms is None:
            self._timer = None
            return
        self._timer_deadline_ms = deadline_ms
        self._timer = self._loop.call_at(deadline_ms / 1000, self._run_timers)

    def _run_timers(self) -> None:
        self._timer = None
        if self.state is not PartitionState.ACTIVE:
            return
        # A loop may wake a moment before the deadline it was given.
        now = self.now()._replace(monotonic_ms=max(self.monotonic_ms(), self._timer_deadline_ms))
        try:
            for _ in range(_MOST_TIMERS_AT_ONCE):
                result = self.shard.take_due(now)
                if result is None:
                    break
                self.complete(result, _nobody_asked)
        finally:
            # One action that fails, which the loop reports, must not stop the others.
            self._arm_timer()

    # -- life

    def when_active(self, action: Callable[[], None]) -> None:
        """Do something now, or at the end of loading; never, when loading fails."""
        if self.state is PartitionState.ACTIVE:
            action()
        elif self.state is PartitionState.LOADING:
            self._when_active.append(action)

    def start(self) -> None:
        """Load the log; an empty one is loaded at once."""
        if self._log.log_start_offset == self._log.log_end_offset:
            self._became_active()
        else:
            self._loading = self._loop.create_task(self._load())

    def close(self, code: ErrorCode = ErrorCode.NOT_COORDINATOR) -> None:
        """Stop coordinating: refuse everything parked or waiting for its commit."""
        if self.state is PartitionState.CLOSED:
            return
        self.state = PartitionState.CLOSED
        if self._loading is not None:
            self._loading.cancel()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._commit_timer is not None:
            self._commit_timer.cancel()
            self._commit_timer = None
        self._log.set_listener(None)
        deferred = list(self._deferred)
        self._deferred.clear()
        self._awaiting_commit.clear()
        for _, _, pending, _ in deferred:
            pending.release(pending.refusal(code))
        self.shard.unload(code)
        self._release_completions()

    async def wait_until_loaded(self) -> None:
        """Return when loading is over, however it went."""
        if self._loading is not None:
            await asyncio.wait([self._loading])

    def _became_active(self) -> None:
        self._written_end_offset = self._log.log_end_offset
        self.state = PartitionState.ACTIVE
        self.shard.loaded(self.now())
        self._arm_timer()
        actions, self._when_active = self._when_active, []
        for action in actions:
            action()

    async def _load(self) -> None:
        begin_ms = self.monotonic_ms()
        try:
            count = await replay_log(self._log, self.shard, self._codec, self._settings.load_chunk_bytes)
        except (CorruptRecordError, ProtocolError, UnsupportedVersionError, OSError, ApiError) as error:
            logger.error("coordinator partition %d cannot be loaded: %s", self.partition, error)
            self.state = PartitionState.FAILED
            return
        except Exception:
            # Records that contradict one another: clients have to hear of it, rather than of a load in progress.
            logger.exception("coordinator partition %d cannot be loaded", self.partition)
            self.state = PartitionState.FAILED
            return
        self._became_active()
        elapsed_ms = self.load_ms = self.monotonic_ms() - begin_ms
        logger.debug("coordinator partition %d: %d records loaded in %d ms", self.partition, count, elapsed_ms)


def _the_code(code: ErrorCode) -> ErrorCode:
    return code


def _nobody_asked(code: ErrorCode) -> None:
    """Refusal of what a timer started: it will be tried again with the next timer."""
    logger.warning("a record of a timed command was refused: %s", code.name)
