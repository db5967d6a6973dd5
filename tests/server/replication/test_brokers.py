"""Three brokers on the simulated network: acks=all, failover, ISRs, reading from followers, deleting, throttles."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.delete_records import (
    DeleteRecordsPartition,
    DeleteRecordsRequest,
    DeleteRecordsTopic,
)
from ottla.protocol.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from ottla.protocol.messages.metadata_records import BrokerRegistrationChangeRecord, ConfigRecord
from ottla.records.record import read_records
from ottla.server.peers.errors import PeerError
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.server.replication.brokers_world import HOST, TOPIC, TOPIC_ID, World, cluster


def in_cluster(test: Callable[[World], Coroutine[Any, Any, None]], seed: int = 0, **settings: object) -> None:
    async def main(env: SimulatedEnv) -> None:
        async with cluster(env, seed, **settings) as world:
            await test(world)

    simulate(main, seed=seed)


def stored(world: World, node_id: int, index: int = 0) -> list[bytes | None]:
    log = world.nodes[node_id].partition(index).log
    data = b"".join(bytes(segment.file.read_at(0, segment.size)) for segment in log.segments)
    return [record.value for record in read_records(data)]


def test_what_acks_all_has_answered_is_on_every_replica() -> None:
    async def check(world: World) -> None:
        world.create_topic(3)
        await asyncio.sleep(0.1)
        for number in range(30):
            answer = await world.produce(b"%d" % number, number % 3)
            assert (answer.error_code, answer.base_offset) == (0, number // 3)
            for node in world.nodes.values():
                assert node.partition(number % 3).log.log_end_offset == number // 3 + 1
        assert stored(world, 1) == stored(world, 2) == stored(world, 3) == [b"%d" % n for n in range(0, 30, 3)]
        assert world.alterations == 0
        directories = {node: world.nodes[node].directories.directory_ids[0] for node in world.nodes}
        await world.until(lambda: len(world.assigned) == 9)
        assert all(world.assigned[TOPIC_ID, node * 100] == directories[node] for node in world.nodes)

    in_cluster(check)


@pytest.mark.parametrize("seed", range(5))
def test_a_leader_is_killed_and_nothing_that_was_answered_is_lost(seed: int) -> None:
    async def check(world: World) -> None:
        world.create_topic()
        await asyncio.sleep(0.1)
        acknowledged: dict[int, bytes] = {}

        async def write() -> None:
            for number in range(300):
                value = b"%d" % number
                try:
                    answer = await world.produce(value)
                except PeerError:
                    await asyncio.sleep(0.02)
                    continue
                if not answer.error_code:
                    acknowledged[answer.base_offset] = value
                else:
                    await asyncio.sleep(0.02)

        writing = asyncio.create_task(write())
        for _ in range(3):
            await asyncio.sleep(world.random.random())
            victim = world.leader_of()
            await world.kill(victim)
            await asyncio.sleep(world.random.random() / 2)
            await world.start(victim)
            await world.until(lambda: len(world.image.topics.by_id[TOPIC_ID].partitions[0].isr) == 3)
        await writing
        await world.until(world.in_step)
        values = stored(world, world.leader_of())
        assert all(values[offset] == value for offset, value in acknowledged.items())
        assert len(acknowledged) > 50
        assert stored(world, 1) == stored(world, 2) == stored(world, 3)

    in_cluster(check, seed)


def test_a_follower_that_stops_leaves_the_isr_and_comes_back() -> None:
    async def check(world: World) -> None:
        world.create_topic(min_insync_replicas="2")
        await asyncio.sleep(0.1)
        await world.produce(b"a")
        # Nobody tells the controller: only the leader notices.
        await world.nodes[3].kill()
        waiting = asyncio.create_task(world.produce(b"b", timeout_ms=10_000))
        await asyncio.sleep(0.5)
        assert not waiting.done(), "the third replica is still in the ISR"
        assert (await waiting).error_code == 0
        partition = world.nodes[1].partition()
        assert partition.isr == (1, 2)
        assert world.nodes[1].replicas.cluster.isr_shrinks == 1
        await world.nodes[2].kill()
        answer = await world.produce(b"c", timeout_ms=500)
        assert answer.error_code == ErrorCode.REQUEST_TIMED_OUT
        await world.until(lambda: partition.isr == (1,))
        assert (await world.produce(b"d")).error_code == ErrorCode.NOT_ENOUGH_REPLICAS
        assert partition.log.high_watermark == 2, "below min.insync.replicas nothing is committed"
        await world.start(2)
        await world.start(3)
        await world.until(lambda: set(partition.isr) == {1, 2, 3})
        assert world.nodes[1].replicas.cluster.isr_expands == 2
        await world.until(world.in_step)
        assert (await world.produce(b"e")).error_code == 0
        assert stored(world, 1) == stored(world, 3) == [b"a", b"b", b"c", b"e"]

    in_cluster(check)


def test_an_old_leader_gives_up_what_was_never_committed() -> None:
    async def check(world: World) -> None:
        world.create_topic()
        await asyncio.sleep(0.1)
        await world.produce(b"kept")
        for node_id in (2, 3):
            await world.nodes[node_id].replication.stop()
        assert (await world.produce(b"lost", acks=1)).error_code == 0
        await world.kill(1)
        for node_id in (2, 3):
            node = world.nodes[node_id]
            await node.kill()
            await world.start(node_id)
        await world.until(lambda: world.leader_of() == 2)
        assert (await world.produce(b"new")).error_code == 0
        await world.start(1)
        await world.until(lambda: stored(world, 1) == stored(world, 2) == [b"kept", b"new"])

    in_cluster(check)


def test_waiting_produces_hear_of_a_lost_leadership() -> None:
    async def check(world: World) -> None:
        world.create_topic()
        await asyncio.sleep(0.1)
        for node_id in (2, 3):
            await world.nodes[node_id].replication.stop()
        waiting = asyncio.create_task(world.produce(b"a"))
        await asyncio.sleep(0.1)
        world.change(leader=2)
        assert (await waiting).error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER

    in_cluster(check)


def test_consumers_are_sent_to_their_rack_and_read_what_is_committed_there() -> None:
    async def check(world: World) -> None:
        world.create_topic()
        await asyncio.sleep(0.1)
        for number in range(3):
            await world.produce(b"%d" % number)
        await asyncio.sleep(0.02)
        answer = await world.fetch(1, 1, rack="rack-3")
        assert (answer.preferred_read_replica, bytes(answer.records or b"")) == (3, b"")
        for rack in ("rack-1", "rack-9", ""):
            answer = await world.fetch(1, 1, rack=rack)
            assert answer.preferred_read_replica == -1
            assert answer.records
        answer = await world.fetch(3, 0, rack="rack-3")
        assert (answer.error_code, answer.high_watermark) == (0, 3), "followers hear of commits at once"
        assert [record.value for record in read_records(bytes(answer.records or b""))] == [b"0", b"1", b"2"]
        assert (await world.fetch(3, 0, epoch=1)).error_code == ErrorCode.UNKNOWN_LEADER_EPOCH

    in_cluster(check, replica_selector_class="org.apache.kafka.common.replica.RackAwareReplicaSelector")


def test_a_new_leader_tells_no_latest_offset_before_it_has_committed_its_own() -> None:
    async def check(world: World) -> None:
        world.create_topic()
        await asyncio.sleep(0.1)
        await world.produce(b"a")
        leader = world.nodes[2]
        await world.nodes[3].kill()
        await world.nodes[1].kill()
        leader.partition().log.high_watermark = 0  # as of a follower that had not heard of the last commit
        world.change(leader=2)
        await asyncio.sleep(0.05)

        async def latest() -> Any:
            topic = ListOffsetsTopic(name=TOPIC, partitions=[ListOffsetsPartition(partition_index=0, timestamp=-1)])
            request = ListOffsetsRequest(replica_id=-1, topics=[topic])
            response = await world.client.send((HOST, 9092), request, timeout_ms=1000)
            return response.topics[0].partitions[0]

        assert (await latest()).error_code == ErrorCode.OFFSET_NOT_AVAILABLE
        await world.until(lambda: leader.partition().isr == (2,))
        assert (await latest()).offset == 1

    in_cluster(check)


def test_records_are_deleted_when_all_replicas_have_deleted_them() -> None:
    async def check(world: World) -> None:
        world.create_topic()
        await asyncio.sleep(0.1)
        for number in range(5):
            await world.produce(b"%d" % number)

        async def delete(timeout_ms: int, offset: int) -> Any:
            topic = DeleteRecordsTopic(
                name=TOPIC, partitions=[DeleteRecordsPartition(partition_index=0, offset=offset)]
            )
            request = DeleteRecordsRequest(topics=[topic], timeout_ms=timeout_ms)
            response = await world.client.send((HOST, 9091), request, timeout_ms=10_000)
            return response.topics[0].partitions[0]

        answer = await delete(5000, 3)
        assert (answer.error_code, answer.low_watermark) == (0, 3)
        assert [node.partition().log.log_start_offset for node in world.nodes.values()] == [3, 3, 3]
        await world.nodes[3].replication.stop()
        for number in range(5):
            await world.produce(b"%d" % number, acks=1)
        await world.until(lambda: 3 not in world.nodes[1].partition().isr)
        answer = await delete(300, 6)
        assert (answer.error_code, answer.low_watermark) == (ErrorCode.REQUEST_TIMED_OUT, 3)
        # Who is not alive is not waited for.
        await world.kill(3)
        answer = await delete(5000, 7)
        assert (answer.error_code, answer.low_watermark) == (0, 7)

    in_cluster(check)


def test_a_throttled_replica_takes_its_time() -> None:
    async def check(world: World) -> None:
        world.create_topic()
        await asyncio.sleep(0.1)
        await world.kill(3)
        for _ in range(40):
            await world.produce(b"x" * 10_000)
        world.commit(
            ConfigRecord(resource_type=2, resource_name=TOPIC, name="leader.replication.throttled.replicas", value="*")
        )
        await asyncio.sleep(0.01)
        world.nodes[1].replication.leader_throttle.rate = 20_000
        loop = asyncio.get_running_loop()
        before = loop.time()
        await world.start(3)
        await world.until(lambda: world.nodes[3].partition().log.log_end_offset == 40, 60)
        assert loop.time() - before > 5, "400 kB at 20 kB/s, in portions"
        await world.until(lambda: 3 in world.nodes[1].partition().isr)

    in_cluster(check, replica_fetch_max_bytes=30_000)


def test_a_new_leader_need_not_wait_for_followers_whose_fetches_it_holds() -> None:
    async def check(world: World) -> None:
        world.create_topic(3)
        await asyncio.sleep(0.1)
        loop = asyncio.get_running_loop()
        for index in range(3):
            assert (await world.produce(b"a", index)).error_code == 0
        await asyncio.sleep(0.7)  # all is quiet, every fetch is held back
        await world.kill(1)
        await asyncio.sleep(0.02)
        before = loop.time()
        assert (await world.produce(b"b", 0)).error_code == 0
        assert loop.time() - before < 0.1, "replica.fetch.wait.max.ms is half a second"

    in_cluster(check)


def test_a_replica_that_is_added_catches_up_and_one_that_is_removed_is_gone() -> None:
    async def check(world: World) -> None:
        world.create_topic(replicas=(1, 2))
        await asyncio.sleep(0.1)
        for number in range(20):
            assert (await world.produce(b"%d" % number)).error_code == 0
        world.change(replicas=[1, 2, 3], adding_replicas=[3])
        await world.until(lambda: set(world.nodes[1].partition().isr) == {1, 2, 3})
        await world.until(lambda: stored(world, 3) == stored(world, 1))
        world.change(replicas=[1, 3], isr=[1, 3], adding_replicas=[])
        await asyncio.sleep(0.1)
        assert world.nodes[2].replicas.get(TOPIC, 0) is None
        assert (await world.produce(b"x")).error_code == 0
        assert stored(world, 3)[-1] == b"x"
        assert [len(node.replication.fetched) for node in world.nodes.values()] == [0, 0, 1]

    in_cluster(check)


def test_a_replica_in_another_directory_is_told_of_and_followed_on() -> None:
    async def check(world: World) -> None:
        world.create_topic()
        await asyncio.sleep(0.1)
        for number in range(5):
            await world.produce(b"%d" % number)
        node = world.nodes[2]
        log = node.partition().log
        there = next(
            item for item in node.directories.online if item is not node.directories.directory_of(log.topic_partition)
        )
        node.directories.on_replaced = lambda old, new: (
            node.replicas.replace_log(old, new),
            node.replication.log_moved(new),
        )
        node.directories.moves.begin(log, there)
        await world.until(lambda: node.partition().log is not log)
        await world.until(lambda: world.assigned.get((TOPIC_ID, 200)) == there.directory_id)
        for number in range(5, 10):
            assert (await world.produce(b"%d" % number)).error_code == 0
        assert stored(world, 2) == stored(world, 1)

    in_cluster(check, log_dirs="/data,/more")


def test_a_follower_of_a_quiet_partition_is_in_sync_as_soon_as_it_may_be() -> None:
    async def check(world: World) -> None:
        world.create_topic()
        await asyncio.sleep(0.1)
        await world.kill(3)
        partition = world.nodes[1].partition()
        await world.until(lambda: partition.isr == (1, 2))
        node = world.nodes[3]
        # It runs and follows, but is fenced still: nothing is written, so it is not heard of again.
        await node.start()
        await world.until(lambda: partition.followers.progress[3].end_offset == 0)
        await asyncio.sleep(2)
        assert partition.isr == (1, 2)
        world.commit(BrokerRegistrationChangeRecord(broker_id=3, broker_epoch=node.broker_epoch, fenced=-1))
        await world.until(lambda: partition.isr == (1, 2, 3), seconds=1.0)

    in_cluster(check, replica_lag_time_max_ms=60_000)


def test_a_proposal_that_a_change_of_the_partition_makes_void_is_made_again() -> None:
    async def check(world: World) -> None:
        world.create_topic()
        await asyncio.sleep(0.1)
        await world.kill(3)
        partition = world.nodes[1].partition()
        await world.until(lambda: partition.isr == (1, 2))
        await world.start(3)
        for _ in range(5000):
            if partition.followers.pending is not None:  # for milliseconds: the controller answers soon
                break
            await asyncio.sleep(0.001)
        # Anything about the partition, as where a replica lies.
        world.change(directories=[bytes(15) + b"\7"] * 3)
        await world.until(lambda: partition.isr == (1, 2, 3), seconds=1.0)

    in_cluster(check, replica_lag_time_max_ms=60_000)


def test_a_replica_that_does_not_fetch_is_not_let_in_however_much_it_had() -> None:
    async def check(world: World) -> None:
        world.create_topic()
        await asyncio.sleep(0.1)
        await world.produce(b"a")
        partition = world.nodes[1].partition()
        # Broker 3 lives, but has lost the replica's directory: the controller takes it out of the ISR.
        await world.nodes[3].replication.stop()
        world.change(isr=[1, 2])
        await asyncio.sleep(40)
        assert partition.isr == (1, 2)

    in_cluster(check, replica_lag_time_max_ms=60_000)
