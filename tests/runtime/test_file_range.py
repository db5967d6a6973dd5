"""File ranges and sending them: whole, in portions as the reader takes them, and cut short."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from pathlib import Path

import pytest

from ottla.runtime.file_range import FileRange, FileSender, can_send_files, is_cached
from ottla.runtime.memory_disk import MemoryDisk
from ottla.runtime.real_disk import RealDisk

CONTENT = random.Random(5).randbytes(3_000_000)

pytestmark = pytest.mark.skipif(not can_send_files, reason="no sendfile on this system")


class Opened:
    """A descriptor that lives as long as this object."""

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        os.close(self.number)


@pytest.fixture
def content(tmp_path: Path) -> Opened:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return Opened(path)


def test_a_range_reads_like_a_buffer(content: Opened) -> None:
    part = FileRange(content, 1000, 2_000_000)
    assert len(part) == 2_000_000
    assert part.read() == CONTENT[1000:2_001_000]
    with pytest.raises(OSError, match="shorter"):
        FileRange(content, 2_999_999, 2).read()


def test_what_was_just_written_is_cached_and_what_is_not_there_is_not(content: Opened) -> None:
    if not is_cached(content.number, 0, 1):
        pytest.skip("this kernel has no cachestat")
    assert is_cached(content.number, 1, len(CONTENT) - 1)
    assert not is_cached(content.number, 0, len(CONTENT) + 100_000)


def test_a_file_offers_ranges_where_the_system_can_send_them(tmp_path: Path) -> None:
    disk = RealDisk()
    file = disk.open(str(tmp_path / "file"), create=True)
    file.append(CONTENT)
    part = file.cached_range(5, 100_000)
    if part is not None:
        file.close()
        assert part.read() == CONTENT[5:100_005], "a range keeps its file open"
    memory = MemoryDisk()
    other = memory.open("file", create=True)
    other.append(CONTENT)
    assert other.cached_range(0, 10) is None


def test_pieces_arrive_in_order_however_slowly_they_are_taken(content: Opened) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.setblocking(False)
            sender = FileSender(ours.fileno(), loop)
            done: asyncio.Future[OSError | None] = loop.create_future()
            parts = [
                b"start",
                FileRange(content, 10, 1_500_000),
                b"",
                b"middle" * 100_000,
                FileRange(content, 0, 7),
                b"end",
            ]
            assert not sender.send(parts, done.set_result), "the socket cannot hold that much"
            assert sender.is_busy
            received = bytearray()
            while not done.done() or len(received) < 5 + 1_500_000 + 600_000 + 7 + 3:
                received += await loop.sock_recv(theirs, 50_000)
            assert done.result() is None
            assert received == b"start" + CONTENT[10:1_500_010] + b"middle" * 100_000 + CONTENT[:7] + b"end"
            assert not sender.is_busy
            assert sender.send([b"again"], done.set_result), "done at once, so nobody is called"
            sender.close()

    asyncio.run(main())


def test_a_reader_that_goes_away_is_an_error(content: Opened) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with ours:
            ours.setblocking(False)
            sender = FileSender(ours.fileno(), loop)
            done: asyncio.Future[OSError | None] = loop.create_future()
            sender.send([FileRange(content, 0, 3_000_000)], done.set_result)
            theirs.close()
            assert isinstance(await done, OSError)
            assert not sender.is_busy
            sender.close()

    asyncio.run(main())


def test_closing_gives_up_silently(content: Opened) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            sender = FileSender(ours.fileno(), asyncio.get_running_loop())
            called: list[OSError | None] = []
            sender.send([FileRange(content, 0, 3_000_000)], called.append)
            sender.close()
            theirs.recv(1_000_000)
            await asyncio.sleep(0.01)
            assert not called

    asyncio.run(main())
