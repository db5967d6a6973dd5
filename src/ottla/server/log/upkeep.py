"""What goes on behind the logs of a broker: retention, flushes that are due, checkpoints, expiry of producers,
compaction, removal of renamed files. All of it decides on the event loop and waits for the disk in worker threads.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from ottla.runtime.disk import DiskError
from ottla.server.log.config import MAXIMUM_INT64
from ottla.server.log.files import HIGH_WATERMARK_CHECKPOINT, LOG_START_OFFSET_CHECKPOINT, RECOVERY_POINT_CHECKPOINT

if TYPE_CHECKING:
    from ottla.runtime.env import Env
    from ottla.server.log.directories import LogDirectories

logger = logging.getLogger(__name__)

LOGS_BETWEEN_PAUSES = 32
FLUSH_CHECK_MS = 1000
CLEANER_CHECK_MS = 1000


class Upkeep:
    """The tasks and timers of a broker's logs. All methods belong to the event loop."""

    def __init__(self, directories: LogDirectories, env: Env) -> None:
        self._directories = directories
        self._env = env
        self._removals: dict[asyncio.TimerHandle, None] = {}
        self._tasks: dict[asyncio.Future[None], None] = {}  # in the order in which they began
        self._stopped = False

    def begin(self) -> None:
        """Begin all of it."""
        directories = self._directories
        config = directories.config
        first_ms = config["log.initial.task.delay.ms"]
        repeat = self._repeat
        self.spawn(repeat(config["log.retention.check.interval.ms"], first_ms, self._apply_retention))
        for name, setting in (
            (HIGH_WATERMARK_CHECKPOINT, "replica.high.watermark.checkpoint.interval.ms"),
            (RECOVERY_POINT_CHECKPOINT, "log.flush.offset.checkpoint.interval.ms"),
            (LOG_START_OFFSET_CHECKPOINT, "log.flush.start.offset.checkpoint.interval.ms"),
        ):
            self.spawn(repeat(config[setting], 0, partial(directories.write_checkpoints, [name])))
        self.spawn(repeat(config["producer.id.expiration.check.interval.ms"], first_ms, self._expire_producers))
        scheduler_ms = config["log.flush.scheduler.interval.ms"]
        self.spawn(repeat(min(scheduler_ms, FLUSH_CHECK_MS), 0, self._flush_due))
        if config["log.cleaner.enable"]:
            self.spawn(self._clean())

    def spawn(self, work: Awaitable[None]) -> None:
        """Let something be done that ends with the broker, or before."""
        task = asyncio.ensure_future(work)
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)

    async def _repeat(self, interval_ms: int, first_ms: int, work: Callable[[], Awaitable[None]]) -> None:
        await asyncio.sleep((first_ms or interval_ms) / 1000)
        while True:
            try:
                await work()
            except Exception:
                logger.exception("background work on the logs failed")
            await asyncio.sleep(max(interval_ms, 1) / 1000)

    async def _apply_retention(self) -> None:
        directories = self._directories
        for number, log in enumerate(list(directories)):
            home = directories.directory_of(log.topic_partition)
            if home is None or home.failure is not None or directories.get(log.topic_partition) is not log:
                continue
            try:
                log.delete_old_segments(self._env.clock.now_ms())
            except DiskError as error:
                home.disk_failed(error)
            if number % LOGS_BETWEEN_PAUSES == 0:
                await asyncio.sleep(0)

    async def _clean(self) -> None:
        while True:
            if any(log.config.is_compacted for log in self._directories):
                break
            backoff_ms = max(self._directories.config["log.cleaner.backoff.ms"], 1)
            await asyncio.sleep(min(backoff_ms, CLEANER_CHECK_MS) / 1000)
        # A broker without compacted topics need not know how it is done.
        from ottla.server.log.compaction.cleaner import LogCleaner

        await LogCleaner(self._directories, self._env).run()

    async def _flush_due(self) -> None:
        now_ms = self._env.clock.now_ms()
        for log in list(self._directories):
            if log.config.flush_ms != MAXIMUM_INT64 and log.needs_flush(now_ms):
                self._directories.flush_later(log)

    async def _expire_producers(self) -> None:
        now_ms = self._env.clock.now_ms()
        directories = self._directories
        for directory in directories.online:
            directory.producer_id_expiration_ms = directories.config["producer.id.expiration.ms"]
        for log in directories:
            log.remove_expired_producers(now_ms)

    def delete_later(self, paths: list[str], delay_ms: int) -> None:
        """Remove files and directories after a while."""
        if self._stopped or not paths:
            return
        loop = asyncio.get_running_loop()

        def due() -> None:
            self._removals.pop(handle, None)
            self.spawn(self._remove(paths))

        handle = loop.call_later(delay_ms / 1000, due)
        self._removals[handle] = None

    async def _remove(self, paths: list[str]) -> None:
        await self._env.run_blocking(self._remove_now, paths)

    def _remove_now(self, paths: list[str]) -> None:
        for path in paths:
            try:
                if self._env.disk.is_directory(path):
                    self._env.disk.remove_tree(path)
                elif self._env.disk.exists(path):
                    self._env.disk.remove(path)
            except DiskError as error:
                logger.warning("can not remove %s, the next start tries again: %s", path, error)

    def stop(self) -> list[asyncio.Future[None]]:
        """End it; what to wait for."""
        self._stopped = True
        for handle in self._removals:
            handle.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        return tasks
