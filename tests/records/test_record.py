"""Records: round trips, fuzzing, and what only shows in records themselves."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.records.batch import CorruptRecordError, parse_header, update_crc
from ottla.records.compression import Codec, compress
from ottla.records.record import (
    Record,
    assemble_batch,
    build_batch,
    encode_records,
    null_key_indexes,
    read_batch_records,
    read_records,
)

LIMIT = 1 << 20
CONTENT = st.none() | st.binary(max_size=60) | st.sampled_from([b"", bytes(200), b"x" * 9000])
RECORDS = st.lists(
    st.builds(
        Record,
        timestamp_ms=st.integers(-1, 2**62),
        key=CONTENT,
        value=CONTENT,
        headers=st.lists(st.tuples(st.text(max_size=5), CONTENT), max_size=3).map(tuple),
    ),
    max_size=12,
)


def with_offsets(records: list[Record], base_offset: int) -> list[Record]:
    return [record._replace(offset=base_offset + index) for index, record in enumerate(records)]


@settings(max_examples=150, deadline=None)
@given(RECORDS, st.sampled_from(list(Codec)), st.integers(0, 2**62))
def test_records_come_back_as_they_were_built(records: list[Record], codec: Codec, base_offset: int) -> None:
    batch = build_batch(records, base_offset=base_offset, compression=codec)
    header = parse_header(batch)
    assert header.size_in_bytes == len(batch)
    assert header.records_count == len(records)
    assert header.last_offset_delta == len(records) - 1
    assert header.max_timestamp == max([record.timestamp_ms for record in records], default=-1)
    assert list(read_records(batch)) == with_offsets(records, base_offset)


def test_batch_with_gaps_keeps_the_offsets_of_its_records() -> None:
    records = [Record(offset, 1000 + offset, b"k", b"v") for offset in (10, 13, 17)]
    header = parse_header(build_batch(records, base_offset=10))._replace(last_offset_delta=9)
    batch = assemble_batch(header, encode_records(records, 1010, base_offset=10), Codec.ZSTD)
    assert list(read_records(batch)) == records
    assert parse_header(batch).next_offset == 20


def test_header_names_that_are_no_utf8_survive() -> None:
    blob = bytearray(encode_records([Record(headers=(("ab", b"v"),))], -1))
    position = blob.index(b"ab")
    blob[position : position + 2] = b"\xff\xfe"
    header = parse_header(build_batch([Record()]))
    [record] = read_records(assemble_batch(header, blob))
    assert encode_records([record], -1) == blob


def test_wrong_crc_is_noticed_unless_told_otherwise() -> None:
    batch = build_batch([Record(value=b"value")])
    batch[17] ^= 1
    with pytest.raises(CorruptRecordError, match="CRC"):
        list(read_records(batch))
    assert [record.value for record in read_records(batch, check_crc=False)] == [b"value"]


@pytest.mark.parametrize("codec", [Codec.GZIP, Codec.SNAPPY, Codec.LZ4, Codec.ZSTD])
def test_bomb_is_refused(codec: Codec) -> None:
    batch = build_batch([Record(value=bytes(3 * LIMIT))], compression=codec)
    with pytest.raises(CorruptRecordError):
        list(read_records(batch, limit_bytes=LIMIT))


@pytest.mark.parametrize(
    "damage",
    [
        {"records_count": 3},
        {"records_count": 1},
        {"records_count": -1},
        {"records_count": 2**31 - 1},
        {"attributes": 5},
        {"attributes": 4},
    ],
    ids=str,
)
def test_header_that_does_not_fit_the_records_is_corrupt(damage: dict[str, int]) -> None:
    batch = build_batch([Record(value=b"a"), Record(value=b"b")])
    header = parse_header(batch)._replace(**damage)
    with pytest.raises(CorruptRecordError):
        read_batch_records(batch, 0, header)


@settings(max_examples=300, deadline=None)
@given(RECORDS, st.sampled_from([Codec.NONE, Codec.NONE, Codec.LZ4, Codec.GZIP]), st.data())
def test_mutated_batch_with_a_right_crc_is_read_or_corrupt(
    records: list[Record], codec: Codec, data: st.DataObject
) -> None:
    batch = build_batch(records, compression=codec)
    for _ in range(data.draw(st.integers(1, 5))):
        batch[data.draw(st.integers(12, len(batch) - 1))] = data.draw(st.integers(0, 255))
    update_crc(batch, 0, len(batch))
    try:
        list(read_records(batch, limit_bytes=LIMIT))
    except CorruptRecordError:
        pass


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 2))
def test_garbage_is_corrupt_or_nothing(garbage: bytes, magic: int) -> None:
    data = bytearray(garbage)
    if len(data) > 16:
        data[16] = magic
        data[8:12] = struct.pack(">i", len(data) - 12)
    try:
        list(read_records(data, check_crc=False, limit_bytes=LIMIT))
    except CorruptRecordError:
        pass


def test_null_keys_are_found_without_decoding() -> None:
    records = [Record(key=b"a"), Record(), Record(key=b"", headers=(("h", None),)), Record(value=b"x" * 300)]
    assert null_key_indexes(encode_records(records, -1), 4) == [1, 3]
    for count in (3, 5):
        with pytest.raises(CorruptRecordError):
            null_key_indexes(encode_records(records, -1), count)
    with pytest.raises(CorruptRecordError, match="offset delta"):
        null_key_indexes(encode_records([Record(offset=1)], -1, base_offset=0), 1)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=100), st.integers(0, 5))
def test_null_keys_in_garbage_are_corrupt_or_indexes(garbage: bytes, count: int) -> None:
    try:
        assert all(0 <= index < count for index in null_key_indexes(garbage, count))
    except CorruptRecordError:
        pass


# --- legacy formats


def message(
    offset: int,
    value: bytes | None,
    *,
    magic: int = 1,
    attributes: int = 0,
    timestamp: int = 7,
    key: bytes | None = None,
) -> bytes:
    """One message of the formats before v2."""
    body = struct.pack(">bb", magic, attributes) + (struct.pack(">q", timestamp) if magic else b"")
    for content in (key, value):
        body += struct.pack(">i", -1) if content is None else struct.pack(">i", len(content)) + content
    return struct.pack(">qiI", offset, len(body) + 4, zlib.crc32(body)) + body


@pytest.mark.parametrize("codec", [Codec.GZIP, Codec.SNAPPY, Codec.LZ4])
def test_compressed_v0_messages_have_absolute_offsets(codec: Codec) -> None:
    nested = message(40, b"a", magic=0, key=b"k") + message(41, None, magic=0)
    payload = bytearray(compress(codec, nested))
    if codec is Codec.LZ4:
        payload[6] ^= 0xFF  # the wrong header checksum of that time
    wrapper = message(41, bytes(payload), magic=0, attributes=codec)
    assert list(read_records(wrapper)) == [Record(40, -1, b"k", b"a"), Record(41, -1, None, None)]


def test_compressed_v1_messages_have_offsets_relative_to_the_last() -> None:
    nested = message(0, b"a", timestamp=5) + message(2, b"b", timestamp=6)
    wrapper = message(102, bytes(compress(Codec.GZIP, nested)), attributes=Codec.GZIP, timestamp=6)
    assert list(read_records(wrapper)) == [Record(100, 5, None, b"a"), Record(102, 6, None, b"b")]


def test_v1_wrapper_with_log_append_time_dates_its_messages() -> None:
    nested = message(0, b"a", timestamp=5) + message(1, b"b", timestamp=6)
    wrapper = message(1, bytes(compress(Codec.GZIP, nested)), attributes=Codec.GZIP | 8, timestamp=99)
    assert [record.timestamp_ms for record in read_records(wrapper)] == [99, 99]


@pytest.mark.parametrize(
    "nested",
    [
        b"",
        message(0, b"a")[:-1],
        message(0, b"a", magic=0),
        message(0, bytes(compress(Codec.GZIP, message(0, b"a"))), attributes=Codec.GZIP),
        message(0, b"a")[:-1] + b"b",
    ],
    ids=["empty", "cut off", "other magic", "nested twice", "wrong crc"],
)
def test_damaged_nested_message_set_is_corrupt(nested: bytes) -> None:
    wrapper = message(0, bytes(compress(Codec.GZIP, nested)), attributes=Codec.GZIP)
    with pytest.raises(CorruptRecordError):
        list(read_records(wrapper))
