"""Sequence numbers of one partition: which batches are on their way, and what the broker has accepted (KIP-98).

Every record of an idempotent producer has a number, counted per partition and epoch from 0 to 2^31-1 and round again. A
batch gets its numbers once, when it is first drained, and keeps them however often it is sent, so that the broker
recognises it. Order is kept by three rules: new batches wait while one that came back is open, a batch that came back
goes again only when it is the first, and numbers are given anew only while nothing of the partition is on the wire.
"""

from __future__ import annotations

from typing import Protocol

from ottla.core.ids import TopicPartition

SEQUENCES = 1 << 31
"""How many sequence numbers there are; the one after the last is 0."""

_HALF = SEQUENCES >> 1


class SequencedBatch(Protocol):
    """What this package needs of a producer's batch; the accumulator's class is the real one."""

    tp: TopicPartition
    records_count: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    """-1 until the batch is stamped."""
    transactional: bool

    def restamp(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        """Takes other numbers; never called while the batch is on the wire."""


class PartitionSequences:
    """The numbers of one partition, all of one producer id and epoch."""

    __slots__ = (
        "accepted",
        "gap",
        "in_flight",
        "last_offset",
        "next_sequence",
        "overtaken",
        "probe",
        "producer_epoch",
        "producer_id",
        "returned",
        "uncertain",
        "unresolved",
    )

    def __init__(self, producer_id: int, producer_epoch: int) -> None:
        self.producer_id = producer_id
        self.producer_epoch = producer_epoch
        self.next_sequence = 0
        """The number that the next new batch begins with."""
        self.accepted = 0
        """All numbers before this one are known to be in the log: what the broker expects next, at least."""
        self.last_offset = -1
        """Offset of the last record known to be written; -1 when unknown."""
        self.in_flight: list[SequencedBatch] = []
        """Batches with numbers and without an outcome, in order of their numbers."""
        self.returned: list[SequencedBatch] = []
        """Those of them that came back and are to be sent again; the others are on the wire."""
        self.uncertain: list[SequencedBatch] = []
        """Those of `in_flight` with an attempt that may have been written, or may be yet."""
        self.probe: SequencedBatch | None = None
        """The batch that was sent last when none before it was on its way."""
        self.gap = -1
        """The first number that will never be written, of a batch that was refused for good; -1 when there is none."""
        self.unresolved = -1
        """The number after the last batch that was given up without knowing its outcome; -1 when there is none."""
        self.overtaken: SequencedBatch | None = None
        """The first batch on its way when a later one was acknowledged before it: the broker's memory of five counts
        from here."""

    @property
    def on_wire(self) -> int:
        """How many batches are at a broker, or on the way there or back."""
        return len(self.in_flight) - len(self.returned)

    @property
    def settled(self) -> bool:
        """Whether all numbers that were given out are known to be in the log."""
        return self.next_sequence == self.accepted

    @property
    def is_overtaken(self) -> bool:
        """Whether the first batch on its way still waits for an answer that later ones have."""
        return self.overtaken is not None and self.overtaken in self.in_flight

    def is_written(self, batch: SequencedBatch) -> bool:
        """Whether later numbers were accepted, which the broker does only when it has all before."""
        end = (batch.base_sequence + batch.records_count) % SEQUENCES
        return (self.accepted - end) % SEQUENCES < _HALF

    def is_next(self, batch: SequencedBatch) -> bool:
        """Whether the broker expects just this batch, as far as we know."""
        return batch.base_sequence == self.accepted

    def follows_unresolved(self, batch: SequencedBatch) -> bool:
        return batch.base_sequence == self.unresolved

    @property
    def gap_is_next(self) -> bool:
        """Whether nothing before the gap is on its way: what is behind it needs other numbers."""
        if self.gap < 0:
            return False
        return not self.in_flight or 0 < (self.in_flight[0].base_sequence - self.gap) % SEQUENCES < _HALF

    @property
    def may_restart(self) -> bool:
        """Whether numbers can begin anew: no batch would be written twice.

        Not while one is on the wire, nor, when an earlier one may turn up yet, while one that may have followed it
        waits to be sent again: that one can only expire.
        """
        return not self.on_wire and not (self.unresolved >= 0 and self.uncertain)

    def stamp(self, batch: SequencedBatch, transactional: bool) -> None:
        """A batch is drained: a new one takes the next numbers, one that came back goes to the wire again."""
        if batch.base_sequence >= 0:
            if batch in self.returned:
                self.returned.remove(batch)
            if self.in_flight[0] is batch:
                self.probe = batch
            return
        batch.producer_id = self.producer_id
        batch.producer_epoch = self.producer_epoch
        batch.base_sequence = self.next_sequence
        batch.transactional = transactional
        if not self.in_flight:
            self.probe = batch
        self.next_sequence = (self.next_sequence + batch.records_count) % SEQUENCES
        self.in_flight.append(batch)

    def acknowledged(self, batch: SequencedBatch, base_offset: int) -> None:
        """A batch is in the log, perhaps one that was given up before."""
        if self.in_flight and self.in_flight[0] is not batch and not self.is_overtaken:
            self.overtaken = self.in_flight[0]
        self.remove(batch)
        if batch.producer_id != self.producer_id or batch.producer_epoch != self.producer_epoch:
            return
        end = (batch.base_sequence + batch.records_count) % SEQUENCES
        if 0 < (end - self.accepted) % SEQUENCES < _HALF:
            self.accepted = end
        if base_offset >= 0:
            self.last_offset = max(self.last_offset, base_offset + batch.records_count - 1)

    def came_back(self, batch: SequencedBatch, *, uncertain: bool) -> None:
        """A batch was not written, or perhaps was: it goes again with the same numbers."""
        if batch not in self.returned:
            self.returned.append(batch)
        if uncertain and batch not in self.uncertain:
            self.uncertain.append(batch)

    def remove(self, batch: SequencedBatch) -> bool:
        """A batch has its outcome. False when it had one before."""
        if batch in self.returned:
            self.returned.remove(batch)
        if batch in self.uncertain:
            self.uncertain.remove(batch)
        if batch not in self.in_flight:
            return False
        self.in_flight.remove(batch)
        return True

    def give_up(self, batch: SequencedBatch) -> None:
        """The batch will not be sent again, and nobody knows whether it was written."""
        if self.remove(batch):
            end = (batch.base_sequence + batch.records_count) % SEQUENCES
            if self.unresolved < 0 or (end - self.unresolved) % SEQUENCES < _HALF:
                self.unresolved = end

    def refused(self, batch: SequencedBatch) -> None:
        """The batch will not be sent again, and was certainly not written."""
        if self.remove(batch) and (self.gap < 0 or (self.gap - batch.base_sequence) % SEQUENCES < _HALF):
            self.gap = batch.base_sequence

    def split(self, batch: SequencedBatch, parts: list[SequencedBatch]) -> None:
        """The parts take the place and the numbers of a batch that was too large; they are still to be sent."""
        place = self.in_flight.index(batch)
        self.remove(batch)
        sequence = batch.base_sequence
        for part in parts:
            part.transactional = batch.transactional
            part.restamp(batch.producer_id, batch.producer_epoch, sequence)
            sequence = (sequence + part.records_count) % SEQUENCES
        self.in_flight[place:place] = parts
        self.returned.extend(parts)

    def restart(self, producer_id: int, producer_epoch: int) -> None:
        """Numbers begin at 0 again, also those of the batches that wait to be sent again."""
        assert self.may_restart
        self.uncertain.clear()
        self.probe = None
        self.producer_id = producer_id
        self.producer_epoch = producer_epoch
        self.accepted = 0
        self.last_offset = -1
        self.unresolved = -1
        self.gap = -1
        sequence = 0
        for batch in self.in_flight:
            batch.restamp(producer_id, producer_epoch, sequence)
            sequence = (sequence + batch.records_count) % SEQUENCES
        self.next_sequence = sequence

    def check_invariants(self) -> None:
        assert all(batch in self.in_flight for batch in self.returned)
        assert all(batch in self.in_flight for batch in self.uncertain)
        end = self.in_flight[0].base_sequence if self.in_flight else self.next_sequence
        for batch in self.in_flight:
            assert (batch.producer_id, batch.producer_epoch) == (self.producer_id, self.producer_epoch)
            assert 0 <= batch.base_sequence < SEQUENCES
            assert (batch.base_sequence - end) % SEQUENCES < _HALF, "not in order"
            end = (batch.base_sequence + batch.records_count) % SEQUENCES
        assert (self.next_sequence - end) % SEQUENCES < _HALF, "more was sent than numbers were given"
