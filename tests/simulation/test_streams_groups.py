"""Threads of a streams application on a node that ends at any operation on its disk, and whose answers get lost.

A task is run by one thread at a time, as far as threads that hear from the group know; in the end all tasks are run.
"""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from ottla.core.errors import ErrorCode
from ottla.protocol.messages import create_topics, find_coordinator
from ottla.protocol.messages import streams_group_heartbeat as messages
from ottla.runtime.memory_disk import MemoryDisk, SimulatedCrashError
from ottla.schema.config import BrokerConfig
from ottla.server.coordinator.group import GroupType
from ottla.server.coordinator.streams.tasks import TaskId, task_lists, tasks_of
from ottla.server.node.node import Node
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.server.coordinator.streams_driver import GROUP, join_request, word_count
from tests.simulation.wire_client import WireClient

ADDRESS = "127.0.0.1:9092"
SETTINGS: dict[str, object] = {
    "listeners": f"PLAINTEXT://{ADDRESS}",
    "log.dirs": "/data",
    "offsets.topic.num.partitions": 2,
    "group.streams.initial.rebalance.delay.ms": 500,
    "group.streams.assignment.interval.ms": 500,
    "group.streams.min.heartbeat.interval.ms": 100,
    "group.streams.heartbeat.interval.ms": 500,
    "group.streams.min.session.timeout.ms": 1_000,
    "group.streams.session.timeout.ms": 6_000,
    "group.streams.num.standby.replicas": 1,
}
PARTITIONS = 3
THREADS = 3
LIVES = 4
RETRIABLE = (
    ErrorCode.NONE,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.NOT_COORDINATOR,
)
LOST = (ErrorCode.FENCED_MEMBER_EPOCH, ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.GROUP_ID_NOT_FOUND)


class Application:
    """The threads of all instances, over all lives of the node."""

    def __init__(self) -> None:
        self.threads = [Thread(self, index) for index in range(THREADS)]

    def check(self, thread: Thread) -> None:
        """Nobody else runs what the thread was just given."""
        for other in self.threads:
            assert other is thread or not other.active & thread.active, f"{other.member_id} and {thread.member_id}"


class Thread:
    """A stream thread with its own process; what it runs survives the broker."""

    def __init__(self, application: Application, index: int) -> None:
        self.application = application
        self.index = index
        self.restarts = 0
        self.restart()

    def restart(self) -> None:
        """The process is gone, and comes back as another member."""
        self.restarts += 1
        self.member_id = f"t{self.index}-{self.restarts}"
        self.lose()

    def lose(self) -> None:
        """Fenced: drop everything and join again."""
        self.epoch = 0
        self.active: frozenset[TaskId] = frozenset()
        self.standby: frozenset[TaskId] = frozenset()

    def request(self) -> messages.StreamsGroupHeartbeatRequest:
        if self.epoch == 0:
            return join_request(self.member_id, word_count(), rebalance_timeout_ms=5_000)
        return messages.StreamsGroupHeartbeatRequest(
            group_id=GROUP,
            member_id=self.member_id,
            member_epoch=self.epoch,
            active_tasks=task_lists(self.active, messages.TaskIds),
            standby_tasks=task_lists(self.standby, messages.TaskIds),
            warmup_tasks=[],
        )

    def take(self, response: messages.StreamsGroupHeartbeatResponse) -> None:
        code = ErrorCode(response.error_code)
        if code in LOST:
            self.lose()
        elif code is ErrorCode.NONE:
            self.epoch = response.member_epoch
            if response.active_tasks is not None:
                self.active, self.standby = tasks_of(response.active_tasks), tasks_of(response.standby_tasks or ())
                self.application.check(self)
        else:
            assert code in RETRIABLE, code


async def run(env: SimulatedEnv, thread: Thread, *, is_last: bool) -> None:
    random = env.random
    while True:
        async with WireClient.connected(ADDRESS) as client:
            for _ in range(random.randint(1, 20)):
                response = await client.ask(thread.request(), 1, messages.StreamsGroupHeartbeatResponse)
                if is_last or random.random() > 0.1:
                    thread.take(response)
                if not is_last and random.random() < 0.03:
                    # Its tasks stop here; the group finds out later.
                    thread.restart()
                await asyncio.sleep(random.uniform(0.2, 0.6))


async def coordinated(client: WireClient) -> None:
    request = find_coordinator.FindCoordinatorRequest(key_type=0, coordinator_keys=[GROUP])
    while True:
        answer = await client.ask(request, 6, find_coordinator.FindCoordinatorResponse)
        if answer.coordinators[0].error_code == 0:
            return
        await asyncio.sleep(0.1)


async def live(env: SimulatedEnv, application: Application, *, is_last: bool) -> None:
    node = Node(BrokerConfig.of(SETTINGS), env)
    await node.start()
    async with WireClient.connected(ADDRESS) as client:
        topic = create_topics.CreatableTopic(name="text", num_partitions=PARTITIONS, replication_factor=1)
        request = create_topics.CreateTopicsRequest(topics=[topic])
        await client.ask(request, 7, create_topics.CreateTopicsResponse)
        await coordinated(client)
    tasks = [asyncio.ensure_future(run(env, thread, is_last=is_last)) for thread in application.threads]
    duration = 40.0 if is_last else env.random.uniform(5, 40)
    await asyncio.wait(tasks, timeout=duration, return_when="FIRST_EXCEPTION")
    for task in tasks:
        if task.done():
            task.result()
        task.cancel()
    if is_last:
        group = node.broker.groups.partition_of(GROUP).shard.machine(GroupType.STREAMS).group(GROUP)
        group.check_invariants()
        assert group.state_name == "Stable"
        everything = {TaskId(part, partition) for part in "01" for partition in range(PARTITIONS)}
        assert sorted(task for thread in application.threads for task in thread.active) == sorted(everything)
        copies = [task for thread in application.threads for task in thread.standby]
        assert sorted(copies) == sorted(task for task in everything if task.subtopology_id == "1")
    await node.stop()


@pytest.mark.parametrize("seed", range(5))
def test_tasks_have_one_owner_while_nodes_crash(seed: int) -> None:
    dice = Random(f"streams groups {seed}")
    disk = MemoryDisk()
    application = Application()
    for number in range(LIVES):
        disk.crash_at(dice.choice((dice.randint(30, 150), dice.randint(100, 800))))
        try:
            simulate(lambda env: live(env, application, is_last=False), seed=seed * LIVES + number, disk=disk)
        except SimulatedCrashError:
            pass
        disk.restart_process()
    simulate(lambda env: live(env, application, is_last=True), seed=seed, disk=disk)
    assert sum(thread.restarts for thread in application.threads) > THREADS
