"""One ShareFetch: records from whichever of its partitions has any, at once, or when the first come."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.share_fetch import AcquiredRecords, PartitionData
from ottla.records.batch import CorruptRecordError
from ottla.runtime.disk import DiskError
from ottla.server.broker.share.fetched import FetchedBatches
from ottla.server.log.slice import LogSlice

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ottla.server.broker.share.delivery import AcquireRequest
    from ottla.server.broker.share.hosted import HostedSharePartition
    from ottla.server.broker.share.sessions import SharedPartition

EMPTY = b""

Found = list[tuple["SharedPartition", PartitionData]]


class ShareFetch:
    """What one member wants now. `find` gives the hosted partition of an entry, or raises ApiError; `before_again` is
    called before partitions are looked at after a wait.

    `start` answers at once when there is something to say; otherwise `on_done` is called, once, with what was found
    after at most `max_wait_ms`, or `on_failed` with an error that nobody expected. Partitions are served in the order
    of `entries` until `max_records` or `max_bytes` are used up; the first batch is handed out whatever its size.
    """

    __slots__ = (
        "_before_again",
        "_entries",
        "_find",
        "_found",
        "_is_over",
        "_max_bytes",
        "_max_wait_ms",
        "_min_bytes",
        "_on_done",
        "_on_failed",
        "_reading",
        "_remaining",
        "_request",
        "_timer",
        "_waiting_for",
    )

    def __init__(
        self,
        entries: Sequence[SharedPartition],
        request: AcquireRequest,
        *,
        min_bytes: int,
        max_bytes: int,
        max_wait_ms: int,
        find: Callable[[SharedPartition], HostedSharePartition],
        on_done: Callable[[Found], None],
        on_failed: Callable[[Exception], None],
        before_again: Callable[[], None] | None = None,
    ) -> None:
        self._entries = entries
        self._request = request
        self._remaining = request.max_records
        self._min_bytes = min_bytes
        self._max_bytes = max_bytes
        self._max_wait_ms = max_wait_ms
        self._find = find
        self._on_done = on_done
        self._on_failed = on_failed
        self._before_again = before_again
        self._found: Found = []
        self._is_over = False
        self._reading: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waiting_for: list[HostedSharePartition] = []

    def start(self) -> Found | None:
        """What there is; None when it will be told through `on_done`."""
        if self._max_wait_ms <= 0:
            self._min_bytes = 0
        self._attempt()
        if self._reading is not None:
            return None
        if self._found or self._max_wait_ms <= 0:
            self._is_over = True
            return self._found
        self._wait()
        return None

    def cancel(self) -> None:
        """Nobody waits for the answer any more; what was acquired for it is released with the session."""
        self._is_over = True
        self._stop_waiting()

    # Waiting

    def try_again(self) -> None:
        """Records may have come (`RecordWaiter`)."""
        if not self._is_over and self._reading is None:
            self._go_on()

    def failed(self, hosted: HostedSharePartition, code: ErrorCode) -> None:
        """A partition that this fetch waits for is closed (`RecordWaiter`)."""
        for entry in self._entries:
            if entry.hosted is hosted:
                entry.hosted = None
                self._refused(entry, code)
        if not self._is_over and self._reading is None:
            self._finish()

    def _wait(self) -> None:
        for entry in self._entries:
            hosted = entry.hosted
            if hosted is not None and not hosted.is_closed:
                hosted.wait(self)
                self._waiting_for.append(hosted)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._max_wait_ms / 1000, self._time_is_up)

    def _time_is_up(self) -> None:
        if not self._is_over:
            self._max_wait_ms = self._min_bytes = 0
            if self._reading is None:
                self._go_on()

    def _go_on(self) -> None:
        """Look again, and answer when that found something or the time is up. Called by the loop, not by the handler:
        what goes wrong here has to reach the client from here.
        """
        try:
            if self._before_again is not None:
                self._before_again()
            self._attempt()
        except Exception as error:
            self._fail(error)
            return
        if self._reading is None:
            if self._found or self._max_wait_ms <= 0:
                self._finish()
            elif not self._waiting_for:
                self._wait()

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for hosted in self._waiting_for:
            hosted.waiters.pop(self, None)
        self._waiting_for.clear()

    def _finish(self) -> None:
        self._is_over = True
        self._stop_waiting()
        self._on_done(self._found)

    def _fail(self, error: Exception) -> None:
        self._is_over = True
        self._stop_waiting()
        self._on_failed(error)

    # Finding

    def _attempt(self) -> None:
        """Take what there is; afterwards either something is found, or nothing, or `_reading` goes on."""
        for entry in self._entries:
            if entry.hosted is None or entry.hosted.is_closed:
                try:
                    entry.hosted = self._find(entry)
                except ApiError as error:
                    entry.hosted = None
                    self._refused(entry, error.code)
        if self._min_bytes > 1 and not self._found and self._available_bytes() < self._min_bytes:
            return
        for entry in self._entries:
            if self._remaining <= 0 or self._max_bytes <= 0 or self._reading is not None:
                return
            hosted = entry.hosted
            if hosted is None or hosted.core is None or hosted.is_reading:
                continue
            try:
                self._take(entry, hosted)
            except ApiError as error:
                self._refused(entry, error.code)
            except CorruptRecordError:
                self._refused(entry, ErrorCode.CORRUPT_MESSAGE)

    def _take(self, entry: SharedPartition, hosted: HostedSharePartition) -> None:
        core = hosted.core
        assert core is not None
        log = hosted.partition.log
        previous = -1
        while True:
            offset, wanted_end_offset = core.plan(self._remaining)
            if offset >= wanted_end_offset or offset >= hosted.readable_end_offset or offset == previous:
                return
            if offset < log.log_start_offset:
                hosted.log_start_moved()
                continue
            previous = offset
            fetched = hosted.read(offset, wanted_end_offset, self._max_bytes, at_least_one=not self._found)
            if isinstance(fetched, LogSlice):
                hosted.is_reading = True
                reading = self._read_cold(entry, hosted, fetched, offset, wanted_end_offset)
                self._reading = asyncio.get_running_loop().create_task(reading)
                return
            # Where there were only offsets without a record, look behind them.
            if not fetched.ends or self._acquire(entry, hosted, fetched):
                return

    def _acquire(self, entry: SharedPartition, hosted: HostedSharePartition, fetched: FetchedBatches) -> bool:
        core = hosted.core
        assert core is not None
        start_offset = core.start_offset
        request = self._request
        if self._remaining != request.max_records:
            request = request._replace(max_records=self._remaining)
        acquired = core.acquire(request, fetched, hosted.now_ms())
        if core.start_offset != start_offset:
            core.touch()
            hosted.schedule_write()
        if not acquired:
            return False
        hosted.arm()
        last_offset = acquired[-1].end_offset - 1
        records = fetched.bytes_of(acquired[0].first_offset, last_offset)
        pieces = []
        for piece in acquired:
            self._remaining -= piece.end_offset - piece.first_offset
            pieces.append(
                AcquiredRecords(
                    first_offset=piece.first_offset,
                    last_offset=piece.end_offset - 1,
                    delivery_count=piece.delivery_count,
                )
            )
        self._max_bytes -= len(records)
        self._found.append(
            (entry, PartitionData(partition_index=entry.index, records=records, acquired_records=pieces))
        )
        return True

    async def _read_cold(
        self,
        entry: SharedPartition,
        hosted: HostedSharePartition,
        found: LogSlice,
        offset: int,
        wanted_end_offset: int,
    ) -> None:
        """Read what is not in the page cache in a worker thread, then go on."""
        failure: Exception | None = None
        has_read = False
        try:
            content = await hosted.read_blocking(found)
            if not self._is_over and not hosted.is_closed:
                fetched = hosted.scan(content, offset, wanted_end_offset)
                has_read = bool(fetched.ends)
                if has_read:
                    self._acquire(entry, hosted, fetched)
        except DiskError as error:
            self._refused(entry, hosted.partition.log.storage_error(error).code)
        except CorruptRecordError:
            self._refused(entry, ErrorCode.CORRUPT_MESSAGE)
        except Exception as error:
            failure = error
        finally:
            self._reading = None
            hosted.is_reading = False
            hosted.wake()
        if self._is_over:
            return
        if failure is not None:
            self._fail(failure)
        elif self._found or self._max_wait_ms <= 0:
            self._finish()
        elif has_read or hosted.is_closed:
            self._go_on()  # only offsets without a record: look behind them, and at the partitions after this one
        else:
            self._wait()

    def _available_bytes(self) -> int:
        """How much could be handed out now, counted until it is enough."""
        available = 0
        for entry in self._entries:
            hosted = entry.hosted
            if hosted is None or hosted.core is None:
                continue
            offset, wanted_end_offset = hosted.core.plan(self._remaining)
            end_offset = hosted.readable_end_offset
            log = hosted.partition.log
            if log.log_start_offset <= offset < min(wanted_end_offset, end_offset):
                available += log.read(offset, self._max_bytes, upper_bound=end_offset, min_one_batch=True).size
                if available >= self._min_bytes:
                    break
        return available

    def _refused(self, entry: SharedPartition, code: ErrorCode) -> None:
        data = PartitionData(
            partition_index=entry.index, error_code=code, error_message=code.message, records=EMPTY, acquired_records=[]
        )
        self._found.append((entry, data))
