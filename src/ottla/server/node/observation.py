"""A node as its metrics and its health see it, from before it has started until after it has stopped."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ottla.schema.config import BrokerConfig
    from ottla.server.broker.broker import Broker
    from ottla.server.broker.listener import Listener
    from ottla.server.broker.request_metrics import RequestMetrics
    from ottla.server.metrics.opentelemetry import OpenTelemetry
    from ottla.server.metrics.registry import Metrics
    from ottla.server.node.node import Node

_RECOVERING, _RUNNING, _STOPPING = 2, 3, 6
"""States of a broker, in Kafka's numbers."""


class Observation:
    """`ottla.server.metrics.endpoint.Health`, and what `registry.Metrics` looks at."""

    def __init__(self, config: BrokerConfig) -> None:
        self.state = _RECOVERING
        self._config = config
        self._node: Node | None = None
        self.started_ms = 0
        self._metrics: Metrics | None = None
        self._open_telemetry: OpenTelemetry | None = None

    def started(self, node: Node) -> None:
        """Clients are served."""
        self._node = node
        self.started_ms = int(asyncio.get_running_loop().time() * 1000)
        self.state = _RUNNING
        if self._config["opentelemetry.endpoint"]:
            from ottla.server.metrics.opentelemetry import OpenTelemetry

            metrics = self.metrics()
            assert metrics is not None
            self._open_telemetry = OpenTelemetry(metrics, self._config, self.broker)

    async def stop(self) -> None:
        """The node is stopping; safe a second time."""
        self.state = _STOPPING
        if self._open_telemetry is not None:
            await self._open_telemetry.close()
        metrics, self._metrics, self._open_telemetry = self._metrics, None, None
        if metrics is not None:
            await metrics.close()

    def not_ready(self) -> str | None:
        """Why clients are not served."""
        node = self._node
        if self.state == _RECOVERING or node is None:
            return "the node is starting"
        if self.state == _STOPPING:
            return "the node is stopping"
        if node.failed is not None and node.failed.done():
            return f"the node has failed: {node.failed.result()}"
        if not self.broker.log_directories.online:
            return "no data directory is in service"
        return None

    def metrics(self) -> Metrics | None:
        """The metrics, made when first asked for."""
        if self.state != _RUNNING:
            return None
        if self._metrics is None:
            from ottla.server.metrics.registry import Metrics

            self._metrics = Metrics(self)
        return self._metrics

    # What the metrics look at

    @property
    def broker(self) -> Broker:
        assert self._node is not None
        return self._node.broker

    @property
    def request_metrics(self) -> dict[int, RequestMetrics]:
        assert self._node is not None
        return self._node.request_metrics

    @property
    def listeners(self) -> tuple[Listener, ...]:
        assert self._node is not None
        return self._node.listeners
