"""The simulated world: time that costs nothing, and the same story from the same seed."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from ottla.runtime.memory_disk import MemoryDisk, SimulatedCrashError
from ottla.testing.sim.env import SimulatedEnv, simulate
from ottla.testing.sim.loop import DeadlockError, VirtualTimeLoop

HOUR = 3600


def test_an_hour_passes_at_once_on_all_clocks() -> None:
    async def main(env: SimulatedEnv) -> tuple[float, int]:
        loop = asyncio.get_running_loop()
        start = env.clock.now_ms()
        await asyncio.sleep(100 * 24 * HOUR)
        return loop.time(), env.clock.now_ms() - start

    elapsed, wall = simulate(main, seed=1)
    assert elapsed == pytest.approx(100 * 24 * HOUR)
    assert wall == pytest.approx(100 * 24 * HOUR * 1000, abs=2)


def test_timers_fire_in_the_order_of_their_times() -> None:
    async def main(env: SimulatedEnv) -> list[tuple[float, str]]:
        loop = asyncio.get_running_loop()
        fired: list[tuple[float, str]] = []
        for delay in (3, 1, 2.5, 0, 1.0000001):
            loop.call_later(delay, lambda delay=delay: fired.append((round(loop.time(), 7), str(delay))))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await asyncio.Event().wait()
        return fired

    assert simulate(main, seed=1) == [(0, "0"), (1, "1"), (1.0000001, "1.0000001"), (2.5, "2.5"), (3, "3")]


async def story(env: SimulatedEnv) -> list[tuple[int, str]]:
    """Workers that race for the disk, the clock and each other."""
    told: list[tuple[int, str]] = []
    queue: asyncio.Queue[str] = asyncio.Queue()

    async def worker(name: str) -> None:
        for step in range(5):
            await asyncio.sleep(env.random.random())
            await env.run_blocking(env.disk.replace, f"/{name}", b"%d" % step)
            await queue.put(f"{name}{step} {env.random_uuid().hex()[:4]}")

    async def listener() -> None:
        while len(told) < 20:
            told.append((env.clock.now_ms(), await queue.get()))

    async with asyncio.TaskGroup() as group:
        group.create_task(listener())
        for name in "abcd":
            group.create_task(worker(name))
    return told


@pytest.mark.parametrize("shuffle", [False, True])
def test_the_same_seed_tells_the_same_story(shuffle: bool) -> None:
    stories = [simulate(story, seed=seed, shuffle=shuffle) for seed in (1, 2, 3, 1)]
    assert stories[0] == stories[3]
    assert len({str(told) for told in stories}) == 3


def test_shuffling_runs_what_is_ready_in_another_order() -> None:
    async def main(env: SimulatedEnv) -> list[int]:
        order: list[int] = []
        for number in range(8):
            asyncio.get_running_loop().call_soon(order.append, number)
        await asyncio.sleep(1)
        return order

    assert simulate(main, seed=1) == list(range(8))
    shuffled = simulate(main, seed=1, shuffle=True)
    assert sorted(shuffled) == list(range(8))
    assert shuffled != list(range(8))


def test_blocking_work_takes_virtual_time_and_hands_on_results_and_errors() -> None:
    async def main(env: SimulatedEnv) -> float:
        loop = asyncio.get_running_loop()
        assert await env.run_blocking(max, 1, 2) == 2
        with pytest.raises(FileNotFoundError):
            await env.run_blocking(env.disk.read, "/missing")
        assert await loop.run_in_executor(None, max, 3, 4) == 4
        assert await asyncio.to_thread(max, 5, 6) == 6
        return loop.time()

    assert simulate(main, seed=1) > 0


def test_a_program_that_waits_for_nothing_is_a_deadlock() -> None:
    async def main(env: SimulatedEnv) -> None:
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError):
        simulate(main, seed=1)


def test_the_wall_clock_can_jump_and_timers_do_not_notice() -> None:
    async def main(env: SimulatedEnv) -> tuple[int, float]:
        start = env.clock.now_ms()
        asyncio.get_running_loop().call_soon(env.virtual_clock.jump_ms, -HOUR * 1000)
        await asyncio.sleep(1)
        return env.clock.now_ms() - start, asyncio.get_running_loop().time()

    assert simulate(main, seed=1) == (1000 - HOUR * 1000, 1)


def test_a_crash_goes_through_to_the_one_who_ordered_it_and_the_disk_lives_on() -> None:
    disk = MemoryDisk()

    async def life(env: SimulatedEnv) -> None:
        await env.run_blocking(env.disk.replace, "/file", b"first")
        disk.crash_at(1)
        await env.run_blocking(env.disk.replace, "/file", b"second")

    with pytest.raises(SimulatedCrashError):
        simulate(life, seed=1, disk=disk)
    disk.crash(Random(1))

    async def afterlife(env: SimulatedEnv) -> bytes:
        return env.disk.read("/file")

    assert simulate(afterlife, seed=2, disk=disk) == b"first"


def test_loop_can_be_driven_by_hand() -> None:
    loop = VirtualTimeLoop()
    assert loop.run_until_complete(asyncio.wait_for(asyncio.sleep(5, "done"), 6)) == "done"
    assert loop.time() == 5
    loop.close()


def test_no_timer_fires_a_moment_before_its_time() -> None:
    async def main(env: SimulatedEnv) -> None:
        loop = asyncio.get_running_loop()
        later_s = 0.1 + 0.2  # a little more than 0.3
        fired: list[float] = []
        loop.call_at(0.3, lambda: fired.append(loop.time()))
        loop.call_at(later_s, lambda: fired.append(loop.time()))
        await asyncio.sleep(1)
        assert fired == [0.3, later_s]

    simulate(main, seed=1)
