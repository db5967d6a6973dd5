"""A replica's log on the disk: following, cutting, snapshots of its own and of the leader, crashes at any operation."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from ottla.protocol.messages.raft_data import KRaftVersionRecord
from ottla.records.batch import CorruptRecordError
from ottla.runtime.memory_disk import MemoryDisk, SimulatedCrashError
from ottla.server.raft.metadata_log import MetadataLogError
from ottla.server.raft.replica_log import DiskReplicaLog
from ottla.server.raft.snapshot import SnapshotId, snapshot_pieces
from ottla.server.raft.voters import Voter, VoterSet
from tests.server.raft.worlds import METADATA, NOW_MS, InlineEnv, new_env, opened, topic

VOTERS = VoterSet([Voter(one, bytes([one] * 16), (("CONTROLLER", f"host-{one}", 9093),)) for one in (1, 2, 3)])


def world() -> InlineEnv:
    env = new_env()
    env.disk.make_directories(METADATA)
    return env


def memory_disk(env: InlineEnv) -> MemoryDisk:
    assert isinstance(env.disk, MemoryDisk)
    return env.disk


def append(log: DiskReplicaLog, epoch: int, *names: str) -> None:
    log.append_as_leader(epoch, [topic(name) for name in names], NOW_MS)


def flush(log: DiskReplicaLog) -> None:
    task = log.begin_flush()
    if task is not None:
        task.run()
        log.complete_flush(task)


def frames(log: DiskReplicaLog, start_offset: int | None = None) -> list[bytes]:
    start = log.start_offset if start_offset is None else start_offset
    return [frame for read in log.batches(start, log.end_offset) for frame in read.batch.frames]


def test_a_follower_has_what_its_leader_has() -> None:
    leader, follower = opened(world()), opened(world())
    for number in range(20):
        append(leader, 1 + number // 7, f"t{number}", f"u{number}")
    while follower.end_offset < leader.end_offset:
        data = leader.read(follower.end_offset, 500)
        assert data, "the first batch is read whatever its size"
        follower.append_as_follower(bytes(data))
    assert frames(follower) == frames(leader)
    assert (follower.last_epoch, follower.end_offset) == (3, 40)
    for epoch in range(5):
        assert follower.end_offset_for_epoch(epoch) == leader.end_offset_for_epoch(epoch)
    assert [leader.end_offset_for_epoch(epoch) for epoch in range(5)] == [(0, 0), (1, 14), (2, 28), (3, 40), (3, 40)]


def test_a_batch_that_is_cut_off_is_ignored_and_a_damaged_one_refused() -> None:
    leader, follower = opened(world()), opened(world())
    append(leader, 1, "a")
    size = len(leader.read(0, 1000))
    append(leader, 1, "b")
    data = bytearray(leader.read(0, 1000))
    follower.append_as_follower(data[: size + 20])
    assert follower.end_offset == 1
    data[-1] ^= 1
    with pytest.raises(CorruptRecordError):
        follower.append_as_follower(data[size:])
    assert follower.end_offset == 1


def test_what_is_cut_does_not_come_back_with_a_crash() -> None:
    env = world()
    log = opened(env)
    append(log, 1, "a")
    append(log, 1, "b")
    flush(log)
    assert log.flushed_end_offset == 2
    cut: list[int] = []
    log.on_truncated = cut.append
    log.truncate_to(1)
    assert (log.end_offset, log.flushed_end_offset, cut) == (1, 1, [1])
    memory_disk(env).crash(Random(1))
    log = opened(env)
    assert frames(log) == [topic("a")]
    append(log, 2, "c")
    flush(log)
    memory_disk(env).crash(Random(2))
    assert frames(opened(env)) == [topic("a"), topic("c")]


def test_voters_are_learned_from_the_log() -> None:
    env = world()
    log = opened(env)
    append(log, 1, "a")
    log.append_control(1, [KRaftVersionRecord(version=0, kraft_version=1), VOTERS.to_record()])
    append(log, 1, "b")
    log.close()
    log = opened(env)
    log.learn()
    assert (log.history.kraft_version, log.history.voters) == (1, VOTERS)
    assert log.history.voters_offset == 2
    assert log.bytes_since_snapshot == len(log.read(0, 10_000))


def with_snapshot(env: InlineEnv, **settings: int | bool) -> DiskReplicaLog:
    """Ten topics, the first six of them in a snapshot."""
    log = opened(env, **settings)
    log.append_control(1, [KRaftVersionRecord(version=0, kraft_version=1), VOTERS.to_record()])
    for message_offset, message in enumerate((KRaftVersionRecord(version=0, kraft_version=1), VOTERS.to_record())):
        log.history.replay(message_offset, message)
    for number in range(10):
        append(log, 1, f"t{number}")
    flush(log)
    log.advance_high_watermark(log.end_offset)
    log.write_snapshot(8, 1, NOW_MS, [topic(f"t{number}") for number in range(6)])
    return log


def test_own_snapshots_bound_the_log_and_keep_the_voters() -> None:
    env = world()
    log = with_snapshot(env, keeps_for_others=False)
    log.drop_before_snapshot()
    append(log, 1, "t10")
    log.advance_high_watermark(log.end_offset)
    log.write_snapshot(log.end_offset, 1, NOW_MS, [topic(f"t{number}") for number in range(11)])
    assert log.drop_before_snapshot() == 13
    assert log.latest_snapshot == log.earliest_snapshot == (13, 1)
    assert (log.last_epoch, log.end_offset_for_epoch(1), log.end_offset_for_epoch(0)) == (1, (1, 13), (0, 13))
    log.close()
    log = opened(env)
    log.learn()
    assert (log.start_offset, log.end_offset, log.last_epoch) == (13, 13, 1)
    assert (log.history.voters, log.history.voters_offset) == (VOTERS, 12)


def test_snapshots_for_others_go_by_size_and_age() -> None:
    log = with_snapshot(world())
    for end_offset in (9, 10, 11):
        log.write_snapshot(end_offset, 1, NOW_MS, [topic(f"t{number}") for number in range(end_offset - 2)])
    log.drop_before_snapshot()
    assert log.earliest_snapshot == (8, 1)  # neither size nor age are bounded

    log = with_snapshot(world(), retention_bytes=1)
    log.write_snapshot(10, 1, NOW_MS, [topic(f"t{number}") for number in range(8)])
    log.drop_before_snapshot()
    assert log.earliest_snapshot == log.latest_snapshot == (10, 1)

    env = world()
    log = with_snapshot(env, retention_ms=1000)
    log.write_snapshot(10, 1, NOW_MS + 900, [topic(f"t{number}") for number in range(8)])
    env.clock.time_ms += 1500  # type: ignore[attr-defined]
    log.drop_before_snapshot()
    assert log.earliest_snapshot == (10, 1)


def pieces_of(count: int = 3) -> list[bytes]:
    """A snapshot of the leader, that ends at 100, in pieces."""
    data = b"".join(
        snapshot_pieces(
            [topic(f"t{number}") for number in range(50)],
            kraft_version=1,
            voters=tuple(VOTERS),
            timestamp_ms=NOW_MS - 5,
            now_ms=NOW_MS,
        )
    )
    size = len(data) // count + 1
    return [data[start : start + size] for start in range(0, len(data), size)]


FROM_LEADER = SnapshotId(100, 5)


def download(log: DiskReplicaLog, pieces: list[bytes]) -> tuple[int | None, VoterSet | None, int]:
    position = 0
    for piece in pieces:
        log.store_snapshot_piece(FROM_LEADER, position, piece)
        position += len(piece)
    return log.finish_download(FROM_LEADER)


def install(log: DiskReplicaLog) -> None:
    timestamp_ms = download(log, pieces_of())[2]
    log.install_snapshot(FROM_LEADER, timestamp_ms)
    flush(log)


def test_a_snapshot_of_the_leader_replaces_the_log() -> None:
    env = world()
    log = with_snapshot(env)
    assert download(log, pieces_of()) == (1, VOTERS, NOW_MS - 5)
    log.install_snapshot(FROM_LEADER, NOW_MS - 5)
    assert (log.start_offset, log.end_offset, log.flushed_end_offset, log.last_epoch) == (100, 100, 100, 5)
    assert log.latest_snapshot == log.earliest_snapshot == FROM_LEADER
    assert log.end_offset_for_epoch(4) == (0, 100)
    size = log.snapshot_size(FROM_LEADER)
    assert size == sum(map(len, pieces_of()))
    assert log.read_snapshot(FROM_LEADER, 0, size) == b"".join(pieces_of())
    append(log, 5, "next")
    flush(log)
    memory_disk(env).crash(Random(3))
    log = opened(env)
    assert (log.start_offset, frames(log)) == (100, [topic("next")])


def test_a_damaged_download_is_refused_and_one_that_was_broken_off_begins_anew() -> None:
    env = world()
    log = with_snapshot(env)
    first, second, third = pieces_of()
    with pytest.raises(MetadataLogError, match="its end is missing"):
        download(log, [first, second])
    with pytest.raises(MetadataLogError, match="wrong CRC"):
        download(log, [first, second[:-5] + b"12345", third])
    assert (log.end_offset, log.latest_snapshot) == (12, (8, 1))
    log.store_snapshot_piece(FROM_LEADER, 0, first)
    log.store_snapshot_piece(FROM_LEADER, len(first), second)
    # A leader change: another snapshot, or the same from its beginning.
    log.store_snapshot_piece(SnapshotId(90, 4), 0, b"x")
    install(log)
    assert log.end_offset == 100
    names = env.disk.list_directory(METADATA)
    assert [name for name in names if "checkpoint" in name] == [FROM_LEADER.file_name, "leader-epoch-checkpoint"]


def scenario_snapshot(log: DiskReplicaLog) -> None:
    append(log, 2, "new")
    flush(log)
    log.advance_high_watermark(log.end_offset)
    log.write_snapshot(log.end_offset, 2, NOW_MS, [topic(f"t{number}") for number in range(10)] + [topic("new")])
    log.drop_before_snapshot()
    append(log, 2, "newer")
    flush(log)


def scenario_truncation(log: DiskReplicaLog) -> None:
    log.truncate_to(10)
    append(log, 3, "other")
    flush(log)


@pytest.mark.parametrize("scenario", [scenario_snapshot, scenario_truncation, install])
def test_a_crash_at_any_operation_leaves_a_log_that_opens(scenario: Callable[[DiskReplicaLog], None]) -> None:
    for count in range(1, 200):
        env = world()
        log = with_snapshot(env, keeps_for_others=False)
        log.close()
        memory_disk(env).sync_directory("/data")
        log = opened(env, keeps_for_others=False)
        memory_disk(env).crash_at(count)
        try:
            scenario(log)
        except SimulatedCrashError:
            memory_disk(env).crash(Random(count))
        else:
            return
        log = opened(env, keeps_for_others=False)
        log.learn()
        newest = log.latest_snapshot
        assert newest is not None
        if newest == FROM_LEADER:
            assert (log.start_offset, log.end_offset, log.last_epoch) == (100, 100, 5)
            continue
        # What was flushed and not cut before is there.
        kept = frames(log, newest.end_offset)
        names = [topic(f"t{number}") for number in range(10)]
        expected = names[newest.end_offset - 2 :]
        if scenario is scenario_truncation:
            expected = expected[:2]
        assert kept[: len(expected)] == expected
        assert log.history.voters == VOTERS
        scenario(log)
    raise AssertionError("never passed")
