"""Crashes and faults of the memory disk."""

from __future__ import annotations

import errno
from random import Random

import pytest

from ottla.runtime.disk import DiskError, DiskFullError
from ottla.runtime.memory_disk import WRITE_BACK_BYTES, MemoryDisk, SimulatedCrashError

SEEDS = range(60)
OLD, NEW = b"a" * 5000, b"b" * 20_000


def contents_after_crash(seed: int, *, synced_name: bool = True) -> bytes | None:
    """Durable OLD, then NEW appended but not synced, then the power goes."""
    disk = MemoryDisk()
    disk.make_directories("/data")
    disk.sync_directory("/")
    file = disk.open("/data/file", create=True)
    file.append(OLD)
    file.sync()
    if synced_name:
        disk.sync_directory("/data")
    file.append(NEW)
    disk.crash(Random(seed))
    return disk.read("/data/file") if disk.exists("/data/file") else None


def test_synced_data_survives_every_crash_and_the_rest_meets_every_fate() -> None:
    found = [contents_after_crash(seed) for seed in SEEDS]
    tails = []
    for content in found:
        assert content is not None
        assert content.startswith(OLD)
        tails.append(content[len(OLD) :])
    assert any(tail == NEW for tail in tails)
    assert any(tail == b"" for tail in tails)
    assert any(0 < len(tail) < len(NEW) and NEW.startswith(tail) for tail in tails)
    assert any(len(tail) == len(NEW) and 0 in tail for tail in tails)


def test_name_that_was_not_synced_may_be_lost_with_the_file() -> None:
    found = [contents_after_crash(seed, synced_name=False) for seed in SEEDS]
    assert any(content is None for content in found)
    assert any(content is not None for content in found)


def test_replaced_file_is_the_old_or_the_new_one_wherever_the_crash_comes() -> None:
    seen = set()
    for seed in SEEDS:
        for operation in range(1, 12):
            disk = MemoryDisk()
            disk.replace("/file", OLD)
            disk.crash_at(operation)
            try:
                disk.replace("/file", NEW)
                finished = True
            except SimulatedCrashError:
                finished = False
            disk.crash(Random(seed))
            content = disk.read("/file")
            assert content in ((NEW,) if finished else (OLD, NEW))
            seen.add((finished, content))
    assert len(seen) == 3


def test_renames_survive_in_the_order_in_which_they_were_made() -> None:
    seen = set()
    for seed in SEEDS:
        disk = MemoryDisk()
        for name in "abc":
            disk.open(f"/{name}", create=True)
        disk.sync_directory("/")
        for name in "abc":
            disk.rename(f"/{name}", f"/{name}.deleted")
        disk.crash(Random(seed))
        names = disk.list_directory("/")
        renamed = sum(name.endswith(".deleted") for name in names)
        assert names == [name + (".deleted" if index < renamed else "") for index, name in enumerate("abc")]
        seen.add(renamed)
    assert seen == {0, 1, 2, 3}


def test_unsynced_truncation_may_come_undone_under_later_data() -> None:
    seen = set()
    for seed in SEEDS:
        disk = MemoryDisk()
        disk.sync_directory("/")
        file = disk.open("/file", create=True)
        file.append(b"aaaaaaaa")
        file.sync()
        disk.sync_directory("/")
        file.truncate(2)
        file.append(b"bb")
        disk.crash(Random(seed))
        seen.add(disk.read("/file"))
    assert {b"aaaaaaaa", b"aa", b"aabb", b"aabbaaaa"} <= seen


def test_write_that_failed_to_sync_is_never_durable() -> None:
    disk = MemoryDisk()
    file = disk.open("/file", create=True)
    disk.sync_directory("/")
    file.append(b"lost")
    disk.fail_at(1, operations={"sync"})
    with pytest.raises(DiskError):
        file.sync()
    file.append(b"kept")
    file.sync()
    assert file.read_at(0, 8) == b"lostkept"
    disk.crash(Random(1))
    assert disk.read("/file") == b"\0\0\0\0kept"


def test_nothing_works_between_the_crash_and_the_restart_and_old_files_not_after_it() -> None:
    disk = MemoryDisk()
    disk.open("/file", create=True).sync()
    disk.sync_directory("/")
    file = disk.open("/file")
    lock = disk.lock("/.lock")
    disk.crash_at(2)
    file.append(b"1")
    with pytest.raises(SimulatedCrashError):
        file.append(b"2")
    for operation in (lambda: file.read_at(0, 1), lambda: disk.read("/file"), lambda: disk.list_directory("/")):
        with pytest.raises(SimulatedCrashError):
            operation()
    disk.crash(Random(0))
    with pytest.raises(DiskError):
        file.append(b"3")
    lock.release()
    again = disk.lock("/.lock")
    lock.release()
    assert disk.locked == {"/.lock"}
    again.release()


def test_nothing_is_lost_when_only_the_process_ends() -> None:
    disk = MemoryDisk()
    file = disk.open("/file", create=True)
    file.append(OLD)
    disk.crash_at(2)
    file.append(NEW)
    with pytest.raises(SimulatedCrashError):
        file.append(b"last")
    disk.restart_process()
    assert disk.read("/file") == OLD + NEW + b"last"
    with pytest.raises(DiskError):
        file.append(b"by nobody")


def test_the_same_seed_damages_the_same_bytes() -> None:
    assert [contents_after_crash(seed) for seed in range(9)] == [contents_after_crash(seed) for seed in range(9)]


def test_nth_operation_fails_once_or_forever() -> None:
    disk = MemoryDisk()
    file = disk.open("/file", create=True)
    disk.fail_at(2, errno.ENOSPC)
    file.append(b"1")
    with pytest.raises(DiskFullError):
        file.append(b"2")
    file.append(b"3")
    assert disk.faults_left == 0
    disk.fail_at(1, operations={"read"}, path_part="file", forever=True)
    for _ in range(3):
        with pytest.raises(DiskError) as caught:
            file.read_at(0, 2)
        assert caught.value.errno == errno.EIO
    disk.clear_faults()
    assert file.read_at(0, 9) == b"13"


def test_full_disk_refuses_a_write_whole_and_takes_smaller_ones() -> None:
    disk = MemoryDisk(capacity_bytes=10)
    file = disk.open("/file", create=True)
    file.append(b"12345678")
    for operation in (lambda: file.append(b"901"), lambda: file.write_at(9, b"01"), lambda: file.truncate(11)):
        with pytest.raises(DiskFullError):
            operation()
    assert file.size() == 8
    assert disk.free_bytes("/") == 2
    file.append(b"90")
    file.write_at(0, b"x" * 10)
    disk.remove("/file")
    assert disk.free_bytes("/") == 10


def test_cold_disk_has_nothing_in_the_cache() -> None:
    disk = MemoryDisk()
    file = disk.open("/file", create=True)
    file.append(b"data")
    disk.is_cold = True
    assert file.read_cached_at(0, 4) is None
    assert file.read_at(0, 4) == b"data"


def test_old_writes_are_written_back_without_a_sync() -> None:
    disk = MemoryDisk()
    file = disk.open("/file", create=True)
    disk.sync_directory("/")
    file.append(bytes(WRITE_BACK_BYTES + 1))
    file.append(b"tail")
    disk.crash(Random(3))
    assert disk.size("/file") >= WRITE_BACK_BYTES
