"""Streams groups as a part of this node: beside the group coordinator, whose shards hold them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ottla.server.broker.topic_creation import create_topics
from ottla.server.coordinator.streams.service import StreamsGroupService

if TYPE_CHECKING:
    from ottla.server.node.coordinators import Surroundings


def open_part(surroundings: Surroundings) -> StreamsGroupService:
    """Serve the streams groups of the partitions that this broker leads."""
    broker = surroundings.broker
    return StreamsGroupService(broker.groups, partial(create_topics, broker))
