"""What the tests of the log have in common: a log on a disk in memory, batches, and looking at what it holds."""

from __future__ import annotations

from typing import Any

from ottla.core.ids import TopicPartition
from ottla.records.batch import BatchHeader, batches
from ottla.records.control import end_transaction_marker
from ottla.records.record import Record, build_batch, read_records
from ottla.runtime.memory_disk import MemoryDisk
from ottla.server.log.config import LogConfig
from ottla.server.log.host import SimpleHost
from ottla.server.log.loader import LoadRequest, create_log, load_log
from ottla.server.log.log import AppendOrigin, AppendResult, Log
from ottla.server.log.verification import UNVERIFIED

PARTITION = TopicPartition("some-topic", 3)
DIRECTORY = "/data/some-topic-3"
TOPIC_ID = bytes(range(16))
EPOCH = 4
NOW = 1_700_000_000_000


class KeepingHost(SimpleHost):
    """A host that notes what it is asked for, and does it only when told to."""

    def __init__(self, disk: Any) -> None:
        super().__init__(disk)
        self.doomed: list[str] = []
        self.to_flush: list[Log] = []
        self.failures: list[OSError] = []

    def delete_later(self, paths: list[str], delay_ms: int) -> None:
        self.doomed += paths

    def flush_later(self, log: Log) -> None:
        self.to_flush.append(log)

    def disk_failed(self, error: OSError) -> None:
        self.failures.append(error)
        self.failure = str(error)

    def delete_now(self) -> None:
        doomed, self.doomed = self.doomed, []
        # A segment may have been begun and deleted twice at the same offset.
        super().delete_later(list(dict.fromkeys(doomed)), 0)


def new_disk() -> MemoryDisk:
    disk = MemoryDisk()
    disk.make_directories("/data")
    return disk


def new_log(host: SimpleHost | None = None, **settings: Any) -> Log:
    """An empty log; settings are fields of `LogConfig`."""
    return create_log(host or SimpleHost(new_disk()), PARTITION, DIRECTORY, TOPIC_ID, LogConfig(**settings))


def reopen(
    log: Log,
    *,
    clean: bool = True,
    recovery_point: int | None = None,
    high_watermark: int | None = None,
    now_ms: int = NOW,
) -> Log:
    """Stop a log, in an orderly way or not, and load it again with what the checkpoints would say."""
    host = log._host
    if clean:
        task = log.prepare_close()
        if task is not None:
            task.run()
            log.complete_flush(task)
    log.close()
    request = LoadRequest(
        log.recovery_point if recovery_point is None else recovery_point,
        log.log_start_offset,
        log.high_watermark if high_watermark is None else high_watermark,
        clean,
    )
    return load_log(host, PARTITION, DIRECTORY, log.config, request, now_ms)


def batch(
    count: int = 1,
    *,
    size: int = 10,
    timestamp: int = NOW,
    producer: tuple[int, int, int] | None = None,
    **options: Any,
) -> bytearray:
    """Records `(key n, size bytes)`; `producer` is id, epoch, base sequence."""
    records = [Record(timestamp_ms=timestamp, key=b"%d" % number, value=b"v" * size) for number in range(count)]
    if producer is not None:
        options |= {"producer_id": producer[0], "producer_epoch": producer[1], "base_sequence": producer[2]}
    return build_batch(records, **options)


def append(
    log: Log, count: int = 1, *, now_ms: int = NOW, leader_epoch: int = EPOCH, commit: bool = True, **options: Any
) -> AppendResult:
    """Append a batch, which may begin a transaction; `commit` moves the high watermark with it."""
    result = log.append_as_leader(batch(count, **options), leader_epoch, now_ms, verification=UNVERIFIED)
    if commit:
        log.advance_high_watermark(log.log_end_offset)
    return result


def end_transaction(
    log: Log,
    producer_id: int,
    producer_epoch: int,
    *,
    is_commit: bool,
    coordinator_epoch: int = 1,
    transaction_version: int = 0,
    commit: bool = True,
) -> AppendResult:
    """Append a transaction marker as the transaction coordinator's request does."""
    marker = end_transaction_marker(
        is_commit=is_commit,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        coordinator_epoch=coordinator_epoch,
        timestamp_ms=NOW,
    )
    result = log.append_as_leader(
        marker, EPOCH, NOW, origin=AppendOrigin.COORDINATOR, transaction_version=transaction_version
    )
    if commit:
        log.advance_high_watermark(log.log_end_offset)
    return result


def read_all(log: Log, *, start: int | None = None, max_bytes: int = 1 << 30) -> list[BatchHeader]:
    """Headers of all batches from an offset on, read as a consumer would."""
    offset = log.log_start_offset if start is None else start
    headers: list[BatchHeader] = []
    while offset < log.log_end_offset:
        data = log.read(offset, max_bytes, upper_bound=log.log_end_offset, min_one_batch=True).read()
        found = [header for _, header in batches(data)]
        if not found:
            break
        headers += found
        offset = found[-1].next_offset
    return headers


def keys(log: Log, start: int = 0) -> list[bytes | None]:
    """Keys of all records from an offset on."""
    data = b"".join(bytes(segment.file.read_at(0, segment.size)) for segment in log.segments)
    return [record.key for record in read_records(data) if record.offset >= start]
