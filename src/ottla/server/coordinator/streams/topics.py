"""What a topology needs of the cluster: how many partitions each internal topic must have, and which are missing.

A repartition topic without a wish of its own gets as many partitions as the largest input of the subtopology that
writes it, which may be a repartition topic again; topics that are joined must have equally many; a changelog has one
partition per task of its subtopology. All of it is a function of the topology and of the partition counts there are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from enum import IntEnum
from typing import NamedTuple

from ottla.core.errors import ApiError, ErrorCode
from ottla.server.coordinator.streams.topology import InternalTopic, Subtopology, Topology

#: Partitions of a topic that exists, None for one that does not.
PartitionCount = Callable[[str], "int | None"]

_NAMES_TOLD = 3


class StatusCode(IntEnum):
    """What a heartbeat tells the member besides its tasks."""

    STALE_TOPOLOGY = 0
    MISSING_SOURCE_TOPICS = 1
    INCORRECTLY_PARTITIONED_TOPICS = 2
    MISSING_INTERNAL_TOPICS = 3
    SHUTDOWN_APPLICATION = 4
    ASSIGNMENT_DELAYED = 5
    MISSING_CLIENT_TAGS = 6


class TopologyProblemError(Exception):
    """The topology cannot run on the topics there are; the code says why, the message is for the user."""

    def __init__(self, code: StatusCode, detail: str) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail


class ConfiguredSubtopology(NamedTuple):
    """A subtopology with all numbers known. Internal topics have their final partition counts."""

    task_count: int
    is_stateful: bool
    source_topics: tuple[str, ...]
    repartition_sink_topics: tuple[str, ...]
    repartition_source_topics: tuple[InternalTopic, ...]
    state_changelog_topics: tuple[InternalTopic, ...]


class ConfiguredTopology(NamedTuple):
    """The outcome: ready when there is no problem. `subtopologies` is None where numbers could not be derived."""

    epoch: int
    subtopologies: Mapping[str, ConfiguredSubtopology] | None
    missing_topics: tuple[InternalTopic, ...] = ()
    problem: TopologyProblemError | None = None

    @property
    def is_ready(self) -> bool:
        return self.problem is None


def configure(topology: Topology, partition_count: PartitionCount) -> ConfiguredTopology:
    """Derive everything from the topics there are; ApiError STREAMS_INVALID_TOPOLOGY when no topics could help."""
    subtopologies = [topology.subtopologies[key] for key in sorted(topology.subtopologies)]
    try:
        _check_sources(subtopologies, partition_count)
        counts = _internal_partition_counts(subtopologies, partition_count)
        configured = {
            each.subtopology_id: _configured(each, _counter(partition_count, counts), counts) for each in subtopologies
        }
        missing = _missing_topics(configured.values(), partition_count)
    except TopologyProblemError as problem:
        return ConfiguredTopology(topology.epoch, None, (), problem)
    problem_or_none = None
    if missing:
        names = _summary([topic.name for topic in missing])
        problem_or_none = TopologyProblemError(
            StatusCode.MISSING_INTERNAL_TOPICS, f"Internal topics are missing: {names}"
        )
    return ConfiguredTopology(topology.epoch, configured, missing, problem_or_none)


def _check_sources(subtopologies: Iterable[Subtopology], partition_count: PartitionCount) -> None:
    missing = {name for each in subtopologies for name in each.source_topics if partition_count(name) is None}
    if missing:
        raise TopologyProblemError(
            StatusCode.MISSING_SOURCE_TOPICS, f"Source topics {_summary(sorted(missing))} are missing."
        )


def _internal_partition_counts(subtopologies: list[Subtopology], partition_count: PartitionCount) -> dict[str, int]:
    counts = _repartition_counts(subtopologies, partition_count)
    wanted = {topic.name: topic.partitions for each in subtopologies for topic in each.repartition_source_topics}
    for subtopology in subtopologies:
        for copartitioned in subtopology.copartitioned():
            counts.update(_copartition(copartitioned, wanted, _counter(partition_count, counts)))
    count = _counter(partition_count, counts)
    for subtopology in subtopologies:
        task_count = _task_count(subtopology, count)
        counts.update((topic.name, task_count) for topic in subtopology.state_changelog_topics)
    return counts


def _repartition_counts(subtopologies: list[Subtopology], partition_count: PartitionCount) -> dict[str, int]:
    """Follow the graph from the sources on, until every repartition topic has its number."""
    counts = {
        topic.name: topic.partitions
        for each in subtopologies
        for topic in each.repartition_source_topics
        if topic.partitions
    }
    open_sinks = [(each, name) for each in subtopologies for name in each.repartition_sink_topics if name not in counts]
    all_known = True
    while open_sinks:
        found = {
            name: max(inputs)
            for subtopology, name in open_sinks
            if (inputs := _input_counts(subtopology, partition_count, counts, all_known=all_known))
        }
        if found:
            counts.update(found)
            open_sinks = [(each, name) for each, name in open_sinks if name not in counts]
        elif not all_known:
            raise ApiError(
                ErrorCode.STREAMS_INVALID_TOPOLOGY,
                "Failed to compute number of partitions for all repartition topics. "
                "There may be loops in the topology that cannot be resolved.",
            )
        # A loop is entered from the inputs that are known.
        all_known = bool(found)
    for subtopology in subtopologies:
        if any(topic.name not in counts for topic in subtopology.repartition_source_topics):
            raise ApiError(
                ErrorCode.STREAMS_INVALID_TOPOLOGY,
                "Failed to compute number of partitions for all repartition topics, because a repartition source topic "
                "is never used as a sink topic.",
            )
    return counts


def _input_counts(
    subtopology: Subtopology, partition_count: PartitionCount, counts: Mapping[str, int], *, all_known: bool
) -> list[int]:
    """What is known of the subtopology's inputs; nothing while one is missing that shall be waited for."""
    numbers = [partition_count(name) for name in subtopology.source_topics]
    # Not what a repartition topic has that exists already: a wrong number is reported, not followed.
    numbers += [counts.get(topic.name) for topic in subtopology.repartition_source_topics]
    known = [number for number in numbers if number is not None]
    return known if len(known) == len(numbers) or not all_known else []


def _copartition(topics: Collection[str], wanted: Mapping[str, int], count: PartitionCount) -> dict[str, int]:
    """The number that all repartition topics of the group get; a problem when the others do not agree on one."""
    counts = {name: _known(name, count) for name in topics}
    repartition = {name: number for name, number in counts.items() if name in wanted}
    external = {name: number for name, number in counts.items() if name not in wanted}
    fixed = {name: number for name, number in repartition.items() if wanted[name]}
    deciding = external or fixed or repartition
    if not deciding:
        return {}
    if (external or fixed) and len(set(deciding.values())) > 1:
        raise TopologyProblemError(
            StatusCode.INCORRECTLY_PARTITIONED_TOPICS,
            f"Following topics do not have the same number of partitions: [{_java_map(external or repartition)}]",
        )
    decided = max(deciding.values())
    for name, number in sorted(fixed.items()):
        if number != decided:
            raise TopologyProblemError(
                StatusCode.INCORRECTLY_PARTITIONED_TOPICS,
                f"Number of partitions [{number}] of repartition topic [{name}] doesn't match number of partitions "
                f"[{decided}] of the source topic.",
            )
    return dict.fromkeys(repartition, decided)


def _configured(subtopology: Subtopology, count: PartitionCount, counts: Mapping[str, int]) -> ConfiguredSubtopology:
    return ConfiguredSubtopology(
        task_count=_task_count(subtopology, count),
        is_stateful=subtopology.is_stateful,
        source_topics=tuple(sorted(set(subtopology.source_topics))),
        repartition_sink_topics=tuple(sorted(set(subtopology.repartition_sink_topics))),
        repartition_source_topics=_with_counts(subtopology.repartition_source_topics, counts),
        state_changelog_topics=_with_counts(subtopology.state_changelog_topics, counts),
    )


def _with_counts(topics: Iterable[InternalTopic], counts: Mapping[str, int]) -> tuple[InternalTopic, ...]:
    ordered = sorted({topic.name: topic for topic in topics}.values())
    return tuple(topic._replace(partitions=topic.partitions or counts[topic.name]) for topic in ordered)


def _task_count(subtopology: Subtopology, count: PartitionCount) -> int:
    numbers = [_known(name, count) for name in subtopology.input_topics()]
    if not numbers:
        raise ApiError(
            ErrorCode.STREAMS_INVALID_TOPOLOGY,
            f"No source topics found for subtopology {subtopology.subtopology_id}",
        )
    return max(numbers)


def _missing_topics(
    subtopologies: Iterable[ConfiguredSubtopology], partition_count: PartitionCount
) -> tuple[InternalTopic, ...]:
    wanted = {
        topic.name: topic
        for each in subtopologies
        for topic in (*each.repartition_source_topics, *each.state_changelog_topics)
    }
    missing = []
    for name, topic in sorted(wanted.items()):
        existing = partition_count(name)
        if existing is None:
            missing.append(topic)
        elif existing != topic.partitions:
            raise TopologyProblemError(
                StatusCode.INCORRECTLY_PARTITIONED_TOPICS,
                f"Existing topic {name} has different number of partitions: expected {topic.partitions}, "
                f"found {existing}",
            )
    return tuple(missing)


def _counter(partition_count: PartitionCount, counts: Mapping[str, int]) -> PartitionCount:
    """The topics there are go before those that were decided upon."""

    def count(name: str) -> int | None:
        existing = partition_count(name)
        return counts.get(name) if existing is None else existing

    return count


def _known(name: str, count: PartitionCount) -> int:
    number = count(name)
    if number is None:
        raise ApiError(ErrorCode.STREAMS_INVALID_TOPOLOGY, f"No partition count for topic {name}")
    return number


def _summary(names: list[str]) -> str:
    told = ", ".join(names[:_NAMES_TOLD])
    more = len(names) - _NAMES_TOLD
    return f"{told} and {more} additional topics" if more > 0 else told


def _java_map(counts: Mapping[str, int]) -> str:
    return "{" + ", ".join(f"{name}={count}" for name, count in sorted(counts.items())) + "}"
