"""Our consumers in a group of the real node, in virtual time: members die, the node restarts, nothing is lost.

Each record is handed out at least once, in order within what one member sees of a partition, and no partition has two
owners; what was committed does not come again after everybody has left in peace.
"""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from ottla.aio import Consumer, Producer
from ottla.client.errors import KafkaError
from ottla.client.model import TopicPartition
from ottla.runtime.memory_disk import MemoryDisk
from ottla.schema.config import BrokerConfig
from ottla.server.node.node import Node
from ottla.testing.sim.env import START_MS, SimulatedEnv
from ottla.testing.sim.loop import VirtualTimeLoop
from ottla.testing.sim.process import Process, run_processes

ADDRESS = "127.0.0.1:9092"
SETTINGS: dict[str, object] = {
    "listeners": f"PLAINTEXT://{ADDRESS}",
    "log.dirs": "/data",
    "num.partitions": 4,
    "offsets.topic.num.partitions": 1,
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 1000,
    "group.consumer.min.session.timeout.ms": 1000,
    "group.consumer.session.timeout.ms": 3000,
    "group.consumer.min.heartbeat.interval.ms": 100,
    "group.consumer.heartbeat.interval.ms": 500,
}
TOPIC = "t"
RECORDS = 400


class Story:
    """What happened, seen from outside."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.handed_out = 0
        self.owners: dict[TopicPartition, object] = {}

    def consume(self, tp: TopicPartition, offset: int, last: dict[TopicPartition, int], value: bytes | None) -> None:
        assert value is not None
        if tp in last:
            assert offset == last[tp] + 1, f"{tp} jumped from {last[tp]} to {offset}"
        last[tp] = offset
        self.seen.add(int(value))
        self.handed_out += 1


async def member(story: Story, protocol: str, random: Random) -> None:
    """Consume until killed or cancelled; slow now and then."""
    last: dict[TopicPartition, int] = {}

    def on_assigned(partitions: list[TopicPartition]) -> None:
        for tp in partitions:
            last.pop(tp, None)

    beats = {"heartbeat_interval_ms": 500, "session_timeout_ms": 3000} if protocol == "classic" else {}
    async with Consumer(
        ADDRESS,
        group_id="g",
        topics=[TOPIC],
        group_protocol=protocol,
        auto_offset_reset="earliest",
        auto_commit_interval_ms=500,
        max_poll_records=random.choice([1, 7, 500]),
        on_assigned=on_assigned,
        enable_metrics_push=False,
        **beats,  # type: ignore[arg-type]
    ) as consumer:
        while True:
            try:
                records = await consumer.poll(timeout_s=1)
            except KafkaError as error:
                if not error.retriable:
                    raise
                continue
            for record in records:
                story.consume(TopicPartition(record.topic, record.partition), record.offset, last, record.value)
            if random.random() < 0.05:
                await asyncio.sleep(random.random() * 5)


async def produce(random: Random) -> None:
    async with Producer(ADDRESS, enable_metrics_push=False, delivery_timeout_ms=120_000) as producer:
        deliveries = []
        for number in range(RECORDS):
            partition = random.randrange(4)
            deliveries.append(await producer.send(TOPIC, str(number), partition=partition, timestamp_ms=START_MS))
            await asyncio.sleep(random.expovariate(20))
        for delivery in deliveries:
            await delivery


async def live(loop: VirtualTimeLoop, seed: int, protocol: str) -> None:
    random = Random(f"consumers {seed}")
    disk = MemoryDisk()
    story = Story()

    async def run_node() -> None:
        node = Node(BrokerConfig.of(SETTINGS), SimulatedEnv(loop, random, disk))
        await node.start()
        await asyncio.Event().wait()

    broker = Process(loop)
    broker.start(run_node())
    await asyncio.sleep(2)
    producing = asyncio.ensure_future(produce(random))
    members: list[tuple[Process, asyncio.Task[None]]] = []
    for _ in range(14):
        action = random.choice(["join", "join", "kill", "leave", "restart"])
        if action == "join" and len(members) < 4:
            process = Process(loop)
            members.append((process, process.start(member(story, protocol, random))))
        elif action == "kill" and members:
            members.pop(random.randrange(len(members)))[0].kill()
        elif action == "leave" and members:
            _, task = members.pop(random.randrange(len(members)))
            task.cancel()
            await asyncio.wait([task], timeout=60)
            assert task.done()
        elif action == "restart":
            broker.kill()
            disk.restart_process()
            await asyncio.sleep(random.random() * 3)
            broker = Process(loop)
            broker.start(run_node())
        for _, task in members:
            assert not task.done(), task.exception()
        await asyncio.sleep(random.random() * 4)
    await producing
    process = Process(loop)
    members.append((process, process.start(member(story, protocol, random))))
    deadline_s = loop.time() + 300
    while len(story.seen) < RECORDS:
        assert loop.time() < deadline_s, (
            f"{sorted(set(range(RECORDS)) - story.seen)[:10]} never came, {len(story.seen)} did"
        )
        await asyncio.sleep(0.5)
    await asyncio.sleep(10)  # whoever had something in hand has polled again since
    for _, task in members:
        task.cancel()
        await asyncio.wait([task], timeout=60)
    # Everything is committed now.
    async with Consumer(ADDRESS, group_id="g", topics=[TOPIC], group_protocol=protocol) as last:
        found = await last.committed([TopicPartition(TOPIC, number) for number in range(4)])
        assert sum(0 if one is None else one.offset for one in found.values()) == RECORDS
    await asyncio.sleep(0)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
@pytest.mark.parametrize("seed", range(4))
def test_every_record_is_consumed_while_members_and_the_node_die(seed: int, protocol: str) -> None:
    run_processes(lambda loop: live(loop, seed, protocol), seed=seed)
