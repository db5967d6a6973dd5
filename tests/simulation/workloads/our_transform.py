"""Consume, transform, produce, with our consumer and our transactional producer: each input's output is there once."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ottla.client.errors import (
    BootstrapError,
    ConnectionFailedError,
    FatalProducerError,
    KafkaError,
    KafkaTimeoutError,
    ProducerFencedError,
)
from tests.simulation.workloads.cluster import Cluster
from tests.simulation.workloads.our_consumers import CLOSE_S, KINDS, POLL_S
from tests.simulation.workloads.our_producers import DELIVERY_TIMEOUT_MS, LAST_BYTES_S, MAX_BLOCK_MS
from tests.simulation.workloads.programs import Program
from tests.simulation.workloads.reader import READ_COMMITTED, read_all

GROUP_ID, INPUT, OUTPUT = "makers", "raw", "made"


def maker(kind: str, partitions: int, own_ids: bool) -> Any:
    """A program of the application. `own_ids`: every instance has a transactional id of its own, and only the group
    keeps the old ones from committing (KIP-447); otherwise those of one slot share theirs.
    """

    async def run(program: Program) -> None:
        dice = program.dice
        slot = program.name if own_ids else program.name.partition(".")[0]
        consumer = program.consumer(
            KINDS[kind]
            | {
                "group.id": GROUP_ID,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "max.poll.interval.ms": 8_000,
                "max.poll.records": dice.choice((1, 10, 100)),
            },
            topics=[INPUT],
        )
        producer = program.producer(
            {
                "transactional.id": f"maker-{slot}",
                "transaction.timeout.ms": dice.choice((3_000, 10_000)),
                "delivery.timeout.ms": DELIVERY_TIMEOUT_MS,
                "max.block.ms": MAX_BLOCK_MS,
                "linger.ms": dice.choice((0, 5)),
            }
        )
        try:
            while not program.is_closing and await _round(program, consumer, producer, partitions):
                pass
        finally:
            close_s = dice.choice((None, 1.0))
            limit_s = max(DELIVERY_TIMEOUT_MS, MAX_BLOCK_MS) / 1000 if close_s is None else close_s
            try:
                await program.call("close of the producer", producer.close(close_s), limit_s + LAST_BYTES_S)
            finally:
                await program.call("close", consumer.close(CLOSE_S), CLOSE_S + LAST_BYTES_S)

    return run


async def _round(program: Program, consumer: Any, producer: Any, partitions: int) -> bool:
    """Read something, and pass it on in one transaction. False: this instance has to go."""
    cluster = program.cluster
    try:
        records = await program.call("poll", consumer.poll(timeout_s=POLL_S), POLL_S + 8.0)
    except (KafkaTimeoutError, ConnectionFailedError) as error:
        cluster.count(f"polls that raised {type(error).__name__}")
        return True
    if not records:
        return True
    await _nap(program)
    try:
        async with producer.transaction() as transaction:
            for record in records:
                await producer.send(OUTPUT, record.value, partition=program.dice.randrange(partitions))
            await _nap(program)
            await transaction.send_offsets(consumer)
            await _nap(program)
            if program.dice.random() < 0.1:
                raise _ChangedMindError
    except (ProducerFencedError, FatalProducerError):
        cluster.count("makers fenced")
        return False
    except (KafkaTimeoutError, BootstrapError):
        cluster.count("makers that do not know")
        return False
    except (KafkaError, _ChangedMindError) as error:
        cluster.count(f"makers that begin again: {type(error).__name__}")
        return await _rewind(program, consumer)
    cluster.count("transactions made")
    program.gets_on()
    return True


class _ChangedMindError(Exception):
    """The application does not want it any more."""


async def _rewind(program: Program, consumer: Any) -> bool:
    """Go back to what is committed: the records come again."""
    try:
        found = await program.call("committed", consumer.committed(), 8.0)
        for place, committed in found.items():
            if place in consumer.assignment():
                await consumer.seek(place, committed.offset if committed is not None else 0)
    except KafkaError as error:
        if not error.retriable:
            raise
        return False
    return True


async def _nap(program: Program) -> None:
    chance = program.dice.random()
    if not program.cluster.is_calm and chance < 0.03:
        await program.think(1.0 if chance > 0.005 else 6.0)


async def check_made(cluster: Cluster, partitions: dict[str, int]) -> list[str]:
    """What of the input is not in the output yet; what is there twice is a failure."""
    client = cluster.client("checker")
    counters = []
    for topic in (INPUT, OUTPUT):
        found: Counter[bytes | None] = Counter()
        for index in range(partitions[topic]):
            view = await read_all(client, topic, index, isolation=READ_COMMITTED)
            found.update(value for _, value in view.records.values())
        counters.append(found)
    wanted, made = counters
    if twice := sorted(map(repr, made - wanted)):
        cluster.fail(f"made twice: {', '.join(twice[:10])}")
    return sorted(map(repr, wanted - made))
