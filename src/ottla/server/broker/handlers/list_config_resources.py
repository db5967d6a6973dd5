"""ListConfigResources (key 74), versions 0-1: what there is that can have settings (KIP-714, KIP-1142).

Version notes. 0: client metrics subscriptions only. 1: by types, all of them when none is named; a type that cannot be
listed is UNSUPPORTED_VERSION. Groups are those with settings of their own. Loggers are named by their broker.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.list_config_resources import (
    ConfigResource,
    ListConfigResourcesRequest,
    ListConfigResourcesResponse,
)
from ottla.server.broker.metadata_answers import live_endpoints
from ottla.server.metadata.image import ConfigResourceType

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, RequestContext
    from ottla.server.metadata.image import MetadataImage

_TYPES: Final = (
    ConfigResourceType.GROUP,
    ConfigResourceType.CLIENT_METRICS,
    ConfigResourceType.BROKER_LOGGER,
    ConfigResourceType.BROKER,
    ConfigResourceType.TOPIC,
)
"""In the order in which they are answered."""


def handle(broker: Broker, request: ListConfigResourcesRequest, context: RequestContext) -> ListConfigResourcesResponse:
    """List the names of each type."""
    supported: tuple[int, ...] = _TYPES if context.api_version else (ConfigResourceType.CLIENT_METRICS,)
    wanted = request.resource_types or supported
    if not set(wanted) <= set(supported):
        raise ApiError(ErrorCode.UNSUPPORTED_VERSION, "Resources of such a type cannot be listed.")
    image = broker.image
    return ListConfigResourcesResponse(
        config_resources=[
            ConfigResource(resource_name=name, resource_type=resource_type)
            for resource_type in _TYPES
            if resource_type in wanted
            for name in _names(image, resource_type, context.listener_name)
        ]
    )


def _names(image: MetadataImage, resource_type: int, listener_name: str) -> Iterable[str]:
    if resource_type == ConfigResourceType.TOPIC:
        return image.topics.by_name
    if resource_type in (ConfigResourceType.BROKER, ConfigResourceType.BROKER_LOGGER):
        return [str(broker.broker_id) for broker, _ in live_endpoints(image, listener_name)]
    return [name for kind, name in image.configs if kind == resource_type]
