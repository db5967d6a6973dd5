"""The cleaner of a broker: which logs it takes, how fast, and what it does when something goes wrong."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable

import pytest

from ottla.core.ids import TopicPartition
from ottla.records.record import Record, build_batch, read_records
from ottla.runtime.memory_disk import MemoryDisk
from ottla.schema.config import BrokerConfig
from ottla.server.log.checkpoint import read_offsets
from ottla.server.log.compaction import cleaner
from ottla.server.log.compaction.plan import group_segments, plan_cleaning
from ottla.server.log.config import LogConfig
from ottla.server.log.directories import LogDirectories
from ottla.server.log.log import Log
from ottla.server.log.verification import UNVERIFIED
from ottla.testing.sim.env import START_MS, SimulatedEnv, simulate

SETTINGS = {"node.id": 1, "log.dirs": "/a", "log.cleaner.backoff.ms": 100, "log.retention.check.interval.ms": 1000}
KEY = TopicPartition("t", 0)

Life = Callable[[LogDirectories, SimulatedEnv], Awaitable[None]]


def live(life: Life, *, disk: MemoryDisk | None = None, **settings: object) -> MemoryDisk:
    config = BrokerConfig.of(SETTINGS | {name.replace("_", "."): value for name, value in settings.items()})

    async def main(env: SimulatedEnv) -> MemoryDisk:
        directories = LogDirectories(config, env)
        await directories.start()
        try:
            await life(directories, env)
        finally:
            await directories.stop()
        return env.memory_disk

    return simulate(main, seed=1, disk=disk)


def create(directories: LogDirectories, key: TopicPartition = KEY, **settings: object) -> Log:
    defaults: dict[str, object] = {"cleanup_policy": ("compact",), "segment_bytes": 3000, "file_delete_delay_ms": 1000}
    config = LogConfig(**(defaults | settings))  # type: ignore[arg-type]
    return directories.get_or_create(key, bytes(16), config)


def write(log: Log, rounds: int = 20, *, now_ms: int = START_MS, keys: int = 5, size: int = 100) -> None:
    for number in range(rounds):
        records = [Record(0, now_ms, b"key %d" % index, b"%d" % number * size) for index in range(keys)]
        log.append_as_leader(build_batch(records), 0, now_ms)
        log.advance_high_watermark(log.log_end_offset)


def keys_of(log: Log) -> list[bytes | None]:
    """Keys of all records in the closed segments."""
    return [
        record.key for segment in log.segments[:-1] for record in read_records(segment.file.read_at(0, segment.size))
    ]


def test_dirty_log_is_cleaned_and_the_checkpoint_says_so() -> None:
    async def life(directories: LogDirectories, env: SimulatedEnv) -> None:
        log = create(directories)
        write(log)
        before = log.size_in_bytes
        await asyncio.sleep(1)
        assert log.size_in_bytes < before / 2
        assert log.cleaned_offset == log.segments[-1].base_offset
        checkpoint = read_offsets(env.disk, "/a/cleaner-offset-checkpoint")
        assert checkpoint == {KEY: log.cleaned_offset}
        assert [name for name in env.disk.list_directory("/a/t-0") if name.endswith(".deleted")]
        await asyncio.sleep(2)
        assert not [name for name in env.disk.list_directory("/a/t-0") if name.endswith((".deleted", ".swap"))]

    async def again(directories: LogDirectories, env: SimulatedEnv) -> None:
        log = directories.get(KEY)
        assert log is not None
        assert log.cleaned_offset == log.segments[-1].base_offset
        assert len(keys_of(log)) == 5

    disk = live(life)
    live(again, disk=disk)


def test_dirtiest_log_comes_first_and_clean_enough_ones_are_left_alone() -> None:
    async def life(directories: LogDirectories, env: SimulatedEnv) -> None:
        half = create(directories, TopicPartition("half", 0))
        write(half)
        half.cleaned_offset = half.segments[-2].base_offset
        full = create(directories, TopicPartition("full", 0))
        write(full)
        deleted = create(directories, TopicPartition("deleted", 0), cleanup_policy=("delete",))
        write(deleted)
        sizes = half.size_in_bytes, deleted.size_in_bytes
        await asyncio.sleep(5)
        assert len(keys_of(full)) == 5
        assert (half.size_in_bytes, deleted.size_in_bytes) == sizes
        half.update_config(LogConfig(cleanup_policy=("compact",), segment_bytes=3000, min_cleanable_dirty_ratio=0.01))
        await asyncio.sleep(5)
        assert half.cleaned_offset == half.segments[-1].base_offset

    live(life)


def test_lags_of_compaction_are_kept() -> None:
    async def life(directories: LogDirectories, env: SimulatedEnv) -> None:
        young = create(directories, TopicPartition("young", 0), min_compaction_lag_ms=60_000)
        old = create(directories, TopicPartition("old", 0), min_cleanable_dirty_ratio=1.0, max_compaction_lag_ms=60_000)
        for log in (young, old):
            write(log)
        await asyncio.sleep(30)
        assert young.cleaned_offset == old.cleaned_offset == -1
        await asyncio.sleep(31)
        assert young.cleaned_offset == young.segments[-1].base_offset
        assert old.cleaned_offset == old.segments[-1].base_offset

    live(life)


def test_nothing_above_the_last_stable_offset_is_touched() -> None:
    async def life(directories: LogDirectories, env: SimulatedEnv) -> None:
        log = create(directories)
        write(log, 5)
        batch = build_batch(
            [Record(0, START_MS, b"key 0", b"open")],
            producer_id=1,
            producer_epoch=0,
            base_sequence=0,
            transactional=True,
        )
        log.append_as_leader(batch, 0, START_MS, verification=UNVERIFIED)
        open_offset = log.log_end_offset - 1
        write(log, 20)
        await asyncio.sleep(1)
        assert log.last_stable_offset == open_offset
        assert 0 < log.cleaned_offset <= open_offset
        plan = plan_cleaning(log, START_MS)
        assert plan is None or plan.end_offset <= open_offset

    live(life)


def test_damaged_log_is_left_alone_with_one_line_and_others_are_cleaned(caplog: pytest.LogCaptureFixture) -> None:
    async def life(directories: LogDirectories, env: SimulatedEnv) -> None:
        damaged, fine = create(directories, TopicPartition("damaged", 0)), create(directories)
        for log in (damaged, fine):
            write(log)
        before = damaged.segments[0].file.read_at(0, 3000)
        file = env.disk.open(damaged.segments[0].file.path)
        file.write_at(300, b"!")
        file.close()
        await asyncio.sleep(3)
        assert fine.cleaned_offset == fine.segments[-1].base_offset
        assert damaged.cleaned_offset == -1
        assert damaged.segments[0].file.read_at(0, 300) == before[:300]
        assert not [name for name in env.disk.list_directory("/a/damaged-0") if "cleaned" in name or "swap" in name]

    live(life)
    lines = [record.getMessage() for record in caplog.records if "damaged" in record.getMessage()]
    assert len(lines) == 1
    assert "wrong CRC" in lines[0]


def test_full_disk_is_waited_out() -> None:
    async def life(directories: LogDirectories, env: SimulatedEnv) -> None:
        log = create(directories)
        write(log)
        env.memory_disk.fail_at(2, errno.ENOSPC, operations={"append"}, path_part=".cleaned")
        await asyncio.sleep(0.15)
        assert log.cleaned_offset == -1
        await asyncio.sleep(2)
        assert directories.online
        assert log.cleaned_offset == log.segments[-1].base_offset

    live(life)


def test_failing_disk_takes_the_directory_out_of_service() -> None:
    async def life(directories: LogDirectories, env: SimulatedEnv) -> None:
        write(create(directories))
        env.memory_disk.fail_at(1, errno.EIO, operations={"append"}, path_part=".cleaned")
        await asyncio.sleep(2)
        assert not directories.online

    live(life)


async def until_written(env: SimulatedEnv, directory: str) -> None:
    """Until the cleaner is in the middle of it."""
    for _ in range(10_000):
        if [name for name in env.disk.list_directory(directory) if name.endswith(".cleaned")]:
            return
        await asyncio.sleep(0.0005)
    raise AssertionError(f"nothing is written to {directory}")


def test_log_that_is_deleted_or_cut_meanwhile_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleaner, "SLICES_IN_A_ROW", 1)

    async def life(directories: LogDirectories, env: SimulatedEnv) -> None:
        deleted, cut = create(directories, TopicPartition("deleted", 0)), create(directories)
        for log in (deleted, cut):
            write(log, 200)
        await until_written(env, "/a/deleted-0")
        directories.delete(TopicPartition("deleted", 0))
        await until_written(env, "/a/t-0")
        cut.truncate_to(50)
        end_offset = cut.log_end_offset
        await asyncio.sleep(3)
        assert cut.log_end_offset == end_offset
        assert cut.cleaned_offset <= end_offset
        cut.check_invariants()
        assert not [name for name in env.disk.list_directory("/a/t-0") if name.endswith(".cleaned")]

    live(life)


def test_compacted_and_deleted_log_loses_old_segments_too() -> None:
    async def life(directories: LogDirectories, env: SimulatedEnv) -> None:
        log = create(directories, cleanup_policy=("compact", "delete"), retention_ms=10_000)
        write(log)
        await asyncio.sleep(5)
        assert len(keys_of(log)) == 5
        write(log, now_ms=START_MS + 5000)
        await asyncio.sleep(30)
        assert log.log_start_offset == log.log_end_offset

    live(life)


def test_rate_is_limited_and_may_be_changed_at_run_time() -> None:
    async def life(directories: LogDirectories, env: SimulatedEnv) -> None:
        log = create(directories)
        write(log, 400)
        directories.config = directories.config.with_dynamic({"log.cleaner.io.max.bytes.per.second": "20000"}, {})
        await asyncio.sleep(3)
        assert log.cleaned_offset == -1
        directories.config = directories.config.with_dynamic({}, {})
        await asyncio.sleep(15)
        assert log.cleaned_offset > 0

    live(life)


def test_disabled_cleaner_cleans_nothing() -> None:
    async def life(directories: LogDirectories, env: SimulatedEnv) -> None:
        log = create(directories)
        write(log)
        await asyncio.sleep(30)
        assert log.cleaned_offset == -1

    live(life, log_cleaner_enable=False)


def test_several_rounds_when_the_keys_do_not_fit() -> None:
    async def life(directories: LogDirectories, env: SimulatedEnv) -> None:
        log = create(directories, segment_bytes=200_000)
        for number in range(3):
            records = [Record(0, START_MS, b"key %d" % index, b"%d" % number) for index in range(12_000)]
            for start in range(0, len(records), 500):
                log.append_as_leader(build_batch(records[start : start + 500]), 0, START_MS)
        log.roll(START_MS)
        log.advance_high_watermark(log.log_end_offset)
        log.update_config(LogConfig(cleanup_policy=("compact",), min_cleanable_dirty_ratio=0.0, segment_bytes=200_000))
        await asyncio.sleep(20)
        assert log.cleaned_offset == log.segments[-1].base_offset
        assert len(keys_of(log)) == 12_000

    live(life, log_cleaner_dedupe_buffer_size=1_200_000)


def test_segments_are_grouped_within_bytes_and_offsets() -> None:
    async def life(directories: LogDirectories, env: SimulatedEnv) -> None:
        log = create(directories)
        write(log, 40)
        closed = log.segments[:-1]
        end_offset = log.segments[-1].base_offset
        everything = group_segments(closed, end_offset, LogConfig(segment_bytes=1 << 20))
        assert everything == [closed]
        pairs = group_segments(closed, end_offset, LogConfig(segment_bytes=6000))
        assert {len(group) for group in pairs} <= {1, 2}
        assert [segment for group in pairs for segment in group] == closed
        far = group_segments(closed, end_offset + 2**31, LogConfig(segment_bytes=1 << 20))
        assert [segment for group in far for segment in group] == closed
        assert len(far) == 2
        small_index = group_segments(closed, end_offset, LogConfig(segment_bytes=1 << 20, segment_index_bytes=24))
        assert len(small_index) > 2

    live(life, log_cleaner_enable=False)
