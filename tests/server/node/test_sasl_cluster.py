"""Clusters whose listeners all ask who one is, on the simulated network."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from ottla.admin import ClientQuotaEntity, NewTopic
from ottla.aio import Admin, Consumer, Producer
from ottla.client.errors import AuthenticationError
from ottla.runtime.env import real_env
from ottla.schema.config import BrokerConfig
from ottla.schema.definition import SettingError
from ottla.server.node.node import Node
from ottla.testing.sim.env import START_MS
from tests.simulation.cluster_world import ClusterWorld, Shape, run_world

PLAIN = (
    "org.apache.kafka.common.security.plain.PlainLoginModule required "
    'username="node" password="between nodes" user_node="between nodes" user_alice="secret";'
)
SCRAM = 'org.apache.kafka.common.security.scram.ScramLoginModule required username="node" password="between nodes";'
CREDENTIAL = "SCRAM-SHA-256=[name=node,password=between nodes,salt=c2FsdA==]"
SESSION_MS = 4000


def secured(mechanism: str, **more: object) -> dict[str, object]:
    """All by SASL: at controllers by PLAIN, at brokers by `mechanism`; nobody stays long without logging in again."""
    return {
        "listener.security.protocol.map": "PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "sasl.mechanism.inter.broker.protocol": mechanism,
        "sasl.mechanism.controller.protocol": "PLAIN",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256",
        "listener.name.plaintext.plain.sasl.jaas.config": PLAIN,
        "listener.name.plaintext.scram-sha-256.sasl.jaas.config": SCRAM,
        "listener.name.controller.plain.sasl.jaas.config": PLAIN,
        "connections.max.reauth.ms": SESSION_MS,
        **more,
    }


def alice(world: ClusterWorld, **more: Any) -> dict[str, Any]:
    return {
        "bootstrap_servers": world.bootstrap,
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "sasl_username": "alice",
        "sasl_password": "secret",
        "enable_metrics_push": False,
        **more,
    }


async def records_go_round(world: ClusterWorld) -> None:
    """For several sessions a producer and a consumer work, and so does everything between nodes."""
    async with Producer(**alice(world, delivery_timeout_ms=60_000)) as producer:
        producer._engine.accumulator.time = lambda: START_MS / 1000 + world.now()
        for number in range(60):
            delivery = await producer.send("t", b"%d" % number, timestamp_ms=START_MS)
            await delivery
            await asyncio.sleep(0.2)
    seen: list[bytes] = []
    async with Consumer(**alice(world, topics=["t"], group_id="g", auto_offset_reset="earliest")) as consumer:
        while len(seen) < 60:
            seen += [record.value for record in await consumer.poll(timeout_s=1)]
    assert sorted(seen, key=int) == [b"%d" % number for number in range(60)]


@pytest.mark.parametrize(
    "shape",
    [
        Shape(brokers=3, settings=secured("PLAIN")),
        Shape(brokers=3, controllers=3, settings=secured("SCRAM-SHA-256"), scram=(CREDENTIAL,)),
    ],
    ids=["together by PLAIN", "apart by SCRAM"],
)
def test_three_nodes_that_ask_everybody(shape: Shape) -> None:
    async def scenario(world: ClusterWorld) -> None:
        async with Admin(**alice(world)) as admin:
            await admin.create_topics(NewTopic("t", 3))
        await records_go_round(world)
        listeners = [one for machine in world.brokers for one in machine.node.listeners]  # type: ignore[union-attr]
        assert sum(listener.logins.reauthenticated for listener in listeners) > 5
        assert all(listener.logins.expired == listener.logins.failed == 0 for listener in listeners)
        with pytest.raises(AuthenticationError, match="Invalid username or password"):
            async with Admin(**alice(world, sasl_password="wrong")) as admin:
                await admin.list_topics()

    run_world(scenario, seed=1, shape=shape, shuffle=True)


def test_quotas_of_a_user_are_for_who_logs_in_as_it() -> None:
    async def seconds_of_a_megabyte(world: ClusterWorld, user: str) -> float:
        names = alice(world, sasl_username=user, sasl_password="secret", batch_size=100_000)
        begin = world.now()
        async with Producer(**names) as producer:
            producer._engine.accumulator.time = lambda: START_MS / 1000 + world.now()
            for _ in range(10):
                await (await producer.send("t", bytes(90_000), timestamp_ms=START_MS))
        return world.now() - begin

    async def scenario(world: ClusterWorld) -> None:
        async with Admin(**alice(world)) as admin:
            await admin.create_topics(NewTopic("t", 1))
            await admin.alter_client_quotas({ClientQuotaEntity(user="bob"): {"producer_byte_rate": 20_000}})
        assert await seconds_of_a_megabyte(world, "alice") < 5
        assert await seconds_of_a_megabyte(world, "bob") > 15

    jaas = PLAIN.replace(";", ' user_bob="secret";')
    settings = secured("PLAIN", **{"listener.name.plaintext.plain.sasl.jaas.config": jaas})
    run_world(scenario, seed=1, shape=Shape(brokers=1, settings=settings))


def test_a_node_that_is_not_let_in_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody is told the password, and the others go on."""

    async def scenario(world: ClusterWorld) -> None:
        stranger, other = world.machines[3], world.machines[1]
        await stranger.stop()
        wrong = PLAIN.replace('password="between nodes"', 'password="geheim"')
        stranger.own_settings = {"listener.name.controller.plain.sasl.jaas.config": wrong}
        with caplog.at_level("WARNING", "ottla.server.peers"):
            stranger.start()
            await asyncio.sleep(20)
            lines = [record.getMessage() for record in caplog.records if record.name == "ottla.server.peers.peers"]
        stranger.kill()
        assert any(
            "does not let this node in: Authentication failed: Invalid username or password. (See username in "
            "listener.name.controller.plain.sasl.jaas.config.)" in line
            for line in lines
        )
        assert len(lines) <= 2, "once for each of the others"
        assert not any("geheim" in line for line in lines)
        assert sum(listener.logins.failed for listener in other.node.controller_listeners) > 0  # type: ignore[union-attr]
        async with Admin(**alice(world)) as admin:
            await admin.create_topics(NewTopic("t", 1))

    run_world(scenario, seed=1, shape=Shape(brokers=3, settings=secured("PLAIN")), shuffle=True)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"sasl.enabled.mechanisms": "SCRAM-SHA-256"}, "nodes log in at PLAINTEXT with PLAIN, but only SCRAM-SHA-256"),
        (
            {"listener.name.controller.sasl.enabled.mechanisms": "SCRAM-SHA-256"},
            "nodes log in at CONTROLLER with PLAIN",
        ),
        ({"super.users": "admin"}, "'admin' is not a principal"),
        ({"authorizer.class.name": "kafka.security.authorizer.AclAuthorizer"}, "was removed with ZooKeeper"),
    ],
)
def test_what_a_node_of_a_cluster_does_not_start_with(wrong: dict[str, str], told: str, tmp_path: Path) -> None:
    """One line says it, although the node knows nobody yet whom it could see off."""
    settings = secured("PLAIN") | {
        "node.id": 1,
        "cluster.id": "AAAAAAAAAAAAAAAAAAAAAA",
        "listeners": "PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.voters": "1@127.0.0.1:1,2@127.0.0.1:2",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "log.dirs": str(tmp_path),
    }

    async def main() -> str:
        node = Node(BrokerConfig.of({name: str(value) for name, value in (settings | wrong).items()}), real_env())
        with pytest.raises(SettingError) as caught:
            await node.start()
        await node.stop()
        return str(caught.value)

    assert told in asyncio.run(main())
