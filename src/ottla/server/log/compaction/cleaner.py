"""The cleaner: which log is compacted when, and how fast."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from ottla.core.errors import ApiError
from ottla.records.batch import CorruptRecordError
from ottla.runtime.disk import DiskError, DiskFullError, MissingFileError
from ottla.server.log.compaction.cleaning import Cleaning, CleaningAbortedError
from ottla.server.log.compaction.plan import CleaningPlan, plan_cleaning
from ottla.server.log.errors import CorruptIndexError, LogError
from ottla.server.log.files import CLEANER_OFFSET_CHECKPOINT, RECOVERY_POINT_CHECKPOINT
from ottla.server.log.log import Log

if TYPE_CHECKING:
    from ottla.runtime.env import Env
    from ottla.server.log.directories import LogDirectories
    from ottla.server.log.segment import Segment

logger = logging.getLogger(__name__)

# A debt to the I/O limit is paid when it is worth a timer.
SHORTEST_PAUSE_S = 0.05
LONGEST_SLEEP_MS = 1000
# Slices a worker thread runs before the event loop is asked whether to go on. Whoever wants the interpreter in between
# gets it: a thread that has it is made to give it up after five milliseconds.
SLICES_IN_A_ROW = 2
SMALLEST_READ_BYTES = 64 * 1024


class LogCleaner:
    """Cleans the logs of a broker, the dirtiest one first, `log.cleaner.threads` at a time.

    Settings are looked up with every round, so that changed ones hold from the next one on (the I/O limit at once).
    A log that can not be cleaned, as something in it is damaged, is left alone until the next start.
    """

    def __init__(self, directories: LogDirectories, env: Env) -> None:
        self._directories = directories
        self._env = env
        self._rounds: dict[Log, asyncio.Task[None]] = {}
        self._uncleanable: set[Log] = set()
        self._owed_bytes = 0.0
        self._paid_s = 0.0
        self._full_until_ms = 0

    async def run(self) -> None:
        """Clean whatever is dirty, for ever. Cancelling it gives up the rounds under way."""
        try:
            while True:
                self.begin_rounds()
                if self._rounds:
                    backoff_s = max(self._directories.config["log.cleaner.backoff.ms"], 1) / 1000
                    await asyncio.wait(self._rounds.values(), timeout=backoff_s, return_when=asyncio.FIRST_COMPLETED)
                else:
                    await self._back_off()
        finally:
            rounds = list(self._rounds.values())
            for task in rounds:
                task.cancel()
            await asyncio.gather(*rounds, return_exceptions=True)

    async def _back_off(self) -> None:
        """Sleep for `log.cleaner.backoff.ms`, in pieces: the setting may be changed meanwhile."""
        slept_ms = 0
        while (remaining_ms := max(self._directories.config["log.cleaner.backoff.ms"], 1) - slept_ms) > 0:
            piece_ms = min(remaining_ms, LONGEST_SLEEP_MS)
            await asyncio.sleep(piece_ms / 1000)
            slept_ms += piece_ms

    def begin_rounds(self) -> None:
        """Begin to clean the dirtiest logs, as far as there are threads for it."""
        threads = max(self._directories.config["log.cleaner.threads"], 1)
        if len(self._rounds) >= threads:
            return
        now_ms = self._env.clock.now_ms()
        if now_ms < self._full_until_ms:
            return
        plans = [plan for log in list(self._directories) if (plan := self._plan(log, now_ms)) is not None]
        plans.sort(key=lambda plan: plan.dirty_ratio, reverse=True)
        for plan in plans[: threads - len(self._rounds)]:
            task = asyncio.ensure_future(self.clean(plan))
            self._rounds[plan.log] = task
            task.add_done_callback(partial(self._round_ended, plan.log))

    def _round_ended(self, log: Log, _: asyncio.Task[None]) -> None:
        del self._rounds[log]

    def _plan(self, log: Log, now_ms: int) -> CleaningPlan | None:
        if not log.config.is_compacted or log in self._rounds or log in self._uncleanable:
            return None
        if self._directories.is_moving(log.topic_partition):
            return None
        home = self._directories.directory_of(log.topic_partition)
        if home is None or home.failure is not None:
            return None
        try:
            plan = plan_cleaning(log, now_ms)
        except DiskError as error:
            home.disk_failed(error)
            return None
        except CorruptRecordError as error:
            self._give_up(log, error)
            return None
        return plan if plan is not None and plan.is_worthwhile else None

    @property
    def uncleanable(self) -> set[Log]:
        """Logs that are left alone as something in them is damaged."""
        return self._uncleanable

    async def clean(self, plan: CleaningPlan) -> None:
        """One round over one log. What goes wrong is said in one line and concerns this log only."""
        log = plan.log
        try:
            await self._clean(plan)
        except (CleaningAbortedError, MissingFileError, ApiError):
            pass  # it was cut or deleted meanwhile, or its directory failed, which was said there
        except DiskFullError as error:
            self._full_until_ms = self._env.clock.now_ms() + self._directories.config["log.cleaner.backoff.ms"]
            logger.warning("no room to compact %s, trying again later: %s", log.topic_partition, error)
        except DiskError as error:
            home = self._directories.directory_of(log.topic_partition)
            if home is not None and self._is_current(log):
                home.disk_failed(error)
        except (CorruptRecordError, CorruptIndexError, LogError) as error:
            self._give_up(log, error)
        except Exception as error:
            logger.exception("compaction of %s failed", log.topic_partition)
            self._give_up(log, error)

    def _give_up(self, log: Log, error: Exception) -> None:
        self._uncleanable = {other for other in self._uncleanable if self._is_current(other)} | {log}
        self._directories.cleaning.uncleanable = {one.topic_partition: one.directory for one in self._uncleanable}
        logger.error(
            "%s can not be compacted and is left alone until the next start: %s (in %s)",
            log.topic_partition,
            error,
            log.directory,
        )

    def _is_current(self, log: Log) -> bool:
        return self._directories.get(log.topic_partition) is log

    async def _clean(self, plan: CleaningPlan) -> None:
        log, config = plan.log, self._directories.config
        started_s = asyncio.get_running_loop().time()
        await self._make_durable(plan)
        self._check_current(log)
        threads = max(config["log.cleaner.threads"], 1)
        cleaning = Cleaning(
            plan,
            budget_bytes=int(
                config["log.cleaner.dedupe.buffer.size"] / threads * config["log.cleaner.io.buffer.load.factor"]
            ),
            io_bytes=max(config["log.cleaner.io.buffer.size"] // threads, SMALLEST_READ_BYTES),
            now_ms=self._env.clock.now_ms(),
        )
        await self._run_slices(log, cleaning.learn_keys())
        for group in cleaning.groups():
            await self._clean_group(cleaning, group)
        if cleaning.cleaned_offset > log.cleaned_offset or log.cleaned_offset > log.log_end_offset:
            log.cleaned_offset = cleaning.cleaned_offset
        await self._write_checkpoint(log, CLEANER_OFFSET_CHECKPOINT)
        elapsed_s = asyncio.get_running_loop().time() - started_s
        statistics = cleaning.statistics
        totals = self._directories.cleaning
        totals.rounds += 1
        totals.bytes_moved += statistics.bytes_read + statistics.bytes_written
        totals.ended_ms = self._env.clock.now_ms()
        totals.last_s = elapsed_s
        totals.last_recopied_share = statistics.bytes_written / statistics.bytes_read if statistics.bytes_read else 0.0
        totals.last_buffer_share = statistics.memory_bytes / cleaning.budget_bytes if cleaning.budget_bytes else 0.0
        logger.info(
            "compacted %s up to offset %d: %.1f MB rewritten as %.1f MB, %d segments written, %d keys, in %.1f s",
            log.topic_partition,
            cleaning.cleaned_offset,
            statistics.bytes_read / 1e6,
            statistics.bytes_written / 1e6,
            statistics.groups_replaced,
            statistics.keys,
            elapsed_s,
        )

    async def _clean_group(self, cleaning: Cleaning, group: list[Segment]) -> None:
        log = cleaning.log
        swapped = False
        try:
            await self._run_slices(log, cleaning.write_group(group))
            if cleaning.output is None:
                return
            self._check_current(log)
            cleaning.check_still_valid(group)
            swapped = True
            cleaning.swap(group)
            await self._env.run_blocking(log.disk.sync_directory, log.directory)
        finally:
            if not swapped and cleaning.output is not None:
                cleaning.output.discard()

    async def _make_durable(self, plan: CleaningPlan) -> None:
        """Recovery takes a hole above the recovery point for lost data: everything that is cleaned has to be below it,
        and that has to be known on disk.
        """
        log = plan.log
        if log.recovery_point < plan.end_offset:
            await self._directories.flush(log)
        self._check_current(log)
        if log.recovery_point < plan.end_offset:
            raise CleaningAbortedError
        await self._write_checkpoint(log, RECOVERY_POINT_CHECKPOINT)

    async def _write_checkpoint(self, log: Log, name: str) -> None:
        home = self._directories.directory_of(log.topic_partition)
        if home is not None and self._is_current(log):
            await self._directories.write_checkpoint(home, name)

    def _check_current(self, log: Log) -> None:
        home = self._directories.directory_of(log.topic_partition)
        if not self._is_current(log) or home is None or home.failure is not None or not log.config.is_compacted:
            raise CleaningAbortedError
        if self._directories.is_moving(log.topic_partition):
            raise CleaningAbortedError

    async def _run_slices(self, log: Log, slices: Iterator[int]) -> None:
        """Run an iterator in worker threads, slice by slice; in between others have their turn."""
        try:
            while True:
                running = asyncio.ensure_future(self._env.run_blocking(_run_some, slices))
                try:
                    moved = await asyncio.shield(running)
                except asyncio.CancelledError:
                    # A slice can not be stopped in the middle, nor may anything be cleared away below it.
                    await asyncio.wait({running})
                    raise
                if moved is None:
                    return
                self._check_current(log)
                await self._pay_for(moved)
        finally:
            slices.close()  # type: ignore[attr-defined]  # clears away what is half done

    async def _pay_for(self, moved_bytes: int) -> None:
        """Keep to `log.cleaner.io.max.bytes.per.second`, reads and writes together."""
        self._owed_bytes += moved_bytes
        while True:
            rate = self._directories.config["log.cleaner.io.max.bytes.per.second"]
            now_s = asyncio.get_running_loop().time()
            self._owed_bytes = max(self._owed_bytes - (now_s - self._paid_s) * rate, 0.0)
            self._paid_s = now_s
            pause_s = self._owed_bytes / rate
            if pause_s < SHORTEST_PAUSE_S:
                return
            await asyncio.sleep(min(pause_s, LONGEST_SLEEP_MS / 1000))


def _run_some(slices: Iterator[int]) -> int | None:
    """Some slices; the bytes they moved, None when there are no more."""
    moved = 0
    for number in range(SLICES_IN_A_ROW):
        piece = next(slices, None)
        if piece is None:
            return moved if number else None
        moved += piece
    return moved
