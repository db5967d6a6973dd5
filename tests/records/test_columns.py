"""Columns from batches, and tables from columns and back."""

from __future__ import annotations

import subprocess
import sys
from array import array
from types import SimpleNamespace
from typing import Any

import pandas
import polars
import pyarrow as pa
import pytest

from ottla.records import columns as columns_module
from ottla.records import frames
from ottla.records.batch import CorruptRecordError, parse_header
from ottla.records.columns import BinaryColumn, Columns
from ottla.records.compression import Codec
from ottla.records.reader import ConsumerRecord, RecordCursor
from ottla.records.record import Record, build_batch, read_records
from ottla.records.writer import BatchWriter

NOW = 1_700_000_000_000
RECORDS = [
    Record(0, NOW, b"k0", b"value 0", (("h", b"x"), ("n", None))),
    Record(1, NOW + 1, None, b""),
    Record(2, -1, b"k2", None),
]


def collect(module: Any, reader: Any, *batches: tuple[str, int, list[Record], int]) -> Any:
    """Columns of the batches: topic, partition, records, base offset."""
    columns = module.Columns()
    for topic, partition, records, base_offset in batches:
        batch = build_batch(records, base_offset=base_offset, compression=Codec.LZ4)
        cursor = reader.RecordCursor(batch, 0, parse_header(batch), topic=topic, partition=partition)
        assert cursor.take_columns(1 << 30, columns) == len(records)
    return columns


def collected(*batches: tuple[str, int, list[Record], int]) -> Columns:
    from ottla.records import reader

    found: Columns = collect(columns_module, reader, *batches)
    return found


def test_columns_are_sequences_of_what_the_records_hold(hot: SimpleNamespace) -> None:
    columns = collect(hot.columns, hot.reader, ("a", 0, RECORDS, 10), ("b", 1, RECORDS[1:], 20), ("b", 1, RECORDS, 22))
    assert len(columns) == 8
    assert columns
    assert columns.partitions == [("a", 0), ("b", 1)]
    assert list(columns.offset) == [10, 11, 12, 20, 21, 22, 23, 24]
    assert list(columns.timestamp_ms) == [record.timestamp_ms for record in RECORDS + RECORDS[1:] + RECORDS]
    assert list(columns.key) == [record.key for record in RECORDS + RECORDS[1:] + RECORDS]
    assert columns.value[0] == b"value 0"
    assert columns.value[-1] is None
    assert columns.value[1:3] == [b"", None]
    assert columns.headers == [record.headers for record in RECORDS + RECORDS[1:] + RECORDS]
    assert columns.has_headers
    assert "8 records of 2 partitions" in repr(columns)
    with pytest.raises(IndexError):
        columns.value[8]
    with pytest.raises(IndexError):
        columns.value.chunks[0][-9]


def test_no_columns(hot: SimpleNamespace) -> None:
    columns = hot.columns.Columns()
    assert not columns
    assert list(columns.offset) == list(columns.value) == columns.headers == columns.partitions == []


def test_columns_go_on_growing_after_somebody_looked(hot: SimpleNamespace) -> None:
    columns = collect(hot.columns, hot.reader, ("a", 0, RECORDS, 0))
    offsets, values = columns.offset, columns.value
    for _ in range(400):
        columns.append("a", 0, 7, NOW, b"key", bytes(50))
    assert list(offsets) == [0, 1, 2]
    assert list(values) == [b"value 0", b"", None]
    assert len(columns) == 403
    assert list(columns.value)[3:] == [bytes(50)] * 400
    assert list(columns.offset)[:4] == [0, 1, 2, 7]


def test_many_batches_grow_many_times(hot: SimpleNamespace) -> None:
    batches = [("t", 0, [Record(0, NOW + index, b"k%d" % index, bytes(index))] * 3, 3 * index) for index in range(300)]
    columns = collect(hot.columns, hot.reader, *batches)
    assert list(columns.offset) == list(range(900))
    assert list(columns.value) == [bytes(index) for index in range(300) for _ in range(3)]
    assert list(columns.key) == [b"k%d" % index for index in range(300) for _ in range(3)]


def test_full_chunk_is_followed_by_another(hot: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hot.columns, "CHUNK_BYTES", 400)
    batches = [("t", 0, [Record(0, NOW, None, bytes([index]) * 50)] * 3, 3 * index) for index in range(10)]
    columns = collect(hot.columns, hot.reader, *batches)
    assert len(columns.chunks()) == 5
    assert list(columns.offset) == list(range(30))
    assert list(columns.value) == [bytes([index]) * 50 for index in range(10) for _ in range(3)]


def test_damaged_headers_are_an_error(hot: SimpleNamespace) -> None:
    assert hot.columns.read_headers(bytes.fromhex("04026801026e02")[:-1] + b"\x01") == (("h", None), ("n", None))
    for raw in ("", "03", "02", "0201", "020268", "02026804", "0202680100", "ffffffffffffffffffff01"):
        with pytest.raises(CorruptRecordError):
            hot.columns.read_headers(bytes.fromhex(raw))


def test_arrow_table_has_the_schema_and_rows_of_the_records() -> None:
    columns = collected(("a", 0, RECORDS, 10), ("b", 1, RECORDS, 20))
    table = columns.to_arrow()
    table.validate(full=True)
    assert table.schema.names == ["topic", "partition", "offset", "timestamp", "key", "value", "headers"]
    assert [str(kind) for kind in table.schema.types[:6]] == [
        "dictionary<values=string, indices=int32, ordered=0>",
        "int32",
        "int64",
        "timestamp[ms, tz=UTC]",
        "binary",
        "binary",
    ]
    rows = table.to_pylist()
    assert [row["topic"] for row in rows] == ["a"] * 3 + ["b"] * 3
    assert [row["partition"] for row in rows] == [0] * 3 + [1] * 3
    assert [row["offset"] for row in rows] == [10, 11, 12, 20, 21, 22]
    assert [row["key"] for row in rows[:3]] == [b"k0", None, b"k2"]
    assert [row["value"] for row in rows[:3]] == [b"value 0", b"", None]
    assert rows[0]["timestamp"].timestamp() * 1000 == NOW
    assert rows[2]["timestamp"] is None
    assert rows[0]["headers"] == [{"key": "h", "value": b"x"}, {"key": "n", "value": None}]
    assert rows[1]["headers"] == []
    assert columns.to_arrow(headers=False).num_columns == 6
    assert collected(("a", 0, RECORDS[1:], 0)).to_arrow().num_columns == 6
    assert collected(("a", 0, RECORDS[1:], 0)).to_arrow(headers=True).column("headers").to_pylist() == [[], []]


def test_arrow_looks_at_the_buffers_themselves() -> None:
    columns = collected(("a", 0, [Record(0, NOW, b"k", b"v" * 100)] * 50, 0))
    table = columns.to_arrow()
    [chunk] = columns.chunks()
    assert table.column("value").chunk(0).buffers()[2].address == pa.py_buffer(chunk.values.data).address
    assert table.column("offset").chunk(0).buffers()[1].address == pa.py_buffer(chunk.offsets).address
    del columns, chunk
    assert table.column("value").to_pylist() == [b"v" * 100] * 50


def test_table_of_no_records_has_the_schema() -> None:
    table = Columns().to_arrow()
    assert table.num_rows == 0
    assert table.schema.names == ["topic", "partition", "offset", "timestamp", "key", "value"]


def test_frames_have_the_rows() -> None:
    columns = collected(("a", 0, RECORDS, 10), ("a", 1, RECORDS, 10))
    frame = columns.to_polars()
    assert isinstance(frame, polars.DataFrame)
    assert frame["value"].to_list() == [b"value 0", b"", None] * 2
    assert polars.DataFrame(columns)["offset"].to_list() == [10, 11, 12] * 2
    other = columns.to_pandas()
    assert isinstance(other, pandas.DataFrame)
    assert other["offset"].tolist() == [10, 11, 12] * 2
    assert other["key"].tolist()[0] == b"k0"


def test_consumed_records_become_columns() -> None:
    batch = build_batch(RECORDS, base_offset=5)
    records: list[ConsumerRecord[Any, Any]] = []
    RecordCursor(batch, 0, parse_header(batch), topic="t", partition=2).take(10, None, None, records)
    columns = frames.records_to_columns(records)
    assert columns.to_arrow() == collected(("t", 2, RECORDS, 5)).to_arrow()
    with pytest.raises(TypeError, match="dict"):
        frames.records_to_columns([ConsumerRecord("t", 0, 0, None, {})])


@pytest.mark.parametrize(
    ("library", "call", "extra"),
    [
        ("pyarrow", "to_arrow", "ottla[arrow]"),
        ("polars", "to_polars", "ottla[polars"),
        ("pandas", "to_pandas", "ottla[pandas"),
    ],
)
def test_missing_library_is_named_with_its_extra(library: str, call: str, extra: str) -> None:
    program = (
        f"import sys; sys.modules[{library!r}] = None\n"
        "from ottla.records.columns import Columns\n"
        f"try: Columns().{call}()\n"
        "except ImportError as error: print(error)"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert f"pip install '{extra}" in printed.stdout


# --- the way back


def sent(table: Any, **names: str) -> list[Record]:
    """What a producer would send, with text as it is for what has no bytes."""
    records: list[Record] = []
    for rows in frames.rows_of(table, **names):
        writer = BatchWriter(1 << 20)
        if isinstance(rows.values, BinaryColumn) and not isinstance(rows.keys, list):
            assert writer.extend_columns(rows.values, rows.keys, rows.timestamps, timestamp_ms=NOW) == rows.count
        else:
            values = [repr(value) if value is not None else None for value in rows.values]
            keys = [repr(key) for key in rows.keys] if rows.keys is not None else None
            assert writer.extend(values, keys, rows.timestamps, timestamp_ms=NOW) == rows.count
        records += read_records(writer.close())
    return records


TABLE = pa.table(
    {
        "key": pa.array(["a", None, "ü"]),
        "value": pa.array([b"1", b"22", None], pa.large_binary()),
        "timestamp": pa.array([NOW, None, NOW + 2], pa.timestamp("ms")),
        "number": pa.array([1, 2, 3], pa.int16()),
    }
)


@pytest.mark.parametrize(
    "table",
    [
        TABLE,
        TABLE.to_batches()[0],
        pa.concat_tables([TABLE.slice(0, 1), TABLE.slice(1)]),
        pa.concat_tables([TABLE, TABLE]).slice(3),
        polars.from_arrow(TABLE),
        pandas.DataFrame({"key": ["a", None, "ü"], "value": [b"1", b"22", None], "timestamp": [NOW, -1, NOW + 2]}),
        TABLE.set_column(0, "key", TABLE["key"].dictionary_encode()),
        TABLE.set_column(0, "key", TABLE["key"].cast(pa.string_view())),
        TABLE.set_column(2, "timestamp", TABLE["timestamp"].cast(pa.timestamp("ns", "UTC"))),
    ],
    ids=["table", "batch", "chunks", "slice", "polars", "pandas", "dictionary", "view", "nanoseconds"],
)
def test_tables_with_a_value_column_are_sent_as_they_are(table: Any) -> None:
    assert frames.is_table(table)
    found = [(record.key, record.value, record.timestamp_ms) for record in sent(table)]
    assert found == [(b"a", b"1", NOW), (None, b"22", -1), ("ü".encode(), None, NOW + 2)]


def test_rows_without_a_value_column_are_dicts() -> None:
    table = TABLE.drop_columns(["value", "timestamp"])
    [chunk] = frames.rows_of(table)
    assert chunk.values == [{"key": "a", "number": 1}, {"key": None, "number": 2}, {"key": "ü", "number": 3}]
    assert chunk.keys is chunk.timestamps is chunk.headers is chunk.partitions is None
    [chunk] = frames.rows_of(table, key="key", partition="number")
    assert chunk.values == [{}, {}, {}]
    assert isinstance(chunk.keys, BinaryColumn)
    assert chunk.partitions is not None
    assert chunk.partitions.tolist() == [1, 2, 3]
    [chunk] = frames.rows_of(table, value="number")
    assert chunk.values == [1, 2, 3]


def test_headers_come_back_from_a_table_of_consumed_records() -> None:
    table = collected(("a", 0, RECORDS, 10)).to_arrow()
    [chunk] = frames.rows_of(table)
    assert chunk.headers == [record.headers for record in RECORDS]
    assert [(r.key, r.value, r.timestamp_ms) for r in sent(table)] == [
        (r.key, r.value, r.timestamp_ms) for r in RECORDS
    ]


def test_empty_tables_and_null_columns() -> None:
    assert list(frames.rows_of(TABLE.slice(0, 0))) == []
    assert [record.value for record in sent(pa.table({"value": pa.nulls(2)}))] == [None, None]


def test_wrong_tables_are_refused() -> None:
    with pytest.raises(KeyError, match="no column 'id', only key, value, timestamp, number"):
        list(frames.rows_of(TABLE, key="id"))
    with pytest.raises(TypeError, match="neither an Arrow table nor a frame"):
        list(frames.rows_of([1, 2]))
    assert not frames.is_table([1, 2])
    with pytest.raises(TypeError, match="neither timestamps nor milliseconds"):
        list(frames.rows_of(TABLE, timestamp="key"))
    with pytest.raises(ValueError, match="rows without a value"):
        list(frames.rows_of(pa.table({"value": ["a"], "partition": pa.nulls(1, pa.int32())}), partition="partition"))


def test_column_of_numbers_has_to_be_as_long_as_it_says() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        BinaryColumn(array("i", [0]), b"", length=1)
    assert list(BinaryColumn(b"", b"", length=0)) == []
