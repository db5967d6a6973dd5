"""PushTelemetry (key 72), version 0 (KIP-714): a client's metrics in OpenTelemetry's form; see docs/client-metrics.md.

Refusals: UNKNOWN_SUBSCRIPTION_ID (the subscriptions have changed: ask again), THROTTLING_QUOTA_EXCEEDED (too early),
UNSUPPORTED_COMPRESSION_TYPE, TELEMETRY_TOO_LARGE, INVALID_REQUEST (no id, or a push after the last one), INVALID_RECORD
(what came is no metrics, or unfolds to more than `telemetry.max.bytes`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ottla.protocol.messages.push_telemetry import PushTelemetryRequest, PushTelemetryResponse
    from ottla.server.broker.broker import Broker, RequestContext


async def handle(broker: Broker, request: PushTelemetryRequest, context: RequestContext) -> PushTelemetryResponse:
    """Take the metrics."""
    return await broker.telemetry.push(request, context)
