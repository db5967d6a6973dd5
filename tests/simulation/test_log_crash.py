"""A partition's log on a disk that crashes, fails and runs full.

What was flushed survives, byte for byte; what comes back is a prefix of what was appended; nothing corrupt is ever
served; and the log goes on.
"""

from __future__ import annotations

import errno
from random import Random

import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.runtime.disk import DiskError, DiskFullError
from ottla.runtime.memory_disk import CHANGING, MemoryDisk, SimulatedCrashError
from tests.simulation.log_world import World

LIVES = 4


def live(world: World, steps: int) -> None:
    """Start, check, work, stop; ends early when the machine does."""
    if world.appended or world.disk.is_directory("/data"):
        world.open()
        world.check_log()
    else:
        world.create()
    for _ in range(steps):
        world.step()
    if world.random.random() < 0.5:
        world.stop()


@pytest.mark.parametrize("seed", range(40))
def test_flushed_records_survive_crashes_and_nothing_corrupt_is_served(seed: int) -> None:
    world = World(seed)
    dice = Random(f"crash {seed}")
    for _ in range(LIVES):
        world.disk.crash_at(dice.choice((dice.randint(1, 30), dice.randint(1, 400))))
        try:
            live(world, 120)
        except SimulatedCrashError:
            pass
        world.disk.crash(dice)
    live(world, 20)


@pytest.mark.parametrize("seed", range(3))
def test_recovery_that_crashes_itself_is_recovered_from(seed: int) -> None:
    """A crash at each operation of the start after a crash, one after the other, until a start gets through."""
    world = World(seed)
    dice = Random(f"recovery {seed}")
    world.disk.crash_at(150)
    with pytest.raises(SimulatedCrashError):
        live(world, 10_000)
    world.disk.crash(dice)
    for operation in range(1, 200):
        world.disk.crash_at(operation)
        try:
            world.open()
            world.check_log()
            break
        except SimulatedCrashError:
            world.disk.crash(dice)
    else:
        pytest.fail("no start got through")


def run_with_faults(world: World, steps: int) -> bool:
    """Work until an operation is refused because of the disk; whether that happened."""
    try:
        if world.disk.is_directory("/data"):
            world.open()
            world.check_log()
        else:
            world.create()
        for _ in range(steps):
            world.step()
        world.stop()
    except ApiError as error:
        if error.code is not ErrorCode.KAFKA_STORAGE_ERROR:
            raise
    except DiskError:
        pass
    else:
        return False
    return True


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC], ids=["failing", "full"])
@pytest.mark.parametrize("seed", range(2))
def test_every_single_failing_operation_leaves_a_log_that_can_be_opened_again(seed: int, number: int) -> None:
    """Fail the first changing operation, then a later one, … until the whole run passes."""
    for count in range(1 + seed, 2000, 2):
        world = World(f"fault {seed}", MemoryDisk())
        world.disk.fail_at(count, number, operations=CHANGING)
        run_with_faults(world, 60)
        if world.disk.faults_left:
            break
        world.disk.clear_faults()
        if world.disk.is_directory("/data/t-0"):
            # The process starts again; the machine went on, so nothing that was acknowledged is lost.
            acknowledged = max(world.appended, default=0)
            world.open()
            assert world.log.log_end_offset >= acknowledged
            world.check_log()
    else:
        pytest.fail("the run never passed")


@pytest.mark.parametrize("seed", [4])
def test_disk_that_is_full_for_one_operation_costs_that_operation_only(seed: int) -> None:
    for count in range(1, 2000, 2):
        world = World(f"fault {seed}", MemoryDisk())
        world.create()
        world.disk.fail_at(count, errno.ENOSPC, operations=CHANGING)
        for _ in range(80):
            try:
                world.step()
            except ApiError as error:
                if error.code is not ErrorCode.KAFKA_STORAGE_ERROR:
                    raise
            except DiskFullError:
                pass
            if world.host.failure:  # a flush, or something else that can not be done again
                break
        passed = world.disk.faults_left
        world.disk.clear_faults()
        if not world.host.failure:
            world.check_log()
        if passed:
            break
        end_offset = world.log.log_end_offset
        world.open()
        assert world.log.log_end_offset == end_offset
        world.check_log()
    else:
        pytest.fail("the run never passed")


@pytest.mark.parametrize("seed", range(4))
def test_failing_disk_that_then_loses_power_keeps_what_was_flushed(seed: int) -> None:
    for count in range(1, 300, 23):
        world = World(f"power {seed}", MemoryDisk())
        world.disk.fail_at(count, operations=CHANGING)
        run_with_faults(world, 80)
        world.disk.clear_faults()
        world.disk.crash(Random(count))
        if world.disk.is_directory("/data"):
            world.open()
            world.check_log()


@pytest.mark.parametrize("seed", range(4))
def test_full_disk_refuses_writes_serves_reads_and_takes_writes_again_when_there_is_room(seed: int) -> None:
    world = World(f"full {seed}", MemoryDisk(capacity_bytes=40_000))
    world.create()
    refused = 0
    for _ in range(400):
        try:
            world.step()
        except ApiError as error:
            if error.code is not ErrorCode.KAFKA_STORAGE_ERROR:
                raise
            refused += 1
        except DiskFullError:
            refused += 1
        if world.host.failure:
            break
        world.check_read(world.log.log_start_offset, 10_000)
    assert refused
    end_offset = world.log.log_end_offset
    world.disk.capacity_bytes = None
    world.open()
    assert world.log.log_end_offset == end_offset
    world.check_log()
    for _ in range(20):
        world.append()
    assert world.log.log_end_offset > end_offset
