"""Ottla: Kafka's little sister, the Apache Kafka platform in Python.

What users import is offered here by name and loaded on first use; importing `ottla` itself costs next to nothing.
"""

from ottla.version import VERSION

TYPE_CHECKING = False  # as in `typing`, which would have to be loaded for it
if TYPE_CHECKING:
    from ottla import admin as admin
    from ottla import aio as aio
    from ottla import errors as errors
    from ottla import serde as serde
    from ottla.client.admin.blocking import Admin as Admin
    from ottla.client.consumer.blocking import Consumer as Consumer
    from ottla.client.consumer.listener import RebalanceListener as RebalanceListener
    from ottla.client.consumer.subscription import SubscriptionPattern as SubscriptionPattern
    from ottla.client.errors import KafkaError as KafkaError
    from ottla.client.model import ConsumerGroupMetadata as ConsumerGroupMetadata
    from ottla.client.model import Node as Node
    from ottla.client.model import OffsetAndMetadata as OffsetAndMetadata
    from ottla.client.model import OffsetAndTimestamp as OffsetAndTimestamp
    from ottla.client.model import PartitionInfo as PartitionInfo
    from ottla.client.model import RecordMetadata as RecordMetadata
    from ottla.client.producer.blocking import Producer as Producer
    from ottla.client.share.blocking import ShareConsumer as ShareConsumer
    from ottla.client.share.deliveries import AcknowledgeType as AcknowledgeType
    from ottla.client.tracing import Tracing as Tracing
    from ottla.core.ids import TopicPartition as TopicPartition

__version__ = VERSION

_HOMES = {
    "AcknowledgeType": "ottla.client.share.deliveries",
    "Admin": "ottla.client.admin.blocking",
    "Consumer": "ottla.client.consumer.blocking",
    "ConsumerGroupMetadata": "ottla.client.model",
    "KafkaError": "ottla.client.errors",
    "Node": "ottla.client.model",
    "OffsetAndMetadata": "ottla.client.model",
    "OffsetAndTimestamp": "ottla.client.model",
    "PartitionInfo": "ottla.client.model",
    "Producer": "ottla.client.producer.blocking",
    "RebalanceListener": "ottla.client.consumer.listener",
    "RecordMetadata": "ottla.client.model",
    "ShareConsumer": "ottla.client.share.blocking",
    "SubscriptionPattern": "ottla.client.consumer.subscription",
    "TopicPartition": "ottla.core.ids",
    "Tracing": "ottla.client.tracing",
    "admin": "ottla.admin",
    "aio": "ottla.aio",
    "errors": "ottla.errors",
    "serde": "ottla.serde",
}
"""Where each public name lives."""

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604 (the names are those of the table)


def __getattr__(name: str) -> object:
    from ottla.core.lazy import load

    return load(name, globals(), _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
