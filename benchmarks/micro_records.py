"""What one record costs: encoding, decoding, hashing, in both forms of the hot modules and beside other clients.

    python -m benchmarks.micro_records [--records 200000] [--size 100]

One process, no broker, best of five. confluent-kafka has no codec to call: what it costs is in `benchmarks/clients`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

from ottla.core.hot import SOURCE_HASH, load_pure
from ottla.records import writer
from ottla.records.batch import parse_header

PER_BATCH = 150
NOW_MS = 1_700_000_000_000
FORMS = ("pure", "compiled", "aiokafka")


def best_ns(work: Callable[[], object], count: int, rounds: int = 5) -> float:
    """Nanoseconds of one of `count` things, in the best round."""
    times = []
    for _ in range(rounds):
        begin = time.perf_counter_ns()
        work()
        times.append(time.perf_counter_ns() - begin)
    return min(times) / count


def append_all(module: Any, values: list[bytes], keep: bool = False) -> list[bytearray]:
    """Record by record, as `send` does."""
    batches = []
    for start in range(0, len(values), PER_BATCH):
        append = (batch := module.BatchWriter(1 << 20)).append
        for value in values[start : start + PER_BATCH]:
            append(NOW_MS, None, value)
        closed = batch.close()
        if keep:
            batches.append(closed)
    return batches


def extend_all(module: Any, values: list[bytes]) -> None:
    """Many at once, as `send_many` does."""
    for start in range(0, len(values), PER_BATCH):
        batch = module.BatchWriter(1 << 20)
        batch.extend(values[start : start + PER_BATCH], timestamp_ms=NOW_MS)
        batch.close()


def extend_columns_all(module: Any, column: Any, rows: int) -> None:
    """From Arrow's buffers."""
    start = 0
    while start < rows:
        batch = module.BatchWriter(20_000)
        start += batch.extend_columns(column, start=start, timestamp_ms=NOW_MS)
        batch.close()


def take_all(module: Any, batches: list[bytearray]) -> None:
    """As objects, 500 at a time."""
    output: list[Any] = []
    for batch in batches:
        cursor = module.RecordCursor(batch, 0, parse_header(batch), topic="t", partition=0)
        cursor.take(1 << 30, None, None, output)
        if len(output) >= 500:
            output = []


def take_columns_all(module: Any, columns: Any, batches: list[bytearray]) -> None:
    """As columns, some thousand records at a time."""
    output = columns.Columns()
    for index, batch in enumerate(batches):
        if index % 32 == 0:
            output = columns.Columns()
        module.RecordCursor(batch, 0, parse_header(batch), topic="t", partition=0).take_columns(1 << 30, output)


def aiokafka_cases(values: list[bytes], batches: list[bytearray]) -> Iterator[tuple[str, Callable[[], object]]]:
    """aiokafka's codec, compiled by Cython as well; it makes tuples' worth of objects, not columns."""
    try:
        from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
    except ImportError:
        return

    def build() -> None:
        for start in range(0, len(values), PER_BATCH):
            builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 20)
            for offset, value in enumerate(values[start : start + PER_BATCH]):
                builder.append(offset, NOW_MS, None, value, [])
            builder.build()

    def read() -> None:
        for batch in batches:
            found = DefaultRecordBatch(bytes(batch))
            found.validate_crc()
            list(found)

    yield "append", build
    yield "take", read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--size", type=int, default=100)
    arguments = parser.parse_args()
    count, size = arguments.records, arguments.size
    values = [bytes([index & 255]) * size for index in range(count)]
    ends = b"".join([(size * index).to_bytes(4, "little") for index in range(count + 1)])
    data = b"".join(values)
    batches = append_all(writer, values, keep=True)
    results: dict[str, dict[str, float]] = {}

    def measure(form: str, case: str, work: Callable[[], object], scale: int = 1) -> None:
        results.setdefault(case, {})[form] = best_ns(work, count // scale, 5 if scale == 1 else 2)

    pure = load_pure()
    forms: dict[str, Callable[[str], ModuleType]] = {"pure": lambda name: pure[f"ottla.records.{name}"]}
    if hasattr(writer, SOURCE_HASH):
        forms["compiled"] = lambda name: import_module(f"ottla.records.{name}")
    for form, module in forms.items():
        scale = 10 if form == "pure" else 1
        some, some_batches = values[: count // scale], batches[: len(batches) // scale]
        column = module("columns").BinaryColumn(ends, data, length=count)
        write, read = module("writer"), module("reader")
        cases: dict[str, Callable[[], object]] = {
            "append": partial(append_all, write, some),
            "extend": partial(extend_all, write, some),
            "extend_columns": partial(extend_columns_all, write, column, len(some)),
            "take": partial(take_all, read, some_batches),
            "take_columns": partial(take_columns_all, read, module("columns"), some_batches),
            "murmur2": partial(module("hashing").murmur2_partitions, some, 12),
        }
        for case, work in cases.items():
            measure(form, case, work, scale)
    for case, work in aiokafka_cases(values, batches):
        measure("aiokafka", case, work)
    print(f"{size}-byte values, batches of {PER_BATCH}; nanoseconds a record, checksum and batch header included")
    print(f"{'':16}{'pure':>10}{'compiled':>10}{'aiokafka':>10}   compiled is")
    for case, row in results.items():
        cells = "".join([f"{row[form]:>10.0f}" if form in row else " " * 10 for form in FORMS])
        others = [form for form in ("pure", "aiokafka") if form in row and "compiled" in row]
        ratios = ", ".join([f"{row[form] / row['compiled']:.1f}x {form}" for form in others])
        print(f"{case:16}{cells}   {ratios}")


if __name__ == "__main__":
    main()
