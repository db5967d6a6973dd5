"""Topics as the groups of KIP-848 and after see them: who subscribes to which, and a hash of what they looked like.

A group remembers the hash of its topics (ids, partition counts, racks of the replicas) in its epoch record. When the
hash of now differs, its members have to be assigned again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ottla.core.xxh3 import xxh3_64_signed

if TYPE_CHECKING:
    from ottla.server.coordinator.group_machine import GroupContext
    from ottla.server.metadata.delta import MetadataDelta
    from ottla.server.metadata.image import MetadataImage, TopicImage


class SubscribedTopics:
    """Which groups of a machine subscribe to which topics, and the hashes of these topics."""

    def __init__(self, context: GroupContext) -> None:
        self._context = context
        self._groups_of: dict[str, set[str]] = {}
        #: Name → the image that was hashed, and its hash: an image that is another object is hashed again.
        self._hashes: dict[str, tuple[TopicImage, int]] = {}

    def subscribe(self, group_id: str, topic: str) -> None:
        """The group consumes the topic, which need not exist."""
        self._groups_of.setdefault(topic, set()).add(group_id)

    def unsubscribe(self, group_id: str, topic: str) -> None:
        """The group does not consume the topic any more."""
        groups = self._groups_of.get(topic)
        if groups is not None:
            groups.discard(group_id)
            if not groups:
                del self._groups_of[topic]
                self._hashes.pop(topic, None)

    def groups_of(self, delta: MetadataDelta) -> set[str]:
        """The groups that subscribe to a topic which the commit created, changed or deleted."""
        names = {topic.name for topic in delta.changed_topics.values()}
        names.update(topic.name for topic in delta.deleted_topics.values())
        found: set[str] = set()
        for name in names & self._groups_of.keys():
            found |= self._groups_of[name]
        return found

    def metadata_hash(self, names: Iterable[str]) -> int:
        """Kafka's hash of those of the topics that exist, a signed 64-bit integer; 0 when none does."""
        image = self._context.image
        by_name = image.topics.by_name
        hashes = []
        for name in sorted(names):
            topic = by_name.get(name)
            if topic is None:
                continue
            known = self._hashes.get(name)
            if known is None or known[0] is not topic:
                known = self._hashes[name] = topic, topic_hash(topic, image)
            hashes.append(known[1])
        if not hashes:
            return 0
        return xxh3_64_signed(b"".join(value.to_bytes(8, "little", signed=True) for value in hashes))

    def check_invariants(self, subscriptions: dict[str, set[str]]) -> None:
        """``subscriptions`` says which topics each group subscribes to; for tests and simulations."""
        groups_of: dict[str, set[str]] = {}
        for group_id, topics in subscriptions.items():
            for topic in topics:
                groups_of.setdefault(topic, set()).add(group_id)
        assert groups_of == self._groups_of


def topic_hash(topic: TopicImage, image: MetadataImage) -> int:
    """Kafka's hash of one topic: little-endian numbers, texts as UTF-16 followed by their length."""
    parts = [b"\x00", topic.topic_id[7::-1], topic.topic_id[:7:-1], _text(topic.name), _int(len(topic.partitions))]
    for index, partition in sorted(topic.partitions.items()):
        parts.append(_int(index))
        brokers = (image.brokers.get(replica) for replica in partition.replicas)
        for rack in sorted(broker.rack for broker in brokers if broker is not None and broker.rack is not None):
            parts += (_int(len(rack)), _text(rack))
    return xxh3_64_signed(b"".join(parts))


def _int(value: int) -> bytes:
    return value.to_bytes(4, "little")


def _text(text: str) -> bytes:
    data = text.encode("utf-16-le")
    return data + _int(len(data) // 2)
