"""The header of a batch: parsing, walking, patching."""

from __future__ import annotations

import pytest

from ottla.records.batch import (
    HEADER_SIZE,
    BatchHeader,
    CorruptRecordError,
    assign_offsets,
    batch_size,
    batches,
    crc_matches,
    parse_header,
    update_crc,
)
from ottla.records.record import Record, build_batch


def two_batches() -> tuple[bytearray, bytearray]:
    return build_batch([Record(value=b"a"), Record(value=b"b")]), build_batch([Record(value=b"c")], base_offset=2)


def test_offsets_and_leader_epoch_are_assigned_without_touching_the_crc() -> None:
    first, second = two_batches()
    buffer = bytearray(first + second)
    assign_offsets(buffer, len(first), 1 << 40, 17)
    header = parse_header(buffer, len(first))
    assert (header.base_offset, header.partition_leader_epoch) == (1 << 40, 17)
    assert crc_matches(buffer, len(first), header)
    assert buffer[: len(first)] == first


def test_batches_are_walked_and_one_cut_off_at_the_end_is_left_out() -> None:
    first, second = two_batches()
    buffer = first + second
    whole = [(0, parse_header(first)), (len(first), parse_header(second))]
    assert list(batches(buffer)) == whole
    assert list(batches(memoryview(buffer)[:-1])) == whole[:1]
    assert list(batches(buffer[: len(first) + 5])) == whole[:1]
    assert list(batches(b"")) == []


def test_a_changed_byte_anywhere_behind_the_crc_is_noticed() -> None:
    batch, _ = two_batches()
    for position in range(21, len(batch)):
        batch[position] ^= 0x40
        assert not crc_matches(batch, 0, parse_header(batch))
        batch[position] ^= 0x40
    assert crc_matches(batch, 0, parse_header(batch))
    assert not crc_matches(batch[:-1], 0, parse_header(batch))


def test_crc_can_be_renewed_after_a_change() -> None:
    batch, _ = two_batches()
    batch[-1] ^= 1
    update_crc(batch, 0, len(batch))
    assert crc_matches(batch, 0, parse_header(batch))


@pytest.mark.parametrize("size", [0, 5, 12, 16, 17, HEADER_SIZE - 1])
def test_header_cut_off_is_corrupt(size: int) -> None:
    with pytest.raises(CorruptRecordError):
        parse_header(two_batches()[0][:size])


@pytest.mark.parametrize("magic", [0, 1, 3, 0x80])
def test_header_of_another_format_is_corrupt_or_has_the_wrong_crc(magic: int) -> None:
    batch, _ = two_batches()
    batch[16] = magic
    if magic > 1:
        with pytest.raises(CorruptRecordError, match="magic"):
            parse_header(batch)
    else:
        assert not crc_matches(batch, 0, parse_header(batch))


@pytest.mark.parametrize("length", [-1, -(2**31), 0, 48])
def test_length_smaller_than_a_header_is_corrupt(length: int) -> None:
    batch, _ = two_batches()
    batch[8:12] = length.to_bytes(4, "big", signed=True)
    with pytest.raises(CorruptRecordError):
        parse_header(batch)
    with pytest.raises(CorruptRecordError):
        list(batches(batch))


def test_batch_size_needs_the_length_field_only() -> None:
    first, second = two_batches()
    assert batch_size(first + second, len(first)) == len(second)
    assert batch_size(first[:12]) == len(first)
    assert batch_size(first[:11]) is None


def test_last_sequence_wraps_to_zero() -> None:
    batch = build_batch([Record(value=b"a")] * 3, producer_id=1, producer_epoch=0, base_sequence=2**31 - 2)
    assert parse_header(batch).last_sequence == 0
    assert parse_header(build_batch([Record()])).last_sequence == -1


def test_delete_horizon_stands_in_the_base_timestamp() -> None:
    header = parse_header(two_batches()[0])
    flagged = BatchHeader(*header._replace(attributes=header.attributes | 0x40, base_timestamp=1234))
    assert flagged.delete_horizon_ms == 1234
