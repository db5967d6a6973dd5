"""One data directory (an entry of `log.dirs`): its lock, its identity, its checkpoints, and the host of its logs."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from random import Random

from ottla.core.ids import ZERO_UUID, TopicPartition
from ottla.runtime.disk import Disk, DiskError, DiskLock, DiskLockedError
from ottla.server.log.checkpoint import format_offsets, read_offsets
from ottla.server.log.config import LogConfig
from ottla.server.log.errors import LogError
from ottla.server.log.files import (
    CLEAN_SHUTDOWN,
    CLEANER_OFFSET_CHECKPOINT,
    DELETE_MARK,
    FUTURE_MARK,
    HIGH_WATERMARK_CHECKPOINT,
    LOCK,
    LOG_START_OFFSET_CHECKPOINT,
    META_PROPERTIES,
    METADATA_TOPIC,
    RECOVERY_POINT_CHECKPOINT,
    parse_directory_name,
)
from ottla.server.log.indexes import IndexCache
from ottla.server.log.loader import LoadRequest, load_log
from ottla.server.log.log import Log
from ottla.server.log.meta_properties import MetaProperties, format_meta_properties, read_meta_properties
from ottla.server.log.segment_file import OpenFiles

NO_BROKER_EPOCH = -1
CHECKPOINTS = (RECOVERY_POINT_CHECKPOINT, LOG_START_OFFSET_CHECKPOINT, HIGH_WATERMARK_CHECKPOINT)


class BackgroundWork:
    """What a directory wants done by the loop that runs it; see `LogHost`."""

    __slots__ = ("delete_later", "disk_failed", "flush_later")

    def __init__(
        self,
        delete_later: Callable[[list[str], int], None],
        flush_later: Callable[[Log], None],
        disk_failed: Callable[[DataDirectory, DiskError], None],
    ) -> None:
        self.delete_later = delete_later
        self.flush_later = flush_later
        self.disk_failed = disk_failed


class DataDirectory:
    """A data directory and the host of the logs in it.

    `failure` says why nothing is written to it any more; `was_clean` whether its last user stopped in an orderly way.
    The blocking methods (`open`, `load`, `write_checkpoint`, …) belong in a worker thread.
    """

    def __init__(
        self,
        disk: Disk,
        path: str,
        random: Random,
        open_files: OpenFiles,
        index_cache: IndexCache,
        producer_id_expiration_ms: int,
        work: BackgroundWork,
    ) -> None:
        self.disk = disk
        self.path = path
        self.random = random
        self.open_files = open_files
        self.index_cache = index_cache
        self.producer_id_expiration_ms = producer_id_expiration_ms
        self.failure: str | None = None
        self.directory_id = ZERO_UUID
        self.meta: MetaProperties | None = None
        self.was_clean = False
        self.previous_broker_epoch = NO_BROKER_EPOCH
        self.logs: dict[TopicPartition, Log] = {}
        self.futures: list[tuple[str, TopicPartition]] = []
        self._work = work
        self._lock: DiskLock | None = None
        self._written: dict[str, bytes] = {}
        self._writing = threading.Lock()
        # Of whom the checkpoints may speak although their logs are not here any more, and how often it was made sure.
        self._gone: set[TopicPartition] = set()
        self.forgotten = 0

    # Host of logs

    def delete_later(self, paths: list[str], delay_ms: int) -> None:
        """Remove renamed files after a while."""
        self._work.delete_later(paths, delay_ms)

    def flush_later(self, log: Log) -> None:
        """Flush a log soon."""
        self._work.flush_later(log)

    def disk_failed(self, error: DiskError) -> None:
        """Take the directory out of service; reads are still tried."""
        if self.failure is None:
            self.failure = f"log directory {self.path} failed: {error}"
            self._work.disk_failed(self, error)

    # Opening

    def open(self) -> None:
        """Make it where it is missing, lock it, read its identity.

        Raises `LogError` when another process has it or its `meta.properties` is unreadable, `DiskError` otherwise.
        """
        self.disk.make_directories(self.path)
        try:
            self._lock = self.disk.lock(f"{self.path}/{LOCK}")
        except DiskLockedError:
            raise LogError(
                f"data directory {self.path} is locked by another process: is a broker running on it already?"
            ) from None
        self.meta = read_meta_properties(self.disk, f"{self.path}/{META_PROPERTIES}")
        if self.meta is not None and self.meta.directory_id is not None:
            self.directory_id = self.meta.directory_id
        self._read_clean_shutdown()

    def take_identity(self, cluster_id: str, node_id: int, directory_id: bytes) -> None:
        """Check the identity on disk against this node's, or write it. Raises `LogError`, `DiskError`."""
        path = f"{self.path}/{META_PROPERTIES}"
        if self.meta is not None:
            if self.meta.cluster_id is not None and self.meta.cluster_id != cluster_id:
                raise LogError(f"{path} is of cluster {self.meta.cluster_id}, but this node belongs to {cluster_id}")
            if self.meta.node_id is not None and self.meta.node_id != node_id:
                raise LogError(f"{path} is of node {self.meta.node_id}, but this is node {node_id}")
        wanted = MetaProperties(cluster_id, node_id, self.directory_id if any(self.directory_id) else directory_id)
        if wanted != self.meta:
            self.directory_id = wanted.directory_id or directory_id
            self.disk.replace(path, format_meta_properties(cluster_id, node_id, self.directory_id))
            self.meta = wanted

    def release(self) -> None:
        """Let others have the directory."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    def _read_clean_shutdown(self) -> None:
        path = f"{self.path}/{CLEAN_SHUTDOWN}"
        if not self.disk.exists(path):
            return
        self.was_clean = True
        try:
            self.previous_broker_epoch = int(json.loads(self.disk.read(path))["brokerEpoch"])
        except (ValueError, KeyError, TypeError):
            # Older brokers leave the file empty: clean, but of no known epoch.
            self.previous_broker_epoch = NO_BROKER_EPOCH

    # Loading

    def begin_loading(self) -> tuple[list[tuple[str, TopicPartition]], list[str]]:
        """What lies here: partition directories (name, partition), and those whose deletion was begun. The copies of
        replicas that are moved here go to `futures`.

        From now on a crash counts as one: the clean shutdown marker goes.
        """
        partitions, doomed = [], []
        for name in self.disk.list_directory(self.path):
            parsed = parse_directory_name(name)
            if parsed is None or not self.disk.is_directory(f"{self.path}/{name}"):
                continue
            if parsed.mark == DELETE_MARK:
                doomed.append(f"{self.path}/{name}")
            elif parsed.mark == FUTURE_MARK:
                self.futures.append((name, parsed.topic_partition))
            elif not parsed.mark and parsed.topic_partition.topic != METADATA_TOPIC:
                partitions.append((name, parsed.topic_partition))
        if self.was_clean:
            self.disk.remove(f"{self.path}/{CLEAN_SHUTDOWN}")
            self.disk.sync_directory(self.path)
        return partitions, doomed

    def load_requests(self) -> Callable[[TopicPartition], LoadRequest]:
        """What the checkpoints say, by partition. Raises `LogError`, `DiskError`."""
        recovery_points = self._read_checkpoint(RECOVERY_POINT_CHECKPOINT)
        start_offsets = self._read_checkpoint(LOG_START_OFFSET_CHECKPOINT)
        high_watermarks = self._read_checkpoint(HIGH_WATERMARK_CHECKPOINT)
        cleaned_offsets = self._read_checkpoint(CLEANER_OFFSET_CHECKPOINT)
        self._gone.update(recovery_points, start_offsets, high_watermarks, cleaned_offsets)

        def request(key: TopicPartition) -> LoadRequest:
            return LoadRequest(
                recovery_points.get(key, 0),
                start_offsets.get(key, 0),
                high_watermarks.get(key, 0),
                self.was_clean,
                cleaned_offsets.get(key, -1),
            )

        return request

    def load(
        self,
        partitions: Iterable[tuple[str, TopicPartition]],
        config: LogConfig,
        request: Callable[[TopicPartition], LoadRequest],
        now_ms: int,
    ) -> list[Log]:
        """Load some of the partitions. Raises `LogError`, `DiskError`."""
        return [load_log(self, key, f"{self.path}/{name}", config, request(key), now_ms) for name, key in partitions]

    def add(self, log: Log) -> None:
        """A log lies here now."""
        self.logs[log.topic_partition] = log
        self._gone.discard(log.topic_partition)

    def remove(self, topic_partition: TopicPartition) -> None:
        """A log does not lie here any more; the checkpoints speak of it until they are written the next time."""
        del self.logs[topic_partition]
        self._gone.add(topic_partition)

    # Checkpoints

    def forget(self, topic_partition: TopicPartition) -> None:
        """Before a new log takes this name: make sure that no checkpoint speaks of an earlier one, whose offsets would
        be taken for those of the new one after a crash. Waits for the device if one does. Raises `DiskError`.
        """
        if topic_partition in self._gone:
            self.forgotten += 1
            for name in CHECKPOINTS:
                self.write_checkpoint(name, self.checkpoint(name), self.forgotten)
            self._gone.clear()

    def checkpoint(self, name: str) -> bytes:
        """What one of the offset checkpoints should say now."""
        logs = self.logs.items()
        if name == RECOVERY_POINT_CHECKPOINT:
            return format_offsets({key: log.recovery_point for key, log in logs})
        if name == HIGH_WATERMARK_CHECKPOINT:
            return format_offsets({key: log.high_watermark for key, log in logs})
        if name == CLEANER_OFFSET_CHECKPOINT:
            return format_offsets({key: log.cleaned_offset for key, log in logs if log.cleaned_offset >= 0})
        # Where a log starts in its first segment, the name of that segment says it.
        return format_offsets(
            {
                key: log.log_start_offset
                for key, log in logs
                if log.segments and log.log_start_offset > log.segments[0].base_offset
            }
        )

    def is_outdated(self, name: str, content: bytes) -> bool:
        """Whether a checkpoint's file is not known to have this content."""
        return self._written.get(name) != content

    def write_checkpoint(self, name: str, content: bytes, forgotten: int) -> None:
        """Write one of them if it is not what was written last, and not from before something was `forgotten`."""
        with self._writing:
            if forgotten == self.forgotten and self.is_outdated(name, content):
                self._written.pop(name, None)
                self.disk.replace(f"{self.path}/{name}", content)
                self._written[name] = content

    def write_clean_shutdown(self, broker_epoch: int) -> None:
        """The very last thing: everything is on the device, the next start need not look."""
        content = json.dumps({"version": 0, "brokerEpoch": broker_epoch}, separators=(",", ":"))
        self.disk.replace(f"{self.path}/{CLEAN_SHUTDOWN}", content.encode())

    def _read_checkpoint(self, name: str) -> dict[TopicPartition, int]:
        return read_offsets(self.disk, f"{self.path}/{name}")
