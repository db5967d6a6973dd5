"""confluent-kafka: librdkafka under a thin layer of C."""

from __future__ import annotations

from itertools import cycle, islice

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

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

BATCH = 1000


def _producer(job: Job, **settings: object) -> Producer:
    return Producer(
        {
            "bootstrap.servers": job.bootstrap,
            "log_level": 0,
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": LINGER_MS,
            "batch.size": BATCH_BYTES,
            "batch.num.messages": 1_000_000,
            "compression.type": job.compression,
            "queue.buffering.max.messages": 400_000,
            "queue.buffering.max.kbytes": 65_536,
            "delivery.report.only.error": True,
            "enable.metrics.push": False,
            **settings,
        }
    )


def produce(job: Job, stopwatch: Stopwatch) -> None:
    producer = _producer(job)
    values = values_of(job.size)
    producer.produce(job.topic, values[0])
    producer.flush(TIMEOUT_S)
    send = producer.produce
    topic = job.topic
    stopwatch.start()
    for value in islice(cycle(values), job.count):
        while True:
            try:
                send(topic, value)
                break
            except BufferError:
                producer.poll(0.003)
    check_count(0, -producer.flush(TIMEOUT_S))
    stopwatch.stop(job.count)


def produce_many(job: Job, stopwatch: Stopwatch) -> None:
    producer = _producer(job)
    values = values_of(job.size)
    chunks = [[{"value": value} for value in values[at : at + BATCH]] for at in range(0, len(values), BATCH)]
    producer.produce(job.topic, values[0])
    producer.flush(TIMEOUT_S)
    stopwatch.start()
    sent = 0
    for chunk in cycle(chunks):
        taken = producer.produce_batch(job.topic, chunk)
        sent += taken
        if taken < len(chunk):
            producer.poll(0.003)
        if sent >= job.count:
            break
    check_count(0, -producer.flush(TIMEOUT_S))
    stopwatch.stop(sent)


def hold(job: Job, stopwatch: Stopwatch) -> None:
    limits = {
        "queue.buffering.max.messages": 2 * HELD_RECORDS,
        "queue.buffering.max.kbytes": 1_000_000,
        "socket.timeout.ms": 120_000,
    }
    producer = _producer(job, **limits)
    values = values_of(job.size)
    producer.produce(job.topic, values[0])
    producer.flush(TIMEOUT_S)
    with stopwatch.broker_paused():
        stopwatch.start()
        for value in islice(cycle(values), HELD_RECORDS):
            producer.produce(job.topic, value)
        stopwatch.weigh()
    check_count(0, -producer.flush(TIMEOUT_S))


def _consumer(job: Job) -> Consumer:
    consumer = Consumer(
        {
            "bootstrap.servers": job.bootstrap,
            "log_level": 0,
            "group.id": "benchmark",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "enable.metrics.push": False,
            # With its defaults it pauses for a second whenever its queue is full, and is an order of magnitude slower.
            "queued.min.messages": 1_000_000,
            "queued.max.messages.kbytes": 524_288,
            "fetch.queue.backoff.ms": 1,
        }
    )
    partitions = consumer.list_topics(job.topic, TIMEOUT_S).topics[job.topic].partitions
    consumer.assign([TopicPartition(job.topic, partition, OFFSET_BEGINNING) for partition in partitions])
    return consumer


def consume(job: Job, stopwatch: Stopwatch) -> None:
    consumer = _consumer(job)
    found = len(consumer.consume(1, TIMEOUT_S))
    size = 0
    stopwatch.start()
    while found < job.count:
        messages = consumer.consume(POLL_RECORDS, TIMEOUT_S)
        found += len(messages)
        for message in messages:
            size += len(message.value() or b"")
    stopwatch.stop(found)
    check_count((found - 1) * job.size, size)
    consumer.close()


def hold_consumed(job: Job, stopwatch: Stopwatch) -> None:
    consumer = _consumer(job)
    kept = consumer.consume(1, TIMEOUT_S)
    stopwatch.start()
    while len(kept) < HELD_RECORDS:
        kept += consumer.consume(POLL_RECORDS, TIMEOUT_S)
    stopwatch.weigh()
    consumer.close()
