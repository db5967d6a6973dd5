"""Share groups as a part of this node: members at the group coordinator, offsets at the share coordinator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.server.broker.share.end_offsets import end_offsets
from ottla.server.coordinator.share.service import ShareGroupService

if TYPE_CHECKING:
    from ottla.server.metadata.delta import MetadataDelta
    from ottla.server.metadata.image import MetadataImage
    from ottla.server.node.coordinators import Surroundings


class ShareGroupPart(ShareGroupService):
    """The service as a `coordinators.Part`: all its state is in the two coordinators, which follow the metadata."""

    def load(self, image: MetadataImage) -> None:
        """Nothing to take over."""

    def on_metadata_change(self, delta: MetadataDelta, image: MetadataImage) -> None:
        """Nothing to take over."""

    def stop(self) -> None:
        """Nothing is kept here."""


def open_part(surroundings: Surroundings) -> ShareGroupPart:
    """Serve the share groups whose coordinator is this broker."""
    broker = surroundings.broker
    return ShareGroupPart(
        broker.groups, lambda: broker.share_coordinators, lambda partitions: end_offsets(broker, partitions)
    )
