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
from ottla.server.raft.alone import LocalVoter, LoneNode
from ottla.server.raft.metadata_log import MetadataLogError, NotLeaderError, VoterState
from ottla.server.raft.opening import open_metadata_log
from ottla.server.raft.quorum_state import QuorumState, decode_quorum_state, encode_quorum_state
from ottla.server.raft.snapshot import find_snapshots
from tests.server.raft.worlds import (
    DIRECTORY,
    METADATA,
    NOW_MS,
    VOTER,
    InlineEnv,
    config,
    formatted,
    load,
    new_env,
    reopened,
    started,
    topic,
)


def append(log: LoneNode, *names: str) -> int:
    """Topics by these names; the end offset to wait for."""
    return log.append(log.leader.epoch, [topic(name) for name in names], NOW_MS) + 1


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
        metadata = await started(log, env)
        assert metadata.image.is_empty()
        assert metadata.leader == log.leader == (1, 1)
        assert (log.end_offset, log.committed_offset) == (3, 0)
        end_offset = append(log, "a", "b")
        assert end_offset == 5
        await log.wait_committed(end_offset)
        assert log.committed_offset == 5
        assert sorted(metadata.image.topics.by_name) == ["a", "b"]
        await log.stop()

        log, _ = formatted(env)
        metadata = await started(log, env)
        image = metadata.image
        assert (sorted(image.topics.by_name), image.offset, image.epoch) == (["a", "b"], 4, 1)
        assert (log.leader.epoch, log.end_offset) == (2, 6)
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
    class SlowEnv(InlineEnv):
        """Nothing that is flushed comes to an end."""

        async def run_blocking(self, function, /, *arguments):  # type: ignore[no-untyped-def]
            if function.__name__ == "run":
                await asyncio.sleep(3600)
            return await super().run_blocking(function, *arguments)

    async def life(epoch: int) -> None:
        log, _ = formatted(env)
        metadata = await started(log, env)
        assert metadata.leader == (1, epoch)

    disk = new_env().disk
    env = SlowEnv(disk, new_env().clock, Random(0))
    for epoch in (1, 2, 3):
        asyncio.run(life(epoch))
        # The machine stops before LEADER_CHANGE reaches the device.
        assert isinstance(disk, MemoryDisk)
        disk.crash(Random(epoch))


def test_appenders_share_an_fsync() -> None:
    async def main() -> None:
        env = new_env()
        log, _ = formatted(env)
        await started(log, env)
        await log.wait_committed(log.end_offset)
        flushes = 0
        began, device = asyncio.Event(), asyncio.Event()

        async def slow(function, /, *arguments):  # type: ignore[no-untyped-def]
            nonlocal flushes
            flushes += 1
            began.set()
            await device.wait()
            return function(*arguments)

        env.run_blocking = slow  # type: ignore[method-assign]
        waits = []
        for number in range(10):
            waits.append(asyncio.ensure_future(log.wait_committed(append(log, f"t{number}"))))
            await began.wait()  # the first one's fsync begins before the others are appended
        device.set()
        for wait in waits:
            await wait
        assert flushes == 2
        assert log.committed_offset == log.end_offset

    asyncio.run(main())


def test_who_leads_no_more_appends_nothing() -> None:
    async def main() -> None:
        env = new_env()
        log, _ = formatted(env)
        await started(log, env)
        with pytest.raises(NotLeaderError):
            log.append(log.leader.epoch - 1, [topic("a")], NOW_MS)
        await log.stop()

    asyncio.run(main())


class CrashableLog:
    """Appends and commits until the machine stops; knows what was committed."""

    def __init__(self) -> None:
        self.env = new_env()
        self.committed: list[str] = []

    async def life(self, names: list[str]) -> None:
        log, _ = formatted(self.env)
        metadata = await started(log, self.env)
        known = metadata.image
        assert set(self.committed) <= set(known.topics.by_name), "a committed record is gone"
        topics = list(known.topics.by_name)
        for name in names:
            topics.append(name)
            end_offset = append(log, name)
            await log.wait_committed(end_offset)
            self.committed.append(name)
            if len(self.committed) % 5 == 0:
                log.write_snapshot(end_offset, log.leader.epoch, NOW_MS, map(topic, topics))
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
        except (SimulatedCrashError, MetadataLogError):
            pass
        disk.crash(random)
    assert len(world.committed) > 10
    asyncio.run(world.life([]))


def test_after_a_failed_fsync_nothing_is_taken_any_more() -> None:
    async def main() -> None:
        env = new_env()
        assert isinstance(env.disk, MemoryDisk)
        log, _ = formatted(env)
        metadata = await started(log, env)
        await log.wait_committed(log.end_offset)
        committed = log.committed_offset
        env.disk.fail_at(1, errno.EIO, operations={"sync"})
        end_offset = append(log, "a")
        with pytest.raises(MetadataLogError):
            await log.wait_committed(end_offset)
        assert isinstance(metadata.failure, DiskError)
        with pytest.raises(MetadataLogError, match="failed before"):
            append(log, "b")
        assert log.committed_offset == committed
        await log.stop()

    asyncio.run(main())


def test_snapshots_bound_what_is_loaded_and_kept() -> None:
    async def main() -> None:
        env = new_env()
        log, _ = formatted(env)
        await started(log, env)
        for round_number in range(3):
            for number in range(10):
                end_offset = log.append(log.leader.epoch, [topic(f"{round_number}-{number}")], NOW_MS) + 1
            await log.wait_committed(end_offset)
            before = log.bytes_since_snapshot
            frames = [topic(f"{one}-{number}") for one in range(round_number + 1) for number in range(10)]
            log.write_snapshot(end_offset, log.leader.epoch, NOW_MS + round_number, frames)
            assert log.bytes_since_snapshot == 0 < before
            assert log.snapshot_timestamp_ms == NOW_MS + round_number
            log.drop_before_snapshot()
        names = env.disk.list_directory(METADATA)
        assert [name for name in names if name.endswith(".checkpoint")] == [
            f"{end_offset:020d}-{log.leader.epoch:010d}.checkpoint"
        ]
        assert [name for name in names if name.endswith(".log")] == [f"{end_offset:020d}.log"]
        await log.wait_committed(append(log, "last"))
        await log.stop()

        log = reopened(env)
        image = (await started(log, env)).image
        assert len(image.topics.by_name) == 31
        assert image.offset == end_offset
        # Voters came with the snapshot, so they need not be repeated.
        assert log.end_offset == end_offset + 2
        assert [voter.directory_id for voter in log.replica.history.voters] == [VOTER.directory_id]
        await log.stop()

    asyncio.run(main())


def test_a_log_that_ends_before_its_snapshot_starts_over_behind_it() -> None:
    async def main() -> None:
        env = new_env()
        log, _ = formatted(env)
        await started(log, env)
        end_offset = append(log, "a")
        await log.wait_committed(end_offset)
        log.write_snapshot(end_offset, 1, NOW_MS, [topic("a")])
        await log.stop()
        # The log is lost, the snapshot is not.
        env.disk.remove(f"{METADATA}/00000000000000000000.log")
        log = reopened(env)
        metadata = await started(log, env)
        assert list(metadata.image.topics.by_name) == ["a"]
        assert log.end_offset == end_offset + 1
        assert log.leader.epoch == 2
        await log.stop()

    asyncio.run(main())


def test_a_gap_between_snapshot_and_log_is_refused() -> None:
    async def main() -> None:
        env = new_env()
        log, _ = formatted(env)
        await started(log, env)
        for name in "ab":
            end_offset = append(log, name)
            await log.wait_committed(end_offset)
            log.write_snapshot(end_offset, 1, NOW_MS, [topic(name)])
            log.drop_before_snapshot()
        await log.stop()
        for snapshot in find_snapshots(env.disk, METADATA):
            env.disk.remove(f"{METADATA}/{snapshot.file_name}")
        with pytest.raises(MetadataLogError, match="incomplete"):
            reopened(env)

    asyncio.run(main())


def test_the_log_of_another_directory_is_refused() -> None:
    env = new_env()
    log, _ = formatted(env)
    load(log, env)
    with pytest.raises(MetadataLogError, match=r"meta\.properties"):
        load(reopened(env, LocalVoter(VOTER.node_id, bytes(16), VOTER.cluster_id)), env)
    with pytest.raises(MetadataLogError, match=r"nodes \[1\]; node 7"):
        load(reopened(env, LocalVoter(7, VOTER.directory_id, VOTER.cluster_id)), env)


def test_a_static_quorum_stays_one() -> None:
    env = new_env()
    env.disk.make_directories(METADATA)
    state = QuorumState(leader_id=1, leader_epoch=6, current_voters=(1,), cluster_id="cluster")
    env.disk.replace(f"{METADATA}/quorum-state", encode_quorum_state(state))
    log = reopened(env)
    load(log, env)
    assert log.leader.epoch == 7
    assert log.end_offset == 1
    state = decode_quorum_state(env.disk.read(f"{METADATA}/quorum-state"), "")
    assert state == QuorumState(leader_id=1, leader_epoch=7, current_voters=(1,), cluster_id="cluster")


def test_a_static_quorum_of_one_stays_static() -> None:
    async def main() -> None:
        env = new_env()
        settings = config(
            process_roles="broker,controller",
            listeners="PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093",
            controller_listener_names="CONTROLLER",
            controller_quorum_voters=f"{VOTER.node_id}@localhost:9093",
        )
        for _ in range(2):
            log, bootstrap = open_metadata_log(settings, env, DIRECTORY, VOTER)
            assert bootstrap == []
            metadata = await started(log, env)
            assert (log.kraft_version, metadata.leader.leader_id) == (0, VOTER.node_id)
            await log.stop()

    asyncio.run(main())


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
        load(log, env)
        assert log.replica.history.voters.ids == (1,)
    raise AssertionError("never passed")


def test_a_static_quorum_becomes_a_dynamic_one() -> None:
    async def main() -> None:
        env = new_env()
        env.disk.make_directories(METADATA)
        voter = replace(VOTER, endpoints=(("CONTROLLER", "host", 9093),))
        log = reopened(env, voter)
        await started(log, env)
        (only,) = log.describe_quorum().voters
        assert (log.kraft_version, only.voter_id, only.directory_id) == (0, 1, ZERO_UUID)
        log.upgrade_kraft_version(log.leader.epoch, NOW_MS)
        await log.wait_committed(append(log, "a"))
        await log.stop()
        for _ in range(2):
            log = reopened(env, voter)
            assert sorted((await started(log, env)).image.topics.by_name) == ["a"]
            await log.wait_committed(log.end_offset)
            assert log.kraft_version == 1
            quorum = log.describe_quorum()
            assert quorum.leader_id == 1
            assert quorum.high_watermark == log.end_offset
            assert quorum.voters == (VoterState(1, VOTER.directory_id, log.end_offset, voter.endpoints),)
            await log.stop()

    asyncio.run(main())
