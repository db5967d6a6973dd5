"""What all areas of the admin client stand on."""

from __future__ import annotations

from ottla.client.admin.routing import Routing
from ottla.client.model import TopicPartition


class AdminCalls:
    """Base of the classes with the calls of an area."""

    _routing: Routing
    _leaders: dict[TopicPartition, int]
    """Leaders of partitions as last seen; what turns out to be wrong is dropped."""
    _uses_controllers: bool
    """Whether the client talks to the controllers directly (`bootstrap.controllers`)."""
