"""Workers of a share group on a node that ends at any operation on its disk, and whose connections break at any time.

A job whose acknowledgement was answered is never handed out again; every other one is, until it is done; nobody has a
job that somebody else has at that moment.
"""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from ottla.core.errors import ErrorCode
from ottla.runtime.memory_disk import MemoryDisk, SimulatedCrashError
from ottla.schema.config import BrokerConfig
from ottla.server.node.node import Node
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.server.broker.share.share_world import SETTINGS, Batch, ShareWorld

PARTITIONS = 2
WORKERS = 4
LIVES = 4
LOCK_MS = 15_000

Job = tuple[int, int]
"""Partition and offset."""


class Ledger:
    """What the clients know, over all lives of the node."""

    def __init__(self) -> None:
        self.is_initialized = False
        self.produced: set[Job] = set()
        self.done: set[Job] = set()
        self.held: dict[Job, str] = {}

    def hand_out(self, job: Job, member: str) -> None:
        assert job not in self.done, f"{job} was handed out again after its acknowledgement was answered"
        assert self.held.get(job, member) == member, f"{member} has {job}, and so has {self.held[job]}"
        self.held[job] = member

    def give_back(self, acknowledgements: dict[int, list[Batch]]) -> None:
        """Somebody else may have what is released before its member hears that."""
        for partition, batches in acknowledgements.items():
            for first, last, types in batches:
                for offset in range(first, last + 1) if types == [2] else ():
                    self.held.pop((partition, offset), None)

    def forget(self, member: str) -> None:
        self.held = {job: holder for job, holder in self.held.items() if holder != member}


async def submit(world: ShareWorld, ledger: Ledger) -> None:
    random = world.env.random
    while True:
        partition = random.randrange(PARTITIONS)
        values = [b"job"] * random.choice((1, 1, 3, 8))
        base_offset = await world.produce(*values, partition=partition)
        ledger.produced.update((partition, base_offset + number) for number in range(len(values)))
        await asyncio.sleep(random.expovariate(5))


async def work(world: ShareWorld, ledger: Ledger, name: str) -> None:
    """Sessions one after the other; each ends in order, or with its connection, sometimes while an answer is owed."""
    number = 0
    while True:
        number += 1
        member = f"{name}-{number}"
        session = asyncio.ensure_future(one_session(world, ledger, member))
        await asyncio.wait([session], timeout=world.env.random.expovariate(0.5))
        if session.done():
            session.result()
        else:
            session.cancel()
        ledger.forget(member)
        await asyncio.sleep(0.2)  # until the node has seen the end of the connection


async def one_session(world: ShareWorld, ledger: Ledger, member: str) -> None:
    random = world.env.random
    async with world.worker(member) as worker:
        worker.partitions = tuple(range(PARTITIONS))
        accepted: dict[int, list[Batch]] = {}
        for _ in range(random.randint(1, 30)):
            ledger.give_back(accepted)
            taken = await worker.fetch(
                accepted,
                max_records=random.choice((1, 1, 5)),
                max_wait_ms=500,
                strict=random.random() < 0.5,
            )
            assert worker.response.error_code == ErrorCode.NONE
            for partition, batches in accepted.items():
                if taken[partition].acknowledge_code is ErrorCode.NONE:
                    for first, last, types in batches:
                        jobs = {(partition, offset) for offset in range(first, last + 1)}
                        if types == [1]:
                            ledger.done |= jobs
            accepted = {}
            for partition, part in taken.items():
                assert part.code in (ErrorCode.NONE, ErrorCode.COORDINATOR_NOT_AVAILABLE), part.code
                for first, last, _ in part.ranges:
                    for offset in range(first, last + 1):
                        ledger.hand_out((partition, offset), member)
                    kind = random.choice((1, 1, 1, 1, 2))
                    accepted.setdefault(partition, []).append((first, last, [kind]))
            await asyncio.sleep(random.expovariate(20))
        ledger.forget(member)
        await worker.fetch(accepted, epoch=-1)


async def live(env: SimulatedEnv, ledger: Ledger, *, is_last: bool) -> None:
    node = Node(BrokerConfig.of(SETTINGS | {"group.share.delivery.count.limit": 10}), env)
    await node.start()
    world = ShareWorld(env, node)
    world.topic_id = await world.create_topic(partitions=PARTITIONS)
    if not ledger.is_initialized:
        await world.initialize(PARTITIONS)
        ledger.is_initialized = True
    ledger.held.clear()
    tasks = [asyncio.ensure_future(work(world, ledger, f"worker-{number}")) for number in range(WORKERS)]
    if not is_last:
        tasks.append(asyncio.ensure_future(submit(world, ledger)))
    await asyncio.wait(tasks, timeout=120.0 if is_last else env.random.uniform(1, 20), return_when="FIRST_EXCEPTION")
    for task in tasks:
        if task.done():
            task.result()
        task.cancel()
    if is_last:
        await settle(world, ledger)
    await node.stop()


async def settle(world: ShareWorld, ledger: Ledger) -> None:
    """One patient worker gets everything that is left."""
    await asyncio.sleep(2 * LOCK_MS / 1000)
    async with world.worker("patient") as worker:
        worker.partitions = tuple(range(PARTITIONS))
        await worker.fetch()
        idle = 0
        while idle < 3:
            taken = await worker.fetch(max_wait_ms=1_000)
            idle = 0 if taken else idle + 1
            for partition, part in taken.items():
                for first, last, _ in part.ranges:
                    for offset in range(first, last + 1):
                        assert (partition, offset) not in ledger.done
                    assert await worker.acknowledge((first, last, [1]), partition=partition) is ErrorCode.NONE
        for partition in range(PARTITIONS):
            hosted = world.node.broker.share_partitions.existing("workers", world.topic_id, partition)
            assert hosted is not None
            assert hosted.core is not None
            hosted.core.check_invariants()
            assert hosted.core.ranges == []
            assert all(offset < hosted.core.start_offset for index, offset in ledger.produced if index == partition)


@pytest.mark.parametrize("seed", range(6))
def test_no_job_is_lost_and_none_is_done_twice(seed: int) -> None:
    dice = Random(f"share groups {seed}")
    disk = MemoryDisk()
    ledger = Ledger()
    for number in range(LIVES):
        disk.crash_at(dice.choice((dice.randint(30, 200), dice.randint(100, 1500))))
        try:
            simulate(lambda env: live(env, ledger, is_last=False), seed=seed * LIVES + number, disk=disk)
        except SimulatedCrashError:
            pass
        disk.restart_process()
    simulate(lambda env: live(env, ledger, is_last=True), seed=seed, disk=disk)
    assert len(ledger.done) > 10
