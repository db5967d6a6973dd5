"""What networks do between hosts: cut, slow, throttled; programs that stand still; power that goes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from ottla.runtime.memory_disk import MemoryDisk
from ottla.testing.sim.env import SimulatedEnv, VirtualClock, simulate
from ottla.testing.sim.loop import VirtualTimeLoop
from ottla.testing.sim.process import Process, run_processes

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1000):
        writer.write(data)
    writer.close()


class Scene:
    """An echo server on the host `a`, and a connection to it from `b`."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self.loop = loop
        self.network = loop.network
        self.server = Process(loop, "a")
        self.client = Process(loop, "b")
        self.opened: list[Streams] = []

    async def listen(self) -> None:
        async def serve() -> None:
            await asyncio.start_server(echo, "127.0.0.1", 9092)

        await self.server.start(serve())

    async def connect(self) -> Streams:
        streams = await self.client.start(asyncio.open_connection("127.0.0.1", 9092))
        self.opened.append(streams)
        return streams


async def exchange(streams: Streams, data: bytes, patience_s: float = 1.0) -> bytes:
    streams[1].write(data)
    async with asyncio.timeout(patience_s):
        return await streams[0].readexactly(len(data))


def play(act: Callable[[Scene], Coroutine[Any, Any, None]], seed: int = 1) -> None:
    async def main(loop: VirtualTimeLoop) -> None:
        scene = Scene(loop)
        await scene.listen()
        try:
            await act(scene)
        finally:
            for transport in list(loop.network.connections):
                transport.forget()

    run_processes(main, seed=seed)


@pytest.mark.parametrize("way", [("a", "b"), ("b", "a")])
def test_what_is_sent_over_a_cut_link_arrives_in_order_when_it_is_healed(way: tuple[str, str]) -> None:
    async def act(scene: Scene) -> None:
        streams = await scene.connect()
        assert await exchange(streams, b"before") == b"before"
        scene.network.cut(*way)
        with pytest.raises(TimeoutError):
            await exchange(streams, b"one ", 30)
        streams[1].write(b"two ")
        await asyncio.sleep(5)
        scene.network.heal(*way)
        async with asyncio.timeout(1):
            assert await streams[0].readexactly(8) == b"one two "
        assert await exchange(streams, b"after") == b"after"

    play(act)


def test_cuts_count() -> None:
    async def act(scene: Scene) -> None:
        streams = await scene.connect()
        scene.network.cut("a", "b")
        scene.network.cut("a", "b")
        scene.network.heal("a", "b")
        with pytest.raises(TimeoutError):
            await exchange(streams, b"x")
        scene.network.heal("a", "b")
        assert await streams[0].readexactly(1) == b"x"

    play(act)


def test_a_connection_attempt_is_repeated_until_the_host_can_be_reached() -> None:
    async def act(scene: Scene) -> None:
        scene.network.cut("a", "b")
        connecting = asyncio.ensure_future(scene.connect())
        await asyncio.sleep(10)
        assert not connecting.done()
        scene.network.heal("a", "b")
        streams = await asyncio.wait_for(connecting, 10)
        assert await exchange(streams, b"x") == b"x"

    play(act)


def test_a_connection_attempt_is_given_up_in_the_end() -> None:
    async def act(scene: Scene) -> None:
        scene.network.cut("b", "a")
        with pytest.raises(TimeoutError):
            await scene.connect()
        assert 60 < scene.loop.time() < 300

    play(act)


def test_a_reset_that_gets_lost_leaves_half_a_connection_until_something_is_sent() -> None:
    async def act(scene: Scene) -> None:
        streams = await scene.connect()
        scene.network.cut("a", "b")
        scene.server.kill()
        await asyncio.sleep(100)
        scene.network.heal("a", "b")
        await asyncio.sleep(100)
        assert not streams[0].at_eof()
        assert streams[0].exception() is None
        streams[1].write(b"x")
        await asyncio.sleep(1)
        assert isinstance(streams[0].exception(), ConnectionResetError)

    play(act)


def test_a_host_without_power_says_nothing_until_it_is_on_again() -> None:
    async def act(scene: Scene) -> None:
        streams = await scene.connect()
        assert await exchange(streams, b"x") == b"x"
        scene.network.links.powerless.add("a")
        scene.server.kill()
        streams[1].write(b"x")
        connecting = asyncio.ensure_future(scene.connect())
        await asyncio.sleep(10)
        assert streams[0].exception() is None
        assert not connecting.done()
        scene.network.links.powerless.discard("a")
        streams[1].write(b"y")
        await asyncio.sleep(1)
        assert isinstance(streams[0].exception(), ConnectionResetError)
        with pytest.raises(ConnectionRefusedError):
            await connecting

    play(act)


def test_a_frozen_program_does_nothing_and_goes_on_with_all_of_it() -> None:
    async def act(scene: Scene) -> None:
        ticks: list[float] = []

        async def tick() -> None:
            while True:
                await asyncio.sleep(1)
                ticks.append(scene.loop.time())

        scene.server.start(tick())
        streams = await scene.connect()
        await asyncio.sleep(3.5)
        before = len(ticks)
        scene.server.freeze()
        streams[1].write(b"while it stood still")
        await asyncio.sleep(20)
        assert len(ticks) == before
        scene.server.thaw()
        assert await streams[0].readexactly(20) == b"while it stood still"
        await asyncio.sleep(1.2)
        assert len(ticks) == before + 2
        assert await exchange(streams, b"x") == b"x"
        scene.server.freeze()
        scene.server.kill()
        await asyncio.sleep(5)
        assert len(ticks) == before + 2

    play(act)


def test_delayed_and_throttled_links_take_their_time() -> None:
    async def act(scene: Scene) -> None:
        streams = await scene.connect()
        link = scene.network.links.link("b", "a")
        link.bytes_per_s = 1000
        started = scene.loop.time()
        await exchange(streams, bytes(5000), 60)
        assert 5 < scene.loop.time() - started < 5.5
        link.bytes_per_s = 0
        link.delay_s = 2.0
        started = scene.loop.time()
        for _ in range(20):
            await exchange(streams, b"x", 60)
        assert 10 < scene.loop.time() - started < 80

    play(act)


def test_connections_between_two_hosts_are_broken_off_on_both_sides() -> None:
    async def act(scene: Scene) -> None:
        streams = await scene.connect()
        elsewhere = await asyncio.open_connection("127.0.0.1", 9092)
        scene.opened.append(elsewhere)
        assert scene.network.reset("a", "b") == 1
        await asyncio.sleep(1)
        assert isinstance(streams[0].exception(), ConnectionResetError)
        assert await exchange(elsewhere, b"x") == b"x"

    play(act)


def test_a_wall_clock_that_drifts() -> None:
    async def main(env: SimulatedEnv) -> None:
        clock = env.virtual_clock
        start_ms = clock.now_ms()
        clock.drift(0.1)
        await asyncio.sleep(100)
        assert abs(clock.now_ms() - start_ms - 110_000) <= 1
        clock.drift(-0.5)
        await asyncio.sleep(100)
        assert abs(clock.now_ms() - start_ms - 160_000) <= 2
        clock.drift(0)
        clock.jump_ms(-1000)
        await asyncio.sleep(1)
        assert abs(clock.now_ms() - start_ms - 160_000) <= 3

    simulate(main, seed=1)


def test_a_clock_is_the_hosts_and_stays_when_the_node_is_another() -> None:
    async def main(loop: VirtualTimeLoop) -> None:
        clock = VirtualClock(loop)
        clock.jump_ms(5000)
        disk = MemoryDisk()
        one, other = (SimulatedEnv(loop, loop.network._random, disk, clock) for _ in range(2))
        assert one.clock.now_ms() == other.clock.now_ms() == VirtualClock(loop).now_ms() + 5000
        one.disk_slowness = 1000.0
        started = loop.time()
        await one.run_blocking(lambda: None)
        assert loop.time() - started > 0.02

    run_processes(main, seed=1)
