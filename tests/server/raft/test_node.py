"""Raft nodes together: electing, committing, failing over, catching up by log and by snapshot."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import pytest

from ottla.core.errors import ApiError
from ottla.protocol.messages.describe_quorum import (
    DescribeQuorumRequest,
    DescribeQuorumRequestPartitionData,
    DescribeQuorumRequestTopicData,
)
from ottla.runtime.memory_disk import SimulatedCrashError
from ottla.server.raft.metadata_log import MetadataLogError, NotLeaderError
from ottla.server.raft.snapshot import find_snapshots
from ottla.testing.sim.env import simulate
from tests.server.raft.node_world import LISTENER, World
from tests.server.raft.worlds import METADATA, topic

Scenario = Callable[[World], Coroutine[Any, Any, None]]


def run(scenario: Scenario, *, seed: int = 1, voters: tuple[int, ...] = (1, 2, 3), **settings: Any) -> None:
    simulate(lambda _: scenario(World(seed, voters, **settings)), seed=seed, shuffle=True)


def names(count: int, prefix: str = "t") -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


@pytest.mark.parametrize("seed", range(5))
def test_three_nodes_elect_one_and_commit_together(seed: int) -> None:
    async def scenario(world: World) -> None:
        await world.start()
        leader = await world.leader()
        assert world.leaders == [leader]
        await world.write(leader, *names(30))
        for machine in world.machines.values():
            await world.until(lambda machine=machine: machine.topics == set(names(30)))
            assert machine.node is not None
            assert machine.node.leader == leader.metadata.leader  # type: ignore[union-attr]
            assert machine.node.leader_address() == (f"node-{leader.node_id}", 9093)
        await world.stop()

    run(scenario, seed=seed)


def test_a_broker_follows_as_an_observer() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        leader = await world.leader()
        await world.write(leader, "a")
        observer = world.machines[9]
        await world.until(lambda: observer.topics == {"a"})
        assert observer.node is not None
        assert not observer.node.is_leader
        with pytest.raises(NotLeaderError):
            observer.node.append(observer.node.leader.epoch, [topic("b")], 1)
        await world.stop()

    run(scenario, observers=(9,))


@pytest.mark.parametrize("seed", range(5))
def test_when_the_leader_dies_another_one_has_all_that_was_committed(seed: int) -> None:
    async def scenario(world: World) -> None:
        await world.start()
        committed: set[str] = set()
        for round_number in range(4):
            leader = await world.leader()
            wanted = names(5, f"{round_number}.")
            await world.write(leader, *wanted)
            committed |= set(wanted)
            epoch = leader.led[-1]
            leader.kill()
            successor = await world.leader()
            assert successor.led[-1] > epoch
            assert committed <= successor.topics
            await leader.start()
        for machine in world.machines.values():
            await world.until(lambda machine=machine: committed <= machine.topics)
        await world.stop()

    run(scenario, seed=seed)


def test_a_leader_that_is_cut_off_commits_nothing_and_gives_way() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        old = await world.leader()
        await world.write(old, "committed")
        world.isolate(old.node_id)
        lost = asyncio.ensure_future(world.write(old, "lost"))
        new = await world.leader(old.node_id)
        await world.write(new, "won")
        with pytest.raises(NotLeaderError):
            await lost
        world.cut.clear()
        await world.until(lambda: old.topics == {"committed", "won"})
        assert new.topics == {"committed", "won"}
        await world.stop()

    run(scenario)


def test_a_leader_that_stops_hands_over_at_once() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        old = await world.leader()
        await world.write(old, "a")
        before = asyncio.get_running_loop().time()
        await old.stop()
        new = await world.leader()
        assert new is not old
        assert asyncio.get_running_loop().time() - before < 0.9  # shorter than any election timeout
        await world.stop()

    run(scenario)


@pytest.mark.parametrize("breaks_off", [False, True])
def test_who_is_far_behind_catches_up_by_a_snapshot(breaks_off: bool) -> None:
    settings = {
        "metadata_log_max_record_bytes_between_snapshots": 3000,
        "metadata_max_retention_bytes": 1,
        "controller_quorum_fetch_snapshot_max_bytes": 500,
    }

    async def scenario(world: World) -> None:
        await world.start()
        leader = await world.leader()
        await world.write(leader, "first")
        late = next(one for one in world.machines.values() if one is not leader)
        await world.until(lambda: late.topics == {"first"})
        world.isolate(late.node_id)
        for name in names(120):
            await world.write(leader, name)
        assert leader.node is not None
        await world.until(lambda: leader.node.replica.start_offset > 50)  # type: ignore[union-attr]
        heard: list[set[str]] = []
        assert late.metadata is not None
        late.metadata.subscribe(lambda delta, _: heard.append({one.name for one in delta.changed_topics.values()}))
        world.cut.clear()
        world.requests.clear()
        if breaks_off:
            await world.until(lambda: (late.node_id, leader.node_id, "FetchSnapshotRequest") in world.requests)
            late.kill()
            await asyncio.sleep(1)
            await late.start()
        await world.until(lambda: late.topics == {"first", *names(120)})
        assert (late.node_id, leader.node_id, "FetchSnapshotRequest") in world.requests
        if not breaks_off:
            # Told as one change, in which nothing that was there before is new.
            assert len(heard[0]) > 50
            assert "first" not in heard[0]
        assert not [name for name in late.disk.list_directory(METADATA) if name.endswith(".part")]
        assert find_snapshots(late.disk, METADATA)
        await world.stop()

    run(scenario, **settings)


def test_a_quorum_of_one_leads_when_it_has_started() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        (machine,) = world.machines.values()
        assert world.leaders == [machine]
        await world.write(machine, *names(10))
        machine.kill()
        await machine.start()
        assert world.leaders == [machine]
        assert machine.topics == set(names(10))
        assert machine.led == [1, 2]
        assert world.requests == []
        await world.stop()

    run(scenario, voters=(1,))


def test_the_leader_tells_who_is_how_far() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        leader = await world.leader()
        await world.write(leader, *names(3))
        partition = DescribeQuorumRequestPartitionData(partition_index=0)
        topics = [DescribeQuorumRequestTopicData(topic_name="__cluster_metadata", partitions=[partition])]
        request = DescribeQuorumRequest(topics=topics)
        await asyncio.sleep(1)
        assert leader.node is not None
        response: Any = await leader.node.request(request, version=2, listener=LISTENER)
        (found,) = response.topics[0].partitions
        assert (found.error_code, found.leader_id, found.high_watermark) == (0, leader.node_id, leader.node.end_offset)
        assert [one.replica_id for one in found.current_voters] == [1, 2, 3]
        assert {one.log_end_offset for one in found.current_voters} == {leader.node.end_offset}
        assert [one.replica_id for one in found.observers] == [9]
        described = leader.node.describe_quorum()
        assert [voter.log_end_offset for voter in described.voters] == [leader.node.end_offset] * 3
        await world.stop()
        follower = next(one for one in world.machines.values() if one is not leader)
        await follower.start()
        assert follower.node is not None
        with pytest.raises(NotLeaderError):
            await follower.node.wait_committed(10**6)
        follower.kill()

    run(scenario, observers=(9,))


def test_a_disk_that_fails_ends_the_node_and_the_others_go_on() -> None:
    async def scenario(world: World) -> None:
        await world.start()
        leader = await world.leader()
        await world.write(leader, "a")
        leader.disk.fail_at(1, errno.EIO, operations={"sync"})
        with pytest.raises(MetadataLogError):
            await world.write(leader, "b")
        assert leader.node is not None
        assert leader.metadata is not None
        assert leader.metadata.failure is not None
        with pytest.raises(MetadataLogError):
            leader.node.append(leader.node.leader.epoch, [topic("c")], 1)
        with pytest.raises(ApiError):
            await leader.node.request(DescribeQuorumRequest(), version=2, listener=LISTENER)
        other = await world.leader(leader.node_id)
        await world.write(other, "d")
        assert {"a", "d"} <= other.topics
        await world.stop()

    run(scenario)


@pytest.mark.parametrize("seed", range(6))
def test_committed_records_survive_whatever_happens_to_a_minority(seed: int) -> None:
    async def scenario(world: World) -> None:
        random = Random(seed)
        committed: set[str] = set()
        down: list[int] = []
        await world.start()
        for step in range(12):
            fault = random.choice(["kill", "isolate", "restart", "none"])
            victim = random.choice(world.voters)
            if fault == "kill" and not down and not world.cut:
                world.machines[victim].kill()
                down.append(victim)
            elif fault == "isolate" and not down and not world.cut:
                world.isolate(victim)
            elif fault == "restart":
                world.cut.clear()
                while down:
                    await world.machines[down.pop()].start()
            for number in range(3):
                name = f"{step}.{number}"
                cut_off = {
                    one
                    for pair in world.cut
                    for one in pair
                    if len(world.cut) == 2 and all(one in p for p in world.cut)
                }
                leader = await world.leader(*cut_off)
                try:
                    async with asyncio.timeout(10):
                        await world.write(leader, name)
                except (NotLeaderError, MetadataLogError, TimeoutError):
                    continue
                committed.add(name)
        world.cut.clear()
        for node_id in down:
            await world.machines[node_id].start()
        assert len(committed) > 10
        for machine in world.machines.values():
            await world.until(lambda machine=machine: committed <= machine.topics)
        epochs = [epoch for machine in world.machines.values() for epoch in machine.led]
        assert len(epochs) == len(set(epochs)), "two leaders in one epoch"
        await world.stop()

    run(scenario, seed=seed, metadata_log_max_record_bytes_between_snapshots=1500, metadata_max_retention_bytes=1)


@pytest.mark.parametrize("victim_leads", [False, True])
def test_a_power_cut_at_any_operation_of_one_disk_loses_nothing(victim_leads: bool) -> None:
    async def scenario(world: World, count: int) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)  # what runs on a dead disk complains
        await world.start()
        leader = await world.leader()
        await world.write(leader, "before")
        victim = leader if victim_leads else next(one for one in world.machines.values() if one is not leader)
        committed = {"before"}
        victim.disk.on_crash = lambda: loop.call_soon(victim.kill)
        victim.disk.crash_at(count)
        for name in names(12):
            leader = await world.leader()
            try:
                async with asyncio.timeout(5):
                    await world.write(leader, name)
            except (NotLeaderError, MetadataLogError, TimeoutError, SimulatedCrashError):
                continue
            committed.add(name)
        victim.disk.on_crash = None
        if victim.node is not None:
            victim.kill()
        await world.write(await world.leader(), "after")
        await victim.start()
        committed.add("after")
        await world.until(lambda: committed <= victim.topics)
        for machine in world.machines.values():
            await world.until(lambda machine=machine: committed <= machine.topics)
        await world.stop()

    settings: dict[str, object] = {
        "metadata_log_max_record_bytes_between_snapshots": 500,
        "metadata_max_retention_bytes": 1,
    }
    for count in range(1, 60, 3):
        simulate(lambda _, count=count: scenario(World(count, (1, 2, 3), **settings), count), seed=count)
