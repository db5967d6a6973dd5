"""Which offsets of which partitions are read, worked out before anything is read.

`Start` is what `-o`, `--since` or the default ask for; `resolve` looks up the offsets that it means in each partition.
Ranges are half-open; the end is where a partition ended when the command began, unless it follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ottla.core.ids import TopicPartition

if TYPE_CHECKING:
    from ottla.client.model import OffsetAndTimestamp, PartitionInfo


UNKNOWN_TOPIC_S = 2.0
"""So long a topic may be new, and not known to the broker that was asked. The clients' own patience is a minute."""


class Lookups(Protocol):
    """What a consumer can look up."""

    def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]: ...
    def end_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]: ...
    def offsets_for_times(
        self, timestamps: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, OffsetAndTimestamp | None]: ...


class OffsetRange(NamedTuple):
    """From which offset, and to before which (None: on and on)."""

    start_offset: int
    end_offset: int | None


class Start(NamedTuple):
    """Where reading starts. At most one of the fields is set, and `by_partition` beside any of them."""

    from_end: bool = False
    offset: int | None = None
    """From this offset; negative: so many offsets before the end."""
    since_ms: int | None = None
    by_partition: Mapping[int, int] = {}


class KnowsPartitions(Protocol):
    """A producer or a consumer."""

    def partitions_for(self, topic: str, timeout_s: float | None = None) -> list[PartitionInfo]: ...


def partitions_of(client: KnowsPartitions, topic: str, timeout_s: float) -> list[int]:
    """The partitions of a topic; raises `UnknownTopicError` without waiting long for it.

    A cluster that does not answer, or is not there yet, has `timeout_s`.
    """
    from ottla.client.errors import ConnectionFailedError, KafkaTimeoutError

    first_s = min(UNKNOWN_TOPIC_S, timeout_s)
    try:
        infos = client.partitions_for(topic, first_s)
    except (ConnectionFailedError, KafkaTimeoutError):  # it is the cluster that takes its time
        if timeout_s <= first_s:
            raise
        infos = client.partitions_for(topic, timeout_s - first_s)
    return sorted(info.partition for info in infos)


def parse_start(given: Iterable[str]) -> Start:
    """`beginning`, `end`, `5`, `-10`, `PARTITION:OFFSET`, the last several times; ValueError for anything else."""
    start = Start()
    by_partition: dict[int, int] = {}
    for text in given:
        partition, separator, offset = text.partition(":")
        if separator:
            by_partition[_number(partition, text)] = _number(offset, text)
        elif text in ("end", "latest"):
            start = Start(from_end=True)
        elif text in ("beginning", "earliest"):
            start = Start()
        else:
            start = Start(offset=_number(text, text))
    if by_partition and any(partition < 0 for partition in by_partition):
        raise ValueError("there are no partitions below 0")
    return start._replace(by_partition=by_partition)


def resolve(
    lookups: Lookups,
    partitions: Iterable[TopicPartition],
    start: Start,
    *,
    until_ms: int | None = None,
    follows: bool = False,
) -> dict[TopicPartition, OffsetRange]:
    """The range of each partition. With offsets by partition and nothing else, only those partitions are read."""
    wanted = list(partitions)
    beginnings = lookups.beginning_offsets(wanted)
    ends = lookups.end_offsets(wanted)
    starts = {tp: beginnings[tp] for tp in wanted}
    if start.from_end:
        starts = dict(ends)
    elif start.offset is not None:
        starts = {tp: _clamped(start.offset, beginnings[tp], ends[tp], follows) for tp in wanted}
    elif start.since_ms is not None:
        found = lookups.offsets_for_times(dict.fromkeys(wanted, start.since_ms))
        starts = {tp: ends[tp] if found.get(tp) is None else found[tp].offset for tp in wanted}  # type: ignore[union-attr]
    for tp in wanted:
        if tp.partition in start.by_partition:
            starts[tp] = _clamped(start.by_partition[tp.partition], beginnings[tp], ends[tp], follows)
    if until_ms is not None:
        late = lookups.offsets_for_times(dict.fromkeys(wanted, until_ms))
        ends = {tp: min(ends[tp], one.offset) if (one := late.get(tp)) is not None else ends[tp] for tp in wanted}
    return {tp: OffsetRange(starts[tp], None if follows else max(starts[tp], ends[tp])) for tp in wanted}


def _clamped(offset: int, beginning: int, end: int, follows: bool) -> int:
    """An offset that exists; one that is still to come may be waited for."""
    if offset < 0:
        return max(beginning, end + offset)
    return max(offset, beginning) if follows else min(max(offset, beginning), max(end, beginning))


def _number(text: str, given: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(
            f"'{given}' is no place to start; write beginning, end, an offset, -10 (from the end) or PARTITION:OFFSET"
        ) from None
