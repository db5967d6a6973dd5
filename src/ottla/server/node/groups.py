"""The group coordinator as a part of this node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ottla.core.topics import OFFSETS_TOPIC
from ottla.schema.group import group_settings
from ottla.server.coordinator.service import GroupCoordinator
from ottla.server.coordinator.settings import GroupSettings
from ottla.server.metadata.image import ConfigResourceType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ottla.server.metadata.image import MetadataImage
    from ottla.server.node.coordinators import Surroundings


def open_part(surroundings: Surroundings) -> GroupCoordinator:
    """Coordinate the groups whose partitions this broker leads."""

    def configs(image: MetadataImage, group_id: str) -> Mapping[str, Any]:
        return group_settings(surroundings.config, image.config_of(ConfigResourceType.GROUP, group_id))

    return GroupCoordinator(
        GroupSettings.from_config(surroundings.config),
        surroundings.env,
        node_id=surroundings.node_id,
        open_log=surroundings.log_opener(OFFSETS_TOPIC),
        create_topic=surroundings.topic_creator(OFFSETS_TOPIC),
        configs=configs,
    )
