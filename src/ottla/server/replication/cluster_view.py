"""What all partitions of a broker share: who is alive, how late a follower may be, where changes of an ISR go."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ottla.server.metadata.image import EMPTY_IMAGE

if TYPE_CHECKING:
    from ottla.server.metadata.image import MetadataImage
    from ottla.server.replication.followers import PendingIsr
    from ottla.server.replication.partition import Partition

UNKNOWN_BROKER_EPOCH = -1
DEFAULT_LAG_TIME_MAX_MS = 30_000


class ClusterView:
    """One per broker; whoever hands out images and settings keeps it up to date.

    `propose_isr` takes changes of an ISR to the controller; None on a broker on its own, which never asks for any.
    """

    __slots__ = (
        "failed_isr_updates",
        "image",
        "isr_expands",
        "isr_shrinks",
        "lag_time_max_ms",
        "propose_isr",
    )

    def __init__(self, lag_time_max_ms: int = DEFAULT_LAG_TIME_MAX_MS) -> None:
        self.image: MetadataImage = EMPTY_IMAGE
        self.lag_time_max_ms = lag_time_max_ms
        self.propose_isr: Callable[[Partition, PendingIsr], None] | None = None
        # For metrics.
        self.isr_shrinks = self.isr_expands = self.failed_isr_updates = 0

    def is_alive(self, broker_id: int) -> bool:
        """Whether a broker is registered and not fenced."""
        broker = self.image.brokers.get(broker_id)
        return broker is not None and not broker.fenced

    def is_outdated(self, broker_id: int, broker_epoch: int) -> bool:
        """Whether a follower's epoch is one of a run before the registered one; -1 tells nothing."""
        broker = self.image.brokers.get(broker_id)
        return broker is not None and UNKNOWN_BROKER_EPOCH < broker_epoch < broker.broker_epoch

    def is_eligible(self, broker_id: int, broker_epoch: int) -> bool:
        """Whether a follower may come into an ISR: it is not fenced, does not go away, and it is the very process that
        is registered (KIP-903); -1 is a follower that does not tell its epoch.
        """
        broker = self.image.brokers.get(broker_id)
        return (
            broker is not None
            and broker.is_active
            and (broker_epoch == UNKNOWN_BROKER_EPOCH or broker_epoch == broker.broker_epoch)
        )
