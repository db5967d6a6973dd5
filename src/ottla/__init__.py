"""Ottla: Kafka's little sister, the Apache Kafka platform in Python.

What users import is offered here by name and loaded on first use; importing `ottla` itself costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ottla.version import VERSION

if TYPE_CHECKING:
    from ottla import admin as admin
    from ottla import aio as aio
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
    "Admin": "ottla.client.admin.blocking",
    "Consumer": "ottla.client.consumer.blocking",
    "Producer": "ottla.client.producer.blocking",
    "ShareConsumer": "ottla.client.share.blocking",
    "AcknowledgeType": "ottla.client.share.deliveries",
    "ConsumerGroupMetadata": "ottla.client.model",
    "KafkaError": "ottla.client.errors",
    "Node": "ottla.client.model",
    "OffsetAndMetadata": "ottla.client.model",
    "OffsetAndTimestamp": "ottla.client.model",
    "PartitionInfo": "ottla.client.model",
    "RebalanceListener": "ottla.client.consumer.listener",
    "RecordMetadata": "ottla.client.model",
    "SubscriptionPattern": "ottla.client.consumer.subscription",
    "TopicPartition": "ottla.core.ids",
    "Tracing": "ottla.client.tracing",
}
"""Where each public name lives."""

_MODULES = frozenset(("admin", "aio", "serde"))
"""Modules that `import ottla` makes reachable without loading them."""

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604 (the names are those of the table)


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return import_module(f"ottla.{name}")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'ottla' has no attribute {name!r}")
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_MODULES})
