"""Three brokers on the simulated network, controllers in them or apart: whichever is asked, the cluster answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from ottla.aio import Producer
from ottla.core.errors import ErrorCode
from ottla.protocol.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopic,
)
from ottla.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from ottla.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse
from ottla.protocol.messages.describe_cluster import DescribeClusterRequest, DescribeClusterResponse
from ottla.protocol.messages.describe_quorum import (
    DescribeQuorumRequest,
    DescribeQuorumRequestPartitionData,
    DescribeQuorumRequestTopicData,
    DescribeQuorumResponse,
)
from ottla.protocol.messages.elect_leaders import ElectLeadersRequest, ElectLeadersResponse
from ottla.protocol.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from ottla.protocol.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)
from ottla.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from ottla.protocol.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
)
from ottla.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from ottla.testing.sim.env import START_MS
from tests.simulation.cluster_client import ClusterClient
from tests.simulation.cluster_world import ClusterWorld, Machine, Shape, run_world
from tests.simulation.workloads.client import BrokenError

Scenario = Callable[[ClusterWorld], Coroutine[Any, Any, None]]


TOGETHER, APART = Shape(brokers=3), Shape(brokers=3, controllers=3)
BOTH = pytest.mark.parametrize("shape", [TOGETHER, APART], ids=["together", "apart"])


def run(scenario: Scenario, *, shape: Shape = TOGETHER, seeds: int = 1) -> None:
    for seed in range(seeds):
        run_world(scenario, seed=seed, shape=shape, shuffle=True)


def client(world: ClusterWorld, name: str = "client") -> ClusterClient:
    return ClusterClient(world, name)


def active(world: ClusterWorld) -> Machine | None:
    """The machine with the active controller."""
    for machine in world.controllers:
        if machine.node is not None and machine.node.broker.controller.is_active:
            return machine
    return None


async def until(condition: Callable[[], bool], patience_s: float = 30.0) -> None:
    deadline = asyncio.get_running_loop().time() + patience_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.02)


def everybody_knows(world: ClusterWorld, *topics: str) -> Callable[[], bool]:
    def condition() -> bool:
        return all(
            topic in machine.node.broker.image.topics.by_name
            for machine in world.brokers
            if machine.node is not None
            for topic in topics
        )

    return condition


def new_topic(name: str, partitions: int = 3) -> CreateTopicsRequest:
    return CreateTopicsRequest(topics=[CreatableTopic(name=name, num_partitions=partitions, replication_factor=3)])


# What is for the controller


@BOTH
def test_whichever_node_is_asked_the_active_controller_decides(shape: Shape) -> None:
    async def scenario(world: ClusterWorld) -> None:
        asking = client(world)
        for machine in world.brokers:
            at, name = machine.address, f"t{machine.node_id}"
            made = await asking.ask_at(at, new_topic(name), 7, CreateTopicsResponse)
            assert made.topics[0].error_code == 0, made
            again = await asking.ask_at(at, new_topic(name), 7, CreateTopicsResponse)
            assert again.topics[0].error_code == ErrorCode.TOPIC_ALREADY_EXISTS
            await until(everybody_knows(world, name))
            more = CreatePartitionsRequest(topics=[CreatePartitionsTopic(name=name, count=5, assignments=None)])
            assert (await asking.ask_at(at, more, 3, CreatePartitionsResponse)).results[0].error_code == 0
            changed = await asking.ask_at(at, alter(name), 1, IncrementalAlterConfigsResponse)
            assert changed.responses[0].error_code == 0
            elected = await asking.ask_at(
                at, ElectLeadersRequest(topic_partitions=None, timeout_ms=5000), 2, ElectLeadersResponse
            )
            assert elected.error_code == 0
            moves = await asking.ask_at(
                at, ListPartitionReassignmentsRequest(topics=None), 0, ListPartitionReassignmentsResponse
            )
            assert (moves.error_code, moves.topics) == (0, [])
            quorum = await asking.ask_at(at, quorum_request(), 2, DescribeQuorumResponse)
            leading = active(world)
            assert leading is not None
            partition = quorum.topics[0].partitions[0]
            assert (partition.error_code, partition.leader_id) == (0, leading.node_id)
            voters = sorted(voter.replica_id for voter in partition.current_voters)
            assert voters == [machine.node_id for machine in world.controllers]
        for machine in world.brokers:
            gone = DeleteTopicsRequest(topic_names=[f"t{machine.node_id}"], timeout_ms=5000)
            answer = await asking.ask_at(machine.address, gone, 5, DeleteTopicsResponse)
            assert answer.responses[0].error_code == 0

    run(scenario, shape=shape)


def alter(topic: str) -> IncrementalAlterConfigsRequest:
    setting = AlterableConfig(name="retention.ms", config_operation=0, value="777000")
    return IncrementalAlterConfigsRequest(
        resources=[AlterConfigsResource(resource_type=2, resource_name=topic, configs=[setting])]
    )


def quorum_request() -> DescribeQuorumRequest:
    partition = DescribeQuorumRequestPartitionData(partition_index=0)
    return DescribeQuorumRequest(
        topics=[DescribeQuorumRequestTopicData(topic_name="__cluster_metadata", partitions=[partition])]
    )


def test_request_under_way_when_the_controller_dies_is_answered_by_the_next() -> None:
    async def scenario(world: ClusterWorld) -> None:
        await until(lambda: active(world) is not None)
        leading = active(world)
        assert leading is not None
        others = [machine for machine in world.brokers if machine is not leading]
        asking = [
            asyncio.ensure_future(
                client(world, f"c{number}").ask_at(
                    others[number % 2].address, new_topic(f"t{number}"), 7, CreateTopicsResponse
                )
            )
            for number in range(6)
        ]
        await asyncio.sleep(0.003)
        leading.kill()
        for number, made in enumerate(await asyncio.gather(*asking)):
            # The one that died may have made it, and not have said so.
            assert made.topics[0].error_code in (
                0,
                ErrorCode.TOPIC_ALREADY_EXISTS,
                ErrorCode.INVALID_REPLICATION_FACTOR,
            ), number
        leading.start()
        await leading.wait_up()

    run(scenario, seeds=2)


# Topics that nobody made


@BOTH
def test_topics_named_for_the_first_time_are_made_by_whoever_is_asked(shape: Shape) -> None:
    async def scenario(world: ClusterWorld) -> None:
        asking = client(world)
        for machine in world.brokers:
            name = f"auto-{machine.node_id}"
            request = MetadataRequest(topics=[MetadataRequestTopic(name=name)], allow_auto_topic_creation=True)
            response = await asking.ask_at(machine.address, request, 12, MetadataResponse)
            (topic,) = response.topics
            assert (topic.error_code, topic.name) == (0, name), topic
            assert all(len(partition.replica_nodes) == 3 for partition in topic.partitions)
            assert all(partition.leader_id in (1, 2, 3) for partition in topic.partitions)

    run(scenario, shape=shape)


def test_coordinators_are_found_and_their_topics_made_from_any_node() -> None:
    async def scenario(world: ClusterWorld) -> None:
        asking = client(world)
        request = FindCoordinatorRequest(key_type=0, coordinator_keys=["g"])
        found = set()
        for machine in world.brokers:
            while True:
                response = await asking.ask_at(machine.address, request, 4, FindCoordinatorResponse)
                if not response.coordinators[0].error_code:
                    break
                assert response.coordinators[0].error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
                await asyncio.sleep(0.05)
            found.add((response.coordinators[0].node_id, response.coordinators[0].port))
        assert len(found) == 1, "one coordinator, whoever is asked"
        offsets = world.brokers[0].node.broker.image.topics.by_name["__consumer_offsets"]  # type: ignore[union-attr]
        assert all(len(partition.replicas) == 3 for partition in offsets.partitions.values())

    run(scenario)


# Producer ids


@BOTH
@pytest.mark.parametrize("dies", [False, True])
def test_no_two_producers_get_the_same_id(dies: bool, shape: Shape) -> None:
    async def scenario(world: ClusterWorld) -> None:
        given: list[int] = []

        async def take(machine: Machine, count: int) -> None:
            asking = client(world, f"producers of {machine}")
            while count:
                try:
                    answer = await asking.ask_at(
                        machine.address, InitProducerIdRequest(transactional_id=None), 4, InitProducerIdResponse
                    )
                except BrokenError:
                    await asyncio.sleep(0.2)
                    continue
                if answer.error_code:
                    assert answer.error_code == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
                    await asyncio.sleep(0.05)
                    continue
                given.append(answer.producer_id)
                count -= 1

        taking = [asyncio.ensure_future(take(machine, 700)) for machine in world.brokers]
        if dies:
            await until(lambda: len(given) > 600)
            leading = active(world)
            assert leading is not None
            leading.kill()
            await asyncio.sleep(2)
            leading.start()
        await asyncio.gather(*taking)
        assert len(given) == len(set(given)) == 2100

    run(scenario, shape=shape)


# What clients are told


@BOTH
def test_all_nodes_describe_the_same_cluster(shape: Shape) -> None:
    async def scenario(world: ClusterWorld) -> None:
        asking = client(world)
        await asking.ask_at(world.brokers[0].address, new_topic("t", 6), 7, CreateTopicsResponse)
        await until(everybody_knows(world, "t"))
        await asyncio.sleep(1)
        leading = active(world)
        assert leading is not None
        told = []
        for machine in world.brokers:
            request = MetadataRequest(topics=[MetadataRequestTopic(name="t")])
            response = await asking.ask_at(machine.address, request, 12, MetadataResponse)
            assert {(one.node_id, one.host, one.port) for one in response.brokers} == {
                (one.node_id, *one.address) for one in world.brokers
            }
            named = leading.node_id if leading.is_broker else machine.node_id
            assert response.controller_id == named, "the active controller's node, if it is a broker"
            (topic,) = response.topics
            told.append([(one.partition_index, one.leader_id, one.replica_nodes) for one in topic.partitions])
            assert not any(one.error_code or one.offline_replicas for one in topic.partitions)
            described = await asking.ask_at(machine.address, DescribeClusterRequest(), 2, DescribeClusterResponse)
            assert (described.controller_id, len(described.brokers)) == (named, 3)
            assert described.cluster_id == world.cluster_id
        for machine in world.controllers:
            controllers = await asking.ask_at(
                machine.controller_address, DescribeClusterRequest(endpoint_type=2), 2, DescribeClusterResponse
            )
            assert {(one.broker_id, one.port) for one in controllers.brokers} == {
                (one.node_id, one.controller_address[1]) for one in world.controllers
            }
            assert controllers.controller_id == leading.node_id
        assert told[0] == told[1] == told[2]
        assert {leader for _, leader, _ in told[0]} == {1, 2, 3}

    run(scenario, shape=shape)


def test_broker_that_is_gone_is_not_named_until_it_is_back() -> None:
    async def scenario(world: ClusterWorld) -> None:
        asking = client(world)
        await asking.ask_at(world.brokers[0].address, new_topic("t", 6), 7, CreateTopicsResponse)
        await until(everybody_knows(world, "t"))
        await until(lambda: active(world) is not None)
        gone = next(machine for machine in world.brokers if machine is not active(world))
        gone.kill()
        rest = [machine for machine in world.brokers if machine is not gone]

        async def brokers_told() -> list[set[int]]:
            told = []
            for machine in rest:
                request = MetadataRequest(topics=[MetadataRequestTopic(name="t")])
                response = await asking.ask_at(machine.address, request, 12, MetadataResponse)
                told.append({one.node_id for one in response.brokers})
                if gone.node_id not in told[-1]:
                    for partition in response.topics[0].partitions:
                        assert partition.leader_id != gone.node_id
                        assert partition.offline_replicas == [gone.node_id]
                        assert partition.error_code == 0
            return told

        for _ in range(100):
            await asyncio.sleep(0.2)
            if all(gone.node_id not in told for told in await brokers_told()):
                break
        else:
            pytest.fail("it is still named")
        gone.start()
        await gone.wait_up()
        for _ in range(100):
            await asyncio.sleep(0.2)
            if all(gone.node_id in told for told in await brokers_told()):
                break
        else:
            pytest.fail("it is not named")

    run(scenario)


# Controlled shutdown


def test_broker_that_stops_in_order_leaves_an_idempotent_producer_without_an_error() -> None:
    async def scenario(world: ClusterWorld) -> None:
        asking = client(world)
        await asking.ask_at(world.brokers[0].address, new_topic("t", 6), 7, CreateTopicsResponse)
        await until(everybody_knows(world, "t"))
        settings = {
            "linger.ms": 5,
            "request.timeout.ms": 5000,
            "delivery.timeout.ms": 30_000,
            "enable.metrics.push": False,
        }
        producer: Producer[Any, Any] = Producer(world.bootstrap, settings)
        producer._engine.accumulator.time = lambda: START_MS / 1000 + world.now()
        deliveries: list[asyncio.Future[Any]] = []
        is_over = False

        async def produce() -> None:
            number = 0
            while not is_over:
                deliveries.append(await producer.send("t", b"%d" % number, partition=number % 6))
                number += 1
                await asyncio.sleep(0.02)

        producing = asyncio.ensure_future(produce())
        await asyncio.sleep(2)
        for machine in world.brokers:
            await machine.stop()
            image = next(one for one in world.brokers if one is not machine).node.broker.image  # type: ignore[union-attr]
            leaders = {partition.leader for partition in image.topics.by_name["t"].partitions.values()}
            assert machine.node_id not in leaders
            assert -1 not in leaders
            await asyncio.sleep(0.3)
            machine.start()
            await machine.wait_up()
            await asyncio.sleep(1.5)
        is_over = True
        await producing
        outcomes = await asyncio.gather(*deliveries, return_exceptions=True)
        assert not [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        places = [(outcome.partition, outcome.offset) for outcome in outcomes]  # type: ignore[union-attr]
        assert len(set(places)) == len(places) > 300
        for partition in range(6):
            offsets = [offset for where, offset in places if where == partition]
            assert offsets == list(range(len(offsets))), "nothing lost, nothing twice, nothing out of order"
        await producer.close()

    run(scenario)
