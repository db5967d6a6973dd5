"""Batches of other Python clients read by us, and ours read by them (with the `compatibility` extra installed)."""

from __future__ import annotations

from typing import Any

import pytest

from ottla.records.batch import batches, crc_matches
from ottla.records.compression import Codec
from ottla.records.record import Record, build_batch, read_records

CODECS = list(Codec)
NOW = 1_700_000_000_000
RECORDS = [
    Record(
        index,
        NOW + index % 7,
        None if index % 5 == 0 else b"key-%d" % index,
        None if index % 11 == 0 else b"a value that repeats itself " * (index % 40),
        (("header", b"%d" % index), ("empty", b"")) if index % 3 == 0 else (),
    )
    for index in range(400)
]


def check_read_by_us(data: bytes, expected: list[Record]) -> None:
    found = list(batches(data))
    assert sum(header.size_in_bytes for _, header in found) == len(data)
    assert all(crc_matches(data, position, header) for position, header in found)
    assert list(read_records(data)) == expected


def as_records(found: Any) -> list[Record]:
    return [
        Record(
            record.offset,
            record.timestamp,
            None if record.key is None else bytes(record.key),
            None if record.value is None else bytes(record.value),
            tuple((name, None if value is None else bytes(value)) for name, value in record.headers),
        )
        for record in found
    ]


@pytest.mark.parametrize("codec", CODECS)
def test_aiokafka_batch_is_read(codec: Codec) -> None:
    module = pytest.importorskip("aiokafka.record.default_records")
    builder = module.DefaultRecordBatchBuilder(
        magic=2, compression_type=codec, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=-1,
        batch_size=1 << 20,
    )  # fmt: skip
    for record in RECORDS:
        builder.append(record.offset, record.timestamp_ms, record.key, record.value, list(record.headers))
    check_read_by_us(bytes(builder.build()), RECORDS)


@pytest.mark.parametrize("codec", CODECS)
def test_aiokafka_reads_ours(codec: Codec) -> None:
    module = pytest.importorskip("aiokafka.record.default_records")
    batch = module.DefaultRecordBatch(bytes(build_batch(RECORDS, compression=codec)))
    assert batch.validate_crc()
    assert as_records(batch) == RECORDS


@pytest.mark.parametrize("codec", CODECS)
def test_kafka_python_batch_is_read(codec: Codec) -> None:
    module = pytest.importorskip("kafka.record.memory_records")
    builder = module.MemoryRecordsBuilder(magic=2, compression_type=codec, batch_size=1 << 20)
    for record in RECORDS:
        builder.append(record.timestamp_ms, record.key, record.value, list(record.headers))
    builder.close()
    check_read_by_us(bytes(builder.buffer()), RECORDS)


@pytest.mark.parametrize("codec", CODECS)
def test_kafka_python_reads_ours(codec: Codec) -> None:
    module = pytest.importorskip("kafka.record.memory_records")
    batch = module.MemoryRecords(bytes(build_batch(RECORDS, compression=codec))).next_batch()
    assert batch.validate_crc()
    assert as_records(batch) == RECORDS


@pytest.mark.parametrize(
    ("magic", "codec"),
    [(0, Codec.NONE), (0, Codec.GZIP), (0, Codec.SNAPPY)]
    + [(1, Codec.NONE), (1, Codec.GZIP), (1, Codec.SNAPPY), (1, Codec.LZ4)],
)
def test_legacy_message_set_of_kafka_python_is_read(magic: int, codec: Codec) -> None:
    module = pytest.importorskip("kafka.record.memory_records")
    builder = module.MemoryRecordsBuilder(magic=magic, compression_type=codec, batch_size=1 << 20)
    for record in RECORDS:
        builder.append(record.timestamp_ms, record.key, record.value)
    builder.close()
    expected = [record._replace(headers=(), timestamp_ms=record.timestamp_ms if magic else -1) for record in RECORDS]
    data = bytearray(builder.buffer())
    if magic == 1 and codec:
        data[:8] = (len(RECORDS) - 1).to_bytes(8, "big")  # a broker gave the wrapper the offset of its last message
    check_read_by_us(bytes(data), expected)
