"""PushTelemetry, API key 72."""

from __future__ import annotations

from ottla.protocol.message import Request, Response, binary, boolean, int8, int16, int32, uuid


class PushTelemetryRequest(Request, api_key=72, versions="0", flexible="0+", listeners=("broker",)):
    """A client pushes metrics, compressed in OTLP form (KIP-714)."""

    client_instance_id: bytes = uuid("0+")
    subscription_id: int = int32("0+")
    terminating: bool = boolean("0+")
    compression_type: int = int8("0+")
    metrics: bytes = binary("0+", zero_copy=True)


class PushTelemetryResponse(Response, api_key=72, versions="0", flexible="0+"):
    """Outcome of PushTelemetryRequest."""

    throttle_time_ms: int = int32("0+")
    error_code: int = int16("0+")
