"""What is known of the cluster: an immutable snapshot of brokers, topics and partitions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from ottla.client.model import Node, PartitionInfo, TopicPartition
from ottla.core.errors import ErrorCode
from ottla.core.ids import ZERO_UUID


class PartitionMetadata(NamedTuple):
    """Who leads a partition, who has copies. `leader` is -1 while there is none, `leader_epoch` -1 when unknown."""

    partition: int
    leader: int
    leader_epoch: int
    replicas: tuple[int, ...] = ()
    isr: tuple[int, ...] = ()
    offline: tuple[int, ...] = ()


class TopicMetadata(NamedTuple):
    """A topic and its partitions, in the order of their numbers. With an `error` there are none."""

    name: str
    id: bytes = ZERO_UUID
    partitions: tuple[PartitionMetadata, ...] = ()
    error: ErrorCode = ErrorCode.NONE
    internal: bool = False

    def partition(self, number: int) -> PartitionMetadata | None:
        """The partition of this number, None when the topic has none such."""
        partitions = self.partitions
        if 0 <= number < len(partitions) and partitions[number].partition == number:
            return partitions[number]
        return next((one for one in partitions if one.partition == number), None)


class ClusterMetadata:
    """A snapshot. It never changes; the cluster replaces it, with a `version` one higher."""

    __slots__ = ("brokers", "cluster_id", "controller_id", "topic_names", "topics", "version")

    def __init__(
        self,
        brokers: Mapping[int, Node] = MappingProxyType({}),
        topics: Mapping[str, TopicMetadata] = MappingProxyType({}),
        cluster_id: str | None = None,
        controller_id: int = -1,
        version: int = 0,
    ) -> None:
        self.brokers = MappingProxyType(dict(brokers))
        self.topics = MappingProxyType(dict(topics))
        self.topic_names = MappingProxyType(
            {topic.id: topic.name for topic in topics.values() if topic.id != ZERO_UUID}
        )
        self.cluster_id = cluster_id
        self.controller_id = controller_id
        self.version = version

    def leader(self, tp: TopicPartition) -> tuple[int, int] | None:
        """The leader's id and epoch (-1: unknown), or None while no leader is known."""
        topic = self.topics.get(tp.topic)
        partition = topic.partition(tp.partition) if topic is not None else None
        if partition is None or partition.leader not in self.brokers:
            return None
        return partition.leader, partition.leader_epoch

    def partition_infos(self, topic: str) -> list[PartitionInfo] | None:
        """The partitions of a topic for the user; None when the topic is not known."""
        found = self.topics.get(topic)
        if found is None or found.error:
            return None
        return [
            PartitionInfo(
                topic,
                partition.partition,
                self.brokers.get(partition.leader),
                self._nodes(partition.replicas),
                self._nodes(partition.isr),
                self._nodes(partition.offline),
            )
            for partition in found.partitions
        ]

    def _nodes(self, ids: Iterable[int]) -> tuple[Node, ...]:
        return tuple(self.brokers.get(node_id) or Node(node_id, "", -1) for node_id in ids)

    def same_content(self, other: ClusterMetadata) -> bool:
        """Whether nothing but the version differs."""
        return (
            self.brokers == other.brokers
            and self.topics == other.topics
            and self.cluster_id == other.cluster_id
            and self.controller_id == other.controller_id
        )

    def check_invariants(self) -> None:
        for name, topic in self.topics.items():
            assert topic.name == name
            numbers = [partition.partition for partition in topic.partitions]
            assert numbers == sorted(set(numbers)), topic
        for topic_id, name in self.topic_names.items():
            assert self.topics[name].id == topic_id

    def __repr__(self) -> str:
        return f"<ClusterMetadata version {self.version}: {len(self.brokers)} brokers, {len(self.topics)} topics>"
