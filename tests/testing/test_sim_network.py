"""Connections without sockets behave like TCP, as asyncio shows it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from ottla.testing.sim.env import SimulatedEnv, simulate

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def connect(handler: Handler) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    return await asyncio.open_connection(*server.sockets[0].getsockname())


def test_bytes_arrive_in_order_and_both_sides_know_their_addresses() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data)
        writer.close()

    async def main(env: SimulatedEnv) -> bytes:
        reader, writer = await connect(echo)
        assert writer.get_extra_info("peername")[0] == "127.0.0.1"
        sent = bytearray()
        for index in range(300):
            piece = b"%d," % index * (index % 50)
            writer.write(piece)
            sent += piece
            if index % 20 == 0:
                await asyncio.sleep(env.random.random() / 1000)
        writer.write_eof()
        received = await reader.read()
        assert received == sent
        writer.close()
        await writer.wait_closed()
        await asyncio.sleep(1)
        loop = asyncio.get_running_loop()
        assert loop.network.connections == []  # type: ignore[attr-defined]
        return received

    assert simulate(main, seed=3) == simulate(main, seed=4, shuffle=False)


def test_writer_waits_for_a_reader_that_does_not_read() -> None:
    async def main(env: SimulatedEnv) -> None:
        go_on = asyncio.Event()
        received = 0

        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal received
            await go_on.wait()
            while data := await reader.read(10_000):
                received += len(data)
            writer.close()

        _, writer = await connect(slow)

        async def write_forever() -> None:
            while True:
                writer.write(bytes(10_000))
                await writer.drain()

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(write_forever(), 60)
        sent = writer.transport.get_write_buffer_size()
        assert 64 * 1024 < sent < 1_000_000
        go_on.set()
        await writer.drain()
        writer.close()
        await asyncio.sleep(1)
        assert received > sent

    simulate(main, seed=1)


def test_aborted_connection_is_a_reset_for_the_other_side() -> None:
    async def main(env: SimulatedEnv) -> None:
        async def rude(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"never arrives")
            writer.transport.abort()

        reader, writer = await connect(rude)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        with pytest.raises(ConnectionResetError):
            await writer.drain()

    simulate(main, seed=1)


def test_addresses_are_taken_refused_and_given_back() -> None:
    async def main(env: SimulatedEnv) -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", 9092)
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 9092, start_serving=False)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", 9092)
        with pytest.raises(OSError, match="already in use"):
            await loop.create_server(asyncio.Protocol, "127.0.0.1", 9092)
        await server.start_serving()
        _, writer = await asyncio.open_connection("localhost", 9092)
        writer.close()
        server.close()
        await server.wait_closed()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", 9092)

    simulate(main, seed=1)
