"""Transaction markers into partitions: those that this broker leads, and through `marker_requests` those of others.

A partition of ``__consumer_offsets`` gets its marker from the group coordinator, which learns that way what becomes of
the offsets that were committed in the transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ids import TopicPartition
from ottla.core.topics import OFFSETS_TOPIC
from ottla.records.control import end_transaction_marker
from ottla.records.validation import AppendOrigin
from ottla.server.coordinator.result import Pending
from ottla.server.coordinator.transactions.completion import TransactionMarker

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker
    from ottla.server.broker.marker_requests import MarkerRequests
    from ottla.server.replication.partition import Partition

Written = Callable[[TopicPartition, ErrorCode], None]

_REQUIRED_ACKS = -1
_NO_LEADER = -1
#: Coordinators that are not ready look like a leader that is not: whoever sends markers tries again.
_NOT_READY = (
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.NOT_COORDINATOR,
)


class ClusterMarkers:
    """The coordinator's `MarkerWriter`: each marker goes to the leader that the metadata of now names."""

    __slots__ = ("_broker", "_requests")

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._requests: MarkerRequests | None = None

    def write(self, marker: TransactionMarker, partitions: Sequence[TopicPartition], written: Written) -> None:
        """Write the marker into each partition; one that is not in the metadata is gone."""
        broker = self._broker
        for topic_partition in partitions:
            placed = broker.image.topics.partition(*topic_partition)
            if placed is None:
                written(topic_partition, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
            elif placed.leader == broker.node_id:
                write_marker(broker, marker, topic_partition, written)
            elif placed.leader == _NO_LEADER:
                written(topic_partition, ErrorCode.LEADER_NOT_AVAILABLE)
            else:
                self._others().send(placed.leader, marker, topic_partition, written)

    def stop(self) -> None:
        """Tell nobody of other brokers' answers any more."""
        if self._requests is not None:
            self._requests.stop()

    def _others(self) -> MarkerRequests:
        if self._requests is None:
            # Imported with the first partition that another broker leads.
            from ottla.server.broker.marker_requests import MarkerRequests

            self._requests = MarkerRequests(self._broker)
        return self._requests


def write_marker(broker: Broker, marker: TransactionMarker, topic_partition: TopicPartition, written: Written) -> None:
    """Append a marker to a partition here, and say so (once) when it is committed, or why it can not be."""
    now_ms = broker.env.clock.now_ms()
    batch = end_transaction_marker(
        is_commit=marker.is_commit,
        producer_id=marker.producer_id,
        producer_epoch=marker.producer_epoch,
        coordinator_epoch=marker.coordinator_epoch,
        timestamp_ms=now_ms,
    )
    topic, index = topic_partition
    if topic == OFFSETS_TOPIC:
        outcome = broker.groups.end_transaction(
            index,
            batch,
            marker.producer_id,
            committed=marker.is_commit,
            transaction_version=marker.transaction_version,
        )
        if not isinstance(outcome, Pending):
            written(topic_partition, _group_error(outcome))
        elif outcome.response is not None:
            written(topic_partition, _group_error(outcome.response))
        else:
            outcome.listener = lambda code: written(topic_partition, _group_error(code))
        return
    partition = broker.replicas.get(topic, index)
    if partition is None:
        written(topic_partition, broker.replicas.missing_partition_error(topic, index, broker.image))
        return
    try:
        result = partition.append(
            batch,
            _REQUIRED_ACKS,
            now_ms,
            AppendOrigin.COORDINATOR,
            transaction_version=marker.transaction_version,
        )
    except ApiError as error:
        written(topic_partition, error.code)
        return
    if partition.log.high_watermark > result.last_offset:
        written(topic_partition, ErrorCode.NONE)
    else:
        timeout_ms = broker.config["request.timeout.ms"]
        _UntilCommitted(partition, topic_partition, result.last_offset + 1, timeout_ms, written)


def _group_error(code: ErrorCode) -> ErrorCode:
    return ErrorCode.NOT_LEADER_OR_FOLLOWER if code in _NOT_READY else code


class _UntilCommitted:
    """Waits until the high watermark has passed a marker; tells in a later turn, since waiters must not append."""

    __slots__ = ("_end_offset", "_loop", "_partition", "_timer", "_topic_partition", "_written")

    def __init__(
        self,
        partition: Partition,
        topic_partition: TopicPartition,
        end_offset: int,
        timeout_ms: int,
        written: Written,
    ) -> None:
        self._partition = partition
        self._topic_partition = topic_partition
        self._end_offset = end_offset
        self._written = written
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(timeout_ms / 1000, self._done, ErrorCode.REQUEST_TIMED_OUT)
        partition.add_waiter(self)

    def partition_changed(self, partition: Partition) -> None:
        """The partition's offsets or its leadership moved."""
        if not partition.is_leader:
            self._done(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        elif partition.log.high_watermark >= self._end_offset:
            self._done(ErrorCode.NONE)

    def _done(self, code: ErrorCode) -> None:
        self._timer.cancel()
        self._partition.remove_waiter(self)
        self._loop.call_soon(self._written, self._topic_partition, code)
