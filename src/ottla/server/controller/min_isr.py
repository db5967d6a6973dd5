"""`min.insync.replicas` with eligible leader replicas: one value for all brokers, in the metadata (KIP-966).

Who stays eligible depends on it, so that the controller must not judge by another value than the leaders do.
"""

from __future__ import annotations

from typing import Final

from ottla.protocol.messages import metadata_records as messages
from ottla.schema.config import BrokerConfig
from ottla.server.metadata.image import ConfigResourceType

MIN_ISR: Final = "min.insync.replicas"


def cluster_min_isr(config: BrokerConfig) -> messages.ConfigRecord:
    """The setting of the cluster: what the controller was started with, or the default."""
    given = config.given.get(MIN_ISR)
    value = str(config.default(MIN_ISR)) if given is None else given.text.strip()
    return messages.ConfigRecord(
        resource_type=int(ConfigResourceType.BROKER), resource_name="", name=MIN_ISR, value=value
    )
