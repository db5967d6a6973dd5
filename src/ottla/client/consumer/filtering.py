"""Which batches of a fetched record set go to the user.

Left out are control batches, what lies before the offset that was asked for, and, reading committed data only, the
batches of aborted transactions. The answer to a fetch names the transactions that were aborted among the records, with
the offset at which each begins; it lasts until its producer's next abort marker.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ottla.client.errors import CorruptRecordsError, KafkaError, RecordTooLargeError
from ottla.client.model import TopicPartition
from ottla.core.binary import Buffer
from ottla.protocol.messages.fetch import AbortedTransaction
from ottla.records.batch import BatchHeader, CorruptRecordError, batches, crc_matches
from ottla.records.control import read_end_transaction_marker
from ottla.records.record import read_batch_records


class Deliverable(NamedTuple):
    """What is left of a record set, in order."""

    batches: list[tuple[int, BatchHeader]]
    """Where in the record set a batch begins, and its header."""
    end_offset: int
    """The offset after all that was looked at, whether it is delivered or not."""
    end_epoch: int
    """The leader epoch of the last batch that was looked at."""
    error: KafkaError | None
    """Why it ends there and not at the end of the data."""


def deliverable(
    tp: TopicPartition,
    records: Buffer,
    fetch_offset: int,
    fetch_epoch: int,
    *,
    aborted: Iterable[AbortedTransaction] | None,
    check_crcs: bool,
) -> Deliverable:
    """The batches of `records` to deliver to who fetched from `fetch_offset`. `aborted` is None for those that read
    uncommitted data too.
    """
    found: list[tuple[int, BatchHeader]] = []
    end_offset, end_epoch = fetch_offset, fetch_epoch
    to_begin = sorted(((one.first_offset, one.producer_id) for one in aborted or ()), reverse=True)
    aborting: set[int] = set()
    error: KafkaError | None = None
    complete = False
    try:
        for position, header in batches(records):
            complete = True
            next_offset = header.next_offset
            while to_begin and to_begin[-1][0] < next_offset:
                aborting.add(to_begin.pop()[1])
            is_control = header.is_control
            if not is_control and not (header.producer_id in aborting and header.is_transactional):
                if next_offset > fetch_offset:
                    found.append((position, header))  # its checksum is looked at when it is opened
            else:
                if check_crcs and not crc_matches(records, position, header):
                    raise CorruptRecordError(f"the batch at offset {header.base_offset} has a wrong CRC")
                if is_control and header.producer_id in aborting and _is_abort(records, position, header):
                    aborting.discard(header.producer_id)
            if next_offset > end_offset:
                end_offset = next_offset
                end_epoch = header.partition_leader_epoch
    except CorruptRecordError as corrupt:
        error = CorruptRecordsError(
            f"The records of {tp} at offset {end_offset} are corrupt: {corrupt}.",
            retriable=False,
            hint="Seek behind them to go on without them.",
        )
    if not complete and error is None and len(records):
        error = RecordTooLargeError(
            f"A record of {tp} at offset {fetch_offset} is larger than the broker sends at once.",
            hint="Raise fetch.max.bytes and max.partition.fetch.bytes.",
        )
    return Deliverable(found, end_offset, end_epoch, error)


def _is_abort(records: Buffer, position: int, header: BatchHeader) -> bool:
    for record in read_batch_records(records, position, header):
        marker = read_end_transaction_marker(record)
        if marker is not None:
            return not marker.is_commit
    return False
