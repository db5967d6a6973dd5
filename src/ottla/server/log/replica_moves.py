"""Moving replicas between data directories while they are in use (KIP-113).

A copy, the *future* log, grows in the other directory under a name ending in `-future`: worker threads bring it
everything that is committed, at no more than `replica.alter.log.dirs.io.max.bytes.per.second`. When it is as good as
complete the event loop copies what is left, and from that moment on the copy is the log. Its directory has got its
final name by then; the old one is renamed for deletion after the new one, and its name, are on the device.

A crash before that leaves the old log and a `-future` directory, which the next start goes on with; a crash after it
may leave two directories of one name, of which the next start takes the longer log (`LogDirectories`). The log is not
compacted meanwhile: the copy would not know what is clean.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING

from ottla.core.errors import ApiError
from ottla.core.ids import TopicPartition
from ottla.records.batch import CorruptRecordError
from ottla.runtime.disk import Disk, DiskError, DiskFullError, MissingFileError
from ottla.server.log.data_directory import CHECKPOINTS
from ottla.server.log.errors import LogError
from ottla.server.log.files import CLEANER_OFFSET_CHECKPOINT, FUTURE_MARK, marked_directory_name
from ottla.server.log.host import SimpleHost
from ottla.server.log.loader import LoadRequest, create_log, load_log
from ottla.server.log.log import Log

if TYPE_CHECKING:
    from ottla.runtime.env import Env
    from ottla.server.log.data_directory import DataDirectory
    from ottla.server.log.directories import LogDirectories
    from ottla.server.log.slice import LogSlice

logger = logging.getLogger(__name__)

COPY_BYTES = 1024 * 1024
# So much is copied on the event loop in the end.
LAST_BYTES = 128 * 1024
RATE = "replica.alter.log.dirs.io.max.bytes.per.second"


class FutureHost(SimpleHost):
    """Host of a log that nobody else knows yet: it is flushed when it is complete."""

    def __init__(self, disk: Disk) -> None:
        super().__init__(disk, max_open_files=4)

    def flush_later(self, log: Log) -> None:
        pass


class ReplicaMove:
    """A replica on its way: the log as it is, the copy, and where the copy lies."""

    __slots__ = ("destination", "future", "has_taken_over", "is_resumable", "source")

    def __init__(self, source: Log, future: Log, destination: DataDirectory) -> None:
        self.source = source
        self.future = future
        self.destination = destination
        #: The copy is the log.
        self.has_taken_over = False
        #: The next start goes on with it.
        self.is_resumable = False

    @property
    def offset_lag(self) -> int:
        """Offsets that the copy does not have yet."""
        return max(self.source.log_end_offset - self.future.log_end_offset, 0)


class MoveAbortedError(Exception):
    """The log was deleted, or moved elsewhere, while it was copied."""


class ReplicaMoves:
    """All moves that are under way. Belongs to the event loop."""

    def __init__(self, directories: LogDirectories, env: Env) -> None:
        self._directories = directories
        self._env = env
        self._moves: dict[TopicPartition, ReplicaMove] = {}
        #: All that is not over, also of moves that were given up or only have to clear away behind them.
        self._tasks: dict[ReplicaMove, asyncio.Future[None]] = {}

    def get(self, topic_partition: TopicPartition) -> ReplicaMove | None:
        """The move of a partition, if it is on its way."""
        return self._moves.get(topic_partition)

    def into(self, directory: DataDirectory) -> list[ReplicaMove]:
        """The moves that lead into a directory."""
        return [move for move in self._moves.values() if move.destination is directory]

    def begin(self, log: Log, destination: DataDirectory) -> None:
        """Begin to move a log. Raises `DiskError` when the directory can not take it."""
        unique = self._env.random.randbytes(16).hex()
        name = marked_directory_name(log.topic_partition, FUTURE_MARK, unique)
        path = f"{destination.path}/{name}"
        try:
            future = create_log(FutureHost(self._directories.disk), log.topic_partition, path, log.topic_id, log.config)
        except DiskFullError:
            self._directories.discard(log.topic_partition, path)
            raise
        except DiskError as error:
            destination.disk_failed(error)
            raise
        self._start(ReplicaMove(log, future, destination))

    async def resume(self, topic_partition: TopicPartition, destination: DataDirectory, name: str) -> None:
        """Go on with a move that another process began; a copy that can not be looked at fails its directory.

        To be called before anything is appended: what the copy has beyond the log was lost there in a crash.
        """
        try:
            await self._resume(topic_partition, destination, name)
        except DiskError as error:
            destination.disk_failed(error)
        except ApiError as error:
            logger.error("can not go on moving %s to %s: %s", topic_partition, destination.path, error)

    async def _resume(self, topic_partition: TopicPartition, destination: DataDirectory, name: str) -> None:
        path = f"{destination.path}/{name}"
        source = self._directories.get(topic_partition)
        home = self._directories.directory_of(topic_partition)
        if source is None:
            return  # its directory may be out of service: who knows what the copy is worth
        end_offset = source.log_end_offset
        if home is destination or topic_partition in self._moves:
            await self._env.run_blocking(self._directories.disk.remove_tree, path)
            return
        host = FutureHost(self._directories.disk)
        request = LoadRequest()
        now_ms = self._env.clock.now_ms()
        try:
            future = await self._env.run_blocking(load_log, host, topic_partition, path, source.config, request, now_ms)
            if future.topic_id != source.topic_id:
                await self._env.run_blocking(self._directories.disk.remove_tree, path)
                return
        except LogError as error:
            logger.warning("the copy %s is begun anew: %s", path, error)
            await self._env.run_blocking(self._directories.disk.remove_tree, path)
            if self._may_begin(source):
                self.begin(source, destination)
            return
        if not self._may_begin(source):
            # Deleted meanwhile, or sent elsewhere.
            future.close()
            self._directories.discard(topic_partition, path)
            return
        future.truncate_to(end_offset, now_ms)
        self._start(ReplicaMove(source, future, destination))

    def _may_begin(self, source: Log) -> bool:
        key = source.topic_partition
        return self._directories.get(key) is source and key not in self._moves

    def cancel(self, topic_partition: TopicPartition) -> None:
        """Give a move up and remove the copy; fine when there is none."""
        move = self._moves.pop(topic_partition, None)
        if move is not None:
            self._tasks[move].cancel()

    def stop(self) -> list[asyncio.Future[None]]:
        """Stop all of them, to be resumed by the next start; what to wait for."""
        tasks = list(self._tasks.values())
        for move in self._moves.values():
            move.is_resumable = True
            self._tasks[move].cancel()
        self._moves.clear()
        return tasks

    def _start(self, move: ReplicaMove) -> None:
        self._moves[move.source.topic_partition] = move
        task = self._tasks[move] = asyncio.ensure_future(self._run(move))
        task.add_done_callback(partial(self._ended, move))

    def _ended(self, move: ReplicaMove, _: asyncio.Future[None]) -> None:
        """However it ended: a task that is cancelled early never ran."""
        del self._tasks[move]
        key = move.source.topic_partition
        if self._moves.get(key) is move:
            del self._moves[key]
        if move.has_taken_over:
            return
        move.future.close()
        if not move.is_resumable:
            self._directories.discard(key, move.future.directory)

    # The work

    async def _run(self, move: ReplicaMove) -> None:
        key = move.source.topic_partition
        try:
            await self._copy(move)
            await self._finish(move)
        except MoveAbortedError:
            pass
        except (ApiError, DiskError, LogError, CorruptRecordError) as error:
            logger.error("can not move %s to %s: %s", key, move.destination.path, error)
            self._blame(move, error)
        except Exception:
            logger.exception("moving %s to %s failed", key, move.destination.path)

    def _blame(self, move: ReplicaMove, error: Exception) -> None:
        """Take the directory out of service that failed; a full one only gets no copy."""
        if isinstance(error, DiskError) and not isinstance(error, DiskFullError | MissingFileError):
            home = self._directories.directory_of(move.source.topic_partition)
            if error.path.startswith(move.destination.path + "/"):
                move.destination.disk_failed(error)
            elif home is not None and error.path.startswith(home.path + "/"):
                home.disk_failed(error)

    def _check(self, move: ReplicaMove) -> None:
        if self._directories.get(move.source.topic_partition) is not move.source:
            raise MoveAbortedError
        if move.destination.failure is not None:
            raise MoveAbortedError

    async def _copy(self, move: ReplicaMove) -> None:
        """Until so little is left that the event loop can do it."""
        source, future = move.source, move.future
        loop = asyncio.get_running_loop()
        paid_until_s = loop.time()
        while True:
            self._check(move)
            if future.log_end_offset < source.high_watermark:
                found = self._locate(move, source.high_watermark, COPY_BYTES)
                now_ms = self._env.clock.now_ms()
                copied = await self._worker(_append, move, found, now_ms)
                if not copied:
                    raise LogError(f"nothing to read at offset {future.log_end_offset} of {source.directory}")
                paid_until_s = max(paid_until_s, loop.time()) + copied / self._directories.config[RATE]
                await asyncio.sleep(max(paid_until_s - loop.time(), 0))
                continue
            # All that is left to bring to the device afterwards is what comes in from now on.
            task = future.begin_flush()
            if task is not None:
                await self._worker(task.run)
                future.complete_flush(task)
            self._check(move)
            left = source.size_in_bytes - future.size_in_bytes
            if future.log_end_offset >= source.high_watermark or left <= LAST_BYTES:
                return

    def _locate(self, move: ReplicaMove, upper_bound: int, max_bytes: int) -> LogSlice:
        source, future = move.source, move.future
        first_offset = source.segments[0].base_offset
        if not future.segments or future.log_end_offset < first_offset:
            # Nothing was copied yet, or retention was faster. The name of the first segment says where the log starts.
            future.truncate_fully_and_start_at(first_offset, now_ms=self._env.clock.now_ms())
        offset = max(future.log_end_offset, source.log_start_offset)
        return source.read(offset, max_bytes, upper_bound=upper_bound, min_one_batch=True)

    async def _worker(self, function: object, *arguments: object) -> int:
        """Run something in a worker thread, to its end even when this task is cancelled."""
        running: asyncio.Future[int] = asyncio.ensure_future(self._env.run_blocking(function, *arguments))  # type: ignore[arg-type]
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait({running})
            raise

    async def _finish(self, move: ReplicaMove) -> None:
        """Copy the rest and let the copy be the log, in one go; then see to it that this lasts."""
        source, future, destination = move.source, move.future, move.destination
        self._check(move)
        while future.log_end_offset < source.log_end_offset:
            if not _append(move, self._locate(move, source.log_end_offset, COPY_BYTES), self._env.clock.now_ms()):
                break
        if future.log_end_offset != source.log_end_offset:
            if future.size_in_bytes:
                raise LogError(f"the copy {future.directory} ends at {future.log_end_offset}")
            future.truncate_fully_and_start_at(source.log_end_offset, now_ms=self._env.clock.now_ms())
        old = self._directories.replace(source, future, destination)
        move.has_taken_over = True
        del self._moves[source.topic_partition]
        # From here on the old directory is all that a crash could bring back. It stays when any of this fails.
        await self._directories.flush(future)
        await self._worker(self._directories.disk.sync_directory, destination.path)
        # Nor may the old one's checkpoints say anything of a log that comes back to it one day.
        await self._directories.write_checkpoints([*CHECKPOINTS, CLEANER_OFFSET_CHECKPOINT])
        source.close()
        self._directories.discard(future.topic_partition, old)
        logger.info("moved %s to %s", future.topic_partition, destination.path)


def _append(move: ReplicaMove, found: LogSlice, now_ms: int) -> int:
    data = found.read()
    if data:
        move.future.append_as_follower(data, now_ms)
    return len(data)
