"""AlterConfigs (key 33), versions 0-2: all overrides of a resource at once; others are dropped.

Clients should use IncrementalAlterConfigs (KIP-339). Loggers cannot be changed here, as in Kafka. Refusals: see
`incremental_alter_configs`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.alter_configs import (
    AlterConfigsRequest,
    AlterConfigsResourceResponse,
    AlterConfigsResponse,
)
from ottla.server.controller.configs import SET, Change

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, RequestContext


async def handle(broker: Broker, request: AlterConfigsRequest, context: RequestContext) -> AlterConfigsResponse:
    """Replace the overrides of each resource."""
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
    responses = [
        AlterConfigsResourceResponse(
            error_code=answer.code,
            error_message=answer.text,
            resource_type=resource.resource_type,
            resource_name=resource.resource_name,
        )
        for resource, answer in zip(request.resources, answers, strict=True)
    ]
    return AlterConfigsResponse(responses=responses)


def error_response(
    request: AlterConfigsRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> AlterConfigsResponse:
    """The code for each resource."""
    responses = [
        AlterConfigsResourceResponse(
            error_code=code,
            error_message=message,
            resource_type=resource.resource_type,
            resource_name=resource.resource_name,
        )
        for resource in request.resources
    ]
    return AlterConfigsResponse(responses=responses)
