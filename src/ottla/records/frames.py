"""Between columns and the libraries for tables: pyarrow, polars, pandas. None of them is imported before it is needed.

`to_arrow` wraps the buffers of `Columns`. `rows_of` is the way back, for a producer: it takes a table, record batch or
frame apart into chunks whose values and keys are binary columns on the table's own buffers wherever the columns are
binary or text, and lists of Python objects (for a serializer) where they are something else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from struct import pack
from typing import Any

from ottla.records.columns import BinaryColumn, Chunk, Columns, Growing, read_headers
from ottla.records.reader import ConsumerRecord
from ottla.records.writer import encode_headers

LATEST_TIMESTAMP_MS = 1 << 61
VALUE, KEY, TIMESTAMP, HEADERS = "value", "key", "timestamp", "headers"


@dataclass(frozen=True, slots=True)
class RowChunk:
    """Rows of a table for a producer: for each of the `count` rows a value, and the rest when the table has it.

    `values` and `keys` are BinaryColumns (ready for `BatchWriter.extend_columns`), or lists of objects to serialize.
    """

    count: int
    values: BinaryColumn | list[Any]
    keys: BinaryColumn | list[Any] | None
    timestamps: memoryview | None
    """Milliseconds as native 64-bit integers."""
    headers: list[tuple[tuple[str, bytes | None], ...]] | None
    partitions: memoryview | None
    """Native 32-bit integers."""


def to_arrow(columns: Columns, headers: bool | None = None) -> Any:
    """The table of `Columns.to_arrow`."""
    pa = _arrow("to_arrow()")
    with_headers = columns.has_headers if headers is None else headers
    fields = [
        ("topic", pa.dictionary(pa.int32(), pa.string())),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("timestamp", pa.timestamp("ms", "UTC")),
        ("key", pa.binary()),
        ("value", pa.binary()),
    ]
    if with_headers:
        fields.append(("headers", _headers_type(pa)))
    schema = pa.schema(fields)
    topics = list(dict.fromkeys([topic for topic, _ in columns.partitions]))
    batches = [_record_batch(pa, schema, chunk, topics, with_headers) for chunk in columns.chunks()]
    return pa.Table.from_batches(batches, schema)


def to_polars(table: Any) -> Any:
    """A polars.DataFrame of an Arrow table."""
    try:
        import polars
    except ImportError:
        raise ImportError("to_polars() needs polars and pyarrow: pip install 'ottla[polars,arrow]'") from None
    return polars.from_arrow(table)


def to_pandas(table: Any) -> Any:
    """A pandas.DataFrame of an Arrow table; its columns stay Arrow's, so no object is made for a value."""
    try:
        import pandas
    except ImportError:
        raise ImportError("to_pandas() needs pandas and pyarrow: pip install 'ottla[pandas,arrow]'") from None
    return table.to_pandas(types_mapper=pandas.ArrowDtype)


def records_to_columns(records: Iterable[ConsumerRecord[Any, Any]]) -> Columns:
    """Columns of records whose keys and values are bytes, text or None; TypeError for other objects."""
    columns = Columns()
    for record in records:
        columns.append(
            record.topic,
            record.partition,
            record.offset,
            record.timestamp_ms,
            _bytes_of(record.key),
            _bytes_of(record.value),
            encode_headers(record.headers) if record.headers else b"",
        )
    return columns


def is_table(values: object) -> bool:
    """Whether `rows_of` can take it apart: anything of pyarrow, polars or pandas with rows, or of Arrow's protocol.

    A single column (an array, a series) is none, but values.
    """
    if not (hasattr(values, "__arrow_c_stream__") or hasattr(values, "__arrow_c_array__")):
        return False
    return type(values).__name__ != "Series" and (hasattr(values, "schema") or not hasattr(values, "to_pylist"))


def rows_of(
    table: Any,
    *,
    key: str | None = None,
    value: str | None = None,
    timestamp: str | None = None,
    headers: str | None = None,
    partition: str | None = None,
) -> Iterator[RowChunk]:
    """Take a pyarrow Table or RecordBatch, a polars or pandas DataFrame apart into rows to send.

    The arguments name columns. Without them the columns `value`, `key`, `timestamp` and `headers` are taken when there
    is one called `value`; otherwise the value is the whole row as a dict (without the columns that were named).
    KeyError for a column that is not there.
    """
    pa = _arrow("sending a table")
    arrow = _as_table(pa, table)
    names = arrow.column_names
    for column in (key, value, timestamp, headers, partition):
        if column is not None and column not in names:
            raise KeyError(f"the table has no column {column!r}, only {', '.join(names)}")
    if value is None and VALUE in names:
        value = VALUE
        key = key or (KEY if KEY in names else None)
        timestamp = timestamp or (TIMESTAMP if TIMESTAMP in names else None)
        headers = headers or (HEADERS if HEADERS in names else None)
    used = {key, timestamp, headers, partition}
    for batch in arrow.to_batches():
        if not batch.num_rows:
            continue
        values: BinaryColumn | list[Any]
        if value is None:
            values = batch.select([name for name in names if name not in used]).to_pylist()
        else:
            values = _contents(pa, batch.column(value))
        yield RowChunk(
            batch.num_rows,
            values,
            None if key is None else _contents(pa, batch.column(key)),
            None if timestamp is None else _timestamps(pa, batch.column(timestamp), timestamp),
            None if headers is None else [_pairs(row) for row in batch.column(headers).to_pylist()],
            None if partition is None else _integers(pa, batch.column(partition), pa.int32(), partition),
        )


def binary_column(array: Any) -> BinaryColumn:
    """A column on the buffers of an Arrow array of (large) binary or string."""
    validity, offsets, data = array.buffers()
    kind = str(array.type)
    if not len(array):
        return BinaryColumn(bytes(8), b"", length=0)
    return BinaryColumn(
        offsets,
        b"" if data is None else data,
        validity,
        length=len(array),
        start=array.offset,
        large=kind.startswith("large_"),
    )


def _arrow(what: str) -> Any:
    try:
        import pyarrow
    except ImportError:
        raise ImportError(f"{what} needs pyarrow: pip install 'ottla[arrow]'") from None
    return pyarrow


def _headers_type(pa: Any) -> Any:
    return pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))


def _record_batch(pa: Any, schema: Any, chunk: Chunk, topics: list[str], with_headers: bool) -> Any:
    rows = chunk.rows
    indexes = bytearray()
    partitions = bytearray()
    before = 0
    for topic, partition, end in chunk.runs:
        indexes += pack("=i", topics.index(topic)) * (end - before)
        partitions += pack("=i", partition) * (end - before)
        before = end
    arrays = [
        pa.DictionaryArray.from_arrays(_fixed(pa, pa.int32(), rows, indexes), pa.array(topics, pa.string())),
        _fixed(pa, pa.int32(), rows, partitions),
        _fixed(pa, pa.int64(), rows, chunk.offsets),
        _time_array(pa, rows, chunk.timestamps),
        _binary_array(pa, rows, chunk.keys),
        _binary_array(pa, rows, chunk.values),
    ]
    if with_headers:
        rows_of_headers = [
            [{"key": name, "value": content} for name, content in (read_headers(raw) if raw else ())]
            for raw in chunk.headers.column(rows)
        ]
        arrays.append(pa.array(rows_of_headers, _headers_type(pa)))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _fixed(pa: Any, kind: Any, rows: int, data: bytearray) -> Any:
    return pa.Array.from_buffers(kind, rows, [None, pa.py_buffer(data)])


def _time_array(pa: Any, rows: int, data: bytearray) -> Any:
    """Timestamps, null where a record has none: the zero-copy way when all have one, which is nearly always."""
    kind = pa.timestamp("ms", "UTC")
    times = _fixed(pa, pa.int64(), rows, data)
    compute: Any = import_module("pyarrow.compute")
    if rows and compute.min(times).as_py() >= 0:
        return times.view(kind)
    return compute.if_else(compute.greater_equal(times, 0), times, pa.scalar(None, pa.int64())).view(kind)


def _binary_array(pa: Any, rows: int, column: Growing) -> Any:
    validity = pa.py_buffer(column.validity) if column.nulls else None
    buffers = [validity, pa.py_buffer(column.ends), pa.py_buffer(column.data)]
    return pa.Array.from_buffers(pa.binary(), rows, buffers, null_count=column.nulls)


def _as_table(pa: Any, table: Any) -> Any:
    if isinstance(table, pa.Table):
        return table
    if isinstance(table, pa.RecordBatch):
        return pa.Table.from_batches([table])
    if type(table).__module__.partition(".")[0] == "pandas":
        return pa.Table.from_pandas(table, preserve_index=False)
    if is_table(table):
        return pa.table(table)
    raise TypeError(f"{type(table).__name__} is neither an Arrow table nor a frame")


def _contents(pa: Any, array: Any) -> BinaryColumn | list[Any]:
    """A binary column where the bytes are there, objects for a serializer where they are not."""
    types = pa.types
    kind = array.type
    if types.is_dictionary(kind):
        if types.is_string_view(kind.value_type) or types.is_binary_view(kind.value_type):  # Arrow cannot decode these
            array = pa.DictionaryArray.from_arrays(array.indices, array.dictionary.cast(pa.large_binary()))
        array = array.dictionary_decode()
        kind = array.type
    if types.is_binary(kind) or types.is_string(kind) or types.is_large_binary(kind) or types.is_large_string(kind):
        return binary_column(array)
    if types.is_binary_view(kind) or types.is_string_view(kind) or types.is_fixed_size_binary(kind):
        return binary_column(array.cast(pa.large_string() if types.is_string_view(kind) else pa.large_binary()))
    if types.is_null(kind):
        return binary_column(array.cast(pa.binary()))
    objects: list[Any] = array.to_pylist()
    return objects


def _timestamps(pa: Any, array: Any, name: str) -> memoryview:
    """Milliseconds; rows without a timestamp have -1."""
    if pa.types.is_timestamp(array.type):
        array = array.cast(pa.timestamp("ms", array.type.tz), safe=False)
    elif not pa.types.is_integer(array.type):
        raise TypeError(f"column {name!r} holds {array.type}, neither timestamps nor milliseconds")
    times = array.cast(pa.int64()).fill_null(-1)
    compute: Any = import_module("pyarrow.compute")
    for extreme in compute.min_max(times).values():
        if extreme.as_py() is not None and not -1 <= extreme.as_py() < LATEST_TIMESTAMP_MS:
            raise ValueError(f"column {name!r}: {extreme} is no timestamp in milliseconds")
    return _integers(pa, times, pa.int64(), name)


def _integers(pa: Any, array: Any, kind: Any, name: str) -> memoryview:
    if array.null_count:
        raise ValueError(f"column {name!r} has rows without a value")
    array = array.cast(kind)
    width = kind.bit_width // 8
    data = memoryview(array.buffers()[1]).cast("B")
    return data[array.offset * width : (array.offset + len(array)) * width].cast("i" if width == 4 else "q")


def _pairs(row: Sequence[Any] | None) -> tuple[tuple[str, bytes | None], ...]:
    """Headers of one row: a list of structs of key and value, or the pairs of a map."""
    return tuple([tuple(pair.values()) if isinstance(pair, dict) else tuple(pair) for pair in row or ()])


def _bytes_of(content: object) -> bytes | None:
    if content is None or isinstance(content, bytes):
        return content
    if isinstance(content, str):
        return content.encode()
    raise TypeError(f"a {type(content).__name__} has no bytes to put into a column; poll_columns() gives them raw")
