"""Every key of a batch with the place of its record, into a dictionary: the inner loop of compaction.

A place is an int, `offset << LOCAL_BITS | start`, where `start` is the position of the record among the (decompressed)
records of its batch: places are in the order of offsets, and lead to a record without a walk over those before it.

Records have much in common. Offset deltas are 0, 1, 2, …; the fields before the key mostly take the same number of
bytes in one record and the next; and often records are of one size. So a batch is first tried as a run of records like
those of the batch before, whose fields are columns, compared and read in C (`_Shape`); then one record is read field by
field, what follows it tried as a run of its shape, and then as records with its widths, one `struct` call each.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from ottla.records.batch import CorruptRecordError
from ottla.server.log.compaction.records import NULL_LENGTH, read_rest

LOCAL_BITS: Final = 27
LOCAL_MASK: Final = (1 << LOCAL_BITS) - 1
STEP: Final = 1 << LOCAL_BITS

SHORTEST_RUN = 8
LONGEST_RUN = 1024
# So often a guess may come to nothing before the rest of a batch is read field by field.
MISSES = 4

_DELTA_LIMITS = (0, 64, 8192)  # offset deltas below take so many bytes as the index says
_ASCII = bytes(range(128))
_CONTINUED = bytes(range(128, 256))
_SHORT_DELTAS = bytes(range(0, 128, 2))
_DELTAS = bytes([delta << 1 & 127 | 128 for delta in range(8192)])
_DELTAS_SECOND = bytes([delta >> 6 for delta in range(8192)])
# Offset deltas as `struct` reads them, by the number of bytes.
_EXPECTED: tuple[list[int], ...] = (
    [],
    list(_SHORT_DELTAS),
    [low << 8 | high for low, high in zip(_DELTAS, _DELTAS_SECOND, strict=True)],
)
# By the size field of a record as `struct` reads it: the size of the record with that field, 0 where it can not be.
_SIZES = (
    array("H"),
    array("H", [0 if size & 129 else (size >> 1) + 1 for size in range(256)]),
    array(
        "H",
        [((size >> 8 & 127 | (size & 127) << 7) >> 1) + 2 if size & 0x8180 == 0x8000 else 0 for size in range(65536)],
    ),
)
# A timestamp delta of so many bytes: these bits of it have to be those.
_TIMESTAMP_BITS = ((0, 0), (0x80, 0), (0x8080, 0x8000))


class KeyReader:
    """Fills `places`. Keeps what it has learned of the shape of records from one batch to the next."""

    __slots__ = ("_shapes", "places")

    def __init__(self) -> None:
        self.places: dict[bytes, int] = {}
        # For offset deltas of one byte, and of two.
        self._shapes: list[_Shape | None] = [None, None]

    def put(self, data: bytes, position: int, end: int, base_offset: int, has_gaps: bool = False) -> bool:
        """Note the place of every record with a key under that key; whether any record is a tombstone.

        `has_gaps`: offset deltas are not 0, 1, 2, …. Raises `CorruptRecordError` when these bytes are no records.
        """
        first_place = base_offset << LOCAL_BITS
        has_tombstones = False
        origin = position
        places = self.places
        misses = MISSES if has_gaps else 0
        if not has_gaps:
            number = 0
            for shape in self._shapes:
                if shape is not None:
                    place = first_place + (number << LOCAL_BITS) + position - origin
                    count = shape.put(data, position, end, number, place, places)
                    position += count * shape.size
                    number += count
                    has_tombstones |= shape.is_tombstone and count > 0
        try:
            while position < end:
                start = position
                size = data[position]
                position += 1
                if size > 127:
                    size, position = read_rest(data, position, size & 127, 7)
                following = position + (size >> 1)
                timestamp_at = position = position + 1
                while data[position] > 127:
                    position += 1
                delta_at = position = position + 1
                delta = data[position]
                position += 1
                if delta > 127:
                    delta, position = read_rest(data, position, delta & 127, 7)
                length_at = position
                length = data[position]
                position += 1
                if length > 127:
                    length, position = read_rest(data, position, length & 127, 7)
                if length & 1:
                    key_end = position
                else:
                    key_end = position + (length >> 1)
                    places[data[position:key_end]] = first_place + ((delta >> 1) << LOCAL_BITS) + start - origin
                if key_end >= following:
                    raise CorruptRecordError("the key of a record is longer than the record")
                if data[key_end] == NULL_LENGTH:
                    has_tombstones = True
                key_at, position = position, following
                if misses >= MISSES or length & 1:
                    continue
                widths = timestamp_at - start - 1, delta_at - timestamp_at, length_at - delta_at
                if max(widths) > 2 or key_at != length_at + 1:
                    misses += 1
                    continue
                number = (delta >> 1) + 1
                place = first_place + (number << LOCAL_BITS) + following - origin
                size = following - start
                if (
                    end - following >= SHORTEST_RUN * size
                    and data[following] == data[following + size] == data[following + 2 * size] == data[start]
                ):
                    example = data[start : key_end + 1]
                    shape = _Shape(example, size, widths, key_end - key_at)
                    count = shape.put(data, following, end, number, place, places)
                    if count:
                        position += count * shape.size
                        self._shapes[widths[2] - 1] = shape
                        continue
                position, found = _put_alike(data, position, end, widths, key_end - key_at, number, place, places)
                has_tombstones |= found
                if position - following < SHORTEST_RUN * size:
                    misses += 1
        except IndexError:
            raise CorruptRecordError("record is cut off") from None
        if position != end:
            raise CorruptRecordError("the records do not end where the batch does")
        return has_tombstones


class _Shape:
    """Records of one size, with keys of one size, and fields before the key that take the same number of bytes.

    `example` is the beginning of one, up to the first byte of the size of its value, which is the same in all.
    """

    __slots__ = (
        "_constants",
        "_deltas",
        "_fields_at",
        "_key_at",
        "_key_length",
        "_limit",
        "_timestamps",
        "_usual",
        "is_tombstone",
        "size",
    )

    def __init__(self, example: bytes, size: int, widths: tuple[int, int, int], key_length: int) -> None:
        size_width, timestamp_width, delta_width = widths
        timestamp_at = size_width + 1
        delta_at = timestamp_at + timestamp_width
        length_at = delta_at + delta_width
        self.size = size
        self.is_tombstone = example[-1] == NULL_LENGTH
        # The fields that are the same in all of them: size, size of the key and, its first byte, size of the value.
        constants = (*range(size_width), length_at, len(example) - 1)
        self._constants = [example[at : at + 1] for at in constants]
        self._timestamps = [_CONTINUED, _ASCII][-timestamp_width:]
        self._deltas = [_SHORT_DELTAS] if delta_width == 1 else [_DELTAS, _DELTAS_SECOND]
        self._fields_at = (*constants, *range(timestamp_at, length_at))
        self._limit = _DELTA_LIMITS[delta_width]
        self._key_at, self._key_length = length_at + 1, key_length
        # The number of the first record of a run that was found to be right, and its fields: the next has mostly those.
        self._usual: tuple[int, list[bytes]] = (-1, [])

    def put(self, data: bytes, position: int, end: int, number: int, place: int, places: dict[bytes, int]) -> int:
        """Take the records from `position` on that have this shape; how many, 0 when they are too few.

        `number` and `place` are those of the first one.
        """
        size = self.size
        count = min((end - position) // size, self._limit - number, LONGEST_RUN)
        if count < SHORTEST_RUN:
            return 0
        stop = position + count * size
        fields = number, [data[position + at : stop : size] for at in self._fields_at]
        if fields != self._usual:
            alike = self._count_alike(fields[1], count, number)
            if alike < SHORTEST_RUN:
                return 0
            if alike == count:
                self._usual = fields
            count = alike
        keys = _key_struct(self._key_at, self._key_length, size, count).unpack_from(data, position)
        step = STEP + size
        places.update(zip(keys, range(place, place + count * step, step)))  # noqa: B905
        return count

    def _count_alike(self, fields: list[bytes], count: int, number: int) -> int:
        """How many records, from the first one on, have the fields that those of this shape have."""
        columns = iter(fields)
        for allowed in self._constants + self._timestamps:
            column = next(columns)
            count = min(count, len(column) - len(column.lstrip(allowed)))
        for expected in self._deltas:
            if next(columns)[:count] != expected[number : number + count]:
                return 0
        return count


@lru_cache(maxsize=64)
def _key_struct(key_at: int, key_length: int, size: int, count: int) -> struct.Struct:
    return struct.Struct(f"{key_at}x{key_length}s{size - key_at - key_length}x" * count)


def _put_alike(
    data: bytes,
    position: int,
    end: int,
    widths: tuple[int, int, int],
    key_length: int,
    number: int,
    place: int,
    places: dict[bytes, int],
) -> tuple[int, bool]:
    """Take the records from `position` on whose fields before the key have these widths (of size, timestamp delta and
    offset delta; the size of the key has one byte); the position after them, and whether there was a tombstone.

    The size may have one byte in some and two in others. Most keys are expected to have `key_length` bytes.
    """
    has_tombstones = False
    size_width, *widths_after = widths
    head, sizes, unpack = _head(size_width, *widths_after, key_length)
    other = _head(3 - size_width, *widths_after, key_length)
    timestamp_mask, timestamp_bits = _TIMESTAMP_BITS[widths[1]]
    key_length_field = key_length << 1
    try:
        for expected in _EXPECTED[widths[2]][number:]:
            size_field, timestamp, delta, length, key, value_length = unpack(data, position)
            size = sizes[size_field]
            if not size:
                (head, sizes, unpack), other = other, (head, sizes, unpack)
                size_field, timestamp, delta, length, key, value_length = unpack(data, position)
                size = sizes[size_field]
            if delta != expected or timestamp & timestamp_mask != timestamp_bits:
                break
            if length != key_length_field:
                key_end = position + head + (length >> 1)
                if length & 129 or key_end >= position + size:
                    break
                key, value_length = data[position + head : key_end], data[key_end]
            elif size <= head + key_length:
                break
            following = position + size
            if following > end:
                break
            places[key] = place
            if value_length == NULL_LENGTH:
                has_tombstones = True
            place += STEP + size
            position = following
    except (struct.error, IndexError):
        pass  # the end of the data
    return position, has_tombstones


@lru_cache(maxsize=64)
def _head(
    size_width: int, timestamp_width: int, delta_width: int, key_length: int
) -> tuple[int, array[int], Callable[[bytes, int], tuple[Any, ...]]]:
    """Where the key is in records with fields of these widths, their sizes, and what reads their fields up to the first
    byte of the size of the value.
    """
    code = " BH"
    layout = struct.Struct(f">{code[size_width]}x{code[timestamp_width]}{code[delta_width]}B{key_length}sB")
    return layout.size - key_length - 1, _SIZES[size_width], layout.unpack_from
