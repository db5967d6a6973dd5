"""Client metrics put together: what the handlers call, what a person reads."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ids import uuid_to_text
from ottla.protocol.messages.get_telemetry_subscriptions import (
    GetTelemetrySubscriptionsRequest,
    GetTelemetrySubscriptionsResponse,
)
from ottla.protocol.messages.push_telemetry import PushTelemetryRequest, PushTelemetryResponse
from ottla.records.batch import CorruptRecordError
from ottla.records.compression import Codec, decompress
from ottla.server.broker.telemetry.clients import ClientInstances
from ottla.server.broker.telemetry.latest import LatestSamples, Sample, samples_of
from ottla.server.broker.telemetry.metrics_file import MetricsFile
from ottla.server.broker.telemetry.otlp import OtlpError, read_metrics

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, RequestContext
    from ottla.server.broker.telemetry.otlp import Metric

MAX_KEPT_BYTES: Final = 16 * 1024 * 1024
"""Bound of the last pushes that are kept, as JSON; the clients heard of longest ago go first."""

_ACCEPTED: Final = [int(codec) for codec in (Codec.ZSTD, Codec.LZ4, Codec.GZIP, Codec.SNAPPY)]
"""In the order of preference."""


class Telemetry:
    """`broker.telemetry`: made when the first client asks."""

    def __init__(self, broker: Broker) -> None:
        config = broker.config
        self._broker = broker
        self._env = broker.env
        self.instances = ClientInstances(config["telemetry.max.bytes"], broker.env.random_uuid)
        self.file = MetricsFile(broker.env, config.log_dirs[0])
        self.latest = LatestSamples()
        self._last: OrderedDict[bytes, bytes] = OrderedDict()
        self._last_bytes = 0

    def ask(
        self, request: GetTelemetrySubscriptionsRequest, context: RequestContext
    ) -> GetTelemetrySubscriptionsResponse:
        """Answer GetTelemetrySubscriptions."""
        self.instances.update(self._broker.image.configs)
        now_ms = self._env.clock.now_ms()
        instance = self.instances.ask(request.client_instance_id, _client(context), now_ms)
        self._follow(instance.instance_id, context)
        return GetTelemetrySubscriptionsResponse(
            client_instance_id=instance.instance_id,
            subscription_id=instance.subscription_id,
            accepted_compression_types=_ACCEPTED,
            push_interval_ms=instance.wanted.interval_ms,
            telemetry_max_bytes=self.instances.max_payload_bytes,
            # Totals, not differences: a reader who starts late, or misses a push, still has the right number.
            delta_temporality=False,
            requested_metrics=list(instance.wanted.metrics),
        )

    async def push(self, request: PushTelemetryRequest, context: RequestContext) -> PushTelemetryResponse:
        """Answer PushTelemetry: INVALID_RECORD for a payload that is no metrics."""
        self.instances.update(self._broker.image.configs)
        now_ms = self._env.clock.now_ms()
        instance = self.instances.check_push(request, _client(context), now_ms)
        self._follow(instance.instance_id, context)
        if request.metrics:
            heading = {
                "time_ms": now_ms,
                "client_instance_id": uuid_to_text(instance.instance_id),
                **instance.client,
                "terminating": request.terminating,
            }
            payload, codec = bytes(request.metrics), request.compression_type
            line, samples = await self._env.run_blocking(
                _line, heading, payload, codec, self.instances.max_payload_bytes
            )
            self._keep(instance.instance_id, line)
            self.latest.keep(instance.instance_id, instance.client, samples, instance.expires_at_ms)
            self.file.write(line)
        return PushTelemetryResponse()

    def snapshot(self) -> list[dict[str, Any]]:
        """The last push of each client instance, the one heard of longest ago first; see docs/client-metrics.md."""
        return [json.loads(line) for line in self._last.values()]

    async def close(self) -> None:
        """Write what is not written yet."""
        await self.file.close()

    def _follow(self, instance_id: bytes, context: RequestContext) -> None:
        instances = self.instances
        context.when_closed("telemetry", lambda: instances.forget(instance_id))

    def _keep(self, instance_id: bytes, line: bytes) -> None:
        self._last_bytes += len(line) - len(self._last.pop(instance_id, b""))
        self._last[instance_id] = line
        while self._last_bytes > MAX_KEPT_BYTES:
            self._last_bytes -= len(self._last.popitem(last=False)[1])


def _client(context: RequestContext) -> dict[str, str]:
    """What a subscription's `match` can look at, by selector."""
    name, version = context.client_software
    return {
        "client_id": context.client_id or "",
        "client_software_name": name,
        "client_software_version": version,
        "client_source_address": context.client_host,
        "client_source_port": str(context.client_port),
    }


def _line(heading: dict[str, Any], payload: bytes, codec: int, limit_bytes: int) -> tuple[bytes, list[Sample]]:
    """One push as JSON, and its numbers; for a worker thread, since a push can be a megabyte."""
    try:
        data = payload if codec == Codec.NONE else bytes(decompress(codec, payload, limit_bytes))
        resource, metrics = read_metrics(data)
    except (CorruptRecordError, OtlpError) as error:
        raise ApiError(ErrorCode.INVALID_RECORD, str(error)) from error
    content = {**heading, "resource": _finite(resource), "metrics": [_entry(metric) for metric in metrics]}
    line = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
    return line, samples_of(metrics)


def _entry(metric: Metric) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": metric.name, "kind": metric.kind, "value": _finite(metric.value)}
    if metric.unit:
        entry["unit"] = metric.unit
    if metric.attributes:
        entry["attributes"] = _finite(metric.attributes)
    if metric.is_delta:
        entry["delta"] = True
    return entry


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity, which clients send for what they have not measured yet: null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(content) for key, content in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value
