"""A cluster of a few lines: partition logs with Kafka's rules for sequence numbers, one transaction coordinator.

It follows the rules a producer may rely on, and nothing of our broker's code. Everything happens at once here; time and
trouble are the network's (`model_network`). Every method answers with an error code or raises nothing at all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from ottla.core.errors import ErrorCode
from ottla.core.ids import TopicPartition

SEQUENCES = 1 << 31
MAX_EPOCH = 32767


@dataclass
class Written:
    """A batch in the log, or a marker (values is None)."""

    producer_id: int
    epoch: int
    values: list[str] | None
    transactional: bool
    committed: bool = False


@dataclass
class KnownProducer:
    epoch: int
    batches: deque[tuple[int, int, int]] = field(default_factory=lambda: deque(maxlen=5))
    """First and last number, and base offset, of the last five."""
    ongoing: bool = False


class PartitionLog:
    def __init__(self) -> None:
        self.entries: list[Written] = []
        self.end = 0
        self.producers: dict[int, KnownProducer] = {}

    def check(self, producer_id: int, epoch: int, sequence: int, count: int) -> tuple[ErrorCode, int]:
        """Whether a batch may be appended; the offset of the one it repeats (DUPLICATE_SEQUENCE_NUMBER)."""
        known = self.producers.get(producer_id)
        if known is None:
            return ErrorCode.NONE, -1
        if epoch < known.epoch:
            return ErrorCode.INVALID_PRODUCER_EPOCH, -1
        if epoch > known.epoch:
            return (ErrorCode.NONE if sequence == 0 else ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER), -1
        last = (sequence + count - 1) % SEQUENCES
        for first, end, offset in known.batches:
            if (first, end) == (sequence, last):
                return ErrorCode.DUPLICATE_SEQUENCE_NUMBER, offset
        if known.batches and sequence != (known.batches[-1][1] + 1) % SEQUENCES:
            return ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, -1
        if not known.batches and sequence != 0:
            return ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, -1
        return ErrorCode.NONE, -1

    def append(self, producer_id: int, epoch: int, sequence: int, values: list[str], transactional: bool) -> int:
        known = self.producers.setdefault(producer_id, KnownProducer(epoch))
        if epoch > known.epoch:
            known.epoch = epoch
            known.batches.clear()
        known.ongoing = transactional
        offset = self.end
        known.batches.append((sequence, (sequence + len(values) - 1) % SEQUENCES, offset))
        self.entries.append(Written(producer_id, epoch, values, transactional))
        self.end += len(values)
        return offset

    def mark(self, producer_id: int, epoch: int, committed: bool) -> None:
        known = self.producers.setdefault(producer_id, KnownProducer(epoch))
        if epoch > known.epoch:
            known.epoch = epoch
            known.batches.clear()
        known.ongoing = False
        self.entries.append(Written(producer_id, epoch, None, True, committed))
        self.end += 1

    def all_values(self) -> list[str]:
        return [value for entry in self.entries for value in entry.values or ()]

    def committed_values(self) -> list[str]:
        """What a reader of committed records sees; nothing may be open any more."""
        assert not any(known.ongoing for known in self.producers.values()), "a transaction hangs"
        found: list[str] = []
        for place, entry in enumerate(self.entries):
            if entry.values is None:
                continue
            if entry.transactional:
                end = next(e for e in self.entries[place:] if e.values is None and e.producer_id == entry.producer_id)
                if not end.committed:
                    continue
            found += entry.values
        return found


@dataclass
class Transaction:
    producer_id: int
    epoch: int = -1
    last_epoch: int = -1
    state: str = "Empty"
    committed: bool = False
    partitions: set[TopicPartition] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)
    number: int = 0
    """Which transaction of this id, for the timeout."""


class ModelCluster:
    """`later(fn)` runs a function after a while: the markers of a transaction, and its timeout."""

    def __init__(self, later: Callable[[float, Callable[[], None]], object], version: int) -> None:
        self.later = later
        self.version = version
        self.logs: dict[TopicPartition, PartitionLog] = {}
        self.transactions: dict[str, Transaction] = {}
        self.positions: dict[str, int] = {}
        self.pending_positions: dict[tuple[str, int], int] = {}
        self.next_producer_id = 1000
        self.first_epoch = 0

    def log(self, tp: TopicPartition) -> PartitionLog:
        return self.logs.setdefault(tp, PartitionLog())

    def produce(
        self,
        tp: TopicPartition,
        producer: tuple[int, int],
        sequence: int,
        values: list[str],
        transactional_id: str | None,
    ) -> tuple[ErrorCode, int]:
        producer_id, epoch = producer
        log = self.log(tp)
        code, offset = log.check(producer_id, epoch, sequence, len(values))
        if code == ErrorCode.DUPLICATE_SEQUENCE_NUMBER:
            return ErrorCode.NONE, offset
        if code != ErrorCode.NONE:
            return code, -1
        if transactional_id is not None:
            known = log.producers.get(producer_id)
            if known is None or not known.ongoing or known.epoch != epoch:
                code = self._take_part(transactional_id, producer, tp)
                if code != ErrorCode.NONE:
                    return code, -1
                if self.version == 2 and known is None and sequence != 0:
                    return ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, -1
        return ErrorCode.NONE, log.append(producer_id, epoch, sequence, values, transactional_id is not None)

    def _take_part(self, transactional_id: str, producer: tuple[int, int], tp: TopicPartition) -> ErrorCode:
        """The leader asks the coordinator: version 1 verifies, version 2 adds."""
        if self.version == 2:
            code = self.add(transactional_id, producer, partitions={tp})
            return ErrorCode.INVALID_PRODUCER_EPOCH if code == ErrorCode.PRODUCER_FENCED else code
        found = self.transactions[transactional_id]
        if (found.producer_id, found.epoch) != producer:
            return ErrorCode.INVALID_PRODUCER_EPOCH
        is_in = found.state == "Ongoing" and tp in found.partitions
        return ErrorCode.NONE if is_in else ErrorCode.TRANSACTION_ABORTABLE

    # The coordinator

    def init(
        self, transactional_id: str | None, producer: tuple[int, int], timeout_ms: int
    ) -> tuple[ErrorCode, int, int]:
        if transactional_id is None:
            self.next_producer_id += 1
            return ErrorCode.NONE, self.next_producer_id, self.first_epoch
        found = self.transactions.get(transactional_id)
        if found is None:
            self.next_producer_id += 1
            found = self.transactions[transactional_id] = Transaction(self.next_producer_id)
        if found.state == "Completing":
            return ErrorCode.CONCURRENT_TRANSACTIONS, -1, -1
        if producer[0] >= 0 and producer != (found.producer_id, found.epoch):
            if producer == (found.producer_id, found.last_epoch):
                return ErrorCode.NONE, found.producer_id, found.epoch
            return ErrorCode.PRODUCER_FENCED, -1, -1
        if found.state == "Ongoing":
            self._fence(found)
            return ErrorCode.CONCURRENT_TRANSACTIONS, -1, -1
        found.last_epoch = found.epoch if producer[0] >= 0 else -1
        found.epoch += 1
        found.state = "Empty"
        return ErrorCode.NONE, found.producer_id, found.epoch

    def _fence(self, found: Transaction) -> None:
        found.epoch += 1
        found.last_epoch = -1
        self._complete(found, committed=False)

    def add(
        self,
        transactional_id: str,
        producer: tuple[int, int],
        partitions: set[TopicPartition] | None = None,
        group: str | None = None,
    ) -> ErrorCode:
        found = self.transactions.get(transactional_id)
        if found is None or found.producer_id != producer[0]:
            return ErrorCode.INVALID_PRODUCER_ID_MAPPING
        if found.epoch != producer[1]:
            return ErrorCode.PRODUCER_FENCED
        if found.state == "Completing":
            return ErrorCode.CONCURRENT_TRANSACTIONS
        if found.state != "Ongoing":
            found.state = "Ongoing"
            found.number += 1
            number = found.number
            self.later(60.0, lambda: self._expire(found, number))
        found.partitions |= partitions or set()
        if group is not None:
            found.groups.add(group)
        return ErrorCode.NONE

    def _expire(self, found: Transaction, number: int) -> None:
        if found.state == "Ongoing" and found.number == number:
            self._fence(found)

    def commit_offsets(
        self, transactional_id: str, producer: tuple[int, int], group: str, positions: dict[TopicPartition, int]
    ) -> ErrorCode:
        found = self.transactions[transactional_id]
        if (found.producer_id, found.epoch) != producer:
            return ErrorCode.INVALID_PRODUCER_EPOCH
        if self.version == 2:
            code = self.add(transactional_id, producer, group=group)
            if code != ErrorCode.NONE:
                return code
        elif found.state != "Ongoing" or group not in found.groups:
            return ErrorCode.TRANSACTION_ABORTABLE
        for position in positions.values():
            self.pending_positions[(group, producer[0])] = position
        return ErrorCode.NONE

    def end(self, transactional_id: str, producer: tuple[int, int], committed: bool) -> tuple[ErrorCode, int, int]:
        found = self.transactions.get(transactional_id)
        if found is None or found.producer_id != producer[0]:
            return ErrorCode.INVALID_PRODUCER_ID_MAPPING, -1, -1
        is_same = found.committed == committed
        repeats = self.version == 2 and producer[1] == found.epoch - 1 and producer[1] == found.last_epoch
        if found.state == "Completing":
            if self.version == 1 and producer[1] != found.epoch:
                return ErrorCode.PRODUCER_FENCED, -1, -1
            return ErrorCode.CONCURRENT_TRANSACTIONS, -1, -1
        if found.state == "Complete" and repeats and is_same:
            return ErrorCode.NONE, found.producer_id, found.epoch
        if producer[1] != found.epoch:
            return ErrorCode.PRODUCER_FENCED, -1, -1
        if found.state == "Complete" and self.version == 1:
            return (ErrorCode.NONE if is_same else ErrorCode.INVALID_TXN_STATE), -1, -1
        if found.state != "Ongoing" and (committed or self.version == 1):
            return ErrorCode.INVALID_TXN_STATE, -1, -1
        if self.version == 2:
            found.last_epoch = found.epoch
            found.epoch += 1
        self._complete(found, committed=committed)
        return (ErrorCode.NONE, found.producer_id, found.epoch) if self.version == 2 else (ErrorCode.NONE, -1, -1)

    def _complete(self, found: Transaction, *, committed: bool) -> None:
        found.state = "Completing"
        found.committed = committed
        self.later(0.02, lambda: self._mark(found))

    def _mark(self, found: Transaction) -> None:
        for tp in found.partitions:
            self.log(tp).mark(found.producer_id, found.epoch, found.committed)
        for group in found.groups:
            position = self.pending_positions.pop((group, found.producer_id), None)
            if position is not None and found.committed:
                self.positions[group] = position
        found.partitions = set()
        found.groups = set()
        found.state = "Complete"
