"""GetTelemetrySubscriptions (key 71), version 0 (KIP-714): a client asks which metrics to push, and how often.

Always served: a client looks once per connection whether a broker takes metrics, so one that connected before there was
a subscription would never push. Without a matching subscription the answer is no metrics and five minutes, after which
the client asks again: that is what it costs. THROTTLING_QUOTA_EXCEEDED for asking sooner than that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ottla.protocol.messages.get_telemetry_subscriptions import (
        GetTelemetrySubscriptionsRequest,
        GetTelemetrySubscriptionsResponse,
    )
    from ottla.server.broker.broker import Broker, RequestContext


def handle(
    broker: Broker, request: GetTelemetrySubscriptionsRequest, context: RequestContext
) -> GetTelemetrySubscriptionsResponse:
    """Tell what the subscriptions want of this client."""
    return broker.telemetry.ask(request, context)
