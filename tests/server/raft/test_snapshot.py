"""Snapshot files: layout, completeness, names."""

from __future__ import annotations

import errno

import pytest

from ottla.records.batch import batches
from ottla.records.control import ControlType, control_type
from ottla.records.record import read_batch_records
from ottla.runtime.disk import DiskError
from ottla.runtime.memory_disk import MemoryDisk
from ottla.server.raft.metadata_log import MetadataLogError
from ottla.server.raft.snapshot import (
    BATCH_RECORDS,
    SnapshotId,
    find_snapshots,
    read_snapshot_file,
    snapshot_pieces,
    write_snapshot_file,
)
from ottla.server.raft.voters import Voter

VOTERS = (Voter(1, bytes(range(16)), (("CONTROLLER", "localhost", 9093),)),)
PATH = "/d/00000000000000000042-0000000003.checkpoint"


def disk_with(frames: list[bytes], kraft_version: int = 1) -> MemoryDisk:
    disk = MemoryDisk()
    disk.make_directories("/d")
    pieces = snapshot_pieces(frames, kraft_version=kraft_version, voters=VOTERS, timestamp_ms=77, now_ms=99)
    write_snapshot_file(disk, PATH, pieces, "abc")
    return disk


def test_what_is_written_is_read() -> None:
    frames = [b"%d" % number for number in range(BATCH_RECORDS * 2 + 5)]
    content = read_snapshot_file(disk_with(frames), PATH)
    assert [frame for batch in content.batches for frame in batch] == frames
    assert [len(batch) for batch in content.batches] == [BATCH_RECORDS, BATCH_RECORDS, 5]
    assert (content.kraft_version, content.voters, content.timestamp_ms) == (1, VOTERS, 77)


def test_layout_is_kafkas() -> None:
    data = disk_with([b"a", b"b"]).read(PATH)
    seen = []
    for position, header in batches(data):
        assert header.partition_leader_epoch == 0
        records = read_batch_records(data, position, header)
        seen.append([control_type(one) if header.is_control else one.value for one in records])
        assert [one.offset for one in records] == list(range(header.base_offset, header.last_offset + 1))
    assert seen == [
        [ControlType.SNAPSHOT_HEADER, ControlType.KRAFT_VERSION, ControlType.KRAFT_VOTERS],
        [b"a", b"b"],
        [ControlType.SNAPSHOT_FOOTER],
    ]


def test_a_static_quorum_is_not_written() -> None:
    content = read_snapshot_file(disk_with([], kraft_version=0), PATH)
    assert (content.kraft_version, content.voters, content.batches) == (None, None, [])


def test_names() -> None:
    disk = disk_with([])
    for name in ("00000000000000000042-0000000003-x.checkpoint.part", "1-2.checkpoint", "quorum-state"):
        disk.open(f"/d/{name}", create=True).close()
    assert find_snapshots(disk, "/d") == [SnapshotId(42, 3)]
    assert SnapshotId(42, 3).file_name == PATH.rpartition("/")[2]


@pytest.mark.parametrize("size", [0, 10, 100, -10, -75])
def test_a_cut_snapshot_is_refused(size: int) -> None:
    disk = disk_with([b"a"])
    content = disk.read(PATH)
    disk.replace(PATH, content[:size])
    with pytest.raises(MetadataLogError, match="damaged"):
        read_snapshot_file(disk, PATH)


def test_a_flipped_bit_is_found() -> None:
    disk = disk_with([b"some record"])
    content = bytearray(disk.read(PATH))
    content[content.index(b"some")] ^= 1
    disk.replace(PATH, bytes(content))
    with pytest.raises(MetadataLogError, match="CRC"):
        read_snapshot_file(disk, PATH)


def test_a_failing_disk_never_leaves_a_file_of_the_final_name() -> None:
    for count in range(1, 50):
        disk = MemoryDisk()
        disk.make_directories("/d")
        disk.fail_at(count, errno.EIO, operations={"append", "sync", "rename"})
        pieces = snapshot_pieces([b"a"], kraft_version=1, voters=VOTERS, timestamp_ms=1, now_ms=1)
        try:
            write_snapshot_file(disk, PATH, pieces, "abc")
        except DiskError:
            assert find_snapshots(disk, "/d") == []
        else:
            assert count > 3
            return
    raise AssertionError("never passed")
