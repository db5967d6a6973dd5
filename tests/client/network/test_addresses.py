"""Names, addresses, and what is tried when a name has several."""

from __future__ import annotations

import asyncio
import socket
from random import Random

import pytest

from ottla.client.errors import BootstrapError
from ottla.client.network import addresses, link
from ottla.client.network.addresses import bootstrap_nodes, join_address, resolve, split_address
from ottla.client.network.cluster import Cluster
from ottla.client.settings import ProducerSettings
from ottla.testing.sim.env import simulate
from tests.client.network.fake_broker import FakeCluster


@pytest.mark.parametrize("address", ["host:9092", "10.0.0.1:1", "[::1]:9092", "[fe80::1]:65535"])
def test_addresses_are_taken_apart_and_put_together(address):
    assert join_address(*split_address(address)) == address


def test_bootstrap_servers_have_negative_ids():
    nodes = bootstrap_nodes(["a:1", "[::1]:2"])
    assert [(node.id, node.host, node.port) for node in nodes.values()] == [(-1, "a", 1), (-2, "::1", 2)]
    assert list(nodes) == [-1, -2]


def test_literal_addresses_need_no_resolver():
    async def main():
        asyncio.get_running_loop().getaddrinfo = None
        assert await resolve("127.0.0.1", 1, "any") == ["127.0.0.1"]
        assert await resolve("::1", 1, "v6") == ["::1"]

    asyncio.run(main())


def test_all_addresses_of_a_name_are_tried(monkeypatch):
    async def resolve(host, port, family):
        asked.append((host, family))
        return {"many": ["10.0.0.1", "10.0.0.2", "127.0.0.1"], "none": []}[host]

    async def connect(protocol_factory, host, port, **options):
        tried.append(host)
        if host != "127.0.0.1":
            raise ConnectionRefusedError(111, "refused")
        return await asyncio.get_running_loop().network.connect(protocol_factory, host, port)

    asked, tried = [], []
    monkeypatch.setattr(link, "resolve", resolve)

    async def main(_):
        asyncio.get_running_loop().create_connection = connect
        async with FakeCluster(1) as fake:
            settings = {"broker_address_family": "v4", "request_timeout_ms": 500}
            cluster = Cluster(ProducerSettings.of(f"many:{fake[1].port}", None, settings), random=Random(1))
            fake[1].host = "many"
            await cluster.start()
            assert tried == ["10.0.0.1", "10.0.0.2", "127.0.0.1"]
            assert asked == [("many", "v4")]
            await cluster.close()
            cluster = Cluster(ProducerSettings.of("none:1", None, settings), random=Random(1))
            with pytest.raises(BootstrapError, match="the name has no address"):
                await cluster.start()
            await cluster.close()

    simulate(main, seed=1)


def test_a_black_hole_is_given_up_after_the_setup_timeout():
    async def connect(protocol_factory, host, port, **options):
        if host == "10.0.0.1":
            await asyncio.sleep(10_000)
        return await asyncio.get_running_loop().network.connect(protocol_factory, host, port)

    async def main(_):
        asyncio.get_running_loop().create_connection = connect
        async with FakeCluster(1) as fake:
            servers = f"10.0.0.1:9092,{fake.bootstrap}"
            cluster = Cluster(ProducerSettings.of(servers), random=Random(4))
            started = cluster.now_ms()
            await cluster.start()
            assert cluster.now_ms() - started < 13_000
            await cluster.close()

    for _ in range(3):
        simulate(main, seed=1)


def test_aliases_are_replaced_by_canonical_names(monkeypatch):
    async def resolve(host, port, family):
        if host == "unknown":
            raise socket.gaierror(-2, "Name or service not known")
        return ["127.0.0.1", "127.0.0.2"]

    async def getnameinfo(address, flags):
        return {"127.0.0.1": ("one.example", "1"), "127.0.0.2": ("two.example", "1")}[address[0]]

    monkeypatch.setattr(addresses, "resolve", resolve)

    async def main(_):
        asyncio.get_running_loop().getnameinfo = getnameinfo
        async with FakeCluster(1) as fake:
            settings = {"client_dns_lookup": "resolve_canonical_bootstrap_servers_only"}
            servers = f"alias:{fake[1].port},unknown:7"
            cluster = Cluster(ProducerSettings.of(servers, None, settings), random=Random(4))
            await cluster.start()
            names = [f"{node.host}:{node.port}" for node in cluster.bootstrap.values()]
            assert names == [f"one.example:{fake[1].port}", f"two.example:{fake[1].port}", "unknown:7"]
            await cluster.close()

    simulate(main, seed=1)
