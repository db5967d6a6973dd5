"""Three nodes that speak TLS with each other, as brokers and as controllers, with certificates on both sides."""

import asyncio
import logging
from contextlib import AsyncExitStack
from socket import create_server

import pytest

from ottla.protocol.messages.metadata import MetadataRequest
from ottla.runtime.env import real_env
from ottla.schema.config import BrokerConfig
from ottla.schema.definition import SettingError
from ottla.server.node.node import Node
from ottla.server.peers.errors import PeerError
from ottla.server.peers.peers import Peers, PeerSecurity, PeerSettings
from tests.client.security.certificates import Certificate
from tests.server.transport.support import (
    ALICE,
    AUTHORITY,
    BROKER,
    client_context,
    listener,
    node,
    own,
    run,
    trusting,
)

NAMES = ("CLIENTS", "INTERNAL", "CONTROLLER")
CLUSTER_ID = "AAAAAAAAAAAAAAAAAAAAAA"


def ports(count):
    held = [create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return found


def cluster(tmp_path, settings):
    """Nodes 1 to 3: broker and controller, clients in plain text, everything else by TLS."""
    numbers = ports(9)
    voters = ",".join(f"{index + 1}@127.0.0.1:{numbers[3 * index + 2]}" for index in range(3))
    nodes = []
    for index in range(3):
        listeners = [f"{name}://127.0.0.1:{numbers[3 * index + i]}" for i, name in enumerate(NAMES)]
        config = {
            "node.id": str(index + 1),
            "cluster.id": CLUSTER_ID,
            "process.roles": "broker,controller",
            "controller.quorum.voters": voters,
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "INTERNAL",
            "listener.security.protocol.map": "CLIENTS:PLAINTEXT,INTERNAL:SSL,CONTROLLER:SSL",
            "listeners": ",".join(listeners),
            "advertised.listeners": ",".join(listeners[:2]),
            "log.dirs": str(tmp_path / str(index)),
            "offsets.topic.replication.factor": "3",
            "controller.quorum.election.timeout.ms": "300",
            "controller.quorum.fetch.timeout.ms": "600",
            **settings,
        }
        nodes.append(Node(BrokerConfig.of(config), real_env()))
    return nodes


def test_a_cluster_speaks_tls_among_itself(tmp_path):
    from ottla.admin import NewTopic
    from ottla.aio import Admin, Producer

    # Another certificate for controllers than for brokers, by the listener's own settings.
    quorum = Certificate("quorum", AUTHORITY, names=["127.0.0.1"])
    settings = {
        **own(),
        **trusting(),
        "ssl.client.auth": "required",
        "ssl.principal.mapping.rules": "RULE:^CN=(.*)$/$1/",
        "listener.name.controller.ssl.keystore.key": quorum.key_pem(),
        "listener.name.controller.ssl.keystore.certificate.chain": quorum.pem,
    }

    async def main():
        nodes = cluster(tmp_path, settings)
        async with AsyncExitStack() as stack:
            for one in nodes:
                stack.push_async_callback(one.stop, 0.5)
            await asyncio.gather(*(one.start() for one in nodes))
            bootstrap = ",".join(f"127.0.0.1:{listener(one, 'CLIENTS').port}" for one in nodes)
            async with Admin(bootstrap) as admin:
                await admin.create_topics([NewTopic("t", 3, 3)])
            async with Producer(bootstrap, acks="all") as producer:
                for number in range(30):
                    await producer.send("t", b"%d" % number)
                await producer.flush()
            seen = {
                (name, connection.context.principal)
                for one in nodes
                for name in NAMES[1:]
                for connection in listener(one, name).connections
            }
            assert seen == {("INTERNAL", "User:broker"), ("CONTROLLER", "User:quorum")}

    run(main())


def test_brokers_that_would_not_trust_each_other_do_not_start(tmp_path):
    settings = own() | trusting(ALICE) | {"ssl.client.auth": "required"}

    async def main():
        one, *_ = cluster(tmp_path, settings)
        try:
            with pytest.raises(SettingError) as caught:
                await one.start()
        finally:
            await one.stop(0)
        return str(caught.value)

    assert "brokers would not trust each other on " in run(main())


@pytest.mark.parametrize(
    ("server", "client", "reason"),
    [
        ({}, {}, None),
        ({}, {"trusted": ALICE}, "the certificate of the other side is not trusted: unable to get"),
        (own(Certificate("broker", AUTHORITY, names=["elsewhere"])), {}, "IP address mismatch"),
        (own(Certificate("broker", AUTHORITY, names=["127.0.0.1"], days=-1)), {}, "expired"),
        ({"ssl.client.auth": "required"} | trusting(), {}, "certificate required"),
        ({"ssl.client.auth": "required"} | trusting(), {"certificate": BROKER}, None),
    ],
)
def test_why_a_node_does_not_reach_another(server, client, reason, tmp_path):
    async def main():
        context = client_context(**client)
        peers = Peers(client_id="n", settings=PeerSettings(security=lambda channel: PeerSecurity(lambda: context)))
        async with node(tmp_path, own() | server) as one:
            sending = peers.send(("127.0.0.1", listener(one).port), MetadataRequest(topics=[]), timeout_ms=5000)
            if reason is None:
                assert (await sending).brokers
            else:
                with pytest.raises(PeerError) as caught:
                    await sending
                assert reason in str(caught.value)
            await peers.close()

    run(main())


def test_a_node_says_who_it_cannot_reach_in_plain_text(tmp_path, caplog):
    """TLS towards a port that does not speak it."""

    async def main():
        context = client_context()
        peers = Peers(client_id="n", settings=PeerSettings(security=lambda channel: PeerSecurity(lambda: context)))
        async with node(tmp_path, own()) as one:
            address = ("127.0.0.1", listener(one, "PLAINTEXT").port)
            with pytest.raises(PeerError, match=r"no TLS with 127\.0\.0\.1:"):
                await peers.send(address, MetadataRequest(topics=[]), timeout_ms=5000)
            await peers.close()

    with caplog.at_level(logging.INFO):
        run(main())
    assert "looks like a TLS hello" in caplog.text
