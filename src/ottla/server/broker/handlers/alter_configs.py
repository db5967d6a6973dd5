"""AlterConfigs (key 33), versions 0-2: all overrides of a resource at once; others are dropped.

Clients should use IncrementalAlterConfigs (KIP-339). Loggers cannot be changed here, as in Kafka. Refusals: see
`incremental_alter_configs`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.alter_configs import (
    AlterConfigsRequest,
    AlterConfigsResource,
    AlterConfigsResourceResponse,
    AlterConfigsResponse,
)
from ottla.server.broker.handlers.incremental_alter_configs import TWICE, refusal_of_broker, where_it_belongs
from ottla.server.controller.configs import SET, Change, Refusal

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, RequestContext


async def handle(broker: Broker, request: AlterConfigsRequest, context: RequestContext) -> AlterConfigsResponse:
    """Replace the overrides of each resource, where the active controller is."""
    own: dict[int, Refusal] = {}
    times = Counter((resource.resource_type, resource.resource_name) for resource in request.resources)
    for index, resource in enumerate(request.resources):
        if times[resource.resource_type, resource.resource_name] > 1:
            own[index] = TWICE
        elif (refusal := refusal_of_broker(broker, resource, context)) is not None:
            own[index] = refusal
    kept = [resource for index, resource in enumerate(request.resources) if index not in own]
    answers: Iterator[AlterConfigsResourceResponse] = iter(())
    if kept:
        rest = AlterConfigsRequest(resources=kept, validate_only=request.validate_only)
        answers = iter((await where_it_belongs(_alter, broker, rest, context)).responses)
    return AlterConfigsResponse(
        responses=[
            _response(resource, own[index]) if index in own else next(answers)
            for index, resource in enumerate(request.resources)
        ]
    )


def error_response(
    request: AlterConfigsRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> AlterConfigsResponse:
    """The code for each resource."""
    refusal = Refusal(code, message)
    return AlterConfigsResponse(responses=[_response(resource, refusal) for resource in request.resources])


async def _alter(broker: Broker, request: AlterConfigsRequest, context: RequestContext) -> AlterConfigsResponse:
    answers = await broker.controller.alter_configs(
        [
            (
                (resource.resource_type, resource.resource_name),
                [Change(config.name, SET, config.value) for config in resource.configs],
            )
            for resource in request.resources
        ],
        replace=True,
        validate_only=request.validate_only,
    )
    responses = [_response(resource, answer) for resource, answer in zip(request.resources, answers, strict=True)]
    return AlterConfigsResponse(responses=responses)


def _response(resource: AlterConfigsResource, answer: Refusal) -> AlterConfigsResourceResponse:
    return AlterConfigsResourceResponse(
        error_code=answer.code,
        error_message=answer.text,
        resource_type=resource.resource_type,
        resource_name=resource.resource_name,
    )
