"""The quorum of one: epochs, restarts, group commit, crashes, snapshots, foreign quorums."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import replace
from random import Random

import pytest

from ottla.core.ids import ZERO_UUID
from ottla.records.batch import batches
from ottla.records.control import ControlType, control_type
from ottla.records.record import read_batch_records
from ottla.runtime.disk import DiskError
from ottla.runtime.memory_disk import MemoryDisk, SimulatedCrashError
from ottla.server.metadata.features import BOOTSTRAP_FEATURES
from ottla.server.raft.local_log import LocalMetadataLog, LocalVoter, open_local_log
from ottla.server.raft.metadata_log import MetadataLogError, VoterState
from ottla.server.raft.quorum_state import QuorumState, decode_quorum_state, encode_quorum_state
from ottla.server.raft.snapshot import find_snapshots
from tests.server.raft.worlds import DIRECTORY, METADATA, NOW_MS, VOTER, formatted, load, new_env, reopened, topic


def control_types(disk: MemoryDisk) -> list[list[ControlType | None]]:
    data = disk.read(f"{METADATA}/00000000000000000000.log")
    return [
        [control_type(record) for record in read_batch_records(data, position, header)]
        for position, header in batches(data)
        if header.is_control
    ]


def test_first_start_and_restart() -> None:
    async def main() -> None:
        env = new_env()
        log, bootstrap = formatted(env)
        assert len(bootstrap) == len(BOOTSTRAP_FEATURES)
        assert load(log).is_empty()
        log.lead(NOW_MS)
        assert (log.leader_epoch, log.end_offset, log.committed_offset) == (1, 3, 0)
        assert log.append(log.leader_epoch, [topic("a"), topic("b")], NOW_MS) == 4
        assert await log.commit() == 5
        log.close()

        log, bootstrap = formatted(env)
        assert bootstrap == []
        image = load(log)
        assert (sorted(image.topics.by_name), image.offset, image.epoch) == (["a", "b"], 4, 1)
        log.lead(NOW_MS)
        assert (log.leader_epoch, log.end_offset) == (2, 6)
        state = decode_quorum_state(env.disk.read(f"{METADATA}/quorum-state"), "")
        assert state == QuorumState(leader_id=1, leader_epoch=2)
        # The quorum is written into the log once.
        disk = env.disk
        assert isinstance(disk, MemoryDisk)
        assert control_types(disk) == [
            [ControlType.LEADER_CHANGE, ControlType.KRAFT_VERSION, ControlType.KRAFT_VOTERS],
            [ControlType.LEADER_CHANGE],
        ]

    asyncio.run(main())


def test_an_epoch_is_never_used_twice() -> None:
    env = new_env()
    for epoch in (1, 2, 3):
        log, _ = formatted(env)
        load(log)
        log.lead(NOW_MS)
        assert log.leader_epoch == epoch
        # The machine stops before LEADER_CHANGE reaches the device.
        assert isinstance(env.disk, MemoryDisk)
        env.disk.crash(Random(epoch))


def test_appenders_share_an_fsync() -> None:
    async def main() -> None:
        env = new_env()
        log, _ = formatted(env)
        load(log)
        log.lead(NOW_MS)
        flushes = 0
        started, device = asyncio.Event(), asyncio.Event()

        async def slow(function, /, *arguments):  # type: ignore[no-untyped-def]
            nonlocal flushes
            flushes += 1
            started.set()
            await device.wait()
            return function(*arguments)

        env.run_blocking = slow  # type: ignore[method-assign]
        waits = []
        for number in range(10):
            last_offset = log.append(log.leader_epoch, [topic(f"t{number}")], NOW_MS)
            waits.append((last_offset, asyncio.ensure_future(log.commit())))
            await started.wait()  # the first one's fsync begins before the others are appended
        device.set()
        for last_offset, wait in waits:
            assert await wait > last_offset
        assert flushes == 2
        assert log.committed_offset == log.end_offset

    asyncio.run(main())


class CrashableLog:
    """Appends and commits until the machine stops; knows what was committed."""

    def __init__(self) -> None:
        self.env = new_env()
        self.committed: list[str] = []

    async def life(self, names: list[str]) -> None:
        log, _ = formatted(self.env)
        known = load(log)
        assert set(self.committed) <= set(known.topics.by_name), "a committed record is gone"
        log.lead(NOW_MS)
        topics = list(known.topics.by_name)
        for name in names:
            log.append(log.leader_epoch, [topic(name)], NOW_MS)
            topics.append(name)
            end_offset = await log.commit()
            self.committed.append(name)
            if len(self.committed) % 5 == 0:
                log.write_snapshot(end_offset, log.leader_epoch, NOW_MS, map(topic, topics))
                log.drop_before_snapshot()


@pytest.mark.parametrize("seed", range(4))
def test_committed_records_survive_crashes_at_any_moment(seed: int) -> None:
    random = Random(seed)
    world = CrashableLog()
    disk = world.env.disk
    assert isinstance(disk, MemoryDisk)
    for life in range(12):
        disk.crash_at(random.randint(1, 60))
        try:
            asyncio.run(world.life([f"{life}-{number}" for number in range(12)]))
        except SimulatedCrashError:
            pass
        disk.crash(random)
    assert len(world.committed) > 10
    asyncio.run(world.life([]))


def test_after_a_failed_fsync_nothing_is_taken_any_more() -> None:
    async def main() -> None:
        env = new_env()
        assert isinstance(env.disk, MemoryDisk)
        log, _ = formatted(env)
        load(log)
        log.lead(NOW_MS)
        log.append(log.leader_epoch, [topic("a")], NOW_MS)
        env.disk.fail_at(1, errno.EIO, operations={"sync"})
        with pytest.raises(DiskError):
            await log.commit()
        with pytest.raises(MetadataLogError, match="failed before"):
            log.append(log.leader_epoch, [topic("b")], NOW_MS)
        with pytest.raises(DiskError):
            await log.commit()
        assert log.committed_offset == 0

    asyncio.run(main())


def test_snapshots_bound_what_is_loaded_and_kept() -> None:
    async def main() -> None:
        env = new_env()
        log, _ = formatted(env)
        load(log)
        log.lead(NOW_MS)
        for round_number in range(3):
            for number in range(10):
                log.append(log.leader_epoch, [topic(f"{round_number}-{number}")], NOW_MS + round_number)
            end_offset = await log.commit()
            before = log.bytes_since_snapshot
            frames = [topic(f"{one}-{number}") for one in range(round_number + 1) for number in range(10)]
            log.write_snapshot(end_offset, log.leader_epoch, NOW_MS + round_number, frames)
            assert log.bytes_since_snapshot == 0 < before
            assert log.snapshot_timestamp_ms == NOW_MS + round_number
            log.drop_before_snapshot()
        names = env.disk.list_directory(METADATA)
        assert [name for name in names if name.endswith(".checkpoint")] == [
            f"{end_offset:020d}-{log.leader_epoch:010d}.checkpoint"
        ]
        assert [name for name in names if name.endswith(".log")] == [f"{end_offset:020d}.log"]
        log.append(log.leader_epoch, [topic("last")], NOW_MS)
        await log.commit()
        log.close()

        log = reopened(env)
        image = load(log)
        assert len(image.topics.by_name) == 31
        assert image.offset == end_offset
        log.lead(NOW_MS)
        # Voters came with the snapshot, so they need not be repeated.
        assert log.end_offset == end_offset + 2
        assert log.voters[0].directory_id == VOTER.directory_id

    asyncio.run(main())


def test_a_log_that_ends_before_its_snapshot_starts_over_behind_it() -> None:
    async def main() -> None:
        env = new_env()
        log, _ = formatted(env)
        load(log)
        log.lead(NOW_MS)
        log.append(log.leader_epoch, [topic("a")], NOW_MS)
        end_offset = await log.commit()
        log.write_snapshot(end_offset, 1, NOW_MS, [topic("a")])
        log.close()
        # The log is lost, the snapshot is not.
        env.disk.remove(f"{METADATA}/00000000000000000000.log")
        log = reopened(env)
        assert list(load(log).topics.by_name) == ["a"]
        log.lead(NOW_MS)
        assert log.end_offset == end_offset + 1
        assert log.leader_epoch == 2

    asyncio.run(main())


def test_a_gap_between_snapshot_and_log_is_refused() -> None:
    async def main() -> None:
        env = new_env()
        log, _ = formatted(env)
        load(log)
        log.lead(NOW_MS)
        for name in "ab":
            log.append(log.leader_epoch, [topic(name)], NOW_MS)
            end_offset = await log.commit()
            log.write_snapshot(end_offset, 1, NOW_MS, [topic(name)])
            log.drop_before_snapshot()
        log.close()
        for snapshot in find_snapshots(env.disk, METADATA):
            env.disk.remove(f"{METADATA}/{snapshot.file_name}")
        with pytest.raises(MetadataLogError, match="incomplete"):
            load(reopened(env))

    asyncio.run(main())


def test_the_log_of_another_directory_is_refused() -> None:
    env = new_env()
    log, _ = formatted(env)
    load(log)
    log.lead(NOW_MS)
    log.close()
    other = LocalVoter(VOTER.node_id, bytes(16), VOTER.cluster_id)
    with pytest.raises(MetadataLogError, match=r"meta\.properties"):
        load(open_local_log(env, DIRECTORY, other, segment_bytes=1 << 20, segment_ms=1 << 40))
    other = LocalVoter(7, VOTER.directory_id, VOTER.cluster_id)
    with pytest.raises(MetadataLogError, match=r"nodes \[1\]; node 7"):
        load(open_local_log(env, DIRECTORY, other, segment_bytes=1 << 20, segment_ms=1 << 40))


def test_a_static_quorum_stays_one() -> None:
    env = new_env()
    env.disk.make_directories(METADATA)
    state = QuorumState(leader_id=1, leader_epoch=6, current_voters=(1,), cluster_id="cluster")
    env.disk.replace(f"{METADATA}/quorum-state", encode_quorum_state(state))
    log = reopened(env)
    load(log)
    log.lead(NOW_MS)
    assert log.leader_epoch == 7
    assert log.end_offset == 1
    state = decode_quorum_state(env.disk.read(f"{METADATA}/quorum-state"), "")
    assert state == QuorumState(leader_id=1, leader_epoch=7, current_voters=(1,), cluster_id="cluster")


def test_leftovers_of_snapshots_are_removed() -> None:
    env = new_env()
    formatted(env)
    for name in (
        "00000000000000000009-0000000001-x.checkpoint.part",
        "00000000000000000001-0000000001.checkpoint.deleted",
    ):
        env.disk.open(f"{METADATA}/{name}", create=True).close()
    load(reopened(env))
    assert not any(name.endswith((".part", ".deleted")) for name in env.disk.list_directory(METADATA))


def test_formatting_is_started_over_after_a_crash() -> None:
    for count in range(1, 60):
        env = new_env()
        assert isinstance(env.disk, MemoryDisk)
        env.disk.sync_directory("/")
        env.disk.crash_at(count)
        try:
            formatted(env)
            return
        except SimulatedCrashError:
            env.disk.crash(Random(count))
        log, bootstrap = formatted(env)
        assert len(bootstrap) == len(BOOTSTRAP_FEATURES)
        load(log)
        log.lead(NOW_MS)
        assert [voter.voter_id for voter in log.voters] == [1]
    raise AssertionError("never passed")


def test_a_static_quorum_becomes_a_dynamic_one() -> None:
    async def main() -> None:
        env = new_env()
        env.disk.make_directories(METADATA)
        voter = replace(VOTER, endpoints=(("CONTROLLER", "host", 9093),))

        def opened() -> LocalMetadataLog:
            return open_local_log(env, DIRECTORY, voter, segment_bytes=1 << 20, segment_ms=1 << 40)

        log = opened()
        load(log)
        log.lead(NOW_MS)
        (only,) = log.describe_quorum().voters
        assert (log.kraft_version, only.voter_id, only.directory_id) == (0, 1, ZERO_UUID)
        log.upgrade_kraft_version(log.leader_epoch, NOW_MS)
        log.append(log.leader_epoch, [topic("a")], NOW_MS)
        await log.commit()
        log.close()
        for _ in range(2):
            log = opened()
            assert sorted(load(log).topics.by_name) == ["a"]
            log.lead(NOW_MS)
            await log.commit()
            assert log.kraft_version == 1
            quorum = log.describe_quorum()
            end = log.end_offset
            assert quorum.voters == (VoterState(1, VOTER.directory_id, end, (("CONTROLLER", "host", 9093),)),)
            assert (quorum.leader_id, quorum.leader_epoch, quorum.high_watermark) == (1, log.leader_epoch, end)
            log.write_snapshot(log.committed_offset, log.leader_epoch, NOW_MS, [topic("a")])
            log.close()

    asyncio.run(main())
