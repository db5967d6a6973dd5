"""The disk port: the real disk, the one in memory, and an encrypted one over either behave the same."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from ottla.runtime.disk import Disk, DiskError, DiskLockedError, File, MissingFileError
from ottla.runtime.encryption.disk import EncryptedDisk
from ottla.runtime.memory_disk import MemoryDisk
from ottla.runtime.real_disk import RealDisk

NAMES = ["a", "b", "directory/a", "directory/b", "directory/deep/c", "missing/d"]
DIRECTORIES = ["directory", "directory/deep", "other"]


KEY_ID, KEY = b"i" * 16, b"k" * 32


class OneKey:
    """Encrypts everything with the same key."""

    def current(self, path: str) -> tuple[bytes, bytes] | None:
        return KEY_ID, KEY

    def find(self, key_id: bytes) -> bytes | None:
        return KEY if key_id == KEY_ID else None


def encrypted(inner: Disk, seed: int = 0) -> EncryptedDisk:
    return EncryptedDisk(inner, OneKey(), random_bytes=Random(seed).randbytes)


@pytest.fixture(params=["real", "memory", "encrypted real", "encrypted memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Disk, str]:
    """A disk and an empty directory on it."""
    if request.param.endswith("real"):
        disk: Disk = RealDisk()
        root = str(tmp_path)
    else:
        disk, root = MemoryDisk(), "/data"
        disk.make_directories(root)
    return encrypted(disk) if request.param.startswith("encrypted") else disk, root


def outcome(disk: Disk, root: str, files: dict[str, File], random: Random) -> object:
    """One random operation: its result, or the number of its error. The same randomness asks the same of any disk."""
    name, other = random.choice(NAMES), random.choice(NAMES)
    directory = random.choice(DIRECTORIES)
    path = f"{root}/{name}"
    position, size = random.randint(0, 10_000), random.randint(0, 10_000)
    data = random.randbytes(random.choice((0, 1, 100, 5000)))
    operation = random.randint(0, 19)
    try:
        if operation <= 2 and name in files:
            files.pop(name).close()
        file = files.get(name)
        match operation:
            case 0 | 1 | 2:
                files[name] = disk.open(path, create=random.random() < 0.8)
            case 3 | 4 | 5 if file is not None:
                file.append(data)
                return file.size()
            case 6 if file is not None:
                file.write_at(position, data)
                return file.size()
            case 7 if file is not None:
                file.truncate(position)
                return file.size()
            case 8 | 9 if file is not None:
                cached = file.read_cached_at(position, size)
                content = file.read_at(position, size)
                assert cached is None or bytes(cached) == content
                return content
            case 10 if file is not None:
                file.sync()
                return file.size()
            case 11:
                # Only names that are not open: a second owner of a file would have its own idea of the end.
                if file is None and other not in files:
                    disk.rename(path, f"{root}/{other}")
            case 12:
                if file is not None:
                    files.pop(name).close()
                disk.remove(path)
            case 13:
                disk.make_directories(f"{root}/{directory}")
            case 14:
                return disk.list_directory(f"{root}/{directory}")
            case 15:
                if not any(open_name.startswith(directory) for open_name in files):
                    disk.remove_tree(f"{root}/{directory}")
            case 16:
                if file is None:
                    disk.replace(path, data)
                return disk.read(path)
            case 17:
                return disk.size(path)
            case 18:
                return disk.exists(path), disk.is_directory(path), disk.is_directory(f"{root}/{directory}")
            case 19:
                disk.sync_directory(f"{root}/{directory}")
    except DiskError as error:
        return errno.errorcode[error.errno or 0], error.path.removeprefix(root)
    return None


def plain(disk: Disk) -> Disk:
    return disk


@pytest.mark.parametrize(
    ("around_real", "around_memory"),
    [(plain, plain), (encrypted, plain), (plain, encrypted)],
    ids=["plain", "real encrypted", "memory encrypted"],
)
@pytest.mark.parametrize("seed", range(25))
def test_random_operations_have_the_same_outcome_on_both(
    seed: int, tmp_path: Path, around_real: Callable[[Disk], Disk], around_memory: Callable[[Disk], Disk]
) -> None:
    memory_below = MemoryDisk()
    memory_below.make_directories("/data")
    real, memory = around_real(RealDisk()), around_memory(memory_below)
    real_files: dict[str, File] = {}
    memory_files: dict[str, File] = {}
    for step in range(200):
        operation = f"{seed}.{step}"
        expected = outcome(real, str(tmp_path), real_files, Random(operation))
        assert outcome(memory, "/data", memory_files, Random(operation)) == expected, operation
    for path in tmp_path.rglob("*"):
        name = f"/data/{path.relative_to(tmp_path)}"
        assert memory.is_directory(name) == path.is_dir()
        if path.is_file():
            assert memory.read(name) == real.read(str(path))
    for file in real_files.values():
        file.close()


def test_reads_are_short_only_at_the_end(place: tuple[Disk, str]) -> None:
    disk, root = place
    file = disk.open(f"{root}/file", create=True)
    file.append(b"0123456789")
    for read in (file.read_at, file.read_cached_at):
        assert bytes(read(0, 10) or b"?") == b"0123456789"
        assert bytes(read(7, 100) or b"?") == b"789"
        assert read(10, 5) == b""
        assert read(99, 5) == b""
    file.close()


def test_files_stay_usable_when_renamed_or_removed(place: tuple[Disk, str]) -> None:
    disk, root = place
    file = disk.open(f"{root}/file", create=True)
    disk.rename(f"{root}/file", f"{root}/other")
    file.append(b"more")
    assert disk.read(f"{root}/other") == b"more"
    disk.remove(f"{root}/other")
    file.append(b"!")
    assert file.read_at(0, 10) == b"more!"
    file.close()


def test_closed_file_is_an_error_and_closing_twice_is_none(place: tuple[Disk, str]) -> None:
    disk, root = place
    file = disk.open(f"{root}/file", create=True)
    file.close()
    file.close()
    for operation in (lambda: file.append(b"x"), lambda: file.read_at(0, 1), file.sync, lambda: file.truncate(0)):
        with pytest.raises(DiskError) as caught:
            operation()
        assert caught.value.errno == errno.EBADF
        assert caught.value.path == f"{root}/file"


def test_read_only_file_sees_what_the_owner_appends(place: tuple[Disk, str]) -> None:
    disk, root = place
    owner = disk.open(f"{root}/file", create=True)
    reader = disk.open(f"{root}/file", read_only=True)
    owner.append(b"abc")
    assert reader.size() == 3
    assert reader.read_at(1, 10) == b"bc"
    with pytest.raises(DiskError):
        reader.append(b"x")
    owner.close()
    reader.close()


def test_missing_file_has_an_error_of_its_own(place: tuple[Disk, str]) -> None:
    disk, root = place
    for operation in (disk.open, disk.read, disk.size, disk.remove, disk.list_directory, disk.modified_ms):
        with pytest.raises(MissingFileError) as caught:
            operation(f"{root}/missing")
        assert caught.value.path == f"{root}/missing"
        assert isinstance(caught.value, FileNotFoundError)
    disk.remove_tree(f"{root}/missing")


def test_replace_gives_new_content_and_leaves_nothing_else(place: tuple[Disk, str]) -> None:
    disk, root = place
    disk.replace(f"{root}/file", b"a long first content")
    disk.replace(f"{root}/file", b"second")
    assert disk.read(f"{root}/file") == b"second"
    assert disk.list_directory(root) == ["file"]


def test_lock_is_refused_while_another_holds_it(place: tuple[Disk, str]) -> None:
    disk, root = place
    lock = disk.lock(f"{root}/.lock")
    with pytest.raises(DiskLockedError) as caught:
        disk.lock(f"{root}/.lock")
    assert caught.value.path == f"{root}/.lock"
    lock.release()
    lock.release()
    disk.lock(f"{root}/.lock").release()


def test_space_is_known(place: tuple[Disk, str]) -> None:
    disk, root = place
    assert 0 < disk.free_bytes(root) <= disk.total_bytes(root)
