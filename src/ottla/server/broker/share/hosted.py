"""A share partition on the broker that leads it: the core, with log, coordinator, timers and waiters around it."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING, Protocol

from ottla.core.errors import ErrorCode
from ottla.runtime.disk import DiskError
from ottla.server.broker.share.fetched import FetchedBatches, scan
from ottla.server.broker.share.persister import FENCING, PersistedState, Persister
from ottla.server.broker.share.share_partition import SharePartition
from ottla.server.log.slice import LogSlice
from ottla.server.replication.partition import READ_COMMITTED

if TYPE_CHECKING:
    from collections.abc import Callable

    from ottla.runtime.env import Env
    from ottla.server.broker.share.dead_letters import DeadLetterQueue
    from ottla.server.broker.share.delivery import DeadLetter, StateChange
    from ottla.server.broker.share.groups import ShareGroup
    from ottla.server.replication.partition import Partition

logger = logging.getLogger(__name__)

# Whoever takes a job or two at a time is served from what was read ahead: the next one wants the next job.
_READ_AHEAD_RECORDS = 16
_READ_AHEAD_BYTES = 32_768
# The first read for more records, and how it grows until there are enough of them.
_FIRST_READ_BYTES = 65_536
_READ_GROWTH = 4
_NO_OFFSET = -1
# After a write that failed for no reason that the persister would try again for.
_WRITE_BACKOFF_S = 1.0


class RecordWaiter(Protocol):
    """A fetch that found nothing."""

    def try_again(self) -> None:
        """There may be records now."""

    def failed(self, hosted: HostedSharePartition, code: ErrorCode) -> None:
        """There will be none: the partition is closed."""


class HostedSharePartition:
    """One partition for one group. `core` is None until the state is read; after `close` a new object takes over."""

    __slots__ = (
        "_ahead",
        "_armed_ms",
        "_dead_letter_queue",
        "_env",
        "_is_retired",
        "_is_serving",
        "_is_writing",
        "_leader_epoch",
        "_loop",
        "_on_close",
        "_persister",
        "_retry",
        "_state_epoch",
        "_timer",
        "core",
        "group",
        "is_closed",
        "is_reading",
        "partition",
        "waiters",
    )

    def __init__(
        self,
        group: ShareGroup,
        partition: Partition,
        env: Env,
        persister: Persister,
        dead_letter_queue: Callable[[], DeadLetterQueue],
        on_close: Callable[[HostedSharePartition], None],
    ) -> None:
        self.group = group
        self.partition = partition
        self.core: SharePartition | None = None
        self.is_closed = False
        self.is_reading = False  # somebody reads from the disk for a fetch; others would read the same
        self.waiters: dict[RecordWaiter, None] = {}
        self._env = env
        self._persister = persister
        self._dead_letter_queue = dead_letter_queue
        self._on_close = on_close
        self._loop = asyncio.get_running_loop()
        self._leader_epoch = partition.leader_epoch
        self._state_epoch = 0
        self._is_retired = False
        self._is_serving = False
        self._is_writing = False
        self._timer: asyncio.TimerHandle | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._armed_ms = 0
        self._ahead: FetchedBatches | None = None
        partition.add_waiter(self)

    def __repr__(self) -> str:
        return f"{self.group.group_id}:{self.partition.topic}-{self.partition.partition}"

    # Life

    def load(self) -> None:
        """Read the state from the share coordinator; fetches wait for it."""
        self._persister.read(self._loaded)

    def _loaded(self, code: ErrorCode, state: PersistedState | None) -> None:
        if state is None:
            logger.warning("the state of share partition %s cannot be read: %s", self, code.name)
            self.close(code)
        elif state.start_offset != _NO_OFFSET:
            self._activate(state, state.start_offset)
        elif self.group.auto_offset_reset == "latest":
            self._activate(state, self.partition.log.high_watermark)
        elif self.group.auto_offset_reset == "earliest":
            self._activate(state, self.partition.log.log_start_offset)
        else:
            task = self._loop.create_task(self._find_start(state, self.group.auto_offset_reset))
            task.add_done_callback(self._start_found)

    async def _find_start(self, state: PersistedState, reset: str) -> None:
        """The first record that is not older than the duration says; the end of the log when all are."""
        log = self.partition.log
        timestamp_ms = self._env.clock.now_ms() - duration_ms(reset.partition(":")[2])
        try:
            found = await self._env.run_blocking(log.timestamp_search(timestamp_ms))
        except DiskError as error:
            self.close(log.storage_error(error).code)
            return
        self._activate(state, log.high_watermark if found is None else min(found.offset, log.high_watermark))

    def _start_found(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("share partition %s cannot find its start", self, exc_info=error)
            self.close(ErrorCode.UNKNOWN_SERVER_ERROR)

    def _activate(self, state: PersistedState, start_offset: int) -> None:
        if self.is_closed:
            return
        self._state_epoch = state.state_epoch
        core = self.core = SharePartition(start_offset, self.group.settings, state.batches)
        core.move_start(self.partition.log.log_start_offset)
        if core.start_offset != state.start_offset:
            # Kafka leaves the start open until the first acknowledgement: after a restart before it, what was produced
            # meanwhile would be skipped by "latest".
            core.touch()
            self.schedule_write()
        self._after_change()

    def retire(self) -> None:
        """No member is left: go as soon as everything is written."""
        self._is_retired = True
        self._close_if_done()

    def revive(self) -> None:
        """There are members again."""
        self._is_retired = False

    def _close_if_done(self) -> None:
        if self._is_retired and not self.is_closed and (self.core is None or self.core.is_idle):
            self.close(ErrorCode.NOT_LEADER_OR_FOLLOWER)

    def close(self, code: ErrorCode) -> None:
        """This broker has no say in the partition any more, or cannot work: refuse everybody with the code."""
        if self.is_closed:
            return
        self.is_closed = True
        self.partition.remove_waiter(self)
        self._persister.close()
        for timer in (self._timer, self._retry):
            if timer is not None:
                timer.cancel()
        self._on_close(self)
        if self.core is not None:
            settle(self.core.abandon(), code)
        for waiter in list(self.waiters):
            waiter.failed(self, code)

    def settings_changed(self) -> None:
        """The group has other settings."""
        if self.core is not None:
            self.core.settings = self.group.settings
            self._ahead = None  # what it leaves out depends on the isolation level
            self.wake()

    # Log

    def partition_changed(self, partition: Partition) -> None:
        """Records came, or the leadership went (`replication.partition.PartitionWaiter`)."""
        if not partition.is_leader or partition.leader_epoch != self._leader_epoch:
            self.close(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        elif self.waiters:
            self.wake()

    @property
    def readable_end_offset(self) -> int:
        """Exclusive end of what the group may read."""
        log = self.partition.log
        return log.last_stable_offset if self.group.isolation_level == READ_COMMITTED else log.high_watermark

    def read(
        self, offset: int, wanted_end_offset: int, max_bytes: int, *, at_least_one: bool
    ) -> FetchedBatches | LogSlice:
        """The batches from `offset` on, up to the wanted end if they fit `max_bytes`; a slice when they are not in the
        page cache, to be read in a worker thread and handed to `scan`. Raises ApiError and CorruptRecordError.
        """
        log = self.partition.log
        end_offset = self.readable_end_offset
        if wanted_end_offset > end_offset:
            wanted_end_offset = end_offset
        reads_ahead = at_least_one and wanted_end_offset - offset <= _READ_AHEAD_RECORDS
        if reads_ahead and self._ahead is not None:
            found_ahead = self._ahead.part(offset, wanted_end_offset, max_bytes)
            if found_ahead is not None:
                return found_ahead
        read_bytes = _READ_AHEAD_BYTES if reads_ahead else min(_FIRST_READ_BYTES, max_bytes)
        while True:
            found = log.read(offset, read_bytes, upper_bound=end_offset, min_one_batch=at_least_one)
            content = found.read_cached()
            if content is None:
                return found
            if reads_ahead:
                ahead = self.scan(content, offset, end_offset)
                # A batch may be far larger, and is better left to the page cache.
                self._ahead = ahead if len(content) <= 2 * _READ_AHEAD_BYTES else None
                found_ahead = ahead.part(offset, wanted_end_offset, max_bytes)
                if found_ahead is not None:
                    return found_ahead
                reads_ahead = False
            fetched = self.scan(content, offset, wanted_end_offset)
            if fetched.end_offset >= wanted_end_offset or found.size < read_bytes or read_bytes >= max_bytes:
                return fetched
            read_bytes = min(max(read_bytes, _FIRST_READ_BYTES) * _READ_GROWTH, max_bytes)

    async def read_blocking(self, found: LogSlice) -> bytes:
        """The bytes of a slice, from a worker thread. Raises DiskError."""
        return await self._env.run_blocking(found.read)

    def scan(self, content: bytes | bytearray, offset: int, wanted_end_offset: int) -> FetchedBatches:
        """What was read at `offset`, without what the group is not to see."""
        aborted = None
        if self.group.isolation_level == READ_COMMITTED:
            aborted = self.partition.log.aborted_transactions(offset, self.readable_end_offset)
        return scan(content, offset, wanted_end_offset, aborted)

    def log_start_moved(self) -> None:
        """Records were deleted that the group has not seen."""
        assert self.core is not None
        self.core.move_start(self.partition.log.log_start_offset)
        self.core.touch()
        self.schedule_write()

    # Writing

    def schedule_write(self) -> None:
        """Write what changed, at the end of this turn of the loop: with what other connections acknowledge in it."""
        if not self._is_writing and not self.is_closed:
            self._is_writing = True
            self._loop.call_soon(self._write)

    def write_now(self) -> None:
        """Write what changed without waiting for the end of the turn: the broker stops."""
        if self.core is not None and self.core.needs_write:
            self._write()

    def _write(self) -> None:
        core = self.core
        assert core is not None
        if self.is_closed or not core.needs_write:
            self._is_writing = False
            return
        self._persister.write(core.take_write(), self._state_epoch, self._written)

    def _written(self, code: ErrorCode) -> None:
        core = self.core
        assert core is not None
        self._is_writing = False
        settled = core.finish_write(code, self.now_ms())
        if code is not ErrorCode.NONE:
            logger.warning("the state of share partition %s could not be written: %s", self, code.name)
            if core.needs_write and code not in FENCING:
                self._is_writing = True
                self._retry = self._loop.call_later(_WRITE_BACKOFF_S, self._write)
        if code in FENCING:
            settle(settled, code)
            self.close(code)
            return
        settle(settled, code)
        self._after_change()

    def _after_change(self) -> None:
        """Whatever may follow from a changed state."""
        core = self.core
        assert core is not None
        if core.needs_write:
            self.schedule_write()
        letters = core.take_dead_letters()
        if letters:
            self._dead_letter_queue().put(self, letters)
        self.arm()
        if self.waiters:
            self.wake()
        if self._is_retired:
            self._close_if_done()

    def dead_letter_delivered(self, letter: DeadLetter) -> None:
        """The records are in the dead-letter queue, or cannot get there."""
        assert self.core is not None
        self.core.archive_dead_letter(letter)
        self.schedule_write()

    # Time

    def now_ms(self) -> int:
        """The loop's clock, in milliseconds: what deadlines of locks count on."""
        return int(self._loop.time() * 1000)

    def arm(self) -> None:
        """Have locks time out when they should; to be called after an acquisition."""
        assert self.core is not None
        deadline_ms = self.core.next_deadline_ms
        if deadline_ms is None or self.is_closed:
            return
        if self._timer is not None:
            if self._armed_ms <= deadline_ms:
                return
            self._timer.cancel()
        self._armed_ms = deadline_ms
        # One more, because `now_ms` is rounded down.
        self._timer = self._loop.call_at((deadline_ms + 1) / 1000, self._expire)

    def _expire(self) -> None:
        self._timer = None
        assert self.core is not None
        if self.core.expire(self.now_ms()):
            self.schedule_write()
            self.wake()
        self.arm()

    # Waiting

    def wait(self, waiter: RecordWaiter) -> None:
        """Have `waiter` told of records, until it is taken out of `waiters`."""
        self.waiters[waiter] = None
        self._ahead = None  # nothing is left of it, and the next records may be long in coming

    @property
    def may_have_records(self) -> bool:
        """Whether a fetch would find something to hand out."""
        core = self.core
        if core is None or self.is_reading:
            return False
        offset, wanted_end_offset = core.plan(1)
        return offset < wanted_end_offset and offset < self.readable_end_offset

    def wake(self) -> None:
        """Give those who wait, in their order, what there is now: later in this turn of the loop, so that a burst of
        appends is one answer and the producer is answered first.
        """
        if self.waiters and not self._is_serving:
            self._is_serving = True
            self._loop.call_soon(self._serve)

    def _serve(self) -> None:
        self._is_serving = False
        for waiter in list(self.waiters):
            if self.is_closed or not self.may_have_records:
                return
            waiter.try_again()


def settle(changes: list[StateChange], code: ErrorCode) -> None:
    """Tell those who wait for the changes."""
    for change in changes:
        if change.on_settled is not None:
            change.on_settled(code)


def duration_ms(text: str) -> int:
    """Milliseconds of an ISO 8601 duration of days, hours, minutes and seconds (`P1DT2H30M1.5S`)."""
    match = re.fullmatch(
        r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?", text, re.IGNORECASE | re.ASCII
    )
    assert match is not None, text
    days, hours, minutes, seconds = (float(group or 0) for group in match.groups())
    return int((((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000)
