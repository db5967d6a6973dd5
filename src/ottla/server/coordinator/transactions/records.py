"""The records of ``__transaction_state``: the newest one of a transactional id is all there is to know of it.

Values are written in version 0 or, from transaction.version 1 on, in version 1, which alone carries the previous and
next producer id and the client's transaction.version.
"""

from __future__ import annotations

from ottla.core.ids import TopicPartition
from ottla.protocol.codec import decode, encode
from ottla.protocol.errors import ProtocolError
from ottla.protocol.messages.transaction_records import PartitionsSchema, TransactionLogKey, TransactionLogValue
from ottla.server.coordinator.result import CoordinatorRecord
from ottla.server.coordinator.transactions.state import NO_PARTITIONS, Transaction, TransactionState

TRANSACTION = 0
_HIGHEST_VALUE_VERSION = 1


def transaction_record(
    transactional_id: str, transaction: Transaction | None, transaction_version: int
) -> CoordinatorRecord:
    """The record that says how a transactional id stands (None: it is forgotten)."""
    return CoordinatorRecord(TRANSACTION, transactional_id, transaction, min(transaction_version, 1))


class TransactionRecordCodec:
    """Bytes of the records: the key is a transactional id, the value a `Transaction`."""

    def encode(self, record: CoordinatorRecord) -> tuple[bytes, bytes | None]:
        key = b"\0\0" + encode(TransactionLogKey(transactional_id=record.key), 0)
        transaction: Transaction | None = record.value
        if transaction is None:
            return key, None
        version = record.value_version
        value = TransactionLogValue(
            producer_id=transaction.producer_id,
            producer_epoch=transaction.producer_epoch,
            transaction_timeout_ms=transaction.timeout_ms,
            transaction_status=transaction.state,
            transaction_partitions=_by_topic(transaction),
            transaction_last_update_timestamp_ms=transaction.last_update_ms,
            transaction_start_timestamp_ms=transaction.start_ms,
        )
        if version >= 1:
            value.previous_producer_id = transaction.previous_producer_id
            value.next_producer_id = transaction.next_producer_id
            value.client_transaction_version = transaction.client_version
        return key, version.to_bytes(2, "big") + encode(value, version)

    def decode(self, key: bytes, value: bytes | None) -> CoordinatorRecord | None:
        if len(key) < 2 or (value is not None and len(value) < 2):
            raise ProtocolError("a record key or value of less than two bytes")
        if int.from_bytes(key[:2], "big") != TRANSACTION:
            return None
        transactional_id = decode(TransactionLogKey, 0, key, 2).transactional_id
        if value is None:
            return CoordinatorRecord(TRANSACTION, transactional_id, None)
        version = int.from_bytes(value[:2], "big")
        if version > _HIGHEST_VALUE_VERSION:
            return None
        stored = decode(TransactionLogValue, version, value, 2)
        try:
            state = TransactionState(stored.transaction_status)
        except ValueError:
            raise ProtocolError(f"unknown state {stored.transaction_status} of a transaction") from None
        transaction = Transaction(
            producer_id=stored.producer_id,
            producer_epoch=stored.producer_epoch,
            timeout_ms=stored.transaction_timeout_ms,
            state=state,
            partitions=NO_PARTITIONS if state is TransactionState.EMPTY else _partitions(stored),
            start_ms=stored.transaction_start_timestamp_ms,
            last_update_ms=stored.transaction_last_update_timestamp_ms,
            previous_producer_id=stored.previous_producer_id,
            next_producer_id=stored.next_producer_id,
            client_version=stored.client_transaction_version,
        )
        return CoordinatorRecord(TRANSACTION, transactional_id, transaction, version)


def _by_topic(transaction: Transaction) -> list[PartitionsSchema] | None:
    if transaction.state is TransactionState.EMPTY:
        return None
    topics: dict[str, list[int]] = {}
    for topic, partition in sorted(transaction.partitions):
        topics.setdefault(topic, []).append(partition)
    return [PartitionsSchema(topic=topic, partition_ids=indexes) for topic, indexes in topics.items()]


def _partitions(stored: TransactionLogValue) -> frozenset[TopicPartition]:
    return frozenset(
        TopicPartition(found.topic, index)
        for found in stored.transaction_partitions or ()
        for index in found.partition_ids
    )
