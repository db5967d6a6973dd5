"""Which version of an API to speak with a node, and what its features are: what ApiVersions told (KIP-35, KIP-584).

Also the versions since which a response's throttle_time_ms is ours to keep (KIP-219): before them the broker itself
held the response back, and waiting again would be waiting twice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from ottla.client.errors import ConnectionFailedError, UnsupportedVersionError, error_for
from ottla.core.errors import ErrorCode
from ottla.protocol.apis import APIS, ApiKey
from ottla.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from ottla.version import VERSION

FIRST_API_VERSIONS = 4
"""What a connection starts with: the last version that says all about a broker."""
CLUSTER_CHECK = 5
"""Since this version the request names the cluster and node we mean (KIP-1242)."""

_SOFTWARE_VERSION = re.sub(r"[^a-zA-Z0-9.\-]+", "-", VERSION).strip("-.") or "0"

_CLIENT_THROTTLES_SINCE: dict[int, int] = {
    ApiKey.PRODUCE: 6,
    ApiKey.FETCH: 8,
    ApiKey.LIST_OFFSETS: 3,
    ApiKey.METADATA: 6,
    ApiKey.OFFSET_COMMIT: 4,
    ApiKey.OFFSET_FETCH: 4,
    ApiKey.FIND_COORDINATOR: 2,
    ApiKey.JOIN_GROUP: 3,
    ApiKey.HEARTBEAT: 2,
    ApiKey.LEAVE_GROUP: 2,
    ApiKey.SYNC_GROUP: 2,
    ApiKey.DESCRIBE_GROUPS: 2,
    ApiKey.LIST_GROUPS: 2,
    ApiKey.API_VERSIONS: 2,
    ApiKey.CREATE_TOPICS: 3,
    ApiKey.DELETE_TOPICS: 2,
    ApiKey.DESCRIBE_CONFIGS: 2,
    **dict.fromkeys(
        (
            ApiKey.DELETE_RECORDS,
            ApiKey.INIT_PRODUCER_ID,
            ApiKey.ADD_PARTITIONS_TO_TXN,
            ApiKey.ADD_OFFSETS_TO_TXN,
            ApiKey.END_TXN,
            ApiKey.TXN_OFFSET_COMMIT,
            ApiKey.DESCRIBE_ACLS,
            ApiKey.CREATE_ACLS,
            ApiKey.DELETE_ACLS,
            ApiKey.ALTER_CONFIGS,
            ApiKey.ALTER_REPLICA_LOG_DIRS,
            ApiKey.DESCRIBE_LOG_DIRS,
            ApiKey.CREATE_PARTITIONS,
            ApiKey.CREATE_DELEGATION_TOKEN,
            ApiKey.RENEW_DELEGATION_TOKEN,
            ApiKey.EXPIRE_DELEGATION_TOKEN,
            ApiKey.DESCRIBE_DELEGATION_TOKEN,
            ApiKey.DELETE_GROUPS,
        ),
        1,
    ),
}
"""First version of each API whose throttle time the client has to wait; 0 for those that are not named."""


def client_throttles(api_key: int, version: int) -> bool:
    """Whether the client, rather than the broker, waits for the throttle time of such a response."""
    return version >= _CLIENT_THROTTLES_SINCE.get(api_key, 0)


class NodeVersions:
    """The versions a node serves."""

    __slots__ = ("_chosen", "feature_epoch", "features", "name", "ranges")

    def __init__(self, response: ApiVersionsResponse, name: str) -> None:
        self.name = name
        self.ranges: Mapping[int, tuple[int, int]] = MappingProxyType(
            {api.api_key: (api.min_version, api.max_version) for api in response.api_keys}
        )
        self.feature_epoch = response.finalized_features_epoch
        self.features = {feature.name: feature.max_version_level for feature in response.finalized_features}
        self._chosen: dict[tuple[int, int | None, int | None], int] = {}

    def choose(self, api_key: int, min_version: int | None, max_version: int | None) -> int:
        """The highest version of both sides within the caller's bounds (inclusive); `UnsupportedVersionError`."""
        chosen = self._chosen.get((api_key, min_version, max_version))
        if chosen is None:
            chosen = self._chosen[api_key, min_version, max_version] = self._choose(api_key, min_version, max_version)
        return chosen

    def _choose(self, api_key: int, min_version: int | None, max_version: int | None) -> int:
        api = APIS[api_key]
        lowest = max(api.versions[0], min_version or 0)
        highest = api.latest_stable_version if max_version is None else min(api.versions[1], max_version)
        served = self.ranges.get(api_key)
        if served is None:
            raise UnsupportedVersionError(f"{self.name} does not offer {api.name}.")
        low, high = max(lowest, served[0]), min(highest, served[1])
        if low > high:
            raise UnsupportedVersionError(
                f"{self.name} offers {api.name} {_span(served)}, and this needs {_span((lowest, highest))}."
            )
        return high


def _span(versions: tuple[int, int]) -> str:
    low, high = versions
    return f"version {low}" if low == high else f"versions {low} to {high}"


def api_versions_request(version: int, cluster_id: str | None, node_id: int) -> ApiVersionsRequest:
    """The first request of a connection."""
    request = ApiVersionsRequest(client_software_name="ottla", client_software_version=_SOFTWARE_VERSION)
    if version >= CLUSTER_CHECK:
        request.cluster_id = cluster_id
        request.node_id = node_id
    return request


def downgrade(response: ApiVersionsResponse, asked: int) -> int | None:
    """The version to ask again with (KIP-511), None when `response` is an answer; an error when it is a refusal."""
    code = response.error_code
    if not code:
        return None
    if code == ErrorCode.UNSUPPORTED_VERSION and asked:
        for api in response.api_keys:
            if api.api_key == ApiKey.API_VERSIONS and api.max_version < asked:
                return api.max_version
        return 0
    if code == ErrorCode.REBOOTSTRAP_REQUIRED:
        message = "the broker there is not the one that the metadata names."
        raise ConnectionFailedError(message, code=code, retriable=True, hint="")
    raise error_for(code)
