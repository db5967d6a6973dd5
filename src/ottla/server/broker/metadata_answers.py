"""What the handlers that describe the cluster have in common: who is alive, which replicas are not, what one may do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from ottla.server.metadata.image import UNASSIGNED_DIRECTORY, BrokerImage, Endpoint, MetadataImage, PartitionImage

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker

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


def controller_id(broker: Broker, listener_name: str) -> int:
    """The broker that admin requests may go to; -1 when there is none.

    Any live one forwards them, and Kafka names one by chance. The node of the active controller saves the way, when it
    is a broker too; else this one is as good as any other.
    """
    brokers = broker.image.brokers
    for node_id in (broker.metadata.leader.leader_id, broker.node_id):
        one = brokers.get(node_id)
        if one is not None and not one.fenced and listener_name in one.endpoints:
            return node_id
    return next((one.broker_id for one, _ in live_endpoints(broker.image, listener_name)), -1)


def is_reachable(brokers: Mapping[int, BrokerImage], replica: int, listener_name: str) -> bool:
    """Whether the replica's broker is there, not fenced, and has this listener."""
    broker = brokers.get(replica)
    return broker is not None and not broker.fenced and listener_name in broker.endpoints


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
