"""IncrementalAlterConfigs (key 44), versions 0-1 (KIP-339): set, delete, append to or subtract from single settings.

Resources: topics, this broker ("" for all brokers), its loggers (KIP-412), client metrics subscriptions, groups. A
resource changes as a whole or not at all. Refusals: INVALID_CONFIG (unknown name, bad value, list operation on no
list), INVALID_REQUEST (a resource or key twice, a null value, a broker setting that cannot change at run time, another
broker's id), UNKNOWN_TOPIC_OR_PARTITION.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.incremental_alter_configs import (
    AlterConfigsResource,
    AlterConfigsResourceResponse,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)
from ottla.schema.definition import SettingError
from ottla.server.broker.dispatch import at_controller
from ottla.server.broker.loggers import change_levels
from ottla.server.controller.configs import ACCEPTED, DELETE, SET, Change, Refusal, check_changes, check_own_broker
from ottla.server.metadata.image import ConfigResourceType

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, RequestContext

TWICE: Final = Refusal(ErrorCode.INVALID_REQUEST, "Each resource must appear at most once.")


async def handle(
    broker: Broker, request: IncrementalAlterConfigsRequest, context: RequestContext
) -> IncrementalAlterConfigsResponse:
    """Change each resource; loggers here and now, everything else where the active controller is."""
    own: dict[int, Refusal] = {}
    times = Counter((resource.resource_type, resource.resource_name) for resource in request.resources)
    for index, resource in enumerate(request.resources):
        if times[resource.resource_type, resource.resource_name] > 1:
            own[index] = TWICE
        elif resource.resource_type == ConfigResourceType.BROKER_LOGGER:
            own[index] = _alter_loggers(broker, resource, context, request.validate_only)
        elif (refusal := refusal_of_broker(broker, resource, context)) is not None:
            own[index] = refusal
        elif broker.check_certificates is not None and resource.resource_type == ConfigResourceType.BROKER:
            unusable = await _refusal_of_certificates(broker, resource)
            if unusable is not None:
                own[index] = unusable
    kept = [resource for index, resource in enumerate(request.resources) if index not in own]
    answers: Iterator[AlterConfigsResourceResponse] = iter(())
    if kept:
        rest = IncrementalAlterConfigsRequest(resources=kept, validate_only=request.validate_only)
        answers = iter((await where_it_belongs(_alter, broker, rest, context)).responses)
    return IncrementalAlterConfigsResponse(
        responses=[
            _response(resource, own[index]) if index in own else next(answers)
            for index, resource in enumerate(request.resources)
        ]
    )


def error_response(
    request: IncrementalAlterConfigsRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> IncrementalAlterConfigsResponse:
    """The code for each resource."""
    refusal = Refusal(code, message)
    return IncrementalAlterConfigsResponse(responses=[_response(resource, refusal) for resource in request.resources])


def refusal_of_broker(broker: Broker, resource: Any, context: RequestContext) -> Refusal | None:
    """Why a change is not handed on: a broker does not take those of another broker's settings, controllers of any;
    and nobody takes them from clients without permission."""
    if resource.resource_type == ConfigResourceType.BROKER and resource.resource_name and not context.is_for_controller:
        try:
            check_own_broker(resource.resource_name, broker.node_id)
        except ApiError as error:
            return Refusal(error.code, error.message)
    return None if broker.authorizer is None else _denied(broker, resource, context)


async def _refusal_of_certificates(broker: Broker, resource: AlterConfigsResource) -> Refusal | None:
    """A new keystore or truststore of this broker is read before the cluster is told of it."""
    changes = {config.name: config for config in resource.configs if ".ssl." in f".{config.name}"}
    if not changes or resource.resource_name != str(broker.node_id):
        return None
    assert broker.check_certificates is not None
    config = broker.config
    texts = dict(config.per_broker)
    for name, change in changes.items():
        if change.config_operation == DELETE:
            texts.pop(name, None)
        elif change.config_operation == SET and change.value is not None:
            texts[name] = change.value
    try:
        await broker.check_certificates(config.with_dynamic(config.cluster_wide, texts))
    except SettingError as error:
        return Refusal(ErrorCode.INVALID_REQUEST, error.reason)
    return None


def _denied(broker: Broker, resource: Any, context: RequestContext) -> Refusal | None:
    from ottla.server.broker.permissions.asking import refused_alteration

    code = refused_alteration(broker, context, resource)
    return None if code is None else Refusal(code, code.message)


def where_it_belongs(own: Any, broker: Broker, request: Any, context: RequestContext) -> Any:
    """Here, when this node was asked as a controller; else where the active one is."""
    return (own if context.is_for_controller else partial(at_controller, own))(broker, request, context)


async def _alter(
    broker: Broker, request: IncrementalAlterConfigsRequest, context: RequestContext
) -> IncrementalAlterConfigsResponse:
    answers = await broker.controller.alter_configs(
        [((r.resource_type, r.resource_name), _changes(r)) for r in request.resources],
        validate_only=request.validate_only,
    )
    responses = [_response(resource, answer) for resource, answer in zip(request.resources, answers, strict=True)]
    return IncrementalAlterConfigsResponse(responses=responses)


def _changes(resource: AlterConfigsResource) -> list[Change]:
    return [Change(config.name, config.config_operation, config.value) for config in resource.configs]


def _alter_loggers(
    broker: Broker, resource: AlterConfigsResource, context: RequestContext, validate_only: bool
) -> Refusal:
    try:
        changes = _changes(resource)
        check_changes(changes)
        if broker.authorizer is not None and (refusal := _denied(broker, resource, context)) is not None:
            return refusal
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
