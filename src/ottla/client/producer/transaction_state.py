"""Where a producer stands: its state, what is under way, and how the one leads to the other. See `transactions`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from ottla.client.errors import (
    ClientClosedError,
    FatalProducerError,
    IllegalStateError,
    KafkaError,
    ProducerFencedError,
    TransactionAbortableError,
)
from ottla.client.model import ConsumerGroupMetadata, OffsetAndMetadata
from ottla.client.producer.completion import Completion
from ottla.client.producer.idempotence import MAX_IN_FLIGHT, Idempotence
from ottla.client.producer.transaction_messages import Kind, PendingRequest
from ottla.core.ids import TopicPartition

NO_TIMEOUT_MS = (1 << 31) - 1
"""The transaction timeout of two-phase commit: somebody outside decides how long."""


class State(Enum):
    UNINITIALIZED = "uninitialized"
    INITIALIZING = "initializing"
    READY = "ready"
    IN_TRANSACTION = "in a transaction"
    PREPARED = "prepared"
    COMMITTING = "committing"
    ABORTING = "aborting"
    ABORTABLE_ERROR = "in a transaction that failed"
    FATAL_ERROR = "failed"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.UNINITIALIZED: frozenset((State.INITIALIZING,)),
    State.INITIALIZING: frozenset((State.READY, State.PREPARED, State.UNINITIALIZED)),
    State.READY: frozenset((State.IN_TRANSACTION, State.UNINITIALIZED)),
    State.IN_TRANSACTION: frozenset((State.PREPARED, State.COMMITTING, State.ABORTING, State.ABORTABLE_ERROR)),
    State.PREPARED: frozenset((State.COMMITTING, State.ABORTING)),
    State.COMMITTING: frozenset((State.READY, State.INITIALIZING, State.ABORTABLE_ERROR)),
    State.ABORTING: frozenset((State.READY, State.INITIALIZING)),
    State.ABORTABLE_ERROR: frozenset((State.ABORTING,)),
    State.FATAL_ERROR: frozenset(),
}
"""Where each state may lead; FATAL_ERROR may follow any."""

SENDING = (State.IN_TRANSACTION, State.COMMITTING)


class PreparedTransaction(NamedTuple):
    """A transaction that is only waiting for the decision of a two-phase commit; its text is "producer_id:epoch"."""

    producer_id: int
    producer_epoch: int

    def __str__(self) -> str:
        return f"{self.producer_id}:{self.producer_epoch}"

    @classmethod
    def parse(cls, text: str) -> PreparedTransaction:
        """IllegalStateError when the text is not one that `str` gives."""
        producer_id, colon, epoch = text.partition(":")
        if not (colon and producer_id.isdecimal() and epoch.isdecimal()):
            raise IllegalStateError(f"{text!r} is not a prepared transaction: it looks like 4711:3")
        return cls(int(producer_id), int(epoch))


@dataclass(slots=True)
class Initialization:
    completion: Completion
    raises_epoch: bool = False
    """Part of the end of a transaction, for the producer that we are already."""
    keep_prepared: bool = False


@dataclass(slots=True)
class OffsetsCommit:
    completion: Completion
    offsets: dict[TopicPartition, OffsetAndMetadata]
    remaining: dict[TopicPartition, OffsetAndMetadata]
    group: ConsumerGroupMetadata
    group_added: bool


@dataclass(slots=True)
class Ending:
    completion: Completion
    committed: bool


class TransactionState:
    """State, what is under way, and the transitions. `backoff(attempt)` gives the milliseconds before a repetition."""

    def __init__(
        self,
        transactional_id: str | None = None,
        transaction_timeout_ms: int = 60_000,
        enable_idempotence: bool = True,
        *,
        enable_2pc: bool = False,
        backoff: Callable[[int], int] = lambda attempt: 100,
        max_in_flight: int = MAX_IN_FLIGHT,
    ) -> None:
        self.transactional_id = transactional_id
        self.transaction_timeout_ms = NO_TIMEOUT_MS if enable_2pc else transaction_timeout_ms
        self.is_idempotent = enable_idempotence
        self.is_transactional = transactional_id is not None
        self.on_work: Callable[[], None] | None = None
        """Called when `next_request` may have something new to say."""
        self.state = State.UNINITIALIZED
        self.error: KafkaError | None = None
        """What led to ABORTABLE_ERROR or FATAL_ERROR."""
        self.uses_transactions_v2 = False
        self.prepared: PreparedTransaction | None = None
        self.retry_at_ms = 0
        """`next_request` has nothing to say before, after a request that has to be repeated."""
        self._enable_2pc = enable_2pc
        self._backoff = backoff
        self._sequences = Idempotence(
            transactional=self.is_transactional, max_in_flight=min(max_in_flight, MAX_IN_FLIGHT)
        )
        self._cluster_version = 0
        self._attempt = 0
        self._outstanding: PendingRequest | None = None
        self._initialization: Initialization | None = None
        self._end: Ending | None = None
        self._offsets: deque[OffsetsCommit] = deque()
        self._open: set[TopicPartition] = set()
        self._new: deque[TopicPartition] = deque()
        self._adding: set[TopicPartition] = set()
        self._added: set[TopicPartition] = set()
        self._begun = False
        self._perhaps_begun = False
        self._must_raise_epoch = False
        self._last_call: Completion | None = None
        self._queue_error: KafkaError | None = None

    @property
    def producer_id(self) -> int:
        return self._sequences.producer_id

    @property
    def producer_epoch(self) -> int:
        return self._sequences.producer_epoch

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open that a close has to abort, or an end is under way."""
        return self.state in (State.IN_TRANSACTION, State.COMMITTING, State.ABORTING, State.ABORTABLE_ERROR)

    # Transitions

    def _move(self, target: State) -> None:
        assert target is State.FATAL_ERROR or target in TRANSITIONS[self.state], f"{self.state} → {target}"
        self.state = target
        self._open = set()

    def _initialize(self, completion: Completion, *, keep_prepared: bool = False) -> None:
        self._initialization = Initialization(completion, keep_prepared=keep_prepared)
        self._move(State.INITIALIZING)
        self._wake()

    def _initialization_refused(self, error: KafkaError) -> None:
        """Not authorized (yet): the user may try again."""
        initialization, self._initialization = self._initialization, None
        self._move(State.UNINITIALIZED)
        if initialization is None:
            return
        if not self.is_transactional:
            self._queue_error = error
        initialization.completion.complete(error)

    def _ended(self) -> None:
        """The coordinator has decided the outcome, or never knew of the transaction."""
        end, self._end = self._end, None
        if end is None:
            return
        if self._perhaps_begun and not self.uses_transactions_v2:
            self._must_raise_epoch = True  # what is still on its way must not begin a transaction
        self._forget_what_to_add(TransactionAbortableError(ABORTED, hint=""))
        self._added = set()
        self._begun = self._perhaps_begun = False
        self.prepared = None
        was_version_2 = self.uses_transactions_v2
        self._heed_transaction_version()
        if self._must_raise_epoch or (self.uses_transactions_v2 and not was_version_2):
            self._must_raise_epoch = False
            self._initialization = Initialization(end.completion, raises_epoch=True)
            self._move(State.INITIALIZING)
            self._wake()
        else:
            self._move(State.READY)
            end.completion.complete()

    def _heed_transaction_version(self) -> None:
        self.uses_transactions_v2 = self.is_transactional and self._cluster_version >= 2

    def _settle(self) -> None:
        """After each report about a batch."""
        lost = self._sequences.settle()
        if lost and self.state in SENDING:
            self._must_raise_epoch = True
            names = ", ".join(map(str, lost))
            self._abortable(TransactionAbortableError(f"no broker confirmed whether records of {names} were written"))
        if not self.is_transactional and self.state is State.READY and self.producer_id < 0:
            self._move(State.UNINITIALIZED)  # the epochs are used up; the next batch asks for a new id
        if self._end is not None:
            self._wake()

    def _abortable(self, error: KafkaError, cause: PendingRequest | None = None) -> None:
        """The transaction is lost; the first reason counts. Who waits for the `cause` gets the error itself."""
        if cause is not None and cause.kind in (Kind.ADD_OFFSETS, Kind.COMMIT_OFFSETS) and self._offsets:
            self._offsets[0].completion.complete(error)
        if State.ABORTABLE_ERROR not in TRANSITIONS[self.state]:
            return
        if self._outstanding is not None and self._outstanding.kind is Kind.END:
            return  # the coordinator decides now
        self.error = error
        self._move(State.ABORTABLE_ERROR)
        self._complete_all(self._failure())

    def _fail(self, error: KafkaError) -> None:
        if self.state is State.FATAL_ERROR:
            return
        self.error = error
        self._move(State.FATAL_ERROR)
        self._complete_all(self._failure())

    def _complete_all(self, error: KafkaError) -> None:
        self._forget_what_to_add(error)
        end, self._end = self._end, None
        initialization, self._initialization = self._initialization, None
        if end is not None:
            end.completion.complete(error)
        if initialization is not None:
            initialization.completion.complete(error)

    def _forget_what_to_add(self, error: KafkaError) -> None:
        self._new.clear()
        self._adding = set()
        offsets, self._offsets = self._offsets, deque()
        for commit in offsets:
            commit.completion.complete(error)

    def _wake(self) -> None:
        if self.on_work is not None:
            self.on_work()

    # Failure, as the user sees it

    def _failure(self) -> KafkaError:
        """A fresh exception for the state we are in."""
        cause = self.error
        assert cause is not None
        if self.state is State.ABORTABLE_ERROR:
            return TransactionAbortableError(
                f"the transaction failed: {cause.message}", code=cause.number, retriable=False, hint=_ABORT
            )
        if isinstance(cause, (ProducerFencedError, ClientClosedError)):
            return type(cause)(cause.message, hint=cause.hint)
        return FatalProducerError(
            f"the producer cannot go on: {cause.message}",
            code=cause.number,
            retriable=False,
            hint=f"{cause.hint} Close it and make a new one.".lstrip(),
        )

    def _fenced(self) -> ProducerFencedError:
        return ProducerFencedError(
            f"another producer with transactional.id {self.transactional_id!r} took over, or {self._late()}"
        )

    def _late(self) -> str:
        return f"the transaction took longer than transaction.timeout.ms={self.transaction_timeout_ms}"

    def check_invariants(self) -> None:
        self._sequences.check_invariants()
        assert (self.error is not None) == (self.state in (State.ABORTABLE_ERROR, State.FATAL_ERROR))
        assert (self._end is not None) == (self.state in (State.COMMITTING, State.ABORTING))
        assert (self._initialization is not None) == (self.state is State.INITIALIZING)
        assert not (self._adding & self._added)
        if self.state in (State.READY, State.UNINITIALIZED):
            assert not self._offsets
            assert not self._begun
        if self.is_transactional and self.state in (State.READY, State.INITIALIZING, State.PREPARED):
            assert not self._sequences.in_flight


_ABORT = "Abort the transaction and run it again."
ABORTED = "the transaction was aborted before"
