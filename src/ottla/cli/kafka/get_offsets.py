"""kafka-get-offsets: the first, last, or some other offset of partitions."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from ottla.cli.kafka.common import (
    ToolError,
    ToolParser,
    guarded,
    java_error,
    load_properties,
    open_admin,
    valid_server_list,
)
from ottla.cli.kafka.jopt import LONG
from ottla.cli.kafka.partition_files import dashed
from ottla.cli.kafka.topics import topic_pattern
from ottla.client.model import TopicPartition

if TYPE_CHECKING:
    from ottla.client.admin.blocking import Admin

_USAGE = "An interactive shell for getting topic-partition offsets."
_TIMES = {
    "latest": -1,
    "earliest": -2,
    "max-timestamp": -3,
    "earliest-local": -4,
    "latest-tiered": -5,
    "earliest-pending-upload": -6,
}
_TIMES_TEXT = " / ".join(f"{number} or {name}" for name, number in _TIMES.items())
_RULE = re.compile(r"([^:,]*)(?::(?:([0-9]*)|(?:([0-9]*)-([0-9]*))))?")

Allowed = Callable[[TopicPartition], bool]


class Parser(ToolParser):
    """The options of kafka-get-offsets."""

    def __init__(self) -> None:
        super().__init__()
        self.server = self.accepts(
            "bootstrap-server", "REQUIRED: brokers of the cluster.", described_as="HOST1:PORT1,...,HOST3:PORT3"
        )
        self.topic_partitions = self.accepts(
            "topic-partitions",
            "Partitions, several with commas between them. In front of ':' stands a regular expression of topics (all "
            "without it); behind it a number, or a range: '1-4' is 1, 2 and 3, '1-' and '-4' are open at one end.",
            described_as="topic1:1,topic2:0-3,topic3,topic4:5-,topic5:-3",
        )
        self.topic = self.accepts(
            "topic",
            "A topic, or a regular expression of topics; all without it. Not together with --topic-partitions.",
            described_as="topic",
        )
        self.partitions = self.accepts(
            "partitions",
            "Numbers of partitions, with commas between them; all without it. Not together with --topic-partitions.",
            described_as="partition ids",
        )
        self.time = self.accepts(
            "time",
            "Which offset: that of the first record with this timestamp or a later one, or one of the words.",
            described_as=f"<timestamp> / {_TIMES_TEXT}",
            defaults=["latest"],
        )
        self.config = self.accepts(
            "command-config", "A file with settings of the admin client.", described_as="config file"
        )
        self.exclude_internal = self.accepts("exclude-internal-topics", "Leave out Kafka's internal topics.")


def run(arguments: list[str]) -> int:
    """Run the tool."""
    return guarded(lambda: _run(arguments), prefix="Error occurred: ")


def _run(arguments: list[str]) -> None:
    parser = Parser()
    if not arguments:
        parser.usage_error(_USAGE)
    options = parser.parse(arguments)
    parser.help_or_version(arguments, options, _USAGE)
    parser.require(options, parser.server)
    if wrong := valid_server_list(options.value(parser.server)):
        parser.usage_error(wrong)
    chosen = options.value(parser.topic_partitions)
    if chosen is not None and options.has_any((parser.topic, parser.partitions)):
        raise ToolError("--topic-partitions cannot be used with --topic or --partitions")
    time = _time(options.value(parser.time))
    allowed = (
        _by_rules(chosen)
        if chosen is not None
        else _by_topic(options.value(parser.topic), options.value(parser.partitions))
    )
    settings = load_properties(options.value(parser.config)) if options.has(parser.config) else {}
    settings |= {"bootstrap.servers": options.value(parser.server), "client.id": "GetOffsetShell"}
    with open_admin(settings) as admin:
        offsets = _offsets(admin, allowed, time, not options.has(parser.exclude_internal))
    for partition in sorted(offsets, key=dashed):
        print(f"{partition.topic}:{partition.partition}:{offsets[partition]}")


def _time(text: str) -> int:
    if text in _TIMES:
        return _TIMES[text]
    try:
        return int(LONG.convert(text))
    except ValueError:
        raise ToolError(
            f"Malformed time argument {text}. Please use {_TIMES_TEXT}, or a specified long format timestamp"
        ) from None


def _offsets(admin: Admin, allowed: Allowed, time: int, list_internal: bool) -> dict[TopicPartition, int]:
    from ottla.client.admin.offsets import OffsetSpec
    from ottla.client.errors import KafkaError

    topics = [topic for topic in admin.list_topics(list_internal=list_internal) if allowed(TopicPartition(topic, _ANY))]
    described = admin.describe_topics(topics) if topics else {}
    partitions = [
        partition
        for topic in topics
        for one in described[topic].partitions
        if allowed(partition := TopicPartition(topic, one.partition))
    ]
    if not partitions:
        raise ToolError("Could not match any topic-partitions with the specified filters")
    spec = OffsetSpec(time) if time in set(_TIMES.values()) else time
    try:
        listed = admin.list_offsets(dict.fromkeys(partitions, spec))
    except KafkaError as error:
        if not error.errors:
            raise
        listed = dict(error.results)
        for partition, failure in error.errors.items():
            print(
                f"Skip getting offsets for topic-partition {dashed(partition)} due to error: {java_error(failure)}",
                file=sys.stderr,
            )
    return {partition: found.offset for partition, found in listed.items() if found.offset is not None}


_ANY = -1
"""In the place of a partition: whether the topic has any that are wanted."""


def _by_topic(topic: str | None, partitions: str | None) -> Allowed:
    pattern = topic_pattern(topic if topic is not None else ".*")
    try:
        numbers = {int(one) for one in partitions.split(",")} if partitions else set()
    except ValueError:
        raise ToolError(
            f"--partitions expects a comma separated list of numeric partition ids, but received: {partitions}"
        ) from None

    def allowed(one: TopicPartition) -> bool:
        in_topic = pattern.fullmatch(one.topic) is not None
        return in_topic and (one.partition == _ANY or not numbers or one.partition in numbers)

    return allowed


def _by_rules(text: str) -> Allowed:
    rules = [_rule(part) for part in text.split(",")]
    return lambda one: any(rule(one) for rule in rules)


def _rule(text: str) -> Allowed:
    match = _RULE.fullmatch(text)
    if match is None:
        raise ToolError(
            f"org.apache.kafka.tools.TerseException: Invalid rule specification: {text}", "RuntimeException"
        )
    pattern = topic_pattern(match[1] or ".*")
    low, high = int(match[3] or 0), int(match[4]) if match[4] else 1 << 31
    if match[2]:
        low, high = int(match[2]), int(match[2]) + 1

    def allowed(one: TopicPartition) -> bool:
        return pattern.fullmatch(one.topic) is not None and (one.partition == _ANY or low <= one.partition < high)

    return allowed
