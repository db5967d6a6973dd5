"""Encrypted files: which keystream goes where, what is verified, what happens to a file while it is rewritten."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from random import Random

import pytest

from ottla.runtime.disk import Disk, DiskError
from ottla.runtime.encryption.conversion import Conversion, rewrap, state_of
from ottla.runtime.encryption.disk import EncryptedDisk
from ottla.runtime.encryption.header import HEADER_BYTES, MAXIMUM_EXTENTS, HeaderError, is_void, read_header
from ottla.runtime.encryption.keystream import FOREVER, Extents, Keystream
from ottla.runtime.file_range import FileRange, FileSender
from ottla.runtime.memory_disk import MemoryDisk, SimulatedCrashError
from ottla.runtime.real_disk import RealDisk

PATH = "/data/file"


class SomeKeys:
    """Keys that a test turns."""

    def __init__(self) -> None:
        self.keys = {b"1" * 16: b"one " * 8}
        self.encrypts = True

    def current(self, path: str) -> tuple[bytes, bytes] | None:
        return list(self.keys.items())[-1] if self.encrypts else None

    def find(self, key_id: bytes) -> bytes | None:
        return self.keys.get(key_id)

    def rotate(self) -> None:
        self.keys[bytes([len(self.keys) + 0x31]) * 16] = Random(len(self.keys)).randbytes(32)


@pytest.fixture
def machine() -> MemoryDisk:
    disk = MemoryDisk()
    disk.make_directories("/data")
    return disk


@pytest.fixture
def keys() -> SomeKeys:
    return SomeKeys()


@pytest.fixture
def disk(machine: MemoryDisk, keys: SomeKeys) -> EncryptedDisk:
    return again(machine, keys)


def again(machine: Disk, keys: SomeKeys, seed: int = 1) -> EncryptedDisk:
    """The disk as a process finds it that has just started."""
    return EncryptedDisk(machine, keys, plain_names=["plain"], random_bytes=Random(seed).randbytes)


# --- the keystream


def test_the_keystream_does_not_depend_on_how_a_file_is_cut_into_pieces() -> None:
    random = Random(5)
    keystream = Keystream(bytes(range(32)))
    keystream.extents = Extents((0,), (2**128 - 3,)).over(5000, FOREVER, 7).over(100, 333, 99)
    plain = random.randbytes(12_000)
    whole = bytearray(len(plain))
    keystream.apply(plain, whole, 0)
    for _ in range(200):
        start = random.randint(0, len(plain))
        end = random.randint(start, len(plain))
        assert keystream.decrypted(bytes(whole[start:end]), start) == plain[start:end]


def test_extents_cover_what_they_say_and_nothing_else() -> None:
    random = Random(3)
    for _ in range(200):
        model = [0] * 50
        extents = Extents((0,), (0,))
        for nonce in range(1, 8):
            start = random.randint(0, 49)
            end = random.choice((FOREVER, random.randint(start + 1, 50)))
            extents = extents.over(start, end, nonce)
            model[start : min(end, 50)] = [nonce] * (min(end, 50) - start)
        found = [
            [nonce for begin, nonce in zip(extents.starts, extents.nonces, strict=True) if begin <= position][-1]
            for position in range(50)
        ]
        assert found == model


@pytest.mark.parametrize("seed", range(6))
def test_no_keystream_is_used_twice(seed: int, machine: MemoryDisk, keys: SomeKeys) -> None:
    """With zeros as content the ciphertext is the keystream: no block of it may ever be seen at two times."""
    random = Random(f"reuse {seed}")
    disk = again(machine, keys)
    file = disk.open(PATH, create=True)
    written: dict[tuple[int, bytes], int] = {}

    def note(write: int, start: int, end: int) -> None:
        raw = machine.read(PATH)[HEADER_BYTES:]
        for position in range(start - start % 16, end - 15, 16):
            if position >= start:
                assert written.setdefault((position, raw[position : position + 16]), write) == write

    for write in range(60):
        size = file.size()
        match random.randint(0, 6):
            case 0:
                file.truncate(random.randint(0, size))
            case 1 if size:
                position = random.randint(0, size - 1)
                count = random.randint(1, 300)
                file.write_at(position, bytes(count))
                note(write, position, position + count)
            case 2:
                file.close()
                disk = again(machine, keys, seed=100 + write)  # another process
                file = disk.open(PATH, create=True)
            case 3:
                machine.fail_at(1, operations=["append"])
                with pytest.raises(DiskError):
                    file.append(b"what may be on the device all the same")
                machine.clear_faults()
                assert file.size() == size
            case _:
                file.append(bytes(random.randint(1, 500)))
                note(write, size, file.size())
        assert file.read_at(0, 100_000) == bytes(file.size())


def test_a_failed_append_uses_its_keystream_up(machine: MemoryDisk, disk: EncryptedDisk) -> None:
    file = disk.open(PATH, create=True)
    file.append(b"begin")
    header = file._content.layout.header  # type: ignore[attr-defined]
    before = header.keystream.extents
    machine.fail_at(1, operations=["append"])
    with pytest.raises(DiskError):
        file.append(b"secret text")
    machine.clear_faults()
    file.append(b"other text!")
    assert len(header.keystream.extents.starts) == len(before.starts) + 1
    assert file.read_at(0, 100) == b"beginother text!"


def test_a_header_full_of_extents_makes_room(machine: MemoryDisk, disk: EncryptedDisk) -> None:
    file = disk.open(PATH, create=True)
    reader = disk.open(PATH, read_only=True)
    content = b""
    for number in range(3 * MAXIMUM_EXTENTS):
        file.append(b"%d," % number)
        file.append(b"too much")
        content += b"%d," % number
        file.truncate(len(content))
    file.write_at(0, b"X")
    assert file.read_at(0, 100_000) == reader.read_at(0, 100_000) == b"X" + content[1:]
    assert machine.list_directory("/data") == ["file"]


# --- what is in the files


def test_nothing_is_readable_and_nothing_is_lost(machine: MemoryDisk, keys: SomeKeys, disk: EncryptedDisk) -> None:
    disk.replace("/data/whole", b"a canary in a file")
    file = disk.open(PATH, create=True)
    file.append(b"a canary in a log")
    disk.replace("/data/plain", b"a canary that may be seen")
    raw = {name: machine.read(f"/data/{name}") for name in machine.list_directory("/data")}
    assert [name for name, content in raw.items() if b"canary" in content] == ["plain"]
    disk = again(machine, keys)
    assert disk.read("/data/whole") == b"a canary in a file"
    assert disk.read(PATH) == b"a canary in a log"
    assert disk.read("/data/plain") == b"a canary that may be seen"


def test_a_file_that_was_written_whole_is_verified(machine: MemoryDisk, disk: EncryptedDisk) -> None:
    disk.replace(PATH, b"0\n1\norders 0 42\n")
    raw = bytearray(machine.read(PATH))
    raw[-2] ^= 1
    machine.replace(PATH, bytes(raw))
    with pytest.raises(DiskError, match="damaged, or changed by others"):
        disk.read(PATH)
    machine.replace(PATH, bytes(raw[:-3]))
    with pytest.raises(DiskError, match="damaged, or changed by others"):
        disk.read(PATH)


def test_a_file_that_was_written_whole_may_be_changed_by_its_owner(disk: EncryptedDisk) -> None:
    disk.replace(PATH, b"0123456789")
    file = disk.open(PATH)
    file.append(b"ab")
    file.write_at(3, b"---")
    file.truncate(11)
    assert disk.read(PATH) == b"012---6789a"


def test_a_damaged_header_is_told_and_not_taken_for_an_empty_file(machine: MemoryDisk, keys: SomeKeys) -> None:
    file = again(machine, keys).open(PATH, create=True)
    file.append(b"content")
    raw = bytearray(machine.read(PATH))
    raw[100] ^= 1
    machine.replace(PATH, bytes(raw))
    disk = again(machine, keys)
    with pytest.raises(DiskError, match="header is damaged") as caught:
        disk.open(PATH)
    assert caught.value.path == PATH
    with pytest.raises(DiskError):
        disk.read(PATH)


def test_a_file_of_an_unknown_key_says_which_one(machine: MemoryDisk, disk: EncryptedDisk) -> None:
    disk.replace(PATH, b"content")
    other = SomeKeys()
    other.keys = {b"2" * 16: bytes(32)}
    with pytest.raises(DiskError, match=(b"1" * 16).hex()):
        again(machine, other).read(PATH)


def test_a_first_write_that_was_torn_leaves_an_empty_file(machine: MemoryDisk, keys: SomeKeys) -> None:
    again(machine, keys).open(PATH, create=True).append(b"never synced")
    raw = machine.read(PATH)
    for length in (1, 7, 8, 100, 167, 168, 600, HEADER_BYTES - 1):
        machine.replace(PATH, raw[:length])
        disk = again(machine, keys)
        assert disk.size(PATH) == 0
        assert disk.read(PATH) == b""
        file = disk.open(PATH)
        file.append(b"again")
        assert file.read_at(0, 100) == again(machine, keys).read(PATH) == b"again"
    machine.replace(PATH, bytes(HEADER_BYTES) + raw[HEADER_BYTES:])
    assert again(machine, keys).size(PATH) == 0


def test_pages_that_never_reached_the_device_are_zeros(machine: MemoryDisk, keys: SomeKeys) -> None:
    again(machine, keys).open(PATH, create=True).append(b"x" * 10_000)
    raw = machine.read(PATH)
    machine.replace(PATH, raw[: HEADER_BYTES + 4096] + bytes(4096) + raw[HEADER_BYTES + 8192 :])
    disk = again(machine, keys)
    expected = b"x" * 4096 + bytes(4096) + b"x" * 1808
    assert disk.read(PATH) == disk.open(PATH).read_at(0, 20_000) == expected


def test_an_extent_that_was_torn_does_not_touch_what_is_before_it(machine: MemoryDisk, keys: SomeKeys) -> None:
    again(machine, keys).open(PATH, create=True).append(b"what was synced ")
    again(machine, keys, seed=2).open(PATH).append(b"what was not")
    raw = bytearray(machine.read(PATH))
    raw[512 + 48 + 40 : 512 + 96] = bytes(8)  # the code of the second extent
    machine.replace(PATH, bytes(raw))
    disk = again(machine, keys, seed=3)
    file = disk.open(PATH)
    content = file.read_at(0, 100)
    assert content[:16] == b"what was synced "
    assert content[16:] != b"what was not"
    file.truncate(16)
    file.append(b"and more")
    assert again(machine, keys).read(PATH) == b"what was synced and more"


# --- rewriting while files are used


def test_a_plain_file_is_encrypted_while_it_is_used(machine: MemoryDisk, keys: SomeKeys, disk: EncryptedDisk) -> None:
    keys.encrypts = False
    file, reader = disk.open(PATH, create=True), None
    file.append(b"a canary before ")
    reader = disk.open(PATH, read_only=True)
    assert machine.read(PATH) == b"a canary before "
    assert disk.size(PATH) == file.size() == 16
    keys.encrypts = True
    file.append(b"and after ")  # a plain file stays plain until somebody converts it
    assert machine.read(PATH) == b"a canary before and after "
    assert Conversion(disk, PATH).run()
    assert b"canary" not in machine.read(PATH)
    file.append(b"the turn")
    expected = b"a canary before and after the turn"
    assert file.read_at(0, 100) == reader.read_at(0, 100) == disk.read(PATH) == expected
    assert disk.size(PATH) == file.size() == reader.size() == len(expected)
    file.truncate(8)
    assert reader.read_at(0, 100) == again(machine, keys).read(PATH) == b"a canary"
    keys.encrypts = False
    assert Conversion(disk, PATH).run()
    file.append(b"!")
    assert machine.read(PATH) == reader.read_at(0, 100) == b"a canary!"


def test_appends_and_cuts_go_on_while_a_file_is_copied(machine: MemoryDisk, keys: SomeKeys) -> None:
    disk = again(machine, keys)
    keys.encrypts = False
    file = disk.open(PATH, create=True)
    file.append(bytes(3_000_000))
    keys.encrypts = True
    conversion = Conversion(disk, PATH)
    copy = conversion._copy
    happened: list[str] = []

    def copy_with_company(*arguments: object) -> int:
        position = copy(*arguments)  # type: ignore[arg-type]
        if not happened:
            happened.append("an append")
            file.append(b"meanwhile")
        return position

    conversion._copy = copy_with_company  # type: ignore[assignment,method-assign]
    assert conversion.run()
    assert file.read_at(2_999_999, 100) == b"\0meanwhile"
    assert again(machine, keys).read(PATH) == bytes(3_000_000) + b"meanwhile"


def test_a_file_that_is_renamed_or_removed_meanwhile_is_left_alone(machine: MemoryDisk, keys: SomeKeys) -> None:
    disk = again(machine, keys)
    keys.encrypts = False
    disk.make_directories("/data/one")
    file = disk.open("/data/one/file", create=True)
    file.append(b"content")
    keys.encrypts = True
    conversion = Conversion(disk, "/data/one/file")
    copy = conversion._copy

    def copy_and_move(*arguments: object) -> int:
        position = copy(*arguments)  # type: ignore[arg-type]
        if disk.exists("/data/one"):
            disk.rename("/data/one", "/data/two")
        return position

    conversion._copy = copy_and_move  # type: ignore[assignment,method-assign]
    assert not conversion.run()
    file.append(b" and more")
    assert machine.read("/data/two/file") == b"content and more"
    disk.remove("/data/two/file")
    assert not Conversion(disk, "/data/two/file").run()


def test_another_key_wraps_the_data_key_while_the_file_is_used(
    machine: MemoryDisk, keys: SomeKeys, disk: EncryptedDisk
) -> None:
    file = disk.open(PATH, create=True)
    file.append(b"content ")
    disk.replace("/data/whole", b"sealed")
    ciphertext = machine.read(PATH)[HEADER_BYTES:]
    keys.rotate()
    assert rewrap(disk, PATH)
    assert not rewrap(disk, PATH)
    assert rewrap(disk, "/data/whole")
    assert not rewrap(disk, "/data/none")
    assert machine.read(PATH)[HEADER_BYTES:] == ciphertext
    file.append(b"goes on")
    del keys.keys[b"1" * 16]  # nothing needs it any more, nor is anything left that it opens
    assert b"1" * 16 not in machine.read(PATH)
    disk = again(machine, keys)
    assert disk.read(PATH) == b"content goes on"
    assert disk.read("/data/whole") == b"sealed"
    assert state_of(machine, PATH).key_id == b"2" * 16


@pytest.mark.parametrize("operation", range(1, 12))
def test_a_crash_at_any_moment_of_another_key_loses_nothing(operation: int, keys: SomeKeys) -> None:
    for seed in range(4):
        machine = MemoryDisk()
        machine.make_directories("/data")
        machine.sync_directory("/")
        disk = again(machine, keys)
        file = disk.open(PATH, create=True)
        file.append(b"content")
        file.sync()
        machine.sync_directory("/data")
        keys.rotate()
        machine.crash_at(operation)
        try:
            rewrap(disk, PATH)
        except SimulatedCrashError:
            pass
        machine.crash(Random(seed))
        assert again(machine, keys).read(PATH) == b"content"


def test_headers_of_random_bytes_are_refused_or_empty(keys: SomeKeys, machine: MemoryDisk) -> None:
    file = again(machine, keys).open(PATH, create=True)
    file.append(b"content")
    page = machine.read(PATH)[:HEADER_BYTES]
    random = Random(8)
    for _ in range(500):
        damaged = bytearray(page)
        for _ in range(random.randint(1, 4)):
            damaged[random.randrange(600)] = random.randrange(256)
        raw = bytes(damaged[: random.choice((HEADER_BYTES, HEADER_BYTES, random.randint(0, HEADER_BYTES)))])
        if not is_void(raw):
            with suppress(HeaderError):
                read_header(raw, keys.find)


def test_ranges_of_the_real_disk_are_decrypted_on_their_way_to_a_socket(tmp_path: object, keys: SomeKeys) -> None:
    chance = Random(11)
    disk = again(RealDisk(), keys)
    file = disk.open(f"{tmp_path}/file", create=True)
    content = bytearray()
    for size in (100_000, 61, 700_000, 4096, 5):
        piece = chance.randbytes(size)
        file.append(piece)
        content += piece
        file.truncate(len(content) - 3)  # another extent
        del content[-3:]
    inner = RealDisk().open(f"{tmp_path}/file")
    inner.write_at(HEADER_BYTES + 409_600, bytes(8192))  # never written
    content[409_600 : 409_600 + 8192] = bytes(8192)
    if inner.cached_range(0, 10) is None:
        pytest.skip("this kernel has no cachestat")
    for start, end in [(0, len(content)), (17, 800_000), (4096, 140_000), (99_990, 100_001), (405_000, 700_123)]:
        found = file.cached_range(start, end - start)
        assert found is not None
        assert found.read() == content[start:end]
        assert asyncio.run(_sent([b"head", found, b"tail"])) == b"head" + content[start:end] + b"tail"
        room = memoryview(bytearray(20_000))
        rest, pieces = found, []
        while rest.size:
            count = rest.read_into(room)
            pieces.append(bytes(room[:count]))
            rest = rest.after(count)
        assert b"".join(pieces) == content[start:end]
    assert file.read_cached_at(400_000, 100_000) == content[400_000:500_000]
    file.close()
    inner.close()


async def _sent(parts: list[bytes | FileRange]) -> bytes:
    """What arrives at a reader who takes a little at a time."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    received = bytearray()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        sender = FileSender(ours.fileno(), loop)
        sender.send(parts, lambda error: None)
        while len(received) < sum(map(len, parts)):
            received += await loop.sock_recv(theirs, 30_000)
        sender.close()
    return bytes(received)


def test_the_real_disk_converts_too(tmp_path: object, keys: SomeKeys) -> None:
    path = f"{tmp_path}/file"
    RealDisk().replace(path, b"plain " * 1000)
    disk = again(RealDisk(), keys)
    file, reader = disk.open(path), disk.open(path, read_only=True)
    assert Conversion(disk, path).run()
    found = file.cached_range(0, 10)
    assert found is None or found.read() == b"plain plai"
    file.append(b"end")
    assert reader.read_at(5994, 100) == b"plain end"
    file.close()
    reader.close()


def test_a_file_that_ends_in_its_header_is_damaged(disk: EncryptedDisk, machine: MemoryDisk, keys: SomeKeys) -> None:
    disk.replace(PATH, b"content")
    page = bytearray(machine.read(PATH))
    page[256] = 1  # something of the second slot, so that it is not taken for a file that was never begun
    machine.replace(PATH, bytes(page[: HEADER_BYTES - 1000]))
    with pytest.raises(DiskError, match="ends in its encryption header"):
        again(machine, keys).open(PATH).append(b"more")
