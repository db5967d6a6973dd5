"""A broker's parts on a real loopback socket, and a client that speaks the protocol plainly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from ottla.protocol.codec import decode
from ottla.protocol.connection import NEED_DATA, ClientConnection
from ottla.protocol.framing import encode_request
from ottla.protocol.message import Request
from ottla.runtime.env import Env, real_env
from ottla.schema.config import BrokerConfig
from ottla.schema.listeners import Listener as ListenerAddress
from ottla.server.broker.broker import Broker
from ottla.server.broker.connection_limits import ConnectionLimits
from ottla.server.broker.dispatch import Router
from ottla.server.broker.listener import Listener
from ottla.server.metadata.image import EMPTY_IMAGE, MetadataImage

T = TypeVar("T")
NODE_ID = 1


class FixedMetadata:
    """A cluster that does nothing but hold an image."""

    def __init__(self, image: MetadataImage = EMPTY_IMAGE) -> None:
        self.image = image


class FixedLog:
    """A metadata log that has a version and nothing else."""

    kraft_version = 1


def run(main: Coroutine[Any, Any, T], *, loop: str = "asyncio") -> T:
    """Run a test's coroutine, on asyncio's own loop or on uvloop; a minute is far too long for any of them."""

    async def limited() -> T:
        return await asyncio.wait_for(main, 60)

    if loop == "uvloop":
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(limited())
    return asyncio.run(limited())


def make_broker(settings: Mapping[str, object] | None = None, *, env: Env | None = None, **parts: Any) -> Broker:
    """A broker of the parts given; what is not given is None and must not be asked for."""
    wired: dict[str, Any] = {
        "controller": None,
        "metadata": FixedMetadata(),
        "metadata_log": FixedLog(),
        "replicas": None,
        "log_directories": None,
        "coordinators": None,
    }
    wired.update(parts)
    return Broker(
        node_id=NODE_ID, cluster_id="cluster", config=BrokerConfig.of(settings or {}), env=env or real_env(), **wired
    )


@asynccontextmanager
async def listening(broker: Broker) -> AsyncIterator[Listener]:
    """A listener of the broker on a free port of 127.0.0.1."""
    listener = Listener(
        broker,
        ListenerAddress("PLAINTEXT", "PLAINTEXT", "127.0.0.1", 0),
        Router(),
        ConnectionLimits.from_config(broker.config),
    )
    await listener.start()
    try:
        yield listener
    finally:
        await listener.close(grace_s=1.0)


class Client:
    """One connection: `call` for a request and its response, `send` and `receive` for anything in between."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.connection = ClientConnection("test")

    @classmethod
    async def connect(cls, port: int) -> Client:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def send(self, request: Request, version: int, *, expect_response: bool = True) -> None:
        # Not writelines: from Python 3.12 on, asyncio loops for ever over an empty piece.
        self.writer.write(b"".join(self.connection.send(request, version, expect_response=expect_response)))

    async def receive(self) -> Any:
        """The next response's body."""
        while (response := self.connection.next_response()) is NEED_DATA:
            data = await self.reader.read(65536)
            if not data:
                raise ConnectionError("the broker closed the connection")
            self.connection.receive_data(data)
        return response.body

    async def call(self, request: Request, version: int) -> Any:
        self.send(request, version)
        return await self.receive()

    async def is_closed(self) -> bool:
        """Wait until the broker closes this connection; False when it sends something instead."""
        try:
            return not await self.reader.read(1)
        except ConnectionError:
            return True

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            pass


def request_bytes(request: Request, version: int, correlation_id: int = 1) -> bytes:
    """A whole frame."""
    return b"".join(encode_request(request, version, correlation_id, "test"))


__all__ = ("NODE_ID", "Client", "FixedMetadata", "decode", "listening", "make_broker", "request_bytes", "run")
