"""Records as columns: buffers in Arrow's layout that are filled straight from batches.

`Columns` collects any number of batches of any partitions. It is made of chunks of some MiB (more only when a single
batch has more): 32-bit value offsets always do, nothing large is ever moved to grow, and the allocator can use the
memory again. What Arrow gets are these very buffers. Topics and partitions are runs, headers are kept as they stood in
the record and unfolded only when somebody asks for them.

The schema of `to_arrow()`: topic dictionary<string>, partition int32, offset int64, timestamp timestamp[ms, UTC] (null
when there is none), key binary, value binary, and headers list<struct<key: string, value: binary>> when there are any.

A hot module: see docs/decisions/compiled-modules.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

from ottla.core.binary import Buffer
from ottla.records import memory
from ottla.records.batch import CorruptRecordError

CHUNK_BYTES = 4 * 1024 * 1024
MAXIMUM_BYTES = 0x7FFFFFFF
_FIRST_ROWS = 256
_ALL_VALID = bytes([255])


class BinaryColumn:
    """A column of binary or string values in Arrow's layout: validity bits, value offsets and data.

    `length` rows from row `start` of the buffers on. Value offsets have 64 bits when `large`. A sequence of
    `bytes | None`.
    """

    __slots__ = ("_has_nulls", "_offsets", "_validity", "data", "large", "length", "size", "start")

    def __init__(
        self,
        offsets: Buffer,
        data: Buffer,
        validity: Buffer | None = None,
        *,
        length: int,
        start: int = 0,
        large: bool = False,
    ) -> None:
        self._offsets = memoryview(offsets).cast("B")
        self.data = memoryview(data).cast("B")
        self._has_nulls = validity is not None
        self._validity = memoryview(b"" if validity is None else validity).cast("B")
        self.length = length
        self.start = start
        self.large = large
        self.size = len(self.data)
        rows = start + length
        if length < 0 or start < 0 or len(self._offsets) < (rows + 1) * (8 if large else 4) * (length > 0):
            raise ValueError(f"the offsets of {rows} rows do not fit into {len(self._offsets)} bytes")
        if self._has_nulls and len(self._validity) * 8 < rows:
            raise ValueError(f"the validity of {rows} rows does not fit into {len(self._validity)} bytes")

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, row: int) -> bytes | None:
        if row < 0:
            row += self.length
        if row < 0 or row >= self.length:
            raise IndexError(f"row {row} of {self.length}")
        position, length = self._span(row)
        if position < 0:
            raise ValueError(f"row {row} of a column lies outside of its data")
        return None if length < 0 else bytes(self.data[position : position + length])

    def __iter__(self) -> Iterator[bytes | None]:
        for row in range(self.length):
            yield self[row]

    def lengths(self, start: int, end: int) -> tuple[int, int]:
        """Bytes of the rows from `start` to before `end`: all together, and the longest of them."""
        total = 0
        longest = 0
        if start < 0 or end > self.length:
            raise IndexError(f"rows {start} to {end} of {self.length}")
        for row in range(start, end):
            _, length = self._span(row)
            if length > 0:
                total += length
                if length > longest:
                    longest = length
        return total, longest

    def _span(self, row: int) -> tuple[int, int]:
        """Where the data of a row begins and how long it is: -1 for null; begins at -1 when the offsets are wrong."""
        row += self.start
        if self._has_nulls:
            bits = memory.bytes_of(self._validity)
            if not bits[row >> 3] >> (row & 7) & 1:
                return 0, -1
        if self.large:
            long_offsets = memory.int64s_of(self._offsets)
            position = long_offsets[row]
            end = long_offsets[row + 1]
        else:
            offsets = memory.int32s_of(self._offsets)
            position = offsets[row]
            end = offsets[row + 1]
        if position < 0 or end < position or end > self.size:
            return -1, -1
        return position, end - position


class Growing:
    """A binary column that grows: value ends (of 32 bits), data, and a bit for every row that is no null."""

    __slots__ = ("data", "ends", "nulls", "used", "validity")

    def __init__(self) -> None:
        self.ends = bytearray(4)
        self.data = bytearray()
        self.validity = bytearray()
        self.used = 0
        self.nulls = 0

    def reserve(self, rows: int, size: int) -> None:
        """Room for `rows` rows in all and `size` more bytes of data."""
        needed = 4 * (rows + 1)
        if needed > len(self.ends):
            memory.resize(self.ends, needed)
            old = len(self.validity)
            new = (rows + 7) // 8
            memory.resize(self.validity, new)
            if new > old:
                self.validity[old:] = _ALL_VALID * (new - old)
        needed = self.used + size
        if needed > len(self.data):
            memory.resize(self.data, max(needed, min(2 * len(self.data), CHUNK_BYTES)))

    def seal(self, rows: int) -> None:
        """Give back what was reserved and not used."""
        memory.resize(self.ends, 4 * (rows + 1))
        memory.resize(self.validity, (rows + 7) // 8)
        memory.resize(self.data, self.used)

    def column(self, rows: int) -> BinaryColumn:
        """The rows so far; it must not grow while they are looked at."""
        return BinaryColumn(self.ends, self.data, self.validity if self.nulls else None, length=rows)


class Chunk:
    """Rows of `Columns` in one set of buffers. `runs` are topic, partition and the row after the last one."""

    __slots__ = ("capacity", "headers", "keys", "offsets", "rows", "runs", "sealed", "timestamps", "values")

    def __init__(self) -> None:
        self.rows = 0
        self.capacity = 0
        self.offsets = bytearray()
        self.timestamps = bytearray()
        self.keys = Growing()
        self.values = Growing()
        self.headers = Growing()
        self.runs: list[tuple[str, int, int]] = []
        self.sealed = False

    def reserve(self, rows: int, size: int) -> None:
        """Room for `rows` more rows whose keys, values and headers have `size` bytes in all."""
        needed = self.rows + rows
        if needed > self.capacity:
            self.capacity = max(needed, 2 * self.capacity, _FIRST_ROWS)
            memory.resize(self.offsets, 8 * self.capacity)
            memory.resize(self.timestamps, 8 * self.capacity)
        self.keys.reserve(self.capacity, size)
        self.values.reserve(self.capacity, size)
        self.headers.reserve(self.capacity, size)

    def seal(self) -> None:
        """No more rows: somebody looks at the buffers from now on."""
        if not self.sealed:
            self.sealed = True
            memory.resize(self.offsets, 8 * self.rows)
            memory.resize(self.timestamps, 8 * self.rows)
            self.keys.seal(self.rows)
            self.values.seal(self.rows)
            self.headers.seal(self.rows)

    def end_run(self, topic: str, partition: int) -> None:
        """The rows since the last run belong to the partition."""
        runs = self.runs
        if runs and runs[-1][0] == topic and runs[-1][1] == partition:
            runs[-1] = (topic, partition, self.rows)
        elif not runs or runs[-1][2] < self.rows:
            runs.append((topic, partition, self.rows))


class Columns:
    """Records of any number of batches as columns. `len()` is the number of records.

    To look at a column makes it final: what is taken later goes into the next chunk.
    """

    __slots__ = ("_chunks",)

    def __init__(self) -> None:
        self._chunks: list[Chunk] = []

    def __len__(self) -> int:
        return sum([chunk.rows for chunk in self._chunks])

    def __bool__(self) -> bool:
        return len(self) > 0

    def __repr__(self) -> str:
        return f"<Columns: {len(self)} records of {len(self.partitions)} partitions>"

    @property
    def partitions(self) -> list[tuple[str, int]]:
        """Topic and partition of the records, each once, in the order of their first record."""
        return list(dict.fromkeys([(topic, partition) for chunk in self._chunks for topic, partition, _ in chunk.runs]))

    @property
    def offset(self) -> memoryview:
        """The offsets, as 64-bit integers."""
        return self._integers("offsets")

    @property
    def timestamp_ms(self) -> memoryview:
        """The timestamps in milliseconds, as 64-bit integers; -1 where there is none."""
        return self._integers("timestamps")

    @property
    def key(self) -> ChunkedColumn:
        """The keys."""
        return self._column("keys")

    @property
    def value(self) -> ChunkedColumn:
        """The values."""
        return self._column("values")

    @property
    def has_headers(self) -> bool:
        """Whether any record has headers."""
        return any(chunk.headers.used for chunk in self._chunks)

    @property
    def headers(self) -> list[tuple[tuple[str, bytes | None], ...]]:
        """The headers of each record."""
        return [read_headers(raw) if raw else () for raw in self._column("headers")]

    def chunks(self) -> list[Chunk]:
        """The chunks that have rows, final."""
        for chunk in self._chunks:
            chunk.seal()
        return [chunk for chunk in self._chunks if chunk.rows]

    def append(
        self,
        topic: str,
        partition: int,
        offset: int,
        timestamp_ms: int,
        key: bytes | None,
        value: bytes | None,
        headers: bytes = b"",
    ) -> None:
        """Add one record; `headers` as they stand in a record, empty for none. Batches have a faster way in."""
        size = (0 if key is None else len(key)) + (0 if value is None else len(value)) + len(headers)
        chunk = self.room(1, size)
        row = chunk.rows
        memory.int64s(chunk.offsets)[row] = offset
        memory.int64s(chunk.timestamps)[row] = timestamp_ms
        _put(chunk.keys, row, key)
        _put(chunk.values, row, value)
        _put(chunk.headers, row, headers)
        chunk.rows = row + 1
        chunk.end_run(topic, partition)

    def room(self, rows: int, size: int) -> Chunk:
        """A chunk with room for so many rows and bytes more."""
        if self._chunks:
            chunk = self._chunks[-1]
            used = max(chunk.keys.used, chunk.values.used, chunk.headers.used)
            if not chunk.sealed and used + size <= CHUNK_BYTES:
                chunk.reserve(rows, size)
                return chunk
        if size > MAXIMUM_BYTES:
            raise ValueError(f"{size} bytes of one batch are too many for a column")
        chunk = Chunk()
        chunk.reserve(rows, size)
        self._chunks.append(chunk)
        return chunk

    def to_arrow(self, headers: bool | None = None) -> Any:
        """A `pyarrow.Table` on these buffers, nothing is copied. `headers` None: a column of them when there are any.

        ImportError when pyarrow is not installed.
        """
        from ottla.records.frames import to_arrow

        return to_arrow(self, headers)

    def to_polars(self, headers: bool | None = None) -> Any:
        """A `polars.DataFrame`. ImportError when polars or pyarrow is not installed."""
        from ottla.records.frames import to_polars

        return to_polars(self.to_arrow(headers))

    def to_pandas(self, headers: bool | None = None) -> Any:
        """A `pandas.DataFrame` whose columns are backed by Arrow. ImportError when pandas or pyarrow is missing."""
        from ottla.records.frames import to_pandas

        return to_pandas(self.to_arrow(headers))

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """What libraries that know Arrow take data from: `polars.DataFrame(columns)`, `duckdb.sql("from columns")`."""
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def _column(self, name: str) -> ChunkedColumn:
        return ChunkedColumn([getattr(chunk, name).column(chunk.rows) for chunk in self.chunks()])

    def _integers(self, name: str) -> memoryview:
        chunks = self.chunks()
        if len(chunks) == 1:
            return memoryview(getattr(chunks[0], name)).cast("q").toreadonly()
        return memoryview(b"".join([getattr(chunk, name) for chunk in chunks])).cast("q")


class ChunkedColumn(Sequence["bytes | None"]):
    """The keys or values of `Columns`, one behind the other: a sequence that makes bytes when asked for them."""

    def __init__(self, chunks: list[BinaryColumn]) -> None:
        self.chunks = chunks
        """The columns of the chunks, with Arrow's buffers."""

    def __len__(self) -> int:
        return sum([len(chunk) for chunk in self.chunks])

    @overload
    def __getitem__(self, row: int) -> bytes | None: ...
    @overload
    def __getitem__(self, row: slice) -> list[bytes | None]: ...
    def __getitem__(self, row: int | slice) -> bytes | list[bytes | None] | None:
        if isinstance(row, slice):
            return [self[index] for index in range(*row.indices(len(self)))]
        rest = row + len(self) if row < 0 else row
        for chunk in self.chunks:
            if 0 <= rest < len(chunk):
                return chunk[rest]
            rest -= len(chunk)
        raise IndexError(f"row {row} of {len(self)}")

    def __iter__(self) -> Iterator[bytes | None]:
        for chunk in self.chunks:
            yield from chunk


def read_headers(raw: bytes) -> tuple[tuple[str, bytes | None], ...]:
    """The headers in `raw`: their count, and names and values as they stand in a record."""
    data = raw
    end = len(raw)
    count, position = memory.read_varint(data, 0, end)
    if position < 0 or count < 0 or count > end - position:  # each takes two bytes at least
        raise CorruptRecordError(f"record claims {count} headers")
    headers: list[tuple[str, bytes | None]] = []
    for _ in range(count):
        length, position = memory.read_varint(data, position, end)
        if position < 0 or length < 0 or length > end - position:
            raise CorruptRecordError("record header without a name, or cut off")
        # Names that are no UTF-8 come through unharmed: what is read here may be written again.
        name = data[position : position + length].decode("utf-8", "surrogateescape")
        length, position = memory.read_varint(data, position + length, end)
        if position < 0 or length < -1 or length > end - position:
            raise CorruptRecordError("record header is cut off")
        if length < 0:
            headers.append((name, None))
        else:
            headers.append((name, data[position : position + length]))
            position += length
    if position != end:
        raise CorruptRecordError(f"{end - position} bytes follow the headers of a record")
    return tuple(headers)


def _put(column: Growing, row: int, content: bytes | None) -> None:
    """Write one row, for which there is room."""
    if content is None:
        column.nulls += 1
        bits = memory.writable(column.validity)
        bits[row >> 3] &= 255 ^ 1 << (row & 7)
    else:
        source = content
        memory.copy(memory.writable(column.data), column.used, source, 0, len(content))
        column.used += len(content)
    memory.int32s(column.ends)[row + 1] = column.used
