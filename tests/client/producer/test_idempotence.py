"""What an idempotent producer sends when, and what each refusal of a batch means to it."""

from __future__ import annotations

import pytest

from ottla.client.errors import (
    AuthorizationError,
    FatalProducerError,
    KafkaTimeoutError,
    RecordTooLargeError,
    TransactionAbortableError,
)
from ottla.client.producer.sequences import SEQUENCES
from ottla.client.producer.transaction_messages import Kind
from ottla.client.producer.transaction_state import State
from ottla.client.producer.transactions import ProducerState
from ottla.core.errors import ErrorCode
from tests.client.producer.talking import A, B, Batch, Talk


def established(talk: Talk) -> Talk:
    """The broker has accepted a first batch of one record."""
    talk.state.acknowledged(talk.send(), 0)
    return talk


@pytest.fixture
def talk() -> Talk:
    return established(Talk(None).ready())


def test_the_producer_id_is_asked_for_by_the_first_who_wants_to_send() -> None:
    talk = Talk(None)
    woken = []
    talk.state.on_work = lambda: woken.append(True)
    assert talk.state.next_request(0) is None
    talk.state.record_appended(A)
    assert not talk.state.may_send(A)
    assert woken
    pending = talk.pending()
    assert (pending.kind, pending.target.value, pending.max_version) == (Kind.INIT_PRODUCER_ID, "any", 5)
    assert talk.state.next_request(0) is None, "one at a time"
    talk.answer(pending=pending)
    assert talk.state.may_send(A)
    assert talk.send().numbers == (7, 0, 0)
    assert talk.state.produce_max_version is None


def test_the_first_batch_goes_alone_then_five_are_on_their_way() -> None:
    talk = Talk(None).ready()
    first = talk.send(records_count=3)
    assert talk.state.must_hold_back(A)
    assert not talk.state.must_hold_back(B)
    talk.state.acknowledged(first, 0)
    sent = [talk.send(records_count=2) for _ in range(5)]
    assert [batch.base_sequence for batch in sent] == [3, 5, 7, 9, 11]
    assert talk.state.must_hold_back(A)
    talk.state.acknowledged(sent[0], 3)
    assert not talk.state.must_hold_back(A)


def test_what_came_back_goes_first_and_with_the_same_numbers(talk: Talk) -> None:
    first, second = talk.send(), talk.send()
    assert talk.state.failed(second, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER).action == "retry"
    assert not talk.state.may_resend(second)
    assert talk.state.must_hold_back(A)
    assert talk.state.failed(first, ErrorCode.NETWORK_EXCEPTION).action == "retry"
    assert talk.state.may_resend(first)
    talk.state.stamp(first)
    assert (first.base_sequence, second.base_sequence) == (1, 2)
    talk.state.acknowledged(first, 1)
    assert talk.state.may_resend(second)
    talk.state.stamp(second)
    assert not talk.state.must_hold_back(A)


def test_a_window_does_not_grow_when_answers_overtake_each_other(talk: Talk) -> None:
    sent = [talk.send() for _ in range(5)]
    for batch in sent[1:]:
        talk.state.acknowledged(batch, 2)
    assert talk.state.must_hold_back(A), "the broker would forget the first"
    assert talk.state.failed(sent[0], ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER).action == "succeeded"
    assert not talk.state.must_hold_back(A)


@pytest.mark.parametrize(
    ("code", "action"),
    [
        (ErrorCode.NOT_LEADER_OR_FOLLOWER, "retry"),
        (ErrorCode.REQUEST_TIMED_OUT, "retry"),
        (ErrorCode.DUPLICATE_SEQUENCE_NUMBER, "succeeded"),
        (ErrorCode.INVALID_RECORD, "fail"),
        (ErrorCode.TOPIC_AUTHORIZATION_FAILED, "fail"),
        (ErrorCode.INVALID_PRODUCER_EPOCH, "fail"),
        (999, "fail"),
    ],
)
def test_an_answer_means(talk: Talk, code: int, action: str) -> None:
    batch = talk.send()
    verdict = talk.state.failed(batch, code, message="why")
    assert verdict.action == action
    assert (verdict.error is not None) == (action == "fail")
    assert talk.state.state is State.READY
    assert talk.state.refusal() is None
    if verdict.error is not None:
        assert verdict.error.message == "why"
        assert talk.state.producer_epoch == 1
        assert talk.send().numbers == (7, 1, 0)


@pytest.mark.parametrize("code", [ErrorCode.CLUSTER_AUTHORIZATION_FAILED, ErrorCode.UNSUPPORTED_VERSION])
def test_an_answer_is_the_end(talk: Talk, code: ErrorCode) -> None:
    waits, batch = talk.send(), talk.send()
    assert talk.state.failed(batch, code).action == "fail"
    assert talk.state.state is State.FATAL_ERROR
    assert not talk.state.may_send(A)
    assert isinstance(talk.state.refusal(), FatalProducerError)
    with pytest.raises(FatalProducerError, match="Close it"):
        talk.state.record_appended(A)
    assert talk.state.failed(waits, ErrorCode.NETWORK_EXCEPTION).action == "fail"


def test_a_refused_batch_gives_those_after_it_new_numbers_once_all_are_back(talk: Talk) -> None:
    refused, second, third = talk.send(), talk.send(), talk.send()
    verdict = talk.state.failed(refused, ErrorCode.MESSAGE_TOO_LARGE)
    assert isinstance(verdict.error, RecordTooLargeError)
    assert not talk.state.may_send(A)
    assert talk.state.may_send(B)
    assert talk.state.failed(second, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER).action == "retry"
    assert second.numbers == (7, 0, 2), "the third is on the wire"
    assert talk.state.failed(third, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER).action == "retry"
    assert [second.numbers, third.numbers] == [(7, 1, 0), (7, 1, 1)]
    assert talk.state.may_resend(second)
    assert talk.send(B).numbers == (7, 1, 0)


def test_what_goes_before_a_refused_batch_keeps_its_numbers(talk: Talk) -> None:
    first, refused, third = talk.send(), talk.send(), talk.send()
    talk.state.failed(first, ErrorCode.NETWORK_EXCEPTION)
    talk.state.failed(refused, ErrorCode.INVALID_RECORD)
    talk.state.failed(third, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER)
    assert talk.state.may_send(A)
    talk.state.stamp(first)
    assert first.numbers == (7, 0, 1), "it may be in the log"
    talk.state.acknowledged(first, 1)
    assert third.numbers == (7, 1, 0)


def test_a_gap_is_one_when_a_batch_that_went_alone_does_not_fit(talk: Talk) -> None:
    batch = talk.send()
    assert talk.state.failed(batch, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER).action == "retry"
    assert batch.numbers == (7, 1, 0), "records were lost in the log"


def test_an_expired_batch_is_resolved_by_a_later_one(talk: Talk) -> None:
    expired, later = talk.send(), talk.send()
    talk.state.expired(expired, KafkaTimeoutError("late"))
    assert talk.state.must_hold_back(A)
    talk.state.acknowledged(later, 2)
    assert not talk.state.must_hold_back(A)
    assert talk.send().numbers == (7, 0, 3)


def test_an_expired_batch_that_nothing_resolves_raises_the_epoch(talk: Talk) -> None:
    expired = talk.send()
    talk.state.failed(expired, ErrorCode.NETWORK_EXCEPTION)
    talk.state.expired(expired, KafkaTimeoutError("late"))
    assert talk.send().numbers == (7, 1, 0)
    talk.state.acknowledged(expired, 1)


def test_what_followed_an_expired_batch_and_may_be_written_only_expires(talk: Talk) -> None:
    expired, uncertain = talk.send(), talk.send()
    for batch in (expired, uncertain):
        talk.state.failed(batch, ErrorCode.NETWORK_EXCEPTION)
    talk.state.expired(expired, KafkaTimeoutError("late"))
    talk.state.stamp(uncertain)
    assert talk.state.failed(uncertain, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER).action == "retry"
    assert not talk.state.may_send(A)
    assert uncertain.numbers == (7, 0, 2)
    talk.state.expired(uncertain, KafkaTimeoutError("late"))
    assert talk.send().numbers == (7, 1, 0)


def test_a_forgotten_producer_begins_anew_when_its_records_are_deleted(talk: Talk) -> None:
    batch = talk.send()
    assert talk.state.failed(batch, ErrorCode.UNKNOWN_PRODUCER_ID, -1).action == "retry"
    assert batch.numbers == (7, 0, 1), "the log start offset is not known"
    talk.state.stamp(batch)
    assert talk.state.failed(batch, ErrorCode.UNKNOWN_PRODUCER_ID, 100).action == "retry"
    assert batch.numbers == (7, 1, 0)


def test_epochs_that_are_used_up_mean_a_new_id() -> None:
    talk = Talk(None)
    talk.epoch = 32766
    established(talk.ready())
    old = talk.send(B)
    assert talk.state.failed(talk.send(A), ErrorCode.INVALID_RECORD).action == "fail"
    assert not talk.state.may_send(A)
    assert talk.state.state is State.INITIALIZING
    talk.state.failed(old, ErrorCode.NETWORK_EXCEPTION)
    pending = talk.pending()
    talk.state.answered(pending, type(talk.response(pending, 0))(producer_id=8, producer_epoch=0), 0)
    assert talk.send(A).numbers == (8, 0, 0)
    assert talk.state.may_resend(old)
    talk.state.stamp(old)
    assert old.numbers == (7, 32767, 0)
    assert talk.state.must_hold_back(B), "two ids are not mixed"


def test_numbers_go_round(talk: Talk) -> None:
    numbers = talk.state._sequences.partitions[A]
    numbers.next_sequence = numbers.accepted = SEQUENCES - 1
    first, second = talk.send(records_count=3), talk.send()
    assert (first.base_sequence, second.base_sequence) == (SEQUENCES - 1, 2)
    talk.state.acknowledged(first, 0)
    talk.state.acknowledged(second, 3)
    assert numbers.accepted == numbers.next_sequence == 3


def test_the_parts_of_a_split_batch_take_its_numbers(talk: Talk) -> None:
    first, large, third = talk.send(), talk.send(records_count=10), talk.send()
    parts = [Batch(A, 4), Batch(A, 6)]
    talk.state.split(large, [*parts])
    assert [part.base_sequence for part in parts] == [2, 6]
    assert talk.state.failed(third, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER).action == "retry"
    talk.state.acknowledged(first, 1)
    for batch in (*parts, third):
        assert talk.state.may_resend(batch)
        talk.state.stamp(batch)
        talk.state.acknowledged(batch, 2)
    assert talk.send().base_sequence == 13


def test_not_authorized_fails_what_waits_and_the_next_tries_again() -> None:
    talk = Talk(None)
    talk.state.may_send(A)
    talk.answer(ErrorCode.CLUSTER_AUTHORIZATION_FAILED)
    refusal = talk.state.refusal()
    assert isinstance(refusal, AuthorizationError)
    assert "Ask for an ACL (WRITE) on the topic" in str(refusal)
    assert talk.state.refusal() is None
    assert talk.state.next_request(talk.now_ms) is None
    talk.ready()


def test_requests_are_repeated_with_growing_waits() -> None:
    talk = Talk(None)
    talk.state.may_send(A)
    for wait_ms in (100, 200, 400):
        pending = talk.pending()
        talk.state.request_failed(pending, KafkaTimeoutError("no answer"), talk.now_ms)
        assert talk.state.retry_at_ms == talk.now_ms + wait_ms
        assert talk.state.next_request(talk.now_ms + wait_ms - 1) is None
        talk.now_ms += wait_ms
    talk.answer()
    assert talk.state.may_send(A)


def test_without_idempotence_nothing_is_stamped() -> None:
    state = ProducerState(enable_idempotence=False)
    batch = Batch()
    state.record_appended(A)
    assert state.may_send(A)
    assert not state.must_hold_back(A)
    state.stamp(batch)
    assert batch.numbers == (-1, -1, -1)
    assert state.failed(batch, ErrorCode.NETWORK_EXCEPTION).action == "retry"
    assert state.failed(batch, ErrorCode.NETWORK_EXCEPTION, may_retry=False).action == "fail"
    assert state.failed(batch, ErrorCode.INVALID_RECORD).action == "fail"
    assert state.may_resend(batch)
    state.expired(batch, KafkaTimeoutError("late"))
    state.drop(batch)
    state.acknowledged(batch, 3)


# In a transaction


@pytest.mark.parametrize(
    ("code", "state", "action"),
    [
        (ErrorCode.NETWORK_EXCEPTION, State.IN_TRANSACTION, "retry"),
        (ErrorCode.CONCURRENT_TRANSACTIONS, State.IN_TRANSACTION, "retry"),
        (ErrorCode.DUPLICATE_SEQUENCE_NUMBER, State.IN_TRANSACTION, "succeeded"),
        (ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, State.ABORTABLE_ERROR, "fail"),
        (ErrorCode.INVALID_PRODUCER_EPOCH, State.ABORTABLE_ERROR, "fail"),
        (ErrorCode.INVALID_TXN_STATE, State.ABORTABLE_ERROR, "fail"),
        (ErrorCode.TRANSACTION_ABORTABLE, State.ABORTABLE_ERROR, "fail"),
        (ErrorCode.INVALID_RECORD, State.ABORTABLE_ERROR, "fail"),
        (ErrorCode.TOPIC_AUTHORIZATION_FAILED, State.ABORTABLE_ERROR, "fail"),
        (ErrorCode.PRODUCER_FENCED, State.FATAL_ERROR, "fail"),
        (ErrorCode.INVALID_PRODUCER_ID_MAPPING, State.FATAL_ERROR, "fail"),
        (ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, State.FATAL_ERROR, "fail"),
    ],
)
def test_an_answer_to_a_batch_of_a_transaction_means(code: ErrorCode, state: State, action: str) -> None:
    talk = Talk().in_transaction(A)
    batch = talk.send()
    assert batch.transactional
    assert talk.state.failed(batch, code).action == action
    assert talk.state.state is state
    assert (talk.state.refusal() is None) == (action != "fail")
    talk.state.check_invariants()


def test_nothing_is_sent_again_when_the_transaction_is_lost() -> None:
    talk = Talk().in_transaction(A)
    first = talk.send()
    talk.state.acknowledged(first, 0)
    second, third, fourth = talk.send(), talk.send(), talk.send()
    assert talk.state.failed(second, ErrorCode.NETWORK_EXCEPTION).action == "retry"
    talk.state.failed(third, ErrorCode.INVALID_RECORD)
    assert not talk.state.may_send(A)
    assert isinstance(talk.state.refusal(), TransactionAbortableError)
    talk.state.drop(second)
    completion = talk.state.abort()
    assert talk.state.next_request(talk.now_ms) is None, "the fourth is on the wire"
    assert talk.state.failed(fourth, ErrorCode.NETWORK_EXCEPTION).action == "fail"
    talk.answer()
    assert completion.done
    assert completion.error is None
    assert talk.asked == [Kind.INIT_PRODUCER_ID, Kind.END]
    assert talk.state.state is State.READY


def test_a_forgotten_producer_goes_on_in_its_transaction_when_its_records_are_deleted() -> None:
    talk = Talk(version=1).in_transaction(A)
    talk.state.acknowledged(talk.send(), 10)
    batch = talk.send()
    assert talk.state.failed(batch, ErrorCode.UNKNOWN_PRODUCER_ID, 11).action == "retry"
    assert batch.numbers == (7, 0, 0)
    assert talk.state.state is State.IN_TRANSACTION
    talk.state.stamp(batch)
    talk.state.acknowledged(batch, 11)
    lost = talk.send()
    assert talk.state.failed(lost, ErrorCode.UNKNOWN_PRODUCER_ID, 11).action == "fail"
    assert talk.state.state is State.ABORTABLE_ERROR


def test_a_batch_that_expires_loses_the_transaction() -> None:
    for sent in (True, False):
        talk = Talk(version=1).in_transaction(A)
        batch = talk.send() if sent else Batch()
        talk.state.expired(batch, KafkaTimeoutError("late"))
        assert talk.state.state is State.ABORTABLE_ERROR
        talk.state.abort()
        talk.answer()
        if sent:
            pending = talk.pending()
            assert pending.kind is Kind.INIT_PRODUCER_ID
            assert pending.min_version == 3
            talk.answer(pending=pending)
        assert talk.state.state is State.READY
        assert talk.state.producer_epoch == int(sent)
