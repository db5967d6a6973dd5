"""The topology of a streams application as its members describe it: subtopologies and the topics between them.

A subtopology reads *source topics* (the user's) and *repartition source topics* (internal ones that another subtopology
writes, its *repartition sink topics*), and keeps state in *changelog topics* (internal). Partition counts of internal
topics are not known here: `topics.configure` derives them.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages import streams_records as records


class InternalTopic(NamedTuple):
    """An internal topic that the application wants; 0 partitions or replicas leave the number to the broker."""

    name: str
    partitions: int = 0
    replication_factor: int = 0
    configs: tuple[tuple[str, str], ...] = ()


class CopartitionGroup(NamedTuple):
    """Topics that are joined and so must have equally many partitions: indexes into the subtopology's lists."""

    source_topics: tuple[int, ...] = ()
    source_topic_regex: tuple[int, ...] = ()
    repartition_source_topics: tuple[int, ...] = ()


class Subtopology(NamedTuple):
    """One connected part of the topology: its tasks run independently of those of other subtopologies."""

    subtopology_id: str
    source_topics: tuple[str, ...] = ()
    source_topic_regex: tuple[str, ...] = ()
    repartition_sink_topics: tuple[str, ...] = ()
    repartition_source_topics: tuple[InternalTopic, ...] = ()
    state_changelog_topics: tuple[InternalTopic, ...] = ()
    copartition_groups: tuple[CopartitionGroup, ...] = ()

    @property
    def is_stateful(self) -> bool:
        """Whether its tasks have state, which standby tasks can copy."""
        return bool(self.state_changelog_topics)

    def input_topics(self) -> list[str]:
        """What its tasks read: its tasks are as many as the largest of them has partitions."""
        return [*self.source_topics, *(topic.name for topic in self.repartition_source_topics)]

    def copartitioned(self) -> list[frozenset[str]]:
        """The copartition groups as topic names; ApiError when an index points nowhere."""
        repartition_topics = tuple(topic.name for topic in self.repartition_source_topics)
        return [
            frozenset(
                [
                    *self._listed(self.source_topics, group.source_topics),
                    *self._listed(repartition_topics, group.repartition_source_topics),
                ]
            )
            for group in self.copartition_groups
        ]

    def _listed(self, topics: tuple[str, ...], indexes: tuple[int, ...]) -> list[str]:
        if not all(0 <= index < len(topics) for index in indexes):
            raise ApiError(
                ErrorCode.STREAMS_INVALID_TOPOLOGY,
                f"A copartition group of subtopology {self.subtopology_id} refers to a topic that is not listed.",
            )
        return [topics[index] for index in indexes]


class Topology:
    """All subtopologies by id, and the epoch by which the members tell versions of it apart. Immutable."""

    def __init__(self, epoch: int, subtopologies: dict[str, Subtopology]) -> None:
        self.epoch = epoch
        self.subtopologies = subtopologies

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Topology):
            return NotImplemented
        return self.epoch == other.epoch and self.subtopologies == other.subtopologies

    __hash__ = None  # type: ignore[assignment]

    @cached_property
    def required_topics(self) -> frozenset[str]:
        """Every topic that must exist before tasks can run."""
        return frozenset(
            name
            for subtopology in self.subtopologies.values()
            for name in (*subtopology.input_topics(), *(topic.name for topic in subtopology.state_changelog_topics))
        )

    @cached_property
    def subtopology_of_input(self) -> dict[str, str]:
        """Which subtopology reads a topic."""
        return {
            name: subtopology.subtopology_id
            for subtopology in self.subtopologies.values()
            for name in subtopology.input_topics()
        }

    @classmethod
    def from_message(cls, message: Any) -> Topology:
        """From the topology of a heartbeat or of a record, which have the same fields."""
        subtopologies = {each.subtopology_id: _subtopology(each) for each in message.subtopologies}
        if len(subtopologies) != len(message.subtopologies):
            raise ApiError(ErrorCode.STREAMS_INVALID_TOPOLOGY, "Two subtopologies have the same id.")
        return cls(message.epoch, subtopologies)

    def to_record(self) -> records.StreamsGroupTopologyValue:
        """As it is stored; in the order in which the member sent it."""
        return records.StreamsGroupTopologyValue(
            epoch=self.epoch,
            subtopologies=[
                records.Subtopology(
                    subtopology_id=each.subtopology_id,
                    source_topics=list(each.source_topics),
                    source_topic_regex=list(each.source_topic_regex),
                    state_changelog_topics=[_topic_record(topic) for topic in each.state_changelog_topics],
                    repartition_sink_topics=list(each.repartition_sink_topics),
                    repartition_source_topics=[_topic_record(topic) for topic in each.repartition_source_topics],
                    copartition_groups=[
                        records.CopartitionGroup(
                            source_topics=list(group.source_topics),
                            source_topic_regex=list(group.source_topic_regex),
                            repartition_source_topics=list(group.repartition_source_topics),
                        )
                        for group in each.copartition_groups
                    ],
                )
                for each in self.subtopologies.values()
            ],
        )


def _subtopology(message: Any) -> Subtopology:
    return Subtopology(
        subtopology_id=message.subtopology_id,
        source_topics=tuple(message.source_topics),
        source_topic_regex=tuple(message.source_topic_regex),
        repartition_sink_topics=tuple(message.repartition_sink_topics),
        repartition_source_topics=tuple(_internal_topic(topic) for topic in message.repartition_source_topics),
        state_changelog_topics=tuple(_internal_topic(topic) for topic in message.state_changelog_topics),
        copartition_groups=tuple(
            CopartitionGroup(
                tuple(group.source_topics), tuple(group.source_topic_regex), tuple(group.repartition_source_topics)
            )
            for group in message.copartition_groups
        ),
    )


def _internal_topic(message: Any) -> InternalTopic:
    configs = tuple((config.key, config.value) for config in message.topic_configs)
    return InternalTopic(message.name, message.partitions, message.replication_factor, configs)


def _topic_record(topic: InternalTopic) -> records.TopicInfo:
    return records.TopicInfo(
        name=topic.name,
        partitions=topic.partitions,
        replication_factor=topic.replication_factor,
        topic_configs=[records.TopicConfig(key=key, value=value) for key, value in topic.configs],
    )
