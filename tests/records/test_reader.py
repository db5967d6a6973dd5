"""Reading batches record by record: against the plain decoder, in both forms, also with bytes that are no records."""

from __future__ import annotations

import copy
import json
import pickle
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.records.batch import CorruptRecordError, parse_header, update_crc
from ottla.records.compression import Codec
from ottla.records.record import Record, assemble_batch, build_batch, encode_records, read_records
from tests.records.conftest import form

NOW = 1_700_000_000_000
BATCHES = {
    name: bytes.fromhex(text)
    for name, text in json.loads((Path(__file__).parent / "testdata" / "batches.json").read_text())["batches"].items()
}
CONTENT = st.none() | st.binary(max_size=70) | st.sampled_from([b"", bytes(127), b"x" * 9000])
RECORDS = st.lists(
    st.builds(
        Record,
        timestamp_ms=st.integers(-1, 1 << 61),
        key=CONTENT,
        value=CONTENT,
        headers=st.lists(st.tuples(st.text(max_size=5), CONTENT), max_size=3).map(tuple),
    ),
    min_size=1,
    max_size=10,
)


def cursor_of(hot: SimpleNamespace, batch: Any, **arguments: Any) -> Any:
    return hot.reader.RecordCursor(batch, 0, parse_header(batch), **{"topic": "t", "partition": 3, **arguments})


def take(cursor: Any, count: int = 1 << 30, key: Any = None, value: Any = None) -> list[Any]:
    output: list[Any] = []
    assert cursor.take(count, key, value, output) == len(output)
    return output


def drain(cursor: Any, step: Callable[[], int]) -> str:
    """Take all there is: what the error says that ends it, or nothing."""
    try:
        while not cursor.exhausted:
            step()
    except CorruptRecordError as error:
        return str(error)
    return ""


def plain(record: Any) -> Record:
    return Record(record.offset, record.timestamp_ms, record.key, record.value, record.headers)


def take_columns(hot: SimpleNamespace, cursor: Any) -> list[Record]:
    """The same records by way of columns."""
    columns = hot.columns.Columns()
    assert cursor.take_columns(1 << 30, columns) == len(columns)
    rows = zip(columns.offset, columns.timestamp_ms, columns.key, columns.value, columns.headers, strict=True)
    return [Record(*row) for row in rows]


@pytest.mark.parametrize("name", ["pure", "compiled"])
@settings(max_examples=80, deadline=None)
@given(RECORDS, st.sampled_from([Codec.NONE, Codec.ZSTD]), st.integers(0, 1 << 60), st.integers(1, 4))
def test_records_are_those_of_the_plain_decoder(
    name: str, records: list[Record], codec: Codec, base_offset: int, step: int
) -> None:
    hot = form(name)
    batch = build_batch(records, base_offset=base_offset, compression=codec)
    expected = list(read_records(batch))
    cursor = cursor_of(hot, bytes(batch))
    found: list[Any] = []
    while not cursor.exhausted:
        assert cursor.next_offset == (found[-1].offset + 1 if found else 0)
        assert cursor.take(step, None, None, found) <= step
    assert [plain(record) for record in found] == expected
    assert cursor.next_offset == base_offset + len(records)
    assert take(cursor) == []
    assert take_columns(hot, cursor_of(hot, memoryview(batch))) == expected


@pytest.mark.parametrize("name", [name for name in BATCHES if name.startswith("v")])
def test_kafkas_batches_of_all_formats(hot: SimpleNamespace, name: str) -> None:
    data = BATCHES[name]
    expected = list(read_records(data))
    found: list[Any] = []
    columns: list[Record] = []
    position = 0
    while position < len(data):
        header = parse_header(data, position)
        found += take(hot.reader.RecordCursor(data, position, header, topic="t", partition=0), 1)
        rest = hot.reader.RecordCursor(data, position, header, topic="t", partition=0, from_offset=found[-1].offset + 1)
        found += take(rest)
        columns += take_columns(hot, hot.reader.RecordCursor(data, position, header, topic="t", partition=0))
        position += header.size_in_bytes
    assert [plain(record) for record in found] == expected
    assert columns == expected
    kind = -1 if name.startswith("v0") else int("logappend" in name.lower())
    assert {int(record.timestamp_type) for record in found} == {kind}


def test_record_carries_what_its_batch_says(hot: SimpleNamespace) -> None:
    batch = build_batch([Record(0, NOW, b"key", None)], base_offset=5, leader_epoch=4, log_append_time_ms=NOW + 9)
    [record] = take(cursor_of(hot, batch, delivery_count=2))
    assert (record.topic, record.partition, record.offset, record.leader_epoch) == ("t", 3, 5, 4)
    assert (record.timestamp_ms, record.timestamp_type.name) == (NOW + 9, "LOG_APPEND_TIME")
    assert (record.serialized_key_size, record.serialized_value_size, record.delivery_count) == (3, -1, 2)
    [other] = take(cursor_of(hot, build_batch([Record(0, NOW, b"key", b"")])))
    assert (other.leader_epoch, other.delivery_count, other.serialized_value_size) == (None, None, 0)
    assert other.timestamp_type.name == "CREATE_TIME"


def test_records_are_values(hot: SimpleNamespace) -> None:
    batch = build_batch([Record(0, NOW, b"k", b"v", (("h", b"1"),)), Record(1, NOW, b"k", b"v")])
    first, second = take(cursor_of(hot, batch))
    [again] = take(cursor_of(hot, batch), 1)
    assert first == again
    assert hash(first) == hash(again)
    assert first != second
    assert first != "something else"
    assert second.headers is take(cursor_of(hot, batch))[1].headers
    assert "value=b'v'" in repr(first)
    assert copy.copy(first) == first
    kind = hot.reader.ConsumerRecord
    assert kind[str, int].__origin__ is kind
    assert kind("t", 0, 1, "key", {"un": "hashable"}, leader_epoch=3, delivery_count=1).delivery_count == 1
    assert isinstance(hash(kind("t", 0, 1, "key", {"un": "hashable"})), int)
    with pytest.raises(AttributeError):
        first.something_new = 1


def test_compiled_records_can_be_pickled_and_not_be_changed() -> None:
    from ottla.core.hot import SOURCE_HASH
    from ottla.records import reader

    record = take(cursor_of(SimpleNamespace(reader=reader), build_batch([Record(0, NOW, b"k", b"v", (("h", None),))])))
    assert pickle.loads(pickle.dumps(record)) == record
    assert copy.deepcopy(record) == record
    if hasattr(reader, SOURCE_HASH):
        with pytest.raises(AttributeError):
            record[0].offset = 1


@pytest.mark.parametrize("columns", [False, True])
def test_only_the_offsets_asked_for_are_given(hot: SimpleNamespace, columns: bool) -> None:
    records = [Record(offset, 1000 + offset, b"k", b"v%d" % offset) for offset in (10, 13, 17)]
    header = parse_header(build_batch(records, base_offset=10))._replace(last_offset_delta=9)
    batch = assemble_batch(header, encode_records(records, 1010, base_offset=10), Codec.GZIP)

    def offsets(cursor: Any) -> list[int]:
        if columns:
            return [record.offset for record in take_columns(hot, cursor)]
        return [record.offset for record in take(cursor)]

    for from_offset, end_offset, expected, next_offset in [
        (0, None, [10, 13, 17], 20),
        (11, None, [13, 17], 20),
        (17, None, [17], 20),
        (18, None, [], 20),
        (12, 17, [13], 17),
        (10, 13, [10], 13),
        (14, 16, [], 16),
    ]:
        cursor = cursor_of(hot, batch, from_offset=from_offset, end_offset=end_offset)
        assert not cursor.exhausted
        assert offsets(cursor) == expected
        assert cursor.exhausted
        assert cursor.next_offset == next_offset
    assert cursor_of(hot, batch, from_offset=20).exhausted


def test_batch_that_compaction_emptied_is_passed(hot: SimpleNamespace) -> None:
    header = parse_header(build_batch([Record()], base_offset=7))._replace(records_count=0, last_offset_delta=4)
    cursor = cursor_of(hot, assemble_batch(header, b""))
    assert take(cursor) == []
    assert cursor.exhausted
    assert cursor.next_offset == 12


class Upper:
    def deserialize(self, topic: str, data: bytes | None, headers: Any) -> str:
        if data == b"bad":
            raise ValueError("cannot read that")
        return f"{topic} {data!r} {len(headers)}"


def test_deserializers_see_topic_and_headers_and_may_fail(hot: SimpleNamespace) -> None:
    headers = (("h", b"1"),)
    records = [Record(0, NOW, b"k", b"v", headers), Record(1, NOW, None, b"bad"), Record(2, NOW, b"bad", None)]
    cursor = cursor_of(hot, build_batch(records))
    [first] = take(cursor, 10, None, Upper())
    assert (first.key, first.value, first.serialized_value_size) == (b"k", "t b'v' 1", 1)
    for _ in range(2):
        assert cursor.next_offset == 1
        with pytest.raises(
            hot.reader.UndeserializableRecordError, match="value of the record at offset 1 of t-3"
        ) as told:
            take(cursor, 10, Upper(), Upper())
        assert isinstance(told.value.__cause__, ValueError)
        assert (told.value.origin, told.value.raw_key, told.value.raw_value) == ("value", None, b"bad")
    [second] = take(cursor, 1)
    assert second.value == b"bad"
    with pytest.raises(hot.reader.UndeserializableRecordError, match="key"):
        take(cursor, 10, Upper(), None)


def test_deserializer_of_legacy_records_may_fail_too(hot: SimpleNamespace) -> None:
    class Failing:
        def deserialize(self, topic: str, data: bytes | None, headers: Any) -> object:
            if data is not None and data.startswith(b"value-2"):
                raise ValueError("no")
            return data

    data = BATCHES["v1-gzip"]
    cursor = cursor_of(hot, data)
    assert len(take(cursor, 10, None, Failing())) == 1
    with pytest.raises(hot.reader.UndeserializableRecordError):
        take(cursor, 10, None, Failing())


def test_wrong_checksum_and_bombs_are_refused(hot: SimpleNamespace) -> None:
    batch = build_batch([Record(0, NOW, None, bytes(100_000))], compression=Codec.GZIP)
    with pytest.raises(CorruptRecordError, match="more than 50000"):
        take(cursor_of(hot, batch, limit_bytes=50_000))
    batch[17] ^= 1
    cursor = cursor_of(hot, batch)
    for _ in range(2):
        with pytest.raises(CorruptRecordError, match="wrong CRC"):
            take(cursor)
    with pytest.raises(CorruptRecordError, match="wrong CRC"):
        cursor.open()
    assert len(take(cursor_of(hot, batch, check_crc=False))) == 1
    with pytest.raises(CorruptRecordError, match="cut off"):
        take(hot.reader.RecordCursor(bytes(batch)[:-1], 0, parse_header(batch), topic="t", partition=0))


def test_records_before_the_damage_are_given(hot: SimpleNamespace) -> None:
    batch = build_batch([Record(0, NOW, None, b"abcdef"), Record(1, NOW, None, b"ghijkl")])
    batch[batch.index(b"ghijkl") - 1] = 0x7E  # the length of the value
    update_crc(batch, 0, len(batch))
    cursor = cursor_of(hot, batch)
    assert [record.value for record in take(cursor)] == [b"abcdef"]
    assert cursor.next_offset == 1
    for _ in range(2):
        with pytest.raises(CorruptRecordError, match="record 1 of 2"):
            take(cursor)
    assert not cursor.exhausted
    cursor = cursor_of(hot, batch)
    with pytest.raises(AttributeError):
        cursor.take_columns(10, None)
    columns = hot.columns.Columns()
    assert cursor.take_columns(10, columns) == 1
    with pytest.raises(CorruptRecordError, match="record 1 of 2"):
        cursor.take_columns(10, columns)
    assert list(columns.value) == [b"abcdef"]


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ("", 1),  # nothing there
        ("7e", 1),  # a length beyond the end
        ("01", 1),  # a negative length
        ("ffffffffffffffffff01", 1),  # the largest length that there is
        ("ffffffffffffffffffff01", 1),  # a varint that is too long
        ("0c000000000000", 2),  # fewer records than claimed
        ("0c000000000000ff", 1),  # bytes after the last
        ("0e00000000000000", 1),  # bytes after the headers
        ("0c000000030000", 1),  # a length of -2
        ("0c000001010100", 1),  # an offset before the batch
        ("0c0000000001ff", 1),  # headers that do not end
        ("0c00000000017e", 1),  # more headers than bytes
        ("100000000101020100", 1),  # a header without a name
    ],
)
def test_damaged_records_are_refused(hot: SimpleNamespace, body: str, count: int) -> None:
    header = parse_header(build_batch([Record()]))._replace(records_count=count)
    batch = assemble_batch(header, bytes.fromhex(body))
    found: list[Any] = []
    cursor = cursor_of(hot, batch)
    assert drain(cursor, lambda: cursor.take(5, None, None, found))
    columns = hot.columns.Columns()
    by_columns = cursor_of(hot, batch)
    assert drain(by_columns, lambda: by_columns.take_columns(5, columns))
    assert len(found) == len(columns) < count


def test_both_forms_read_random_damage_alike() -> None:
    """Whatever the bytes are: the records that one form finds the other finds too, and nothing but our error."""
    source = random.Random(4711)
    records = [
        Record(0, NOW + index, b"k" * index, bytes(3 * index), (("h", b"v"),) if index % 4 == 0 else ())
        for index in range(12)
    ]
    blob = bytes(encode_records(records, NOW))
    header = parse_header(build_batch(records))
    forms = [form("pure"), form("compiled")]
    for _ in range(1500):
        damaged = bytearray(blob)
        for _ in range(source.choice((1, 1, 2, 8))):
            damaged[source.randrange(len(damaged))] = source.choice((0, 1, 0x7F, 0x80, 0xFF, source.randrange(256)))
        if source.random() < 0.2:
            del damaged[source.randrange(len(damaged)) :]
        batch = bytes(assemble_batch(header, damaged))
        results = []
        for hot in forms:
            cursor = cursor_of(hot, batch, check_crc=False)
            found: list[Any] = []
            error = drain(cursor, partial(cursor.take, 5, None, None, found))
            columns = hot.columns.Columns()
            cursor = cursor_of(hot, batch, check_crc=False)
            assert drain(cursor, partial(cursor.take_columns, 7, columns)) == error
            assert list(columns.value) == [record.value for record in found]
            assert columns.headers == [record.headers for record in found]
            results.append(([plain(record) for record in found], error))
        assert results[0] == results[1]
