"""The state of an idempotent or transactional producer: what may be sent, and what has to be asked of whom (KIP-98).

A core without I/O. The user's calls (`begin`, `commit`...) and the sender's reports (`stamp`, `failed`...) change the
state; `next_request` tells the one request that is needed now, `answered` or `request_failed` take what came of it. No
queue is kept: what is needed follows from the state, in a fixed order (producer id, partitions, offsets, the end), so a
request that has to be repeated is simply needed still.

    UNINITIALIZED → INITIALIZING → READY ⇄ IN_TRANSACTION → COMMITTING | ABORTING → READY
    IN_TRANSACTION → PREPARED → COMMITTING | ABORTING                     two-phase commit (KIP-939)
    IN_TRANSACTION | COMMITTING → ABORTABLE_ERROR → ABORTING              lost for this transaction
    any → FATAL_ERROR                                                     lost for this producer

Transactions of version 1 tell the coordinator of each partition and group before it is used, and raise the epoch by a
request of their own after an abort that left something uncertain. Those of version 2 (KIP-890) do neither: brokers add
what they see, and every end raises the epoch. The version is the cluster's feature `transaction.version`, and changes
only between transactions.

How the sender uses it, for each partition with something to send:

    if (error := state.refusal()): fail every batch that is not on the wire with it (`drop` those with numbers)
    if state.may_send(tp):
        the head came back before:  if state.may_resend(batch): state.stamp(batch), send
        the head is new:            if not state.must_hold_back(tp): state.stamp(batch), send
    then acknowledged(batch, base_offset) | failed(batch, code, ...) | expired(batch, error), once for each batch

Everything runs on the client's loop, apart from `record_appended` and `begin`, which the user's thread may call.
Invariants: a batch has its numbers until its outcome is known; the end of a transaction goes out when no batch is on
its way; one request is outstanding at a time; after FATAL_ERROR nothing is sent any more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, NoReturn

from ottla.client.errors import (
    ClientClosedError,
    FatalProducerError,
    IllegalStateError,
    KafkaError,
    ProducerFencedError,
    TransactionAbortableError,
    error_for,
)
from ottla.client.model import ConsumerGroupMetadata, OffsetAndMetadata
from ottla.client.producer import transaction_messages as messages
from ottla.client.producer.completion import Completion
from ottla.client.producer.idempotence import MAX_IN_FLIGHT, Idempotence
from ottla.client.producer.sequences import SequencedBatch
from ottla.client.producer.transaction_messages import Kind, Outcome, PendingRequest
from ottla.core.errors import ERRORS, ErrorCode
from ottla.core.ids import TopicPartition
from ottla.protocol.message import Response
from ottla.protocol.messages.add_offsets_to_txn import AddOffsetsToTxnResponse
from ottla.protocol.messages.add_partitions_to_txn import AddPartitionsToTxnResponse
from ottla.protocol.messages.end_txn import EndTxnResponse
from ottla.protocol.messages.init_producer_id import InitProducerIdResponse
from ottla.protocol.messages.txn_offset_commit import TxnOffsetCommitResponse

NO_TIMEOUT_MS = (1 << 31) - 1
"""The transaction timeout of two-phase commit: somebody outside decides how long."""

FIRST_ADD_RETRY_MS = 20
"""How soon to ask again when the last transaction is still being finished: usually a matter of milliseconds."""

PRODUCE_VERSION_1 = 11
"""The last version of Produce in which brokers expect partitions to have been added by the client."""


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

_SENDING = (State.IN_TRANSACTION, State.COMMITTING)


class Verdict(NamedTuple):
    """What becomes of a batch that the broker refused."""

    action: str
    """ "retry": send it again; "fail": the records failed with `error`; "succeeded": they were in the log before."""
    error: KafkaError | None = None


RETRY = Verdict("retry")
SUCCEEDED = Verdict("succeeded")


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
class _Initialization:
    completion: Completion
    raises_epoch: bool = False
    """Part of the end of a transaction, for the producer that we are already."""
    keep_prepared: bool = False


@dataclass(slots=True)
class _OffsetsCommit:
    completion: Completion
    offsets: dict[TopicPartition, OffsetAndMetadata]
    remaining: dict[TopicPartition, OffsetAndMetadata]
    group: ConsumerGroupMetadata
    group_added: bool


@dataclass(slots=True)
class _End:
    completion: Completion
    committed: bool


class ProducerState:
    """See the module. `backoff(attempt)` gives the milliseconds to wait before a request is repeated."""

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
        self._initialization: _Initialization | None = None
        self._end: _End | None = None
        self._offsets: deque[_OffsetsCommit] = deque()
        self._open: set[TopicPartition] = set()
        self._new: deque[TopicPartition] = deque()
        self._adding: set[TopicPartition] = set()
        self._added: set[TopicPartition] = set()
        self._begun = False
        self._perhaps_begun = False
        self._must_raise_epoch = False
        self._last_call: Completion | None = None
        self._queue_error: KafkaError | None = None

    # For the sender

    @property
    def producer_id(self) -> int:
        return self._sequences.producer_id

    @property
    def producer_epoch(self) -> int:
        return self._sequences.producer_epoch

    @property
    def produce_max_version(self) -> int | None:
        """The version of Produce not to exceed; None: any."""
        return PRODUCE_VERSION_1 if self.is_transactional and not self.uses_transactions_v2 else None

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open that a close has to abort, or an end is under way."""
        return self.state in (State.IN_TRANSACTION, State.COMMITTING, State.ABORTING, State.ABORTABLE_ERROR)

    def record_appended(self, tp: TopicPartition) -> None:
        """A record is about to go into the accumulator.

        Raises IllegalStateError outside of a transaction, TransactionAbortableError, FatalProducerError or
        ProducerFencedError after such an error. Once allowed, it costs one look-up until the state changes.
        """
        if tp in self._open:
            return
        allowed = self._open
        self._raise_if_failed()
        if self.is_transactional:
            self._check_no_call_pending("send()")
            if self.state is not State.IN_TRANSACTION:
                raise IllegalStateError(
                    f"send() outside of a transaction: the producer is {self.state.value}", hint=_BEGIN
                )
            if not self.uses_transactions_v2:
                self._new.append(tp)
        allowed.add(tp)

    def may_send(self, tp: TopicPartition) -> bool:
        """Whether batches of the partition may go out at all now; asks for what is missing."""
        if not self.is_idempotent:
            return True
        if self.is_transactional:
            if self.state not in _SENDING:
                return False
            if not self.uses_transactions_v2 and tp not in self._added:
                self._wake()
                return False
        elif self.producer_id < 0:
            if self.state is State.UNINITIALIZED:
                self._initialize(Completion("the producer id"))
            return False
        return self.state is not State.FATAL_ERROR and self._sequences.may_send(tp)

    def must_hold_back(self, tp: TopicPartition) -> bool:
        """Whether new batches of the partition have to wait for earlier ones."""
        return self.is_idempotent and self._sequences.must_hold_back(tp)

    def may_resend(self, batch: SequencedBatch) -> bool:
        """Whether a batch that came back is the next of its partition."""
        return not self.is_idempotent or self._sequences.may_resend(batch)

    def refusal(self) -> KafkaError | None:
        """With what to fail every batch that is not on the wire; None in good times."""
        if self._queue_error is not None:
            error, self._queue_error = self._queue_error, None
            return error
        if self.error is not None:
            return self._failure()
        if self.state is State.ABORTING:
            return TransactionAbortableError("the record was not sent: its transaction is being aborted", hint="")
        return None

    def stamp(self, batch: SequencedBatch) -> None:
        """A batch is drained: gives a new one its producer id, epoch and numbers; notes that it is on the wire."""
        if self.is_idempotent:
            self._sequences.stamp(batch)
            if self.uses_transactions_v2:
                self._begun = True

    def acknowledged(self, batch: SequencedBatch, base_offset: int = -1) -> None:
        """The batch is in the log, at `base_offset` when that is known. Also right for one that expired before."""
        if self.is_idempotent:
            self._sequences.acknowledged(batch, base_offset)
            self._settle()

    def failed(
        self,
        batch: SequencedBatch,
        code: int,
        log_start_offset: int = -1,
        *,
        may_retry: bool = True,
        message: str | None = None,
    ) -> Verdict:
        """The broker refused the batch, or did not answer (NETWORK_EXCEPTION, REQUEST_TIMED_OUT).

        `may_retry`: neither `retries` nor `delivery.timeout.ms` are used up. `message` is the broker's own.
        """
        if not self.is_idempotent:
            known = ERRORS.get(code)
            again = may_retry and known is not None and known.retriable
            return RETRY if again else Verdict("fail", error_for(code, message))
        sequences = self._sequences
        if not sequences.knows(batch):
            return Verdict("fail", error_for(code, message))
        if code == ErrorCode.DUPLICATE_SEQUENCE_NUMBER or (
            code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER and sequences.is_written(batch)
        ):
            self.acknowledged(batch)
            return SUCCEEDED
        is_over = self.state is State.FATAL_ERROR or (self.is_transactional and self.state not in _SENDING)
        if may_retry and not is_over and sequences.may_retry(batch, code, log_start_offset):
            sequences.came_back(batch, code)
            self._settle()
            return RETRY
        error = error_for(code, message)
        if self.is_transactional:
            sequences.drop(batch)
            self._must_raise_epoch = True
        else:
            sequences.refused(batch, code)
        if code in _FATAL_TO_PRODUCE:
            self._fail(self._fenced() if code == ErrorCode.PRODUCER_FENCED else error)
        elif self.is_transactional:
            self._abortable(error)
        self._settle()
        return Verdict("fail", error)

    def expired(self, batch: SequencedBatch, error: KafkaError) -> None:
        """The batch was given up after `delivery.timeout.ms`; the caller fails its records with `error`."""
        if not self.is_idempotent:
            return
        if self._sequences.knows(batch):
            self._sequences.give_up(batch)
        if self.is_transactional:
            if batch.base_sequence >= 0:
                self._must_raise_epoch = True
            self._abortable(error)
        self._settle()

    def drop(self, batch: SequencedBatch) -> None:
        """The batch is not sent (again) because of `refusal`, or because the producer closes."""
        if self.is_idempotent and batch.base_sequence >= 0:
            self._sequences.drop(batch)
            self._must_raise_epoch = self.is_transactional
            self._settle()

    def split(self, batch: SequencedBatch, parts: list[SequencedBatch]) -> None:
        """A batch was too large for the broker: its parts, not yet stamped, take its numbers and wait like it."""
        if self.is_idempotent and self._sequences.knows(batch):
            self._sequences.split(batch, parts)

    # For the user: transactions

    def init_transactions(self, keep_prepared: bool = False) -> Completion:
        """Becomes the one producer of the transactional id; earlier ones are fenced, what they left open is ended."""
        self._check_transactional("init_transactions()")
        if (found := self._same_call("init_transactions()")) is not None:
            return found
        self._raise_if_failed()
        if self.state is not State.UNINITIALIZED:
            raise IllegalStateError(f"init_transactions() was called before: the producer is {self.state.value}")
        completion = self._last_call = Completion("init_transactions()")
        self._initialize(completion, keep_prepared=keep_prepared)
        return completion

    def begin(self) -> None:
        """Opens a transaction; nothing is asked of a broker."""
        self._check_transactional("begin()")
        self._check_no_call_pending("begin()")
        self._raise_if_failed()
        if self.state is State.UNINITIALIZED:
            raise IllegalStateError("begin() before init_transactions()", hint="Call init_transactions() once, first.")
        if self.state is not State.READY:
            raise IllegalStateError(
                f"begin() needs the last transaction to be over: the producer is {self.state.value}"
            )
        self._move(State.IN_TRANSACTION)

    def add_offsets(
        self, offsets: Mapping[TopicPartition, OffsetAndMetadata], group: ConsumerGroupMetadata
    ) -> Completion:
        """Makes a consumer's position part of the transaction (KIP-447)."""
        what = "send_offsets()"
        self._check_transactional(what)
        self._check_no_call_pending(what)
        self._raise_if_failed()
        if self.state is not State.IN_TRANSACTION:
            raise IllegalStateError(f"{what} outside of a transaction: the producer is {self.state.value}", hint=_BEGIN)
        for pending in self._offsets:
            if pending.completion.abandoned and pending.offsets == offsets and pending.group == group:
                pending.completion.abandoned = False
                return pending.completion
        completion = Completion(what)
        if offsets:
            self._offsets.append(
                _OffsetsCommit(completion, dict(offsets), dict(offsets), group, group_added=self.uses_transactions_v2)
            )
            self._wake()
        else:
            completion.complete()
        return completion

    def prepare(self) -> PreparedTransaction:
        """First phase of a two-phase commit, after a flush: from now on the transaction can only be ended (KIP-939)."""
        self._check_transactional("prepare()")
        self._check_no_call_pending("prepare()")
        self._raise_if_failed()
        if not self._enable_2pc:
            raise IllegalStateError("prepare() needs transaction.two.phase.commit.enable=true")
        if self.state is not State.IN_TRANSACTION:
            raise IllegalStateError(
                f"prepare() outside of a transaction: the producer is {self.state.value}", hint=_BEGIN
            )
        if self._sequences.in_flight or self._offsets or self._new or self._adding:
            raise IllegalStateError("prepare() while records or offsets are on their way", hint="Call flush() before.")
        self._move(State.PREPARED)
        self.prepared = PreparedTransaction(self.producer_id, self.producer_epoch)
        return self.prepared

    def complete(self, decided: PreparedTransaction) -> Completion:
        """Second phase: commits when `decided` is the transaction that is prepared here, aborts it otherwise."""
        if self.prepared is None:
            raise IllegalStateError("there is no prepared transaction to complete")
        return self.commit() if decided == self.prepared else self.abort()

    def commit(self) -> Completion:
        """Ends the transaction; the caller has flushed before."""
        return self._end_transaction("commit()", committed=True)

    def abort(self) -> Completion:
        """Ends the transaction as if it had not been; records that were not sent yet are refused (`refusal`)."""
        return self._end_transaction("abort()", committed=False)

    def closed(self, error: KafkaError | None = None) -> None:
        """The producer closes: whoever waits gets `error`, and nothing is asked or sent any more."""
        self._fail(error or ClientClosedError("the producer was closed before this was done"))

    # For the shell: requests

    def learn_transaction_version(self, version: int) -> None:
        """The cluster's finalized feature `transaction.version`; heeded from the next transaction on."""
        self._cluster_version = version

    def next_request(self, now_ms: int) -> PendingRequest | None:
        """The request that is needed now, once; None: nothing, or an answer is awaited, or not before `retry_at_ms`."""
        if self._outstanding is not None or now_ms < self.retry_at_ms:
            return None
        self._outstanding = self._needed()
        return self._outstanding

    def answered(self, pending: PendingRequest, response: Response, now_ms: int) -> bool:
        """Takes the response. True: the coordinator has moved, forget where it was."""
        self._outstanding = None
        before = self._attempt
        if isinstance(response, InitProducerIdResponse):
            moved = self._producer_id_answered(pending, response, now_ms)
        elif isinstance(response, AddPartitionsToTxnResponse):
            moved = self._partitions_answered(pending, response, now_ms)
        elif isinstance(response, AddOffsetsToTxnResponse):
            moved = self._group_answered(pending, response, now_ms)
        elif isinstance(response, TxnOffsetCommitResponse):
            moved = self._offsets_answered(pending, response, now_ms)
        elif isinstance(response, EndTxnResponse):
            moved = self._end_answered(pending, response, now_ms)
        else:
            raise TypeError(f"{type(response).__name__} answers no request of a transaction")
        if self._attempt == before:
            self._attempt = 0
        return moved

    def request_failed(self, pending: PendingRequest, error: KafkaError, now_ms: int, *, sent: bool = True) -> None:
        """There is no response. `sent`: the request may have reached the broker all the same."""
        self._outstanding = None
        if error.retriable:
            if sent:
                self._note_uncertainty(pending)
            self._back_off(now_ms)
            return
        outcome = Outcome.FATAL if error.number is None else messages.outcome_of(pending.kind, error.number)
        if outcome is Outcome.REFUSED:
            self._initialization_refused(error)
        elif outcome is Outcome.ABORTABLE:
            self._abortable(error, pending)
        else:
            self._fail(self._fenced() if outcome is Outcome.FENCED else error)

    # What is needed

    def _needed(self) -> PendingRequest | None:
        if self._initialization is not None and self.state is State.INITIALIZING:
            return messages.init_producer_id(
                self.transactional_id,
                self.transaction_timeout_ms,
                current=(self.producer_id, self.producer_epoch) if self._initialization.raises_epoch else None,
                enable_2pc=self._enable_2pc,
                keep_prepared=self._initialization.keep_prepared,
            )
        if self.transactional_id is None:
            return None
        found = self._to_add(self.transactional_id) if self.state in _SENDING else None
        if found is None and self._end is not None and not self._sequences.in_flight:
            if not (self._begun or self._perhaps_begun):
                self._ended()  # nobody knows of it
                return self._needed()
            return messages.end_transaction(
                self.transactional_id,
                self.producer_id,
                self.producer_epoch,
                committed=self._end.committed,
                version_2=self.uses_transactions_v2,
            )
        return found

    def _to_add(self, transactional_id: str) -> PendingRequest | None:
        who = transactional_id, self.producer_id, self.producer_epoch
        while self._new:
            self._adding.add(self._new.popleft())
        if self._adding:
            return messages.add_partitions(*who, self._adding)
        if not self._offsets:
            return None
        commit = self._offsets[0]
        if not commit.group_added:
            return messages.add_offsets(*who, commit.group.group_id)
        if self.uses_transactions_v2:
            self._begun = True
        return messages.commit_offsets(*who, commit.remaining, commit.group, version_2=self.uses_transactions_v2)

    # Answers

    def _producer_id_answered(self, pending: PendingRequest, response: InitProducerIdResponse, now_ms: int) -> bool:
        if response.error_code != ErrorCode.NONE:
            return self._refused(pending, response.error_code, now_ms)
        initialization = self._initialization
        if initialization is None or self.state is not State.INITIALIZING:
            return False
        self._initialization = None
        self._sequences.assign(response.producer_id, response.producer_epoch)
        self._heed_transaction_version()
        if initialization.keep_prepared and response.ongoing_txn_producer_id >= 0:
            self.prepared = PreparedTransaction(response.ongoing_txn_producer_id, response.ongoing_txn_producer_epoch)
            self._begun = True
            self._move(State.PREPARED)
        else:
            self._move(State.READY)
        self._settle()
        initialization.completion.complete()
        return False

    def _partitions_answered(self, pending: PendingRequest, response: AddPartitionsToTxnResponse, now_ms: int) -> bool:
        codes = messages.codes_of_added_partitions(response)
        worst = self._worst(pending, codes.values())
        if worst != ErrorCode.NONE:
            if worst == ErrorCode.TOPIC_AUTHORIZATION_FAILED:
                topics = ", ".join(sorted({tp.topic for tp, code in codes.items() if code == worst}))
                return self._refused(pending, worst, now_ms, f"not authorized for {topics}")
            moved = self._refused(pending, worst, now_ms)
            if worst == ErrorCode.CONCURRENT_TRANSACTIONS and not self._added:
                self.retry_at_ms = min(self.retry_at_ms, now_ms + FIRST_ADD_RETRY_MS)
            return moved
        self._begun = True
        self._perhaps_begun = False
        if self.state in _SENDING:
            self._adding -= codes.keys()
            self._added |= codes.keys()
        return False

    def _group_answered(self, pending: PendingRequest, response: AddOffsetsToTxnResponse, now_ms: int) -> bool:
        if response.error_code != ErrorCode.NONE:
            return self._refused(pending, response.error_code, now_ms)
        self._begun = True
        self._perhaps_begun = False
        for commit in self._offsets:
            if pending.request.group_id == commit.group.group_id:  # type: ignore[attr-defined]
                commit.group_added = True
        return False

    def _offsets_answered(self, pending: PendingRequest, response: TxnOffsetCommitResponse, now_ms: int) -> bool:
        codes = messages.codes_of_committed_offsets(response)
        if not self._offsets:
            return False
        commit = self._offsets[0]
        for tp, code in codes.items():
            if code == ErrorCode.NONE:
                commit.remaining.pop(tp, None)
        worst = self._worst(pending, codes.values())
        if worst != ErrorCode.NONE:
            return self._refused(pending, worst, now_ms)
        if commit.remaining:
            return self._refused(pending, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, now_ms)  # the answer leaves some out
        self._offsets.popleft()
        commit.completion.complete()
        return False

    def _end_answered(self, pending: PendingRequest, response: EndTxnResponse, now_ms: int) -> bool:
        code = response.error_code
        if code == ErrorCode.INVALID_TXN_STATE and not self._begun and self.state is State.ABORTING:
            code = ErrorCode.NONE  # what was uncertain has not happened
        if code == ErrorCode.NONE:
            if response.producer_id >= 0 and self._end is not None:
                self._sequences.assign(response.producer_id, response.producer_epoch)
                self._must_raise_epoch = False
            self._ended()
            return False
        is_late = code == ErrorCode.INVALID_TXN_STATE and self.state is State.COMMITTING
        return self._refused(pending, code, now_ms, self._late() if is_late else None)

    def _worst(self, pending: PendingRequest, codes: object) -> int:
        """The code that decides: fatal before abortable before those that are asked again."""
        found = [code for code in codes if code != ErrorCode.NONE]  # type: ignore[attr-defined]
        return max(found, key=lambda code: _SEVERITY[messages.outcome_of(pending.kind, code)], default=ErrorCode.NONE)

    def _refused(self, pending: PendingRequest, code: int, now_ms: int, message: str | None = None) -> bool:
        outcome = messages.outcome_of(pending.kind, code)
        if outcome in (Outcome.RETRY, Outcome.MOVED):
            if code not in _CERTAINLY_NOT_DONE:
                self._note_uncertainty(pending)
            self._back_off(now_ms)
            return outcome is Outcome.MOVED
        error = messages.error_of(pending, code, message)
        if outcome is Outcome.FENCED:
            self._fail(self._fenced())
        elif outcome is Outcome.REFUSED:
            self._initialization_refused(error)
        elif outcome is Outcome.ABORTABLE and not (pending.kind is Kind.END and self.state is State.ABORTING):
            if code == ErrorCode.UNKNOWN_PRODUCER_ID:
                self._must_raise_epoch = True
            self._abortable(error, pending)
        else:
            self._fail(error)
        return False

    def _note_uncertainty(self, pending: PendingRequest) -> None:
        """The coordinator may have begun the transaction without our knowing, or may yet do so."""
        if pending.kind in (Kind.ADD_PARTITIONS, Kind.ADD_OFFSETS):
            self._perhaps_begun = True

    def _back_off(self, now_ms: int) -> None:
        self.retry_at_ms = now_ms + self._backoff(self._attempt)
        self._attempt += 1

    # Changes of state

    def _initialize(self, completion: Completion, *, keep_prepared: bool = False) -> None:
        self._initialization = _Initialization(completion, keep_prepared=keep_prepared)
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

    def _end_transaction(self, what: str, *, committed: bool) -> Completion:
        self._check_transactional(what)
        if (found := self._same_call(what)) is not None:
            return found
        if committed or self.state is State.FATAL_ERROR:
            self._raise_if_failed()
        if self.state not in (State.IN_TRANSACTION, State.PREPARED, State.ABORTABLE_ERROR):
            raise IllegalStateError(f"{what} without a transaction: the producer is {self.state.value}", hint=_BEGIN)
        completion = self._last_call = Completion(what)
        self._end = _End(completion, committed)
        if committed:
            self._move(State.COMMITTING)
        else:
            self._move(State.ABORTING)
            self.error = None
            self._forget_what_to_add(TransactionAbortableError(_ABORTED, hint=""))
        self.retry_at_ms = 0
        self._wake()
        return completion

    def _ended(self) -> None:
        """The coordinator has decided the outcome, or never knew of the transaction."""
        end, self._end = self._end, None
        if end is None:
            return
        if self._perhaps_begun and not self.uses_transactions_v2:
            self._must_raise_epoch = True  # what is still on its way must not begin a transaction
        self._forget_what_to_add(TransactionAbortableError(_ABORTED, hint=""))
        self._added = set()
        self._begun = self._perhaps_begun = False
        self.prepared = None
        was_version_2 = self.uses_transactions_v2
        self._heed_transaction_version()
        if self._must_raise_epoch or (self.uses_transactions_v2 and not was_version_2):
            self._must_raise_epoch = False
            self._initialization = _Initialization(end.completion, raises_epoch=True)
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
        if lost and self.state in _SENDING:
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

    def _move(self, target: State) -> None:
        assert target is State.FATAL_ERROR or target in TRANSITIONS[self.state], f"{self.state} → {target}"
        self.state = target
        self._open = set()

    def _wake(self) -> None:
        if self.on_work is not None:
            self.on_work()

    # Misuse and failure, as the user sees them

    def _check_transactional(self, what: str) -> None:
        if not self.is_transactional:
            raise IllegalStateError(f"{what} needs a transactional producer", hint="Set transactional.id.")

    def _same_call(self, what: str) -> Completion | None:
        """The operation that an earlier call began and did not live to see."""
        last = self._last_call
        if last is None or (last.done and not last.abandoned):
            return None
        if last.what != what:
            self._check_no_call_pending(what)
        last.abandoned = False
        return last

    def _check_no_call_pending(self, what: str) -> None:
        last = self._last_call
        if last is not None and (not last.done or last.abandoned):
            raise IllegalStateError(
                f"{what} while {last.what} is under way", hint=f"Call {last.what} again to see its end."
            )

    def _raise_if_failed(self) -> None:
        if self.error is not None:
            self._raise(self._failure())

    def _raise(self, error: KafkaError) -> NoReturn:
        raise error from self.error

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


_BEGIN = "Call begin() first."
_ABORT = "Abort the transaction and run it again."
_ABORTED = "the transaction was aborted before"

_FATAL_TO_PRODUCE = frozenset(
    (
        ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
        ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        ErrorCode.PRODUCER_FENCED,
        ErrorCode.UNSUPPORTED_VERSION,
        ErrorCode.INVALID_PRODUCER_ID_MAPPING,
    )
)

_CERTAINLY_NOT_DONE = frozenset(
    (ErrorCode.CONCURRENT_TRANSACTIONS, ErrorCode.NOT_COORDINATOR, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)
)

_SEVERITY = {
    Outcome.DONE: 0,
    Outcome.RETRY: 1,
    Outcome.MOVED: 2,
    Outcome.REFUSED: 3,
    Outcome.ABORTABLE: 4,
    Outcome.FENCED: 5,
    Outcome.FATAL: 6,
}
