"""All metrics of one broker, as families: what the endpoint writes as text, and OpenTelemetry sends."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from ottla.server.metrics import clients, exporter, process
from ottla.server.metrics.beans import BURROW, CONFLUENT, EXPORTER, STRIMZI, Bean, Part, namings
from ottla.server.metrics.exposition import NO_LABELS, Family, Labels
from ottla.server.metrics.groups import GroupLag
from ottla.server.metrics.rates import Rates
from ottla.server.metrics.scrape import Scrape
from ottla.server.metrics.table import BEANS

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker
    from ottla.server.broker.listener import Listener
    from ottla.server.broker.request_metrics import RequestMetrics

_JMX = (CONFLUENT, STRIMZI)


class Observed(Protocol):
    """A node as metrics see it."""

    @property
    def broker(self) -> Broker: ...
    @property
    def request_metrics(self) -> dict[int, RequestMetrics]: ...
    @property
    def listeners(self) -> tuple[Listener, ...]: ...
    @property
    def started_ms(self) -> int:
        """Since when clients are served, by the event loop's clock: what is counted has begun then."""

    @property
    def state(self) -> int:
        """Kafka's number for the state of the broker (`scrape.RUNNING`, …)."""


class Metrics:
    """The metrics of a node that runs; `close` ends what goes on in the background."""

    def __init__(self, node: Observed) -> None:
        self._node = node
        self._loop = asyncio.get_running_loop()
        self.rates = Rates(node.started_ms)
        self.garbage = process.GarbageWatch()
        self.garbage.begin()
        self.lag = GroupLag(node.broker, node.broker.env.work_ns)
        self._watching = asyncio.ensure_future(self.lag.run())

    async def close(self) -> None:
        """Stop looking at groups."""
        self.garbage.end()
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)

    @property
    def dialects(self) -> list[str]:
        """Whose names are told."""
        names: list[str] = self._node.broker.config["metrics.names"]
        return names

    def families(self, dialects: Collection[str] | None = None) -> Iterator[Family | None]:
        """Every metric; None lets others have a turn. `dialects`: other ones than the settings say."""
        node, now_ms = self._node, self._now_ms()
        chosen = self.dialects if dialects is None else dialects
        for metrics in list(node.request_metrics.values()):
            metrics.turn(now_ms)
        node.broker.log_directories.flush_times.turn(now_ms)
        scrape = Scrape(node.broker, node.listeners, node.request_metrics, self.rates, state=node.state, now_ms=now_ms)
        yield from scrape.prepare()
        if jmx := [name for name in _JMX if name in chosen]:
            for bean in BEANS:
                yield from _bean_families(bean, jmx, scrape)
        if EXPORTER in chosen:
            yield from exporter.families(scrape)
        if BURROW in chosen:
            yield from self.lag.look()
            yield from self.lag.families(scrape.wall_ms)
        yield from process.families(self.garbage)
        # Last: what clients say must not take the name of what we say.
        yield from clients.families(node.broker.existing_telemetry, scrape.wall_ms)

    @property
    def wall_ms(self) -> int:
        """The wall clock."""
        return self._node.broker.env.clock.now_ms()

    def _now_ms(self) -> int:
        return int(self._loop.time() * 1000)


def _bean_families(bean: Bean, dialects: list[str], scrape: Scrape) -> Iterator[Family]:
    """A bean under each of its names; it is read once for each, which is as good as once: nothing is kept."""
    for naming in namings(bean, dialects):
        value = bean.read(scrape)
        if value is None:
            continue
        state_label = bean.name.lower().replace("-", "_") if naming.part is Part.STATE else ""
        yield Family(naming.name, naming.type, bean.object_name, _rows(value), naming.part.value, state_label)


def _rows(value: Any) -> Any:
    """Samples of what a bean's function gave: a number, a snapshot, a text, or rows."""
    return value if hasattr(value, "__next__") else _one(value)


def _one(value: Any) -> list[tuple[Labels, Any]]:
    return [(NO_LABELS, value)]
