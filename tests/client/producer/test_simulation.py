"""The producer beside a real node that is killed and comes back: no record missing, none twice, none out of order."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from random import Random
from typing import Any

import pytest

from ottla.client.errors import KafkaError
from ottla.client.producer import client
from ottla.client.producer.client import Producer
from ottla.core.errors import ErrorCode
from ottla.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from ottla.protocol.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic
from ottla.records.batch import batches
from ottla.records.record import read_batch_records, read_records
from ottla.testing.sim.env import START_MS
from tests.simulation.wire_client import WireClient
from tests.simulation.workloads.cluster import ADDRESS, Cluster, run_cluster

TOPIC = "numbers"
PARTITIONS = 3
SECONDS = 20.0


def new_producer(**settings: Any) -> Producer[Any, Any]:
    """A producer whose wall clock is that of the simulation."""
    loop = asyncio.get_running_loop()
    producer = Producer[Any, Any](ADDRESS, **settings)
    producer._accumulator.time = lambda: START_MS / 1000 + loop.time()
    return producer


async def create_topic() -> None:
    async with WireClient.connected(ADDRESS) as wire:
        request = CreateTopicsRequest(
            topics=[CreatableTopic(name=TOPIC, num_partitions=PARTITIONS, replication_factor=1)]
        )
        response = await wire.ask(request, 5, CreateTopicsResponse)
        assert response.topics[0].error_code == ErrorCode.NONE


async def read(partition: int) -> list[int]:
    """All numbers of a partition that are committed."""
    found: list[int] = []
    offset = 0
    async with WireClient.connected(ADDRESS) as wire:
        while True:
            request = FetchRequest(
                max_wait_ms=100,
                min_bytes=0,
                isolation_level=1,
                topics=[
                    FetchTopic(
                        topic=TOPIC,
                        partitions=[
                            FetchPartition(partition=partition, fetch_offset=offset, partition_max_bytes=1 << 22)
                        ],
                    )
                ],
            )
            [answer] = (await wire.ask(request, 11, FetchResponse)).responses[0].partitions
            assert answer.error_code == ErrorCode.NONE
            aborted = sorted((each.first_offset, each.producer_id) for each in answer.aborted_transactions or ())
            records = answer.records or b""
            if not records:
                return found
            found += committed(records, aborted, offset)
            offset = max(record.offset for record in read_records(records)) + 1


def committed(records: Any, aborted: list[tuple[int, int]], from_offset: int) -> list[int]:
    """The numbers in batches that no aborted transaction wrote."""
    found = []
    ended: set[int] = set()
    waiting = list(aborted)
    for position, header in batches(records):
        while waiting and waiting[0][0] <= header.last_offset:
            ended.add(waiting.pop(0)[1])
        if header.is_control:
            ended.discard(header.producer_id)
            continue
        if header.is_transactional and header.producer_id in ended:
            continue
        read = read_batch_records(records, position, header)
        found += [int(record.value or b"-1") for record in read if record.offset >= from_offset]
    return found


@pytest.mark.parametrize("compression", ["none", "lz4"])
@pytest.mark.parametrize("seed", range(5))
def test_an_idempotent_producer_leaves_no_gap_and_no_duplicate(
    seed: int, compression: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "Random", lambda: Random(f"producer {seed}"))

    async def main(cluster: Cluster) -> None:
        await create_topic()
        dice = cluster.random("sender")
        sent: dict[int, list[int]] = defaultdict(list)
        trouble = cluster.spawn(cluster.trouble(SECONDS))
        async with new_producer(
            linger_ms=3, batch_size=500, request_timeout_ms=5000, compression_type=compression
        ) as producer:
            deliveries = []
            number = 0
            while not trouble.done():
                for _ in range(dice.randint(1, 30)):
                    partition = dice.randrange(PARTITIONS)
                    deliveries.append(await producer.send(TOPIC, b"%d" % number, partition=partition))
                    sent[partition].append(number)
                    number += 1
                await asyncio.sleep(dice.expovariate(20))
                producer._accumulator.check_invariants()
            await producer.flush()
            assert not [delivery for delivery in deliveries if delivery.exception() is not None]
        cluster.check()
        for partition in range(PARTITIONS):
            assert await read(partition) == sent[partition]
        assert cluster.lives > 2
        assert number > 500

    run_cluster(main, seed=f"idempotent {seed}")


@pytest.mark.parametrize("seed", range(4))
def test_transactions_are_there_as_a_whole_or_not_at_all(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "Random", lambda: Random(f"producer {seed}"))

    async def main(cluster: Cluster) -> None:
        await create_topic()
        dice = cluster.random("sender")
        committed_numbers: list[int] = []
        uncertain: list[list[int]] = []
        trouble = cluster.spawn(cluster.trouble(SECONDS))
        settings: Any = {"transactional_id": "t", "linger_ms": 3, "request_timeout_ms": 3000, "max_block_ms": 20_000}
        producer = new_producer(**settings)
        number = 0
        while not trouble.done():
            numbers = list(range(number, number + dice.randint(1, 20)))
            number += len(numbers)
            try:
                async with producer.transaction():
                    for each in numbers:
                        await producer.send(TOPIC, b"%d" % each, partition=dice.randrange(PARTITIONS))
                    if dice.random() < 0.2:
                        raise ZeroDivisionError
                committed_numbers += numbers
                cluster.count("committed")
            except ZeroDivisionError:
                cluster.count("aborted")
            except KafkaError as error:
                cluster.count(f"{type(error).__name__}: {error}")
                uncertain.append(numbers)
                await producer.close(5)
                producer = new_producer(**settings)
            await asyncio.sleep(dice.expovariate(20))
        await producer.close(10)
        # A new one of the same id ends what the last one left open.
        async with new_producer(**settings) as last, last.transaction():
            pass
        cluster.check()
        written = [each for partition in range(PARTITIONS) for each in await read(partition)]
        assert len(set(written)) == len(written)
        assert set(committed_numbers) <= set(written)
        left = set(written) - set(committed_numbers)
        for numbers in uncertain:
            assert not left & set(numbers) or set(numbers) <= left
            left -= set(numbers)
        assert not left
        assert cluster.counts.get("committed", 0) > 5, cluster.counts

    run_cluster(main, seed=f"transactional {seed}")
