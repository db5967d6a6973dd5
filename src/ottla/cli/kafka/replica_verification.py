"""`kafka-replica-verification`: fetches partitions from all their replicas, and compares what comes. It never ends."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ottla.cli.kafka.common import ToolError, ToolExit, ToolParser, java_error
from ottla.cli.kafka.hash_order import hash_ordered
from ottla.cli.kafka.java_text import SimpleDateFormat
from ottla.cli.kafka.jopt import INTEGER, LONG, OptionError
from ottla.cli.kafka.tool_log import log_line
from ottla.client.admin.outcomes import by_topic
from ottla.client.errors import KafkaError
from ottla.client.model import TopicPartition
from ottla.core.binary import Buffer
from ottla.protocol.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic
from ottla.records.batch import BatchHeader, batches

if TYPE_CHECKING:
    from ottla.client.admin.client import Admin
    from ottla.client.admin.topics import TopicDescription

_CLASS = "org.apache.kafka.tools.ReplicaVerificationTool"
_HELP = "Validate that all replicas for a set of topics have the same data."
_DEBUGGING_CONSUMER = -2
"""Replica id of one who may fetch from any replica, and up to its end."""
_NAMES_UNTIL = 12
"""The last version of Fetch in which topics have names."""
_LATEST = -1
_DATES = SimpleDateFormat("yyyy-MM-dd HH:mm:ss,SSS")


class Fetched(NamedTuple):
    """What a replica has from an offset on."""

    records: Buffer
    high_watermark: int


class Settings(NamedTuple):
    """How to fetch, and how often to tell."""

    fetch_size: int
    max_wait_ms: int
    initial_time: int
    report_interval_ms: int


def run(arguments: list[str]) -> int:
    """The tool; returns its exit code."""
    try:
        return _run(arguments)
    except (ToolError, OptionError) as error:
        print(error, file=sys.stderr)
    except KafkaError as error:
        print(java_error(error), file=sys.stderr)
    return 1


def _run(arguments: list[str]) -> int:
    log_line("WARN", _CLASS, "This tool is deprecated and may be removed in a future major release.")
    parser = ToolParser()
    broker_list = parser.accepts(
        "broker-list", "REQUIRED: Where the cluster is.", described_as="hostname:port,...,hostname:port"
    )
    fetch_size = parser.accepts(
        "fetch-size",
        "How much to fetch of a partition at once.",
        type=INTEGER,
        described_as="bytes",
        defaults=[1048576],
    )
    max_wait_ms = parser.accepts(
        "max-wait-ms", "How long a fetch waits for data.", type=INTEGER, described_as="ms", defaults=[1000]
    )
    topics_include = parser.accepts(
        "topics-include",
        "The topics to compare, as a regular expression.",
        described_as="Java regex (String)",
        defaults=[".*"],
    )
    initial_time = parser.accepts(
        "time",
        "From which time on to compare.",
        type=LONG,
        described_as="timestamp/-1(latest)/-2(earliest)",
        defaults=[-1],
    )
    report_interval_ms = parser.accepts(
        "report-interval-ms", "How often to tell how it goes.", type=LONG, described_as="ms", defaults=[30000]
    )
    options = parser.parse(arguments)
    parser.help_or_version(arguments, options, _HELP)
    parser.require(options, broker_list)
    servers = options.value(broker_list)
    if not all(re.fullmatch(r".*:\d+", server) for server in servers.split(",")):
        parser.usage_error("Please provide valid host:port like host1:9091,host2:9092\n")
    settings = Settings(
        options.value(fetch_size),
        options.value(max_wait_ms),
        options.value(initial_time),
        options.value(report_interval_ms),
    )
    asyncio.run(_verify(servers, options.value(topics_include), settings))
    return 1


async def _verify(servers: str, topics_include: str, settings: Settings) -> None:
    from ottla.client.admin.client import Admin

    async with Admin(servers) as admin:
        topics = await admin.describe_topics(hash_ordered(await admin.list_topics(list_internal=True)))
        nodes = {node.id: node for node in (await admin.describe_cluster()).nodes}
        chosen = _included(topics, topics_include)
        if not chosen:
            log_line(
                "ERROR",
                _CLASS,
                "No topics found. [topics-include] if specified, is either filtering out all topics or there is no "
                "topic.",
            )
            raise ToolExit(1)
        replicas: dict[int, list[TopicPartition]] = {}
        for topic in chosen:
            for one in topics[topic].partitions:
                for node in one.replicas:
                    replicas.setdefault(node.id, []).append(TopicPartition(topic, one.partition))
        comparison = Comparison(
            await _initial_offsets(admin, replicas, settings.initial_time), settings.report_interval_ms, _now_ms()
        )
        print(f"{_DATES.format(_now_ms())}: verification process is started", flush=True)
        while True:
            fetched = await asyncio.gather(
                *(
                    _fetch(admin, node_id, partitions, comparison.offsets, settings)
                    for node_id, partitions in replicas.items()
                    if node_id in nodes
                )
            )
            by_partition: dict[TopicPartition, dict[int, Fetched]] = {}
            for node_id, found in zip((one for one in replicas if one in nodes), fetched, strict=True):
                for partition, part in found.items():
                    by_partition.setdefault(partition, {})[node_id] = part
            for line in comparison.compare(by_partition, _now_ms()):
                print(line, flush=True)
            if comparison.failed:
                raise ToolExit(1)


def _included(topics: Mapping[str, TopicDescription], pattern: str) -> list[str]:
    if not topics:
        return []  # nor does anybody look at the expression then
    try:
        wanted = re.compile(re.sub(r"[\"' ]", "", pattern.strip().replace(",", "|")))
        re.compile(pattern)
    except re.error:
        raise ToolError(f"{pattern} is an invalid regex", "RuntimeException") from None
    return [topic for topic in hash_ordered(topics) if wanted.fullmatch(topic)]


async def _initial_offsets(
    admin: Admin, replicas: Mapping[int, Sequence[TopicPartition]], initial_time: int
) -> dict[TopicPartition, int]:
    partitions = dict.fromkeys(partition for listed in replicas.values() for partition in listed)
    found = await admin.list_offsets(dict.fromkeys(partitions, initial_time))
    late = [partition for partition in partitions if found[partition].offset is None]
    if late:
        raise ToolError(f"{late[0]} has no record that is so late", "NullPointerException")
    return {partition: found[partition].offset or 0 for partition in partitions}


async def _fetch(
    admin: Admin,
    node_id: int,
    partitions: Sequence[TopicPartition],
    offsets: Mapping[TopicPartition, int],
    settings: Settings,
) -> dict[TopicPartition, Fetched]:
    """From one broker; nothing when it cannot be asked now."""
    request = FetchRequest(
        replica_id=_DEBUGGING_CONSUMER,
        max_wait_ms=settings.max_wait_ms,
        min_bytes=1,
        topics=[
            FetchTopic(
                topic=topic,
                partitions=[
                    FetchPartition(
                        partition=number,
                        fetch_offset=offsets[TopicPartition(topic, number)],
                        log_start_offset=0,
                        partition_max_bytes=settings.fetch_size,
                    )
                    for number in numbers
                ],
            )
            for topic, numbers in by_topic(partitions).items()
        ],
    )
    found = {partition: Fetched(b"", -1) for partition in partitions}
    try:
        # The admin client knows the way to each broker; no call of its own fetches.
        response: Any = await admin._cluster.request(node_id, request, max_version=_NAMES_UNTIL)
    except KafkaError:
        await asyncio.sleep(settings.max_wait_ms / 1000)
        return found
    assert isinstance(response, FetchResponse)
    for topic in response.responses:
        for part in topic.partitions:
            partition = TopicPartition(topic.topic, part.partition_index)
            found[partition] = Fetched(bytes(part.records or b""), part.high_watermark)
    return found


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Comparison:
    """Compares what replicas have, from where it was all the same so far. `offsets`: how far that is."""

    def __init__(self, offsets: dict[TopicPartition, int], report_interval_ms: int, now_ms: int) -> None:
        self.offsets = offsets
        self.failed = False
        self._report_interval_ms = report_interval_ms
        self._reported_ms = now_ms

    def compare(self, fetched: Mapping[TopicPartition, Mapping[int, Fetched]], now_ms: int) -> Iterator[str]:
        """Lines about what is not the same, and now and then about how it goes."""
        largest_lag = -1
        slowest: TopicPartition | None = None
        for partition in hash_ordered(self.offsets):
            replicas = fetched.get(partition, {})
            for text in self._compare_partition(partition, replicas):
                yield f"{_DATES.format(now_ms)}: partition {partition}{text}"
                if self.failed:
                    return
            end = max([one.high_watermark for one in replicas.values()], default=-1)
            lag = end - self.offsets[partition]
            if lag > largest_lag:
                largest_lag, slowest = lag, partition
        if now_ms - self._reported_ms > self._report_interval_ms:
            self._reported_ms = now_ms
            at = -1 if slowest is None else self.offsets[slowest]
            yield (
                f"{_DATES.format(now_ms)}: max lag is {largest_lag} for partition "
                f"{'null' if slowest is None else slowest} at offset {at} among {len(self.offsets)} partitions"
            )

    def _compare_partition(self, partition: TopicPartition, replicas: Mapping[int, Fetched]) -> Iterator[str]:
        """Batch by batch, as far as all replicas have them and they are committed."""
        order = hash_ordered(replicas)
        contents = [_committed(replicas[replica_id]) for replica_id in order]
        for same in zip(*contents, strict=False):
            first = same[0]
            for replica_id, other in zip(order[1:], same[1:], strict=True):
                if other.last_offset != first.last_offset:
                    self.failed = True
                    yield (
                        f": replica {order[0]}'s offset {first.last_offset} doesn't match replica {replica_id}'s "
                        f"offset {other.last_offset}"
                    )
                    return
                if other.crc != first.crc:
                    yield (
                        f" has unmatched checksum at offset {other.last_offset}; replica {order[0]}'s checksum "
                        f"{first.crc}; replica {replica_id}'s checksum {other.crc}"
                    )
            self.offsets[partition] = first.next_offset


def _committed(fetched: Fetched) -> Iterator[BatchHeader]:
    for _, header in batches(fetched.records):
        if header.last_offset >= fetched.high_watermark:
            return
        yield header
