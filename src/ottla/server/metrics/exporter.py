"""The names of kafka_exporter, which dashboards of topics and consumer groups ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ottla.server.metrics.exposition import NO_LABELS, Family, Labels, labels

if TYPE_CHECKING:
    from ottla.server.metrics.scrape import Scrape
    from ottla.server.replication.partition import Partition

Rows = Iterator[tuple[Labels, Any]]


def families(scrape: Scrape) -> Iterator[Family | None]:
    """All of them; None lets others have a turn."""
    yield Family("kafka_brokers", "gauge", "Brokers that are active.", _brokers(scrape))
    yield Family("kafka_broker_info", "gauge", "Every broker and where it can be reached.", _broker_info(scrape))
    yield Family("kafka_topic_partitions", "gauge", "Partitions of a topic.", _topic_partitions(scrape))
    for name, text, read in _PARTITION:
        yield Family(f"kafka_topic_partition_{name}", "gauge", text, _of_partition(scrape, read))
        yield None
    offsets = _committed(scrape)
    yield Family("kafka_consumergroup_members", "gauge", "Members of a group.", _members(scrape))
    for name, text, rows in (
        ("current_offset", "What a group has committed.", ((label, offset) for label, offset, _ in offsets)),
        ("lag", "Records that a group has before it.", ((label, lag) for label, _, lag in offsets)),
    ):
        yield Family(f"kafka_consumergroup_{name}", "gauge", text, rows)
        yield None
    text = "What a group has committed, over all partitions of a topic."
    sums = _sums((label, offset) for label, offset, _ in offsets)
    yield Family("kafka_consumergroup_current_offset_sum", "gauge", text, sums)
    text = "Records that a group has before it in a topic."
    yield Family("kafka_consumergroup_lag_sum", "gauge", text, _sums((label, lag) for label, _, lag in offsets))


def _brokers(scrape: Scrape) -> Rows:
    yield NO_LABELS, sum(broker.is_active for broker in scrape.image.brokers.values())


def _broker_info(scrape: Scrape) -> Rows:
    for broker in scrape.image.brokers.values():
        endpoint = next(iter(broker.endpoints.values()), None)
        if endpoint is not None:
            yield labels(("id", str(broker.broker_id)), ("address", f"{endpoint.host}:{endpoint.port}")), 1


def _topic_partitions(scrape: Scrape) -> Rows:
    for topic in list(scrape.image.topics.by_name.values()):
        yield labels(("topic", topic.name)), len(topic.partitions)


def _is_preferred(partition: Partition) -> int:
    return int(bool(partition.replicas) and partition.leader_id == partition.replicas[0])


_PARTITION: tuple[tuple[str, str, Callable[[Partition], int]], ...] = (
    ("current_offset", "The end of what consumers can read.", lambda one: one.log.high_watermark),
    ("oldest_offset", "The first record that is there.", lambda one: one.log.log_start_offset),
    ("in_sync_replica", "Replicas in sync.", lambda one: len(one.isr)),
    ("leader", "The broker that leads.", lambda one: one.leader_id),
    ("leader_is_preferred", "Whether the preferred replica leads.", _is_preferred),
    ("replicas", "Replicas.", lambda one: len(one.replicas)),
    (
        "under_replicated_partition",
        "Whether replicas are missing.",
        lambda one: int(len(one.isr) < len(one.replicas)),
    ),
)


def _of_partition(scrape: Scrape, read: Callable[[Partition], int]) -> Rows:
    for partition, label in scrape.partitions:
        yield label, read(partition)


def _members(scrape: Scrape) -> Rows:
    for group in scrape.groups:
        yield labels(("consumergroup", group.group_id)), len(group.members)


def _committed(scrape: Scrape) -> list[tuple[Labels, int, int]]:
    """(group, topic, partition), what was committed, and how far that is from the end."""
    found = []
    replicas = scrape.broker.replicas
    for shard in scrape.group_shards:
        for group_id, topics in list(shard.offsets.committed.items()):
            for topic, partitions in list(topics.items()):
                for index, committed in list(partitions.items()):
                    label = labels(("consumergroup", group_id), ("topic", topic), ("partition", str(index)))
                    partition = replicas.get(topic, index)
                    if partition is not None:
                        lag = max(partition.log.high_watermark - committed.offset, 0)
                        found.append((label, committed.offset, lag))
    return found


def _sums(values: Iterable[tuple[Labels, int]]) -> Rows:
    """By group and topic."""
    sums: dict[tuple[tuple[str, str], ...], int] = {}
    for label, value in values:
        key = label.pairs[:2]
        sums[key] = sums.get(key, 0) + value
    for pairs, value in sums.items():
        yield labels(*pairs), value
