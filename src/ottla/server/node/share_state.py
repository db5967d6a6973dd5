"""The share coordinator as a part of this node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.topics import SHARE_STATE_TOPIC
from ottla.server.coordinator.share_state.service import ShareStateCoordinator
from ottla.server.coordinator.share_state.shard import ShareStateSettings
from ottla.server.node.coordinator_log import CoordinatorLog

if TYPE_CHECKING:
    from ottla.server.node.coordinators import Surroundings


def open_part(surroundings: Surroundings) -> ShareStateCoordinator:
    """Coordinate the share partitions whose states this broker leads."""

    def open_log(index: int) -> CoordinatorLog | None:
        partition = surroundings.replicas.get(SHARE_STATE_TOPIC, index)
        return None if partition is None else CoordinatorLog(partition, surroundings.env)

    return ShareStateCoordinator(
        ShareStateSettings.from_config(surroundings.config),
        surroundings.env,
        node_id=surroundings.node_id,
        open_log=open_log,
        create_topic=surroundings.topic_creator(SHARE_STATE_TOPIC),
    )
