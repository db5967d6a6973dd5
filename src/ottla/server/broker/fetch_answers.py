"""Putting a Fetch response together: what answers to consumers and to followers have in common."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ottla.protocol.messages.fetch import FetchableTopicResponse, NodeEndpoint
from ottla.server.broker.leader_hints import leader_endpoints

if TYPE_CHECKING:
    from ottla.protocol.messages.fetch import FetchResponse, PartitionData
    from ottla.server.broker.fetch_sessions import FetchedPartition
    from ottla.server.metadata.image import MetadataImage


def by_topic(pairs: Iterable[tuple[FetchedPartition, PartitionData]]) -> list[FetchableTopicResponse]:
    """Consecutive partitions of one topic share an entry; the client's order stays."""
    topics: list[FetchableTopicResponse] = []
    last: str | bytes | None = None
    for entry, data in pairs:
        topic = entry.topic
        if topic != last:
            last = topic
            partitions: list[PartitionData] = []
            if isinstance(topic, bytes):
                topics.append(FetchableTopicResponse(topic_id=topic, partitions=partitions))
            else:
                topics.append(FetchableTopicResponse(topic=topic, partitions=partitions))
        partitions.append(data)
    return topics


def add_endpoints(response: FetchResponse, image: MetadataImage, listener_name: str) -> None:
    """Say where the leaders are that refusals in the response name (KIP-951)."""
    leaders = {
        data.current_leader.leader_id for topic in response.responses for data in topic.partitions if data.error_code
    }
    response.node_endpoints = [
        NodeEndpoint(**endpoint._asdict()) for endpoint in leader_endpoints(image, leaders, listener_name)
    ]
