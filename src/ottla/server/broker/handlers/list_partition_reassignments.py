"""ListPartitionReassignments (key 46), version 0 (KIP-455): which partitions are moving, and from where to where.

Null topics ask for all. Partitions that do not move, or do not exist, are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.server.controller.reassignments import list_reassignments

if TYPE_CHECKING:
    from ottla.protocol.messages.list_partition_reassignments import (
        ListPartitionReassignmentsRequest,
        ListPartitionReassignmentsResponse,
    )
    from ottla.server.broker.broker import Broker, RequestContext


def handle(
    broker: Broker, request: ListPartitionReassignmentsRequest, context: RequestContext
) -> ListPartitionReassignmentsResponse:
    """List them from the image."""
    return list_reassignments(broker.image, request)
