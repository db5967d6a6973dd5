"""The KIP-848 member step by step."""

from __future__ import annotations

import pytest

from ottla.client.consumer.group.core import ForgetCoordinator, Resolve
from ottla.client.consumer.group.modern import ModernCore, State
from ottla.client.errors import ConnectionFailedError, UnsupportedVersionError
from ottla.core.errors import ErrorCode
from ottla.protocol.messages.consumer_group_heartbeat import (
    Assignment,
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatRequestTopicPartitions,
    ConsumerGroupHeartbeatResponse,
    ConsumerGroupHeartbeatResponseTopicPartitions,
)
from tests.client.consumer.group.driver import Hand, config, places

T, U = b"t" * 16, b"u" * 16
T01, T2 = places("t", 0, 1), places("t", 2)
CUT = ConnectionFailedError("cut")


def response(
    epoch: int = 1, assignment: dict[bytes, tuple[int, ...]] | None = None, code: ErrorCode = ErrorCode.NONE
) -> ConsumerGroupHeartbeatResponse:
    given = None
    if assignment is not None:
        given = Assignment(
            topic_partitions=[
                ConsumerGroupHeartbeatResponseTopicPartitions(topic_id=topic_id, partitions=list(indexes))
                for topic_id, indexes in assignment.items()
            ]
        )
    return ConsumerGroupHeartbeatResponse(
        error_code=code, member_id="x", member_epoch=epoch, heartbeat_interval_ms=5_000, assignment=given
    )


def owned(request: ConsumerGroupHeartbeatRequest) -> dict[bytes, tuple[int, ...]] | None:
    if request.topic_partitions is None:
        return None
    return {one.topic_id: tuple(one.partitions) for one in request.topic_partitions}


def member(**changes: object) -> Hand:
    hand = Hand(ModernCore, config(**changes))
    hand.core.topics_named({T: "t"})
    hand.subscribe("t")
    return hand


def beats(hand: Hand) -> ConsumerGroupHeartbeatRequest:
    return hand.sends(ConsumerGroupHeartbeatRequest)


def stable(**changes: object) -> Hand:
    """In epoch 1, with t-0 and t-1."""
    hand = member(**changes)
    beats(hand)
    hand.answer(response(1, {T: (0, 1)}))
    hand.tells("assigned", T01)
    assert owned(beats(hand)) == {T: (0, 1)}
    hand.told()
    hand.answer(response(1))
    assert hand.core.is_settled
    assert hand.is_quiet()
    return hand


def test_first_heartbeat_says_everything_and_the_next_ones_only_what_changed() -> None:
    hand = member(rack="r", instance_id="i", remote_assignor="uniform", max_poll_interval_ms=60_000)
    request = beats(hand)
    assert len(request.member_id) == 22
    assert request == ConsumerGroupHeartbeatRequest(
        group_id="g",
        member_id=hand.core.member_id,
        member_epoch=0,
        instance_id="i",
        rack_id="r",
        rebalance_timeout_ms=60_000,
        subscribed_topic_names=["t"],
        server_assignor="uniform",
        topic_partitions=[],
    )
    hand.answer(response(3, {T: (0,)}))
    hand.tells("assigned", places("t", 0))
    hand.told()
    expected = ConsumerGroupHeartbeatRequest(
        group_id="g", member_id=hand.core.member_id, member_epoch=3, instance_id="i"
    )
    expected.topic_partitions = [ConsumerGroupHeartbeatRequestTopicPartitions(topic_id=T, partitions=[0])]
    assert beats(hand) == expected
    hand.answer(response(3))
    # The broker says how often.
    hand.step(4_999)
    assert hand.is_quiet()
    hand.step(1)
    expected.topic_partitions = None
    assert beats(hand) == expected


def test_partitions_are_given_up_then_acknowledged_then_taken() -> None:
    hand = stable()
    hand.step(5_000)
    beats(hand)
    hand.answer(response(1, {T: (0,)}))
    hand.tells("revoked", places("t", 1))
    # Heartbeats go on while the consumer takes its time, and own up to what it still has.
    hand.step(5_000)
    assert owned(beats(hand)) is None
    hand.answer(response(1))
    hand.told()
    hand.tells("assigned", frozenset())
    assert owned(beats(hand)) == {T: (0,)}
    hand.told()
    hand.answer(response(2, {T: (0, 2)}))
    hand.tells("assigned", T2)
    assert owned(beats(hand)) == {T: (0, 2)}
    assert hand.core.epoch == 2


def test_target_that_comes_while_the_consumer_is_busy_is_next() -> None:
    hand = stable()
    hand.step(5_000)
    beats(hand)
    hand.answer(response(2, {T: (0, 1, 2)}))
    hand.tells("assigned", T2)
    beats(hand)
    hand.answer(response(3, {T: (1,)}))
    assert hand.is_quiet()
    hand.told()
    hand.tells("revoked", places("t", 0, 2))


def test_topics_without_a_name_wait_and_the_rest_is_taken() -> None:
    hand = member()
    beats(hand)
    hand.answer(response(1, {T: (0,), U: (4,)}))
    assert hand.pops(Resolve).topic_ids == {U}
    hand.tells("assigned", places("t", 0))
    hand.told()
    assert owned(beats(hand)) == {T: (0,)}
    hand.answer(response(1))
    assert not hand.core.is_settled
    hand.core.topics_named({T: "t", U: "u"})
    hand.step()
    hand.tells("assigned", places("u", 4))
    assert owned(beats(hand)) == {T: (0,), U: (4,)}


def test_topic_made_again_under_its_name_is_given_up_and_taken() -> None:
    hand = stable()
    again = b"a" * 16
    hand.core.topics_named({again: "t"})
    hand.step(5_000)
    beats(hand)
    hand.answer(response(2, {again: (0,)}))
    hand.tells("revoked", T01)
    hand.told()
    hand.tells("assigned", places("t", 0))
    assert owned(beats(hand)) == {again: (0,)}


@pytest.mark.parametrize("code", [ErrorCode.FENCED_MEMBER_EPOCH, ErrorCode.UNKNOWN_MEMBER_ID])
def test_fenced_member_loses_everything_and_joins_under_the_same_id(code: ErrorCode) -> None:
    hand = stable()
    member_id = hand.core.member_id
    hand.step(5_000)
    beats(hand)
    hand.answer(response(0, code=code))
    hand.tells("lost", T01)
    assert hand.is_quiet()
    hand.told()
    request = beats(hand)
    assert (request.member_epoch, request.member_id, owned(request)) == (0, member_id, {})
    assert request.subscribed_topic_names == ["t"]


def test_lost_answer_is_followed_by_a_heartbeat_that_says_everything() -> None:
    hand = stable()
    hand.step(5_000)
    beats(hand)
    hand.fails(CUT)
    assert hand.is_quiet()
    hand.step(150)
    request = beats(hand)
    assert (request.member_epoch, owned(request), request.subscribed_topic_names) == (1, {T: (0, 1)}, ["t"])
    assert hand.core.holdings


@pytest.mark.parametrize(
    ("code", "forgets"),
    [
        (ErrorCode.NOT_COORDINATOR, True),
        (ErrorCode.COORDINATOR_NOT_AVAILABLE, True),
        (ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, False),
    ],
)
def test_coordinator_that_moves_costs_nothing(code: ErrorCode, forgets: bool) -> None:
    hand = stable()
    hand.step(5_000)
    beats(hand)
    hand.answer(response(0, code=code))
    if forgets:
        hand.pops(ForgetCoordinator)
    hand.step(150)
    assert beats(hand).member_epoch == 1
    assert hand.core.holdings.keys() == T01


@pytest.mark.parametrize(
    "code",
    [
        ErrorCode.UNRELEASED_INSTANCE_ID,
        ErrorCode.FENCED_INSTANCE_ID,
        ErrorCode.UNSUPPORTED_ASSIGNOR,
        ErrorCode.INVALID_REGULAR_EXPRESSION,
        ErrorCode.GROUP_MAX_SIZE_REACHED,
        ErrorCode.GROUP_AUTHORIZATION_FAILED,
        ErrorCode.INVALID_REQUEST,
    ],
)
def test_refusals_that_cannot_be_helped_end_the_membership(code: ErrorCode) -> None:
    hand = stable()
    hand.step(5_000)
    beats(hand)
    hand.answer(response(0, code=code))
    hand.failed_with(code)
    hand.tells("lost", T01)
    hand.told()
    hand.step(100_000)
    assert hand.is_quiet()
    assert hand.core.is_out


def test_broker_without_the_protocol_ends_the_membership() -> None:
    hand = member()
    beats(hand)
    hand.fails(UnsupportedVersionError("too old"))
    assert isinstance(hand.core.failure, UnsupportedVersionError)
    assert "group.protocol=classic" in str(hand.core.failure)


def test_broker_that_has_the_protocol_switched_off_ends_the_membership() -> None:
    hand = member()
    beats(hand)
    hand.answer(response(0, code=ErrorCode.UNSUPPORTED_VERSION))
    assert isinstance(hand.core.failure, UnsupportedVersionError)
    assert "switched off. Set group.protocol=classic" in str(hand.core.failure)


def test_regex_is_said_and_taken_back() -> None:
    hand = Hand(ModernCore, config())
    hand.subscribe(regex="t.*")
    request = beats(hand)
    assert (request.subscribed_topic_names, request.subscribed_topic_regex) == ([], "t.*")
    assert hand.last is not None
    assert hand.last.min_version == 1
    hand.answer(response(1, {}))
    hand.subscribe("t")
    request = beats(hand)
    assert (request.subscribed_topic_names, request.subscribed_topic_regex) == (["t"], "")
    hand.answer(response(2, {}))
    hand.subscribe("t", "u")
    request = beats(hand)
    assert (request.subscribed_topic_names, request.subscribed_topic_regex) == (["t", "u"], None)


@pytest.mark.parametrize(
    ("instance", "leave", "epoch"),
    [(None, None, -1), (None, True, -1), (None, False, None), ("i", None, -2), ("i", True, -1), ("i", False, -2)],
)
def test_close_gives_up_and_leaves_as_asked(instance: str | None, leave: bool | None, epoch: int | None) -> None:
    hand = stable(instance_id=instance)
    hand.core.close(leave)
    hand.step()
    hand.tells("revoked", T01)
    hand.told()
    if epoch is not None:
        request = beats(hand)
        assert (request.member_epoch, request.instance_id) == (epoch, instance)
        assert not hand.core.is_out
        hand.answer(response(epoch))
    assert hand.is_quiet()
    assert hand.core.is_out


def test_user_who_does_not_poll_leaves_until_he_does() -> None:
    hand = stable(max_poll_interval_ms=8_000)
    hand.step(5_000)
    beats(hand)
    hand.answer(response(1))
    hand.step(3_000)
    assert beats(hand).member_epoch == -1
    hand.tells("lost", T01)
    hand.told()
    hand.step(50_000)
    assert hand.is_quiet()
    hand.core.user_polled(hand.now_ms)
    hand.step()
    assert beats(hand).member_epoch == 0


def test_unsubscribing_while_joining_leaves() -> None:
    hand = member()
    beats(hand)
    joining = hand.last
    hand.unsubscribe()
    assert beats(hand).member_epoch == -1
    leaving = hand.last
    hand.answer(response(1, {T: (0,)}), to=joining)
    assert not hand.core.holdings
    hand.answer(response(-1), to=leaving)
    assert hand.core.is_out
    assert isinstance(hand.core, ModernCore)
    assert hand.core.state is State.OUT
