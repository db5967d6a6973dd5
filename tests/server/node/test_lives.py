"""Nodes of a cluster that start and stop, on simulated machines: in which order, for how long, and what they leave."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from ottla.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from ottla.runtime.memory_disk import MemoryDisk
from ottla.schema.config import BrokerConfig
from ottla.server.log.errors import LogError
from ottla.server.node.membership import check_formatted
from tests.simulation.cluster_client import ClusterClient
from tests.simulation.cluster_world import ClusterWorld, Machine, Shape, run_world

LAPTOP = Shape(brokers=3)
SEPARATE = Shape(brokers=3, controllers=3)


def is_clean(machine: Machine) -> bool:
    """Whether the machine's broker has left in order, all it had on the disk."""
    return machine.disk.exists("/data/.kafka_cleanshutdown")


async def make_topic(world: ClusterWorld, name: str) -> None:
    topic = CreatableTopic(name=name, num_partitions=6, replication_factor=3)
    asked = await ClusterClient(world, "maker").ask(CreateTopicsRequest(topics=[topic]), 7, CreateTopicsResponse)
    assert asked.topics[0].error_code == 0


async def stop(machines: Iterable[Machine]) -> None:
    await asyncio.gather(*(machine.stop() for machine in machines))


@pytest.mark.parametrize("shape", [LAPTOP, SEPARATE])
def test_nodes_that_are_formatted_together_become_a_cluster(shape: Shape) -> None:
    async def scenario(world: ClusterWorld) -> None:
        await make_topic(world, "orders")
        for machine in world.machines.values():
            node = machine.node
            assert node is not None
            assert bool(node.listeners) == machine.is_broker
            assert bool(node.controller_listeners) == machine.is_controller
            await node.broker.metadata.wait_for(world.controllers[0].node.broker.metadata.offset)  # type: ignore[union-attr]
            assert sorted(node.broker.image.brokers) == [1, 2, 3]
            assert not any(broker.fenced for broker in node.broker.image.brokers.values())

    run_world(scenario, seed=1, shape=shape)


@pytest.mark.parametrize("shape", [LAPTOP, SEPARATE])
def test_nodes_that_stop_all_at_once_leave_in_order(shape: Shape) -> None:
    async def scenario(world: ClusterWorld) -> None:
        await make_topic(world, "orders")
        began_s = world.now()
        await stop(world.machines.values())
        assert world.now() - began_s < 15
        assert all(is_clean(machine) for machine in world.brokers)
        for machine in world.machines.values():
            machine.start()
        for machine in world.machines.values():
            await machine.wait_up()

    run_world(scenario, seed=2, shape=shape)


def test_the_last_node_does_not_wait_long_for_a_quorum_that_is_gone() -> None:
    async def scenario(world: ClusterWorld) -> None:
        first, *others = world.brokers
        for machine in others:
            machine.kill()
        began_s = world.now()
        await first.stop()
        assert world.now() - began_s < 15
        for machine in world.brokers:
            machine.start()
        for machine in world.brokers:
            await machine.wait_up()

    run_world(scenario, seed=3, shape=LAPTOP)


def test_a_node_that_stops_while_it_waits_for_its_cluster_stops_at_once() -> None:
    async def scenario(world: ClusterWorld) -> None:
        for machine in world.brokers:
            machine.kill()
        lonely = world.brokers[0]
        lonely.start()
        await asyncio.sleep(5)
        assert lonely.node is None  # it has not started: nobody answers
        await lonely.stop()
        for machine in world.brokers:
            machine.start()
        for machine in world.brokers:
            await machine.wait_up()

    run_world(scenario, seed=4, shape=LAPTOP)


def test_leaders_are_handed_over_before_a_node_ends() -> None:
    async def scenario(world: ClusterWorld) -> None:
        await make_topic(world, "orders")
        leaving, staying, _ = world.brokers
        await leaving.stop()
        assert staying.node is not None
        await asyncio.sleep(1)
        leaders = {placed.leader for placed in staying.node.broker.image.topics.by_name["orders"].partitions.values()}
        assert leaving.node_id not in leaders
        assert -1 not in leaders
        leaving.start()
        await leaving.wait_up()

    run_world(scenario, seed=5, shape=LAPTOP)


CLUSTER = {
    "node.id": "1",
    "log.dirs": "/data",
    "controller.listener.names": "CONTROLLER",
    "controller.quorum.voters": "1@one:9093,2@two:9093",
}
ID = "4L6g3nShT-eMCtK--X86sw"


@pytest.mark.parametrize(
    ("settings", "begins"),
    [
        ({"process.roles": "controller", "listeners": "CONTROLLER://:9093"}, False),
        ({"process.roles": "controller", "listeners": "CONTROLLER://:9093", "cluster.id": ID}, True),
        (
            {
                "process.roles": "controller",
                "listeners": "CONTROLLER://:9093",
                "controller.quorum.voters": "",
                "controller.quorum.bootstrap.servers": "one:9093,two:9093",
                "cluster.id": ID,
            },
            False,
        ),
        ({"process.roles": "broker", "node.id": "3"}, False),
        ({"process.roles": "broker", "node.id": "3", "cluster.id": ID}, True),
    ],
)
def test_a_node_of_a_cluster_begins_a_directory_only_when_nothing_has_to_be_agreed_on(settings, begins) -> None:
    given = {name: value for name, value in (CLUSTER | settings).items() if value}
    config, disk = BrokerConfig.of(given), MemoryDisk()
    if begins:
        check_formatted(config, disk)
    else:
        with pytest.raises(LogError, match="/data is not formatted, and this node belongs to a cluster"):
            check_formatted(config, disk)
