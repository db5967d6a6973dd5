"""The aborted transactions of a segment: `.txnindex`, 34 bytes each, ordered by last offset; no file when there is
none.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from ottla.runtime.disk import Disk, MissingFileError
from ottla.server.log.errors import CorruptIndexError
from ottla.server.log.movable_file import MovableFile

ENTRY_SIZE = 34
VERSION = 0

_ENTRY = struct.Struct(">hqqqq")


class AbortedTransaction(NamedTuple):
    """Records of `producer_id` from `first_offset` to the marker at `last_offset` are to be dropped by a reader.

    `last_stable_offset` is what it was right after the marker: a reader below it needs no later entries.
    """

    producer_id: int
    first_offset: int
    last_offset: int
    last_stable_offset: int


class TransactionIndex(MovableFile):
    """Entries are few and written at once, unsynced; they are read when first asked for."""

    __slots__ = ("_entries", "unsynced")

    def __init__(self, disk: Disk, path: str, *, restored: bool) -> None:
        super().__init__(disk, path)
        # None: there may be a file, and nobody has read it yet.
        self._entries: list[AbortedTransaction] | None = [] if restored else None
        self.unsynced = False

    def entries(self) -> list[AbortedTransaction]:
        """All of them; raises `CorruptIndexError`."""
        if self._entries is None:
            self._entries = self._read()
        return self._entries

    def append(self, transaction: AbortedTransaction) -> None:
        """Add one; last offsets ascend. On `DiskError` only the file does not have it, which recovery makes again."""
        entries = self.entries()
        size = len(entries) * ENTRY_SIZE
        # The marker is in the log: whoever reads from here on must not take the records for committed.
        entries.append(transaction)
        file = self._disk.open(self.path, create=True)
        try:
            if file.size() != size:
                file.truncate(size)
            file.append(_ENTRY.pack(VERSION, *transaction))
        finally:
            file.close()
        self.unsynced = True

    def collect(self, start_offset: int, end_offset: int, into: list[AbortedTransaction]) -> bool:
        """Add those that touch the range; True when segments after this one can not have any more."""
        for transaction in self.entries():
            if transaction.last_offset >= start_offset and transaction.first_offset < end_offset:
                into.append(transaction)
            if transaction.last_stable_offset >= end_offset:
                return True
        return False

    def truncate_to(self, offset: int) -> None:
        """Drop entries whose marker is at `offset` or above."""
        entries = self.entries()
        kept = [transaction for transaction in entries if transaction.last_offset < offset]
        if len(kept) == len(entries):
            return
        self._entries = kept
        file = self._disk.open(self.path)
        try:
            file.truncate(len(kept) * ENTRY_SIZE)
        finally:
            file.close()

    def reset(self) -> None:
        """Drop all entries and the file."""
        self._entries = []
        if self._disk.exists(self.path):
            self._disk.remove(self.path)

    def _read(self) -> list[AbortedTransaction]:
        try:
            file = self.open_where_it_is()
        except MissingFileError:
            return []
        try:
            data = file.read_at(0, file.size())
        finally:
            file.close()
        if len(data) % ENTRY_SIZE:
            raise CorruptIndexError(f"{self.path} has {len(data)} bytes, no multiple of {ENTRY_SIZE}")
        entries = []
        for version, *values in _ENTRY.iter_unpack(data):
            if version > VERSION:
                raise CorruptIndexError(f"unknown version {version} in {self.path}")
            entries.append(AbortedTransaction(*values))
        return entries
