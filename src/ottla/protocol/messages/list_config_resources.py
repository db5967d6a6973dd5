"""ListConfigResources, API key 74."""

from __future__ import annotations

from ottla.protocol.message import Request, Response, Struct, array, int8, int16, int32, string


class ListConfigResourcesRequest(Request, api_key=74, versions="0-1", flexible="0+", listeners=("broker",)):
    """Lists resources that have settings, by type; at v0 client metrics only (KIP-714, KIP-1142)."""

    resource_types: list[int] = array("int8", "1+")


class ConfigResource(Struct):
    resource_name: str = string("0+")
    resource_type: int = int8("1+", default=16, ignorable=True)


class ListConfigResourcesResponse(Response, api_key=74, versions="0-1", flexible="0+"):
    """Name and type of each resource."""

    throttle_time_ms: int = int32("0+")
    error_code: int = int16("0+")
    config_resources: list[ConfigResource] = array(ConfigResource, "0+")
