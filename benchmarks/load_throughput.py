"""Throughput: producing and consuming with librdkafka, the Java tools, rdkafka_performance and plain sockets."""

from __future__ import annotations

import re
import subprocess
import time
import uuid

from confluent_kafka import OFFSET_BEGINNING, TopicPartition

from benchmarks.brokers import ROOT, java
from benchmarks.measure import Measures
from benchmarks.payloads import payloads
from benchmarks.topics import Options, Target
from benchmarks.wire import (
    FETCH,
    PRODUCE,
    Connection,
    WireError,
    advance,
    check_produce,
    fetch_body,
    produce_body,
    pump,
    record_batch,
)

RDKAFKA_PERFORMANCE = ROOT / ".tools" / "rdkafka" / "rdkafka_performance"
FILLED_BATCH_BYTES = 65_536
IN_FLIGHT = 5
_QUEUE_LIMITS = {"queue_buffering_max_messages": 400_000, "queue_buffering_max_kbytes": 65_536}


class ToolError(Exception):
    """A load tool failed; the message is the end of its output."""


def produce_confluent(target: Target, options: Options, size: int, acks: int, codec: str, batch: int) -> Measures:
    """confluent-kafka in batches of the Python API, linger 5 ms."""
    with target.topic(options.partitions) as topic:
        settings = {"acks": acks, "linger_ms": 5, "batch_size": batch, "batch_num_messages": 100_000}
        producer = target.producer(**settings, compression_type=codec, **_QUEUE_LIMITS)
        values = payloads(size)
        step = 1000 if size < 500 else 250
        chunks = [[{"value": value} for value in values[at : at + step]] for at in range(0, len(values), step)]
        producer.produce(topic, values[0])
        producer.flush(30)
        sent = round_number = 0
        with target.window() as measured:
            end = time.perf_counter() + options.seconds
            while time.perf_counter() < end:
                taken = producer.produce_batch(topic, chunks[round_number % len(chunks)])
                sent += taken
                round_number += 1
                if taken < step:
                    producer.poll(0.003)
            sent -= producer.flush(60)
        return measured.rates(sent, size)


def produce_java(target: Target, options: Options, size: int, acks: int, codec: str, batch: int) -> Measures:
    """kafka-producer-perf-test; a fifth of the records warm it up."""
    records = int((3_000_000 if size < 500 else 700_000) * options.scale)
    with target.topic(options.partitions) as topic, target.window() as measured:
        output = _java_tool(
            "org.apache.kafka.tools.ProducerPerformance",
            *("--topic", topic, "--num-records", records, "--warmup-records", records // 5, "--record-size", size),
            *("--throughput", -1, "--reporting-interval", 60_000),
            *("--command-property", f"bootstrap.servers={target.bootstrap}", f"acks={acks}", "linger.ms=5"),
            *(f"batch.size={batch}", f"compression.type={codec}", "max.request.size=2097152"),
        )
    line = [line for line in output.splitlines() if "99.9th" in line][-1]
    per_second = float(_find(r"([\d.]+) records/sec", line))
    rates = measured.rates(records, size)
    return {
        **{name: value for name, value in rates.items() if name.endswith("_per_gb")},
        "msgs_s": per_second,
        "mb_s": per_second * size / 1e6,
        "p50_ms": float(_find(r"(\d+) ms 50th", line)),
        "p99_ms": float(_find(r"(\d+) ms 99th", line)),
    }


def produce_rdkafka(target: Target, options: Options, size: int, acks: int, codec: str, batch: int) -> Measures:
    """librdkafka's own load tool."""
    records = int((3_000_000 if size < 500 else 600_000) * options.scale)
    settings = ["linger.ms=5", f"batch.size={batch}", "batch.num.messages=100000", f"compression.codec={codec}"]
    settings += ["queue.buffering.max.messages=400000", "log_level=0"]
    command = [str(RDKAFKA_PERFORMANCE), "-P", "-b", target.bootstrap, "-s", str(size), "-c", str(records)]
    command += ["-a", str(acks), "-i", "60000", *(part for setting in settings for part in ("-X", setting))]
    with target.topic(options.partitions) as topic, target.window() as measured:
        output = _run([*command, "-t", topic])
    delivered = re.findall(r"(\d+) delivered .*? in (\d+)ms: (\d+) msgs/s", output)
    count, milliseconds = max((int(count), int(ms)) for count, ms, _ in delivered)
    if count < records:
        raise ToolError(f"only {count} of {records} delivered: {output[-200:]}")
    return measured.rates(count, size, milliseconds / 1e3)


def produce_raw(target: Target, options: Options, size: int, batch: int, partitions: int = 1) -> Measures:
    """One connection, five prebuilt batches in flight, acks=all: the broker's own ceiling."""
    with target.topic(partitions) as topic, target.connect() as connection:
        count = max(1, batch // (size + 8))
        values = payloads(size)
        data = record_batch([values[number % len(values)] for number in range(count)])
        bodies = [produce_body(topic, [(partition, data)]) for partition in range(partitions)]
        number = 0

        def frame(connection: Connection) -> bytes:
            nonlocal number
            number += 1
            return connection.frame(PRODUCE, 3, bodies[number % partitions])

        with target.window() as measured:
            requests, seconds = pump([connection], frame, IN_FLIGHT, options.seconds, check=check_produce)
        return {
            **measured.rates(requests * count, size, seconds),
            **measured.per_request(requests, seconds),
        }


def fill(target: Target, options: Options, size: int) -> tuple[str, int]:
    """A topic filled with 64 KB batches, made once and kept; (name, records)."""
    if size in target.filled:
        return target.filled[size]
    name = f"bench-filled-{uuid.uuid4().hex[:8]}"
    target.create_topic(name, options.partitions)
    count = FILLED_BATCH_BYTES // (size + 8)
    values = payloads(size)
    data = record_batch([values[number % len(values)] for number in range(count)])
    bodies = [produce_body(name, [(partition, data)]) for partition in range(options.partitions)]
    requests = int((200e6 if size < 500 else 800e6) * options.scale / (count * size))
    sent = received = 0
    with target.connect() as connection:
        while received < requests:
            while sent < requests and sent - received < IN_FLIGHT:
                connection.send(PRODUCE, 3, bodies[sent % options.partitions])
                sent += 1
            check_produce(connection.receive())
            received += 1
    target.filled[size] = name, requests * count
    return target.filled[size]


def consume_confluent(target: Target, options: Options, size: int) -> Measures:
    name, total = fill(target, options, size)
    # The default backoff of one second when the queue is full would cap small records.
    consumer = target.consumer(queued_min_messages=1_000_000, fetch_queue_backoff_ms=10)
    consumer.list_topics(name)
    count = 0
    with target.window() as measured:
        consumer.assign([TopicPartition(name, number, OFFSET_BEGINNING) for number in range(options.partitions)])
        last = time.monotonic()
        while count < total:
            messages = consumer.consume(10_000, 0.2)
            count += len(messages)
            if messages:
                last = time.monotonic()
            elif time.monotonic() - last > 20:
                raise WireError(f"the consumer got {count} of {total} records and then nothing")
    consumer.close()
    return measured.rates(count, size)


def consume_java(target: Target, options: Options, size: int) -> Measures:
    """kafka-consumer-perf-test."""
    name, total = fill(target, options, size)
    with target.window() as measured:
        output = _java_tool(
            "org.apache.kafka.tools.ConsumerPerformance",
            *("--topic", name, "--num-records", total, "--bootstrap-server", target.bootstrap, "--hide-header"),
            *("--timeout", 20_000, "--group", f"perf-{uuid.uuid4().hex[:8]}"),
        )
    line = [line for line in output.splitlines() if line.count(",") >= 9][-1]
    fields = [text.strip() for text in line.split(",")]
    count, fetch_ms = int(fields[4]), float(fields[7])
    rates = measured.rates(count, size)
    return {
        **{name: value for name, value in rates.items() if name.endswith("_per_gb")},
        "msgs_s": count / fetch_ms * 1e3,
        "mb_s": count * size / 1e3 / fetch_ms,
        "rebalance_ms": float(fields[6]),
    }


def consume_rdkafka(target: Target, options: Options, size: int) -> Measures:
    name, total = fill(target, options, size)
    partitions = [part for number in range(options.partitions) for part in ("-p", str(number))]
    command = [str(RDKAFKA_PERFORMANCE), "-C", "-t", name, *partitions, "-o", "beginning", "-c", str(total)]
    with target.window() as measured:
        output = _run([*command, "-b", target.bootstrap, "-X", "log_level=0"])
    count, _, milliseconds = re.findall(r"% (\d+) messages \((\d+) bytes\) consumed in (\d+)ms", output)[-1]
    return measured.rates(int(count), size, int(milliseconds) / 1e3)


def consume_raw(target: Target, options: Options, size: int) -> Measures:
    """One connection that fetches and looks at batch headers only."""
    name, total = fill(target, options, size)
    offsets = dict.fromkeys(range(options.partitions), 0)
    count = requests = 0
    with target.connect() as connection, target.window() as measured:
        while count < total:
            count += advance(connection.call(FETCH, 4, fetch_body(name, offsets)), offsets)
            requests += 1
            if requests > 10 and not count:
                raise WireError("Fetch gives nothing")
    return {**measured.rates(count, size), "requests_s": requests / measured.seconds}


def _java_tool(class_name: str, *arguments: object) -> str:
    return _run([*java("-Xmx512m", log_level="ERROR"), class_name, *map(str, arguments)])


def _run(command: list[str]) -> str:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=180, check=False
    )
    if done.returncode:
        raise ToolError(done.stdout[-500:])
    return done.stdout


def _find(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise ToolError(f"no {pattern} in {text}")
    return found.group(1)
