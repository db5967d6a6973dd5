"""kafka-e2e-latency: how long a record takes from a producer to a consumer."""

from __future__ import annotations

import sys
import time
from random import Random
from typing import Any

from ottla.cli.kafka.common import (
    ToolError,
    ToolExit,
    ToolParser,
    java_message,
    known_settings,
    load_properties,
    open_admin,
)
from ottla.cli.kafka.java_text import decode, double, fixed
from ottla.cli.kafka.jopt import INTEGER, Option, OptionError, OptionSet

_POLL_MS = 60_000
_NAMED = ("--bootstrap-server", "--topic", "--num-records", "--producer-acks", "--record-size")
_FOREVER_MS = (1 << 63) - 1


class _Parser(ToolParser):
    def __init__(self) -> None:
        super().__init__()
        self.bootstrap_server = self.accepts(
            "bootstrap-server", "REQUIRED: The brokers, as HOST1:PORT1,HOST2:PORT2.", described_as="bootstrap-server"
        )
        self.topic = self.accepts("topic", "REQUIRED: The topic to use.", described_as="topic-name")
        self.num_records = self.accepts(
            "num-records", "REQUIRED: How many records to send.", type=INTEGER, described_as="count"
        )
        self.acks = self.accepts(
            "producer-acks", "REQUIRED: The producer's acks, '1' or 'all'.", described_as="producer-acks"
        )
        self.record_size = self.accepts(
            "record-size", "REQUIRED: The size of values in bytes.", type=INTEGER, described_as="bytes"
        )
        self.key_size = self._size("record-key-size", "The size of keys in bytes.")
        self.header_key_size = self._size("record-header-key-size", "The size of the keys of headers in bytes.")
        self.header_size = self._size("record-header-size", "The size of the values of headers; -1 for null.")
        self.num_headers = self._size("num-headers", "How many headers each record has.", "count")
        self.config = self.accepts(
            "command-config",
            "Optional: A file with properties of the clients.",
            takes="optional",
            described_as="config-file",
        )

    def _size(self, name: str, description: str, described_as: str = "bytes") -> Option:
        return self.accepts(
            name,
            f"Optional: {description}",
            takes="optional",
            type=INTEGER,
            described_as=described_as,
            defaults=(0,),
        )

    def read(self, arguments: list[str]) -> OptionSet:
        try:
            options = self.parse(arguments)
        except OptionError as error:
            self.usage_error(str(error))
        self.help_or_version(
            arguments,
            options,
            "This tool measures end-to-end latency in Kafka by sending messages and timing their reception.",
        )
        self.require(options, self.bootstrap_server, self.topic, self.num_records, self.acks, self.record_size)
        if options.value(self.acks) not in ("1", "all"):
            self.usage_error(
                "Invalid value for --producer-acks. Latency testing requires synchronous acknowledgement. "
                "Please use '1' or 'all'."
            )
        if options.value(self.num_records) <= 0:
            self.usage_error("Value for --num-records must be a positive integer.")
        for option, least in (
            (self.record_size, 0),
            (self.key_size, 0),
            (self.header_key_size, 0),
            (self.header_size, -1),
            (self.num_headers, 0),
        ):
            if options.value(option) < least:
                null = " or -1 for null header value" if least else ""
                self.usage_error(f"Value for --{option.names[0]} must be a non-negative integer{null}.")
        return options


def run(arguments: list[str]) -> int:
    """The tool."""
    try:
        parser = _Parser()
        _measure(parser, parser.read(_with_names(arguments)))
    except ToolExit:
        raise
    except Exception as error:  # as Kafka's tool does
        print(java_message(error), file=sys.stderr)
        return 1
    return 0


def _with_names(arguments: list[str]) -> list[str]:
    """Arguments by position, as they were before 4.2, by name."""
    if not arguments or any(each in _NAMED for each in arguments):
        return arguments
    if len(arguments) not in (5, 6):
        raise ToolError(
            f"Invalid number of arguments. Expected 5 or 6 positional arguments, but got {len(arguments)}. "
            "Usage: bootstrap-server topic num-records producer-acks record-size [optional] command-config"
        )
    names = (*_NAMED, "--command-config")
    print(
        "WARNING: Positional argument usage is deprecated and will be removed in Apache Kafka 5.0. Please use named "
        f"arguments instead: {', '.join(names)}"
    )
    return [word for pair in zip(names, arguments, strict=False) for word in pair]


def _measure(parser: _Parser, options: OptionSet) -> None:
    from ottla.client.consumer.blocking import Consumer
    from ottla.client.producer.blocking import Producer

    file = options.value(parser.config)
    shared = load_properties(file) if file is not None else {}
    shared["bootstrap.servers"] = options.value(parser.bootstrap_server)
    for name in ("key.serializer", "value.serializer", "key.deserializer", "value.deserializer"):
        shared.pop(name, None)
    reading = {
        **shared,
        "group.id": f"test-group-{time.time_ns() // 1_000_000}",
        "enable.auto.commit": "false",
        "auto.offset.reset": "latest",
        "fetch.max.wait.ms": "0",
    }
    writing = {
        **shared,
        "linger.ms": "0",
        "max.block.ms": str(_FOREVER_MS),
        "acks": options.value(parser.acks),
    }
    consumer: Consumer[Any, Any] = Consumer(known_settings(reading, "consumer"))
    with consumer, Producer(known_settings(writing, "producer")) as producer:
        topic = options.value(parser.topic)
        if topic not in consumer.list_topics():
            _create_topic(shared, topic)
        _stand_at_end(consumer, topic)
        _round_trips(parser, options, consumer, producer)


def _create_topic(settings: dict[str, str], topic: str) -> None:
    from ottla.admin import NewTopic
    from ottla.client.errors import KafkaError

    print(f'Topic "{topic}" does not exist. Will create topic with 1 partition(s) and replication factor = 1')
    try:
        with open_admin(settings) as admin:
            admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    except KafkaError:
        print(f"Creation of topic {topic} failed")
        raise


def _stand_at_end(consumer: Any, topic: str) -> None:
    from ottla.client.model import TopicPartition

    deadline = time.monotonic() + _POLL_MS / 1000
    while not (found := consumer.partitions_for(topic)) and time.monotonic() < deadline:
        time.sleep(0.05)  # a topic that was made right now
    partitions = [TopicPartition(topic, each.partition) for each in found]
    consumer.assign(partitions)
    consumer.seek_to_end(partitions)
    for partition in partitions:
        consumer.position(partition)


def _round_trips(parser: _Parser, options: OptionSet, consumer: Any, producer: Any) -> None:
    from ottla.client.model import TopicPartition

    def letters(option: Option) -> bytes | None:
        size = options.value(option)
        return None if size < 0 else bytes([random.randrange(65, 91)]) * size

    random = Random(0)
    topic, count = options.value(parser.topic), options.value(parser.num_records)
    latencies = []
    for number in range(count):
        key, value = letters(parser.key_size), letters(parser.record_size)
        headers = [
            ((letters(parser.header_key_size) or b"").decode(), letters(parser.header_size))
            for _ in range(options.value(parser.num_headers))
        ]
        begun = time.perf_counter_ns()
        producer.send(topic, value, key, headers=headers).result()
        records = consumer.poll(_POLL_MS / 1000)
        elapsed = time.perf_counter_ns() - begun
        problem = _problem(records, key, value, headers)
        if problem:
            consumer.commit({TopicPartition(each.topic, each.partition): each.offset + 1 for each in records})
            raise ToolError(problem, "RuntimeException")
        if number % 1000 == 0:
            print(f"{number}\t{double(elapsed / 1000 / 1000)}", flush=True)
        latencies.append(elapsed)
    print(f"Avg latency: {fixed(sum(latencies) / count / 1000 / 1000, 4)} ms")
    whole = sorted(each // 1000 // 1000 for each in latencies)
    at = [whole[int(count * part)] for part in (0.5, 0.99, 0.999)]
    print(f"Percentiles: 50th = {at[0]}, 99th = {at[1]}, 99.9th = {at[2]}")
    consumer.commit()


def _problem(
    records: list[Any], key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]]
) -> str:
    """What is wrong with what came; empty when nothing is."""
    if not records:
        return f"poll() timed out before finding a result (timeout:[{_POLL_MS}ms])"
    record = records[0]
    if record.value != value:
        read, sent = decode(record.value or b""), decode(value or b"")
        return f"The message value read [{read}] did not match the message value sent [{sent}]"
    if record.key != key:
        if record.key is None:
            return "Expected message key but received null"
        read, sent = decode(record.key), decode(key or b"")
        return f"The message key read [{read}] did not match the message key sent [{sent}]"
    if headers and not record.headers:
        return "Expected message headers but received none"
    for got, wanted in zip(record.headers, headers, strict=False):
        if tuple(got) != wanted:
            return (
                f"The message header read [{got[0]}:{_array(got[1])}] did not match the message header sent "
                f"[{wanted[0]}:{_array(wanted[1])}]"
            )
    if headers and len(record.headers) != len(headers):
        return "Header count mismatch between sent and received messages"
    if len(records) != 1:
        return f"Only one result was expected during this test. We found [{len(records)}]"
    return ""


def _array(data: bytes | None) -> str:
    return "null" if data is None else str([each - 256 if each > 127 else each for each in data])
