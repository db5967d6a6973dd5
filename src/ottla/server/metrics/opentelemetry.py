"""The same metrics sent by OpenTelemetry (OTLP over HTTP): the one module that knows `opentelemetry-sdk`.

An extra: `pip install 'ottla[opentelemetry]'`. What is sent is what `/metrics` would say, every
`opentelemetry.interval.ms`: counters as cumulative sums, the rest as gauges, quantiles as gauges with the attribute
`quantile`. Families are collected on the event loop, in slices, and encoded and sent by a worker thread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ottla.core.histogram import QUANTILES, Snapshot
from ottla.schema.definition import SettingError

if TYPE_CHECKING:
    from ottla.schema.config import BrokerConfig
    from ottla.server.broker.broker import Broker
    from ottla.server.metrics.exposition import Family
    from ottla.server.metrics.registry import Metrics

logger = logging.getLogger(__name__)

SETTING: Final = "opentelemetry.endpoint"
ROWS_PER_TURN: Final = 500

Point = tuple[dict[str, str], float]


class Collected(NamedTuple):
    """One family, read."""

    name: str
    description: str
    is_total: bool
    points: list[Point]


class OpenTelemetry:
    """Sends until it is closed. Raises `SettingError` when the packages are not installed."""

    def __init__(
        self,
        metrics: Metrics,
        config: BrokerConfig,
        broker: Broker,
        *,
        make_exporter: Callable[[str], Any] | None = None,
    ) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        except ImportError as error:
            text = f"{SETTING} needs more packages: pip install 'ottla[opentelemetry]' ({error})"
            raise SettingError(SETTING, text) from error
        make = make_exporter or (lambda endpoint: OTLPMetricExporter(endpoint=endpoint))
        self._exporter = make(config[SETTING])
        self._metrics = metrics
        self._interval_s: float = config["opentelemetry.interval.ms"] / 1000
        self._env = broker.env
        self._resource = {
            "service.name": "ottla",
            "service.instance.id": str(broker.node_id),
            "kafka.cluster.id": broker.cluster_id,
        }
        self._began_ns = time.time_ns()
        self._sending = asyncio.ensure_future(self._run())

    async def close(self) -> None:
        """Send no more."""
        self._sending.cancel()
        await asyncio.gather(self._sending, return_exceptions=True)
        await self._env.run_blocking(self._exporter.shutdown)

    async def _run(self) -> None:
        complained = False
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                sent = await self._env.run_blocking(self._export, await self.collect(), time.time_ns())
            except Exception as error:
                # Whatever is wrong with a receiver must not end the sending for ever.
                sent, reason = False, str(error)
            else:
                reason = "it does not take them"
            if not sent and not complained:
                logger.warning("metrics cannot be sent to %s: %s", SETTING, reason)
            complained = not sent

    async def collect(self) -> list[Collected]:
        """Everything there is, read in slices."""
        found: list[Collected] = []
        seen: set[str] = set()
        count = 0
        for family in self._metrics.families():
            if family is None:
                await asyncio.sleep(0)
                continue
            if family.name in seen:
                continue
            seen.add(family.name)
            points = []
            for point in _points(family):
                points.append(point)
                count += 1
                if count % ROWS_PER_TURN == 0:
                    await asyncio.sleep(0)
            if points:
                found.append(Collected(family.name, family.help, family.type == "counter", points))
        return found

    def _export(self, collected: list[Collected], now_ns: int) -> bool:
        """Encode and send; for a worker thread."""
        from opentelemetry.sdk.metrics.export import (
            AggregationTemporality,
            Gauge,
            Metric,
            MetricExportResult,
            MetricsData,
            NumberDataPoint,
            ResourceMetrics,
            ScopeMetrics,
            Sum,
        )
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        metrics = []
        for one in collected:
            points = [NumberDataPoint(attributes, self._began_ns, now_ns, value) for attributes, value in one.points]
            data = Sum(points, AggregationTemporality.CUMULATIVE, True) if one.is_total else Gauge(points)
            metrics.append(Metric(one.name, one.description, "", data))
        scope = ScopeMetrics(InstrumentationScope("ottla"), metrics, "")
        resource = ResourceMetrics(Resource.create(self._resource), [scope], "")
        result = self._exporter.export(MetricsData([resource]))
        return bool(result is MetricExportResult.SUCCESS)


def _points(family: Family) -> list[Point]:
    points: list[Point] = []
    for label, value in family.rows:
        attributes = dict(label.pairs)
        if isinstance(value, Snapshot):
            if family.part != "quantiles":
                points.append((attributes, value.recorded))
            if family.part != "count":
                points += [
                    ({**attributes, "quantile": str(quantile)}, found)
                    for quantile, found in zip(QUANTILES, value.quantiles, strict=True)
                ]
        elif family.part == "state":
            points.append(({**attributes, family.state_label: str(value)}, 1))
        else:
            points.append((attributes, value))
    return points
