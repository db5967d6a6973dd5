"""The classic member step by step."""

from __future__ import annotations

import pytest

from ottla.client.consumer.assignors.assignor import MemberSubscription
from ottla.client.consumer.group.classic import ClassicCore, State
from ottla.client.consumer.group.core import ForgetCoordinator, Wanted
from ottla.client.consumer.group.embedded import decode_assignment, decode_subscription, encode_subscription
from ottla.client.errors import (
    AuthorizationError,
    ConnectionFailedError,
    FencedInstanceIdError,
    UnsupportedVersionError,
)
from ottla.core.errors import ErrorCode
from ottla.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from ottla.protocol.messages.join_group import JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember
from ottla.protocol.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse
from ottla.protocol.messages.sync_group import SyncGroupRequest, SyncGroupResponse
from tests.client.consumer.group.driver import Hand, assigned, config, places

T01, T2 = places("t", 0, 1), places("t", 2)
CUT = ConnectionFailedError("cut")


def joined(generation: int = 1, *, leader: str = "other", name: str = "range", **more: object) -> JoinGroupResponse:
    return JoinGroupResponse(
        generation_id=generation, protocol_type="consumer", protocol_name=name, leader=leader, member_id="me", **more
    )


def member(*strategies: str, **changes: object) -> Hand:
    hand = Hand(ClassicCore, config(*strategies, **changes))
    hand.subscribe("t")
    return hand


def stable(*strategies: str, **changes: object) -> Hand:
    """A follower that has t-0 and t-1."""
    hand = member(*strategies, **changes)
    name = strategies[0] if strategies else "range"
    hand.sends(JoinGroupRequest)
    hand.answer(joined(name=name))
    hand.sends(SyncGroupRequest)
    hand.answer(SyncGroupResponse(assignment=assigned("t", 0, 1)))
    hand.tells("assigned", T01)
    hand.told()
    assert hand.core.is_settled
    return hand


def beat(hand: Hand, code: ErrorCode = ErrorCode.NONE) -> None:
    hand.step(3_000)
    request = hand.sends(HeartbeatRequest)
    assert (request.member_id, request.generation_id) == ("me", hand.core.epoch)
    hand.answer(HeartbeatResponse(error_code=code))


def state(hand: Hand) -> State:
    assert isinstance(hand.core, ClassicCore)
    return hand.core.state


def test_first_join_is_asked_for_a_member_id() -> None:
    hand = member("cooperative-sticky", "range", rack="r1")
    request = hand.sends(JoinGroupRequest)
    assert (request.member_id, request.group_instance_id, request.protocol_type) == ("", None, "consumer")
    assert [protocol.name for protocol in request.protocols] == ["cooperative-sticky", "range"]
    subscription = decode_subscription(request.protocols[0].metadata)
    assert subscription == MemberSubscription(("t",), b"\xff\xff\xff\xff", (), -1, "r1")
    hand.answer(JoinGroupResponse(error_code=ErrorCode.MEMBER_ID_REQUIRED, member_id="me"))
    assert hand.sends(JoinGroupRequest).member_id == "me"
    # A join is waited for as long as the slowest member may take.
    assert hand.last is not None
    assert hand.last.timeout_ms == 300_000 + 5_000


def test_leader_assigns_from_everybodys_subscription_and_watches_the_topics() -> None:
    hand = member()
    hand.sends(JoinGroupRequest)
    subscriptions = {"me": ("t",), "other": ("t", "u")}
    hand.answer(
        joined(
            leader="me",
            members=[
                JoinGroupResponseMember(member_id=name, metadata=encode_subscription(MemberSubscription(topics)))
                for name, topics in subscriptions.items()
            ],
        )
    )
    assert state(hand) is State.DESCRIBING
    hand.describes(t=4, u=1)
    request = hand.sends(SyncGroupRequest)
    assert (request.protocol_type, request.protocol_name, request.generation_id) == ("consumer", "range", 1)
    given = {one.member_id: decode_assignment(one.assignment) for one in request.assignments}
    assert given == {"me": places("t", 0, 1), "other": places("t", 2, 3) | places("u", 0)}
    hand.answer(SyncGroupResponse(assignment=assigned("t", 0, 1)))
    hand.tells("assigned", T01)
    hand.told()
    hand.topics(t=4, u=1)
    assert hand.is_quiet()
    hand.topics(t=5, u=1)
    hand.tells("revoked", T01)


def test_eager_member_gives_up_everything_before_it_joins_again() -> None:
    hand = stable()
    beat(hand, ErrorCode.REBALANCE_IN_PROGRESS)
    hand.tells("revoked", T01)
    assert state(hand) is State.PREPARING
    # The consumer takes its time: the session goes on.
    beat(hand, ErrorCode.REBALANCE_IN_PROGRESS)
    hand.told()
    request = hand.sends(JoinGroupRequest)
    assert decode_subscription(request.protocols[0].metadata).owned == ()
    assert request.member_id == "me"


def test_cooperative_member_keeps_what_it_has_and_joins_again_when_it_gave_something_up() -> None:
    hand = stable("cooperative-sticky")
    beat(hand, ErrorCode.REBALANCE_IN_PROGRESS)
    subscription = decode_subscription(hand.sends(JoinGroupRequest).protocols[0].metadata)
    assert (set(subscription.owned), subscription.generation, subscription.user_data) == (T01, 1, b"\0\0\0\1")
    hand.answer(joined(2, name="cooperative-sticky"))
    hand.sends(SyncGroupRequest)
    hand.answer(SyncGroupResponse(assignment=assigned("t", 0, 2)))
    hand.tells("revoked", places("t", 1))
    hand.told()
    hand.tells("assigned", T2)
    hand.told()
    assert hand.core.holdings.keys() == places("t", 0, 2)
    subscription = decode_subscription(hand.sends(JoinGroupRequest).protocols[0].metadata)
    assert (set(subscription.owned), subscription.generation) == (places("t", 0, 2), 2)


def test_holding_has_a_number_of_its_own_every_time() -> None:
    hand = stable()
    first = dict(hand.core.holdings)
    beat(hand, ErrorCode.REBALANCE_IN_PROGRESS)
    hand.tells("revoked", T01)
    hand.told()
    assert not hand.core.holdings
    hand.sends(JoinGroupRequest)
    hand.answer(joined(2))
    hand.sends(SyncGroupRequest)
    hand.answer(SyncGroupResponse(assignment=assigned("t", 0, 1)))
    assert all(hand.core.holdings[place] > number for place, number in first.items())


@pytest.mark.parametrize("code", [ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.ILLEGAL_GENERATION])
@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
def test_member_that_is_out_loses_everything_and_joins_anew(code: ErrorCode, strategy: str) -> None:
    hand = stable(strategy)
    beat(hand, code)
    hand.tells("lost", T01)
    assert hand.core.epoch == -1
    hand.told()
    request = hand.sends(JoinGroupRequest)
    assert request.member_id == ("" if code is ErrorCode.UNKNOWN_MEMBER_ID else "me")
    assert decode_subscription(request.protocols[0].metadata).owned == ()


def test_session_without_an_answered_heartbeat_is_over() -> None:
    hand = stable("cooperative-sticky", session_timeout_ms=9_000)
    beat(hand)
    hand.step(3_000)
    hand.sends(HeartbeatRequest)
    hand.fails(CUT)
    hand.step(200)
    hand.sends(HeartbeatRequest)
    hand.step(5_799)
    assert hand.is_quiet()
    hand.step(1)
    hand.tells("lost", T01)
    hand.told()
    assert hand.sends(JoinGroupRequest).member_id == "me"


def test_commit_that_was_refused_ends_the_membership_of_its_generation_only() -> None:
    hand = stable()
    hand.core.commit_refused(ErrorCode.UNKNOWN_MEMBER_ID, 0, hand.now_ms)
    hand.step()
    assert hand.core.is_settled
    hand.core.commit_refused(ErrorCode.UNKNOWN_MEMBER_ID, 1, hand.now_ms)
    hand.step()
    hand.tells("lost", T01)


@pytest.mark.parametrize("code", [ErrorCode.NOT_COORDINATOR, ErrorCode.COORDINATOR_NOT_AVAILABLE])
def test_coordinator_that_moved_is_looked_up_again(code: ErrorCode) -> None:
    hand = member()
    hand.sends(JoinGroupRequest)
    hand.answer(JoinGroupResponse(error_code=code, protocol_name="", leader="", member_id=""))
    hand.pops(ForgetCoordinator)
    hand.step(150)
    hand.sends(JoinGroupRequest)
    hand.answer(joined())
    hand.sends(SyncGroupRequest)
    hand.answer(SyncGroupResponse(error_code=code))
    hand.pops(ForgetCoordinator)
    hand.step(150)
    hand.sends(JoinGroupRequest)
    hand = stable()
    beat(hand, code)
    hand.pops(ForgetCoordinator)
    assert hand.core.epoch == 1
    hand.step(150)
    hand.sends(HeartbeatRequest)


@pytest.mark.parametrize("code", [ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, ErrorCode.REBALANCE_IN_PROGRESS])
def test_join_that_comes_too_early_is_repeated(code: ErrorCode) -> None:
    hand = member()
    for wait_ms in (130, 260, 500):
        hand.sends(JoinGroupRequest)
        hand.answer(JoinGroupResponse(error_code=code, protocol_name="", leader="", member_id=""))
        assert hand.is_quiet()
        hand.step(wait_ms)
    hand.sends(JoinGroupRequest)


@pytest.mark.parametrize(
    "code",
    [
        ErrorCode.FENCED_INSTANCE_ID,
        ErrorCode.GROUP_AUTHORIZATION_FAILED,
        ErrorCode.GROUP_MAX_SIZE_REACHED,
        ErrorCode.INCONSISTENT_GROUP_PROTOCOL,
        ErrorCode.INVALID_GROUP_ID,
        ErrorCode.INVALID_SESSION_TIMEOUT,
    ],
)
def test_refusals_that_cannot_be_helped_end_the_membership(code: ErrorCode) -> None:
    hand = member()
    hand.sends(JoinGroupRequest)
    hand.answer(JoinGroupResponse(error_code=code, protocol_name="", leader="", member_id=""))
    hand.failed_with(code)
    assert hand.core.is_out
    hand.step(100_000)
    assert hand.is_quiet()


def test_static_member_that_is_fenced_loses_everything() -> None:
    hand = stable(instance_id="i")
    beat(hand, ErrorCode.FENCED_INSTANCE_ID)
    hand.failed_with(ErrorCode.FENCED_INSTANCE_ID)
    hand.tells("lost", T01)
    assert isinstance(hand.core.failure, FencedInstanceIdError)


def test_what_the_network_refuses_for_good_ends_the_membership() -> None:
    for error in (AuthorizationError("no", code=30), UnsupportedVersionError("no")):
        hand = member()
        hand.sends(JoinGroupRequest)
        hand.fails(error)
        assert hand.core.failure is error


def test_lost_answers_are_followed_by_a_join() -> None:
    hand = member()
    hand.sends(JoinGroupRequest)
    hand.fails(CUT)
    assert hand.is_quiet()
    hand.step(150)
    hand.sends(JoinGroupRequest)
    hand.answer(joined())
    hand.sends(SyncGroupRequest)
    late = hand.last
    hand.fails(CUT)
    hand.step(150)
    hand.sends(JoinGroupRequest)
    # What comes after it was given up changes nothing.
    hand.answer(SyncGroupResponse(assignment=assigned("t", 0)), to=late)
    assert hand.is_quiet()


def test_sync_in_a_rebalance_joins_again_and_keeps_cooperative_holdings() -> None:
    hand = stable("cooperative-sticky")
    beat(hand, ErrorCode.REBALANCE_IN_PROGRESS)
    hand.sends(JoinGroupRequest)
    hand.answer(joined(2, name="cooperative-sticky"))
    hand.sends(SyncGroupRequest)
    hand.answer(SyncGroupResponse(error_code=ErrorCode.REBALANCE_IN_PROGRESS))
    subscription = decode_subscription(hand.sends(JoinGroupRequest).protocols[0].metadata)
    assert set(subscription.owned) == T01


def test_user_who_does_not_poll_leaves_until_he_does() -> None:
    hand = stable(max_poll_interval_ms=10_000)
    for _ in range(3):
        beat(hand)
    hand.step(1_000)
    hand.actions.sort(key=lambda action: str(type(action)), reverse=True)
    hand.tells("lost", T01)
    assert hand.sends(LeaveGroupRequest).members[0].member_id == "me"
    hand.told()
    hand.step(50_000)
    assert hand.is_quiet()
    assert hand.core.user_polled(hand.now_ms)
    hand.step()
    assert hand.sends(JoinGroupRequest).member_id == ""


def test_static_user_who_does_not_poll_says_nothing() -> None:
    hand = stable(max_poll_interval_ms=2_000, instance_id="i")
    hand.step(2_000)
    hand.tells("lost", T01)
    hand.told()
    assert hand.is_quiet()


def test_close_gives_up_and_leaves() -> None:
    hand = stable()
    hand.core.close(None)
    hand.step()
    hand.tells("revoked", T01)
    hand.told()
    request = hand.sends(LeaveGroupRequest)
    assert [(one.member_id, one.group_instance_id) for one in request.members] == [("me", None)]
    assert not hand.core.is_out
    hand.answer(LeaveGroupResponse())
    assert hand.core.is_out


def test_an_older_broker_is_told_the_leaving_member_in_the_older_form() -> None:
    hand = stable()
    hand.core.close(None)
    hand.step()
    hand.tells("revoked", T01)
    hand.told()
    hand.sends(LeaveGroupRequest)
    hand.fails(UnsupportedVersionError("too old"))
    request = hand.sends(LeaveGroupRequest)
    assert (request.member_id, request.members) == ("me", [])
    assert not hand.core.is_out
    hand.fails(UnsupportedVersionError("much too old"))
    assert hand.core.is_out
    assert hand.is_quiet()


@pytest.mark.parametrize(
    ("instance", "leave", "says_so"), [("i", None, False), ("i", True, True), (None, False, False)]
)
def test_close_leaves_as_asked(instance: str | None, leave: bool | None, says_so: bool) -> None:
    hand = stable(instance_id=instance)
    hand.core.close(leave)
    hand.step()
    hand.tells("revoked", T01)
    hand.told()
    if says_so:
        assert hand.sends(LeaveGroupRequest).members[0].group_instance_id == instance
        hand.fails(CUT)
    assert hand.core.is_out
    assert hand.is_quiet()


def test_unsubscribing_leaves_and_subscribing_joins_again() -> None:
    hand = stable()
    hand.unsubscribe()
    hand.tells("revoked", T01)
    hand.told()
    hand.sends(LeaveGroupRequest)
    hand.subscribe("u")
    assert hand.is_quiet()
    hand.answer(LeaveGroupResponse())
    request = hand.sends(JoinGroupRequest)
    assert request.member_id == ""
    assert decode_subscription(request.protocols[0].metadata).topics == ("u",)


def test_changed_subscription_joins_again_and_gives_up_other_topics_first() -> None:
    hand = stable("cooperative-sticky")
    hand.subscribe("u")
    hand.tells("revoked", T01)
    hand.told()
    subscription = decode_subscription(hand.sends(JoinGroupRequest).protocols[0].metadata)
    assert (subscription.topics, subscription.owned) == (("u",), ())


def test_assignment_for_an_earlier_subscription_is_not_taken() -> None:
    hand = member()
    hand.sends(JoinGroupRequest)
    hand.answer(joined())
    hand.sends(SyncGroupRequest)
    hand.subscribe("u")
    hand.answer(SyncGroupResponse(assignment=assigned("t", 0, 1)))
    assert decode_subscription(hand.sends(JoinGroupRequest).protocols[0].metadata).topics == ("u",)
    assert not hand.core.holdings


def test_topics_of_a_pattern_may_be_assigned_before_they_are_seen() -> None:
    hand = Hand(ClassicCore, config())
    hand.core.subscribe(Wanted(frozenset(("t",)), accepts=lambda topic: topic.startswith("t")), hand.now_ms)
    hand.step()
    hand.sends(JoinGroupRequest)
    hand.answer(joined())
    hand.sends(SyncGroupRequest)
    hand.answer(SyncGroupResponse(assignment=assigned("t-new", 0)))
    hand.tells("assigned", places("t-new", 0))


def test_static_leader_that_comes_back_assigns_nothing_and_still_watches() -> None:
    hand = member(instance_id="i")
    assert hand.sends(JoinGroupRequest).group_instance_id == "i"
    metadata = encode_subscription(MemberSubscription(("t",)))
    everybody = [JoinGroupResponseMember(member_id="me", group_instance_id="i", metadata=metadata)]
    hand.answer(joined(5, leader="me", members=everybody, skip_assignment=True))
    hand.describes(t=2)
    assert hand.sends(SyncGroupRequest).assignments == []
    hand.answer(SyncGroupResponse(assignment=assigned("t", 0, 1)))
    hand.tells("assigned", T01)
    hand.told()
    hand.topics(t=2)
    assert hand.core.is_settled
    hand.topics(t=3)
    hand.tells("revoked", T01)


def test_asking_for_a_rebalance_joins_again() -> None:
    hand = stable("cooperative-sticky")
    hand.core.enforce_rebalance()
    hand.step()
    hand.sends(JoinGroupRequest)
