"""A broker whose process ends is fenced when its connection breaks; one that falls silent has its whole session."""

from __future__ import annotations

import asyncio

import pytest

from ottla.protocol.messages.create_topics import CreateTopicsResponse
from tests.server.node.test_three_nodes import active, everybody_knows, new_topic, until
from tests.server.node.test_three_nodes import client as make_client
from tests.simulation.cluster_world import ClusterWorld, Machine, Shape, run_world

SESSION_S = 20.0
SHAPE = Shape(brokers=3, settings={"broker.session.timeout.ms": int(SESSION_S * 1000)})
APART = Shape(brokers=3, controllers=3, settings=SHAPE.settings)
BOTH = pytest.mark.parametrize("shape", [SHAPE, APART], ids=["together", "apart"])


def is_fenced(world: ClusterWorld, broker_id: int) -> bool:
    leading = active(world)
    if leading is None or leading.node is None:
        return False
    broker = leading.node.broker.image.brokers.get(broker_id)
    return broker is not None and broker.fenced


def follower(world: ClusterWorld) -> Machine:
    leading = active(world)
    return next(machine for machine in world.brokers if machine is not leading)


async def ready(world: ClusterWorld) -> None:
    await make_client(world).ask_at(world.brokers[0].address, new_topic("t"), 7, CreateTopicsResponse)
    await until(everybody_knows(world, "t"))


@BOTH
def test_a_killed_broker_is_fenced_at_once_and_may_come_back_at_once(shape: Shape) -> None:
    async def scenario(world: ClusterWorld) -> None:
        await ready(world)
        victim = follower(world)
        victim.kill()
        await until(lambda: is_fenced(world, victim.node_id), 2.0)
        victim.start()
        await victim.wait_up(SESSION_S / 2)
        assert not is_fenced(world, victim.node_id)

    run_world(scenario, seed=1, shape=shape)


@BOTH
def test_a_frozen_broker_is_fenced_when_its_session_is_over(shape: Shape) -> None:
    async def scenario(world: ClusterWorld) -> None:
        await ready(world)
        victim = follower(world)
        victim.freeze()
        await asyncio.sleep(SESSION_S / 2)
        assert not is_fenced(world, victim.node_id)
        await until(lambda: is_fenced(world, victim.node_id), SESSION_S)
        victim.thaw()
        await until(lambda: not is_fenced(world, victim.node_id))

    run_world(scenario, seed=2, shape=shape)


def test_a_new_controller_looks_after_the_broker_that_died_with_the_old_one() -> None:
    async def scenario(world: ClusterWorld) -> None:
        await ready(world)
        victim = active(world)
        assert victim is not None
        victim.kill()
        await until(lambda: is_fenced(world, victim.node_id), SESSION_S / 2)
        victim.start()
        await victim.wait_up(SESSION_S / 2)

    run_world(scenario, seed=3, shape=SHAPE)


def test_a_broker_that_stops_in_order_waits_for_no_heartbeat_of_others() -> None:
    interval_s = 30.0
    settings = {"broker.heartbeat.interval.ms": int(interval_s * 1000), "broker.session.timeout.ms": 90_000}

    async def scenario(world: ClusterWorld) -> None:
        await ready(world)
        began = world.now()
        await follower(world).stop()
        assert world.now() - began < interval_s / 10

    run_world(scenario, seed=4, shape=Shape(brokers=3, settings=settings))
