"""All data directories of a broker, and the work that goes on behind its logs (Kafka's LogManager).

Theory of operation. `start` takes the directories (lock, identity), loads every log in worker threads and begins the
background work; the owner then asks for its logs by `get_or_create`. A directory that fails, at the start or later,
is taken out of service with all its logs while the others go on; when none is left `online` is empty and the node can
not go on.

What goes on behind the logs is `Upkeep`'s; replicas move between directories by `ReplicaMoves`.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.histogram import Histogram
from ottla.core.ids import ZERO_UUID, TopicPartition, uuid_to_text
from ottla.runtime.disk import Disk, DiskError, DiskFullError
from ottla.runtime.env import Env
from ottla.schema.config import BrokerConfig
from ottla.schema.topic import topic_settings
from ottla.server.log.config import LogConfig
from ottla.server.log.data_directory import CHECKPOINTS, NO_BROKER_EPOCH, BackgroundWork, DataDirectory
from ottla.server.log.errors import LogError
from ottla.server.log.files import (
    DELETE_MARK,
    STRAY_MARK,
    marked_directory_name,
)
from ottla.server.log.flush import FlushTask
from ottla.server.log.indexes import IndexCache
from ottla.server.log.loader import create_log
from ottla.server.log.log import Log
from ottla.server.log.segment_file import OpenFiles
from ottla.server.log.upkeep import Upkeep

if TYPE_CHECKING:
    from ottla.server.log.replica_moves import ReplicaMove, ReplicaMoves

logger = logging.getLogger(__name__)

MAXIMUM_OPEN_FILES = 2048
FUTURE_DELETE_DELAY_MS = 60_000
RESERVED_DIRECTORY_IDS = frozenset(bytes(15) + bytes((number,)) for number in range(3))


class DirectoryDescription(NamedTuple):
    """One data directory for DescribeLogDirs; `failure` is None while it is in service. Sizes in bytes, -1 unknown.

    `futures`: copies of replicas that are being moved here.
    """

    path: str
    failure: str | None
    total_bytes: int
    usable_bytes: int
    logs: list[Log]
    futures: list[ReplicaMove]


class CleaningTotals:
    """What metrics tell of the log cleaner: of its last round, and since the start."""

    __slots__ = (
        "bytes_moved",
        "ended_ms",
        "last_buffer_share",
        "last_recopied_share",
        "last_s",
        "rounds",
        "uncleanable",
    )

    def __init__(self) -> None:
        self.rounds = 0
        self.bytes_moved = 0
        self.ended_ms = -1  # wall clock
        self.last_s = 0.0
        self.last_recopied_share = 0.0
        self.last_buffer_share = 0.0
        self.uncleanable: dict[TopicPartition, str] = {}


class LogDirectories:
    """The logs of a broker, by partition.

    `on_failure` is called with (path, error) when a directory goes out of service, `on_replaced` with the old and the
    new log when a replica was moved to another directory. `config` is the broker's current
    configuration: whoever changes it at run time sets it here. All methods belong to the event loop.
    """

    def __init__(self, config: BrokerConfig, env: Env, *, max_open_files: int = MAXIMUM_OPEN_FILES) -> None:
        self.config = config
        self._env = env
        self._disk = env.disk
        self.cluster_id = ""
        self.on_failure: Callable[[str, OSError], None] | None = None
        self.on_replaced: Callable[[Log, Log], None] | None = None
        # For metrics: how long flushes take, and the last rounds of the cleaner.
        self.flush_times = Histogram(1e-6)
        self.cleaning = CleaningTotals()
        open_files, index_cache = OpenFiles(max_open_files), IndexCache()
        self._upkeep = Upkeep(self, env)
        work = BackgroundWork(self._upkeep.delete_later, self.flush_later, self._directory_failed)

        def directory(path: str) -> DataDirectory:
            expiration_ms = config["producer.id.expiration.ms"]
            return DataDirectory(env.disk, path, env.random, open_files, index_cache, expiration_ms, work)

        self._directories = [directory(path.rstrip("/") or "/") for path in config.log_dirs]
        metadata_path = config.metadata_log_dir.rstrip("/") or "/"
        at_home = [item for item in self._directories if item.path == metadata_path]
        # The metadata log may have a disk of its own, which takes no partitions.
        self.metadata = at_home[0] if at_home else directory(metadata_path)
        self._all = self._directories if at_home else [*self._directories, self.metadata]
        self._logs: dict[TopicPartition, Log] = {}
        self._homes: dict[TopicPartition, DataDirectory] = {}
        self._flushing: dict[Log, asyncio.Future[None]] = {}
        self._checkpoint_lock = asyncio.Lock()
        self._moves: ReplicaMoves | None = None
        self._preferred: dict[TopicPartition, DataDirectory] = {}
        self._started = False
        self._stopped = False

    # What there is

    @property
    def online(self) -> list[DataDirectory]:
        """The directories in service that take partitions."""
        return [directory for directory in self._directories if directory.failure is None]

    @property
    def offline(self) -> list[DataDirectory]:
        """The directories out of service."""
        return [directory for directory in self._directories if directory.failure is not None]

    @property
    def directory_ids(self) -> list[bytes]:
        """The ids of the directories in service."""
        return [directory.directory_id for directory in self.online]

    @property
    def previous_broker_epoch(self) -> int:
        """The broker epoch before the last stop, -1 unless all directories were stopped in an orderly way."""
        epochs = {directory.previous_broker_epoch for directory in self._directories}
        return epochs.pop() if len(epochs) == 1 else NO_BROKER_EPOCH

    def __iter__(self) -> Iterator[Log]:
        return iter(self._logs.values())

    def __len__(self) -> int:
        return len(self._logs)

    def get(self, topic_partition: TopicPartition) -> Log | None:
        """The log of a partition, if it is here."""
        return self._logs.get(topic_partition)

    def directory_of(self, topic_partition: TopicPartition) -> DataDirectory | None:
        """Where the log of a partition lies."""
        return self._homes.get(topic_partition)

    async def describe(self) -> list[DirectoryDescription]:
        """Every directory with its logs and the size of its file system."""
        return [await self._describe(directory) for directory in self._directories]

    async def _describe(self, directory: DataDirectory) -> DirectoryDescription:
        total = usable = -1
        if directory.failure is None:
            try:
                total = await self._env.run_blocking(self._disk.total_bytes, directory.path)
                usable = await self._env.run_blocking(self._disk.free_bytes, directory.path)
            except DiskError as error:
                directory.disk_failed(error)
        futures = [] if self._moves is None else self._moves.into(directory)
        return DirectoryDescription(
            directory.path, directory.failure, total, usable, list(directory.logs.values()), futures
        )

    # Starting

    async def start(self) -> None:
        """Take the directories and load all logs. Raises `LogError` (one line) when the broker can not start with
        them.
        """
        await self._env.run_blocking(self._open)
        await self._load()
        self._started = True
        self._upkeep.begin()
        for directory in self.online:
            for name, key in directory.futures:
                self._upkeep.spawn(self.moves.resume(key, directory, name))
        await asyncio.sleep(0)  # the moves have seen where their logs end

    def _open(self) -> None:
        try:
            for directory in self._all:
                try:
                    directory.open()
                except DiskError as error:
                    self._failed_at_start(directory, error)
            alive = [directory for directory in self._all if directory.failure is None]
            known = {directory.meta.cluster_id for directory in alive if directory.meta is not None}
            known.discard(None)
            self.cluster_id = (
                self.config.cluster_id
                or next(iter(sorted(filter(None, known))), None)
                or uuid_to_text(self._env.random_uuid())
            )
            for directory in alive:
                try:
                    directory.take_identity(self.cluster_id, self.config.node_id, self._env.random_uuid())
                except DiskError as error:
                    self._failed_at_start(directory, error)
            self._check_identities()
        except BaseException:
            self._release()
            raise

    def _failed_at_start(self, directory: DataDirectory, error: Exception) -> None:
        """A directory that can not be used is left out, if there is another one."""
        if directory is self.metadata or len(self.online) <= 1:
            if isinstance(error, LogError):
                raise error
            raise LogError(f"data directory {directory.path} can not be used: {error}") from error
        logger.error("data directory %s can not be used, going on without it: %s", directory.path, error)
        directory.failure = f"log directory {directory.path} failed: {error}"

    def _check_identities(self) -> None:
        owners: dict[bytes, str] = {}
        for directory in self._all:
            if directory.failure is None:
                other = owners.setdefault(directory.directory_id, directory.path)
                if other != directory.path:
                    text = uuid_to_text(directory.directory_id)
                    raise LogError(f"data directories {other} and {directory.path} have the same directory.id {text}")

    async def _load(self) -> None:
        threads = max(self.config["num.recovery.threads.per.data.dir"], 1)
        config = LogConfig.from_settings(topic_settings(self.config, {}))
        alive = [directory for directory in self._all if directory.failure is None]
        try:
            loads = [self._load_directory(directory, config, threads) for directory in alive]
            await asyncio.gather(*loads)
        except BaseException:
            self._release()
            raise

    async def _load_directory(self, directory: DataDirectory, config: LogConfig, threads: int) -> None:
        run = self._env.run_blocking
        now_ms = self._env.clock.now_ms()
        try:
            partitions, doomed = await run(directory.begin_loading)
            request = await run(directory.load_requests)
            shares = [partitions[number::threads] for number in range(threads)]
            loaded = await asyncio.gather(
                *(run(directory.load, share, config, request, now_ms) for share in shares if share)
            )
        except (DiskError, LogError) as error:
            self._failed_at_start(directory, error)
            return
        for log in (log for logs in loaded for log in logs):
            if self._homes.get(log.topic_partition) is None or self._is_newer(log, directory):
                self._register(directory, log)
        for path in doomed:
            self._upkeep.delete_later([path], config.file_delete_delay_ms)

    def _is_newer(self, log: Log, directory: DataDirectory) -> bool:
        """Choose between two directories of one partition, as the crash of a move may leave them: the longer log has
        all that the other one has, which is moved aside. Raises `LogError` when they are not of one topic.
        """
        key = log.topic_partition
        other, home = self._logs[key], self._homes[key]
        if log.topic_id != other.topic_id or log.topic_id == ZERO_UUID:
            raise LogError(f"partition {key} lies in both {home.path} and {directory.path}")
        if log.log_end_offset > other.log_end_offset:
            stray = self._move_aside(key, STRAY_MARK)
        else:
            stray = self._rename_marked(directory, log, STRAY_MARK)
        logger.warning(
            "partition %s lies in both %s and %s, going on with the longer log; the other one is %s now",
            *(key, home.path, directory.path, stray),
        )
        return key not in self._logs

    def _register(self, directory: DataDirectory, log: Log) -> None:
        directory.add(log)
        self._logs[log.topic_partition] = log
        self._homes[log.topic_partition] = directory

    # Creating and deleting

    def get_or_create(
        self,
        topic_partition: TopicPartition,
        topic_id: bytes,
        config: LogConfig,
        *,
        directory_id: bytes = ZERO_UUID,
        is_new: bool = True,
    ) -> Log:
        """The log of a partition, with these settings; made in the directory with the fewest logs when there is none.

        `directory_id` is where the metadata says it lies: when that directory is out of service, no second log is begun
        elsewhere. Nor is one for a partition that is not new, while it may lie in any directory out of service. A log
        of that name with another topic id is of a deleted topic and moved aside. Raises `DiskError`.
        """
        log = self._logs.get(topic_partition)
        if log is not None and log.topic_id not in (topic_id, ZERO_UUID):
            self._move_aside(topic_partition, STRAY_MARK)
            log = None
        if log is not None:
            home = self._homes[topic_partition]
            if home.failure is not None:
                raise DiskError(errno.EIO, home.failure, home.path)
            if log.topic_id != topic_id:
                log.assign_topic_id(topic_id)
            log.update_config(config)
            return log
        preferred = self._preferred.get(topic_partition)
        if preferred is not None and preferred.failure is None:
            home = preferred
        else:
            home = self._directory_for(directory_id, is_new)
        try:
            home.forget(topic_partition)
            log = create_log(home, topic_partition, f"{home.path}/{topic_partition}", topic_id, config)
        except DiskError as error:
            home.disk_failed(error)
            raise
        self._register(home, log)
        self._preferred.pop(topic_partition, None)
        return log

    def _directory_for(self, directory_id: bytes, is_new: bool) -> DataDirectory:
        online, offline = self.online, self.offline
        is_assigned = directory_id not in RESERVED_DIRECTORY_IDS
        if offline and not is_new:
            # It may lie there, also when the metadata says otherwise: it may have been moved.
            raise DiskError(errno.EIO, offline[0].failure or "out of service", offline[0].path)
        if is_assigned:
            for directory in online:
                if directory.directory_id == directory_id:
                    return directory
        if offline and is_assigned:
            raise DiskError(errno.EIO, offline[0].failure or "out of service", offline[0].path)
        if not online:
            raise DiskError(errno.EIO, "no data directory is in service", self._directories[0].path)
        cordoned = {path.rstrip("/") for path in self.config["cordoned.log.dirs"]}
        candidates = [directory for directory in online if directory.path not in cordoned] or online
        return min(candidates, key=lambda directory: len(directory.logs))

    def delete(self, topic_partition: TopicPartition) -> None:
        """Take a log away; its directory is renamed now and removed after `file.delete.delay.ms`. Raises
        `DiskError`.
        """
        if topic_partition in self._logs:
            self._move_aside(topic_partition, DELETE_MARK)

    def _move_aside(self, topic_partition: TopicPartition, mark: str) -> str:
        log = self._logs.pop(topic_partition)
        directory = self._homes.pop(topic_partition)
        directory.remove(topic_partition)
        if self._moves is not None:
            self._moves.cancel(topic_partition)
        path = self._rename_marked(directory, log, mark)
        if mark == DELETE_MARK:
            self._upkeep.delete_later([path], log.config.file_delete_delay_ms)
        return path

    def _rename_marked(self, directory: DataDirectory, log: Log, mark: str) -> str:
        log.close()
        unique = self._env.random.randbytes(16).hex()
        path = f"{directory.path}/{marked_directory_name(log.topic_partition, mark, unique)}"
        try:
            self._disk.rename(log.directory, path)
        except DiskError as error:
            directory.disk_failed(error)
            raise
        return path

    # Moving between directories

    @property
    def disk(self) -> Disk:
        """Where all of them are."""
        return self._disk

    @property
    def moves(self) -> ReplicaMoves:
        """The replicas that are on their way to another directory."""
        if self._moves is None:
            from ottla.server.log.replica_moves import ReplicaMoves

            self._moves = ReplicaMoves(self, self._env)
        return self._moves

    def is_moving(self, topic_partition: TopicPartition) -> bool:
        """Whether a log is on its way to another directory."""
        return self._moves is not None and self._moves.get(topic_partition) is not None

    def prefer(self, topic_partition: TopicPartition, directory: DataDirectory) -> None:
        """Make the log of a partition in this directory, when it is made."""
        self._preferred[topic_partition] = directory

    def named(self, path: str) -> DataDirectory | None:
        """The directory that takes partitions at this path."""
        return next((item for item in self._directories if item.path == (path.rstrip("/") or "/")), None)

    def replace(self, source: Log, future: Log, destination: DataDirectory) -> str:
        """Let the copy be the log of its partition from now on; the directory of the old one, which is left as it is.
        Raises `DiskError`.
        """
        key = source.topic_partition
        path = f"{destination.path}/{key}"
        destination.forget(key)
        self._disk.rename(future.directory, path)
        future.take_over(source, destination, path)
        self._homes[key].remove(key)
        self._register(destination, future)
        if self.on_replaced is not None:
            self.on_replaced(source, future)
        return source.directory

    def discard(self, topic_partition: TopicPartition, path: str) -> None:
        """Remove a directory that is nobody's log any more, after a while."""
        unique = self._env.random.randbytes(16).hex()
        parent = path.rpartition("/")[0]
        doomed = f"{parent}/{marked_directory_name(topic_partition, DELETE_MARK, unique)}"
        try:
            self._disk.rename(path, doomed)
        except DiskError as error:
            logger.warning("can not remove %s, it is in the way of nobody: %s", path, error)
            return
        self._upkeep.delete_later([doomed], FUTURE_DELETE_DELAY_MS)

    # Flushing

    async def flush(self, log: Log) -> None:
        """Wait until everything appended so far is on the device; many who wait share one fsync.

        Raises `ApiError` KAFKA_STORAGE_ERROR when the device fails: nothing is known of the data then.
        """
        wanted = log.log_end_offset
        while log.recovery_point < min(wanted, log.log_end_offset):
            current = self._logs.get(log.topic_partition)
            if current is None:
                return  # deleted meanwhile
            log = current  # it may have been moved to another directory
            running = self._flushing.get(log)
            if running is None:
                running = self._flushing[log] = asyncio.ensure_future(self._flush_once(log))
                running.add_done_callback(partial(self._flush_ended, log))
            await asyncio.shield(running)

    def _flush_ended(self, log: Log, flush: asyncio.Future[None]) -> None:
        self._flushing.pop(log, None)
        if not flush.cancelled() and flush.exception() is None and log.is_flush_due:
            self.flush_later(log)  # for what was appended meanwhile

    async def _flush_once(self, log: Log) -> None:
        home = self._homes.get(log.topic_partition)
        if home is None:
            return
        if home.failure is not None:
            raise ApiError(ErrorCode.KAFKA_STORAGE_ERROR, home.failure)
        try:
            task = log.begin_flush()
            if task is not None:
                begin_ns = self._env.work_ns()
                await self._env.run_blocking(task.run)
                self.flush_times.record(self._env.work_ns() - begin_ns)
                log.complete_flush(task, self._env.clock.now_ms())
        except DiskError as error:
            home.disk_failed(error)
            raise ApiError(ErrorCode.KAFKA_STORAGE_ERROR, home.failure or str(error)) from error

    def flush_later(self, log: Log) -> None:
        """Flush a log soon."""
        if log not in self._flushing and not self._stopped:
            self._upkeep.spawn(self._flush_quietly(log))

    async def _flush_quietly(self, log: Log) -> None:
        try:
            await self.flush(log)
        except ApiError:
            pass  # the directory is out of service, which was said where it happened

    # Checkpoints

    async def write_checkpoints(self, names: Sequence[str] = CHECKPOINTS) -> None:
        """Bring recovery points, log start offsets and high watermarks to their files, where they changed."""
        for directory in self.online:
            for name in names:
                try:
                    await self.write_checkpoint(directory, name)
                except DiskFullError as error:
                    logger.warning("%s is not up to date: %s", name, error)  # written when there is space again
                except DiskError:
                    pass  # the directory is out of service, which was said where it happened

    async def write_checkpoint(self, directory: DataDirectory, name: str) -> None:
        """Bring one of the checkpoints to its file, durably, if it changed. Raises `DiskError`; unless it is a
        `DiskFullError` (the old one stands, which is right if not new) the directory has failed then.
        """
        async with self._checkpoint_lock:
            content = directory.checkpoint(name)
            if directory.is_outdated(name, content):
                try:
                    await self._env.run_blocking(directory.write_checkpoint, name, content, directory.forgotten)
                except DiskFullError:
                    raise
                except DiskError as error:
                    directory.disk_failed(error)
                    raise

    def _directory_failed(self, directory: DataDirectory, error: DiskError) -> None:
        logger.error("%s; %d partitions take no more writes", directory.failure, len(directory.logs))
        if self.on_failure is not None:
            self.on_failure(directory.path, error)

    # Stopping

    async def stop(self, *, broker_epoch: int = NO_BROKER_EPOCH, clean: bool = True) -> None:
        """Flush and close all logs, write the checkpoints and, last, the mark of a clean shutdown; let the
        directories go.

        With `clean` False nothing is written, as if the process had been killed. Nor is it after a start that failed:
        the directories may be another broker's.
        """
        self._stopped = True
        tasks = self._upkeep.stop()
        tasks += [] if self._moves is None else self._moves.stop()
        # A flush is waited for: half of it would be neither done nor to be done.
        await asyncio.gather(*tasks, *self._flushing.values(), return_exceptions=True)
        try:
            if clean and self._started:
                await asyncio.gather(*(self._close_directory(item, broker_epoch) for item in self._all))
        finally:
            for log in self._logs.values():
                log.close()
            self._release()

    async def _close_directory(self, directory: DataDirectory, broker_epoch: int) -> None:
        if directory.failure is not None:
            return
        try:
            pending: list[tuple[Log, FlushTask]] = []
            for log in directory.logs.values():
                task = log.prepare_close()
                if task is not None:
                    pending.append((log, task))
            threads = max(self.config["num.recovery.threads.per.data.dir"], 1)
            shares = [[task for _, task in pending[number::threads]] for number in range(threads)]
            await asyncio.gather(*(self._env.run_blocking(_run_all, share) for share in shares if share))
            for log, task in pending:
                log.complete_flush(task)
            await self._env.run_blocking(
                self._finish_directory,
                directory,
                {name: directory.checkpoint(name) for name in CHECKPOINTS},
                broker_epoch,
            )
        except DiskError as error:
            directory.disk_failed(error)

    @staticmethod
    def _finish_directory(directory: DataDirectory, contents: dict[str, bytes], broker_epoch: int) -> None:
        for name, content in contents.items():
            directory.write_checkpoint(name, content, directory.forgotten)
        directory.write_clean_shutdown(broker_epoch)

    def _release(self) -> None:
        for directory in self._all:
            directory.release()


def _run_all(tasks: list[FlushTask]) -> None:
    synced_directories: set[str] = set()
    for task in tasks:
        task.run(synced_directories)
