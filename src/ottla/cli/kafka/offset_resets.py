"""Where a group shall go on: the ways to say it that the tools for groups have in common, worked out to offsets.

All maps come back in the order in which Kafka's tools print them.
"""

from __future__ import annotations

import csv
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, NamedTuple

from ottla.cli.kafka.common import ToolError
from ottla.cli.kafka.hash_order import hash_ordered, hash_ordered_items
from ottla.cli.kafka.thrown import by_runtime
from ottla.cli.kafka.tool_log import log_line
from ottla.client.admin.offsets import OffsetSpec
from ottla.client.errors import error_for
from ottla.client.model import OffsetAndMetadata, TopicPartition
from ottla.core.errors import ErrorCode

if TYPE_CHECKING:
    from ottla.client.admin.blocking import Admin

Offsets = dict[TopicPartition, int]

_DURATION = re.compile(
    r"([+-]?)P(?:([+-]?\d+)D)?(T(?:([+-]?\d+)H)?(?:([+-]?\d+)M)?(?:([+-]?\d+)(?:[.,](\d{0,9}))?S)?)?", re.IGNORECASE
)
_TIME = re.compile(r"(\d+)-(\d+)-(\d+)T(\d+):(\d+):(\d+)\.(\d+)(?:(Z)|([+-])(\d\d?)(?::(\d\d))?)")
_QUOTED_FROM = 24
_INT_LIMIT = 1 << 31


class PlanRow(NamedTuple):
    """A row of a plan in CSV."""

    group: str
    partition: TopicPartition
    offset: int


class OffsetResets:
    """Works with an admin client; `timeout_s` is for each of its calls."""

    def __init__(self, admin: Admin, timeout_s: float) -> None:
        self._admin = admin
        self._timeout_s = timeout_s

    # Which partitions

    def named_partitions(self, topics: Iterable[str]) -> list[TopicPartition]:
        """`topic` for all its partitions, or `topic:0,1`. Raises `ToolError` for one that is no such thing, and for a
        topic that is not there with the words of the topic's error alone."""
        listed = list(topics)
        partitions = [one for topic in listed if ":" in topic for one in partitions_of(topic)]
        whole = [topic for topic in listed if ":" not in topic]
        if whole:
            described = self._admin.describe_topics(whole, timeout_s=self._timeout_s)
            for topic in hash_ordered(whole):
                partitions += [TopicPartition(topic, one.partition) for one in described[topic].partitions]
        return partitions

    def check(self, partitions: Sequence[TopicPartition]) -> None:
        """Raises `ToolError` for partitions that do not exist or have no leader."""
        existing, leaderless = self._described(partitions)
        missing = [str(partition) for partition in partitions if partition not in existing]
        if missing:
            raise ToolError(
                f'The partitions "{",".join(missing)}" do not exist',
                "org.apache.kafka.common.errors.UnknownTopicOrPartitionException",
            )
        if leaderless:
            raise ToolError(
                f'The partitions "{",".join(map(str, leaderless))}" have no leader',
                "org.apache.kafka.common.errors.LeaderNotAvailableException",
            )

    def without_leader(self, partitions: Sequence[TopicPartition]) -> list[TopicPartition]:
        """Those that nobody leads now."""
        return self._described(partitions)[1]

    def _described(self, partitions: Sequence[TopicPartition]) -> tuple[set[TopicPartition], list[TopicPartition]]:
        topics = hash_ordered(partition.topic for partition in partitions)
        if not topics:
            return set(), []
        with by_runtime("describeTopics"):
            described = self._admin.describe_topics(topics, timeout_s=self._timeout_s)
        existing = {
            TopicPartition(topic, one.partition): one for topic in topics for one in described[topic].partitions
        }
        wanted = set(partitions)
        leaderless = [partition for partition, one in existing.items() if one.leader is None and partition in wanted]
        return set(existing), leaderless

    # Which offsets

    def log_offsets(self, partitions: Iterable[TopicPartition], spec: OffsetSpec) -> Offsets:
        """The first or the next offset of each log."""
        wanted = list(partitions)
        if not wanted:
            return {}
        with by_runtime("listOffsets"):
            found = self._admin.list_offsets(dict.fromkeys(wanted, spec), timeout_s=self._timeout_s)
        return {
            partition: -1 if (offset := found[partition].offset) is None else offset
            for partition in hash_ordered(wanted)
        }

    def to_offset(self, partitions: Iterable[TopicPartition], offset: int) -> Offsets:
        """The same offset everywhere, or as near as the log allows."""
        return self._in_range(dict.fromkeys(partitions, offset))

    def to_earliest(self, partitions: Iterable[TopicPartition]) -> Offsets:
        """The beginning of the logs."""
        return self.log_offsets(partitions, OffsetSpec.EARLIEST)

    def to_latest(self, partitions: Iterable[TopicPartition]) -> Offsets:
        """The end of the logs."""
        return self.log_offsets(partitions, OffsetSpec.LATEST)

    def shifted(
        self, partitions: Iterable[TopicPartition], by: int, committed: Mapping[TopicPartition, OffsetAndMetadata]
    ) -> Offsets:
        """So many records on (or back) from what is committed; `ToolError` for a partition without."""
        wanted = {}
        for partition in partitions:
            if partition not in committed:
                raise ToolError(
                    f"Cannot shift offset for partition {partition} since there is no current committed offset"
                )
            wanted[partition] = committed[partition].offset + by
        return self._in_range(wanted)

    def to_time(self, partitions: Iterable[TopicPartition], timestamp_ms: int) -> Offsets:
        """The first record that is at least so late; the end of a log that has none."""
        wanted = list(partitions)
        if not wanted:
            return {}
        with by_runtime("listOffsets"):
            if timestamp_ms < min(OffsetSpec):  # before 1970: brokers would take it for a newer kind of request
                raise error_for(ErrorCode.UNSUPPORTED_VERSION)
            found = self._admin.list_offsets(dict.fromkeys(wanted, timestamp_ms), timeout_s=self._timeout_s)
        late = [partition for partition in hash_ordered(wanted) if found[partition].offset is None]
        for partition in late:
            print(
                f"\nWarn: Partition {partition.partition} from topic {partition.topic} is empty. "
                "Falling back to latest known offset."
            )
        ends = self.to_latest(late)
        return {
            partition: ends[partition] if (offset := found[partition].offset) is None else offset
            for partition in hash_ordered(wanted)
        }

    def to_datetime(self, partitions: Iterable[TopicPartition], text: str) -> Offsets:
        """`to_time` of a time in ISO 8601."""
        try:
            timestamp_ms = parse_datetime(text)
        except ValueError as error:
            raise ToolError(f"java.text.ParseException: {error}", "RuntimeException") from None
        return self.to_time(partitions, timestamp_ms)

    def by_duration(self, partitions: Iterable[TopicPartition], text: str) -> Offsets:
        """`to_time` so long ago."""
        return self.to_time(partitions, time.time_ns() // 1_000_000 - parse_duration_ms(text))

    def to_current(
        self, partitions: Iterable[TopicPartition], committed: Mapping[TopicPartition, OffsetAndMetadata]
    ) -> Offsets:
        """What is committed; the end of the log where nothing is."""
        wanted = list(partitions)
        known = {partition: committed[partition].offset for partition in wanted if partition in committed}
        known |= self.to_latest(partition for partition in wanted if partition not in committed)
        return dict(hash_ordered_items(known))

    def from_plan(self, plan: Iterable[PlanRow], group: str) -> Offsets:
        """What a plan says of a group."""
        wanted = {row.partition: row.offset for row in plan if row.group == group}
        if not wanted:
            print(f"\nError: No reset plan for group {group} found")
            return {}
        return self._in_range(wanted)

    def _in_range(self, wanted: Offsets) -> Offsets:
        starts, ends = self.to_earliest(wanted), self.to_latest(wanted)
        found = {}
        for partition, offset in hash_ordered_items(wanted):
            if offset > ends[partition]:
                _warn(f"New offset ({offset}) is higher than latest", partition, ends[partition])
                offset = ends[partition]
            elif offset < starts[partition]:
                _warn(f"New offset ({offset}) is lower than earliest", partition, starts[partition])
                offset = starts[partition]
            found[partition] = offset
        return found


def _warn(what: str, partition: TopicPartition, value: int) -> None:
    log_line(
        "WARN",
        "org.apache.kafka.tools.OffsetsUtils",
        f"{what} offset for topic partition {partition}. Value will be set to {value}",
    )


def partitions_of(argument: str) -> list[TopicPartition]:
    """The partitions of `topic:0,1`. Raises `ToolError`."""
    parts = argument.split(":")
    while len(parts) > 1 and not parts[-1]:
        parts.pop()
    if len(parts) != 2:
        raise ToolError(f"Invalid topic arg '{argument}', expected topic name and partitions")
    topic, numbers = parts
    return [TopicPartition(topic, _number(number, argument)) for number in numbers.split(",")]


def _number(text: str, argument: str) -> int:
    if re.fullmatch(r"[+-]?\d+", text) and -_INT_LIMIT <= int(text) < _INT_LIMIT:
        return int(text)
    raise ToolError(f"Invalid partition '{text}' specified in topic arg '{argument}''")


def parse_datetime(text: str) -> int:
    """Milliseconds since 1970 of `2026-01-31T12:00:00.000`, which is UTC unless it ends in a zone. ValueError."""
    if "T" not in text.rstrip("T"):
        raise ValueError("Error parsing timestamp. It does not contain a 'T' according to ISO8601 format")
    clock = text.split("T")[1]
    if not any(mark in clock for mark in "+-Z"):
        text += "Z"
    found = _TIME.match(text)
    try:
        if found is None:
            raise ValueError
        year, month, day, hour, minute, second, millis = map(int, found.groups()[:7])
        zone = timedelta(hours=int(found[10] or 0), minutes=int(found[11] or 0))
        if millis > 999:
            raise ValueError
        when = datetime(*(year, month, day, hour, minute, second), tzinfo=timezone(-zone if found[9] == "-" else zone))
    except ValueError:
        raise ValueError(f'Unparseable date: "{text}"') from None
    return int(when.timestamp()) * 1000 + millis


def parse_duration_ms(text: str) -> int:
    """Milliseconds of an ISO 8601 duration: `PT1H30M`, `P2D`. Raises `ToolError`."""
    found = _DURATION.fullmatch(text)
    if found is None or found[3] in ("T", "t") or not any(found[one] for one in (2, 4, 5, 6)):
        raise ToolError("Text cannot be parsed to a Duration", "java.time.format.DateTimeParseException")
    sign, days, _, hours, minutes, seconds, fraction = found.groups()
    millis = int((fraction or "").ljust(3, "0")[:3])
    if (seconds or "").startswith("-"):
        millis = -millis
    total = ((int(days or 0) * 24 + int(hours or 0)) * 60 + int(minutes or 0)) * 60 + int(seconds or 0)
    return (total * 1000 + millis) * (-1 if sign == "-" else 1)


# Plans in CSV


def read_plan(path: str, groups: Sequence[str]) -> list[PlanRow]:
    """A plan: `topic,partition,offset` for the one group that is named, or `group,topic,partition,offset`."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except OSError:
        raise ToolError(f"java.io.IOException: Unable to read file {path}", "RuntimeException") from None
    single = len(groups) == 1 and all(len(row) <= 3 for row in rows)
    plan = []
    for row in rows:
        cells = [groups[0], *row] if single else row
        try:
            group, topic, partition, offset = cells
            plan.append(PlanRow(group, TopicPartition(topic, int(partition)), int(offset)))
        except ValueError:
            expected = "topic,partition,offset" if single else "group,topic,partition,offset"
            raise ToolError(f"{path}: {','.join(row)!r} is not {expected}", "RuntimeException") from None
    return plan


def plan_csv(assignments: Mapping[str, Offsets], *, with_group: bool) -> str:
    """A plan to be read by `read_plan`, with or without the group in each row."""
    lines = []
    for group, offsets in assignments.items():
        for (topic, partition), offset in offsets.items():
            cells = [_quoted(group)] if with_group else []
            lines.append(",".join([*cells, _quoted(topic), str(partition), str(offset)]) + "\n")
    return "".join(lines)


def _quoted(text: str) -> str:
    """Quoted as Jackson does: long texts always, others when a character could be one of CSV's own."""
    if len(text) > _QUOTED_FROM or any(character <= "," or character == '"' for character in text):
        return '"' + text.replace('"', '""') + '"'
    return text


def print_resets(assignments: Mapping[str, Offsets]) -> None:
    """The table of new offsets."""
    if assignments:
        group_width = max(15, *map(len, assignments))
        topic_width = max([15, *(len(one.topic) for offsets in assignments.values() for one in offsets)])
        print(f"\n{'GROUP':<{group_width}} {'TOPIC':<{topic_width}} {'PARTITION':<10} NEW-OFFSET", end="")
        for group, offsets in assignments.items():
            for (topic, partition), offset in offsets.items():
                print(f"\n{group:<{group_width}} {topic:<{topic_width}} {partition:<10} {offset}", end="")
    print()


def committed_offsets(
    admin: Admin, group: str, timeout_s: float, *, streams: bool = False
) -> dict[TopicPartition, OffsetAndMetadata]:
    """What a group has committed, where it has."""
    call = admin.list_streams_group_offsets if streams else admin.list_consumer_group_offsets
    with by_runtime("listConsumerGroupOffsets"):
        found = call(group, timeout_s=timeout_s)[group]
    return {partition: offset for partition, offset in hash_ordered_items(found) if offset is not None}
