"""What the handlers that describe the cluster have in common: who is alive, which replicas are not, what one may do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ottla.server.metadata.image import UNASSIGNED_DIRECTORY, BrokerImage, Endpoint, MetadataImage, PartitionImage

NOT_ASKED: Final = -2147483648
"""Authorized operations when the request does not ask for them."""

TOPIC_OPERATIONS: Final = 0b1101_1111_1000
"""Read, Write, Create, Delete, Alter, Describe, DescribeConfigs, AlterConfigs: without an authorizer, all there are."""

CLUSTER_OPERATIONS: Final = 0b1_1111_1010_0000
"""Create, Alter, Describe, ClusterAction, DescribeConfigs, AlterConfigs, IdempotentWrite."""

_ALWAYS_ONLINE: Final = frozenset((bytes(16), UNASSIGNED_DIRECTORY))
"""Directory ids that say nothing: a replica from before directories were recorded, or one not placed yet (KIP-858)."""


def live_endpoints(image: MetadataImage, listener_name: str) -> list[tuple[BrokerImage, Endpoint]]:
    """The brokers that are not fenced and have this listener, with where it is."""
    return [
        (broker, broker.endpoints[listener_name])
        for broker in image.brokers.values()
        if not broker.fenced and listener_name in broker.endpoints
    ]


def controller_id(image: MetadataImage, node_id: int) -> int:
    """The broker that admin requests may go to: any live one; this one, when it is."""
    own = image.brokers.get(node_id)
    if own is not None and not own.fenced:
        return node_id
    return next((broker.broker_id for broker in image.brokers.values() if not broker.fenced), -1)


def offline_replicas(brokers: Mapping[int, BrokerImage], partition: PartitionImage, listener_name: str) -> list[int]:
    """Replicas on brokers that are gone, fenced or without this listener, or in a directory that failed."""
    offline = []
    directories = partition.directories
    for index, replica in enumerate(partition.replicas):
        broker = brokers.get(replica)
        if broker is None or broker.fenced or listener_name not in broker.endpoints:
            offline.append(replica)
        elif index < len(directories) and broker.log_dirs:
            directory = directories[index]
            if directory not in broker.log_dirs and directory not in _ALWAYS_ONLINE:
                offline.append(replica)
    return offline
