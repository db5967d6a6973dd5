"""The last offset of every key of the dirty part of a log, within a budget of memory."""

from __future__ import annotations

import sys
from bisect import bisect_left, bisect_right

from ottla.server.log.compaction.records import put_keys

# What one entry takes besides the slot in the table: a bytes object without its bytes, rounded up, and an int.
_ENTRY_BYTES = 41 + 32
# An offset in the sorted list (the int itself is the map's).
_SORTED_BYTES = 8
_TOMBSTONE_BYTES = 100


class KeyMap:
    """Filled batch by batch in the order of the log (`put_batch`), then asked (`seal`) which offsets are the last of
    their key.

    Keys are kept and compared whole: where Kafka keeps a hash, two keys that share it would lose a record.
    `latest_offset`: everything up to here is in the map; -1 while nothing is. `is_full` says that the budget is used
    up: the batch that comes next is left to another round.
    """

    __slots__ = ("_budget_bytes", "_key_bytes", "latest_offset", "offsets", "survivors", "tombstone_batches")

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._key_bytes = 0
        self.offsets: dict[bytes, int] = {}
        self.latest_offset = -1
        self.survivors: list[int] = []
        # Base offsets of dirty batches that have tombstones.
        self.tombstone_batches: set[int] = set()

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def size_in_bytes(self) -> int:
        """What the map takes, about."""
        table = sys.getsizeof(self.offsets)
        entries = len(self.offsets) * (_ENTRY_BYTES + _SORTED_BYTES)
        return table + entries + self._key_bytes + len(self.tombstone_batches) * _TOMBSTONE_BYTES

    @property
    def is_full(self) -> bool:
        """Whether the budget is used up."""
        return self.size_in_bytes >= self._budget_bytes

    def put_batch(self, data: bytes, position: int, end: int, base_offset: int) -> None:
        """Take the encoded records of one batch. Raises `CorruptRecordError`."""
        offsets = self.offsets
        before = len(offsets)
        if put_keys(data, position, end, base_offset, offsets):
            self.tombstone_batches.add(base_offset)
        added = len(offsets) - before
        if added:
            # The newest key stands for the others that are new: over many batches that is right.
            self._key_bytes += added * len(next(reversed(offsets)))

    def put(self, key: bytes, offset: int) -> None:
        """Take one record."""
        if key not in self.offsets:
            self._key_bytes += len(key)
        self.offsets[key] = offset

    def seal(self) -> None:
        """The map is complete: sort the offsets that are left."""
        self.survivors = sorted(self.offsets.values())

    def survivors_between(self, first_offset: int, last_offset: int, start: int) -> tuple[int, int]:
        """Where in `survivors` those from `first_offset` to `last_offset` (both inclusive) stand: `[begin, end)`.
        `start` is where the search begins.
        """
        survivors = self.survivors
        begin = bisect_left(survivors, first_offset, start)
        return begin, bisect_right(survivors, last_offset, begin)
