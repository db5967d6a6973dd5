"""What a cluster says at one moment, and what two such moments amount to: records a second, lag, how lag changes.

Only Admin calls are used (offsets, descriptions), so that it works with every Kafka. `compare` and the rows know no
clock and no network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ottla.cli.groups.kinds import Kind, Position, ShareKind, StreamsKind, lag_of, listed_offsets
from ottla.client.admin.offsets import OffsetSpec
from ottla.client.errors import AuthorizationError, KafkaError, UnsupportedVersionError
from ottla.client.model import TopicPartition

if TYPE_CHECKING:
    import ottla
    from ottla.client.admin.topics import TopicDescription
    from ottla.client.model import Node

KINDS: tuple[Kind, ...] = (Kind(), ShareKind(), StreamsKind())


class GroupSample(NamedTuple):
    """A group at one moment."""

    kind: str
    state: str
    members_count: int | None
    positions: Mapping[TopicPartition, Position]


@dataclass(slots=True)
class Sample:
    """A cluster at one moment; `seconds` of a monotonic clock."""

    seconds: float
    cluster_id: str | None
    controller_id: int | None
    brokers: tuple[Node, ...]
    topics: Mapping[str, TopicDescription]
    start_offsets: Mapping[TopicPartition, int | None]
    end_offsets: Mapping[TopicPartition, int | None]
    size_bytes: Mapping[TopicPartition, int] = field(default_factory=dict)
    broker_bytes: Mapping[int, int] = field(default_factory=dict)
    groups: Mapping[str, GroupSample] = field(default_factory=dict)


class BrokerRow(NamedTuple):
    """A broker now. Rates are those of the partitions that it leads."""

    broker: int
    address: str
    rack: str | None
    is_controller: bool
    leaders: int
    replicas: int
    size_bytes: int | None
    records_per_second: float


class TopicRow(NamedTuple):
    """A topic now."""

    topic: str
    partitions: int
    records: int
    size_bytes: int | None
    records_per_second: float
    problems: int
    """Partitions without a leader, or with replicas that are not in sync."""


class GroupRow(NamedTuple):
    """A group now. The lag changes by `lag_per_second`: below zero it catches up."""

    group_id: str
    kind: str
    state: str
    members: int | None
    partitions: int
    lag: int | None
    lag_per_second: float
    records_per_second: float


class View(NamedTuple):
    """What is shown."""

    cluster_id: str | None
    seconds: float
    """Between the two moments."""
    records_per_second: float
    brokers: list[BrokerRow]
    topics: list[TopicRow]
    groups: list[GroupRow]

    def as_json(self) -> dict[str, Any]:
        """The rows as objects."""
        return {
            "cluster_id": self.cluster_id,
            "seconds": round(self.seconds, 3),
            "records_per_second": round(self.records_per_second, 1),
            **{
                name: [
                    {
                        key: round(value, 1) if isinstance(value, float) else value
                        for key, value in row._asdict().items()
                    }
                    for row in rows
                ]
                for name, rows in (("brokers", self.brokers), ("topics", self.topics), ("groups", self.groups))
            },
        }


def take_sample(admin: ottla.Admin, seconds: float) -> Sample:
    """Ask the cluster; what it does not know or allow is left out."""
    cluster = admin.describe_cluster()
    names = list(admin.list_topics(list_internal=True))
    topics: Mapping[str, TopicDescription] = {}
    if names:
        try:
            topics = admin.describe_topics(names)
        except KafkaError as error:  # one was deleted meanwhile
            if not error.results:
                raise
            topics = dict(error.results)
    partitions = [
        TopicPartition(name, partition.partition)
        for name, topic in topics.items()
        for partition in topic.partitions
        if partition.leader is not None
    ]
    sizes, broker_bytes = _sizes(admin)
    return Sample(
        seconds,
        cluster.cluster_id,
        None if cluster.controller is None else cluster.controller.id,
        cluster.nodes,
        topics,
        listed_offsets(admin, partitions, OffsetSpec.EARLIEST),
        listed_offsets(admin, partitions, OffsetSpec.LATEST),
        sizes,
        broker_bytes,
        _groups(admin),
    )


def compare(before: Sample | None, now: Sample) -> View:
    """What happened between two moments; without an earlier one all rates are 0."""
    seconds = 0.0 if before is None else now.seconds - before.seconds
    rates = {
        tp: _rate(None if before is None else before.end_offsets.get(tp), end, seconds)
        for tp, end in now.end_offsets.items()
    }
    topics = [_topic_row(name, topic, now, rates) for name, topic in sorted(now.topics.items())]
    groups = [
        _group_row(name, group, now, None if before is None else before, seconds)
        for name, group in sorted(now.groups.items())
    ]
    return View(now.cluster_id, seconds, sum(rates.values()), _broker_rows(now, rates), topics, groups)


def _broker_rows(now: Sample, rates: Mapping[TopicPartition, float]) -> list[BrokerRow]:
    leaders: dict[int, int] = {}
    replicas: dict[int, int] = {}
    by_broker: dict[int, float] = {}
    for name, topic in now.topics.items():
        for partition in topic.partitions:
            for node in partition.replicas:
                replicas[node.id] = replicas.get(node.id, 0) + 1
            if partition.leader is not None:
                broker = partition.leader.id
                leaders[broker] = leaders.get(broker, 0) + 1
                rate = rates.get(TopicPartition(name, partition.partition), 0.0)
                by_broker[broker] = by_broker.get(broker, 0.0) + rate
    return [
        BrokerRow(
            node.id,
            f"{node.host}:{node.port}",
            node.rack,
            node.id == now.controller_id,
            leaders.get(node.id, 0),
            replicas.get(node.id, 0),
            now.broker_bytes.get(node.id),
            by_broker.get(node.id, 0.0),
        )
        for node in sorted(now.brokers)
    ]


def _topic_row(name: str, topic: TopicDescription, now: Sample, rates: Mapping[TopicPartition, float]) -> TopicRow:
    partitions = [TopicPartition(name, partition.partition) for partition in topic.partitions]
    sizes = [now.size_bytes[tp] for tp in partitions if tp in now.size_bytes]
    records = sum((now.end_offsets.get(tp) or 0) - (now.start_offsets.get(tp) or 0) for tp in partitions)
    problems = sum(
        partition.leader is None or len(partition.in_sync_replicas) < len(partition.replicas)
        for partition in topic.partitions
    )
    rate = sum(rates.get(tp, 0.0) for tp in partitions)
    return TopicRow(name, len(partitions), records, sum(sizes) if sizes else None, rate, problems)


def _group_row(name: str, group: GroupSample, now: Sample, before: Sample | None, seconds: float) -> GroupRow:
    lag = _lag(group.positions, now)
    lag_rate = consumed = 0.0
    earlier = None if before is None else before.groups.get(name)
    if before is not None and earlier is not None and seconds > 0:
        earlier_lag = _lag(earlier.positions, before)
        if lag is not None and earlier_lag is not None:
            lag_rate = (lag - earlier_lag) / seconds
        consumed = sum(
            _rate(earlier.positions[tp].offset, position.offset, seconds)
            for tp, position in group.positions.items()
            if tp in earlier.positions
        )
    return GroupRow(name, group.kind, group.state, group.members_count, len(group.positions), lag, lag_rate, consumed)


def _lag(positions: Mapping[TopicPartition, Position], sample: Sample) -> int | None:
    lags = [lag_of(position, sample.end_offsets.get(tp)) for tp, position in positions.items()]
    known = [lag for lag in lags if lag is not None]
    return sum(known) if known else None


def _rate(before: int | None, now: int | None, seconds: float) -> float:
    """A topic that was made anew begins at 0 again: that is no negative rate."""
    if before is None or now is None or seconds <= 0:
        return 0.0
    return max(0, now - before) / seconds


def _sizes(admin: ottla.Admin) -> tuple[dict[TopicPartition, int], dict[int, int]]:
    """Bytes of partitions (of their largest replica) and of brokers."""
    sizes: dict[TopicPartition, int] = {}
    of_brokers: dict[int, int] = {}
    try:
        found = admin.describe_log_dirs()
    except (UnsupportedVersionError, AuthorizationError):
        return {}, {}
    except KafkaError as error:  # a broker is away
        found = dict(error.results)
    for broker, directories in found.items():
        of_brokers[broker] = 0
        for one in directories.values():
            for tp, replica in one.replicas.items():
                of_brokers[broker] += replica.size_bytes
                sizes[tp] = max(sizes.get(tp, 0), replica.size_bytes)
    return sizes, of_brokers


def _groups(admin: ottla.Admin) -> dict[str, GroupSample]:
    try:
        listings = admin.list_groups()
    except AuthorizationError:
        return {}
    found: dict[str, GroupSample] = {}
    for kind in KINDS:
        chosen = {
            one.group_id: one
            for one in listings
            if (kind is KINDS[0] if one.type is None else one.type in kind.types)
            and one.protocol_type in ("consumer", "share", "streams", "")
        }
        if not chosen:
            continue
        positions, described = _partly(kind.positions, admin, chosen), _partly(kind.describe, admin, chosen)
        for group_id, one in chosen.items():
            description = described.get(group_id)
            state = one.state if description is None else description.state
            found[group_id] = GroupSample(
                kind.name.removesuffix(" group"),
                "-" if state is None else state.value,
                None if description is None else len(description.members),
                positions.get(group_id, {}),
            )
    return found


def _partly(call: Any, admin: ottla.Admin, groups: Mapping[str, object]) -> Mapping[str, Any]:
    """What can be had: a group may be gone meanwhile."""
    try:
        found: Mapping[str, Any] = call(admin, list(groups))
    except KafkaError as error:
        if not error.errors:
            raise
        found = dict(error.results)
    return found
