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
from functools import lru_cache
from typing import Final

from ottla.records.batch import CorruptRecordError
from ottla.server.log.compaction.records import NULL_LENGTH, read_rest

LOCAL_BITS: Final = 27
LOCAL_MASK: Final = (1 << LOCAL_BITS) - 1
STEP: Final = 1 << LOCAL_BITS

SHORTEST_RUN = 8
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
        # By the number of bytes of an offset delta: 1 or 2.
        self._shapes: list[_Shape | None] = [None, None, None]

    def put(self, data: bytes, position: int, end: int, base_offset: int, *, has_gaps: bool = False) -> bool:
        """Note the place of every record with a key under that key; whether any record is a tombstone.

        `has_gaps`: offset deltas are not 0, 1, 2, …. Raises `CorruptRecordError` when these bytes are no records.
        """
        first_place = base_offset << LOCAL_BITS
        has_tombstones = False
        origin = position
        places = self.places
        misses = MISSES if has_gaps else 0
        shape = self._shapes[1]
        if shape is not None and not has_gaps:
            count = shape.put(data, position, end, 0, first_place, places)
            position += count * shape.size
            has_tombstones = shape.is_tombstone and count > 0
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
                        self._shapes[widths[2]] = shape
                        continue
                position, found = _put_alike(data, position, end, widths, number, place, places)
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
        "_keys",
        "_limit",
        "_timestamps",
        "_usual",
        "_usual_count",
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
        self._constants = [(at, _column(example[at])) for at in constants]
        self._usual_count = -1
        self._usual = self._constants
        self._timestamps = list(range(timestamp_at, delta_at))
        columns = (_SHORT_DELTAS,) if delta_width == 1 else (_DELTAS, _DELTAS_SECOND)
        self._deltas = list(zip(range(delta_at, length_at), columns, strict=True))
        self._limit = _DELTA_LIMITS[delta_width]
        self._keys = _key_struct(length_at + 1, key_length, size)

    def put(self, data: bytes, position: int, end: int, number: int, place: int, places: dict[bytes, int]) -> int:
        """Take the records from `position` on that have this shape; how many, 0 when they are too few.

        `number` and `place` are those of the first one.
        """
        size = self.size
        count = min((end - position) // size, self._limit - number)
        if count < SHORTEST_RUN:
            return 0
        stop = position + count * size
        if count != self._usual_count:
            self._usual_count = count
            self._usual = [(at, column[:count]) for at, column in self._constants]
        for at, expected in self._usual:
            column = data[position + at : stop : size]
            if column != expected[: len(column)]:
                count = len(column) - len(column.lstrip(expected[:1]))
                if count < SHORTEST_RUN:
                    return 0
                stop = position + count * size
        for at in self._timestamps:
            column = data[position + at : stop : size]
            is_last = at == self._timestamps[-1]
            if not (is_last and column.isascii()):
                count = count - len(column.lstrip(_ASCII if is_last else _CONTINUED))
                if count < SHORTEST_RUN:
                    return 0
                stop = position + count * size
        for at, expected in self._deltas:
            if data[position + at : stop : size] != expected[number : number + count]:
                return 0
        run = memoryview(data)[position:stop]
        step = STEP + size
        for (key,), where in zip(self._keys.iter_unpack(run), range(place, place + count * step, step)):  # noqa: B905
            places[key] = where
        return count


@lru_cache(maxsize=256)
def _column(byte: int) -> bytes:
    return bytes((byte,)) * _DELTA_LIMITS[2]


@lru_cache(maxsize=256)
def _key_struct(key_at: int, key_length: int, size: int) -> struct.Struct:
    return struct.Struct(f"{key_at}x{key_length}s{size - key_at - key_length}x")


def _put_alike(
    data: bytes,
    position: int,
    end: int,
    widths: tuple[int, int, int],
    number: int,
    place: int,
    places: dict[bytes, int],
) -> tuple[int, bool]:
    """Take the records from `position` on whose fields before the key have these widths (of size, timestamp delta and
    offset delta; the size of the key has one byte); the position after them, and whether there was a tombstone.
    """
    has_tombstones = False
    unpack = _head_struct(*widths).unpack_from
    sizes = _SIZES[widths[0]]
    timestamp_mask, timestamp_bits = _TIMESTAMP_BITS[widths[1]]
    head = sum(widths) + 2
    try:
        for expected in _EXPECTED[widths[2]][number:]:
            size_field, timestamp, delta, length = unpack(data, position)
            size = sizes[size_field]
            key_end = position + head + (length >> 1)
            following = position + size
            if (
                delta != expected
                or length & 129
                or timestamp & timestamp_mask != timestamp_bits
                or key_end >= following
                or following > end
            ):
                break
            places[data[position + head : key_end]] = place
            if data[key_end] == NULL_LENGTH:
                has_tombstones = True
            place += STEP + size
            position = following
    except struct.error:
        pass  # the end of the data
    return position, has_tombstones


@lru_cache(maxsize=8)
def _head_struct(size_width: int, timestamp_width: int, delta_width: int) -> struct.Struct:
    code = " BH"
    return struct.Struct(f">{code[size_width]}x{code[timestamp_width]}{code[delta_width]}B")
