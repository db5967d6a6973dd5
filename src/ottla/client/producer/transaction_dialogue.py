"""What is asked of the coordinators, and what their answers change. See `transactions`."""

from __future__ import annotations

from collections.abc import Iterable

from ottla.client.errors import KafkaError, UnsupportedVersionError
from ottla.client.producer import transaction_messages as messages
from ottla.client.producer.transaction_messages import Kind, Outcome, PendingRequest
from ottla.client.producer.transaction_state import SENDING, PreparedTransaction, State, TransactionState
from ottla.core.errors import ErrorCode
from ottla.protocol.message import Response
from ottla.protocol.messages.add_offsets_to_txn import AddOffsetsToTxnResponse
from ottla.protocol.messages.add_partitions_to_txn import AddPartitionsToTxnResponse
from ottla.protocol.messages.end_txn import EndTxnResponse
from ottla.protocol.messages.init_producer_id import InitProducerIdResponse
from ottla.protocol.messages.txn_offset_commit import TxnOffsetCommitResponse

FIRST_ADD_RETRY_MS = 20
"""How soon to ask again when the last transaction is still being finished: usually a matter of milliseconds."""
_TOO_OLD_FOR_MEMBERS = (
    "Give send_offsets_to_transaction() the group's id instead of a consumer, with a transactional.id for each input "
    "partition; or have brokers of Kafka 2.5 or newer."
)


class TransactionDialogue(TransactionState):
    """Requests that follow from the state, one at a time."""

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
        if pending.kind is Kind.COMMIT_OFFSETS and error.code is ErrorCode.UNSUPPORTED_VERSION:
            error = UnsupportedVersionError(error.message, hint=_TOO_OLD_FOR_MEMBERS)
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
        found = self._to_add(self.transactional_id) if self.state in SENDING else None
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
        if self.state in SENDING:
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

    def _worst(self, pending: PendingRequest, codes: Iterable[int]) -> int:
        """The code that decides: fatal before abortable before those that are asked again."""
        found = [code for code in codes if code != ErrorCode.NONE]
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
