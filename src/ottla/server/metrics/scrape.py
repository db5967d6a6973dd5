"""One look at a broker: its parts, and what several rows of the table need, added up once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from ottla.server.metrics.exposition import Labels, labels
from ottla.server.replication.partition import COUNTERS

if TYPE_CHECKING:
    from ottla.schema.config import BrokerConfig
    from ottla.server.broker.broker import Broker
    from ottla.server.broker.dispatch import Route
    from ottla.server.broker.listener import Listener
    from ottla.server.broker.request_metrics import RequestMetrics
    from ottla.server.metadata.image import MetadataImage
    from ottla.server.metrics.rates import Rates
    from ottla.server.raft.metadata_log import QuorumDescription
    from ottla.server.replication.partition import Partition

PARTITIONS_PER_TURN: Final = 500

_read_counters = attrgetter(*COUNTERS)

STARTING, RECOVERING, RUNNING, STOPPING = 1, 2, 3, 6
"""Kafka's numbers for the state of a broker."""


class Scrape:
    """A look begins with `prepare`. `now_ms` is steady, `wall_ms` the wall clock."""

    def __init__(
        self,
        broker: Broker,
        listeners: tuple[Listener, ...],
        request_metrics: dict[int, RequestMetrics],
        rates: Rates,
        *,
        state: int,
        now_ms: int,
    ) -> None:
        self.broker = broker
        self.listeners = listeners
        self.request_metrics = request_metrics
        self.rates = rates
        self.state = state
        self.now_ms = now_ms
        self.wall_ms = broker.env.clock.now_ms()
        self.config: BrokerConfig = broker.config
        self.image: MetadataImage = broker.image
        self.partitions: list[tuple[Partition, Labels]] = []
        self.topics: list[tuple[Labels, tuple[int, ...]]] = []
        self.totals: dict[str, int] = dict(broker.replicas.departed)
        self.led = self.under_replicated = self.under_min_isr = self.at_min_isr = self.producer_ids = 0

    def prepare(self) -> Iterator[None]:
        """Go through topics and partitions; each None lets others have a turn."""
        count = 0
        for hosted in list(self.broker.replicas.by_name.values()):
            sums = [0] * len(COUNTERS)
            topic = ("topic", hosted.name)
            for index, partition in list(hosted.partitions.items()):
                self.partitions.append((partition, labels(topic, ("partition", str(index)))))
                for position, value in enumerate(_read_counters(partition)):
                    if value:
                        sums[position] += value
                self._add_up(partition)
                count += 1
                if count % PARTITIONS_PER_TURN == 0:
                    yield
            self.topics.append((labels(topic), tuple(sums)))
            for name, value in zip(COUNTERS, sums, strict=True):
                self.totals[name] += value

    def _add_up(self, partition: Partition) -> None:
        self.producer_ids += len(partition.log.producers_state.producers)
        if partition.is_leader:
            self.led += 1
            in_sync, needed = len(partition.isr), partition.needed_isr
            self.under_replicated += in_sync < len(partition.replicas)
            self.under_min_isr += in_sync < needed
            self.at_min_isr += in_sync == needed and len(partition.replicas) > 0

    # The cluster, from the image

    @cached_property
    def cluster(self) -> Counter[str]:
        """Partitions of the whole cluster: all, without a leader, not led by the preferred one."""
        found: Counter[str] = Counter()
        for topic in self.image.topics.by_name.values():
            found["partitions"] += len(topic.partitions)
            for placed in topic.partitions.values():
                if placed.leader < 0:
                    found["offline"] += 1
                elif placed.leader != placed.replicas[0]:
                    found["not preferred"] += 1
                if placed.adding_replicas or placed.removing_replicas:
                    found["reassigning"] += self.broker.node_id in placed.replicas
        return found

    @cached_property
    def quorum(self) -> QuorumDescription:
        """Who leads the metadata log, and who votes."""
        return self.broker.metadata_log.describe_quorum()

    @cached_property
    def routes(self) -> list[Route]:
        """Everything that was asked for: an API in a version, on a listener."""
        return [route for metrics in list(self.request_metrics.values()) for route in metrics.routes]

    # Connections

    @cached_property
    def waiting(self) -> Counter[str]:
        """Requests whose answer is waited for, by the name of their API; what is kept waiting in front of them."""
        found: Counter[str] = Counter()
        for listener in self.listeners:
            for connection in listener.connections:
                name = connection.awaited_api
                if name is not None:
                    found[name] += 1
                found["queued"] += connection.has_requests_waiting
                found["blocked"] += connection.is_blocked
        return found

    @cached_property
    def software(self) -> dict[str, Counter[tuple[str, str]]]:
        """Connections by listener and client software."""
        return {
            listener.name: Counter(connection.context.client_software for connection in listener.connections)
            for listener in self.listeners
        }

    @cached_property
    def idle(self) -> float:
        """Share of the last half minute in which the event loop had nothing to do."""
        busy = self.rates.record("event loop", time.thread_time(), self.now_ms)
        return min(max(1.0 - busy, 0.0), 1.0)

    @cached_property
    def idle_minute(self) -> float:
        """The same over a minute."""
        busy = self.rates.record("event loop, minute", time.thread_time(), self.now_ms, 60_000)
        return min(max(1.0 - busy, 0.0), 1.0)

    # Parts that are there only when somebody needed them

    def part(self, name: str) -> Any | None:
        """A coordinator, when it was made already."""
        return self.broker.coordinators.existing(name)

    @cached_property
    def groups(self) -> list[Any]:
        """The groups that this broker coordinates, of all kinds."""
        return [group for shard in self.group_shards for group in list(shard.groups.values())]

    @cached_property
    def group_shards(self) -> list[Any]:
        """The loaded shards of the group coordinator."""
        coordinator = self.part("groups")
        return [] if coordinator is None else [partition.shard for partition in coordinator.active_partitions()]
