"""AlterPartitionReassignments (key 45), versions 0-1 (KIP-455): partitions move to other replicas, or stop doing so.

Null replicas cancel. Version notes. 1: the client may insist on the replication factor (KIP-860). Refusals of a
partition: UNKNOWN_TOPIC_OR_PARTITION, INVALID_REPLICA_ASSIGNMENT, INVALID_REPLICATION_FACTOR,
NO_REASSIGNMENT_IN_PROGRESS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
    ReassignablePartitionResponse,
    ReassignableTopicResponse,
)

if TYPE_CHECKING:
    from ottla.core.errors import ErrorCode
    from ottla.server.broker.broker import Broker, RequestContext


async def handle(
    broker: Broker, request: AlterPartitionReassignmentsRequest, context: RequestContext
) -> AlterPartitionReassignmentsResponse:
    """Have the controller move them."""
    return await broker.controller.alter_partition_reassignments(request)


def error_response(
    request: AlterPartitionReassignmentsRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> AlterPartitionReassignmentsResponse:
    """The code for the whole, and again for each partition."""
    return AlterPartitionReassignmentsResponse(
        error_code=code,
        error_message=message,
        responses=[
            ReassignableTopicResponse(
                name=topic.name,
                partitions=[
                    ReassignablePartitionResponse(
                        partition_index=partition.partition_index, error_code=code, error_message=message
                    )
                    for partition in topic.partitions
                ],
            )
            for topic in request.topics
        ],
    )
