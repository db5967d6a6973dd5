"""Exactly one copy of each record, in order: what an idempotent producer may send, and what the brokers' answers mean.

The broker remembers the last five batches of a producer id and epoch in each partition, so a batch may be sent as often
as needed and five may be on their way. What it cannot forgive is a gap. When a batch is refused, or given up while
nobody knows whether it was written, the numbers after it are worthless: the epoch is raised (KIP-360) and the partition
counts from 0 again, together with the batches that still wait. A producer without transactions raises its epoch itself;
a transactional one has to abort first, which gives it a new epoch in the end.

The epoch is raised only when nothing of the partitions concerned is on the wire. So a batch never changes its numbers
while an answer about the old ones may still come.
"""

from __future__ import annotations

from ottla.client.producer.sequences import PartitionSequences, SequencedBatch
from ottla.core.errors import ERRORS, ErrorCode
from ottla.core.ids import TopicPartition

MAX_IN_FLIGHT = 5
"""How many batches of one partition a broker tells apart."""

MAX_EPOCH = 32767

UNCERTAIN = frozenset(
    (
        ErrorCode.NETWORK_EXCEPTION,
        ErrorCode.REQUEST_TIMED_OUT,
        ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        ErrorCode.UNKNOWN_SERVER_ERROR,
        ErrorCode.KAFKA_STORAGE_ERROR,
    )
)
"""Answers after which the batch may be in the log or not."""


class Idempotence:
    """Producer id, epoch and the sequence numbers of all partitions."""

    def __init__(self, *, transactional: bool, max_in_flight: int = MAX_IN_FLIGHT) -> None:
        self.transactional = transactional
        self.max_in_flight = max_in_flight
        self.producer_id = -1
        self.producer_epoch = -1
        self.partitions: dict[TopicPartition, PartitionSequences] = {}
        self.to_restart: set[TopicPartition] = set()
        """Partitions whose numbers begin anew as soon as nothing of them is on the wire."""
        self.unresolved: set[TopicPartition] = set()
        """Partitions in which a batch was given up with its outcome unknown."""

    # What may be sent

    def may_send(self, tp: TopicPartition) -> bool:
        return self.producer_id >= 0 and tp not in self.to_restart

    def must_hold_back(self, tp: TopicPartition) -> bool:
        """Whether new batches have to wait for those on their way."""
        found = self.partitions.get(tp)
        if found is None:
            return False
        if found.returned or found.unresolved >= 0 or len(found.in_flight) >= self.max_in_flight:
            return True
        return bool(found.in_flight) and self._is_stale(found)

    def may_resend(self, batch: SequencedBatch) -> bool:
        """Whether a batch that came back is the first of its partition."""
        found = self.partitions.get(batch.tp)
        return found is not None and bool(found.in_flight) and found.in_flight[0] is batch

    @property
    def in_flight(self) -> bool:
        """Whether any batch has numbers and no outcome."""
        return any(found.in_flight for found in self.partitions.values())

    def stamp(self, batch: SequencedBatch) -> None:
        found = self.partitions.get(batch.tp)
        if found is None:
            found = self.partitions[batch.tp] = PartitionSequences(self.producer_id, self.producer_epoch)
        elif batch.base_sequence < 0 and not found.in_flight and self._is_stale(found):
            found.restart(self.producer_id, self.producer_epoch)
        found.stamp(batch, self.transactional)

    # What became of it

    def acknowledged(self, batch: SequencedBatch, base_offset: int) -> None:
        found = self.partitions.get(batch.tp)
        if found is not None:
            found.acknowledged(batch, base_offset)

    def may_retry(self, batch: SequencedBatch, code: int, log_start_offset: int) -> bool:
        """Whether a batch that was refused should go again; notes when its partition has to count anew before."""
        found = self.partitions[batch.tp]
        if code == ErrorCode.UNKNOWN_PRODUCER_ID:
            return self._may_retry_unknown(batch, found, log_start_offset)
        if code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER:
            return self._may_retry_out_of_order(batch, found)
        error = ERRORS.get(code)
        return error is not None and error.retriable

    def _may_retry_unknown(self, batch: SequencedBatch, found: PartitionSequences, log_start_offset: int) -> bool:
        """The broker has forgotten this producer: its records were deleted, or (old brokers) it was idle too long."""
        if log_start_offset < 0 or batch.tp in self.to_restart:
            return True  # the leader has just moved and could not say; or it is being dealt with
        if self.transactional and found.last_offset >= log_start_offset:
            return False  # what we wrote is still there, yet nobody knows us
        self.to_restart.add(batch.tp)
        return True

    def _may_retry_out_of_order(self, batch: SequencedBatch, found: PartitionSequences) -> bool:
        """Numbers before this batch's are missing in the log: because an earlier batch is late, or for good."""
        if found.unresolved < 0 and not found.is_next(batch):
            return True
        if self.transactional:
            return False
        if found.unresolved < 0 or found.follows_unresolved(batch):
            self.to_restart.add(batch.tp)
        return True

    def came_back(self, batch: SequencedBatch) -> None:
        """`may_retry` said yes: the batch waits until it is stamped, that is sent, again."""
        self.partitions[batch.tp].came_back(batch)

    def knows(self, batch: SequencedBatch) -> bool:
        """Whether the batch still waits for its outcome."""
        found = self.partitions.get(batch.tp)
        return found is not None and batch in found.in_flight

    def refused(self, batch: SequencedBatch) -> None:
        """The batch failed and was certainly not written: those after it leave a gap."""
        if self.partitions[batch.tp].remove(batch):
            self.to_restart.add(batch.tp)

    def give_up(self, batch: SequencedBatch) -> None:
        """The batch failed, and was perhaps written."""
        found = self.partitions[batch.tp]
        found.give_up(batch)
        if found.unresolved >= 0:
            self.unresolved.add(batch.tp)

    def drop(self, batch: SequencedBatch) -> None:
        """The batch is not sent again because all ends or the transaction is aborted."""
        found = self.partitions.get(batch.tp)
        if found is not None:
            found.remove(batch)

    def split(self, batch: SequencedBatch, parts: list[SequencedBatch]) -> None:
        self.partitions[batch.tp].split(batch, parts)

    # Epochs

    def settle(self) -> list[TopicPartition]:
        """Decides what is ripe: unresolved partitions without batches on their way, numbers that begin anew.

        Returns the partitions of a transactional producer in which a batch is lost for good.
        """
        lost = []
        for tp in list(self.unresolved):
            found = self.partitions[tp]
            if found.in_flight:
                continue
            self.unresolved.discard(tp)
            found.unresolved = -1
            if found.settled:
                continue  # a later batch was accepted, so the one given up is there too
            if self.transactional:
                lost.append(tp)
            else:
                self.to_restart.add(tp)
        if self.to_restart and not any(self.partitions[tp].on_wire for tp in self.to_restart):
            self._restart()
        return lost

    def _restart(self) -> None:
        if not self.transactional:
            if self.producer_epoch >= MAX_EPOCH:
                self.producer_id = self.producer_epoch = -1
            if self.producer_id < 0:
                return  # `assign` goes on
            self.producer_epoch += 1
        self._restart_at(set(self.to_restart))

    def assign(self, producer_id: int, producer_epoch: int) -> None:
        """A producer id was given, or an epoch by the coordinator: everything begins at 0."""
        if self.transactional:
            assert not self.in_flight, "a transaction ends when its batches have"
            self.partitions.clear()
            self.unresolved.clear()
            self.to_restart.clear()
        self.producer_id = producer_id
        self.producer_epoch = producer_epoch
        self._restart_at({tp for tp in self.to_restart if not self.partitions[tp].on_wire})

    def _restart_at(self, partitions: set[TopicPartition]) -> None:
        for tp in partitions:
            self.partitions[tp].restart(self.producer_id, self.producer_epoch)
        self.unresolved -= partitions
        self.to_restart -= partitions

    def _is_stale(self, found: PartitionSequences) -> bool:
        return found.producer_epoch != self.producer_epoch or found.producer_id != self.producer_id

    def check_invariants(self) -> None:
        assert self.to_restart <= self.partitions.keys()
        for tp, found in self.partitions.items():
            troubled = tp in self.to_restart or tp in self.unresolved
            found.check_invariants(contiguous=not troubled and not self.transactional)
            assert (found.unresolved >= 0) == (tp in self.unresolved)
