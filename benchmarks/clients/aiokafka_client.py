"""aiokafka: asyncio, its record codec in C where it was built."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import cycle, islice

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

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


@asynccontextmanager
async def _producer(job: Job, **settings: object) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(
        bootstrap_servers=job.bootstrap,
        acks="all",
        enable_idempotence=True,
        linger_ms=LINGER_MS,
        max_batch_size=BATCH_BYTES,
        max_request_size=2 << 20,
        compression_type=None if job.compression == "none" else job.compression,
        **settings,
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


def produce(job: Job, stopwatch: Stopwatch) -> None:
    asyncio.run(_produce(job, stopwatch))


async def _produce(job: Job, stopwatch: Stopwatch) -> None:
    async with _producer(job) as producer:
        values = values_of(job.size)
        await producer.send_and_wait(job.topic, values[0])
        send = producer.send
        topic = job.topic
        stopwatch.start()
        for value in islice(cycle(values), job.count):
            await send(topic, value)
        await producer.flush()
        stopwatch.stop(job.count)


def consume(job: Job, stopwatch: Stopwatch) -> None:
    asyncio.run(_consume(job, stopwatch))


@asynccontextmanager
async def _consumer(job: Job) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(bootstrap_servers=job.bootstrap, enable_auto_commit=False, auto_offset_reset="earliest")
    await consumer.start()
    try:
        await consumer._client.force_metadata_update()
        partitions = await consumer._client._wait_on_metadata(job.topic)
        consumer.assign([TopicPartition(job.topic, number) for number in partitions])
        await consumer.seek_to_beginning()
        yield consumer
    finally:
        await consumer.stop()


async def _consume(job: Job, stopwatch: Stopwatch) -> None:
    async with _consumer(job) as consumer:
        found = sum(map(len, (await consumer.getmany(timeout_ms=TIMEOUT_S * 1000, max_records=1)).values()))
        size = 0
        stopwatch.start()
        while found < job.count:
            batches = await consumer.getmany(timeout_ms=TIMEOUT_S * 1000, max_records=POLL_RECORDS)
            for records in batches.values():
                found += len(records)
                for record in records:
                    size += len(record.value)
        stopwatch.stop(found)
        check_count((found - 1) * job.size, size)


def hold_consumed(job: Job, stopwatch: Stopwatch) -> None:
    asyncio.run(_hold_consumed(job, stopwatch))


async def _hold_consumed(job: Job, stopwatch: Stopwatch) -> None:
    async with _consumer(job) as consumer:
        kept: list[object] = []
        stopwatch.start()
        while len(kept) < HELD_RECORDS:
            for records in (await consumer.getmany(timeout_ms=TIMEOUT_S * 1000, max_records=POLL_RECORDS)).values():
                kept += records
        stopwatch.weigh()
