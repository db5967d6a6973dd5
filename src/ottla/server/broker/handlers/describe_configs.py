"""DescribeConfigs (key 32), versions 1-4: settings with their values, where each comes from, and what else has one.

Version notes. 1: sources and synonyms (KIP-226). 3: types and documentation (KIP-569). Resources: topics, this broker
("" for the cluster-wide dynamic settings), its loggers, client metrics subscriptions, groups. Null keys, or none, mean
all. Values of sensitive settings are never told. Refusals: UNKNOWN_TOPIC_OR_PARTITION; INVALID_REQUEST for another
broker's id, an empty name where there must be one, or an unknown resource type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
    DescribeConfigsResult,
    DescribeConfigsSynonym,
)
from ottla.schema.describe import DYNAMIC_BROKER_LOGGER, Description
from ottla.server.broker.loggers import logger_levels
from ottla.server.controller.configs import check_own_broker, describe
from ottla.server.metadata.image import ConfigResourceType

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, RequestContext

_NO_TYPE: Final = 0
"""Levels are no settings: Kafka tells no type of them."""


def handle(broker: Broker, request: DescribeConfigsRequest, context: RequestContext) -> DescribeConfigsResponse:
    """Describe each resource."""
    results = []
    for resource in request.resources:
        code, text = ErrorCode.NONE, None
        entries: list[Description] = []
        try:
            entries = _describe(broker, resource)
        except ApiError as error:
            code, text = error.code, error.message
        results.append(
            DescribeConfigsResult(
                error_code=code,
                error_message=text,
                resource_type=resource.resource_type,
                resource_name=resource.resource_name,
                configs=[_entry(request, entry) for entry in entries],
            )
        )
    return DescribeConfigsResponse(results=results)


def error_response(
    request: DescribeConfigsRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> DescribeConfigsResponse:
    """The code for each resource."""
    results = [
        DescribeConfigsResult(
            error_code=code,
            error_message=message,
            resource_type=resource.resource_type,
            resource_name=resource.resource_name,
        )
        for resource in request.resources
    ]
    return DescribeConfigsResponse(results=results)


def _describe(broker: Broker, resource: DescribeConfigsResource) -> list[Description]:
    keys = resource.configuration_keys
    if resource.resource_type == ConfigResourceType.BROKER_LOGGER:
        if not resource.resource_name:
            raise ApiError(ErrorCode.INVALID_REQUEST, "Broker id must not be empty")
        check_own_broker(resource.resource_name, broker.node_id)
        return [
            Description(name, level, DYNAMIC_BROKER_LOGGER, False, False, _NO_TYPE, [], None)
            for name, level in logger_levels().items()
            if not keys or name in keys
        ]
    metadata = broker.metadata
    return describe(
        metadata.config, metadata.image, broker.node_id, (resource.resource_type, resource.resource_name), keys
    )


def _entry(request: DescribeConfigsRequest, entry: Description) -> DescribeConfigsResourceResult:
    synonyms = entry.synonyms if request.include_synonyms else ()
    return DescribeConfigsResourceResult(
        name=entry.name,
        value=entry.value,
        read_only=entry.is_read_only,
        config_source=entry.source,
        is_sensitive=entry.is_sensitive,
        synonyms=[DescribeConfigsSynonym(name=name, value=value, source=source) for name, value, source in synonyms],
        config_type=entry.type,
        documentation=entry.documentation if request.include_documentation else None,
    )
