"""The nouns that all clients share: partitions, offsets, nodes."""

from __future__ import annotations

from typing import NamedTuple

from ottla.core.ids import TopicPartition

__all__ = (
    "ConsumerGroupMetadata",
    "Node",
    "OffsetAndMetadata",
    "OffsetAndTimestamp",
    "PartitionInfo",
    "RecordMetadata",
    "TopicPartition",
)


def topic_partition(given: TopicPartition | tuple[str, int]) -> TopicPartition:
    """A partition that a user names, which may be a plain pair. TypeError says what it has to be."""
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], str) and isinstance(given[1], int):
        return TopicPartition(*given)
    raise TypeError(f"a partition is TopicPartition(topic, number) or a pair of both, not {given!r}")


class Node(NamedTuple):
    """A broker (or controller) of the cluster and where to reach it."""

    id: int
    host: str
    port: int
    rack: str | None = None
    fenced: bool = False

    def __str__(self) -> str:
        return f"{self.host}:{self.port} (id {self.id})"


class PartitionInfo(NamedTuple):
    """A partition as the metadata shows it; `leader` is None while there is none."""

    topic: str
    partition: int
    leader: Node | None
    replicas: tuple[Node, ...]
    in_sync_replicas: tuple[Node, ...]
    offline_replicas: tuple[Node, ...] = ()


class RecordMetadata(NamedTuple):
    """Where a record was written. `offset` and `timestamp_ms` are -1 when the broker was not asked (`acks=0`)."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int


class OffsetAndMetadata(NamedTuple):
    """What is committed for a partition: the offset of the next record to process, and a text of the application's."""

    offset: int
    metadata: str = ""
    leader_epoch: int | None = None


class OffsetAndTimestamp(NamedTuple):
    """An offset that was looked up by time, and the timestamp found there."""

    offset: int
    timestamp_ms: int
    leader_epoch: int | None = None


class ConsumerGroupMetadata(NamedTuple):
    """Who a consumer is in its group: what a transactional producer needs to commit offsets for it (KIP-447)."""

    group_id: str
    generation_id: int = -1
    """Generation of a classic group, member epoch of a KIP-848 one."""
    member_id: str = ""
    group_instance_id: str | None = None
