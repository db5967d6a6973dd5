"""Records of chosen ranges, or of a group, batch by batch, until the end or for ever."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from ottla.cli.consume.ranges import OffsetRange, partitions_of
from ottla.core.ids import TopicPartition

if TYPE_CHECKING:
    import ottla
    from ottla.records.reader import ConsumerRecord

    Record = ConsumerRecord[bytes | None, bytes | None]
    Consumer = ottla.Consumer[Any, Any]

POLL_RECORDS = 10_000
_QUIET_S = 0.1
"""After so long without a record, positions tell whether what is left of the ranges holds records at all: it may be
compacted away, or end in the markers of transactions."""
_COMMIT_INTERVAL_S = 1.0
_SETTLED_S = 11.0
"""A member that has not got all partitions may still get some: a coordinator that is busy hands them out with the next
heartbeat, five seconds later. After two of them without a change, others have the rest."""
_OFFSET = attrgetter("offset")


class Limit:
    """How many records are still wanted; None: all. Of those that are filtered, more are read than are wanted."""

    def __init__(self, count: int | None, *, filtered: bool = False) -> None:
        self.left = count
        self._filtered = filtered

    @property
    def is_reached(self) -> bool:
        return self.left is not None and self.left <= 0

    @property
    def poll_records(self) -> int:
        return POLL_RECORDS if self.left is None or self._filtered else max(1, min(POLL_RECORDS, self.left))

    def taken(self, count: int) -> None:
        if self.left is not None:
            self.left -= count


def read_ranges(
    consumer: Consumer, ranges: Mapping[TopicPartition, OffsetRange], limit: Limit
) -> Iterator[Sequence[Record]]:
    """The records of the ranges, in order within each partition."""
    ends = {
        tp: one.end_offset for tp, one in ranges.items() if one.end_offset is None or one.start_offset < one.end_offset
    }
    consumer.assign(ends)
    consumer.resume()  # what was read to its end before is still paused
    for tp in ends:
        consumer.seek(tp, ranges[tp].start_offset)
    while ends and not limit.is_reached:
        records = consumer.poll(_QUIET_S, limit.poll_records)
        if not records:
            for tp in [tp for tp, end in ends.items() if end is not None and consumer.position(tp) >= end]:
                _finish(consumer, ends, tp)
            continue
        if None in ends.values():
            yield records
            continue
        for tp, of_partition in records.by_partition().items():
            end = ends.get(tp)
            if end is None:
                continue  # it came before the partition was let go
            if of_partition[-1].offset >= end - 1:
                of_partition = of_partition[: bisect_left(of_partition, end, key=_OFFSET)]
                _finish(consumer, ends, tp)
            if of_partition:
                yield of_partition


def _finish(consumer: Consumer, ends: dict[TopicPartition, int | None], tp: TopicPartition) -> None:
    del ends[tp]
    consumer.pause(tp)


def read_tail(
    consumer: Consumer, ranges: Mapping[TopicPartition, OffsetRange], count: int
) -> tuple[list[Record], dict[TopicPartition, OffsetRange]]:
    """The last `count` records of all ranges together, by time, and the ranges behind them.

    Offsets have gaps where records were compacted away or transactions ended: where `count` offsets hold fewer records
    than that, it looks further back.
    """
    ends = consumer.end_offsets(ranges)
    ends = {tp: end if (stop := ranges[tp].end_offset) is None else min(end, stop) for tp, end in ends.items()}
    found: list[Record] = []
    back = dict.fromkeys(ranges, count)
    missing = [tp for tp in ranges if count > 0]
    while missing:
        asked = {
            tp: OffsetRange(max(ranges[tp].start_offset, ends[tp] - back[tp]), ends[tp])
            for tp in missing
            if ranges[tp].start_offset < ends[tp]
        }
        by_partition: dict[TopicPartition, list[Record]] = {tp: [] for tp in asked}
        for records in read_ranges(consumer, asked, Limit(None)):
            tp = TopicPartition(records[0].topic, records[0].partition)
            by_partition[tp] = [*by_partition[tp], *records][-count:]
        missing = []
        for tp, one in asked.items():
            if len(by_partition[tp]) < count and one.start_offset > ranges[tp].start_offset:
                back[tp] *= 4
                missing.append(tp)
            else:
                found += by_partition[tp]
    found.sort(key=lambda record: (record.timestamp_ms, record.topic, record.partition, record.offset))
    behind = {tp: OffsetRange(max(ends[tp], one.start_offset), one.end_offset) for tp, one in ranges.items()}
    return found[-count:] if count else [], behind


class GroupReader:
    """Reads as a member of a group, and commits what was dealt with."""

    def __init__(
        self, consumer: Consumer, topics: Sequence[str], *, follows: bool, commits: bool, timeout_s: float
    ) -> None:
        self._consumer = consumer
        self._follows = follows
        self._commits = commits
        self._ends: dict[TopicPartition, int] = {}
        self._partitions_count = sum(len(partitions_of(consumer, topic, timeout_s)) for topic in topics)
        self._assigned_s: float | None = None
        self._done: dict[TopicPartition, int] = {}
        self._next_commit_s = time.monotonic() + _COMMIT_INTERVAL_S
        consumer.subscribe(topics, on_assigned=self._on_assigned, on_revoked=self._on_revoked)

    def read(self, limit: Limit) -> Iterator[Sequence[Record]]:
        """Batches; call `dealt_with` for what was done. Without following it ends where the partitions ended when
        the member got them."""
        while not limit.is_reached:
            records = self._consumer.poll(_QUIET_S, limit.poll_records)
            if records:
                yield records
            if not self._follows and self._assigned_s is not None and self._is_at_end(bool(records)):
                return
            if time.monotonic() >= self._next_commit_s:
                self.commit()

    def dealt_with(self, record: Record) -> None:
        """This record, and those before it of its partition, need not come again."""
        self._done[TopicPartition(record.topic, record.partition)] = record.offset + 1

    def commit(self) -> None:
        """Commit what was dealt with since the last time."""
        self._next_commit_s = time.monotonic() + _COMMIT_INTERVAL_S
        if self._done and self._commits:
            self._consumer.commit(self._done)
        self._done = {}

    def _is_at_end(self, had_records: bool) -> bool:
        assigned = self._consumer.assignment()
        new = [tp for tp in assigned if tp not in self._ends]
        if new:
            self._ends |= self._consumer.end_offsets(new)
        if had_records and any(self._done.get(tp, 0) < self._ends[tp] for tp in assigned if tp in self._done):
            return False
        if any(self._consumer.position(tp) < self._ends[tp] for tp in assigned):
            return False
        assert self._assigned_s is not None
        return len(assigned) >= self._partitions_count or time.monotonic() - self._assigned_s > _SETTLED_S

    def _on_assigned(self, partitions: list[TopicPartition]) -> None:
        self._assigned_s = time.monotonic()

    def _on_revoked(self, partitions: list[TopicPartition]) -> None:
        self.commit()
