"""ElectLeaders (key 43), versions 0-2: preferred leaders, or any leader where there is none (KIP-183, KIP-460).

Version notes. 0: preferred leaders only. 1: election type 0 preferred, 1 unclean; a top-level error. Null asks for all
partitions, of which those that need no election are left out. Refusals of a partition: ELECTION_NOT_NEEDED,
PREFERRED_LEADER_NOT_AVAILABLE, ELIGIBLE_LEADERS_NOT_AVAILABLE, UNKNOWN_TOPIC_OR_PARTITION.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.elect_leaders import (
    ElectLeadersRequest,
    ElectLeadersResponse,
    PartitionResult,
    ReplicaElectionResult,
)

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, RequestContext

_FIRST_VERSION_WITH_TOP_LEVEL_ERROR = 1


async def handle(broker: Broker, request: ElectLeadersRequest, context: RequestContext) -> ElectLeadersResponse:
    """Have the controller hold the elections."""
    return await broker.controller.elect_leaders(request)


def error_response(
    request: ElectLeadersRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> ElectLeadersResponse:
    """The code for each partition, and at the top where the version has it."""
    results = [
        ReplicaElectionResult(
            topic=topic.topic,
            partition_result=[
                PartitionResult(partition_id=index, error_code=code, error_message=message)
                for index in topic.partitions
            ],
        )
        for topic in request.topic_partitions or ()
    ]
    top = code if context.api_version >= _FIRST_VERSION_WITH_TOP_LEVEL_ERROR else ErrorCode.NONE
    return ElectLeadersResponse(error_code=top, replica_election_results=results)
