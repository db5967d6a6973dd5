"""The group coordinator as a part of this node: its partitions are replicas, its topic is the controller's to create.

A node loads this module, and with it all that groups are made of, when groups are first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ERRORS, ApiError, ErrorCode
from ottla.core.topics import OFFSETS_TOPIC
from ottla.server.coordinator.service import GroupCoordinator
from ottla.server.coordinator.settings import GroupSettings
from ottla.server.node.coordinator_log import CoordinatorLog

if TYPE_CHECKING:
    from ottla.runtime.env import Env
    from ottla.schema.config import BrokerConfig
    from ottla.server.controller.service import Controller
    from ottla.server.coordinator.runtime import PartitionLog
    from ottla.server.replication.replicas import Replicas


def open_groups(config: BrokerConfig, env: Env, controller: Controller, replicas: Replicas) -> GroupCoordinator:
    """Coordinate the groups whose partitions this broker leads; loading those partitions is begun."""

    def open_log(index: int) -> PartitionLog | None:
        partition = replicas.get(OFFSETS_TOPIC, index)
        return None if partition is None else CoordinatorLog(partition, env)

    async def ensure_offsets_topic() -> None:
        for code in (await controller.auto_create_topics([OFFSETS_TOPIC])).values():
            if code not in (ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS):
                raise ApiError(ERRORS[code])

    groups = GroupCoordinator(
        GroupSettings.from_config(config),
        env,
        node_id=config.node_id,
        open_log=open_log,
        ensure_offsets_topic=ensure_offsets_topic,
    )
    groups.load(controller.image)
    return groups
