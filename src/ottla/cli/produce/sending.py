"""Sends what was parsed, keeps count of what was written where, and says which input was not."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ottla.cli.produce.parsing import Columns, Singles
from ottla.client.errors import FatalProducerError, KafkaError, ProducerFencedError

if TYPE_CHECKING:
    import ottla
    from ottla.cli.envelope import Enveloped
    from ottla.cli.produce.source import Piece
    from ottla.client.producer.batches import Delivery
    from ottla.client.producer.bulk import BulkDelivery

BULK_RECORDS = 64
"""A piece with so many records goes through `send_many`; a smaller one record by record, whose outcome is exact."""
MOST_WAITING = 32
MOST_TOLD = 20
"""How many failures are told of one by one."""


@dataclass(slots=True)
class PartitionCount:
    """What was written to a partition."""

    records: int = 0
    start_offset: int = -1
    end_offset: int = -1

    def add(self, start_offset: int, count: int) -> None:
        self.records += count
        if start_offset >= 0:
            self.start_offset = start_offset if self.start_offset < 0 else min(self.start_offset, start_offset)
            self.end_offset = max(self.end_offset, start_offset + count)


@dataclass(slots=True)
class Tally:
    """What came of the records. `tell` hears of the first failures, a line each."""

    tell: Callable[[str], None]
    written: int = 0
    failed: int = 0
    by_partition: dict[int, PartitionCount] = field(default_factory=dict)

    def wrote(self, partition: int, start_offset: int, count: int) -> None:
        self.written += count
        self.by_partition.setdefault(partition, PartitionCount()).add(start_offset, count)

    def failed_at(self, place: str, why: str, count: int = 1) -> None:
        told = self.failed < MOST_TOLD
        self.failed += count
        if told:
            self.tell(f"{place}: {why}")
            if self.failed >= MOST_TOLD:
                self.tell("more of it cannot be sent; only the number is told at the end")


class Defaults(NamedTuple):
    """Where records go, and what they get that do not say it themselves."""

    topic: str
    partitions_count: int
    partition: int | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp_ms: int | None = None


class Sender:
    """Hands records to the producer and collects their deliveries, without waiting for each."""

    def __init__(
        self, producer: ottla.Producer[Any, Any], defaults: Defaults, tally: Tally, *, asks_for_offsets: bool = True
    ) -> None:
        self._producer = producer
        self._defaults = defaults
        self.tally = tally
        self._asks = asks_for_offsets
        self._waiting: deque[Callable[[bool], bool]] = deque()
        self._fatal: KafkaError | None = None

    def send(self, piece: Piece, records: Columns | Singles) -> None:
        """Send the records of a piece; what cannot be sent at all is told of at once, the rest when it is known."""
        if isinstance(records, Singles):
            self._send_singles(piece, records.records, records.rows)
        elif len(records.values) >= BULK_RECORDS:
            self._send_columns(piece, records)
        else:
            self._send_singly(piece, records, 0)
        while self._waiting and self._waiting[0](len(self._waiting) > MOST_WAITING):
            self._waiting.popleft()
        self._raise_what_ends_everything()

    def finish(self) -> None:
        """Wait for everything. Raises why nothing can be written any more, as when the cluster is gone."""
        while self._waiting:
            self._waiting.popleft()(True)
        self._raise_what_ends_everything()

    def _raise_what_ends_everything(self) -> None:
        fatal, self._fatal = self._fatal, None
        if fatal is not None:
            raise fatal

    def _failed(self, place: str, error: KafkaError, count: int = 1) -> None:
        self.tally.failed_at(place, str(error), count)
        if ends_everything(error):
            self._fatal = error

    def _send_columns(self, piece: Piece, records: Columns) -> None:
        defaults = self._defaults
        timestamps = None if defaults.timestamp_ms is None else [defaults.timestamp_ms] * len(records.values)
        try:
            delivery = self._producer.send_many(
                defaults.topic,
                records.values,
                records.keys,
                partition=defaults.partition,
                timestamps_ms=timestamps,
                headers=defaults.headers or None,
            )
        except KafkaError as error:
            if ends_everything(error):
                raise
            # One of them cannot be sent. Those of the pieces before it are; the rest one by one tells which it is.
            sent = error.delivery
            if sent is not None:
                self._watch_bulk(piece, records, sent)
            self._send_singly(piece, records, 0 if sent is None else sent.count)
            return
        self._watch_bulk(piece, records, delivery)

    def _send_singly(self, piece: Piece, records: Columns, start: int) -> None:
        from ottla.cli.envelope import Enveloped

        keys = records.keys
        rows: Sequence[int] = range(len(records.values)) if records.rows is None else records.rows
        singles = [
            Enveloped(records.values[row], None if keys is None else keys[row])
            for row in range(start, len(records.values))
        ]
        self._send_singles(piece, singles, rows[start:])

    def _send_singles(self, piece: Piece, records: Sequence[Enveloped], rows: Sequence[int]) -> None:
        defaults = self._defaults
        deliveries: list[tuple[int, Delivery]] = []
        for row, record in zip(rows, records, strict=True):
            timestamp_ms = defaults.timestamp_ms if record.timestamp_ms is None else record.timestamp_ms
            if record.partition is not None and record.partition >= defaults.partitions_count:
                # The producer would wait, for a minute, whether it comes.
                self.tally.failed_at(piece.place(row), f"the topic has no partition {record.partition}")
                continue
            try:
                delivery = self._producer.send(
                    defaults.topic,
                    record.value,
                    record.key,
                    partition=defaults.partition if record.partition is None else record.partition,
                    timestamp_ms=timestamp_ms,
                    headers=(*defaults.headers, *record.headers) or None,
                )
            except KafkaError as error:
                if ends_everything(error):
                    raise
                self.tally.failed_at(piece.place(row), str(error))
                continue
            deliveries.append((row, delivery))
        if deliveries:
            self._waiting.append(lambda waits: self._settle_singles(piece, deliveries, waits))

    def _settle_singles(self, piece: Piece, deliveries: list[tuple[int, Delivery]], waits: bool) -> bool:
        if not waits and not all(delivery.done() for _, delivery in deliveries):
            return False
        for row, delivery in deliveries:
            error = delivery.exception()
            if error is None:
                written = delivery.result()
                self.tally.wrote(written.partition, written.offset, 1)
            else:
                self._failed(piece.place(row), error)
        return True

    def _watch_bulk(self, piece: Piece, records: Columns, delivery: BulkDelivery) -> None:
        self._waiting.append(lambda waits: self._settle_bulk(piece, records, delivery, waits))

    def _settle_bulk(self, piece: Piece, records: Columns, delivery: BulkDelivery, waits: bool) -> bool:
        if not waits and not delivery.done():
            return False
        written, refused = delivery.outcomes()
        if self._asks:
            for one in written:
                self.tally.wrote(one.partition, one.start_offset, one.end_offset - one.start_offset)
        else:
            self.tally.written += delivery.count - sum(each.records_count for each in refused)
        if not refused:
            return True
        rows: Sequence[int] = range(len(records.values)) if records.rows is None else records.rows
        for each in refused:
            first, last = each.first, each.first + each.records_count - 1
            if records.keys is not None:  # they are in the order of partitions
                first, last = 0, len(rows) - 1
            what = "record" if each.records_count == 1 else "records"
            place = piece.place(rows[first])
            if last > first:
                among = "" if records.keys is None else f"{each.records_count} {what} of "
                place = f"{among}{place} to {piece.first + rows[last]}"
            self._failed(place, each.error, each.records_count)
        return True


class Pace:
    """Not more than so many records a second."""

    def __init__(self, records_per_s: float) -> None:
        self._interval_s = 1 / records_per_s
        self.piece_records = max(1, int(records_per_s / 20))
        self._next_s = time.monotonic()

    def wait(self, records: int) -> None:
        """Before so many records are sent."""
        now_s = time.monotonic()
        if self._next_s > now_s:
            time.sleep(self._next_s - now_s)
        self._next_s = max(self._next_s, now_s) + records * self._interval_s


def ends_everything(error: KafkaError) -> bool:
    """Whether no other record can be sent either."""
    from ottla.client.errors import (
        AuthenticationError,
        AuthorizationError,
        ClientClosedError,
        ConfigError,
        ConnectionFailedError,
        IllegalStateError,
        InvalidTopicError,
        KafkaTimeoutError,
        TransactionAbortableError,
        UnknownTopicError,
    )

    return isinstance(
        error,
        AuthenticationError
        | AuthorizationError
        | ClientClosedError
        | ConfigError
        | ConnectionFailedError
        | FatalProducerError
        | IllegalStateError
        | InvalidTopicError
        | KafkaTimeoutError
        | ProducerFencedError
        | TransactionAbortableError
        | UnknownTopicError,
    )
