"""ApiVersions (key 18), versions 0-5: what is served on this listener and which features the cluster has.

Of APIs that a broker forwards it offers what the active controller serves as well, as far as it has asked one: while a
cluster is upgraded the two may differ.

Version notes. 3: flexible, with the client's software name and version (KIP-511) and features (KIP-584). 4: features
whose lowest version is 0 are listed; older clients cannot take those (KIP-1022). 5: the client says which cluster and
node it means; a wrong one is told to bootstrap again (KIP-1242). The response header has no tagged fields at any
version, and a request of an unknown version is answered in version 0 with UNSUPPORTED_VERSION (see
`unsupported_version_response`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ottla.core.errors import ErrorCode
from ottla.protocol.apis import ApiKey
from ottla.protocol.messages.api_versions import (
    ApiVersion,
    ApiVersionsResponse,
    FinalizedFeatureKey,
    SupportedFeatureKey,
)
from ottla.server.broker.api_table import APIS
from ottla.server.metadata.features import KRAFT_VERSION, SUPPORTED_FEATURES, advertised_features

if TYPE_CHECKING:
    from ottla.protocol.messages.api_versions import ApiVersionsRequest
    from ottla.server.broker.broker import Broker, RequestContext

_SOFTWARE = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?")
_FIRST_SOFTWARE_VERSION = 3
_FIRST_MINIMUM_ZERO_VERSION = 4


def handle(broker: Broker, request: ApiVersionsRequest, context: RequestContext) -> ApiVersionsResponse:
    """List the APIs of the listener's table and the features."""
    version = context.api_version
    if version >= _FIRST_SOFTWARE_VERSION and not (
        _SOFTWARE.fullmatch(request.client_software_name) and _SOFTWARE.fullmatch(request.client_software_version)
    ):
        return error_response(request, context, ErrorCode.INVALID_REQUEST, None)
    if version >= _FIRST_SOFTWARE_VERSION:
        context.client_software = (request.client_software_name, request.client_software_version)
    if (request.cluster_id is not None and request.cluster_id != broker.cluster_id) or (
        request.node_id not in (-1, broker.node_id)
    ):
        return error_response(request, context, ErrorCode.REBOOTSTRAP_REQUIRED, None)
    image = broker.image
    finalized = advertised_features(image)
    kraft_version = broker.metadata_log.kraft_version
    if kraft_version:
        finalized[KRAFT_VERSION] = kraft_version
    own = image.brokers.get(broker.node_id)
    supported = own.features if own is not None and not context.is_for_controller else SUPPORTED_FEATURES
    return ApiVersionsResponse(
        api_keys=_served(broker, context),
        supported_features=[
            SupportedFeatureKey(name=name, min_version=low, max_version=high)
            for name, (low, high) in supported.items()
            if low > 0 or version >= _FIRST_MINIMUM_ZERO_VERSION
        ],
        finalized_features_epoch=image.offset,
        finalized_features=[
            FinalizedFeatureKey(name=name, min_version_level=level, max_version_level=level)
            for name, level in finalized.items()
        ],
    )


def _served(broker: Broker, context: RequestContext) -> list[ApiVersion]:
    unstable_versions = broker.config["unstable.api.versions.enable"]
    channel = broker.channel
    served = []
    for api in context.apis.values():
        lowest, highest = api.advertised_min, api.newest_version if unstable_versions else api.max_version
        controllers = channel.served_versions(api.key) if api.forwarded and channel is not None else None
        if controllers is not None:
            lowest, highest = max(lowest, controllers[0]), min(highest, controllers[1])
        if lowest <= highest:
            served.append(ApiVersion(api_key=api.key, min_version=lowest, max_version=highest))
    return served


def error_response(
    request: ApiVersionsRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> ApiVersionsResponse:
    """The bare code, as Kafka answers a request it does not like."""
    return ApiVersionsResponse(error_code=code)


def unsupported_version_response() -> ApiVersionsResponse:
    """The answer in version 0 to a version we do not know: the range we do know, so that the client can ask again."""
    api = APIS[ApiKey.API_VERSIONS]
    return ApiVersionsResponse(
        error_code=ErrorCode.UNSUPPORTED_VERSION,
        api_keys=[ApiVersion(api_key=api.key, min_version=api.min_version, max_version=api.max_version)],
    )
