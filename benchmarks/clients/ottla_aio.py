"""Ottla's asyncio clients."""

from __future__ import annotations

from itertools import cycle, islice

from benchmarks.clients.jobs import (
    BATCH_BYTES,
    LINGER_MS,
    POLL_RECORDS,
    TIMEOUT_S,
    Job,
    Stopwatch,
    check_count,
    values_of,
)
from ottla import TopicPartition, aio
from ottla.runtime.loop import run

CHUNK = 1000


def _producer(job: Job) -> aio.Producer[bytes, bytes]:
    return aio.Producer(
        job.bootstrap,
        {
            "linger.ms": LINGER_MS,
            "batch.size": BATCH_BYTES,
            "max.request.size": 2 << 20,
            "compression.type": job.compression,
            "buffer.memory": 64 << 20,
        },
        key_serializer=bytes,
        value_serializer=bytes,
    )


def produce(job: Job, stopwatch: Stopwatch) -> None:
    run(_produce(job, stopwatch))


async def _produce(job: Job, stopwatch: Stopwatch) -> None:
    async with _producer(job) as producer:
        values = values_of(job.size)
        await (await producer.send(job.topic, values[0]))
        send = producer.send
        topic = job.topic
        stopwatch.start()
        for value in islice(cycle(values), job.count):
            await send(topic, value)
        await producer.flush(TIMEOUT_S)
        stopwatch.stop(job.count)


def produce_many(job: Job, stopwatch: Stopwatch) -> None:
    run(_produce_many(job, stopwatch))


async def _produce_many(job: Job, stopwatch: Stopwatch) -> None:
    async with _producer(job) as producer:
        values = values_of(job.size)
        chunks = [values[at : at + CHUNK] for at in range(0, len(values), CHUNK)]
        await (await producer.send(job.topic, values[0]))
        stopwatch.start()
        for chunk in islice(cycle(chunks), job.count // CHUNK):
            await producer.send_many(job.topic, chunk)
        await producer.flush(TIMEOUT_S)
        stopwatch.stop(job.count // CHUNK * CHUNK)


def consume(job: Job, stopwatch: Stopwatch) -> None:
    run(_consume(job, stopwatch))


async def _consumer(job: Job) -> aio.Consumer[bytes, bytes]:
    consumer: aio.Consumer[bytes, bytes] = aio.Consumer(
        job.bootstrap, {"enable.auto.commit": False, "auto.offset.reset": "earliest"}
    )
    await consumer.assign(
        [TopicPartition(job.topic, info.partition) for info in await consumer.partitions_for(job.topic)]
    )
    return consumer


async def _consume(job: Job, stopwatch: Stopwatch) -> None:
    async with await _consumer(job) as consumer:
        found = len(await consumer.poll(TIMEOUT_S, 1))
        size = 0
        stopwatch.start()
        while found < job.count:
            records = await consumer.poll(TIMEOUT_S, POLL_RECORDS)
            found += len(records)
            for record in records:
                size += len(record.value)
        stopwatch.stop(found)
        check_count((found - 1) * job.size, size)


def consume_columns(job: Job, stopwatch: Stopwatch) -> None:
    run(_consume_columns(job, stopwatch))


async def _consume_columns(job: Job, stopwatch: Stopwatch) -> None:
    async with await _consumer(job) as consumer:
        found = (await consumer.poll_columns(TIMEOUT_S, 1)).to_arrow().num_rows  # which imports pyarrow
        size = 0
        stopwatch.start()
        while found < job.count:
            columns = await consumer.poll_columns(TIMEOUT_S)
            found += len(columns)
            size += columns.to_arrow().nbytes
        stopwatch.stop(found)
        check_count((found - 1) * job.size, size)
