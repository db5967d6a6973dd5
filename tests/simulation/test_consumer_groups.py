"""Members of a consumer group on a node that ends at any operation on its disk, and whose answers get lost.

A partition is consumed by one member at a time, as far as members that hear from the group know; in the end all
partitions are consumed.
"""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from ottla.core.errors import ErrorCode
from ottla.protocol.messages import consumer_group_heartbeat as messages
from ottla.protocol.messages import create_topics, find_coordinator
from ottla.runtime.memory_disk import MemoryDisk, SimulatedCrashError
from ottla.schema.config import BrokerConfig
from ottla.server.coordinator.consumer.group import ConsumerGroup
from ottla.server.node.node import Node
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.simulation.wire_client import WireClient

ADDRESS = "127.0.0.1:9092"
GROUP = "readers"
SETTINGS: dict[str, object] = {
    "listeners": f"PLAINTEXT://{ADDRESS}",
    "log.dirs": "/data",
    "offsets.topic.num.partitions": 2,
    "group.consumer.assignment.interval.ms": 500,
    "group.consumer.min.heartbeat.interval.ms": 100,
    "group.consumer.heartbeat.interval.ms": 500,
    "group.consumer.min.session.timeout.ms": 1_000,
    "group.consumer.session.timeout.ms": 6_000,
}
PARTITIONS = 7
MEMBERS = 4
LIVES = 4
RETRIABLE = (
    ErrorCode.NONE,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.NOT_COORDINATOR,
    ErrorCode.UNRELEASED_INSTANCE_ID,
)
LOST = (
    ErrorCode.FENCED_MEMBER_EPOCH,
    ErrorCode.UNKNOWN_MEMBER_ID,
    ErrorCode.GROUP_ID_NOT_FOUND,
    ErrorCode.FENCED_INSTANCE_ID,
)


class Member:
    """A consumer; what it consumes survives the broker. The first one is static, the last subscribes by expression."""

    def __init__(self, everybody: list[Member], index: int) -> None:
        self.everybody = everybody
        self.index = index
        self.instance = "i" if index == 0 else None
        self.restarts = 0
        self.restart()

    def restart(self) -> None:
        """The process is gone, and comes back as another member."""
        self.restarts += 1
        self.member_id = f"m{self.index}-{self.restarts}"
        self.lose()

    def lose(self) -> None:
        """Fenced: drop everything and join again."""
        self.epoch = 0
        self.consumed: frozenset[tuple[bytes, int]] = frozenset()
        self.wanted = self.consumed
        self.tells_everything = True

    def request(self) -> messages.ConsumerGroupHeartbeatRequest:
        self.consumed &= self.wanted
        by_topic: dict[bytes, list[int]] = {}
        for topic_id, index in sorted(self.consumed):
            by_topic.setdefault(topic_id, []).append(index)
        request = messages.ConsumerGroupHeartbeatRequest(
            group_id=GROUP,
            member_id=self.member_id,
            member_epoch=self.epoch,
            instance_id=self.instance,
            topic_partitions=[
                messages.ConsumerGroupHeartbeatRequestTopicPartitions(topic_id=topic_id, partitions=indexes)
                for topic_id, indexes in by_topic.items()
            ],
        )
        if self.tells_everything:
            request.rebalance_timeout_ms = 5_000
            if self.index == MEMBERS - 1:
                request.subscribed_topic_regex = "t.*"
            else:
                request.subscribed_topic_names = ["text"]
        return request

    def take(self, response: messages.ConsumerGroupHeartbeatResponse) -> None:
        code = ErrorCode(response.error_code)
        if code in LOST:
            self.lose()
        elif code is ErrorCode.NONE:
            self.tells_everything = False
            self.epoch = response.member_epoch
            if response.assignment is not None:
                self.wanted = frozenset(
                    (topic.topic_id, index)
                    for topic in response.assignment.topic_partitions
                    for index in topic.partitions
                )
                added = self.wanted - self.consumed
                self.consumed |= self.wanted
                for other in self.everybody:
                    assert other is self or not other.consumed & added, (self.member_id, other.member_id)
        else:
            assert code in RETRIABLE, code
            self.tells_everything = True


async def run(env: SimulatedEnv, member: Member, *, is_last: bool) -> None:
    random = env.random
    while True:
        async with WireClient.connected(ADDRESS) as client:
            for _ in range(random.randint(1, 20)):
                response = await client.ask(member.request(), 1, messages.ConsumerGroupHeartbeatResponse)
                if is_last or random.random() > 0.1:
                    member.take(response)
                else:
                    member.tells_everything = True
                if not is_last and random.random() < 0.03:
                    # It stops consuming; the group finds out later.
                    member.restart()
                await asyncio.sleep(random.uniform(0.2, 0.6))


async def coordinated(client: WireClient) -> None:
    request = find_coordinator.FindCoordinatorRequest(key_type=0, coordinator_keys=[GROUP])
    while True:
        answer = await client.ask(request, 6, find_coordinator.FindCoordinatorResponse)
        if answer.coordinators[0].error_code == 0:
            return
        await asyncio.sleep(0.1)


async def live(env: SimulatedEnv, members: list[Member], *, is_last: bool) -> None:
    node = Node(BrokerConfig.of(SETTINGS), env)
    await node.start()
    async with WireClient.connected(ADDRESS) as client:
        topic = create_topics.CreatableTopic(name="text", num_partitions=PARTITIONS, replication_factor=1)
        request = create_topics.CreateTopicsRequest(topics=[topic])
        await client.ask(request, 7, create_topics.CreateTopicsResponse)
        await coordinated(client)
    tasks = [asyncio.ensure_future(run(env, member, is_last=is_last)) for member in members]
    duration = 40.0 if is_last else env.random.uniform(5, 40)
    await asyncio.wait(tasks, timeout=duration, return_when="FIRST_EXCEPTION")
    for task in tasks:
        if task.done():
            task.result()
        task.cancel()
    if is_last:
        group = node.broker.groups.partition_of(GROUP).shard.groups[GROUP]
        assert isinstance(group, ConsumerGroup)
        group.check_invariants()
        assert group.state_name == "Stable"
        assert sorted(index for member in members for _, index in member.consumed) == list(range(PARTITIONS))
        assert sorted(len(member.consumed) for member in members) == [1, 2, 2, 2]
    await node.stop()


@pytest.mark.parametrize("seed", range(5))
def test_partitions_have_one_owner_while_nodes_crash(seed: int) -> None:
    dice = Random(f"consumer groups {seed}")
    disk = MemoryDisk()
    members: list[Member] = []
    members += [Member(members, index) for index in range(MEMBERS)]
    for number in range(LIVES):
        disk.crash_at(dice.choice((dice.randint(30, 150), dice.randint(100, 800))))
        try:
            simulate(lambda env: live(env, members, is_last=False), seed=seed * LIVES + number, disk=disk)
        except SimulatedCrashError:
            pass
        disk.restart_process()
    simulate(lambda env: live(env, members, is_last=True), seed=seed, disk=disk)
    assert sum(member.restarts for member in members) > MEMBERS
