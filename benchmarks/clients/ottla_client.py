"""Ottla's blocking clients."""

from __future__ import annotations

from itertools import cycle, islice

from benchmarks.clients.jobs import (
    BATCH_BYTES,
    HELD_RECORDS,
    LINGER_MS,
    POLL_RECORDS,
    TIMEOUT_S,
    Job,
    Stopwatch,
    check_count,
    values_of,
)
from ottla import Consumer, Producer, TopicPartition

CHUNK = 1000


def _producer(job: Job, **settings: object) -> Producer[bytes, bytes]:
    return Producer(
        job.bootstrap,
        {
            "linger.ms": LINGER_MS,
            "batch.size": BATCH_BYTES,
            "max.request.size": 2 << 20,
            "compression.type": job.compression,
            "buffer.memory": 64 << 20,
            **settings,
        },
        key_serializer=bytes,
        value_serializer=bytes,
    )


def produce(job: Job, stopwatch: Stopwatch) -> None:
    with _producer(job) as producer:
        values = values_of(job.size)
        producer.send(job.topic, values[0]).result(TIMEOUT_S)
        send = producer.send
        topic = job.topic
        stopwatch.start()
        for value in islice(cycle(values), job.count):
            send(topic, value)
        producer.flush(TIMEOUT_S)
        stopwatch.stop(job.count)


def produce_many(job: Job, stopwatch: Stopwatch) -> None:
    with _producer(job) as producer:
        values = values_of(job.size)
        chunks = [values[at : at + CHUNK] for at in range(0, len(values), CHUNK)]
        producer.send(job.topic, values[0]).result(TIMEOUT_S)
        stopwatch.start()
        for chunk in islice(cycle(chunks), job.count // CHUNK):
            producer.send_many(job.topic, chunk)
        producer.flush(TIMEOUT_S)
        stopwatch.stop(job.count // CHUNK * CHUNK)


def hold(job: Job, stopwatch: Stopwatch) -> None:
    with _producer(job, **{"buffer.memory": 1 << 30, "request.timeout.ms": 100_000}) as producer:
        values = values_of(job.size)
        producer.send(job.topic, values[0]).result(TIMEOUT_S)
        with stopwatch.broker_paused():
            stopwatch.start()
            for value in islice(cycle(values), HELD_RECORDS):
                producer.send(job.topic, value)
            stopwatch.weigh()
        producer.flush(TIMEOUT_S)


def _consumer(job: Job) -> Consumer[bytes, bytes]:
    consumer: Consumer[bytes, bytes] = Consumer(
        job.bootstrap, {"enable.auto.commit": False, "auto.offset.reset": "earliest"}
    )
    consumer.assign([TopicPartition(job.topic, info.partition) for info in consumer.partitions_for(job.topic)])
    return consumer


def consume(job: Job, stopwatch: Stopwatch) -> None:
    with _consumer(job) as consumer:
        found = len(consumer.poll(TIMEOUT_S, 1))
        size = 0
        stopwatch.start()
        while found < job.count:
            records = consumer.poll(TIMEOUT_S, POLL_RECORDS)
            found += len(records)
            for record in records:
                size += len(record.value)
        stopwatch.stop(found)
        check_count((found - 1) * job.size, size)


def consume_columns(job: Job, stopwatch: Stopwatch) -> None:
    with _consumer(job) as consumer:
        found = consumer.poll_columns(TIMEOUT_S, 1).to_arrow().num_rows  # which imports pyarrow
        size = 0
        stopwatch.start()
        while found < job.count:
            columns = consumer.poll_columns(TIMEOUT_S)
            found += len(columns)
            size += columns.to_arrow().nbytes
        stopwatch.stop(found)
        check_count((found - 1) * job.size, size)


def hold_consumed(job: Job, stopwatch: Stopwatch) -> None:
    with _consumer(job) as consumer:
        kept: list[object] = []
        stopwatch.start()
        while len(kept) < HELD_RECORDS:
            kept += consumer.poll(TIMEOUT_S, POLL_RECORDS)
        stopwatch.weigh()
