"""The share coordinators of the cluster as a part of this node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.server.broker.share.coordinator_requests import ShareCoordinators

if TYPE_CHECKING:
    from ottla.server.node.coordinators import Surroundings


def open_part(surroundings: Surroundings) -> ShareCoordinators:
    """Made with the first share partition, or the first share group, of this broker."""
    return ShareCoordinators(surroundings.broker)
