"""What classic members tell each other inside JoinGroup and SyncGroup: a version, then the message, as Java writes it.

Members of any version understand each other: a reader takes what it knows of a newer version, which only adds fields.
"""

from __future__ import annotations

from collections.abc import Iterable

from ottla.client.consumer.assignors.assignor import MemberSubscription
from ottla.core.ids import TopicPartition
from ottla.protocol.codec import ProtocolError, decode_prefix, encode
from ottla.protocol.messages.consumer_protocol import (
    ConsumerProtocolAssignment,
    ConsumerProtocolAssignmentTopicPartition,
    ConsumerProtocolSubscription,
    ConsumerProtocolSubscriptionTopicPartition,
)

PROTOCOL_TYPE = "consumer"
LATEST_VERSION = 3


def encode_subscription(subscription: MemberSubscription, version: int = LATEST_VERSION) -> bytes:
    """Topics and owned partitions in order, whatever order they come in."""
    message = ConsumerProtocolSubscription(
        topics=sorted(subscription.topics),
        user_data=subscription.user_data,
        owned_partitions=[
            ConsumerProtocolSubscriptionTopicPartition(topic=topic, partitions=partitions)
            for topic, partitions in by_topic(sorted(subscription.owned)).items()
        ],
        generation_id=subscription.generation,
        rack_id=subscription.rack,
    )
    return version.to_bytes(2, "big") + encode(message, version)


def decode_subscription(data: bytes, instance_id: str | None = None) -> MemberSubscription:
    """ProtocolError when the bytes are no subscription."""
    message, _ = decode_prefix(ConsumerProtocolSubscription, _version(data), data, 2)
    return MemberSubscription(
        topics=tuple(message.topics),
        user_data=None if message.user_data is None else bytes(message.user_data),
        owned=tuple(
            TopicPartition(owned.topic, partition)
            for owned in message.owned_partitions
            for partition in owned.partitions
        ),
        generation=message.generation_id,
        rack=message.rack_id or None,
        instance_id=instance_id,
    )


def encode_assignment(
    partitions: Iterable[TopicPartition], user_data: bytes | None = None, version: int = LATEST_VERSION
) -> bytes:
    """The partitions grouped by topic, in the order in which topics appear first."""
    message = ConsumerProtocolAssignment(
        assigned_partitions=[
            ConsumerProtocolAssignmentTopicPartition(topic=topic, partitions=indexes)
            for topic, indexes in by_topic(partitions).items()
        ],
        user_data=user_data,
    )
    return version.to_bytes(2, "big") + encode(message, version)


def decode_assignment(data: bytes) -> frozenset[TopicPartition]:
    """ProtocolError when the bytes are no assignment."""
    message, _ = decode_prefix(ConsumerProtocolAssignment, _version(data), data, 2)
    return frozenset(
        TopicPartition(assigned.topic, partition)
        for assigned in message.assigned_partitions
        for partition in assigned.partitions
    )


def by_topic(partitions: Iterable[TopicPartition]) -> dict[str, list[int]]:
    """Partition indexes by topic."""
    grouped: dict[str, list[int]] = {}
    for topic, partition in partitions:
        grouped.setdefault(topic, []).append(partition)
    return grouped


def _version(data: bytes) -> int:
    version = int.from_bytes(data[:2], "big", signed=True)
    if len(data) < 2 or version < 0:
        raise ProtocolError("not a message of the consumer protocol")
    return min(version, LATEST_VERSION)
