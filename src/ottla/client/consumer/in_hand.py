"""Records that were taken from the buffer at once and go to the user one by one, or a few at a time.

    records:   ── processed ──│── being worked on ──│── left ──
                          _progress               index

The buffer's position is behind all of them; whoever asks where the user stands has to look here too.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any, NamedTuple

from ottla.client.model import TopicPartition
from ottla.records.reader import ConsumerRecord

Record = ConsumerRecord[Any, Any]


class Place(NamedTuple):
    """The record at this offset is the next; -1 for an unknown epoch."""

    offset: int
    leader_epoch: int


class InHand:
    """The list and how far the user is in it. `unprocessed` may be called from another thread."""

    __slots__ = ("_progress", "index", "records")

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.index = 0
        """Those before it were handed out; whoever iterates counts it up himself."""
        self._progress: tuple[list[Record], int] = (self.records, 0)

    def put(self, records: list[Record]) -> None:
        """New ones, none of them handed out."""
        self.records = records
        self.index = 0
        self._progress = records, 0

    def next(self, count: int) -> list[Record]:
        """Hand out up to `count`."""
        index = self.index
        some = self.records[index : index + count]
        self.index = index + len(some)
        return some

    def returned(self) -> None:
        """The user is done with all that was handed out."""
        self._progress = self.records, self.index

    def step_back(self, *, one: bool) -> None:
        """He was not done: with the last one, or with all since he was back last."""
        self.index = max(self.index - 1, 0) if one else self._progress[1]

    def left(self) -> dict[TopicPartition, Place]:
        """What comes next of each partition that there is something of."""
        return _first(self.records[self.index :])

    def unprocessed(self) -> Mapping[TopicPartition, Place] | None:
        """The first of each partition that the user is not known to be done with; None when nothing is in hand."""
        records, processed = self._progress
        return _first(records[processed:]) if records else None

    def drop(self, partitions: Container[TopicPartition] | None) -> dict[TopicPartition, int]:
        """Hand out no more of these (None: of all); from which offsets on they were not."""
        left = self.left()
        dropped = {tp: place.offset for tp, place in left.items() if partitions is None or tp in partitions}
        if dropped:
            records, processed = self._progress
            handed = records[processed : self.index]
            rest = [one for one in records[self.index :] if (one.topic, one.partition) not in dropped]
            self.put(handed + rest)
            self.index = len(handed)
        return dropped


def _first(records: list[Record]) -> dict[TopicPartition, Place]:
    first: dict[TopicPartition, Place] = {}
    topic, partition = "", -1
    for record in records:
        if record.partition != partition or record.topic != topic:
            topic, partition = record.topic, record.partition
            epoch = record.leader_epoch
            first.setdefault(TopicPartition(topic, partition), Place(record.offset, -1 if epoch is None else epoch))
    return first
