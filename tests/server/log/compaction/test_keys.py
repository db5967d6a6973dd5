"""The fast reading of keys agrees with the obvious one, whatever the records look like."""

from __future__ import annotations

from random import Random

import pytest

from ottla.records.batch import HEADER_SIZE, CorruptRecordError
from ottla.records.record import Record, build_batch, encode_records
from ottla.server.log.compaction.keys import LOCAL_BITS, LOCAL_MASK, KeyReader
from ottla.server.log.compaction.records import read_varint, split_records

BASE_OFFSET = 1 << 33


def random_records(dice: Random) -> list[Record]:
    """Mostly alike, as records of one producer are, with exceptions."""
    count = dice.choice((1, 5, 40, 70, 200, 9000 if dice.random() < 0.02 else 130))
    same_size, same_key = dice.random() < 0.6, dice.random() < 0.7
    size, key_size = dice.choice((0, 1, 40, 61, 62, 63, 100, 3000)), dice.choice((0, 1, 8, 63, 64, 200))
    spread = dice.choice((0, 0, 60, 200, 20_000))
    oddity = dice.choice((0, 0, 0.01, 0.2))
    records = []
    for _ in range(count):
        key: bytes | None = dice.randbytes(key_size if same_key else dice.randrange(80))
        value: bytes | None = bytes(size if same_size else dice.randrange(200))
        headers: tuple[tuple[str, bytes | None], ...] = ()
        if dice.random() < oddity:
            key = dice.choice((None, b"", key, b"k" * 8200))
            value = dice.choice((None, value, b"v" * 9000))
            headers = (("h", b"1"),)
        records.append(Record(0, dice.randint(-spread, spread), key, value, headers))
    return records


@pytest.mark.parametrize("seed", range(60))
def test_places_lead_to_the_last_record_of_every_key(seed: int) -> None:
    dice = Random(f"keys {seed}")
    reader = KeyReader()
    for _ in range(4):
        records = random_records(dice)
        has_gaps = dice.random() < 0.2
        kept = [index for index in range(len(records)) if not has_gaps or dice.random() < 0.7] or [0]
        chosen = [records[index]._replace(offset=BASE_OFFSET + index) for index in kept]
        prefix = dice.randbytes(dice.choice((0, 61)))
        data = prefix + bytes(encode_records(chosen, 0, base_offset=BASE_OFFSET))
        reader.places.clear()
        has_tombstones = reader.put(data, len(prefix), len(data), BASE_OFFSET, has_gaps=has_gaps)
        wanted = {record.key: record.offset for record in chosen if record.key is not None}
        assert {key: place >> LOCAL_BITS for key, place in reader.places.items()} == wanted
        assert has_tombstones == any(record.value is None for record in chosen)
        found = split_records(data, len(prefix), len(data))
        assert [BASE_OFFSET + delta for delta in found.deltas] == [record.offset for record in chosen]
        assert found.keys == [record.key for record in chosen]
        assert [chosen[index].value for index in found.tombstones] == [None] * len(found.tombstones)
        starts = {BASE_OFFSET + delta: start for delta, start in zip(found.deltas, found.starts, strict=False)}
        for place in reader.places.values():
            assert len(prefix) + (place & LOCAL_MASK) == starts[place >> LOCAL_BITS]


def test_shape_of_one_batch_is_not_taken_for_that_of_the_next() -> None:
    reader = KeyReader()
    for key_size, value_size in ((10, 50), (11, 49), (9, 51), (10, 50), (50, 10)):
        records = [Record(0, 0, bytes((index,)) * key_size, bytes(value_size)) for index in range(100)]
        batch = bytes(build_batch(records))
        reader.places.clear()
        reader.put(batch, HEADER_SIZE, len(batch), 0)
        assert sorted(reader.places) == sorted(record.key or b"" for record in records)


@pytest.mark.parametrize("seed", range(30))
def test_damaged_records_are_corrupt_or_read_as_they_are(seed: int) -> None:
    """Nothing else is raised, and no key reaches over the end of the batch."""
    dice = Random(f"damage {seed}")
    records = [Record(0, 0, b"key-%d" % index, bytes(20)) for index in range(100)]
    data = bytearray(encode_records(records, 0))
    for _ in range(50):
        damaged = bytearray(data)
        for _ in range(dice.randint(1, 3)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        cut = bytes(damaged[: dice.choice((len(damaged), dice.randrange(len(damaged))))])
        for read in (lambda: KeyReader().put(cut, 0, len(cut), 0), lambda: split_records(cut, 0, len(cut))):  # noqa: B023
            try:
                read()
            except CorruptRecordError:
                pass


def test_varints_of_every_length() -> None:
    for bits in range(63):
        for value in (1 << bits, (1 << bits) - 1, -(1 << bits)):
            encoded = bytes(encode_records([Record(0, value, None, None)], 0))
            assert read_varint(encoded, 2)[0] == value
