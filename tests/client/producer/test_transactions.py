"""The user's calls and the coordinators' answers: tables of what is allowed, what follows, and what it is called."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ottla.client.errors import (
    AuthorizationError,
    ClientClosedError,
    CommitFailedError,
    ConnectionFailedError,
    FatalProducerError,
    IllegalStateError,
    KafkaError,
    KafkaTimeoutError,
    ProducerFencedError,
    TransactionAbortableError,
    UnsupportedVersionError,
)
from ottla.client.model import ConsumerGroupMetadata, OffsetAndMetadata
from ottla.client.producer.transaction_messages import Kind, Outcome, Target, outcome_of
from ottla.client.producer.transaction_state import TRANSITIONS, PreparedTransaction, State
from ottla.core.errors import ErrorCode
from ottla.protocol.messages.end_txn import EndTxnRequest
from ottla.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from ottla.protocol.messages.txn_offset_commit import TxnOffsetCommitRequest
from tests.client.producer.talking import A, B, Batch, Talk, added, committed

OFFSETS = {A: OffsetAndMetadata(5, "note", 3), B: OffsetAndMetadata(6)}
GROUP = ConsumerGroupMetadata("g", 4, "m", "static")

CALLS: dict[str, Callable[[Talk], object]] = {
    "init": lambda talk: talk.state.init_transactions(),
    "begin": lambda talk: talk.state.begin(),
    "send": lambda talk: talk.state.record_appended(A),
    "offsets": lambda talk: talk.state.add_offsets(OFFSETS, GROUP),
    "commit": lambda talk: talk.state.commit(),
    "abort": lambda talk: talk.state.abort(),
}


def talk_in(state: State) -> Talk:
    """A producer in a state, with nothing under way that a call could take up."""
    talk = Talk()
    if state is State.UNINITIALIZED:
        return talk
    if state is State.READY:
        return talk.ready()
    talk.in_transaction(A)
    if state is State.ABORTABLE_ERROR:
        talk.state.failed(talk.send(), ErrorCode.INVALID_RECORD)
    elif state is State.FATAL_ERROR:
        talk.state.failed(talk.send(), ErrorCode.INVALID_PRODUCER_ID_MAPPING)
    assert talk.state.state is state
    return talk


ALLOWED = {
    State.UNINITIALIZED: {"init"},
    State.READY: {"begin"},
    State.IN_TRANSACTION: {"send", "offsets", "commit", "abort"},
    State.ABORTABLE_ERROR: {"abort"},
    State.FATAL_ERROR: set(),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("state", ALLOWED)
def test_a_call_is_allowed_or_says_what_to_do(state: State, call: str) -> None:
    talk = talk_in(state)
    if call in ALLOWED[state]:
        CALLS[call](talk)
    else:
        with pytest.raises(KafkaError) as raised:
            CALLS[call](talk)
        expected: type[KafkaError] = IllegalStateError
        if state is State.FATAL_ERROR:
            expected = FatalProducerError
        elif state is State.ABORTABLE_ERROR:
            expected = TransactionAbortableError
        assert type(raised.value) is expected
        assert not raised.value.retriable
        assert "\n" not in str(raised.value)
    talk.state.check_invariants()


def test_transitions_lead_somewhere_and_every_state_is_reached() -> None:
    assert set(TRANSITIONS) == set(State)
    reached = {State.UNINITIALIZED, State.FATAL_ERROR}
    for _ in State:
        reached |= {target for state in reached for target in TRANSITIONS[state]}
    assert reached == set(State)
    assert all(TRANSITIONS[state] for state in State if state is not State.FATAL_ERROR)


def test_only_a_transactional_producer_has_transactions() -> None:
    talk = Talk(None).ready()
    for call in ("init", "begin", "offsets", "commit", "abort"):
        with pytest.raises(IllegalStateError, match=r"Set transactional\.id"):
            CALLS[call](talk)


# What is asked, and in which order


def test_version_1_adds_everything_before_it_is_used() -> None:
    talk = Talk(version=1).ready()
    talk.state.begin()
    talk.state.record_appended(A)
    talk.state.record_appended(B)
    assert not talk.state.may_send(A)
    assert talk.state.produce_max_version == 11
    offsets = talk.state.add_offsets(OFFSETS, GROUP)
    pending = talk.pending()
    assert pending.max_version == 3
    assert [topic.name for topic in pending.request.v3_and_below_topics] == ["a", "b"]  # type: ignore[attr-defined]
    talk.answer(pending=pending)
    batch = talk.send()
    talk.answer()
    pending = talk.pending()
    assert (pending.target, pending.key, pending.min_version, pending.max_version) == (
        Target.GROUP_COORDINATOR,
        "g",
        3,
        4,
    )
    assert isinstance(pending.request, TxnOffsetCommitRequest)
    assert pending.request.generation_id_or_member_epoch == 4
    assert (pending.request.member_id, pending.request.group_instance_id) == ("m", "static")
    assert [topic.partitions[0].committed_leader_epoch for topic in pending.request.topics] == [3, -1]
    talk.answer(pending=pending)
    assert offsets.done
    completion = talk.state.commit()
    assert talk.state.next_request(talk.now_ms) is None, "a batch is on its way"
    talk.state.acknowledged(batch, 0)
    pending = talk.pending()
    assert pending.max_version == 4
    talk.answer(pending=pending)
    assert completion.done
    assert talk.asked[1:] == [Kind.ADD_PARTITIONS, Kind.ADD_OFFSETS, Kind.COMMIT_OFFSETS, Kind.END]
    assert talk.state.producer_epoch == 0
    talk.state.begin()
    talk.state.record_appended(A)
    assert not talk.state.may_send(A), "again in the next one"
    talk.answer()
    assert talk.send().base_sequence == 1, "the epoch is the same"


def test_version_2_adds_nothing_and_raises_the_epoch() -> None:
    talk = Talk().in_transaction(A)
    talk.state.acknowledged(talk.send(), 0)
    talk.state.add_offsets(OFFSETS, ConsumerGroupMetadata("g"))
    pending = talk.pending()
    assert (pending.min_version, pending.max_version) == (None, 5)
    talk.answer(pending=pending)
    talk.state.commit()
    pending = talk.pending()
    assert isinstance(pending.request, EndTxnRequest)
    assert (pending.max_version, pending.request.committed, pending.request.producer_epoch) == (5, True, 0)
    talk.answer(pending=pending)
    assert talk.asked[1:] == [Kind.COMMIT_OFFSETS, Kind.END]
    talk.state.begin()
    talk.state.record_appended(A)
    assert talk.send().numbers == (7, 1, 0)
    assert talk.state.produce_max_version is None


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("committed", [True, False])
def test_a_transaction_of_nothing_asks_nobody(version: int, committed: bool) -> None:
    talk = Talk(version=version).in_transaction()
    talk.state.record_appended(A)
    if committed:
        talk = Talk(version=version).in_transaction()
    completion = talk.state.commit() if committed else talk.state.abort()
    assert talk.state.next_request(talk.now_ms) is None
    assert completion.done
    assert talk.state.state is State.READY


def test_a_lost_answer_to_an_addition_is_cleaned_up_by_the_abort() -> None:
    talk = Talk(version=1).ready()
    talk.state.begin()
    talk.state.record_appended(A)
    talk.state.may_send(A)
    talk.state.request_failed(talk.pending(), ConnectionFailedError("lost"), talk.now_ms)
    completion = talk.state.abort()
    talk.answer(ErrorCode.INVALID_TXN_STATE)  # it never came
    assert not completion.done, "it may come yet"
    talk.answer()
    assert completion.error is None
    assert talk.asked[2:] == [Kind.END, Kind.INIT_PRODUCER_ID]
    assert talk.state.producer_epoch == 1


def test_the_first_addition_is_repeated_soon_while_the_last_transaction_ends() -> None:
    talk = Talk(version=1).ready()
    talk.state.begin()
    talk.state.record_appended(A)
    talk.state.may_send(A)
    talk.answer(ErrorCode.CONCURRENT_TRANSACTIONS)
    assert talk.state.retry_at_ms == talk.now_ms + 20
    talk.now_ms += 20
    talk.answer()
    assert talk.state.may_send(A)


def test_only_what_was_not_committed_is_committed_again() -> None:
    talk = Talk().in_transaction()
    completion = talk.state.add_offsets(OFFSETS, GROUP)
    pending = talk.pending()
    response = committed({A: 0, B: ErrorCode.COORDINATOR_LOAD_IN_PROGRESS})
    assert not talk.state.answered(pending, response, talk.now_ms)
    talk.now_ms += 100
    pending = talk.pending()
    assert [topic.name for topic in pending.request.topics] == ["b"]  # type: ignore[attr-defined]
    assert talk.answer(ErrorCode.REQUEST_TIMED_OUT, pending=pending), "look for the coordinator"
    talk.now_ms += 200
    talk.answer()
    assert completion.done


# What the coordinators' answers lead to


AGAIN, ABORT, END, FENCED = "again", "abortable", "fatal", "fenced"


@pytest.mark.parametrize(
    ("kind", "code", "expected"),
    [
        *((kind, ErrorCode.NOT_COORDINATOR, AGAIN) for kind in Kind),
        *((kind, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, AGAIN) for kind in Kind),
        *((kind, ErrorCode.CONCURRENT_TRANSACTIONS, AGAIN) for kind in Kind),
        *((kind, ErrorCode.PRODUCER_FENCED, FENCED) for kind in Kind),
        *((kind, ErrorCode.INVALID_PRODUCER_EPOCH, FENCED) for kind in Kind),
        *((kind, ErrorCode.INVALID_PRODUCER_ID_MAPPING, END) for kind in Kind),
        *((kind, 999, END) for kind in Kind),
        *((kind, ErrorCode.TRANSACTION_ABORTABLE, ABORT) for kind in Kind if kind is not Kind.INIT_PRODUCER_ID),
        *((kind, ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, END) for kind in list(Kind)[1:]),
        (Kind.INIT_PRODUCER_ID, ErrorCode.INVALID_TRANSACTION_TIMEOUT, END),
        (Kind.ADD_PARTITIONS, ErrorCode.TOPIC_AUTHORIZATION_FAILED, ABORT),
        (Kind.ADD_PARTITIONS, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, AGAIN),
        (Kind.ADD_PARTITIONS, ErrorCode.INVALID_TXN_STATE, END),
        (Kind.ADD_OFFSETS, ErrorCode.GROUP_AUTHORIZATION_FAILED, ABORT),
        (Kind.COMMIT_OFFSETS, ErrorCode.GROUP_AUTHORIZATION_FAILED, ABORT),
        (Kind.COMMIT_OFFSETS, ErrorCode.FENCED_INSTANCE_ID, ABORT),
        (Kind.COMMIT_OFFSETS, ErrorCode.ILLEGAL_GENERATION, ABORT),
        (Kind.COMMIT_OFFSETS, ErrorCode.UNKNOWN_MEMBER_ID, ABORT),
        (Kind.COMMIT_OFFSETS, ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT, END),
        (Kind.END, ErrorCode.INVALID_TXN_STATE, ABORT),
        (Kind.END, ErrorCode.UNKNOWN_PRODUCER_ID, ABORT),
    ],
)
def test_an_answer_leads_to(kind: Kind, code: int, expected: str) -> None:
    talk = Talk(version=1)
    completion = talk.state.init_transactions()
    if kind is not Kind.INIT_PRODUCER_ID:
        talk.answer()
        talk.state.begin()
        talk.state.record_appended(A)
        talk.state.may_send(A)
    if kind in (Kind.ADD_OFFSETS, Kind.COMMIT_OFFSETS):
        completion = talk.state.add_offsets(OFFSETS, GROUP)
    elif kind is Kind.END:
        completion = talk.state.commit()
    pending = talk.pending()
    while pending.kind is not kind:
        talk.answer(pending=pending)
        pending = talk.pending()
    before = talk.state.state
    moved = talk.answer(code, pending=pending)
    assert moved == (code == ErrorCode.NOT_COORDINATOR)
    after = {AGAIN: before, ABORT: State.ABORTABLE_ERROR, END: State.FATAL_ERROR, FENCED: State.FATAL_ERROR}[expected]
    assert talk.state.state is after
    if expected == AGAIN:
        talk.now_ms += 1000
        assert talk.pending().kind is kind
    elif kind is not Kind.ADD_PARTITIONS:
        assert completion.done
        assert completion.error is not None
        assert isinstance(completion.error, ProducerFencedError) == (expected == FENCED)
        assert completion.error.hint or kind is Kind.COMMIT_OFFSETS
    if expected in (END, FENCED):
        with pytest.raises(ProducerFencedError if expected == FENCED else FatalProducerError):
            talk.state.abort()
    if expected == ABORT:
        with pytest.raises(TransactionAbortableError, match="Abort the transaction"):
            talk.state.commit()
        talk.state.abort()
        while (asked := talk.state.next_request(talk.now_ms)) is not None:
            talk.answer(pending=asked)
        assert talk.state.state is State.READY


def test_every_code_has_an_outcome_for_every_request() -> None:
    for kind in Kind:
        for code in ErrorCode:
            assert (outcome_of(kind, code) is Outcome.DONE) == (code == ErrorCode.NONE)


@pytest.mark.parametrize("code", [ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, ErrorCode.TRANSACTION_ABORTABLE])
def test_a_refused_initialization_may_be_tried_again(code: ErrorCode) -> None:
    talk = Talk()
    first = talk.state.init_transactions()
    talk.answer(code)
    assert first.error is not None
    assert first.error.code is code
    with pytest.raises(IllegalStateError, match="init_transactions"):
        talk.state.begin()
    second = talk.state.init_transactions()
    assert second is not first
    talk.answer()
    assert second.error is None
    talk.state.begin()


def test_the_worst_answer_of_several_counts() -> None:
    talk = Talk(version=1).ready()
    talk.state.begin()
    for tp in (A, B):
        talk.state.record_appended(tp)
        talk.state.may_send(tp)
    pending = talk.pending()
    codes = {A: ErrorCode.TOPIC_AUTHORIZATION_FAILED, B: ErrorCode.OPERATION_NOT_ATTEMPTED}
    talk.state.answered(pending, added({tp: int(code) for tp, code in codes.items()}), talk.now_ms)
    assert isinstance(talk.state.error, AuthorizationError)
    assert "not authorized for a" in talk.state.error.message
    completion = talk.state.abort()
    assert talk.state.next_request(talk.now_ms) is None
    assert completion.done


def test_an_abort_that_cannot_be_is_the_end() -> None:
    talk = Talk().in_transaction(A)
    talk.state.acknowledged(talk.send(), 0)
    completion = talk.state.abort()
    talk.answer(ErrorCode.TRANSACTION_ABORTABLE)
    assert isinstance(completion.error, FatalProducerError)
    assert talk.state.state is State.FATAL_ERROR


def test_a_transaction_that_took_too_long_says_so_and_can_be_aborted() -> None:
    talk = Talk(transaction_timeout_ms=1234).in_transaction(A)
    talk.state.acknowledged(talk.send(), 0)
    completion = talk.state.commit()
    talk.answer(ErrorCode.INVALID_TXN_STATE)
    assert isinstance(completion.error, TransactionAbortableError)
    assert "transaction.timeout.ms=1234" in str(completion.error)
    talk.state.abort()
    talk.answer()
    talk.state.begin()


def test_who_waits_for_offsets_hears_why_they_were_not_committed() -> None:
    talk = Talk().in_transaction(A)
    first, second = (talk.state.add_offsets({tp: OffsetAndMetadata(1)}, GROUP) for tp in (A, B))
    talk.answer(ErrorCode.ILLEGAL_GENERATION)
    assert isinstance(first.error, CommitFailedError)
    assert isinstance(second.error, TransactionAbortableError)


def test_a_coordinator_that_may_not_be_asked() -> None:
    talk = Talk().in_transaction(A)
    completion = talk.state.add_offsets(OFFSETS, GROUP)
    error = AuthorizationError("no", code=ErrorCode.GROUP_AUTHORIZATION_FAILED)
    talk.state.request_failed(talk.pending(), error, talk.now_ms, sent=False)
    assert completion.error is error
    assert talk.state.state is State.ABORTABLE_ERROR
    talk = Talk()
    completion = talk.state.init_transactions()
    talk.state.request_failed(talk.pending(), KafkaError("no TLS", retriable=False), talk.now_ms, sent=False)
    assert isinstance(completion.error, FatalProducerError)


def test_brokers_that_do_not_know_members_take_offsets_of_a_group_id() -> None:
    talk = Talk(version=1).in_transaction()
    talk.state.add_offsets(OFFSETS, GROUP)
    talk.answer()
    talk.state.request_failed(talk.pending(), UnsupportedVersionError("too old"), talk.now_ms)
    assert "the group's id instead of a consumer" in str(talk.state.error)


# Calls whose time ran out


def test_a_call_that_timed_out_is_taken_up_by_the_same_call() -> None:
    talk = Talk().in_transaction(A)
    talk.state.acknowledged(talk.send(), 0)
    assert talk.state.ending is None
    completion = talk.state.commit()
    completion.abandoned = True  # what the shell does
    assert talk.state.ending is completion
    for call in ("begin", "abort", "send", "offsets"):
        with pytest.raises(IllegalStateError, match=r"Call commit_transaction\(\) again"):
            CALLS[call](talk)
    assert talk.state.commit() is completion
    completion.abandoned = True
    talk.answer()
    assert completion.done
    with pytest.raises(IllegalStateError, match=r"Call commit_transaction\(\) again"):
        talk.state.begin()
    assert talk.state.commit() is completion
    talk.state.begin()


def test_offsets_that_timed_out_are_taken_up_by_the_same_call() -> None:
    talk = Talk().in_transaction()
    first = talk.state.add_offsets(OFFSETS, GROUP)
    assert talk.state.add_offsets(OFFSETS, GROUP) is not first
    first.abandoned = True
    assert talk.state.add_offsets(OFFSETS, GROUP) is first
    assert talk.state.add_offsets({}, GROUP).done


def test_a_late_answer_after_the_end_changes_nothing() -> None:
    talk = Talk(version=1).in_transaction()
    completion = talk.state.add_offsets(OFFSETS, GROUP)
    pending = talk.pending()
    aborted = talk.state.abort()
    assert isinstance(completion.error, TransactionAbortableError)
    talk.answer(pending=pending)
    talk.answer()
    assert aborted.error is None
    assert talk.asked[1:] == [Kind.ADD_OFFSETS, Kind.END], "the group had been added"

    talk.state.begin()
    talk.state.record_appended(A)
    talk.state.may_send(A)
    pending = talk.pending()
    talk.state.closed()
    talk.answer(pending=pending)
    assert talk.state.next_request(talk.now_ms) is None


def test_closing_ends_every_wait() -> None:
    talk = Talk()
    waits = [talk.state.init_transactions()]
    talk.state.closed()
    assert isinstance(waits[0].error, ClientClosedError)
    talk = Talk().in_transaction(A)
    waits = [talk.state.add_offsets(OFFSETS, GROUP), talk.state.commit()]
    talk.state.closed(ClientClosedError("closed"))
    assert all(isinstance(completion.error, ClientClosedError) for completion in waits)
    with pytest.raises(ClientClosedError):
        talk.state.begin()


def test_the_reason_is_the_cause_of_what_is_raised() -> None:
    talk = Talk().in_transaction(A)
    talk.state.expired(Batch(), KafkaTimeoutError("2 minutes are over"))
    with pytest.raises(TransactionAbortableError, match="2 minutes are over") as raised:
        talk.state.commit()
    assert isinstance(raised.value.__cause__, KafkaTimeoutError)


# Two-phase commit (KIP-939)


def two_phase() -> Talk:
    talk = Talk(enable_2pc=True)
    talk.state.init_transactions()
    pending = talk.pending()
    assert isinstance(pending.request, InitProducerIdRequest)
    assert (pending.min_version, pending.request.enable_2pc, pending.request.transaction_timeout_ms) == (
        6,
        True,
        2**31 - 1,
    )
    talk.answer(pending=pending)
    talk.state.begin()
    talk.state.record_appended(A)
    return talk


@pytest.mark.parametrize("decided", [True, False])
def test_a_prepared_transaction_waits_for_the_decision(decided: bool) -> None:
    talk = two_phase()
    batch = talk.send()
    with pytest.raises(IllegalStateError, match="flush"):
        talk.state.prepare()
    talk.state.acknowledged(batch, 0)
    prepared = talk.state.prepare()
    assert PreparedTransaction.parse(str(prepared)) == prepared == (7, 0)
    for call in ("send", "offsets", "begin"):
        with pytest.raises(IllegalStateError):
            CALLS[call](talk)
    completion = talk.state.complete(prepared if decided else PreparedTransaction(1, 2))
    pending = talk.pending()
    assert isinstance(pending.request, EndTxnRequest)
    assert pending.request.committed == decided
    talk.answer(pending=pending)
    assert completion.done
    with pytest.raises(IllegalStateError):
        talk.state.complete(prepared)


def test_a_prepared_transaction_is_found_after_a_restart() -> None:
    talk = Talk(enable_2pc=True)
    talk.state.init_transactions(keep_prepared=True)
    response = InitProducerIdResponse(
        producer_id=7, producer_epoch=5, ongoing_txn_producer_id=7, ongoing_txn_producer_epoch=4
    )
    talk.state.answered(talk.pending(), response, talk.now_ms)
    assert talk.state.state is State.PREPARED
    assert str(talk.state.prepared) == "7:4"
    completion = talk.state.complete(PreparedTransaction.parse("7:4"))
    talk.answer()
    assert completion.done


def test_prepare_needs_the_setting_and_a_text_of_ours() -> None:
    talk = Talk().in_transaction(A)
    with pytest.raises(IllegalStateError, match=r"transaction\.two\.phase\.commit\.enable"):
        talk.state.prepare()
    for text in ("", "7", "7:", "a:b", ":3"):
        with pytest.raises(IllegalStateError):
            PreparedTransaction.parse(text)
