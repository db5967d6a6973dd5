"""Batches that Apache Kafka wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ottla.records.batch import batches, crc_matches, parse_header
from ottla.records.compression import Codec
from ottla.records.control import EndTransactionMarker, end_transaction_marker, read_end_transaction_marker
from ottla.records.record import Record, build_batch, read_records

BATCHES = {
    name: bytes.fromhex(text)
    for name, text in json.loads((Path(__file__).parent / "testdata" / "batches.json").read_text())["batches"].items()
}
RECORDS = [
    Record(100, 1700000000000, b"k1", b"value-1"),
    Record(101, 1700000000005, None, b"value-2-value-2-value-2-value-2"),
    Record(102, 1699999999990, b"k3", None, (("h", b"x"), ("n", None))),
]
LOG_APPEND_TIME = 1795252433249
CODECS = {"none": Codec.NONE, "gzip": Codec.GZIP, "snappy": Codec.SNAPPY, "lz4": Codec.LZ4, "zstd": Codec.ZSTD}


@pytest.mark.parametrize("name", BATCHES)
def test_every_batch_has_a_right_crc_and_fills_its_bytes(name: str) -> None:
    data = BATCHES[name]
    found = list(batches(data))
    assert all(crc_matches(data, position, header) for position, header in found)
    position, header = found[-1]
    assert position + header.size_in_bytes == len(data)


@pytest.mark.parametrize("codec", CODECS)
def test_v2_batch_decodes_to_its_header_and_records(codec: str) -> None:
    data = BATCHES[f"v2-{codec}"]
    header = parse_header(data)
    assert (header.base_offset, header.last_offset, header.next_offset) == (100, 102, 103)
    assert (header.producer_id, header.producer_epoch, header.base_sequence, header.last_sequence) == (7, 2, 11, 13)
    assert header.partition_leader_epoch == 5
    assert (header.base_timestamp, header.max_timestamp) == (1700000000000, 1700000000005)
    assert header.compression == CODECS[codec]
    assert not header.is_control
    assert not header.is_transactional
    assert not header.uses_log_append_time
    assert header.delete_horizon_ms is None
    assert list(read_records(data)) == RECORDS


@pytest.mark.parametrize("codec", CODECS)
def test_v2_batch_that_we_build_reads_like_kafkas(codec: str) -> None:
    batch = build_batch(
        RECORDS, base_offset=100, compression=CODECS[codec], producer_id=7, producer_epoch=2, base_sequence=11,
        leader_epoch=5,
    )  # fmt: skip
    if codec in ("none", "lz4"):
        assert bytes(batch) == BATCHES[f"v2-{codec}"]
    assert list(read_records(batch)) == RECORDS


def test_transactional_batch_is_reproduced_byte_for_byte() -> None:
    batch = build_batch(
        RECORDS, base_offset=100, producer_id=7, producer_epoch=2, base_sequence=11, transactional=True, leader_epoch=5
    )
    assert bytes(batch) == BATCHES["v2-transactional"]
    assert parse_header(batch).is_transactional


def test_log_append_time_batch_gives_all_records_the_time_of_the_broker() -> None:
    batch = build_batch(RECORDS, base_offset=100, leader_epoch=5, log_append_time_ms=LOG_APPEND_TIME)
    data = BATCHES["v2-logappend"]
    assert bytes(batch) == data
    assert parse_header(data).uses_log_append_time
    assert {record.timestamp_ms for record in read_records(data)} == {LOG_APPEND_TIME}


@pytest.mark.parametrize(("name", "is_commit", "offset"), [("commit", True, 200), ("abort", False, 201)])
def test_transaction_marker_is_read_and_reproduced_byte_for_byte(name: str, is_commit: bool, offset: int) -> None:
    data = BATCHES[f"v2-{name}-marker"]
    header = parse_header(data)
    assert header.is_control
    assert header.is_transactional
    [record] = read_records(data)
    assert read_end_transaction_marker(record) == EndTransactionMarker(is_commit, 3)
    assert list(read_records(data, skip_control=True)) == []
    timestamp = 1700000000010 + offset - 200
    batch = end_transaction_marker(
        is_commit=is_commit, producer_id=7, producer_epoch=2, coordinator_epoch=3, timestamp_ms=timestamp,
        base_offset=offset, leader_epoch=5,
    )  # fmt: skip
    assert bytes(batch) == data


@pytest.mark.parametrize("name", ["v1-none", "v1-gzip", "v0-none"])
def test_legacy_message_sets_stay_readable(name: str) -> None:
    expected = [record._replace(timestamp_ms=-1) if name == "v0-none" else record for record in RECORDS[:2]]
    assert list(read_records(BATCHES[name])) == expected
    assert {header.magic for _, header in batches(BATCHES[name])} == {int(name[1])}
