"""The whole node, its clients beside it, ended at any operation on its disk.

After each end the node starts again on what the disk has kept; then every acknowledged record is where it was
acknowledged, nothing is served that was not sent, and no batch is corrupt. When the power is lost, that is promised
for what was flushed before it was acknowledged; when only the process ends, for everything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

import pytest

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from ottla.protocol.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic
from ottla.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from ottla.protocol.messages.produce import PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData
from ottla.records.batch import batches, crc_matches
from ottla.records.compression import Codec
from ottla.records.record import Record, build_batch, read_batch_records
from ottla.runtime.memory_disk import MemoryDisk, SimulatedCrashError
from ottla.schema.config import BrokerConfig
from ottla.server.node.node import Node
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.simulation.wire_client import WireClient

ADDRESS = "127.0.0.1:9092"
PARTITIONS = 2
SETTINGS: dict[str, object] = {
    "listeners": f"PLAINTEXT://{ADDRESS}",
    "log.dirs": "/data",
    "log.segment.bytes": 1024 * 1024,
    "offsets.topic.num.partitions": 1,
}
TOPIC = "journal"
LIVES = 4
LIFETIME_S = 30.0


class Journal:
    """What the clients know, over all lives of the node."""

    def __init__(self) -> None:
        self.topic_created = False
        self.sent: set[bytes] = set()
        self.acknowledged: list[dict[int, bytes]] = [{} for _ in range(PARTITIONS)]
        self.count = 0

    def next_value(self, random: Random) -> bytes:
        self.count += 1
        value = b"%d " % self.count + random.randbytes(random.choice((0, 10, 300, 3000)))
        self.sent.add(value)
        return value


async def create_topic(journal: Journal, client: WireClient) -> None:
    topic = CreatableTopic(name=TOPIC, num_partitions=PARTITIONS, replication_factor=1)
    response = await client.ask(CreateTopicsRequest(topics=[topic]), 5, CreateTopicsResponse)
    code = response.topics[0].error_code
    if journal.topic_created:
        assert code == ErrorCode.TOPIC_ALREADY_EXISTS, "a topic that was acknowledged is gone"
    assert code in (ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS)
    journal.topic_created = True


async def produce(journal: Journal, random: Random, partition: int, is_idempotent: bool) -> None:
    """Write until cancelled, or the machine stops."""
    async with WireClient.connected(ADDRESS) as client:
        await produce_with(client, journal, random, partition, is_idempotent)


async def produce_with(
    client: WireClient, journal: Journal, random: Random, partition: int, is_idempotent: bool
) -> None:
    producer_id, epoch, sequence = -1, -1, -1
    if is_idempotent:
        request = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=1000)
        made = await client.ask(request, 4, InitProducerIdResponse)
        assert made.error_code == ErrorCode.NONE
        producer_id, epoch, sequence = made.producer_id, made.producer_epoch, 0
    while True:
        values = [journal.next_value(random) for _ in range(random.randint(1, 3))]
        batch = build_batch(
            [Record(timestamp_ms=1_700_000_000_000, value=value) for value in values],
            compression=random.choice(list(Codec)),
            producer_id=producer_id,
            producer_epoch=epoch,
            base_sequence=sequence,
        )
        data = TopicProduceData(
            name=TOPIC, partition_data=[PartitionProduceData(index=partition, records=bytes(batch))]
        )
        request = ProduceRequest(acks=random.choice((1, -1)), timeout_ms=30_000, topic_data=[data])
        response = await client.ask(request, 9, ProduceResponse)
        [answer] = response.responses[0].partition_responses
        assert answer.error_code == ErrorCode.NONE, answer
        known = journal.acknowledged[partition]
        for index, value in enumerate(values):
            assert answer.base_offset + index not in known, "an offset was acknowledged twice"
            known[answer.base_offset + index] = value
        if is_idempotent:
            sequence += len(values)
        await asyncio.sleep(random.expovariate(20))


async def check_partition(journal: Journal, client: WireClient, partition: int) -> None:
    """Read it all, and compare."""
    found: dict[int, bytes | None] = {}
    offset = 0
    while True:
        wanted = FetchPartition(partition=partition, fetch_offset=offset, partition_max_bytes=100_000)
        request = FetchRequest(
            max_wait_ms=0, min_bytes=0, max_bytes=1_000_000, topics=[FetchTopic(topic=TOPIC, partitions=[wanted])]
        )
        response = await client.ask(request, 12, FetchResponse)
        assert response.error_code == ErrorCode.NONE
        [data] = response.responses[0].partitions
        assert data.error_code == ErrorCode.NONE, data
        records = data.records or b""
        if offset == data.high_watermark:
            break
        for position, header in batches(records):
            assert crc_matches(records, position, header), "a corrupt batch was served"
            assert header.base_offset == offset, "offsets do not follow one another"
            for record in read_batch_records(records, position, header):
                found[record.offset] = record.value
            offset = header.next_offset
    acknowledged = journal.acknowledged[partition]
    lost = {known: value for known, value in acknowledged.items() if found.get(known) != value}
    assert not lost, f"acknowledged records of partition {partition} are lost or changed: {sorted(lost)}"
    values = list(found.values())
    assert len(set(values)) == len(values), "a record is there twice"
    assert set(values) <= journal.sent, "a record is there that nobody sent"


async def live(env: SimulatedEnv, journal: Journal, settings: dict[str, object]) -> None:
    """One life of the node: start, check, work, stop."""
    node = Node(BrokerConfig.of(SETTINGS | settings), env)
    await node.start()
    async with WireClient.connected(ADDRESS) as client:
        await create_topic(journal, client)
        for partition in range(PARTITIONS):
            await check_partition(journal, client, partition)
    work = [
        asyncio.ensure_future(produce(journal, env.random, partition, is_idempotent))
        for partition in range(PARTITIONS)
        for is_idempotent in (False, True)
    ]
    done, _ = await asyncio.wait(work, timeout=env.random.uniform(0.1, LIFETIME_S), return_when=asyncio.FIRST_EXCEPTION)
    for task in done:
        task.result()
    for task in work:
        task.cancel()
    await node.stop()


def run_lives(seed: int, settings: dict[str, object], restart: Callable[[MemoryDisk, Random], None]) -> None:
    dice = Random(f"node {seed}")
    disk = MemoryDisk()
    journal = Journal()
    for number in range(LIVES):
        disk.crash_at(dice.choice((dice.randint(1, 60), dice.randint(1, 600))))
        try:
            simulate(lambda env: live(env, journal, settings), seed=seed * LIVES + number, disk=disk)
        except SimulatedCrashError:
            pass
        restart(disk, dice)
    simulate(lambda env: live(env, journal, settings), seed=seed, disk=disk)
    assert any(journal.acknowledged)


@pytest.mark.parametrize("seed", range(4))
def test_acknowledged_and_flushed_records_survive_when_the_power_is_lost(seed: int) -> None:
    run_lives(seed, {"log.flush.interval.messages": 1}, lambda disk, dice: disk.crash(dice))


@pytest.mark.parametrize("seed", range(4))
def test_acknowledged_records_survive_when_the_process_is_killed(seed: int) -> None:
    run_lives(seed, {}, lambda disk, dice: disk.restart_process())
