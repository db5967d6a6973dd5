"""Latency: single small requests, many of them at once, and end to end from producer to consumer."""

from __future__ import annotations

import contextlib
import json
import struct
import subprocess
import sys
import threading
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.cimpl import Message

from benchmarks.brokers import ROOT
from benchmarks.measure import Measures, percentiles
from benchmarks.topics import Options, Target
from benchmarks.wire import PRODUCE, WireError, check_produce, produce_body, pump, record_batch

VALUE = b"x" * 100
END_TO_END_SECONDS = 6


def sync_raw(target: Target, options: Options, acks: int) -> Measures:
    """One connection, one record, one request at a time."""
    latencies: list[int] = []
    with target.topic() as topic, target.connect() as connection:
        body = produce_body(topic, [(0, record_batch([VALUE]))], acks)

        def one() -> int:
            start = time.perf_counter_ns()
            check_produce(connection.call(PRODUCE, 3, body))
            return time.perf_counter_ns() - start

        for _ in range(50):
            one()
        with target.window() as measured:
            end = time.perf_counter() + options.seconds
            while time.perf_counter() < end:
                latencies.append(one())
    return {**measured.per_request(len(latencies)), **percentiles(latencies)}


def sync_confluent(target: Target, options: Options, acks: str) -> Measures:
    """confluent-kafka, one record, one request at a time."""
    latencies: list[int] = []
    settings = {"acks": acks, "linger_ms": 0, "batch_num_messages": 1, "max_in_flight": 1}
    with target.topic() as topic:
        producer = target.producer(**settings, **{"delivery.report.only.error": False})
        done: list[KafkaError | None] = []

        def one() -> int:
            done.clear()
            start = time.perf_counter_ns()
            producer.produce(topic, VALUE, on_delivery=lambda error, _: done.append(error))
            while not done:
                producer.poll(1)
            if done[0]:
                raise WireError(str(done[0]))
            return time.perf_counter_ns() - start

        for _ in range(50):
            one()
        with target.window() as measured:
            end = time.perf_counter() + options.seconds
            while time.perf_counter() < end:
                latencies.append(one())
    return {**measured.per_request(len(latencies)), **percentiles(latencies)}


def many_raw(target: Target, options: Options, connections: int = 10, in_flight: int = 5) -> Measures:
    """Ten connections with five one-record requests in flight on each, acks=all."""
    latencies: list[int] = []
    with target.topic(options.partitions) as topic, contextlib.ExitStack() as stack:
        opened = [stack.enter_context(target.connect()) for _ in range(connections)]
        data = record_batch([VALUE])
        bodies = [produce_body(topic, [(number % options.partitions, data)]) for number in range(connections)]
        body_of = {id(connection): body for connection, body in zip(opened, bodies, strict=True)}
        with target.window() as measured:
            requests, seconds = pump(
                opened,
                lambda connection: connection.frame(PRODUCE, 3, body_of[id(connection)]),
                in_flight,
                options.seconds,
                on_round_trip=latencies.append,
                check=check_produce,
            )
    return {**measured.per_request(requests, seconds), **percentiles(latencies)}


def many_confluent(target: Target, options: Options, count: int = 10) -> Measures:
    """Ten confluent-kafka producers with five one-record requests in flight each."""
    latencies: list[int] = []
    settings = {"acks": "all", "linger_ms": 0, "batch_num_messages": 1, "max_in_flight": 5}
    with target.topic(options.partitions) as topic:
        producers = [target.producer(**settings, **{"delivery.report.only.error": False}) for _ in range(count)]
        for producer in producers:
            producer.list_topics(topic)
        with target.window() as measured:
            end = time.perf_counter() + options.seconds
            threads = [
                threading.Thread(target=_keep_in_flight, args=(producer, topic, end, latencies))
                for producer in producers
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    return {**measured.per_request(len(latencies)), **percentiles(latencies)}


def _keep_in_flight(producer: Producer, topic: str, end: float, latencies: list[int]) -> None:
    outstanding = 0

    def send() -> None:
        start = time.perf_counter_ns()

        def delivered(error: KafkaError | None, _: Message) -> None:
            nonlocal outstanding
            outstanding -= 1
            if not error:
                latencies.append(time.perf_counter_ns() - start)

        producer.produce(topic, VALUE, on_delivery=delivered)

    while time.perf_counter() < end:
        while outstanding < 5:
            outstanding += 1
            send()
        producer.poll(0.1)
    producer.flush(20)


def end_to_end(target: Target, options: Options, rate: int, linger: int = 0) -> Measures:
    """From the producer's stamp to a consumer in a process of its own, at a steady rate, acks=all; the first second
    is not counted."""
    del options  # the percentiles need the same number of records in every run
    warm, total = rate, rate + rate * END_TO_END_SECONDS
    with target.topic() as topic:
        command = [sys.executable, "-m", "benchmarks.load_latency", target.bootstrap, topic, str(total)]
        reader = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert reader.stdout is not None
        try:
            reader.stdout.readline()
            with target.window() as measured:
                seconds = _send_steadily(target.producer(acks="all", linger_ms=linger), topic, rate, warm, total)
            found: dict[str, float] = json.loads(reader.stdout.readline())
        finally:
            with contextlib.suppress(subprocess.TimeoutExpired):
                reader.wait(20)
            reader.kill()
            reader.stdout.close()
    if found.pop("count") != total:
        raise WireError("records are missing")
    return {**found, "sent_msgs_s": total / seconds, "broker_cores": measured.broker_cpu_s / measured.seconds}


def _send_steadily(producer: Producer, topic: str, rate: int, warm: int, total: int) -> float:
    at_once = max(1, rate // 1000)
    padding = b"x" * 92
    sent = 0
    start = time.perf_counter()
    while sent < total:
        if (early := start + sent / rate - time.perf_counter()) > 0:
            time.sleep(early)
        for _ in range(at_once):
            producer.produce(topic, struct.pack(">q", time.monotonic_ns() if sent >= warm else 0) + padding)
            sent += 1
        producer.poll(0)
    seconds = time.perf_counter() - start
    producer.flush(30)
    return seconds


def _read_stamps(bootstrap: str, topic: str, total: int) -> None:
    """The other process of `end_to_end`: receives the records and prints the latencies as JSON."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "end-to-end", "enable.auto.commit": False, "log_level": 0}
    )
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    latencies: list[int] = []
    count = 0
    print("ready", flush=True)
    last = time.monotonic()
    while count < total and time.monotonic() - last < 15:
        message = consumer.poll(1.0)
        now = time.monotonic_ns()
        if message is None or message.error():
            continue
        last = time.monotonic()
        count += 1
        (stamp,) = struct.unpack_from(">q", message.value() or b"")
        if stamp:
            latencies.append(now - stamp)
    consumer.close()
    print(json.dumps({"count": count, **(percentiles(latencies) if latencies else {})}), flush=True)


if __name__ == "__main__":
    _read_stamps(sys.argv[1], sys.argv[2], int(sys.argv[3]))
