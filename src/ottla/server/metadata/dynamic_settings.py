"""A node's configuration as the image has it."""

from __future__ import annotations

from ottla.schema.config import BrokerConfig
from ottla.server.metadata.image import ConfigResourceType, MetadataImage


def with_dynamic_settings(config: BrokerConfig, image: MetadataImage, node_id: int) -> BrokerConfig:
    """The static configuration with the image's dynamic settings on top; the same object when there are none."""
    cluster_wide = image.config_of(ConfigResourceType.BROKER, "")
    per_broker = image.config_of(ConfigResourceType.BROKER, str(node_id))
    if not cluster_wide and not per_broker and not config.cluster_wide and not config.per_broker:
        return config
    return config.with_dynamic(cluster_wide, per_broker)
