"""What only the real disk has: failing system calls, the page cache, descriptors."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ottla.runtime import real_disk
from ottla.runtime.disk import DiskError, DiskFullError
from ottla.runtime.real_disk import RealDisk, RealFile

Patch = pytest.MonkeyPatch


@pytest.fixture
def file(tmp_path: Path) -> RealFile:
    file = RealDisk().open(str(tmp_path / "file"), create=True)
    file.append(b"before")
    return file


def failing_after(count: int, number: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """A system call that works `count` times, at most three bytes each time, then fails."""
    calls = 0

    def call(descriptor: int, data: Any, position: int) -> Any:
        nonlocal calls
        calls += 1
        if calls > count:
            raise OSError(number, os.strerror(number))
        return function(descriptor, data[:3], position)

    return call


def test_append_in_small_steps_arrives_whole(file: RealFile, monkeypatch: Patch) -> None:
    monkeypatch.setattr(os, "pwrite", failing_after(100, errno.EIO, os.pwrite))
    file.append(b"0123456789")
    assert file.read_at(0, 100) == b"before0123456789"


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, DiskFullError), (errno.EIO, DiskError)])
@pytest.mark.parametrize("steps", [0, 2])
def test_failed_append_leaves_the_file_as_it_was(
    file: RealFile, monkeypatch: Patch, number: int, kind: type[DiskError], steps: int
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", failing_after(steps, number, os.pwrite))
        with pytest.raises(kind) as caught:
            file.append(b"0123456789")
    assert caught.value.path == file.path
    assert os.path.getsize(file.path) == file.size() == 6
    file.append(b"!")
    assert file.read_at(0, 100) == b"before!"


def test_append_after_a_cut_that_failed_too_overwrites_the_remains(file: RealFile, monkeypatch: Patch) -> None:
    def no_cut(descriptor: int, size: int) -> None:
        raise OSError(errno.EIO, "no")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", failing_after(1, errno.ENOSPC, os.pwrite))
        patch.setattr(os, "ftruncate", no_cut)
        with pytest.raises(DiskFullError):
            file.append(b"xyz123")
    file.append(b"ab")
    assert file.read_at(0, 8) == b"beforeab"


def test_cold_or_partly_cached_data_is_not_waited_for(file: RealFile, monkeypatch: Patch) -> None:
    def cold(*_: object) -> int:
        raise BlockingIOError

    def first_bytes(descriptor: int, buffers: tuple[bytearray], position: int, flags: int) -> int:
        return os.preadv(descriptor, [memoryview(buffers[0])[:2]], position)

    monkeypatch.setattr(file, "_nowait", 8)
    preadv = os.preadv
    with monkeypatch.context() as patch:
        patch.setattr(real_disk.os, "preadv", cold)
        assert file.read_cached_at(0, 6) is None
    with monkeypatch.context() as patch:
        patch.setattr(
            real_disk.os,
            "preadv",
            lambda fd, buffers, position, flags: preadv(fd, [memoryview(buffers[0])[:2]], position),
        )
        assert file.read_cached_at(0, 6) is None
        assert file.read_cached_at(4, 6) == b"re"


def test_file_system_without_nowait_reads_the_tail_only(file: RealFile, monkeypatch: Patch) -> None:
    def unsupported(*_: object) -> int:
        raise OSError(errno.EOPNOTSUPP, "no")

    monkeypatch.setattr(file, "_nowait", 8)
    monkeypatch.setattr(real_disk.os, "preadv", unsupported)
    assert file.read_cached_at(1, 3) == b"efo"
    monkeypatch.setattr(real_disk, "PRESUMED_CACHED_BYTES", 2)
    assert file.read_cached_at(4, 2) == b"re"
    assert file.read_cached_at(3, 2) is None


def test_closing_during_a_read_never_lends_the_descriptor_to_another_file(tmp_path: Path) -> None:
    disk = RealDisk()
    stop = threading.Event()
    wrong: list[bytes] = []
    current = disk.open(str(tmp_path / "0"), create=True)
    current.append(b"a" * 100)

    def reader() -> None:
        while not stop.is_set():
            try:
                data = current.read_at(0, 100)
            except DiskError:
                continue
            if data not in (b"a" * 100, b""):
                wrong.append(data)

    thread = threading.Thread(target=reader)
    thread.start()
    for index in range(300):
        old, current = current, disk.open(str(tmp_path / "0"))
        old.close()
        other = disk.open(str(tmp_path / f"other-{index % 3}"), create=True)
        other.append(b"b" * 100)
        other.close()
    stop.set()
    thread.join()
    current.close()
    assert not wrong


def test_descriptors_are_given_back(tmp_path: Path) -> None:
    disk = RealDisk()
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(50):
        disk.open(str(tmp_path / "file"), create=True).close()
        disk.open(str(tmp_path / "file"))
        disk.lock(str(tmp_path / "lock")).release()
    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert after <= before + 1


def test_lock_excludes_another_process(tmp_path: Path) -> None:
    path = str(tmp_path / ".lock")
    program = (
        "import sys\nfrom ottla.runtime.real_disk import RealDisk\n"
        "from ottla.runtime.disk import DiskLockedError\n"
        "try:\n    RealDisk().lock(sys.argv[1])\n    print('taken')\n"
        "except DiskLockedError:\n    print('refused')\n"
    )

    def other_process() -> str:
        return subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True).stdout

    lock = RealDisk().lock(path)
    assert other_process() == "refused\n"
    lock.release()
    assert other_process() == "taken\n"


def test_a_private_file_is_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "file"
    disk = RealDisk()
    disk.open(str(path), create=True).close()
    disk.make_private(str(path))
    assert path.stat().st_mode & 0o777 == 0o600
