"""The transaction coordinator as a part of this node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.topics import TRANSACTIONS_TOPIC
from ottla.server.broker.transaction_markers import ClusterMarkers
from ottla.server.coordinator.transactions.service import TransactionCoordinator
from ottla.server.coordinator.transactions.settings import TransactionSettings

if TYPE_CHECKING:
    from ottla.server.node.coordinators import Surroundings


def open_part(surroundings: Surroundings) -> TransactionCoordinator:
    """Coordinate the transactional ids whose partitions this broker leads."""
    return TransactionCoordinator(
        TransactionSettings.from_config(surroundings.config),
        surroundings.env,
        node_id=surroundings.node_id,
        open_log=surroundings.log_opener(TRANSACTIONS_TOPIC),
        create_topic=surroundings.topic_creator(TRANSACTIONS_TOPIC),
        producer_ids=surroundings.broker.producer_ids,
        markers=ClusterMarkers(surroundings.broker),
    )
