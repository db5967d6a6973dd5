"""The data path of share groups as a part of this node, made with the first ShareFetch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.server.broker.share.share_partitions import SharePartitions

if TYPE_CHECKING:
    from ottla.server.node.coordinators import Surroundings


def open_part(surroundings: Surroundings) -> SharePartitions:
    """Nothing is loaded: share partitions appear with the members that consume them."""
    return SharePartitions(surroundings.broker)
