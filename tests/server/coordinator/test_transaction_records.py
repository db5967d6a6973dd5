"""The byte form of transaction records."""

from __future__ import annotations

import pytest

from ottla.core.ids import TopicPartition
from ottla.protocol.codec import decode
from ottla.protocol.errors import ProtocolError
from ottla.protocol.messages.transaction_records import TransactionLogValue
from ottla.server.coordinator.transactions.records import TransactionRecordCodec, transaction_record
from ottla.server.coordinator.transactions.state import Transaction, TransactionState

CODEC = TransactionRecordCodec()
OPEN = Transaction(
    producer_id=7,
    producer_epoch=3,
    timeout_ms=60_000,
    state=TransactionState.ONGOING,
    partitions=frozenset([TopicPartition("t", 1), TopicPartition("t", 0), TopicPartition("u", 5)]),
    start_ms=100,
    last_update_ms=200,
    previous_producer_id=6,
    client_version=2,
)


def test_version_0_as_kafka_writes_it() -> None:
    key, value = CODEC.encode(transaction_record("id", OPEN, 0))
    assert key.hex() == "0000" + "00026964"
    assert value is not None
    assert value.hex() == (
        "0000" + "0000000000000007" + "0003" + "0000ea60" + "01"
        "00000002" + "000174" + "00000002" + "00000000" + "00000001" + "000175" + "00000001" + "00000005"
        "00000000000000c8" + "0000000000000064"
    )
    decoded = CODEC.decode(key, value)
    assert decoded is not None
    assert decoded.key == "id"
    assert decoded.value == OPEN._replace(previous_producer_id=-1, client_version=0)


@pytest.mark.parametrize("transaction_version", [1, 2])
def test_version_1_keeps_more(transaction_version: int) -> None:
    record = transaction_record("id", OPEN._replace(next_producer_id=8), transaction_version)
    key, value = CODEC.encode(record)
    assert value is not None
    assert value[:2] == b"\0\1"
    decoded = CODEC.decode(key, value)
    assert decoded is not None
    assert decoded.value == record.value


def test_an_empty_transaction_has_no_list_of_partitions() -> None:
    empty = OPEN._replace(state=TransactionState.EMPTY, partitions=frozenset())
    for version in (0, 1):
        _, value = CODEC.encode(transaction_record("id", empty, version))
        assert value is not None
        assert decode(TransactionLogValue, version, value, 2).transaction_partitions is None


def test_tombstones_and_what_a_newer_kafka_may_write() -> None:
    key, value = CODEC.encode(transaction_record("id", None, 2))
    assert value is None
    decoded = CODEC.decode(key, None)
    assert decoded is not None
    assert (decoded.key, decoded.value) == ("id", None)
    assert CODEC.decode(b"\0\7", b"\0\0") is None
    assert CODEC.decode(key, b"\0\2 whatever") is None


@pytest.mark.parametrize(("key", "value"), [(b"\0", b"\0\0"), (b"\0\0\0\2id", b"\0"), (b"\0\0\0\2id", b"\0\1\0\0")])
def test_broken_bytes(key: bytes, value: bytes) -> None:
    with pytest.raises(ProtocolError):
        CODEC.decode(key, value)


def test_an_unknown_state_is_broken() -> None:
    key, value = CODEC.encode(transaction_record("id", OPEN, 0))
    assert value is not None
    changed = bytearray(value)
    changed[2 + 8 + 2 + 4] = 99
    with pytest.raises(ProtocolError, match="99"):
        CODEC.decode(key, bytes(changed))
