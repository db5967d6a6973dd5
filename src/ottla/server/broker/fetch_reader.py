"""Reading what a Fetch request asks for, within its limits: the part that does not wait."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.fetch import AbortedTransaction, EpochEndOffset, LeaderIdAndEpoch, PartitionData
from ottla.records.batch import CorruptRecordError
from ottla.runtime.disk import DiskError
from ottla.runtime.file_range import FileRange
from ottla.server.broker.leader_hints import current_leader
from ottla.server.replication.partition import READ_COMMITTED

if TYPE_CHECKING:
    from ottla.core.binary import Buffer
    from ottla.protocol.messages.fetch import FetchPartition
    from ottla.server.broker.broker import Broker
    from ottla.server.broker.fetch_sessions import FetchedPartition
    from ottla.server.broker.permissions.asking import Visible
    from ottla.server.log.slice import LogSlice
    from ottla.server.replication.partition import Partition
    from ottla.server.replication.replicas import HostedTopic
    from ottla.server.replication.throttle import ReplicationThrottle

logger = logging.getLogger(__name__)

ColdRead = bytes | DiskError | CorruptRecordError
"""What came of reading a range in a worker thread."""

# Ranges from this size on are sent by the kernel: below it, a copy costs less than further system calls.
SENT_AS_FILE_BYTES = 65_536
EMPTY = b""
_NOTHING: frozenset[str | bytes] = frozenset()

_FIRST_TOPIC_ID_VERSION = 13
_FIRST_RACK_VERSION = 11
_FIRST_LEADER_HINT_VERSION = 16
_HINTED = (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.FENCED_LEADER_EPOCH)
_BATCH_OVERHEAD = 12
_LAST_OFFSET_DELTA = 23


class FetchReader:
    """One request's partitions, and what was found in them.

    `plan` finds the file ranges (no record is read), so that a long poll can judge whether they are enough; `load`
    reads those of the ranges that are in the page cache and returns what is left for a worker thread.

    Limits as in KIP-74: partitions are served in the client's order until `max_bytes` is used up; the first batch of
    the first partition that has anything is served whole, whatever the limits.
    """

    __slots__ = (
        "broker",
        "broker_epoch",
        "client_rack",
        "denied",
        "entries",
        "fetched_at_ms",
        "isolation_level",
        "leader_only",
        "listener_name",
        "max_bytes",
        "replica_id",
        "results",
        "send_files",
        "slices",
        "throttle",
        "topics",
        "total_bytes",
        "urgent",
        "version",
    )

    def __init__(
        self,
        broker: Broker,
        entries: Sequence[FetchedPartition],
        version: int,
        replica_id: int,
        isolation_level: int,
        max_bytes: int,
        send_files: bool = False,
    ) -> None:
        self.broker = broker
        self.entries = entries
        self.version = version
        self.replica_id = replica_id
        # Consumers that know of racks may read from followers (KIP-392).
        self.leader_only = replica_id >= 0 or version < _FIRST_RACK_VERSION
        # Of a consumer that is sent to a replica in its own rack.
        self.client_rack = self.listener_name = ""
        # Of a follower: which run of the broker fetches, and when, unless what it has is known already.
        self.broker_epoch = -1
        self.fetched_at_ms: int | None = None
        # Of a follower, while there are more bytes a second than throttled replicas may get.
        self.throttle: ReplicationThrottle | None = None
        self.isolation_level = isolation_level
        self.max_bytes = max_bytes
        self.send_files = send_files
        replicas = broker.replicas
        # Topics that the client may not read, which are not found among the others then.
        self.denied: frozenset[str | bytes] = _NOTHING
        self.topics: dict[Any, HostedTopic] | Visible = (
            replicas.by_id if version >= _FIRST_TOPIC_ID_VERSION else replicas.by_name
        )
        self.results: list[PartitionData] = []
        self.slices: list[LogSlice | None] = []
        self.total_bytes = 0
        self.urgent = False  # an error or a divergence: the client must hear of it at once

    def plan(self) -> None:
        """Look every partition up; afterwards `results`, `slices`, `total_bytes` and `urgent` are set."""
        results: list[PartitionData] = []
        slices: list[LogSlice | None] = []
        budget = self.max_bytes
        total = 0
        self.urgent = False
        for entry in self.entries:
            try:
                data, found = self._plan_partition(entry, budget, total == 0)
            except ApiError as error:
                data, found = self._failed(entry, error.code), None
            except CorruptRecordError as error:
                data, found = self._corrupt(entry, error), None
            results.append(data)
            slices.append(found)
            if found is not None:
                total += found.size
                budget -= found.size
        self.results = results
        self.slices = slices
        self.total_bytes = total

    def partition(self, entry: FetchedPartition) -> Partition | None:
        """The hosted partition an entry means."""
        hosted = self.topics.get(entry.topic)
        return None if hosted is None else hosted.partitions.get(entry.request.partition)

    def readable_bytes(self, partition: Partition, request: FetchPartition, at_most: int) -> int | None:
        """How much this request could read of one partition now; None when it would fail, so that waiting is over.

        Exact for `at_most` > 1 only; for a client that takes any amount, 1 stands for "something".
        """
        log = partition.log
        offset = request.fetch_offset
        if (
            not partition.replicas  # it is gone; who may read from followers would not notice by the leadership
            or partition.check_leader_epoch(request.current_leader_epoch, leader_only=self.leader_only)
            or not log.log_start_offset <= offset <= log.log_end_offset
        ):
            return None
        end_offset = log.log_end_offset if self.replica_id >= 0 else partition.readable_end_offset(self.isolation_level)
        if offset >= end_offset:
            return 0
        if at_most <= 1:
            return 1
        try:
            return log.read(offset, request.partition_max_bytes, upper_bound=end_offset, min_one_batch=True).size
        except (ApiError, CorruptRecordError):
            return None

    def _plan_partition(
        self, entry: FetchedPartition, budget: int, nothing_found_yet: bool
    ) -> tuple[PartitionData, LogSlice | None]:
        request = entry.request
        partition = entry.partition = self.partition(entry)
        if partition is None:
            return self._failed(entry, self._missing_partition(entry)), None
        partition.fetch_count += 1
        if error := partition.check_leader_epoch(request.current_leader_epoch, leader_only=self.leader_only):
            return self._failed(entry, error), None
        if self.replica_id >= 0 and self.replica_id not in partition.replicas:
            # It may have been added, and this broker has not heard of it yet.
            code = (
                ErrorCode.NOT_LEADER_OR_FOLLOWER if request.current_leader_epoch < 0 else ErrorCode.UNKNOWN_LEADER_EPOCH
            )
            return self._failed(entry, code), None
        log = partition.log
        offset = request.fetch_offset
        data = PartitionData(
            partition_index=request.partition,
            high_watermark=log.high_watermark,
            last_stable_offset=log.last_stable_offset,
            log_start_offset=log.log_start_offset,
            aborted_transactions=None,
            records=EMPTY,
        )
        if self.client_rack and partition.is_leader:
            from ottla.server.broker.read_replicas import preferred_replica

            preferred = preferred_replica(partition, self.broker.image, self.listener_name, self.client_rack, offset)
            if preferred >= 0:
                data.preferred_read_replica = preferred
                data.aborted_transactions = [] if self.isolation_level == READ_COMMITTED else None
                self.urgent = True
                return data, None
        if request.last_fetched_epoch >= 0 and self._diverges(partition, request, data):
            self.urgent = True
            return data, None
        if not log.log_start_offset <= offset <= log.log_end_offset:
            return self._failed(entry, ErrorCode.OFFSET_OUT_OF_RANGE), None
        if self.replica_id >= 0:
            end_offset = log.log_end_offset
            if self.fetched_at_ms is not None:
                start = request.log_start_offset
                partition.follower_fetched(self.replica_id, offset, start, self.broker_epoch, self.fetched_at_ms)
                data.high_watermark = log.high_watermark
                data.last_stable_offset = log.last_stable_offset
        else:
            end_offset = log.last_stable_offset if self.isolation_level == READ_COMMITTED else log.high_watermark
        found: LogSlice | None = None
        if offset < end_offset and (self.throttle is None or not self._is_held_back(partition, self.throttle)):
            max_bytes = min(budget, request.partition_max_bytes)
            if max_bytes > 0 or nothing_found_yet:
                found = log.read(offset, max(max_bytes, 0), upper_bound=end_offset, min_one_batch=nothing_found_yet)
                if not found.size:
                    found = None
        if self.isolation_level == READ_COMMITTED and self.replica_id < 0:
            data.aborted_transactions = (
                []
                if found is None
                else [
                    AbortedTransaction(producer_id=aborted.producer_id, first_offset=aborted.first_offset)
                    for aborted in log.aborted_transactions(offset, end_offset)
                ]
            )
        return data, found

    def _is_held_back(self, partition: Partition, throttle: ReplicationThrottle) -> bool:
        """Whether a follower has to wait, which it never has in the ISR (KIP-73)."""
        return self.replica_id not in partition.isr and throttle.is_throttled(partition.topic, partition.partition)

    def _diverges(self, partition: Partition, request: FetchPartition, data: PartitionData) -> bool:
        """KIP-595: compare the client's last epoch with ours; fills `data.diverging_epoch` when the histories part."""
        epoch, end_offset = partition.end_offset_for_epoch(request.last_fetched_epoch)
        if epoch < 0 or end_offset < 0 or request.fetch_offset < partition.log.log_start_offset:
            raise ApiError(ErrorCode.OFFSET_OUT_OF_RANGE)
        if epoch < request.last_fetched_epoch or end_offset < request.fetch_offset:
            data.diverging_epoch = EpochEndOffset(epoch=epoch, end_offset=end_offset)
            return True
        return False

    def _missing_partition(self, entry: FetchedPartition) -> ErrorCode:
        image = self.broker.image
        topic = entry.topic
        name = image.topics.name_of(topic) if isinstance(topic, bytes) else topic
        if name is None:
            return ErrorCode.UNKNOWN_TOPIC_ID
        if topic in self.denied:
            return ErrorCode.TOPIC_AUTHORIZATION_FAILED
        return self.broker.replicas.missing_partition_error(name, entry.request.partition, image)

    def _failed(self, entry: FetchedPartition, code: ErrorCode) -> PartitionData:
        self.urgent = True
        data = PartitionData(
            partition_index=entry.request.partition,
            error_code=code,
            high_watermark=-1,
            last_stable_offset=-1,
            log_start_offset=-1,
            aborted_transactions=None if self.isolation_level != READ_COMMITTED else [],
            records=EMPTY,
        )
        if code in _HINTED and self.version >= _FIRST_LEADER_HINT_VERSION:
            topic = entry.topic
            name, topic_id = ("", topic) if isinstance(topic, bytes) else (topic, b"")
            leader = current_leader(self.broker.image, name, topic_id, entry.request.partition)
            if leader is not None:
                data.current_leader = LeaderIdAndEpoch(leader_id=leader[0], leader_epoch=leader[1])
        return data

    def load(self) -> list[int]:
        """Read what is in the page cache; returns the indexes of the ranges that are not."""
        cold = []
        results = self.results
        for index, found in enumerate(self.slices):
            if found is not None:
                data = results[index]
                records: Buffer | FileRange | None = None
                try:
                    if self.send_files and found.size >= SENT_AS_FILE_BYTES and not data.aborted_transactions:
                        records = found.cached_range()
                    if records is None:
                        records = found.read_cached()
                except DiskError as error:
                    self._read_failed(index, error)
                    continue
                if records is None:
                    cold.append(index)
                else:
                    self._put(index, data, records)
        return cold

    def load_cold(self, indexes: Sequence[int]) -> list[ColdRead]:
        """Read the given ranges, waiting for the disk: for a worker thread.  Touches nothing but the files."""
        records: list[ColdRead] = []
        for index in indexes:
            found = self.slices[index]
            assert found is not None
            try:
                records.append(found.read())
            except (DiskError, CorruptRecordError) as error:
                records.append(error)
        return records

    def put_cold(self, indexes: Sequence[int], loaded: Sequence[ColdRead]) -> None:
        """Take over what `load_cold` found."""
        for index, records in zip(indexes, loaded, strict=True):
            if isinstance(records, DiskError):
                self._read_failed(index, records)
            elif isinstance(records, CorruptRecordError):
                self.results[index] = self._corrupt(self.entries[index], records)
            else:
                self._put(index, self.results[index], records)

    def _put(self, index: int, data: PartitionData, records: Buffer | FileRange) -> None:
        data.records = records  # type: ignore[assignment]  # a range is encoded like a buffer: by its length, uncopied
        partition = self.entries[index].partition
        if self.replica_id >= 0:
            self.broker.replicas.replication_bytes_out += len(records)
        elif partition is not None:
            partition.bytes_out += len(records)
        if data.aborted_transactions and not isinstance(records, FileRange):
            # They were looked for up to the stable offset; the client needs those that begin within the range.
            end_offset = _end_offset(records)
            data.aborted_transactions = [
                aborted for aborted in data.aborted_transactions if aborted.first_offset < end_offset
            ]

    def _read_failed(self, index: int, error: DiskError) -> None:
        entry = self.entries[index]
        if (partition := self.partition(entry)) is not None:
            partition.log.storage_error(error)
        self.results[index] = self._failed(entry, ErrorCode.KAFKA_STORAGE_ERROR)

    def _corrupt(self, entry: FetchedPartition, error: CorruptRecordError) -> PartitionData:
        """The other partitions of the request are read all the same."""
        wanted = entry.request
        if entry.partition is not None:
            entry.partition.failed_fetch_count += 1
        logger.error("%r-%d cannot be read at offset %d: %s", entry.topic, wanted.partition, wanted.fetch_offset, error)
        return self._failed(entry, ErrorCode.CORRUPT_MESSAGE)


def _end_offset(records: Buffer) -> int:
    """Exclusive end of the offsets in these batches, a cut-off last one included."""
    position = end = 0
    while position + _LAST_OFFSET_DELTA + 4 <= len(records):
        base_offset = int.from_bytes(records[position : position + 8], "big")
        delta = position + _LAST_OFFSET_DELTA
        end = base_offset + int.from_bytes(records[delta : delta + 4], "big") + 1
        position += int.from_bytes(records[position + 8 : position + 12], "big") + _BATCH_OVERHEAD
    return end
