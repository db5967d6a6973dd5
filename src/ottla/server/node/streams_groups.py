"""Streams groups as a part of this node: beside the group coordinator, whose shards hold them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.server.coordinator.streams.service import StreamsGroupService

if TYPE_CHECKING:
    from ottla.server.node.coordinators import Surroundings


def open_part(surroundings: Surroundings) -> StreamsGroupService:
    """Serve the streams groups of the partitions that this broker leads."""
    return StreamsGroupService(surroundings.broker.groups, surroundings.controller.create_topics)
