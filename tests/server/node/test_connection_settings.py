"""Limits of connections that change while a node runs, and the listener that brokers use among each other."""

from __future__ import annotations

import asyncio

import pytest

from ottla.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from ottla.schema.config import BrokerConfig
from ottla.server.controller.configs import SET, Change
from ottla.server.metadata.image import ConfigResourceType
from ottla.server.node.node import Node
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.simulation.wire_client import WireClient

CLIENTS, BROKERS = "127.0.0.1:9092", "127.0.0.1:9093"
TWO_LISTENERS: dict[str, object] = {
    "log.dirs": "/data",
    "listeners": f"CLIENTS://{CLIENTS},BROKERS://{BROKERS}",
    "listener.security.protocol.map": "CLIENTS:PLAINTEXT,BROKERS:PLAINTEXT",
    "inter.broker.listener.name": "BROKERS",
}
ONE_LISTENER: dict[str, object] = {"log.dirs": "/data", "listeners": f"PLAINTEXT://{CLIENTS}"}
PING = ApiVersionsRequest(client_software_name="test", client_software_version="1")


async def connect(address: str = CLIENTS) -> WireClient:
    host, _, port = address.rpartition(":")
    return WireClient(*await asyncio.open_connection(host, int(port)))


async def is_served(client: WireClient) -> bool:
    try:
        await asyncio.wait_for(client.ask(PING, 3, ApiVersionsResponse), 1)
    except TimeoutError:
        return False
    return True


async def change(node: Node, setting: str, value: str) -> None:
    resource = (int(ConfigResourceType.BROKER), "")
    [answer] = await node.broker.controller.alter_configs([(resource, [Change(setting, SET, value)])])
    assert not answer.code, answer


async def end(node: Node, *clients: WireClient) -> None:
    for client in clients:
        client._writer.close()
    await node.stop()


def test_raising_the_limit_lets_waiting_connections_in_and_lowering_it_closes_the_idlest(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main(env: SimulatedEnv) -> None:
        node = Node(BrokerConfig.of({**ONE_LISTENER, "max.connections": 1}), env)
        await node.start()
        first, second, third = await connect(), await connect(), await connect()
        assert [await is_served(one) for one in (first, second)] == [True, False]
        await change(node, "max.connections", "3")
        assert await is_served(third)
        [listener] = node.listeners
        for connection in listener.connections:
            connection.active = False
        # The answers of the second that were late are on their way; the third is used last.
        await asyncio.sleep(1)
        for idle, connection in zip((1.0, 2.0, 3.0), sorted(listener.connections, key=id), strict=True):
            connection.idle_since = idle
        idlest = min(listener.connections, key=lambda one: one.idle_since)
        await change(node, "max.connections", "2")
        await asyncio.sleep(1)
        assert idlest not in listener.connections
        assert len(listener.connections) == listener.limits.shared.total == 2
        assert listener.limits.shared.closing == 0
        await end(node, first, second, third)

    simulate(main, seed=1)
    messages = [record.getMessage() for record in caplog.records]
    assert len([text for text in messages if "has no room" in text]) == 1, "said once, not for every connection"


def test_other_limits_change_at_run_time_too() -> None:
    async def main(env: SimulatedEnv) -> None:
        node = Node(BrokerConfig.of(ONE_LISTENER), env)
        await node.start()
        first = await connect()
        await change(node, "max.connections.per.ip", "1")
        with pytest.raises((OSError, asyncio.IncompleteReadError)):
            await is_served(await connect())
        await change(node, "max.connections.per.ip.overrides", "127.0.0.1:2")
        second = await connect()
        assert await is_served(second)
        await end(node, first, second)

    simulate(main, seed=2)


def test_connections_of_brokers_push_idle_clients_out() -> None:
    async def main(env: SimulatedEnv) -> None:
        node = Node(BrokerConfig.of({**TWO_LISTENERS, "max.connections": 2}), env)
        await node.start()
        clients = [await connect(CLIENTS) for _ in range(2)]
        assert [await is_served(one) for one in clients] == [True, True]
        broker = await connect(BROKERS)
        assert await is_served(broker)
        await asyncio.sleep(0.1)
        by_name = {listener.name: len(listener.connections) for listener in node.listeners}
        assert by_name == {"CLIENTS": 1, "BROKERS": 1}
        await end(node, broker, *clients)

    simulate(main, seed=3)


def test_a_rate_makes_new_connections_wait() -> None:
    async def main(env: SimulatedEnv) -> None:
        loop = asyncio.get_running_loop()
        node = Node(BrokerConfig.of({**ONE_LISTENER, "max.connection.creation.rate": 5}), env)
        await node.start()
        clients = []
        order: list[int] = []

        async def served(number: int, client: WireClient) -> None:
            await client.ask(PING, 3, ApiVersionsResponse)
            order.append(number)

        started = loop.time()
        for number in range(60):
            clients.append(await connect())
            clients[-1].task = asyncio.ensure_future(served(number, clients[-1]))  # type: ignore[attr-defined]
        await asyncio.gather(*(client.task for client in clients))  # type: ignore[attr-defined]
        # The network delivers the first ones, which need not wait, in any order.
        assert sorted(order) == list(range(60))
        assert loop.time() - started > 1.5
        await end(node, *clients)

    simulate(main, seed=4)
