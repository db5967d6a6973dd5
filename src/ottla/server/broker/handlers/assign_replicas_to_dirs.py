"""AssignReplicasToDirs (key 73), version 0: a broker tells in which log directories its replicas lie (KIP-858).

On controller listeners only. Refusals of the whole: STALE_BROKER_EPOCH, UNSUPPORTED_VERSION, NOT_CONTROLLER. Of a
partition: UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_OR_PARTITION, NOT_LEADER_OR_FOLLOWER.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.protocol.messages.assign_replicas_to_dirs import AssignReplicasToDirsRequest, AssignReplicasToDirsResponse

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, RequestContext


async def handle(
    broker: Broker, request: AssignReplicasToDirsRequest, context: RequestContext
) -> AssignReplicasToDirsResponse:
    """Have the controller note it."""
    return await broker.controller.assign_replicas_to_dirs(request)
