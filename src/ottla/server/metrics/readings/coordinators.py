"""Groups, transactions and share groups, as far as there are any."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from ottla.server.metrics.exposition import Labels, labels

if TYPE_CHECKING:
    from ottla.server.metrics.scrape import Scrape

Rows = Iterator[tuple[Labels, Any]]

_STATES: Final = {
    "classic": ("PreparingRebalance", "CompletingRebalance", "Stable", "Dead", "Empty"),
    "consumer": ("Assigning", "Dead", "Empty", "Reconciling", "Stable"),
    "share": ("Dead", "Empty", "Stable"),
    "streams": ("Assigning", "Dead", "Empty", "NotReady", "Reconciling", "Stable"),
}
_PARTITION_STATES: Final = ("active", "failed", "loading")
ACKNOWLEDGEMENTS: Final = {"Accept": 1, "Release": 2, "Reject": 3, "Renew": 4}


def classic_groups(state: str | None = None) -> Callable[[Scrape], int]:
    """Classic groups, of one state or all."""
    return lambda scrape: sum(
        group.group_type.value == "classic" and (state is None or group.state_name == state) for group in scrape.groups
    )


def groups_by_protocol(scrape: Scrape) -> Rows:
    counts = dict.fromkeys(_STATES, 0)
    for group in scrape.groups:
        counts[group.group_type.value] += 1
    for kind, count in counts.items():
        yield labels(("protocol", kind)), count


def groups_by_state(kind: str) -> Callable[[Scrape], Rows]:
    """Groups of a kind, by state."""

    def read(scrape: Scrape) -> Rows:
        counts = dict.fromkeys(_STATES[kind], 0)
        for group in scrape.groups:
            if group.group_type.value == kind:
                counts[group.state_name] = counts.get(group.state_name, 0) + 1
        for state, count in counts.items():
            yield labels(("state", state)), count

    return read


def offsets(scrape: Scrape) -> int:
    """Committed offsets that are kept."""
    return sum(
        len(partitions)
        for shard in scrape.group_shards
        for topics in list(shard.offsets.committed.values())
        for partitions in list(topics.values())
    )


def of_offsets(counter: str) -> Callable[[Scrape], int]:
    """A counter of the offsets of all shards."""
    return lambda scrape: sum(getattr(shard.offsets, counter) for shard in scrape.group_shards)


def classic_rebalances(scrape: Scrape) -> int:
    """Generations that classic groups have begun."""
    return sum(shard.classic.completed_count for shard in scrape.group_shards)


def rebalances(kind: str) -> Callable[[Scrape], int]:
    """Epochs that groups of a kind have begun."""
    return lambda scrape: sum(
        count
        for shard in scrape.group_shards
        for group_type, count in shard.rebalance_counts.items()
        if group_type.value == kind
    )


def rate(name: str, read: Callable[[Scrape], int]) -> Callable[[Scrape], float]:
    """A second, of a counter."""
    return lambda scrape: scrape.rates.record(name, read(scrape), scrape.now_ms)


def partitions_by_state(part: str) -> Callable[[Scrape], Rows]:
    """Partitions of an internal topic that are coordinated here."""

    def read(scrape: Scrape) -> Rows:
        counts = dict.fromkeys(_PARTITION_STATES, 0)
        coordinator = scrape.part(part)
        for partition in [] if coordinator is None else coordinator.partitions():
            counts[partition.state.value] = counts.get(partition.state.value, 0) + 1
        for state in _PARTITION_STATES:
            yield labels(("state", state)), counts[state]

    return read


def load_times(part: str, *, longest: bool) -> Callable[[Scrape], float]:
    """Milliseconds that loading the partitions of a coordinator took."""

    def read(scrape: Scrape) -> float:
        coordinator = scrape.part(part)
        found: list[int] = [] if coordinator is None else [partition.load_ms for partition in coordinator.partitions()]
        if not found:
            return 0
        return max(found) if longest else sum(found) / len(found)

    return read


def acknowledgements(scrape: Scrape) -> Rows:
    """Records that members of share groups have acknowledged."""
    part = scrape.part("share_partitions")
    for name, number in ACKNOWLEDGEMENTS.items():
        yield labels(("acktype", name)), 0 if part is None else part.acknowledged[number]


def share_sessions(scrape: Scrape) -> int:
    part = scrape.part("share_partitions")
    return 0 if part is None else len(part.sessions)


def share_session_partitions(scrape: Scrape) -> int:
    part = scrape.part("share_partitions")
    return 0 if part is None else sum(len(session.partitions) for session in part.sessions)


def share_writes(scrape: Scrape) -> int:
    """Changes of share state that were asked for."""
    return sum(
        route.requests
        for route in scrape.routes
        if route.api.name in ("WriteShareGroupState", "InitializeShareGroupState", "DeleteShareGroupState")
    )


def telemetry(read_one: Callable[[Any], int]) -> Callable[[Scrape], int]:
    """A value of the client metrics part, 0 before it is made."""
    return lambda scrape: 0 if (part := scrape.broker.existing_telemetry) is None else read_one(part)
