"""DeleteTopics (key 20), versions 1-6: topics go at once, their logs a little later.

Version notes. 3: TOPIC_DELETION_DISABLED where older versions get INVALID_REQUEST. 5: error messages; refusals for a
quota are strict. 6: topics by name or by id.

Refusals: UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID, INVALID_REQUEST (named twice, or by both name and id),
THROTTLING_QUOTA_EXCEEDED.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.delete_topics import DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse
from ottla.server.broker.quotas.mutations import mutation_quota

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, RequestContext

_FIRST_STRICT_QUOTA = 5


async def handle(broker: Broker, request: DeleteTopicsRequest, context: RequestContext) -> DeleteTopicsResponse:
    """Delete the topics."""
    quota = mutation_quota(broker, context, strict_since=_FIRST_STRICT_QUOTA)
    response = await broker.controller.delete_topics(
        request, api_version=context.api_version, charge=None if quota is None else quota.charge
    )
    if quota is not None:
        response.throttle_time_ms = quota.throttle_ms()
    return response


def error_response(
    request: DeleteTopicsRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> DeleteTopicsResponse:
    """The code for each topic."""
    responses = [
        DeletableTopicResult(name=name, error_code=code, error_message=message) for name in request.topic_names
    ]
    responses += [
        DeletableTopicResult(name=topic.name, topic_id=topic.topic_id, error_code=code, error_message=message)
        for topic in request.topics
    ]
    return DeleteTopicsResponse(responses=responses)
