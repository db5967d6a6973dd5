"""The state of one partition of ``__transaction_state``: what may happen to a transactional id, and when.

A command looks at the `Transaction` of its id and decides on the one that follows; `ApiError` is its refusal. While a
transaction is prepared (its outcome stands, markers are on their way) everything else is refused with
CONCURRENT_TRANSACTIONS, and the client asks again.

Fencing has two codes. A producer whose epoch is not the current one hears PRODUCER_FENCED (handlers make it
INVALID_PRODUCER_EPOCH for clients that do not know it), one with a foreign producer id INVALID_PRODUCER_ID_MAPPING.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ids import TopicPartition
from ottla.server.coordinator.result import NOTHING, Completions, CoordinatorRecord, Instant, Result
from ottla.server.coordinator.timers import TimedShard, Timer, Timers
from ottla.server.coordinator.transactions.records import transaction_record
from ottla.server.coordinator.transactions.settings import TransactionSettings
from ottla.server.coordinator.transactions.state import (
    LAST_CLIENT_EPOCH,
    NEVER_MS,
    NO_EPOCH,
    NO_PRODUCER_ID,
    TRANSACTIONS_V2,
    Transaction,
    TransactionState,
    new_transaction,
)
from ottla.server.metadata.image import EMPTY_IMAGE, MetadataImage

logger = logging.getLogger(__name__)

#: (producer id, epoch) of a producer.
Producer = tuple[int, int]

_EMPTY = TransactionState.EMPTY
_ONGOING = TransactionState.ONGOING
_COMPLETE_COMMIT = TransactionState.COMPLETE_COMMIT
_COMPLETE_ABORT = TransactionState.COMPLETE_ABORT
_NO_PRODUCER: Producer = (NO_PRODUCER_ID, NO_EPOCH)


class NoProducerIdError(Exception):
    """The block of producer ids is used up: try again when the next one is there. Nothing was decided."""


class TransactionShard(TimedShard):
    """One shard of the transaction coordinator.

    ``take_producer_id`` gives a fresh producer id or raises `NoProducerIdError`. ``on_prepared(transactional_id)`` is
    told of each transaction whose outcome was decided, and after loading of each that still waits for its markers:
    when its record is committed they have to be written, then `complete` is to be called.
    """

    def __init__(
        self,
        settings: TransactionSettings,
        take_producer_id: Callable[[], int],
        on_prepared: Callable[[str], None],
        image: MetadataImage = EMPTY_IMAGE,
    ) -> None:
        self.settings = settings
        self.image = image
        self.transactions: dict[str, Transaction] = {}
        self.completions: Completions = []
        self.timers = Timers()
        # What is open, and since when it has been looked at here, in milliseconds of the monotonic clock.
        self._ongoing: dict[str, int | None] = {}
        self._take_producer_id = take_producer_id
        self._on_prepared = on_prepared
        self._is_loaded = False
        self._abort_timer: Timer | None = None
        self._expiration_timer: Timer | None = None

    @property
    def transaction_version(self) -> int:
        """The finalized level of transaction.version."""
        return self.image.features.get("transaction.version", 0)

    # -- the shell's port (runtime.CoordinatorShard)

    def replay(self, record: CoordinatorRecord, record_offset: int, producer_id: int) -> None:
        """Take over how a transactional id stands."""
        transactional_id, transaction = record.key, record.value
        if transaction is not None and transaction.state is _ONGOING:
            self._ongoing.setdefault(transactional_id)
        else:
            self._ongoing.pop(transactional_id, None)
        if transaction is None:
            self.transactions.pop(transactional_id, None)
            return
        self.transactions[transactional_id] = transaction
        if self._is_loaded and transaction.is_prepared:
            self._on_prepared(transactional_id)

    def replay_end_of_transaction(self, producer_id: int, *, committed: bool) -> None:
        """Nobody writes markers here."""

    def loaded(self, now: Instant) -> None:
        """All records are replayed: go on with what was decided, and watch what is open."""
        self._is_loaded = True
        for transactional_id, transaction in self.transactions.items():
            if transaction.is_prepared:
                self._on_prepared(transactional_id)
        self._watch(now)

    def unload(self, code: ErrorCode) -> None:
        """Nothing is parked here."""

    # -- InitProducerId

    def init_producer_id(
        self, transactional_id: str, timeout_ms: int, expected: Producer, now: Instant, *, two_phase: bool = False
    ) -> Result[Producer]:
        """The producer's id and epoch, which fence every earlier producer of this transactional id.

        ``expected`` is the id and epoch that a producer goes on from after an error (KIP-360), -1 and -1 otherwise.
        An open transaction is aborted first, and the producer asked to try again (CONCURRENT_TRANSACTIONS).
        """
        settings = self.settings
        if two_phase and not settings.two_phase_commit:
            raise ApiError(ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
        if not two_phase and not 0 < timeout_ms <= settings.max_timeout_ms:
            raise ApiError(ErrorCode.INVALID_TRANSACTION_TIMEOUT)
        timeout_ms = NEVER_MS if two_phase else timeout_ms
        found = self.transactions.get(transactional_id)
        transaction = found or new_transaction(self._take_producer_id(), timeout_ms, now.wall_ms)
        if transaction.is_prepared:
            raise ApiError(ErrorCode.CONCURRENT_TRANSACTIONS)
        if expected != _NO_PRODUCER and not _may_go_on(transaction, expected):
            raise ApiError(ErrorCode.PRODUCER_FENCED)
        self._watch(now)
        if transaction.state is _ONGOING:
            return Result(_NO_PRODUCER, [self._fence(transactional_id, transaction, now)])
        following = self._initialize(transaction, timeout_ms, expected, now.wall_ms)
        return Result((following.producer_id, following.producer_epoch), [self._record(transactional_id, following)])

    def _initialize(self, transaction: Transaction, timeout_ms: int, expected: Producer, now_ms: int) -> Transaction:
        epoch = transaction.producer_epoch
        is_recovery = expected != _NO_PRODUCER
        if transaction.is_epoch_exhausted and (not is_recovery or expected[1] == epoch):
            return transaction.initialized(
                producer_id=self._take_producer_id(),
                producer_epoch=0,
                last_producer_epoch=epoch if is_recovery else NO_EPOCH,
                timeout_ms=timeout_ms,
                now_ms=now_ms,
            )
        bumped, last = epoch + 1, NO_EPOCH
        if is_recovery:
            if epoch in (NO_EPOCH, expected[1]):
                last = epoch
            elif expected[1] == transaction.last_producer_epoch:
                # It asks again, not having heard the answer: nobody else came meanwhile, or this would be -1.
                bumped, last = epoch, transaction.last_producer_epoch
            else:
                raise ApiError(ErrorCode.PRODUCER_FENCED)
        return transaction.initialized(
            producer_id=transaction.producer_id,
            producer_epoch=bumped,
            last_producer_epoch=last,
            timeout_ms=timeout_ms,
            now_ms=now_ms,
        )

    # -- partitions

    def add_partitions(
        self,
        transactional_id: str,
        producer: Producer,
        partitions: frozenset[TopicPartition],
        client_version: int,
        now: Instant,
    ) -> Result[ErrorCode]:
        """Make partitions part of the transaction, which begins with its first one."""
        transaction = self.transactions.get(transactional_id)
        if transaction is None:
            raise ApiError(ErrorCode.INVALID_PRODUCER_ID_MAPPING)
        if transaction.is_prepared:
            # First of all: the producer may come with the id that is the current one only when this is complete.
            raise ApiError(ErrorCode.CONCURRENT_TRANSACTIONS)
        _check_producer(transaction, producer)
        if transaction.state is _ONGOING and partitions <= transaction.partitions:
            return Result(ErrorCode.NONE)
        following = transaction.with_partitions(partitions, client_version, now.wall_ms)
        self._watch(now)
        return Result(ErrorCode.NONE, [self._record(transactional_id, following)])

    def verify_partitions(
        self, transactional_id: str, producer: Producer, partitions: Iterable[TopicPartition]
    ) -> Result[dict[TopicPartition, ErrorCode]]:
        """Whether each partition is part of the transaction; TRANSACTION_ABORTABLE for those that are not (KIP-890)."""
        transaction = self.transactions.get(transactional_id)
        if transaction is None:
            raise ApiError(ErrorCode.INVALID_PRODUCER_ID_MAPPING)
        _check_producer(transaction, producer)
        if transaction.is_prepared:
            raise ApiError(ErrorCode.CONCURRENT_TRANSACTIONS)
        return Result(
            {
                partition: ErrorCode.NONE if partition in transaction.partitions else ErrorCode.TRANSACTION_ABORTABLE
                for partition in partitions
            }
        )

    # -- EndTxn

    def end_transaction(
        self, transactional_id: str, producer: Producer, *, is_commit: bool, client_version: int, now: Instant
    ) -> Result[Producer]:
        """Decide the outcome; the answer is the id and epoch to go on with (-1 and -1 before transactions v2)."""
        transaction = self.transactions.get(transactional_id)
        if transaction is None:
            raise ApiError(ErrorCode.INVALID_PRODUCER_ID_MAPPING)
        if client_version >= TRANSACTIONS_V2:
            return self._end_v2(transactional_id, transaction, producer, is_commit, client_version, now)
        _check_producer(transaction, producer)
        if transaction.is_prepared:
            raise ApiError(ErrorCode.CONCURRENT_TRANSACTIONS)
        if transaction.state is (_COMPLETE_COMMIT if is_commit else _COMPLETE_ABORT):
            return Result(_NO_PRODUCER)
        if transaction.state is not _ONGOING:
            raise _wrong_state(transactional_id, transaction, is_commit)
        following = transaction.prepared(
            is_commit=is_commit, client_version=0, next_producer_id=NO_PRODUCER_ID, now_ms=now.wall_ms
        )
        return Result(_NO_PRODUCER, [self._record(transactional_id, following)])

    def _end_v2(
        self,
        transactional_id: str,
        transaction: Transaction,
        producer: Producer,
        is_commit: bool,
        client_version: int,
        now: Instant,
    ) -> Result[Producer]:
        """The epoch tells a repeated request (one below the current) from that of the next transaction (equal)."""
        if transaction.is_prepared:
            raise ApiError(ErrorCode.CONCURRENT_TRANSACTIONS)
        state = transaction.state
        is_complete = state in (_COMPLETE_COMMIT, _COMPLETE_ABORT)
        is_repeated = is_complete and _is_repeated(transaction, producer)
        if not is_repeated:
            _check_producer(transaction, producer)
        if is_repeated:
            if state is not (_COMPLETE_COMMIT if is_commit else _COMPLETE_ABORT):
                raise _wrong_state(transactional_id, transaction, is_commit)
            return Result((transaction.producer_id, transaction.producer_epoch))
        if is_commit and state is not _ONGOING:
            raise _wrong_state(transactional_id, transaction, is_commit)
        # An abort is taken in any state: a producer does not know whether its partitions ever arrived here.
        following = transaction.prepared(
            is_commit=is_commit,
            client_version=client_version,
            next_producer_id=self._next_producer_id(transaction),
            now_ms=now.wall_ms,
        )
        completed = following.completed(now.wall_ms)
        return Result((completed.producer_id, completed.producer_epoch), [self._record(transactional_id, following)])

    def complete(self, transactional_id: str, producer: Producer, now: Instant) -> Result[None]:
        """The markers of a prepared transaction are written, under this producer id and epoch."""
        transaction = self.transactions.get(transactional_id)
        if (
            transaction is None
            or not transaction.is_prepared
            or producer != (transaction.producer_id, transaction.producer_epoch)
        ):
            return NOTHING
        return Result(None, [self._record(transactional_id, transaction.completed(now.wall_ms))])

    # -- what time does

    def _watch(self, now: Instant) -> None:
        """Have the open transactions and unused ids looked at, while there are any: an idle broker sleeps."""
        settings = self.settings
        if self._abort_timer is None:
            deadline_ms = now.monotonic_ms + settings.abort_interval_ms
            self._abort_timer = self.timers.schedule(deadline_ms, self._abort_timed_out)
        if self._expiration_timer is None:
            deadline_ms = now.monotonic_ms + settings.expiration_interval_ms
            self._expiration_timer = self.timers.schedule(deadline_ms, self._expire)

    def _abort_timed_out(self, now: Instant) -> Result[None]:
        self._abort_timer = None
        records = []
        for transactional_id, since_ms in self._ongoing.items():
            transaction = self.transactions[transactional_id]
            if since_ms is None:
                since_ms = self._ongoing[transactional_id] = now.monotonic_ms
            if transaction.has_timed_out(now.wall_ms, now.monotonic_ms - since_ms):
                try:
                    records.append(self._fence(transactional_id, transaction, now))
                except NoProducerIdError:
                    continue  # with the next round
                logger.info("%s: its transaction is aborted after %d ms", transactional_id, transaction.timeout_ms)
        if self._ongoing:
            self._watch(now)
        return Result(None, records)

    def _expire(self, now: Instant) -> Result[None]:
        self._expiration_timer = None
        before_ms = now.wall_ms - self.settings.id_expiration_ms
        records = [
            self._record(transactional_id, None)
            for transactional_id, transaction in self.transactions.items()
            if transaction.may_expire and transaction.last_update_ms <= before_ms
        ]
        if len(records) < len(self.transactions):
            self._watch(now)
        return Result(None, records)

    # -- parts

    def _fence(self, transactional_id: str, transaction: Transaction, now: Instant) -> CoordinatorRecord:
        version = self.transaction_version
        next_producer_id = self._next_producer_id(transaction) if version >= TRANSACTIONS_V2 else NO_PRODUCER_ID
        return self._record(transactional_id, transaction.fenced(version, next_producer_id, now.wall_ms))

    def _next_producer_id(self, transaction: Transaction) -> int:
        return self._take_producer_id() if transaction.is_epoch_exhausted else NO_PRODUCER_ID

    def _record(self, transactional_id: str, transaction: Transaction | None) -> CoordinatorRecord:
        return transaction_record(transactional_id, transaction, self.transaction_version)

    def check_invariants(self) -> None:
        """What holds between commands; for tests and simulations."""
        assert self._ongoing.keys() == {key for key, found in self.transactions.items() if found.state is _ONGOING}
        for transaction in self.transactions.values():
            assert transaction.producer_id >= 0
            assert transaction.producer_epoch >= 0
            assert transaction.state not in (TransactionState.DEAD, TransactionState.PREPARE_EPOCH_FENCE)
            if transaction.may_expire:
                assert not transaction.partitions
            else:
                assert transaction.start_ms >= 0
            if transaction.next_producer_id != NO_PRODUCER_ID:
                assert transaction.is_prepared


def durable_state(shard: TransactionShard) -> dict[str, Transaction]:
    """What a restart must bring back: all but the epoch before the last bump, which no record holds."""
    return {
        transactional_id: transaction._replace(last_producer_epoch=NO_EPOCH)
        for transactional_id, transaction in shard.transactions.items()
    }


def _check_producer(transaction: Transaction, producer: Producer) -> None:
    if transaction.producer_id != producer[0]:
        raise ApiError(ErrorCode.INVALID_PRODUCER_ID_MAPPING)
    if transaction.producer_epoch != producer[1]:
        raise ApiError(ErrorCode.PRODUCER_FENCED)


def _may_go_on(transaction: Transaction, expected: Producer) -> bool:
    """Whether a producer that names its id may go on; its epoch is looked at when it is bumped.

    A new id may always. One with the previous producer id may not have heard of the new one, which it got because its
    epochs were used up.
    """
    producer_id, epoch = expected
    return (
        transaction.producer_epoch == NO_EPOCH
        or producer_id == transaction.producer_id
        or (producer_id == transaction.previous_producer_id and epoch >= LAST_CLIENT_EPOCH)
    )


def _is_repeated(transaction: Transaction, producer: Producer) -> bool:
    """Whether the producer ends a transaction again that is complete, as it did not hear of the bumped epoch."""
    producer_id, epoch = producer
    if producer_id == transaction.producer_id and transaction.producer_epoch == epoch + 1:
        return True
    return (
        producer_id == transaction.previous_producer_id
        and epoch == LAST_CLIENT_EPOCH
        and transaction.producer_epoch == 0
    )


def _wrong_state(transactional_id: str, transaction: Transaction, is_commit: bool) -> ApiError:
    wish = "committed" if is_commit else "aborted"
    return ApiError(
        ErrorCode.INVALID_TXN_STATE,
        f"The transaction of {transactional_id} is {transaction.state.title} and can not be {wish}",
    )
