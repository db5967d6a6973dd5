"""Offsets that leaders are asked for: by time (ListOffsets), and where an epoch ends (OffsetForLeaderEpoch).

A *round* asks every leader once, all at the same time, and says of each partition what was found or why not; what to do
about the rest (again, later, give up) is the caller's. Requests are made and answers read by plain functions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ottla.client.errors import KafkaError, KafkaTimeoutError, UnsupportedVersionError, error_for
from ottla.client.model import TopicPartition
from ottla.core.errors import ErrorCode
from ottla.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from ottla.protocol.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)

if TYPE_CHECKING:
    from ottla.client.network.cluster import Cluster
    from ottla.client.network.metadata import ClusterMetadata

T = TypeVar("T")
CONSUMER_REPLICA_ID = -1
_FIRST_ISOLATION_VERSION = 2
_FIRST_MAX_TIMESTAMP_VERSION = 7
_FIRST_CONSUMER_EPOCH_VERSION = 3
"""Before it, only brokers could ask where an epoch ends."""
MAX_TIMESTAMP = -3


class FoundOffset(NamedTuple):
    """An offset by time; `offset` is -1 when no record is that late."""

    offset: int
    timestamp_ms: int
    leader_epoch: int


class EpochEnd(NamedTuple):
    """The last epoch up to the one asked for, and where it ends; both -1 when the leader knows none."""

    leader_epoch: int
    end_offset: int


class Found(dict[TopicPartition, T]):
    """What a round found; `failed` has the partitions of which it did not, and why."""

    def __init__(self) -> None:
        super().__init__()
        self.failed: dict[TopicPartition, KafkaError] = {}


# --- by time


async def list_offsets_round(
    cluster: Cluster, targets: Mapping[TopicPartition, int], *, read_committed: bool, timeout_ms: int
) -> Found[FoundOffset]:
    """Ask the leaders for the offsets of timestamps (-2 earliest, -1 latest, -3 of the largest timestamp)."""
    found: Found[FoundOffset] = Found()
    if MAX_TIMESTAMP in targets.values():
        min_version = _FIRST_MAX_TIMESTAMP_VERSION
    else:
        min_version = _FIRST_ISOLATION_VERSION if read_committed else 1

    async def ask(node_id: int, partitions: list[tuple[TopicPartition, int]]) -> None:
        request = list_offsets_request(targets, partitions, read_committed=read_committed, timeout_ms=timeout_ms)
        response = await cluster.request(node_id, request, timeout_ms=timeout_ms, min_version=min_version)
        assert isinstance(response, ListOffsetsResponse)
        read_list_offsets(response, found)

    await _round(cluster, targets, found, ask)
    return found


def list_offsets_request(
    targets: Mapping[TopicPartition, int],
    partitions: Iterable[tuple[TopicPartition, int]],
    *,
    read_committed: bool,
    timeout_ms: int,
) -> ListOffsetsRequest:
    """One leader's part: partitions with the leader epoch by which we know it."""
    topics: dict[str, ListOffsetsTopic] = {}
    for tp, leader_epoch in partitions:
        topic = topics.setdefault(tp.topic, ListOffsetsTopic(name=tp.topic, partitions=[]))
        topic.partitions.append(
            ListOffsetsPartition(partition_index=tp.partition, current_leader_epoch=leader_epoch, timestamp=targets[tp])
        )
    return ListOffsetsRequest(
        replica_id=CONSUMER_REPLICA_ID,
        isolation_level=int(read_committed),
        topics=list(topics.values()),
        timeout_ms=timeout_ms,
    )


def read_list_offsets(response: ListOffsetsResponse, found: Found[FoundOffset]) -> None:
    """Put what a leader said into `found`."""
    for topic in response.topics:
        for partition in topic.partitions:
            tp = TopicPartition(topic.name, partition.partition_index)
            if partition.error_code == ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT:
                found[tp] = FoundOffset(-1, -1, -1)
            elif partition.error_code:
                found.failed[tp] = _error(tp, partition.error_code)
            else:
                found[tp] = FoundOffset(partition.offset, partition.timestamp, partition.leader_epoch)


# --- by epoch


async def epoch_ends_round(
    cluster: Cluster, targets: Mapping[TopicPartition, int], *, timeout_ms: int
) -> Found[EpochEnd]:
    """Ask the leaders where leader epochs end. A leader too old to be asked fails with `UnsupportedVersionError`."""
    found: Found[EpochEnd] = Found()

    async def ask(node_id: int, partitions: list[tuple[TopicPartition, int]]) -> None:
        request = epoch_ends_request(targets, partitions)
        response = await cluster.request(
            node_id, request, timeout_ms=timeout_ms, min_version=_FIRST_CONSUMER_EPOCH_VERSION
        )
        assert isinstance(response, OffsetForLeaderEpochResponse)
        read_epoch_ends(response, found)

    await _round(cluster, targets, found, ask)
    return found


def epoch_ends_request(
    targets: Mapping[TopicPartition, int], partitions: Iterable[tuple[TopicPartition, int]]
) -> OffsetForLeaderEpochRequest:
    """One leader's part: partitions with the leader epoch by which we know it."""
    topics: dict[str, OffsetForLeaderTopic] = {}
    for tp, current_leader_epoch in partitions:
        topic = topics.setdefault(tp.topic, OffsetForLeaderTopic(topic=tp.topic, partitions=[]))
        topic.partitions.append(
            OffsetForLeaderPartition(
                partition=tp.partition, current_leader_epoch=current_leader_epoch, leader_epoch=targets[tp]
            )
        )
    return OffsetForLeaderEpochRequest(replica_id=CONSUMER_REPLICA_ID, topics=list(topics.values()))


def read_epoch_ends(response: OffsetForLeaderEpochResponse, found: Found[EpochEnd]) -> None:
    """Put what a leader said into `found`."""
    for topic in response.topics:
        for partition in topic.partitions:
            tp = TopicPartition(topic.topic, partition.partition)
            if partition.error_code:
                found.failed[tp] = _error(tp, partition.error_code)
            else:
                found[tp] = EpochEnd(partition.leader_epoch, partition.end_offset)


# --- rounds


async def until_found(
    cluster: Cluster,
    targets: Mapping[TopicPartition, int],
    timeout_ms: int,
    round_: Callable[[Mapping[TopicPartition, int], int], Awaitable[Found[T]]],
) -> dict[TopicPartition, T]:
    """Rounds for the rest until all are found. KafkaTimeoutError, or the first error that will not go away."""
    deadline_ms = cluster.now_ms() + timeout_ms
    result: dict[TopicPartition, T] = {}
    rest = dict(targets)
    attempt = 0
    while True:
        remaining_ms = max(1, deadline_ms - cluster.now_ms())
        found = await round_(rest, remaining_ms)
        result.update(found)
        rest = {tp: target for tp, target in rest.items() if tp not in found}
        if not rest:
            return result
        for error in found.failed.values():
            if not error.retriable:
                raise error
        delay_ms = cluster.backoff.delay_ms(attempt)
        attempt += 1
        if cluster.now_ms() + delay_ms >= deadline_ms:
            reason = next(iter(found.failed.values()), None)
            some = ", ".join(map(str, sorted(rest)[:5]))
            raise KafkaTimeoutError(
                f"No offsets of {some} within {timeout_ms} ms{f': {reason}' if reason else ''}."
            ) from reason
        await asyncio.sleep(delay_ms / 1000)


async def _round(
    cluster: Cluster,
    targets: Mapping[TopicPartition, int],
    found: Found[T],
    ask: Callable[[int, list[tuple[TopicPartition, int]]], Awaitable[None]],
) -> None:
    by_leader = _by_leader(cluster.metadata, targets, found)

    async def one(node_id: int, partitions: list[tuple[TopicPartition, int]]) -> None:
        try:
            await ask(node_id, partitions)
        except KafkaError as error:
            for tp, _ in partitions:
                found.failed[tp] = error
        for tp, _ in partitions:
            if tp not in found and tp not in found.failed:
                found.failed[tp] = _error(tp, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)

    if len(by_leader) == 1:
        await one(*next(iter(by_leader.items())))
    elif by_leader:
        await asyncio.gather(*[one(node_id, partitions) for node_id, partitions in by_leader.items()])
    if any(error.retriable and not isinstance(error, UnsupportedVersionError) for error in found.failed.values()):
        cluster.request_metadata_update()


def _by_leader(
    metadata: ClusterMetadata, targets: Iterable[TopicPartition], found: Found[T]
) -> dict[int, list[tuple[TopicPartition, int]]]:
    by_leader: dict[int, list[tuple[TopicPartition, int]]] = {}
    for tp in targets:
        leader = metadata.leader(tp)
        if leader is None:
            topic = metadata.topics.get(tp.topic)
            code = topic.error if topic is not None and topic.error else ErrorCode.LEADER_NOT_AVAILABLE
            if topic is not None and not topic.error and topic.partition(tp.partition) is None:
                code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            found.failed[tp] = _error(tp, code)
        else:
            by_leader.setdefault(leader[0], []).append((tp, leader[1]))
    return by_leader


def _error(tp: TopicPartition, code: int) -> KafkaError:
    error = error_for(code)
    return error_for(code, f"{tp}: {error.message}")
