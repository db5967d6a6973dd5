"""Clusters with an authorizer: every node decides by the same rules, controllers again in the name of the client."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ottla.admin import AclBinding, AclFilter, AclOperation, AclPatternType, AclResourceType, NewTopic
from ottla.aio import Admin, Producer
from ottla.client.errors import KafkaError
from ottla.core.errors import ErrorCode
from ottla.server.security.standard_authorizer import STANDARD_AUTHORIZER
from ottla.testing.sim.env import START_MS
from tests.server.node.test_sasl_cluster import alice, secured
from tests.simulation.cluster_world import ClusterWorld, Shape, run_world

SETTINGS = secured("PLAIN", **{"authorizer.class.name": STANDARD_AUTHORIZER, "super.users": "User:node"})
SHAPES = [Shape(brokers=3, settings=SETTINGS), Shape(brokers=3, controllers=3, settings=SETTINGS)]
BOTH = pytest.mark.parametrize("shape", SHAPES, ids=["together", "apart"])

CREATES = AclBinding(
    AclResourceType.TOPIC, "alice-", "User:alice", AclOperation.CREATE, pattern_type=AclPatternType.PREFIXED
)
WRITES = CREATES._replace(operation=AclOperation.WRITE)


@asynccontextmanager
async def administrator(world: ClusterWorld) -> Any:
    async with Admin(**alice(world, sasl_username="node", sasl_password="between nodes")) as admin:
        yield admin


async def refusal(work: Any) -> int:
    """The code that a call is refused with; 0 when it is not."""
    try:
        await work
    except KafkaError as error:
        return int(error.code or 0)
    except ExceptionGroup as errors:
        return int(errors.exceptions[0].code or 0)  # type: ignore[attr-defined]
    return 0


async def until_known(world: ClusterWorld, count: int) -> None:
    """Wait until every node has so many rules."""
    while any(len(machine.node.broker.image.acls) != count for machine in world.machines.values()):  # type: ignore[union-attr] # noqa: ASYNC110
        await asyncio.sleep(0.05)


@BOTH
def test_rules_count_on_every_node(shape: Shape) -> None:
    async def scenario(world: ClusterWorld) -> None:
        denied = ErrorCode.TOPIC_AUTHORIZATION_FAILED
        async with Admin(**alice(world)) as mine, administrator(world) as admin:
            assert await refusal(mine.create_topics(NewTopic("alice-1", 1))) == denied
            await admin.create_acls([CREATES, WRITES])
            await until_known(world, 2)
            assert await refusal(mine.create_topics(NewTopic("alice-1", 3, 3))) == 0
            assert await refusal(mine.create_topics(NewTopic("bob-1", 1))) == denied
            assert await refusal(mine.create_acls(CREATES)) == ErrorCode.CLUSTER_AUTHORIZATION_FAILED
            async with Producer(**alice(world, acks="all")) as producer:
                producer._engine.accumulator.time = lambda: START_MS / 1000 + world.now()
                for _ in range(20):
                    await (await producer.send("alice-1", b"value", timestamp_ms=START_MS))
            await admin.delete_acls(AclFilter(operation=AclOperation.CREATE))
            await until_known(world, 1)
            assert await refusal(mine.create_topics(NewTopic("alice-2", 1))) == denied

    run_world(scenario, seed=3, shape=shape, shuffle=True)


def test_a_controller_decides_again_and_knows_the_groups_of_the_client() -> None:
    """Brokers here let everything through that no rule is about; what is forwarded is denied by the controllers."""

    async def scenario(world: ClusterWorld) -> None:
        async with Admin(**alice(world)) as mine, administrator(world) as admin:
            for machine in world.brokers:
                machine.node.broker.authorizer._allowed_without_acls = True  # type: ignore[union-attr]
            assert await refusal(mine.create_topics(NewTopic("alice-1", 1))) == ErrorCode.TOPIC_AUTHORIZATION_FAILED
            await admin.create_acls(CREATES._replace(principal="Group:staff"))
            await until_known(world, 1)
            assert await refusal(mine.create_topics(NewTopic("alice-1", 1))) == ErrorCode.TOPIC_AUTHORIZATION_FAILED
            for machine in world.brokers:
                for router in machine.node._front._routers:  # type: ignore[union-attr]
                    router.intercept(_as_staff)
            assert await refusal(mine.create_topics(NewTopic("alice-1", 1))) == 0
            assert await refusal(mine.create_topics(NewTopic("bob-1", 1))) == ErrorCode.TOPIC_AUTHORIZATION_FAILED

    run_world(scenario, seed=4, shape=SHAPES[1], shuffle=True)


def _as_staff(route: Any, handle: Any, broker: Any, request: Any, context: Any) -> Any:
    if context.session is not None:
        context.session = context.session._replace(groups=("staff",))
    return handle(broker, request, context)
