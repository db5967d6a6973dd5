"""Batches built record by record: against the plain encoder, to the byte."""

from __future__ import annotations

import gc
import sys
from array import array
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.records.batch import crc_matches, parse_header
from ottla.records.compression import Codec
from ottla.records.record import Record, build_batch, read_records
from tests.records.conftest import form

NOW = 1_700_000_000_000
CONTENT = st.none() | st.binary(max_size=70) | st.sampled_from([b"", bytes(127), b"x" * 9000])
RECORDS = st.lists(
    st.builds(
        Record,
        timestamp_ms=st.sampled_from([-1, 0, NOW, NOW + 5]) | st.integers(-1, 1 << 61),
        key=CONTENT,
        value=CONTENT,
        headers=st.lists(st.tuples(st.text(max_size=5), CONTENT), max_size=3).map(tuple),
    ),
    min_size=1,
    max_size=10,
)


def fill(writer: Any, records: list[Record]) -> Any:
    for index, record in enumerate(records):
        assert writer.append(record.timestamp_ms, record.key, record.value, record.headers) == index
    return writer


def column_of(hot: SimpleNamespace, contents: list[bytes | None], *, large: bool = False, start: int = 0) -> Any:
    """A column in Arrow's layout, `start` rows into its buffers."""
    ends = array("q" if large else "i", [0])
    data = bytearray()
    validity = bytearray((len(contents) + start + 7) // 8)
    for row, content in enumerate([b"before"] * start + contents):
        data += content or b""
        ends.append(len(data))
        if content is not None:
            validity[row >> 3] |= 1 << (row & 7)
    return hot.columns.BinaryColumn(ends, data, validity, length=len(contents), start=start, large=large)


@pytest.mark.parametrize("name", ["pure", "compiled"])
@settings(max_examples=80, deadline=None)
@given(RECORDS, st.sampled_from([Codec.NONE, Codec.LZ4]))
def test_batch_is_the_one_of_the_plain_encoder(name: str, records: list[Record], codec: Codec) -> None:
    writer = fill(form(name).writer.BatchWriter(1 << 20), records)
    assert writer.records_count == len(records)
    assert writer.first_timestamp_ms == records[0].timestamp_ms
    assert writer.max_timestamp_ms == max([record.timestamp_ms for record in records])
    size = writer.size_bytes
    batch = writer.close(codec, None, 7, 2, 11, True)
    expected = build_batch(
        records, compression=codec, producer_id=7, producer_epoch=2, base_sequence=11, transactional=True
    )
    assert bytes(batch) == bytes(expected)
    assert codec or len(batch) == size


@pytest.mark.parametrize("codec", list(Codec))
def test_every_codec_can_be_read_again(hot: SimpleNamespace, codec: Codec) -> None:
    writer = hot.writer.BatchWriter(1 << 20)
    for index in range(100):
        writer.append(NOW + index, b"key", b"value %d" % index)
    batch = writer.close(codec)
    header = parse_header(batch)
    assert crc_matches(batch, 0, header)
    assert (header.records_count, header.compression, header.producer_id) == (100, codec, -1)
    assert [record.value for record in read_records(batch)] == [b"value %d" % index for index in range(100)]


def test_batch_is_full_at_its_limit_and_not_before(hot: SimpleNamespace) -> None:
    writer = hot.writer.BatchWriter(1000)
    count = 0
    while writer.append(NOW, None, b"x" * 30) >= 0:
        count += 1
    assert writer.records_count == count
    assert 1000 - 40 < writer.size_bytes <= 1000
    size = writer.size_bytes
    assert writer.append(NOW, None, b"x" * 30) == -1
    assert (writer.size_bytes, writer.records_count) == (size, count)
    assert len(writer.close()) == size


def test_first_record_goes_in_however_large(hot: SimpleNamespace) -> None:
    writer = hot.writer.BatchWriter(100)
    assert writer.append(NOW, None, bytes(5000)) == 0
    assert writer.append(NOW, None, b"") == -1
    assert [record.value for record in read_records(writer.close())] == [bytes(5000)]


def test_text_and_buffers_are_taken_as_bytes(hot: SimpleNamespace) -> None:
    writer = hot.writer.BatchWriter(1000)
    writer.append(NOW, "ключ", bytearray(b"v"), [("h", memoryview(b"1")), ("t", "text"), ("n", None)])
    [record] = read_records(writer.close())
    assert record == Record(0, NOW, "ключ".encode(), b"v", (("h", b"1"), ("t", b"text"), ("n", None)))


def test_misuse_is_an_error_and_leaves_the_batch_as_it_was(hot: SimpleNamespace) -> None:
    writer = hot.writer.BatchWriter(1000)
    writer.append(NOW, b"k", b"v")
    with pytest.raises(TypeError, match="value_serializer"):
        writer.append(NOW, None, {"a": 1})
    with pytest.raises(TypeError, match="key_serializer"):
        writer.append(NOW, 1, None)
    with pytest.raises(TypeError, match="name of a header"):
        writer.append(NOW, None, None, [(b"h", b"v")])
    with pytest.raises(ValueError, match="no timestamp"):
        writer.append(-2, None, None)
    with pytest.raises(ValueError, match="no timestamp"):
        writer.append(1 << 62, None, None)
    assert bytes(writer.close()) == bytes(build_batch([Record(0, NOW, b"k", b"v")]))
    assert writer.closed
    with pytest.raises(ValueError, match="closed"):
        writer.append(NOW, None, b"v")
    with pytest.raises(ValueError, match="closed"):
        writer.close()


def test_extend_takes_what_fits_and_goes_on_from_there(hot: SimpleNamespace) -> None:
    values: list[Any] = [b"value %d" % index for index in range(50)] + ["text", None]
    keys = [None if index % 3 else b"key" for index in range(52)]
    timestamps = [NOW + index for index in range(52)]
    start = 0
    found: list[Record] = []
    while start < len(values):
        writer = hot.writer.BatchWriter(300)
        count = writer.extend(values, keys, timestamps, start, headers=[("h", b"x")])
        assert count == writer.records_count > 0
        start += count
        found += read_records(writer.close())
    assert [(r.key, r.value, r.timestamp_ms) for r in found] == [
        (key, value.encode() if isinstance(value, str) else value, timestamp)
        for key, value, timestamp in zip(keys, values, timestamps, strict=True)
    ]
    assert {record.headers for record in found} == {(("h", b"x"),)}


def test_extend_with_rows_takes_these_only(hot: SimpleNamespace) -> None:
    values = [b"%d" % index for index in range(10)]
    writer = hot.writer.BatchWriter(1000)
    assert writer.extend(values, values, None, 1, timestamp_ms=NOW, rows=[0, 9, 4]) == 2
    assert [(r.key, r.value) for r in read_records(writer.close())] == [(b"9", b"9"), (b"4", b"4")]
    with pytest.raises(IndexError):
        hot.writer.BatchWriter(1000).extend(values, rows=[10])
    with pytest.raises(IndexError):
        hot.writer.BatchWriter(1000).extend(values, keys=values[:3])
    with pytest.raises(IndexError):
        hot.writer.BatchWriter(1000).extend(values, timestamps=[NOW])


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("start", [0, 3])
def test_columns_give_the_same_batch_as_objects(hot: SimpleNamespace, large: bool, start: int) -> None:
    values = [None if index % 5 == 0 else bytes([index]) * index for index in range(40)]
    keys = [None if index % 7 == 0 else b"k%d" % index for index in range(40)]
    timestamps = array("q", [NOW + index for index in range(40)])
    expected = hot.writer.BatchWriter(1 << 20)
    expected.extend(values, keys, list(timestamps), headers=[("h", None)])
    writer = hot.writer.BatchWriter(1 << 20)
    columns = [column_of(hot, contents, large=large, start=start) for contents in (values, keys)]
    assert writer.extend_columns(*columns, timestamps, headers=[("h", None)]) == 40
    assert writer.close() == expected.close()
    writer = hot.writer.BatchWriter(150)
    assert 0 < writer.extend_columns(columns[0], None, None, 2, timestamp_ms=NOW, rows=range(3, 40)) < 35
    assert next(read_records(writer.close())).value == values[5]


def test_columns_that_lie_are_refused(hot: SimpleNamespace) -> None:
    column = hot.columns.BinaryColumn
    writer = hot.writer.BatchWriter(1000)
    good = column_of(hot, [b"a", b"b"])
    for ends in ([0, 1, 9], [0, -1, 1], [2, 1, 1]):
        with pytest.raises(ValueError, match="outside"):
            writer.extend_columns(column(array("i", ends), b"ab", length=2))
    with pytest.raises(ValueError, match="do not fit"):
        column(array("i", [0, 1]), b"ab", length=2)
    with pytest.raises(ValueError, match="does not fit"):
        column(array("i", [0] * 10), b"", b"\xff", length=9)
    with pytest.raises(ValueError, match="timestamps"):
        writer.extend_columns(good, None, array("q", [NOW]))
    with pytest.raises(ValueError, match="keys for"):
        writer.extend_columns(good, column_of(hot, [b"a"]))
    with pytest.raises(AttributeError):
        writer.extend_columns(None)
    with pytest.raises(IndexError):
        writer.extend_columns(good, rows=[2])
    with pytest.raises(IndexError):
        writer.extend_columns(good, rows=[-1])


def test_producer_of_a_finished_batch_can_be_changed(hot: SimpleNamespace) -> None:
    writer = fill(hot.writer.BatchWriter(1000), [Record(0, NOW, b"k", b"v")])
    batch = writer.close(Codec.GZIP, None, 1, 2, 3, False)
    hot.writer.set_producer(batch, 9, 8, 7, True)
    header = parse_header(batch)
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (9, 8, 7)
    assert header.is_transactional
    assert header.compression == Codec.GZIP
    assert crc_matches(batch, 0, header)
    hot.writer.set_producer(batch, 9, 8, 7, False)
    assert not parse_header(batch).is_transactional


def test_batch_is_split_in_order_with_its_sequences(hot: SimpleNamespace) -> None:
    records = [Record(index, NOW + index, b"k", bytes(100), (("h", b"x"),)) for index in range(20)]
    records[10] = records[10]._replace(value=bytes(2000))
    batch = build_batch(records, compression=Codec.ZSTD, producer_id=5, producer_epoch=1, base_sequence=2**31 - 5)
    parts = hot.writer.split_batch(batch, 700)
    assert len(parts) > 3
    sequence = 2**31 - 5
    found = []
    for part in parts:
        header = parse_header(part)
        assert crc_matches(part, 0, header)
        assert (header.producer_id, header.compression, header.base_sequence) == (5, Codec.ZSTD, sequence)
        sequence = (sequence + header.records_count) & 0x7FFFFFFF
        found += [record._replace(offset=0) for record in read_records(part)]
    assert found == [record._replace(offset=0) for record in records]


def test_buffered_record_costs_little_more_than_its_bytes(hot: SimpleNamespace) -> None:
    gc.collect()
    writers = []
    for _ in range(50):
        writer = hot.writer.BatchWriter(16384)
        while writer.append(NOW, None, bytes(100)) >= 0:
            pass
        writers.append(writer)
    batches = [writer.close() for writer in writers]
    held = sum([sys.getsizeof(batch) for batch in batches])
    assert held <= 1.12 * 100 * sum([parse_header(batch).records_count for batch in batches])
