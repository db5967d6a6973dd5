"""Control records: what the broker itself writes between the records of clients.

A control batch has the control bit set and is never compressed. Its records have a key of two int16, version and type.
Transaction markers (one record in a batch, under the producer id and epoch of the transaction) stand in partitions of
topics; the other types only in the metadata log and its snapshots. Types that are not known are to be skipped.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from ottla.protocol.codec import decode, encode
from ottla.protocol.errors import ProtocolError, UnsupportedVersionError
from ottla.protocol.messages.raft_data import (
    KRaftVersionRecord,
    LeaderChangeMessage,
    SnapshotFooterRecord,
    SnapshotHeaderRecord,
    VotersRecord,
)
from ottla.records.batch import CorruptRecordError
from ottla.records.record import Record, build_batch

ControlMessage = LeaderChangeMessage | SnapshotHeaderRecord | SnapshotFooterRecord | KRaftVersionRecord | VotersRecord


class ControlType(IntEnum):
    """The type in the key of a control record."""

    ABORT = 0
    COMMIT = 1
    LEADER_CHANGE = 2
    SNAPSHOT_HEADER = 3
    SNAPSHOT_FOOTER = 4
    KRAFT_VERSION = 5
    KRAFT_VOTERS = 6


_MESSAGES: dict[ControlType, type[ControlMessage]] = {
    ControlType.LEADER_CHANGE: LeaderChangeMessage,
    ControlType.SNAPSHOT_HEADER: SnapshotHeaderRecord,
    ControlType.SNAPSHOT_FOOTER: SnapshotFooterRecord,
    ControlType.KRAFT_VERSION: KRaftVersionRecord,
    ControlType.KRAFT_VOTERS: VotersRecord,
}
_TYPES = {message: kind for kind, message in _MESSAGES.items()}
_KEY = struct.Struct(">hh")
_MARKER = struct.Struct(">hi")
_VERSION = struct.Struct(">h")


class EndTransactionMarker(NamedTuple):
    """The end of a transaction in one partition, committed or aborted."""

    is_commit: bool
    coordinator_epoch: int


def control_key(kind: ControlType) -> bytes:
    """The key of a control record."""
    return _KEY.pack(0, kind)


def control_type(record: Record) -> ControlType | None:
    """The type of a control record; None for one that is not known, and to be skipped."""
    try:
        return ControlType(_KEY.unpack_from(record.key or b"")[1])
    except struct.error:
        raise CorruptRecordError(f"the control record at offset {record.offset} has no type in its key") from None
    except ValueError:
        return None


def end_transaction_marker(
    *,
    is_commit: bool,
    producer_id: int,
    producer_epoch: int,
    coordinator_epoch: int,
    timestamp_ms: int,
    base_offset: int = 0,
    leader_epoch: int = -1,
) -> bytearray:
    """The batch that ends a transaction."""
    kind = ControlType.COMMIT if is_commit else ControlType.ABORT
    record = Record(timestamp_ms=timestamp_ms, key=control_key(kind), value=_MARKER.pack(0, coordinator_epoch))
    return build_batch(
        [record],
        base_offset=base_offset,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        transactional=True,
        control=True,
        leader_epoch=leader_epoch,
    )


def read_end_transaction_marker(record: Record) -> EndTransactionMarker | None:
    """The marker in the record of a control batch, or None when it is another control record."""
    kind = control_type(record)
    if kind is not ControlType.ABORT and kind is not ControlType.COMMIT:
        return None
    try:
        _, coordinator_epoch = _MARKER.unpack_from(record.value or b"")
    except struct.error:
        raise CorruptRecordError(f"the transaction marker at offset {record.offset} is cut off") from None
    return EndTransactionMarker(kind is ControlType.COMMIT, coordinator_epoch)


def control_batch(
    messages: Sequence[ControlMessage], *, timestamp_ms: int, base_offset: int = 0, leader_epoch: int = -1
) -> bytearray:
    """A control batch of the metadata log or a snapshot; each message is written in the version that it names."""
    records = [
        Record(
            timestamp_ms=timestamp_ms, key=control_key(_TYPES[type(message)]), value=encode(message, message.version)
        )
        for message in messages
    ]
    return build_batch(records, base_offset=base_offset, control=True, leader_epoch=leader_epoch)


def read_control_message(record: Record) -> ControlMessage | None:
    """The message of a metadata control record; None for markers and for types that are not known."""
    kind = control_type(record)
    message = None if kind is None else _MESSAGES.get(kind)
    if message is None:
        return None
    value = record.value or b""
    try:
        # The first field of each of them is the version to decode it with.
        return decode(message, _VERSION.unpack_from(value)[0], value)
    except (struct.error, ProtocolError, UnsupportedVersionError) as error:
        raise CorruptRecordError(f"the control record at offset {record.offset} can not be read: {error}") from error
