"""What must hold of an image that the controller's decisions led to; for tests and simulation."""

from __future__ import annotations

from ottla.server.metadata.features import ELR_VERSION
from ottla.server.metadata.image import NO_LEADER, MetadataImage, PartitionImage


def check_topics(image: MetadataImage) -> None:
    """Assert that topics are consistent, and that each partition is."""
    topics = image.topics
    has_elr = image.features.get(ELR_VERSION, 0) > 0
    assert len(topics.by_name) == len(topics.by_id)
    for name, topic in topics.by_name.items():
        assert topic.name == name
        assert topics.by_id[topic.topic_id] is topic
        assert list(topic.partitions) == list(range(len(topic.partitions)))
        for index, partition in topic.partitions.items():
            try:
                _check_partition(partition, has_elr=has_elr)
            except AssertionError as error:
                raise AssertionError(f"{name}-{index}: {error} in {partition}") from None


def _check_partition(partition: PartitionImage, *, has_elr: bool) -> None:
    replicas, isr = set(partition.replicas), set(partition.isr)
    elr = set(partition.eligible_leader_replicas)
    assert len(replicas) == len(partition.replicas) > 0, "a replica stands twice"
    assert len(isr) == len(partition.isr), "a replica is in sync twice"
    assert isr <= replicas, "in sync is no replica"
    assert isr or has_elr, "nobody is in sync"
    assert partition.leader == NO_LEADER or partition.leader in isr, "the leader is not in sync"
    assert elr <= replicas, "eligible is no replica"
    assert not elr & isr, "in sync and eligible"
    assert not elr or has_elr, "eligible replicas without the feature"
    assert len(partition.last_known_elr) <= 1, "more than one led last"
    assert not partition.last_known_elr or partition.leader == NO_LEADER, "there is a leader, and one that led last"
    adding, removing = set(partition.adding_replicas), set(partition.removing_replicas)
    assert adding | removing <= replicas, "adding or removing what is no replica"
    assert not adding & removing, "adding and removing the same"
    assert len(partition.directories) in (0, len(partition.replicas)), "directories and replicas do not fit"
