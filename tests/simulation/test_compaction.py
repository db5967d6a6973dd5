"""Compaction changes what is stored, and nothing of what its readers and writers may rely on."""

from __future__ import annotations

from random import Random

import pytest

from ottla.runtime.memory_disk import MemoryDisk, SimulatedCrashError
from tests.simulation.compaction_world import CompactionWorld


@pytest.mark.parametrize("seed", range(40))
def test_any_cleaning_of_any_log_changes_no_view_of_it(seed: int) -> None:
    world = CompactionWorld(seed)
    world.create()
    for number in range(160):
        world.step()
        if number % 16 == 0 and world.log.segments:
            world.check()
    world.roll()
    world.clean()
    world.check()
    world.wait()
    world.clean()
    world.check()
    world.open()
    world.check()
    assert world.cleanings


@pytest.mark.parametrize("seed", range(30))
def test_crash_at_any_moment_of_a_cleaning_loses_nothing(seed: int) -> None:
    world = CompactionWorld(f"crash {seed}")
    dice = Random(f"crash {seed}")
    world.create()
    for _ in range(6):
        world.disk.crash_at(dice.choice((dice.randint(1, 40), dice.randint(1, 300))))
        try:
            for _ in range(100):
                world.step()
        except SimulatedCrashError:
            pass
        world.disk.crash(dice)
        world.open()
        if world.log.segments:
            world.check()


@pytest.mark.parametrize("seed", range(3))
def test_crash_at_every_single_operation_of_a_round(seed: int) -> None:
    """The same round again and again, each time the machine stops one operation later, until it gets through."""
    for operation in range(1, 400):
        world = CompactionWorld(f"every {seed}", disk=MemoryDisk())
        world.create()
        for _ in range(60):
            world.step()
        world.roll()
        world.flush()
        world.disk.crash_at(operation)
        try:
            world.clean()
            passed = True
        except SimulatedCrashError:
            passed = False
        world.disk.crash(Random(operation))
        world.open()
        world.check()
        world.clean()
        world.check()
        if passed:
            return
    pytest.fail("no round got through")
