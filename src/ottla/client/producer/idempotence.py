"""Exactly one copy of each record, in order: what an idempotent producer may send, and what the brokers' answers mean.

The broker remembers the last five batches of a producer id and epoch in each partition, so a batch may be sent as often
as needed and five may be on their way. What it cannot forgive is a gap. When a batch is refused, or given up while
nobody knows whether it was written, the numbers after it are worthless: the epoch is raised (KIP-360) and the partition
counts from 0 again, together with the batches that still wait. A producer without transactions raises its epoch itself;
a transactional one has to abort first, which gives it a new epoch in the end.

A broker that knows nothing of a producer takes any number for the first. So the first batch of a partition goes alone:
were it refused for a moment and the second one not, their order would be lost.

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

_NOT_WRITTEN = frozenset(
    (
        ErrorCode.CORRUPT_MESSAGE,
        ErrorCode.NOT_ENOUGH_REPLICAS,
        ErrorCode.CONCURRENT_TRANSACTIONS,
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.NOT_COORDINATOR,
    )
)
"""Answers to be asked again after which the batch is certainly not in the log."""


def is_uncertain(code: int) -> bool:
    """Whether the batch may be in the log after this answer: the leader may have been replaced after it wrote."""
    error = ERRORS.get(code)
    if error is None or error is ErrorCode.UNKNOWN_SERVER_ERROR:
        return True
    return error.retriable and error not in _NOT_WRITTEN


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
        self.gaps: set[TopicPartition] = set()
        """Partitions in which a batch was refused, while those before it are on their way."""
        self.established: set[TopicPartition] = set()
        """Partitions whose leader has accepted something of this producer id."""

    # What may be sent

    def may_send(self, tp: TopicPartition) -> bool:
        return self.producer_id >= 0 and tp not in self.to_restart

    def must_hold_back(self, tp: TopicPartition) -> bool:
        """Whether new batches have to wait for those on their way."""
        found = self.partitions.get(tp)
        if found is None:
            return False
        if len(found.in_flight) >= self.max_in_flight or found.returned or found.is_overtaken:
            return True
        if found.unresolved >= 0 or found.gap >= 0:
            return True
        return bool(found.in_flight) and (tp not in self.established or self._is_stale(found))

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
            if batch.producer_id == self.producer_id:
                self.established.add(batch.tp)

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
        if found.probe is not batch:
            return True  # when it was sent, an earlier one was under way
        if found.unresolved < 0 and not found.is_next(batch):
            return True
        if self.transactional:
            return False
        if found.unresolved < 0 or found.follows_unresolved(batch):
            self.to_restart.add(batch.tp)
        return True

    def is_written(self, batch: SequencedBatch) -> bool:
        """Whether the batch must be in the log, whatever the broker says of its numbers."""
        found = self.partitions.get(batch.tp)
        return found is not None and batch.tp not in self.to_restart and found.is_written(batch)

    def came_back(self, batch: SequencedBatch, code: int) -> None:
        """`may_retry` said yes: the batch waits until it is stamped, that is sent, again."""
        self.partitions[batch.tp].came_back(batch, uncertain=is_uncertain(code))

    def knows(self, batch: SequencedBatch) -> bool:
        """Whether the batch still waits for its outcome."""
        found = self.partitions.get(batch.tp)
        return found is not None and batch in found.in_flight

    def refused(self, batch: SequencedBatch, code: int) -> None:
        """The batch failed. When it was certainly not written, those after it leave a gap."""
        found = self.partitions[batch.tp]
        if is_uncertain(code) or batch in found.uncertain:
            self.give_up(batch)
        else:
            found.refused(batch)
            if found.gap >= 0:
                self.gaps.add(batch.tp)

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
        lost: list[TopicPartition] = []
        if not (self.unresolved or self.gaps or self.to_restart):
            return lost
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
        for tp in list(self.gaps):
            if self.partitions[tp].gap_is_next:
                self.gaps.discard(tp)
                self.to_restart.add(tp)
        ripe = {tp for tp in self.to_restart if self.partitions[tp].may_restart}
        if ripe:
            self._restart(ripe)
        return lost

    def _restart(self, ripe: set[TopicPartition]) -> None:
        if not self.transactional:
            if self.producer_epoch >= MAX_EPOCH:
                self.producer_id = self.producer_epoch = -1
            if self.producer_id < 0:
                return  # `assign` goes on
            self.producer_epoch += 1
        self._restart_at(ripe)

    def assign(self, producer_id: int, producer_epoch: int) -> None:
        """A producer id was given, or an epoch by the coordinator: everything begins at 0."""
        if self.transactional:
            assert not self.in_flight, "a transaction ends when its batches have"
            self.partitions.clear()
            self.unresolved.clear()
            self.to_restart.clear()
            self.gaps.clear()
        if producer_id != self.producer_id:
            self.established.clear()
        self.producer_id = producer_id
        self.producer_epoch = producer_epoch
        self._restart_at({tp for tp in self.to_restart if self.partitions[tp].may_restart})

    def _restart_at(self, partitions: set[TopicPartition]) -> None:
        for tp in partitions:
            self.partitions[tp].restart(self.producer_id, self.producer_epoch)
        self.unresolved -= partitions
        self.gaps -= partitions
        self.to_restart -= partitions

    def _is_stale(self, found: PartitionSequences) -> bool:
        return found.producer_epoch != self.producer_epoch or found.producer_id != self.producer_id

    def check_invariants(self) -> None:
        assert self.to_restart <= self.partitions.keys()
        for tp, found in self.partitions.items():
            found.check_invariants()
            assert (found.unresolved >= 0) == (tp in self.unresolved)
            assert found.gap < 0 or tp in self.gaps or tp in self.to_restart
