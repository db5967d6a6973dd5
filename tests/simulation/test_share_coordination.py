"""The two coordinators of share groups on a node that ends at any operation on its disk.

An answered move of offsets holds until the next one is asked for; a group is where its last answered deletion left it;
and whatever was under way when the node ended, in the end the members have everything they subscribe to.
"""

from __future__ import annotations

import asyncio
from itertools import combinations
from random import Random
from typing import Any

import pytest

from ottla.core.errors import ErrorCode
from ottla.protocol.messages import alter_share_group_offsets as altering
from ottla.protocol.messages import create_topics, find_coordinator
from ottla.protocol.messages import delete_groups as deleting
from ottla.protocol.messages import describe_share_group_offsets as describing
from ottla.protocol.messages import share_group_heartbeat as heartbeats
from ottla.runtime.memory_disk import MemoryDisk, SimulatedCrashError
from ottla.schema.config import BrokerConfig
from ottla.server.node.node import Node
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.simulation.wire_client import WireClient

ADDRESS = "127.0.0.1:9092"
SETTINGS: dict[str, object] = {
    "listeners": f"PLAINTEXT://{ADDRESS}",
    "log.dirs": "/data",
    "offsets.topic.num.partitions": 1,
    "share.coordinator.state.topic.num.partitions": 2,
    "share.coordinator.state.topic.prune.interval.ms": 2_000,
    "share.coordinator.cold.partition.snapshot.interval.ms": 2_000,
    "share.coordinator.snapshot.update.records.per.snapshot": 2,
}
TOPIC, GROUP = "jobs", "workers"
PARTITIONS = 3
LIVES = 4
RETRIABLE = (
    ErrorCode.NOT_COORDINATOR,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
)

Offsets = dict[int, int]


class Administrator:
    """Moves offsets while nobody consumes, and knows what must be found: one of `possible`."""

    def __init__(self) -> None:
        self.possible: list[Offsets] = [{}]
        self.answers = 0

    async def act(self, client: WireClient, random: Random) -> None:
        if random.random() < 0.2:
            # Unanswered, some partitions may have been forgotten and others not.
            self.possible = [
                {index: offset for index, offset in self.possible[0].items() if index not in forgotten}
                for count in range(PARTITIONS + 1)
                for forgotten in combinations(range(PARTITIONS), count)
            ]
            request = deleting.DeleteGroupsRequest(groups_names=[GROUP])
            response = await client.ask(request, 2, deleting.DeleteGroupsResponse)
            if response.results[0].error_code in (ErrorCode.NONE, ErrorCode.GROUP_ID_NOT_FOUND):
                self.possible = [{}]
                self.answers += 1
            return
        moves = {index: random.randint(0, 99) for index in range(PARTITIONS) if random.random() < 0.7}
        # Unanswered, some partitions may have been moved and others not.
        mixtures = [self.possible[0]]
        for index, offset in moves.items():
            mixtures += [{**mixture, index: offset} for mixture in mixtures]
        before, self.possible = self.possible, self.possible[1:] + mixtures
        partitions = [
            altering.AlterShareGroupOffsetsRequestPartition(partition_index=index, start_offset=offset)
            for index, offset in moves.items()
        ]
        topic = altering.AlterShareGroupOffsetsRequestTopic(topic_name=TOPIC, partitions=partitions)
        request = altering.AlterShareGroupOffsetsRequest(group_id=GROUP, topics=[topic])
        response = await client.ask(request, 0, altering.AlterShareGroupOffsetsResponse)
        codes = {found.error_code for one in response.responses for found in one.partitions} | {response.error_code}
        if codes == {0}:
            self.possible = [{**before[0], **moves}]
            self.answers += 1

    async def check(self, client: WireClient) -> None:
        """What is found now is what must be found from now on."""
        found = await start_offsets(client)
        assert any(
            all(found.get(index, -1) == possible.get(index, -1) for index in range(PARTITIONS))
            for possible in self.possible
        ), (found, self.possible)
        self.possible = [{index: offset for index, offset in found.items() if offset >= 0}]


async def start_offsets(client: WireClient) -> Offsets:
    topic = describing.DescribeShareGroupOffsetsRequestTopic(topic_name=TOPIC, partitions=list(range(PARTITIONS)))
    asked = describing.DescribeShareGroupOffsetsRequestGroup(group_id=GROUP, topics=[topic])
    request = describing.DescribeShareGroupOffsetsRequest(groups=[asked])
    response = await client.ask(request, 1, describing.DescribeShareGroupOffsetsResponse)
    assert response.groups[0].error_code == 0
    return {found.partition_index: found.start_offset for found in response.groups[0].topics[0].partitions}


async def ready(client: WireClient) -> None:
    """The topic exists, and the coordinators have loaded."""
    topic = create_topics.CreatableTopic(name=TOPIC, num_partitions=PARTITIONS, replication_factor=1)
    response = await client.ask(
        create_topics.CreateTopicsRequest(topics=[topic]), 7, create_topics.CreateTopicsResponse
    )
    assert response.topics[0].error_code in (ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS)
    request = find_coordinator.FindCoordinatorRequest(key_type=0, coordinator_keys=[GROUP])
    await client.ask(request, 6, find_coordinator.FindCoordinatorResponse)
    for _ in range(500):
        answer = await heartbeat(client, "nobody", 5)
        if answer.error_code not in RETRIABLE:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the coordinator does not load")


async def heartbeat(client: WireClient, member_id: str, epoch: int, topics: list[str] | None = None) -> Any:
    request = heartbeats.ShareGroupHeartbeatRequest(
        group_id=GROUP, member_id=member_id, member_epoch=epoch, subscribed_topic_names=topics
    )
    return await client.ask(request, 1, heartbeats.ShareGroupHeartbeatResponse)


async def consume(client: WireClient, name: str, *, patience: int = 40) -> set[int]:
    """Join, have everything that is assigned within some heartbeats, leave; the partitions it had."""
    answer = await heartbeat(client, name, 0, [TOPIC])
    had: set[int] = set()
    for _ in range(patience):
        if answer.error_code:
            break
        if answer.assignment is not None:
            had = {index for topic in answer.assignment.topic_partitions for index in topic.partitions}
        if len(had) == PARTITIONS:
            break
        await asyncio.sleep(0.5)
        answer = await heartbeat(client, name, answer.member_epoch)
    await heartbeat(client, name, -1)
    return had


async def live(env: SimulatedEnv, administrator: Administrator, *, is_last: bool) -> None:
    node = Node(BrokerConfig.of(SETTINGS), env)
    await node.start()
    async with WireClient.connected(ADDRESS) as client:
        await ready(client)
        # A member of an earlier life may not have left.
        await asyncio.sleep(60)
        await administrator.check(client)
        for _ in range(3 if is_last else 30):
            await administrator.act(client, env.random)
            await administrator.check(client)
            if env.random.random() < 0.3:
                await consume(client, f"m{env.random.randint(0, 9)}", patience=1)
            await asyncio.sleep(env.random.expovariate(1))
        if is_last:
            assert await consume(client, "last") == set(range(PARTITIONS))
            await administrator.check(client)
    await node.stop()


@pytest.mark.parametrize("seed", range(6))
def test_answered_moves_hold_whatever_the_node_was_doing_when_it_ended(seed: int) -> None:
    dice = Random(f"share coordination {seed}")
    disk = MemoryDisk()
    administrator = Administrator()
    for number in range(LIVES):
        disk.crash_at(dice.randint(20, 400))
        try:
            simulate(lambda env: live(env, administrator, is_last=False), seed=seed * LIVES + number, disk=disk)
        except SimulatedCrashError:
            pass
        disk.restart_process()
    simulate(lambda env: live(env, administrator, is_last=True), seed=seed, disk=disk)
    assert administrator.answers > 3
