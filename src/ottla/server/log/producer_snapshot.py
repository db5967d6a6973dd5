"""The bytes of a `.snapshot` file: the last batch and the open transaction of every producer.

`version int16 = 1, crc uint32, int32 count`, then 46 bytes a producer; the CRC-32C covers what follows it.
"""

from __future__ import annotations

import struct
from collections.abc import Container, Iterable
from contextlib import suppress
from typing import NamedTuple

from ottla.core.checksum import crc32c
from ottla.runtime.disk import Disk, MissingFileError
from ottla.server.log.checkpoint import write_unsynced
from ottla.server.log.errors import CorruptSnapshotError
from ottla.server.log.files import DELETED_SUFFIX, SNAPSHOT_SUFFIX, offset_name

SNAPSHOT_VERSION = 1

_PREFIX = struct.Struct(">hI")
_COUNT = struct.Struct(">i")
_ENTRY = struct.Struct(">qhiqiqiq")


class SnapshotEntry(NamedTuple):
    """One producer; `last_offset` is -1 when no batch of its epoch is known."""

    producer_id: int
    producer_epoch: int
    last_sequence: int
    last_offset: int
    offset_delta: int
    timestamp_ms: int
    coordinator_epoch: int
    current_transaction_first_offset: int


def encode_snapshot(entries: Iterable[SnapshotEntry]) -> bytes:
    """The content of the file."""
    packed = [_ENTRY.pack(*entry) for entry in entries]
    body = _COUNT.pack(len(packed)) + b"".join(packed)
    return _PREFIX.pack(SNAPSHOT_VERSION, crc32c(body)) + body


def decode_snapshot(data: bytes) -> list[SnapshotEntry]:
    """What the file says; `CorruptSnapshotError` when it is cut off, changed, or of another version."""
    if len(data) < _PREFIX.size + _COUNT.size:
        raise CorruptSnapshotError("too short")
    version, crc = _PREFIX.unpack_from(data)
    if version != SNAPSHOT_VERSION:
        raise CorruptSnapshotError(f"unknown version {version}")
    body = memoryview(data)[_PREFIX.size :]
    if crc32c(body) != crc:
        raise CorruptSnapshotError("wrong CRC")
    (count,) = _COUNT.unpack_from(body)
    entries = body[_COUNT.size :]
    if count < 0 or len(entries) != count * _ENTRY.size:
        raise CorruptSnapshotError(f"{count} producers announced, room for {len(entries) // _ENTRY.size}")
    return [SnapshotEntry._make(entry) for entry in _ENTRY.iter_unpack(entries)]


class SnapshotFiles:
    """The snapshots of one partition: taken at every roll and at a clean close, named after the offset they were
    taken at.
    """

    __slots__ = ("_disk", "directory", "offsets", "unsynced")

    def __init__(self, disk: Disk, directory: str, offsets: Iterable[int] = ()) -> None:
        self._disk = disk
        self.directory = directory
        self.offsets = sorted(offsets)
        self.unsynced: set[int] = set()

    def path(self, offset: int) -> str:
        """Where the snapshot taken at `offset` is."""
        return f"{self.directory}/{offset_name(offset, SNAPSHOT_SUFFIX)}"

    @property
    def latest(self) -> int | None:
        """Offset of the newest one."""
        return self.offsets[-1] if self.offsets else None

    def take(self, offset: int, entries: Iterable[SnapshotEntry]) -> None:
        """Write one, unsynced; a flush makes it durable."""
        write_unsynced(self._disk, self.path(offset), encode_snapshot(entries))
        self.unsynced.add(offset)
        if offset not in self.offsets:
            self.offsets.append(offset)
            self.offsets.sort()

    def load_newest(self, up_to_offset: int) -> tuple[int, list[SnapshotEntry]] | None:
        """The newest readable one at or below `up_to_offset`; unreadable ones are removed on the way."""
        for offset in reversed([offset for offset in self.offsets if offset <= up_to_offset]):
            try:
                return offset, decode_snapshot(self._disk.read(self.path(offset)))
            except CorruptSnapshotError:
                self.remove(offset)
        return None

    def remove(self, offset: int) -> None:
        """Remove one; fine when it is not there."""
        if offset in self.offsets:
            self.offsets.remove(offset)
            self.unsynced.discard(offset)
            with suppress(MissingFileError):
                self._disk.remove(self.path(offset))

    def mark_deleted(self, offset: int) -> list[str]:
        """Rename one to `.deleted`; the new path, if there was a snapshot."""
        if offset not in self.offsets:
            return []
        self.offsets.remove(offset)
        self.unsynced.discard(offset)
        path = self.path(offset)
        self._disk.rename(path, path + DELETED_SUFFIX)
        return [path + DELETED_SUFFIX]

    def remove_strays(self, base_offsets: Container[int]) -> None:
        """Keep those that stand at the beginning of a segment, and the newest one."""
        for offset in self.offsets[:-1]:
            if offset not in base_offsets:
                self.remove(offset)

    def remove_outside(self, log_start_offset: int, log_end_offset: int) -> None:
        """Remove those that tell nothing about records which are still there."""
        for offset in list(self.offsets):
            if not log_start_offset < offset <= log_end_offset:
                self.remove(offset)
