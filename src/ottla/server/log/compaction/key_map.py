"""The last place of every key of the dirty part of a log, within a budget of memory."""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Iterator
from itertools import islice

from ottla.server.log.compaction.keys import LOCAL_BITS, LOCAL_MASK, KeyReader
from ottla.server.log.errors import LogError

# What one entry takes besides the slot in the table: a bytes object without its bytes, rounded up, and an int.
_ENTRY_BYTES = 41 + 32
# A place in a bucket (the int itself is the map's).
_SORTED_BYTES = 8
_TOMBSTONE_BYTES = 100

# How many places a bucket has, on average.
BUCKET_ENTRIES = 1024

# So many entries are taken between two looks at the budget.
MEASURED_ENTRIES = 256


class KeyMap:
    """Filled batch by batch in the order of the log (`put_batch`), then sorted (`sort`) and asked which records are
    the last of their key.

    Keys are kept and compared whole: where Kafka keeps a hash, two keys that share it would lose a record.
    `latest_offset`: everything up to here is in the map; -1 while nothing is. `is_full` says that the budget is used
    up: the batch that comes next is left to another round. `places`: see `keys`.
    """

    __slots__ = (
        "_buckets",
        "_budget_bytes",
        "_first",
        "_key_bytes",
        "_measured_entries",
        "_reader",
        "_width",
        "is_full",
        "latest_offset",
        "noted_bytes",
        "places",
        "tombstone_batches",
    )

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._key_bytes = 0
        # Places by range of `_width` from `_first` on, each range in order.
        self._buckets: list[list[int]] = [[]]
        self._first, self._width = 0, 1
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
        if self._reader.put(data, position, end, base_offset, has_gaps):
            self.tombstone_batches.add(base_offset)
        entries = len(places)
        if entries > before:
            # The newest key stands for the others that are new: over many batches that is right.
            self._key_bytes += (entries - before) * len(next(reversed(places)))
        self._measure(entries)

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

    def sort(self, first_offset: int, slice_entries: int) -> Iterator[None]:
        """The map is complete, from `first_offset` on: bring what is left into order, in slices of so many entries.

        (Sorting all of it would be one call that no other thread could interrupt.)
        """
        self._first = first = first_offset << LOCAL_BITS
        span = max(((self.latest_offset + 1) << LOCAL_BITS) - first, 1)
        self._width = width = max(span * BUCKET_ENTRIES // max(len(self.places), 1), 1)
        buckets: list[list[int]] = [[] for _ in range(span // width + 1)]
        self._buckets = buckets
        buckets_in_a_slice = slice_entries // BUCKET_ENTRIES + 1
        places = iter(self.places.values())
        for _ in range(0, len(self.places), slice_entries):
            for place in islice(places, slice_entries):
                buckets[(place - first) // width].append(place)
            yield
        for number, bucket in enumerate(buckets, 1):
            bucket.sort()
            if not number % buckets_in_a_slice:
                yield

    # What is asked for below has to lie in the part that is in the map.

    def survivors(self, first_offset: int, next_offset: int) -> list[int]:
        """Where the records in `[first_offset, next_offset)` start that are the last of their key, ascending."""
        first, end = first_offset << LOCAL_BITS, next_offset << LOCAL_BITS
        begin_bucket, end_bucket = self._bucket_of(first), self._bucket_of(end - 1)
        bucket = self._buckets[begin_bucket]
        found = bucket[bisect_left(bucket, first) : bisect_left(bucket, end)]
        for bucket in self._buckets[begin_bucket + 1 : end_bucket + 1]:
            found += bucket[: bisect_left(bucket, end)]
        return [place & LOCAL_MASK for place in found]

    def next_survivor(self, offset: int) -> int | None:
        """Offset of the first record at or above `offset` that is the last of its key."""
        first = offset << LOCAL_BITS
        for index in range(self._bucket_of(first), len(self._buckets)):
            bucket = self._buckets[index]
            begin = bisect_left(bucket, first)
            if begin < len(bucket):
                return bucket[begin] >> LOCAL_BITS
        return None

    def keeps_all(self, first_offset: int, next_offset: int, records: int) -> bool:
        """Whether the records in `[first_offset, next_offset)`, that many, are all the last of their key and none is a
        tombstone.
        """
        if any(first_offset <= offset < next_offset for offset in self.tombstone_batches):
            return False
        first, end = first_offset << LOCAL_BITS, next_offset << LOCAL_BITS
        begin_bucket, end_bucket = self._bucket_of(first), self._bucket_of(end - 1)
        count = sum(len(bucket) for bucket in self._buckets[begin_bucket : end_bucket + 1])
        if count < records:
            return False
        count -= bisect_left(self._buckets[begin_bucket], first)
        bucket = self._buckets[end_bucket]
        return count - (len(bucket) - bisect_left(bucket, end)) == records

    def _bucket_of(self, place: int) -> int:
        return (place - self._first) // self._width
