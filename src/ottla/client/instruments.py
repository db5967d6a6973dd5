"""What all clients have of metrics: a registry, a cluster that counts into it, and telemetry that pushes it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from math import nan
from typing import TYPE_CHECKING

from ottla.client.errors import IllegalStateError
from ottla.client.metrics.network import NetworkMetrics
from ottla.client.metrics.registry import MetricName, Metrics
from ottla.client.network.cluster import Cluster

if TYPE_CHECKING:
    from ottla.client.metrics.telemetry import TelemetryReporter
    from ottla.client.settings import CommonSettings

_LOG = logging.getLogger("ottla.client")

Resource = Callable[[], Iterable[tuple[str, str | None]]]
"""What a client says of itself with its metrics, such as group_id; what is None or empty is left out."""


class Instruments:
    """One for each client. `kind` is the first word of its metrics' groups: producer, consumer, admin-client …"""

    def __init__(
        self, settings: CommonSettings, kind: str, resource: Resource = tuple, cluster: Cluster | None = None
    ) -> None:
        self._settings = settings
        self._resource = resource
        self._telemetry: TelemetryReporter | None = None
        self.cluster = Cluster(settings) if cluster is None else cluster
        self.metrics = Metrics(
            self.cluster.now_ms,
            tags={"client-id": settings.client_id},
            samples=settings.metrics_num_samples,
            window_ms=settings.metrics_sample_window_ms,
        )
        self.cluster.metrics = NetworkMetrics(self.metrics, kind)

    def start(self) -> None:
        """Push metrics in the background, if the cluster asks for some, unless that is switched off. On the loop."""
        if self._telemetry is None and self._settings.enable_metrics_push and not self.cluster.controllers:
            from ottla.client.metrics.telemetry import TelemetryReporter

            self._telemetry = TelemetryReporter(
                self.cluster,
                self.metrics,
                lambda: [(name, value) for name, value in self._resource() if value],
            )
        if self._telemetry is not None and not self.cluster.is_closed:
            self._telemetry.start()

    async def client_instance_id(self, timeout_s: float) -> str:
        """The id under which the cluster files this client's metrics (KIP-714)."""
        self.start()
        if self._telemetry is None:
            raise IllegalStateError("the client pushes no metrics.", hint="Set enable.metrics.push to true.")
        return await self._telemetry.client_instance_id(int(timeout_s * 1000))

    def register(
        self, name: str, read: Callable[[], float], group: str, description: str, tags: Mapping[str, str] | None
    ) -> MetricName:
        """Have a number of the application among the metrics, and pushed with them (KIP-1076)."""
        self.metrics.gauge(group, name, description, _careful(name, read), tags)
        return MetricName(name, group, self.metrics.tags + tuple((tags or {}).items()))

    def describe(self) -> str:
        """Which client this is, for its repr."""
        settings = self._settings
        words = [settings.client_id, "of", ",".join(map(str, self.cluster.controllers or settings.bootstrap_servers))]
        for name in ("group_id", "transactional_id"):
            value = getattr(settings, name, None) if name.replace("_", ".") in settings.table else None
            words += [f"{name}={value!r}"] if value is not None else []
        return " ".join(words + ["(closed)"] * self.cluster.is_closed)

    def is_working(self) -> bool:
        """Something goes on in the background: the client was used, and is not closed."""
        return self.cluster.is_bound and not self.cluster.is_closed

    async def close(self) -> None:
        """Push a last time if pushes are wanted."""
        if self._telemetry is not None:
            await self._telemetry.close()


def _careful(name: str, read: Callable[[], float]) -> Callable[[], float]:
    """What an application's number is, or that it has none now: it must not take the other metrics along."""
    has_failed = False

    def read_or_nan() -> float:
        nonlocal has_failed
        try:
            value = float(read())
        except Exception:
            if not has_failed:
                _LOG.exception("The metric %s cannot be read", name)
            has_failed = True
            return nan
        has_failed = False
        return value

    return read_or_nan


class Instrumented:
    """What a client offers of its metrics; it has its `Instruments` in `_instruments`."""

    __slots__ = ()

    _instruments: Instruments

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._instruments.describe()}>"

    def metrics(self) -> dict[MetricName, float]:
        """The client's own metrics and their values now, under the names of Kafka's client; from any thread."""
        return self._instruments.metrics.snapshot()

    def register_metric_for_subscription(
        self,
        name: str,
        read: Callable[[], float],
        *,
        group: str = "application",
        description: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> MetricName:
        """Have a number of the application pushed along with the client's own (KIP-1076); `read` must be quick."""
        return self._instruments.register(name, read, group, description, tags)

    def unregister_metric_from_subscription(self, metric: MetricName) -> None:
        """No longer push a number of the application."""
        self._instruments.metrics.remove(metric)
