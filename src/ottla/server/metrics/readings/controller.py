"""The controller, the metadata log and what was made of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ottla.server.metrics.exposition import Labels, labels

if TYPE_CHECKING:
    from ottla.server.metrics.scrape import Scrape

Rows = Iterator[tuple[Labels, Any]]

FENCED, ACTIVE, CONTROLLED_SHUTDOWN = 10, 20, 30


def active_controllers(scrape: Scrape) -> int:
    """1 on the node that leads the metadata log."""
    return int(scrape.broker.controller.is_active and scrape.broker.metadata.failure is None)


def fenced_brokers(scrape: Scrape) -> int:
    return sum(broker.fenced for broker in scrape.image.brokers.values())


def active_brokers(scrape: Scrape) -> int:
    return sum(broker.is_active for broker in scrape.image.brokers.values())


def stopping_brokers(scrape: Scrape) -> int:
    return sum(broker.in_controlled_shutdown for broker in scrape.image.brokers.values())


def registration_states(scrape: Scrape) -> Rows:
    """Every broker: fenced (10), active (20) or stopping (30)."""
    for broker in scrape.image.brokers.values():
        state = FENCED if broker.fenced else CONTROLLED_SHUTDOWN if broker.in_controlled_shutdown else ACTIVE
        yield labels(("broker", str(broker.broker_id))), state


def applied_lag_ms(scrape: Scrape) -> int:
    """How old the newest applied record is while there are newer ones; 0 when all are applied."""
    metadata = scrape.broker.metadata
    if metadata.offset + 1 >= scrape.broker.metadata_log.committed_offset:
        return 0
    return max(scrape.wall_ms - scrape.image.timestamp_ms, 0)


def commit_latency_average(scrape: Scrape) -> float:
    """Milliseconds, since the start."""
    found = scrape.broker.controller.commit_times.snapshot()
    return found.total / found.recorded if found.recorded else 0.0


def metadata_version(scrape: Scrape) -> int:
    return int(scrape.image.features.get("metadata.version", 0))


def finalized_levels(scrape: Scrape) -> Rows:
    """The level of every feature, under its name in JMX: `metadata.version` is metadataVersion."""
    levels = {**scrape.image.features, "kraft.version": scrape.broker.metadata_log.kraft_version}
    for name, level in sorted(levels.items()):
        first, *rest = name.split(".")
        yield labels(("featurename", first + "".join(part.capitalize() for part in rest))), level


def snapshot_age_ms(scrape: Scrape) -> int:
    """Since the last snapshot that was written or found; 0 without one."""
    metadata = scrape.broker.metadata
    began_ms = max(metadata.snapshot_ended_ms, scrape.broker.metadata_log.snapshot_timestamp_ms)
    return max(scrape.wall_ms - began_ms, 0) if began_ms >= 0 else 0
