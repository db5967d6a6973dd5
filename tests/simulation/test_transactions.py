"""Workers with transactions beside a node that is killed: every input is in the committed output exactly once.

Also: whoever was fenced gets nothing done (a twin of the worker tries), a committed transaction is there with all of
its records and its position or not at all, and no transaction hangs: when the work is over and the timeouts have
passed, the last stable offset is the end of every partition.
"""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from ottla.protocol.messages.describe_transactions import DescribeTransactionsRequest, DescribeTransactionsResponse
from ottla.runtime.memory_disk import MemoryDisk, SimulatedCrashError
from ottla.schema.config import BrokerConfig
from ottla.server.coordinator.transactions.shard import durable_state
from ottla.server.node.node import Node
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.simulation.transactional_worker import ADDRESS, INPUT, OUTPUT, PARTITIONS, TIMEOUT_MS, Reader, Worker
from tests.simulation.wire_client import WireClient

SETTINGS: dict[str, object] = {
    "listeners": f"PLAINTEXT://{ADDRESS}",
    "log.dirs": "/data",
    "offsets.topic.num.partitions": 1,
    "transaction.state.log.num.partitions": 2,
}
LIVES = 4
LIFETIME_S = 20.0


class Story:
    """What is known over all lives of the node."""

    def __init__(self) -> None:
        self.reader = Reader()
        self.commits = 0
        self.fenced = 0


async def create_topics(client: WireClient) -> None:
    topics = [
        CreatableTopic(name=name, num_partitions=count, replication_factor=1)
        for name, count in ((INPUT, 1), (OUTPUT, PARTITIONS))
    ]
    response = await client.ask(CreateTopicsRequest(topics=topics), 5, CreateTopicsResponse)
    assert {topic.error_code for topic in response.topics} <= {ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS}


async def live(env: SimulatedEnv, story: Story, version: int, *, is_last: bool) -> None:
    """One life of the node: start, work with it, stop."""
    node = Node(BrokerConfig.of(SETTINGS), env)
    await node.start()
    async with WireClient.connected(ADDRESS) as client:
        await create_topics(client)
        workers = [Worker(Random(env.random.random()), version) for _ in range(2)]
        tasks = [asyncio.ensure_future(worker.run()) for worker in workers]
        ends = asyncio.get_running_loop().time() + env.random.uniform(0.5, LIFETIME_S)
        while asyncio.get_running_loop().time() < ends:
            for partition in range(PARTITIONS):
                await story.reader.poll(client, partition)
            await asyncio.sleep(0.2)
            for task in tasks:
                if task.done():
                    task.result()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        story.commits += sum(worker.commits for worker in workers)
        story.fenced += sum(worker.fenced for worker in workers)
        if is_last:
            await check_the_end(node, client, story)
    await node.stop()


async def check_the_end(node: Node, client: WireClient, story: Story) -> None:
    """Nothing hangs, and the output is as long as the position says."""
    await asyncio.sleep(TIMEOUT_MS / 1000 + 25)
    for partition in range(PARTITIONS):
        stable, high_watermark = await story.reader.poll(client, partition)
        assert stable == high_watermark, "a transaction hangs"
    for hosted in ("__consumer_offsets", OUTPUT):
        for found in node.broker.replicas.by_name[hosted].partitions.values():
            found.log.check_invariants()
            assert not found.log.producers_state.ongoing
            assert found.log.last_stable_offset == found.log.log_end_offset
    [state] = (
        await client.ask(DescribeTransactionsRequest(transactional_ids=["workers-1"]), 0, DescribeTransactionsResponse)
    ).transaction_states
    assert state.error_code == ErrorCode.NONE
    assert state.transaction_state in ("Empty", "CompleteCommit", "CompleteAbort")
    offsets = node.broker.groups.partition_of("workers").shard.offsets
    assert not any(offsets.pending.values())
    position = offsets.committed["workers"][INPUT][0].offset
    assert sorted(story.reader.seen) == list(range(position)), "every input once, and none beyond the position"
    for partition in node.broker.transactions._runtime.active_partitions():
        partition.shard.check_invariants()
        assert durable_state(partition.shard) == durable_state(partition.shard)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_every_input_is_in_the_committed_output_once(seed: int, version: int) -> None:
    dice = Random(f"transactions {seed} {version}")
    disk = MemoryDisk()
    story = Story()
    for number in range(LIVES):
        disk.crash_at(dice.randint(60, 500))
        try:
            simulate(lambda env: live(env, story, version, is_last=False), seed=seed * LIVES + number, disk=disk)
        except SimulatedCrashError:
            pass
        disk.restart_process()
    simulate(lambda env: live(env, story, version, is_last=True), seed=seed, disk=disk)
    assert story.reader.seen
    assert story.reader.aborted
    assert story.fenced
