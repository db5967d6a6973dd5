"""What changed between two images, for those who missed the records in between (a snapshot was loaded)."""

from __future__ import annotations

from typing import Any, Final

from ottla.server.metadata.delta import MetadataDelta, TopicDelta
from ottla.server.metadata.image import MetadataImage, TopicImage

_TABLES: Final = (
    "features",
    "controllers",
    "client_quotas",
    "producer_ids",
    "acls",
    "scram",
    "delegation_tokens",
    "zk_migration_state",
)


def difference(before: MetadataImage, after: MetadataImage) -> MetadataDelta:
    """A delta that tells listeners of everything in which `after` differs. It is for reading, not for applying."""
    delta = MetadataDelta(before)
    for topic_id, topic in before.topics.by_id.items():
        if topic_id not in after.topics.by_id:
            delta.deleted_topics[topic_id] = topic
    for topic_id, topic in after.topics.by_id.items():
        known = before.topics.by_id.get(topic_id)
        if known != topic:
            delta.changed_topics[topic_id] = _topic_difference(known, topic)
    for resource in before.configs.keys() | after.configs.keys():
        if before.configs.get(resource) != after.configs.get(resource):
            delta.changed_configs.add(resource)
    for broker_id in before.brokers.keys() | after.brokers.keys():
        if before.brokers.get(broker_id) != after.brokers.get(broker_id):
            delta.changed_brokers.add(broker_id)
    if delta.changed_brokers:
        delta.changed.add("brokers")
    for name in _TABLES:
        old: Any = getattr(before, name)
        if old != getattr(after, name):
            delta.changed.add(name)
    if "acls" in delta.changed:
        for acl_id in sorted(before.acls.keys() | after.acls.keys()):
            acl = after.acls.get(acl_id)
            if before.acls.get(acl_id) != acl:
                delta.changed_acls[acl_id] = acl
    return delta


def _topic_difference(before: TopicImage | None, after: TopicImage) -> TopicDelta:
    delta = TopicDelta(after.name, after.topic_id, before)
    for index, partition in after.partitions.items():
        if before is None or before.partitions.get(index) != partition:
            delta.put(index, partition)
    return delta
