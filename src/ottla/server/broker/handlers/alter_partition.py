"""AlterPartition (key 56), versions 2-3: a leader tells who is in sync (KIP-497).

On controller listeners only. Version notes. 2: topics by id. 3: the ISR with broker epochs, so that a broker that has
restarted is not taken for the one that was in sync (KIP-903). Refusals of the whole: STALE_BROKER_EPOCH,
NOT_CONTROLLER. Of a partition: UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_OR_PARTITION, NOT_CONTROLLER (the leader knows more),
FENCED_LEADER_EPOCH, INVALID_REQUEST, INVALID_UPDATE_VERSION, INELIGIBLE_REPLICA, NEW_LEADER_ELECTED.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.protocol.messages.alter_partition import AlterPartitionRequest, AlterPartitionResponse

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, RequestContext


async def handle(broker: Broker, request: AlterPartitionRequest, context: RequestContext) -> AlterPartitionResponse:
    """Have the controller change the partitions."""
    return await broker.controller.alter_partition(request, api_version=context.api_version)
