"""Data inside and beside the log segments of a partition."""

from __future__ import annotations

from ottla.protocol.message import Data, Struct, array, int16, int32, int64, uint32


class AbortedTxn(Data, versions="0"):
    """Entry of a `.txnindex` file: an aborted transaction's place in the log."""

    producer_id: int = int64("0+")
    first_offset: int = int64("0+")
    last_offset: int = int64("0+")
    last_stable_offset: int = int64("0+")


class ControlRecordTypeSchema(Data, versions="0"):
    """Type of a control record: the part of its key behind the version."""

    type: int = int16("0+")


class EndTxnMarker(Data, versions="0"):
    """Value of a control record that ends a transaction."""

    coordinator_epoch: int = int32("0+")


class ProducerEntry(Struct):
    producer_id: int = int64("1")
    epoch: int = int16("1")
    last_sequence: int = int32("1")
    last_offset: int = int64("1")
    offset_delta: int = int32("1")
    timestamp: int = int64("1")
    coordinator_epoch: int = int32("1")
    current_txn_first_offset: int = int64("1")


class ProducerSnapshot(Data, versions="1"):
    """Contents of a `.snapshot` file: the producers that a log knows at some offset."""

    crc: int = uint32("1")
    producer_entries: list[ProducerEntry] = array(ProducerEntry, "1")
