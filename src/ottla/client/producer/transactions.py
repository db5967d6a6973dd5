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

from collections.abc import Mapping
from typing import NamedTuple, NoReturn

from ottla.client.errors import (
    ClientClosedError,
    IllegalStateError,
    KafkaError,
    TransactionAbortableError,
    error_for,
)
from ottla.client.model import ConsumerGroupMetadata, OffsetAndMetadata
from ottla.client.producer.completion import Completion
from ottla.client.producer.sequences import SequencedBatch
from ottla.client.producer.transaction_dialogue import TransactionDialogue
from ottla.client.producer.transaction_state import (
    ABORTED,
    SENDING,
    Ending,
    OffsetsCommit,
    PreparedTransaction,
    State,
)
from ottla.core.errors import ERRORS, ErrorCode
from ottla.core.ids import TopicPartition

PRODUCE_VERSION_1 = 11
"""The last version of Produce in which brokers expect partitions to have been added by the client."""


class Verdict(NamedTuple):
    """What becomes of a batch that the broker refused."""

    action: str
    """ "retry": send it again; "fail": the records failed with `error`; "succeeded": they were in the log before."""
    error: KafkaError | None = None


RETRY = Verdict("retry")
SUCCEEDED = Verdict("succeeded")


class ProducerState(TransactionDialogue):
    """See the module."""

    # For the sender

    @property
    def produce_max_version(self) -> int | None:
        """The version of Produce not to exceed; None: any."""
        return PRODUCE_VERSION_1 if self.is_transactional and not self.uses_transactions_v2 else None

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
            if self.state not in SENDING:
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
        is_over = self.state is State.FATAL_ERROR or (self.is_transactional and self.state not in SENDING)
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

    # For the user

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
        self._check_transactional("begin_transaction()")
        self._check_no_call_pending("begin_transaction()")
        self._raise_if_failed()
        if self.state is State.UNINITIALIZED:
            raise IllegalStateError(
                "begin_transaction() before init_transactions()", hint="Call init_transactions() once, first."
            )
        if self.state is not State.READY:
            raise IllegalStateError(
                f"begin_transaction() needs the last transaction to be over: the producer is {self.state.value}"
            )
        self._move(State.IN_TRANSACTION)

    def add_offsets(
        self, offsets: Mapping[TopicPartition, OffsetAndMetadata], group: ConsumerGroupMetadata
    ) -> Completion:
        """Makes a consumer's position part of the transaction (KIP-447)."""
        what = "send_offsets_to_transaction()"
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
                OffsetsCommit(completion, dict(offsets), dict(offsets), group, group_added=self.uses_transactions_v2)
            )
            self._wake()
        else:
            completion.complete()
        return completion

    def prepare(self) -> PreparedTransaction:
        """First phase of a two-phase commit, after a flush: from now on the transaction can only be ended (KIP-939)."""
        self._check_transactional("prepare_transaction()")
        self._check_no_call_pending("prepare_transaction()")
        self._raise_if_failed()
        if not self._enable_2pc:
            raise IllegalStateError("prepare_transaction() needs transaction.two.phase.commit.enable=true")
        if self.state is not State.IN_TRANSACTION:
            raise IllegalStateError(
                f"prepare_transaction() outside of a transaction: the producer is {self.state.value}", hint=_BEGIN
            )
        if self._sequences.in_flight or self._offsets or self._new or self._adding:
            raise IllegalStateError(
                "prepare_transaction() while records or offsets are on their way", hint="Call flush() before."
            )
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
        return self._end_transaction("commit_transaction()", committed=True)

    def abort(self) -> Completion:
        """Ends the transaction as if it had not been; records that were not sent yet are refused (`refusal`)."""
        return self._end_transaction(_ABORT_CALL, committed=False)

    def _end_transaction(self, what: str, *, committed: bool) -> Completion:
        self._check_transactional(what)
        if (found := self._same_call(what)) is not None:
            return found
        if committed or self.state is State.FATAL_ERROR:
            self._raise_if_failed()
        if self.state not in (State.IN_TRANSACTION, State.PREPARED, State.ABORTABLE_ERROR):
            raise IllegalStateError(f"{what} without a transaction: the producer is {self.state.value}", hint=_BEGIN)
        completion = self._last_call = Completion(what)
        self._end = Ending(completion, committed)
        if committed:
            self._move(State.COMMITTING)
        else:
            self._move(State.ABORTING)
            self.error = None
            self._forget_what_to_add(TransactionAbortableError(ABORTED, hint=""))
        self.retry_at_ms = 0
        self._wake()
        return completion

    def closed(self, error: KafkaError | None = None) -> None:
        """The producer closes: whoever waits gets `error`, and nothing is asked or sent any more."""
        self._fail(error or ClientClosedError("the producer was closed before this was done"))

    @property
    def ending(self) -> Completion | None:
        """The commit or abort that is under way."""
        return self._end.completion if self._end is not None else None

    @property
    def abort_is_unseen(self) -> bool:
        """Whether who called `abort` has given up waiting, and may not know how it ended."""
        last = self._last_call
        return last is not None and last.abandoned and last.what == _ABORT_CALL

    # Misuse

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


_BEGIN = "Do it inside `with producer.transaction():`, or call begin_transaction() first."
_ABORT_CALL = "abort_transaction()"

_FATAL_TO_PRODUCE = frozenset(
    (
        ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
        ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        ErrorCode.PRODUCER_FENCED,
        ErrorCode.UNSUPPORTED_VERSION,
        ErrorCode.INVALID_PRODUCER_ID_MAPPING,
    )
)
