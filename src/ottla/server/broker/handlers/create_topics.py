"""CreateTopics (key 19), versions 2-7: new topics, in one answer with one code each.

Version notes. 4: -1 for partitions and replication factor means the broker's default. 5: the answer has each new
topic's settings, partitions and replication factor. 6: quota refusals are strict. 7: topic ids.

Refusals: INVALID_REQUEST (a name given twice, sizes together with a manual assignment, `__cluster_metadata`),
INVALID_TOPIC_EXCEPTION (name, or collision of `.` and `_`), TOPIC_ALREADY_EXISTS, INVALID_PARTITIONS,
INVALID_REPLICATION_FACTOR, INVALID_REPLICA_ASSIGNMENT, INVALID_CONFIG, POLICY_VIOLATION (more than 10,000 partitions),
THROTTLING_QUOTA_EXCEEDED.
The topics exist, with leaders, and can be written to when the answer leaves; the timeout is therefore not used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.create_topics import CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse
from ottla.server.broker.quotas.mutations import mutation_quota

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, RequestContext

_FIRST_CONFIGS = 5
_FIRST_STRICT_QUOTA = 6


async def handle(broker: Broker, request: CreateTopicsRequest, context: RequestContext) -> CreateTopicsResponse:
    """Create the topics."""
    quota = mutation_quota(broker, context, strict_since=_FIRST_STRICT_QUOTA)
    response = await broker.controller.create_topics(
        request, with_configs=context.api_version >= _FIRST_CONFIGS, charge=None if quota is None else quota.charge
    )
    if quota is not None:
        response.throttle_time_ms = quota.throttle_ms()
    return response


def error_response(
    request: CreateTopicsRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> CreateTopicsResponse:
    """The code for each topic."""
    topics = [
        CreatableTopicResult(name=topic.name, error_code=code, error_message=message, configs=[])
        for topic in request.topics
    ]
    return CreateTopicsResponse(topics=topics)
