"""Where a client should go instead: the leader and its address beside NOT_LEADER_OR_FOLLOWER (KIP-951)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ottla.server.metadata.image import MetadataImage


class LeaderEndpoint(NamedTuple):
    """A broker's address on one listener."""

    node_id: int
    host: str
    port: int
    rack: str | None


def current_leader(image: MetadataImage, topic: str | None, topic_id: bytes, partition: int) -> tuple[int, int] | None:
    """(leader id, leader epoch) of a partition, by topic name or, if that is empty, by topic id; None when unknown."""
    topic_image = image.topics.by_name.get(topic) if topic else image.topics.by_id.get(topic_id)
    if topic_image is None:
        return None
    partition_image = topic_image.partitions.get(partition)
    if partition_image is None:
        return None
    return partition_image.leader, partition_image.leader_epoch


def leader_endpoints(image: MetadataImage, leaders: Iterable[int], listener_name: str) -> list[LeaderEndpoint]:
    """The addresses of these brokers on the listener the client used; brokers without such a listener are left out."""
    found = []
    for node_id in sorted(set(leaders)):
        broker = image.brokers.get(node_id)
        endpoint = broker.endpoints.get(listener_name) if broker is not None else None
        if broker is not None and endpoint is not None:
            found.append(LeaderEndpoint(node_id, endpoint.host, endpoint.port, broker.rack))
    return found
