"""Control records of the metadata log."""

from __future__ import annotations

import pytest

from ottla.protocol.messages.raft_data import (
    KRaftVersionRecord,
    LeaderChangeMessage,
    LeaderChangeMessageVoter,
    SnapshotFooterRecord,
    SnapshotHeaderRecord,
    VotersRecord,
    VotersRecordVoter,
)
from ottla.records.batch import CorruptRecordError, parse_header
from ottla.records.control import (
    ControlMessage,
    ControlType,
    control_batch,
    control_key,
    control_type,
    end_transaction_marker,
    read_control_message,
    read_end_transaction_marker,
)
from ottla.records.record import Record, read_records

MESSAGES: list[ControlMessage] = [
    LeaderChangeMessage(
        version=1, leader_id=3, voters=[LeaderChangeMessageVoter(voter_id=3, voter_directory_id=b"d" * 16)]
    ),
    SnapshotHeaderRecord(last_contained_log_timestamp=1700000000000),
    KRaftVersionRecord(kraft_version=1),
    VotersRecord(voters=[VotersRecordVoter(voter_id=3)]),
    SnapshotFooterRecord(),
]


def test_messages_come_back_from_one_control_batch() -> None:
    batch = control_batch(MESSAGES, timestamp_ms=5, base_offset=9, leader_epoch=2)
    header = parse_header(batch)
    assert header.is_control
    assert not header.is_transactional
    assert (header.base_offset, header.partition_leader_epoch, header.records_count) == (9, 2, 5)
    records = list(read_records(batch))
    assert [read_control_message(record) for record in records] == MESSAGES
    assert [control_type(record) for record in records] == [2, 3, 5, 6, 4]
    assert all(read_end_transaction_marker(record) is None for record in records)


def test_marker_is_no_message_of_the_quorum() -> None:
    batch = end_transaction_marker(is_commit=True, producer_id=1, producer_epoch=0, coordinator_epoch=4, timestamp_ms=5)
    [record] = read_records(batch)
    assert control_type(record) is ControlType.COMMIT
    assert read_control_message(record) is None


def test_unknown_type_is_skipped() -> None:
    record = Record(key=b"\0\0\0\x63", value=b"whatever")
    assert control_type(record) is None
    assert read_control_message(record) is None
    assert read_end_transaction_marker(record) is None


@pytest.mark.parametrize("key", [None, b"", b"\0\0\0"])
def test_key_cut_off_is_corrupt(key: bytes | None) -> None:
    with pytest.raises(CorruptRecordError):
        control_type(Record(key=key))


@pytest.mark.parametrize("value", [None, b"\0", b"\0\0\0", b"\x7f\xff\0\0\0\0"])
def test_damaged_value_is_corrupt(value: bytes | None) -> None:
    with pytest.raises(CorruptRecordError):
        read_control_message(Record(key=control_key(ControlType.LEADER_CHANGE), value=value))


def test_cut_off_marker_is_corrupt() -> None:
    with pytest.raises(CorruptRecordError):
        read_end_transaction_marker(Record(key=control_key(ControlType.ABORT), value=b"\0\0\0"))
