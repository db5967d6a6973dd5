"""kafka-python: Python throughout, threads."""

from __future__ import annotations

from itertools import cycle, islice

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

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


def _producer(job: Job, **settings: object) -> KafkaProducer:
    return KafkaProducer(
        bootstrap_servers=job.bootstrap,
        acks="all",
        enable_idempotence=True,
        linger_ms=LINGER_MS,
        batch_size=BATCH_BYTES,
        compression_type=None if job.compression == "none" else job.compression,
        **{"max_request_size": 2 << 20, **settings},
    )


def produce(job: Job, stopwatch: Stopwatch) -> None:
    producer = _producer(job)
    values = values_of(job.size)
    producer.send(job.topic, values[0]).get(TIMEOUT_S)
    send = producer.send
    topic = job.topic
    stopwatch.start()
    for value in islice(cycle(values), job.count):
        send(topic, value)
    producer.flush(TIMEOUT_S)
    stopwatch.stop(job.count)
    producer.close()


def hold(job: Job, stopwatch: Stopwatch) -> None:
    producer = _producer(job, request_timeout_ms=100_000)
    values = values_of(job.size)
    producer.send(job.topic, values[0]).get(TIMEOUT_S)
    with stopwatch.broker_paused():
        stopwatch.start()
        for value in islice(cycle(values), HELD_RECORDS):
            producer.send(job.topic, value)
        stopwatch.weigh()
    producer.flush(TIMEOUT_S)
    producer.close()


def _consumer(job: Job) -> KafkaConsumer:
    consumer = KafkaConsumer(
        bootstrap_servers=job.bootstrap,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_bytes=50 << 20,
    )
    partitions = [TopicPartition(job.topic, number) for number in consumer.partitions_for_topic(job.topic)]
    consumer.assign(partitions)
    consumer.seek_to_beginning()
    return consumer


def consume(job: Job, stopwatch: Stopwatch) -> None:
    consumer = _consumer(job)
    found = sum(map(len, consumer.poll(TIMEOUT_S * 1000, 1).values()))
    size = 0
    stopwatch.start()
    while found < job.count:
        for records in consumer.poll(TIMEOUT_S * 1000, POLL_RECORDS).values():
            found += len(records)
            for record in records:
                size += len(record.value)
    stopwatch.stop(found)
    check_count((found - 1) * job.size, size)
    consumer.close()


def hold_consumed(job: Job, stopwatch: Stopwatch) -> None:
    consumer = _consumer(job)
    kept: list[object] = []
    stopwatch.start()
    while len(kept) < HELD_RECORDS:
        for records in consumer.poll(TIMEOUT_S * 1000, POLL_RECORDS).values():
            kept += records
    stopwatch.weigh()
    consumer.close()
