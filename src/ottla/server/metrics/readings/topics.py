"""Topics, partitions, replicas and logs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ottla.server.metrics.exposition import NO_LABELS, Labels, labels
from ottla.server.replication.partition import COUNTERS

if TYPE_CHECKING:
    from ottla.server.metrics.scrape import Scrape
    from ottla.server.replication.partition import Partition
    from ottla.server.replication.replicas import Replicas

Rows = Iterator[tuple[Labels, Any]]


def by_topic(counter: str) -> Callable[[Scrape], Rows]:
    """A counter of partitions: of the whole broker, then of each topic that exists."""
    position = COUNTERS.index(counter)

    def read(scrape: Scrape) -> Rows:
        yield NO_LABELS, scrape.totals[counter]
        for label, sums in scrape.topics:
            yield label, sums[position]

    return read


def total(counter: str) -> Callable[[Scrape], int]:
    """A counter of partitions, of the whole broker only."""
    return lambda scrape: scrape.totals[counter]


def of_api(*names: str) -> Callable[[Scrape], int]:
    """Requests of these APIs."""
    return lambda scrape: sum(route.requests for route in scrape.routes if route.api.name in names)


def failed_of_api(name: str) -> Callable[[Scrape], int]:
    """Answers of an API that held an error."""
    return lambda scrape: sum(metrics.failed for metrics in scrape.request_metrics.values() if metrics.name == name)


def of_partition(read_one: Callable[[Partition], Any]) -> Callable[[Scrape], Rows]:
    """A value of every partition."""

    def read(scrape: Scrape) -> Rows:
        for partition, label in scrape.partitions:
            yield label, read_one(partition)

    return read


def of_led_partition(read_one: Callable[[Partition], Any]) -> Callable[[Scrape], Rows]:
    """A value of every partition that is led here; 0 for the others, as in Kafka."""
    return of_partition(lambda partition: int(read_one(partition)) if partition.is_leader else 0)


def replica_fetcher(value: Callable[[Replicas], int]) -> Callable[[Scrape], Rows]:
    """Of what fetches from leaders."""

    def read(scrape: Scrape) -> Rows:
        yield labels(("clientid", "Replica")), value(scrape.broker.replicas)

    return read


def retention_size_percent(partition: Partition) -> int:
    """How much of retention.bytes is in use; 0 without a limit."""
    limit = partition.log.config.retention_bytes
    return partition.log.size_in_bytes * 100 // limit if limit and limit > 0 else 0


def directories(read_one: Callable[[Any], Any]) -> Callable[[Scrape], Rows]:
    """A value of every data directory, online or not."""

    def read(scrape: Scrape) -> Rows:
        kept = scrape.broker.log_directories
        for directory in (*kept.online, *kept.offline):
            yield labels(("logdirectory", directory.path)), read_one(directory)

    return read


def cordoned(scrape: Scrape) -> Rows:
    """Directories that take no new partitions."""
    chosen = {path.rstrip("/") for path in scrape.config["cordoned.log.dirs"]}
    kept = scrape.broker.log_directories
    for directory in (*kept.online, *kept.offline):
        yield labels(("logdirectory", directory.path)), int(directory.path in chosen or "*" in chosen)


def uncleanable_partitions(scrape: Scrape) -> Rows:
    """Logs that the cleaner leaves alone, by data directory."""
    kept = scrape.broker.log_directories
    for directory in (*kept.online, *kept.offline):
        count = sum(path.rpartition("/")[0] == directory.path for path in kept.cleaning.uncleanable.values())
        yield labels(("logdirectory", directory.path)), count


def uncleanable_bytes(scrape: Scrape) -> Rows:
    """Their size."""
    kept = scrape.broker.log_directories
    sizes: dict[str, int] = {}
    for key, path in kept.cleaning.uncleanable.items():
        log = kept.get(key)
        home = path.rpartition("/")[0]
        sizes[home] = sizes.get(home, 0) + (0 if log is None else log.size_in_bytes)
    for directory in (*kept.online, *kept.offline):
        yield labels(("logdirectory", directory.path)), sizes.get(directory.path, 0)


def max_dirty_percent(scrape: Scrape) -> int:
    """The largest share of a compacted log that is not cleaned yet, by offsets."""
    worst = 0.0
    for partition, _ in scrape.partitions:
        log = partition.log
        if log.config.is_compacted and log.log_end_offset > log.log_start_offset:
            clean = max(log.cleaned_offset, log.log_start_offset)
            worst = max(worst, (log.log_end_offset - clean) / (log.log_end_offset - log.log_start_offset))
    return int(100 * worst)


def since_cleaning_ms(scrape: Scrape) -> int:
    """How long ago the cleaner ended a round; 0 before the first."""
    ended_ms = scrape.broker.log_directories.cleaning.ended_ms
    return max(scrape.wall_ms - ended_ms, 0) if ended_ms >= 0 else 0
