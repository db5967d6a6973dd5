"""Brokers that speak TLS in the test's own process, and the smallest client for them."""

import asyncio
import ssl
import struct
from contextlib import asynccontextmanager

from ottla.runtime.env import real_env
from ottla.runtime.loop import loop_factory
from ottla.schema.config import BrokerConfig
from ottla.server.node.node import Node
from tests.client.security.certificates import Certificate

AUTHORITY = Certificate("authority")
BROKER = Certificate("broker", AUTHORITY, names=["localhost", "127.0.0.1"])
ALICE = Certificate("alice", AUTHORITY)


def run(main):
    """Run a test on the loop that brokers run on."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(main)


def own(certificate=BROKER):
    """Settings with a broker's key and certificate as texts."""
    return {"ssl.keystore.key": certificate.key_pem(), "ssl.keystore.certificate.chain": certificate.pem}


def trusting(*certificates):
    """Settings that trust these."""
    return {"ssl.truststore.certificates": "".join(each.pem for each in certificates or (AUTHORITY,))}


@asynccontextmanager
async def node(directory, settings=(), *, listeners="PLAINTEXT://127.0.0.1:0,SSL://127.0.0.1:0"):
    """A node alone; clients may use any of its listeners."""
    config = {"listeners": listeners, "log.dirs": str(directory), "inter.broker.listener.name": "PLAINTEXT"}
    one = Node(BrokerConfig.of({**config, **dict(settings)}), real_env())
    try:
        await one.start()
        yield one
    finally:
        await one.stop(0.5)


def listener(one, name="SSL"):
    """A listener of a node by its name."""
    return next(each for each in (*one.listeners, *one.controller_listeners) if each.name == name)


def client_context(*, trusted=AUTHORITY, certificate=None, **limits):
    """What a client of OpenSSL's speaks TLS with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=trusted.pem)
    if certificate is not None:
        import tempfile

        with tempfile.NamedTemporaryFile("w") as file:
            file.write(certificate.key_pem() + certificate.pem)
            file.flush()
            context.load_cert_chain(file.name)
    for name, value in limits.items():
        setattr(context, name, value)
    return context


async def ask(port, context=None, *, name="localhost"):
    """A connection that has had an answer to ApiVersions: (reader, writer). Raises what came instead."""
    names = {} if context is None else {"ssl": context, "server_hostname": name}
    reader, writer = await asyncio.open_connection("127.0.0.1", port, **names)
    try:
        writer.write(struct.pack(">ihhih", 10, 18, 0, 7, -1))
        size, correlation_id, error = struct.unpack(">iih", await reader.readexactly(10))
    except BaseException:
        writer.transport.abort()
        raise
    assert (correlation_id, error) == (7, 0)
    await reader.readexactly(size - 6)
    return reader, writer


async def principal(one, context, **names):
    """Whom a node takes a client for."""
    _, writer = await ask(listener(one).port, context, **names)
    (connection,) = listener(one).connections
    found = connection.context.principal
    writer.transport.abort()
    await until(lambda: not listener(one).connections)
    return found


async def until(condition):
    """Wait until something is so."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 (nobody tells)
            await asyncio.sleep(0.005)
