"""IncrementalAlterConfigs (key 44), versions 0-1 (KIP-339): set, delete, append to or subtract from single settings.

Resources: topics, this broker ("" for all brokers), its loggers (KIP-412), client metrics subscriptions, groups. A
resource changes as a whole or not at all. Refusals: INVALID_CONFIG (unknown name, bad value, list operation on no
list), INVALID_REQUEST (a resource or key twice, a null value, a broker setting that cannot change at run time, another
broker's id), UNKNOWN_TOPIC_OR_PARTITION.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.incremental_alter_configs import (
    AlterConfigsResource,
    AlterConfigsResourceResponse,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)
from ottla.server.broker.loggers import change_levels
from ottla.server.controller.configs import ACCEPTED, Change, Refusal, check_changes, check_own_broker
from ottla.server.metadata.image import ConfigResourceType

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, RequestContext

_TWICE: Final = Refusal(ErrorCode.INVALID_REQUEST, "Each resource must appear at most once.")


async def handle(
    broker: Broker, request: IncrementalAlterConfigsRequest, context: RequestContext
) -> IncrementalAlterConfigsResponse:
    """Change each resource; loggers here and now, everything else through the controller."""
    kept = [r for r in request.resources if r.resource_type != ConfigResourceType.BROKER_LOGGER]
    answers = iter(
        await broker.controller.alter_configs(
            [((r.resource_type, r.resource_name), _changes(r)) for r in kept], validate_only=request.validate_only
        )
    )
    responses = []
    times = Counter(r.resource_name for r in request.resources if r.resource_type == ConfigResourceType.BROKER_LOGGER)
    for resource in request.resources:
        if resource.resource_type == ConfigResourceType.BROKER_LOGGER:
            once = times[resource.resource_name] == 1
            answer = _alter_loggers(broker, resource, request.validate_only) if once else _TWICE
        else:
            answer = next(answers)
        responses.append(_response(resource, answer))
    return IncrementalAlterConfigsResponse(responses=responses)


def error_response(
    request: IncrementalAlterConfigsRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> IncrementalAlterConfigsResponse:
    """The code for each resource."""
    refusal = Refusal(code, message)
    return IncrementalAlterConfigsResponse(responses=[_response(resource, refusal) for resource in request.resources])


def _changes(resource: AlterConfigsResource) -> list[Change]:
    return [Change(config.name, config.config_operation, config.value) for config in resource.configs]


def _alter_loggers(broker: Broker, resource: AlterConfigsResource, validate_only: bool) -> Refusal:
    try:
        changes = _changes(resource)
        check_changes(changes)
        check_own_broker(resource.resource_name, broker.node_id)
        change_levels(changes, validate_only=validate_only)
        broker.on_loggers_changed()
    except ApiError as error:
        return Refusal(error.code, error.message)
    return ACCEPTED


def _response(resource: AlterConfigsResource, answer: Refusal) -> AlterConfigsResourceResponse:
    return AlterConfigsResourceResponse(
        error_code=answer.code,
        error_message=answer.text,
        resource_type=resource.resource_type,
        resource_name=resource.resource_name,
    )
