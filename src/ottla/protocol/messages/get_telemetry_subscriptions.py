"""GetTelemetrySubscriptions, API key 71."""

from __future__ import annotations

from ottla.protocol.message import Request, Response, array, boolean, int16, int32, uuid


class GetTelemetrySubscriptionsRequest(Request, api_key=71, versions="0", flexible="0+", listeners=("broker",)):
    """A client asks which metrics it should push (KIP-714)."""

    client_instance_id: bytes = uuid("0+")


class GetTelemetrySubscriptionsResponse(Response, api_key=71, versions="0", flexible="0+"):
    """Client instance id, subscription, metrics and push interval."""

    throttle_time_ms: int = int32("0+")
    error_code: int = int16("0+")
    client_instance_id: bytes = uuid("0+")
    subscription_id: int = int32("0+")
    accepted_compression_types: list[int] = array("int8", "0+")
    push_interval_ms: int = int32("0+")
    telemetry_max_bytes: int = int32("0+")
    delta_temporality: bool = boolean("0+")
    requested_metrics: list[str] = array("string", "0+")
