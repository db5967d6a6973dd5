"""Which partitions a broker has a say in, found without going through all of them.

For each broker, each topic has one integer whose bits are partition indexes: a hundred partitions are one small object,
and a cluster of a million partitions with three replicas is indexed in tens of megabytes. It is kept by replay, on the
active controller only: a new one makes it from the image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from ottla.server.metadata.delta import MetadataDelta
from ottla.server.metadata.image import NO_LEADER, PartitionImage, TopicImage, TopicsImage

_Bits = dict[bytes, int]
"""Partitions as bits, by topic id."""


class PartitionKey(NamedTuple):
    """A partition by its topic's id."""

    topic_id: bytes
    partition: int


class PartitionIndex:
    """Partitions by what brokers are to them. `leaderships` counts the partitions that each broker leads."""

    __slots__ = ("_eligible", "_imbalanced", "_in_sync", "_leaderless", "leaderships")

    def __init__(self, topics: TopicsImage) -> None:
        self._in_sync: dict[int, _Bits] = {}
        self._eligible: dict[int, _Bits] = {}
        self._leaderless: _Bits = {}
        self._imbalanced: _Bits = {}
        self.leaderships: dict[int, int] = {}
        for topic in topics.by_id.values():
            self._add_topic(topic)

    def in_sync(self, broker_id: int) -> Iterator[PartitionKey]:
        """Partitions with the broker in their ISR."""
        return _keys(self._in_sync.get(broker_id, {}))

    def eligible(self, broker_id: int) -> Iterator[PartitionKey]:
        """Partitions with the broker among their eligible leader replicas."""
        return _keys(self._eligible.get(broker_id, {}))

    def leaderless(self) -> Iterator[PartitionKey]:
        """Partitions without a leader."""
        return _keys(self._leaderless)

    def imbalanced(self) -> Iterator[PartitionKey]:
        """Partitions that are not led by their first replica."""
        return _keys(self._imbalanced)

    @property
    def has_leaderless(self) -> bool:
        """Some partition has no leader."""
        return bool(self._leaderless)

    @property
    def has_imbalanced(self) -> bool:
        """Some partition is not led by its first replica."""
        return bool(self._imbalanced)

    def track(self, delta: MetadataDelta) -> None:
        """Follow what was replayed."""
        for topic in delta.deleted_topics.values():
            self._remove_topic(topic)
        for topic_id, changes in delta.changed_topics.items():
            before: Mapping[int, PartitionImage] = {}
            if changes.before is not None and topic_id not in delta.deleted_topics:
                before = changes.before.partitions
            for index, after in changes.changes.items():
                self._update(topic_id, 1 << index, before.get(index), after)

    def check_invariants(self, topics: TopicsImage) -> None:
        """Assert that it says what the image says."""
        fresh = PartitionIndex(topics)
        for name in self.__slots__:
            assert _cleaned(getattr(self, name)) == _cleaned(getattr(fresh, name)), name

    def _add_topic(self, topic: TopicImage) -> None:
        """What `_update` does, for a whole topic at a time."""
        in_sync: dict[int, int] = {}
        eligible: dict[int, int] = {}
        leaders: dict[int, int] = {}
        imbalanced = 0
        for index, partition in topic.partitions.items():
            bit, leader = 1 << index, partition.leader
            for broker_id in partition.isr:
                in_sync[broker_id] = in_sync.get(broker_id, 0) | bit
            for broker_id in partition.eligible_leader_replicas:
                eligible[broker_id] = eligible.get(broker_id, 0) | bit
            leaders[leader] = leaders.get(leader, 0) | bit
            if leader != partition.replicas[0]:
                imbalanced |= bit
        for table, found in ((self._in_sync, in_sync), (self._eligible, eligible)):
            for broker_id, bits in found.items():
                table.setdefault(broker_id, {})[topic.topic_id] = bits
        _mark(self._imbalanced, topic.topic_id, imbalanced, True)
        _mark(self._leaderless, topic.topic_id, leaders.pop(NO_LEADER, 0), True)
        for leader, bits in leaders.items():
            self.leaderships[leader] = self.leaderships.get(leader, 0) + bits.bit_count()

    def _remove_topic(self, topic: TopicImage) -> None:
        for table in (self._in_sync, self._eligible):
            for bits in table.values():
                bits.pop(topic.topic_id, None)
        self._leaderless.pop(topic.topic_id, None)
        self._imbalanced.pop(topic.topic_id, None)
        for partition in topic.partitions.values():
            if partition.leader != NO_LEADER:
                self.leaderships[partition.leader] -= 1

    def _update(self, topic_id: bytes, bits: int, before: PartitionImage | None, after: PartitionImage) -> None:
        """`bits` is a partition of the topic, which went from one state to another."""
        old_isr: tuple[int, ...] = () if before is None else before.isr
        old_elr: tuple[int, ...] = () if before is None else before.eligible_leader_replicas
        if old_isr is not after.isr:
            _move(self._in_sync, topic_id, bits, old_isr, after.isr)
        if old_elr is not after.eligible_leader_replicas:
            _move(self._eligible, topic_id, bits, old_elr, after.eligible_leader_replicas)
        old_leader = NO_LEADER if before is None else before.leader
        leader = after.leader
        if old_leader != leader:
            count = bits.bit_count()
            leaderships = self.leaderships
            if old_leader != NO_LEADER:
                leaderships[old_leader] -= count
            if leader != NO_LEADER:
                leaderships[leader] = leaderships.get(leader, 0) + count
        _mark(self._leaderless, topic_id, bits, leader == NO_LEADER)
        _mark(self._imbalanced, topic_id, bits, leader != after.replicas[0])


def _move(table: dict[int, _Bits], topic_id: bytes, bits: int, before: Iterable[int], after: Iterable[int]) -> None:
    for broker_id in before:
        if broker_id not in after:
            _mark(table[broker_id], topic_id, bits, False)
    for broker_id in after:
        if broker_id not in before:
            of_broker = table.get(broker_id)
            if of_broker is None:
                of_broker = table[broker_id] = {}
            of_broker[topic_id] = of_broker.get(topic_id, 0) | bits


def _mark(table: _Bits, topic_id: bytes, bits: int, is_set: bool) -> None:
    current = table.get(topic_id, 0)
    marked = current | bits if is_set else current & ~bits
    if marked == current:
        return
    if marked:
        table[topic_id] = marked
    else:
        del table[topic_id]


def _keys(table: Mapping[bytes, int]) -> Iterator[PartitionKey]:
    for topic_id, bits in table.items():
        while bits:
            lowest = bits & -bits
            yield PartitionKey(topic_id, lowest.bit_length() - 1)
            bits ^= lowest


def _cleaned(table: Mapping[object, object]) -> dict[object, object]:
    return {key: value for key, value in table.items() if value}
