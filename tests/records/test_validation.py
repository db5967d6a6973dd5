"""What a leader refuses, and what it rewrites."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.core.errors import ApiError, ErrorCode
from ottla.records.batch import BatchHeader, crc_matches, parse_header, update_crc
from ottla.records.compression import Codec
from ottla.records.record import Record, build_batch, read_records
from ottla.records.validation import AppendOrigin, AppendRules, RecordValidationError, validate_and_assign

NOW = 1_700_000_000_000
RULES = AppendRules()
RECORDS = [Record(timestamp_ms=NOW, key=b"k", value=b"value-%d" % i * 20) for i in range(3)]
HOUR = 3_600_000


def append(
    batch: bytes | bytearray,
    rules: AppendRules = RULES,
    *,
    produce_version: int | None = 12,
    origin: AppendOrigin = AppendOrigin.CLIENT,
) -> tuple[BatchHeader, bytearray | memoryview]:
    return validate_and_assign(
        memoryview(bytearray(batch)), base_offset=1000, leader_epoch=7, now_ms=NOW, rules=rules,
        produce_version=produce_version, origin=origin,
    )  # fmt: skip


def refusal(batch: bytes | bytearray, rules: AppendRules = RULES, **arguments: object) -> ApiError:
    with pytest.raises(ApiError) as caught:
        append(batch, rules, **arguments)  # type: ignore[arg-type]
    return caught.value


def patched(batch: bytearray, **changes: int) -> bytearray:
    """A batch with other header fields and a right CRC."""
    from ottla.records.batch import HEADER

    HEADER.pack_into(batch, 0, *parse_header(batch)._replace(**changes))
    update_crc(batch, 0, len(batch))
    return batch


def check_appended(header: BatchHeader, written: bytearray | memoryview) -> None:
    assert header == parse_header(written)
    assert header.size_in_bytes == len(written)
    assert crc_matches(written, 0, header)
    assert (header.base_offset, header.partition_leader_epoch) == (1000, 7)


@pytest.mark.parametrize("codec", list(Codec))
def test_good_batch_is_patched_in_place(codec: Codec) -> None:
    batch = memoryview(build_batch(RECORDS, compression=codec, producer_id=5, producer_epoch=0, base_sequence=0))
    header, written = validate_and_assign(batch, base_offset=1000, leader_epoch=7, now_ms=NOW, rules=RULES)
    assert written is batch
    check_appended(header, written)
    assert [record.offset for record in read_records(written)] == [1000, 1001, 1002]
    assert [record.value for record in read_records(written)] == [record.value for record in RECORDS]


def test_framing_is_refused_with_kafkas_codes() -> None:
    batch = build_batch(RECORDS)
    assert refusal(b"").code is ErrorCode.INVALID_RECORD
    assert refusal(batch + batch).code is ErrorCode.INVALID_RECORD
    for size in (len(batch) - 1, 30, 16, 10):  # a batch that is not there in full is none
        assert refusal(batch[:size]).code is ErrorCode.INVALID_RECORD
    for magic, code in {0: ErrorCode.INVALID_RECORD, 1: ErrorCode.INVALID_RECORD, 3: ErrorCode.CORRUPT_MESSAGE}.items():
        assert refusal(batch[:16] + bytes([magic]) + batch[17:]).code is code
    for length in (-5, 0, 13, 48):
        damaged = batch[:8] + length.to_bytes(4, "big", signed=True) + batch[12:]
        assert refusal(damaged).code is ErrorCode.CORRUPT_MESSAGE
    assert refusal(batch[:8] + (2**31 - 1).to_bytes(4, "big") + batch[12:]).code is ErrorCode.INVALID_RECORD
    assert refusal(batch + bytes(20)).code is ErrorCode.CORRUPT_MESSAGE


def test_wrong_crc_is_a_corrupt_message() -> None:
    batch = build_batch(RECORDS)
    for position in (17, 21, 40, len(batch) - 1):
        damaged = bytearray(batch)
        damaged[position] ^= 0x10
        assert refusal(damaged, AppendRules(before_max_ms=HOUR)).code is ErrorCode.CORRUPT_MESSAGE


@pytest.mark.parametrize(
    "changes",
    [
        {"base_offset": 1},
        {"records_count": 2},
        {"records_count": 0, "last_offset_delta": -1},
        {"records_count": -1},
        {"last_offset_delta": 5},
        {"attributes": 0x20},
        {"producer_id": 4, "base_sequence": -1},
        {"producer_id": 0, "producer_epoch": 0},
    ],
    ids=str,
)
def test_header_that_a_client_may_not_send_is_an_invalid_record(changes: dict[str, int]) -> None:
    batch = patched(build_batch(RECORDS), **changes)
    assert refusal(batch).code is ErrorCode.INVALID_RECORD
    if changes.get("last_offset_delta") != -1:
        append(batch, origin=AppendOrigin.COORDINATOR)


def test_log_append_time_bit_from_a_client_is_an_invalid_timestamp() -> None:
    for rules in (RULES, AppendRules(log_append_time=True)):
        error = refusal(build_batch(RECORDS, log_append_time_ms=NOW), rules)
        assert error.code is ErrorCode.INVALID_TIMESTAMP


def test_zstd_needs_produce_version_7() -> None:
    batch = build_batch(RECORDS, compression=Codec.ZSTD)
    assert refusal(batch, produce_version=6).code is ErrorCode.UNSUPPORTED_COMPRESSION_TYPE
    append(batch, produce_version=7)
    append(batch, produce_version=None)


def test_unknown_codec_is_refused() -> None:
    for codec in (5, 6, 7):
        error = refusal(patched(build_batch(RECORDS), attributes=codec))
        assert error.code is ErrorCode.UNSUPPORTED_COMPRESSION_TYPE


def test_batch_larger_than_max_message_bytes_is_refused() -> None:
    batch = build_batch(RECORDS)
    append(batch, AppendRules(max_message_bytes=len(batch)))
    assert refusal(batch, AppendRules(max_message_bytes=len(batch) - 1)).code is ErrorCode.MESSAGE_TOO_LARGE


def test_size_is_checked_again_after_recompression() -> None:
    batch = build_batch([Record(timestamp_ms=NOW, value=bytes(5000))], compression=Codec.GZIP)
    rules = AppendRules(max_message_bytes=1000, compression=Codec.NONE)
    assert len(batch) < 1000
    assert refusal(batch, rules).code is ErrorCode.MESSAGE_TOO_LARGE


# --- timestamps


def dated(*timestamps: int) -> bytearray:
    return build_batch([Record(timestamp_ms=timestamp, value=b"v") for timestamp in timestamps])


def test_create_time_has_to_be_within_the_bounds() -> None:
    rules = AppendRules(before_max_ms=1000, after_max_ms=2000)
    append(dated(NOW - 1000, NOW + 2000), rules)
    for timestamps, index in [((NOW - 1001,), 0), ((NOW, NOW + 2001), 1), ((NOW, NOW + 1, NOW + 9999), 2)]:
        error = refusal(dated(*timestamps), rules)
        assert error.code is ErrorCode.INVALID_TIMESTAMP
        assert isinstance(error, RecordValidationError)
        assert [refused.batch_index for refused in error.record_errors] == [index]
    append(dated(NOW - 10 * 365 * 24 * HOUR))
    assert refusal(dated(NOW + HOUR + 1)).code is ErrorCode.INVALID_TIMESTAMP


def test_records_without_timestamp_are_within_any_bounds() -> None:
    append(dated(-1, -1), AppendRules(before_max_ms=1000))


def test_max_timestamp_that_no_record_has_is_refused() -> None:
    batch = patched(dated(NOW), max_timestamp=NOW + 2 * HOUR)
    assert refusal(batch).code is ErrorCode.INVALID_TIMESTAMP


@pytest.mark.parametrize("codec", list(Codec))
def test_log_append_time_stamps_the_batch(codec: Codec) -> None:
    batch = build_batch([Record(timestamp_ms=5, value=b"v"), Record(timestamp_ms=9, value=b"w")], compression=codec)
    header, written = append(batch, AppendRules(log_append_time=True, before_max_ms=1000))
    check_appended(header, written)
    assert header.uses_log_append_time
    assert header.max_timestamp == NOW
    assert [record.timestamp_ms for record in read_records(written)] == [NOW, NOW]


# --- recompression


@pytest.mark.parametrize("source", list(Codec))
@pytest.mark.parametrize("target", list(Codec))
@pytest.mark.parametrize("log_append_time", [False, True])
def test_batch_is_recompressed_when_the_topic_has_another_codec(
    source: Codec, target: Codec, log_append_time: bool
) -> None:
    batch = build_batch(RECORDS, compression=source, producer_id=5, producer_epoch=1, base_sequence=9)
    header, written = append(batch, AppendRules(compression=target, log_append_time=log_append_time))
    check_appended(header, written)
    assert header.compression == target
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (5, 1, 9)
    assert [(record.key, record.value) for record in read_records(written)] == [(r.key, r.value) for r in RECORDS]
    if source == target and not log_append_time:
        assert written[61:] == batch[61:]


def test_recompression_of_damaged_records_is_refused() -> None:
    batch = patched(build_batch(RECORDS), attributes=Codec.GZIP)
    assert refusal(batch, AppendRules(compression=Codec.NONE)).code is ErrorCode.INVALID_RECORD


def test_control_batch_is_never_recompressed() -> None:
    batch = build_batch([Record(timestamp_ms=NOW, key=b"\0\0\0\1", value=b"\0" * 6)], control=True)
    header, written = append(
        batch, AppendRules(compression=Codec.ZSTD, compacted=True), origin=AppendOrigin.COORDINATOR
    )
    check_appended(header, written)
    assert header.compression == Codec.NONE


def test_metadata_quorum_writes_what_it_likes() -> None:
    batch = build_batch([Record(timestamp_ms=5)], base_offset=3)
    rules = AppendRules(compression=Codec.ZSTD, compacted=True, before_max_ms=1, log_append_time=True)
    header, written = append(batch, rules, origin=AppendOrigin.RAFT_LEADER)
    check_appended(header, written)
    assert header.attributes == 0


# --- compacted topics


@pytest.mark.parametrize("codec", list(Codec))
def test_compacted_topic_wants_keys_and_names_the_records_without(codec: Codec) -> None:
    records = [Record(timestamp_ms=NOW, key=key, value=b"v" * 50) for key in (b"a", None, b"", None)]
    rules = AppendRules(compacted=True)
    error = refusal(build_batch(records, compression=codec), rules)
    assert error.code is ErrorCode.INVALID_RECORD
    assert isinstance(error, RecordValidationError)
    assert [refused.batch_index for refused in error.record_errors] == [1, 3]
    header, written = append(build_batch(RECORDS, compression=codec), rules)
    check_appended(header, written)


def test_compacted_topic_with_another_codec_decompresses_once_and_bounds_apply() -> None:
    rules = AppendRules(compacted=True, compression=Codec.LZ4, before_max_ms=HOUR)
    header, written = append(build_batch(RECORDS, compression=Codec.GZIP), rules)
    check_appended(header, written)
    old = build_batch([Record(timestamp_ms=NOW - 2 * HOUR, key=b"k")])
    assert refusal(old, rules).code is ErrorCode.INVALID_TIMESTAMP


def test_compacted_topic_refuses_records_it_can_not_read() -> None:
    batch = build_batch(RECORDS)
    batch[61] ^= 0x7E
    assert refusal(patched(batch), AppendRules(compacted=True)).code is ErrorCode.INVALID_RECORD


ALL_RULES = [
    RULES,
    AppendRules(compacted=True),
    AppendRules(log_append_time=True),
    AppendRules(compression=Codec.NONE),
    AppendRules(compression=Codec.GZIP, compacted=True, before_max_ms=1000),
]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(ALL_RULES), st.sampled_from(list(Codec)), st.booleans(), st.data())
def test_mutated_batch_is_refused_or_written_whole(
    rules: AppendRules, codec: Codec, renew_crc: bool, data: st.DataObject
) -> None:
    batch = build_batch(RECORDS, compression=codec)
    for _ in range(data.draw(st.integers(1, 4))):
        batch[data.draw(st.integers(0, len(batch) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        batch = batch[: data.draw(st.integers(0, len(batch)))]
    if renew_crc and len(batch) > 61:
        update_crc(batch, 0, len(batch))
    try:
        header, written = append(batch, rules)
    except ApiError:
        return
    check_appended(header, written)
