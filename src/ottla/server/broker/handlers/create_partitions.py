"""CreatePartitions (key 37), versions 0-3: a topic gets more partitions; `count` is their number afterwards.

Version notes. 3: quota refusals are strict. Refusals: INVALID_PARTITIONS (not more than there are),
UNKNOWN_TOPIC_OR_PARTITION, INVALID_REPLICA_ASSIGNMENT, INVALID_REPLICATION_FACTOR, INVALID_REQUEST (a topic twice),
THROTTLING_QUOTA_EXCEEDED.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopicResult,
)
from ottla.server.broker.quotas.mutations import mutation_quota

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, RequestContext

_FIRST_STRICT_QUOTA = 3


async def handle(broker: Broker, request: CreatePartitionsRequest, context: RequestContext) -> CreatePartitionsResponse:
    """Add the partitions."""
    quota = mutation_quota(broker, context, strict_since=_FIRST_STRICT_QUOTA)
    response = await broker.controller.create_partitions(request, charge=None if quota is None else quota.charge)
    if quota is not None:
        response.throttle_time_ms = quota.throttle_ms()
    return response


def error_response(
    request: CreatePartitionsRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> CreatePartitionsResponse:
    """The code for each topic."""
    results = [
        CreatePartitionsTopicResult(name=topic.name, error_code=code, error_message=message) for topic in request.topics
    ]
    return CreatePartitionsResponse(results=results)
