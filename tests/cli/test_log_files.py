"""`ottla logs`: files that are damaged in all the ways one can think of, and what a repair makes of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ottla.cli.log_files.checking import check, walk
from ottla.cli.log_files.places import Partition
from ottla.cli.main import main
from ottla.core.ids import TopicPartition
from ottla.records.record import Record, build_batch
from ottla.runtime.real_disk import RealDisk
from ottla.server.log.config import LogConfig
from ottla.server.log.host import SimpleHost
from ottla.server.log.loader import create_log

FIRST = f"{0:020}"
SECOND = f"{40:020}"


@pytest.fixture
def partition(tmp_path: Path) -> Path:
    """A partition of two segments with 40 records each, in a data directory."""
    directory = tmp_path / "data" / "orders-0"
    directory.parent.mkdir()
    (directory.parent / "meta.properties").write_text("version=1\n")
    (directory.parent / ".lock").touch()
    config = LogConfig(index_interval_bytes=100)
    log = create_log(SimpleHost(RealDisk()), TopicPartition("orders", 0), str(directory), bytes(16), config)
    for number in range(80):
        if number == 40:
            log.roll(0)
        records = [Record(timestamp_ms=1_700_000_000_000 + number, key=b"k%d" % number, value=b"value %d" % number)]
        log.append_as_leader(build_batch(records), 0, 1_700_000_000_000)
    task = log.prepare_close()
    assert task is not None
    task.run()
    log.complete_flush(task)
    log.close()
    return directory


def ottla(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["logs", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0xFF
    path.write_bytes(data)


def append(path: Path, data: bytes) -> None:
    path.write_bytes(path.read_bytes() + data)


def offsets(capsys: pytest.CaptureFixture[str], path: Path) -> list[int]:
    _, output, _ = ottla(capsys, "dump", path, "--json")
    return [row["offset"] for row in json.loads(output)]


def test_records_are_shown(partition: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, output, _ = ottla(capsys, "dump", partition, "--from", 38, "--to", 42)
    assert code == 0
    assert [line.split()[0] for line in output.splitlines()] == ["OFFSET", "38", "39", "40", "41"]
    _, output, _ = ottla(capsys, "dump", partition, "--from", 39, "-n", 1, "--json", "-k", "hex")
    assert json.loads(output) == [
        {"offset": 39, "timestamp": 1_700_000_000_039, "key": b"k39".hex(), "value": "value 39"}
    ]
    _, output, _ = ottla(capsys, "dump", partition / f"{SECOND}.log", "--batches", "--json")
    batches = json.loads(output)
    assert (len(batches), batches[0]["base_offset"], batches[0]["compression"]) == (40, 40, "none")


def test_nothing_is_wrong_with_what_a_log_writes(partition: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, output, errors = ottla(capsys, "verify", partition.parent)
    assert (code, output) == (0, "")
    assert "1 partition: nothing is wrong" in errors


DAMAGES: dict[str, tuple[Callable[[Path], object], int]] = {
    "a flipped byte": (lambda at: flip(at / f"{FIRST}.log", 1000), 12),
    "a torn end": (lambda at: (at / f"{SECOND}.log").write_bytes((at / f"{SECOND}.log").read_bytes()[:-5]), 79),
    "zeros at the end": (lambda at: append(at / f"{SECOND}.log", bytes(100)), 80),
    "a wrong index": (lambda at: (at / f"{FIRST}.index").write_bytes(b"\0\0\0\5\0\0\0\7"), 80),
    "half an index entry": (lambda at: append(at / f"{FIRST}.index", b"\0\0\0"), 80),
    "no index": (lambda at: (at / f"{SECOND}.index").unlink(), 80),
    "a wrong time index": (lambda at: (at / f"{FIRST}.timeindex").write_bytes(b"\0" * 8 + b"\0\0\7\0"), 80),
    "a wrong snapshot": (lambda at: flip(next(at.glob("*40.snapshot")), 3), 80),
    "the epochs": (lambda at: (at / "leader-epoch-checkpoint").write_text("nonsense"), 80),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_and_repaired_and_a_copy_kept(
    partition: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    break_it, records_left = DAMAGES[damage]
    break_it(partition)
    before = {path.name: path.read_bytes() for path in partition.iterdir()}
    assert ottla(capsys, "verify", partition)[0] == 1
    keep = tmp_path / "keep"

    code, output, _ = ottla(capsys, "repair", partition, "--dry-run", "--json")
    assert code == 0
    assert json.loads(output)["would_repair"][0]["directory"] == str(partition)
    code, _, errors = ottla(capsys, "repair", partition, "--keep", keep)
    assert (code, "Say --yes" in errors) == (1, True)
    assert {path.name: path.read_bytes() for path in partition.iterdir()} == before

    assert ottla(capsys, "repair", partition.parent, "--yes", "--keep", keep)[0] == 0
    assert ottla(capsys, "verify", partition)[0] == 0
    assert offsets(capsys, partition) == list(range(records_left))
    kept = {path.name: path.read_bytes() for path in (keep / "orders-0").iterdir()}
    left = {path.name: path.read_bytes() for path in partition.iterdir()}
    changed = [name for name, data in before.items() if left.get(name) != data]
    assert all(kept[name] == before[name] for name in changed)
    assert all(before[name] == data for name, data in kept.items())


def test_holes_between_segments_are_kept(partition: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As compaction leaves them: the end of the first segment is gone."""
    first = partition / f"{FIRST}.log"
    data = first.read_bytes()
    end = next(at for at, header in walk(data, 0) if not isinstance(header, str) and header.base_offset == 30)
    first.write_bytes(data[:end])
    before = offsets(capsys, partition)
    assert 39 not in before
    (partition / f"{FIRST}.index").unlink()
    assert ottla(capsys, "repair", partition, "--yes", "--keep", partition.parent.parent / "keep")[0] == 0
    after = offsets(capsys, partition)
    assert after == before == [*range(30), *range(40, 80)]


def test_a_directory_in_use_is_left_alone(partition: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = RealDisk().lock(str(partition.parent / ".lock"))
    try:
        for action in ("verify", "repair"):
            code, _, errors = ottla(capsys, action, partition)
            assert (code, "a broker is running on" in errors) == (1, True)
        assert ottla(capsys, "dump", partition)[0] == 0
    finally:
        lock.release()


def test_paths_that_mean_nothing(partition: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for path in (tmp_path / "nowhere", empty, partition / "leader-epoch-checkpoint"):
        assert ottla(capsys, "verify", path)[0] == 1
    shutil.copytree(partition, partition.parent / "orders-1")
    assert ottla(capsys, "dump", partition.parent)[0] == 1


def test_any_flipped_byte_of_a_batch_is_seen(partition: Path) -> None:
    path = partition / f"{SECOND}.log"
    good = path.read_bytes()
    size = len(good) // 40
    for position in range(3 * size, 4 * size):
        if 3 * size + 12 <= position < 3 * size + 16:
            continue  # the leader epoch: brokers write it, and no checksum covers it
        flip(path, position)
        assert check(Partition(str(partition))), position
        path.write_bytes(good)
