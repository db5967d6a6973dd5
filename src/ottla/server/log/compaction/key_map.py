"""The last place of every key of the dirty part of a log, within a budget of memory."""

from __future__ import annotations

import sys
from bisect import bisect_left

from ottla.server.log.compaction.keys import LOCAL_BITS, LOCAL_MASK, KeyReader
from ottla.server.log.errors import LogError

# What one entry takes besides the slot in the table: a bytes object without its bytes, rounded up, and an int.
_ENTRY_BYTES = 41 + 32
# A place in the sorted list (the int itself is the map's).
_SORTED_BYTES = 8
_TOMBSTONE_BYTES = 100

# So many entries are taken between two looks at the budget.
MEASURED_ENTRIES = 256


class KeyMap:
    """Filled batch by batch in the order of the log (`put_batch`), then asked (`seal`) which records are the last of
    their key.

    Keys are kept and compared whole: where Kafka keeps a hash, two keys that share it would lose a record.
    `latest_offset`: everything up to here is in the map; -1 while nothing is. `is_full` says that the budget is used
    up: the batch that comes next is left to another round. `places`: see `keys`.
    """

    __slots__ = (
        "_budget_bytes",
        "_key_bytes",
        "_measured_entries",
        "_reader",
        "_survivors",
        "is_full",
        "latest_offset",
        "noted_bytes",
        "places",
        "tombstone_batches",
    )

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._key_bytes = 0
        self._survivors: list[int] = []
        self._reader = KeyReader()
        self.places = self._reader.places
        self.is_full = False
        self._measured_entries = 0
        # What else is kept in memory for every dirty batch.
        self.noted_bytes = 0
        self.latest_offset = -1
        # Base offsets of dirty batches that have tombstones.
        self.tombstone_batches: set[int] = set()

    def __len__(self) -> int:
        return len(self.places)

    @property
    def size_in_bytes(self) -> int:
        """What the map takes, about."""
        table = sys.getsizeof(self.places)
        entries = len(self.places) * (_ENTRY_BYTES + _SORTED_BYTES)
        notes = len(self.tombstone_batches) * _TOMBSTONE_BYTES + self.noted_bytes
        return table + entries + self._key_bytes + notes

    def put_batch(self, data: bytes, position: int, end: int, base_offset: int, *, has_gaps: bool) -> None:
        """Take the encoded records of one batch. Raises `CorruptRecordError`."""
        if end - position > LOCAL_MASK:
            raise LogError(f"the batch at offset {base_offset} is too large to be compacted")
        places = self.places
        before = len(places)
        if self._reader.put(data, position, end, base_offset, has_gaps=has_gaps):
            self.tombstone_batches.add(base_offset)
        added = len(places) - before
        if added:
            # The newest key stands for the others that are new: over many batches that is right.
            self._key_bytes += added * len(next(reversed(places)))
        self._measure(before + added)

    def put(self, key: bytes, offset: int) -> None:
        """Take one record of which only the offset is known."""
        if key not in self.places:
            self._key_bytes += len(key)
        self.places[key] = offset << LOCAL_BITS
        self._measure(len(self.places))

    def _measure(self, entries: int) -> None:
        entries += len(self.tombstone_batches) + self.noted_bytes // 128
        if entries - self._measured_entries >= MEASURED_ENTRIES:
            self._measured_entries = entries
            self.is_full = self.size_in_bytes >= self._budget_bytes

    def offset_of(self, key: bytes) -> int:
        """The last offset of a key, -1 when it is not in the map."""
        return self.places.get(key, -1) >> LOCAL_BITS

    def keeps_all(self, first_offset: int, next_offset: int, records: int) -> bool:
        """Whether the records in `[first_offset, next_offset)`, that many, are all the last of their key and none is a
        tombstone.
        """
        if any(first_offset <= offset < next_offset for offset in self.tombstone_batches):
            return False
        survivors = self._survivors
        begin = bisect_left(survivors, first_offset << LOCAL_BITS)
        return bisect_left(survivors, next_offset << LOCAL_BITS, begin) - begin == records

    def next_survivor(self, offset: int) -> int | None:
        """Offset of the first record at or above `offset` that is the last of its key."""
        index = bisect_left(self._survivors, offset << LOCAL_BITS)
        return self._survivors[index] >> LOCAL_BITS if index < len(self._survivors) else None

    def seal(self) -> None:
        """The map is complete."""
        self._survivors = sorted(self.places.values())

    def survivors(self, first_offset: int, next_offset: int, from_index: int) -> tuple[list[int], int]:
        """Where the records in `[first_offset, next_offset)` start that are the last of their key, and the index to
        go on with. `from_index` is the one for `first_offset` or a lower offset.
        """
        survivors = self._survivors
        begin = bisect_left(survivors, first_offset << LOCAL_BITS, from_index)
        end = bisect_left(survivors, next_offset << LOCAL_BITS, begin)
        return [place & LOCAL_MASK for place in survivors[begin:end]], end
