"""Membership of a share group: what is said when, and what each answer means."""

from __future__ import annotations

import pytest

from ottla.client.share.membership import Reaction, ShareMembership
from ottla.core.errors import ErrorCode
from ottla.protocol.messages.share_group_heartbeat import Assignment, ShareGroupHeartbeatResponse, TopicPartitions

TOPIC_ID = bytes(range(16))


def member() -> ShareMembership:
    made = ShareMembership("group", "member", "rack-a", 300_000)
    made.subscribe(frozenset({"b", "a"}), 0)
    return made


def joined() -> ShareMembership:
    made = member()
    made.heartbeat_request()
    assignment = Assignment(topic_partitions=[TopicPartitions(topic_id=TOPIC_ID, partitions=[0, 2])])
    answer = ShareGroupHeartbeatResponse(member_epoch=3, heartbeat_interval_ms=5000, assignment=assignment)
    assert made.answered(answer, 1000, 100) is Reaction.GO_ON
    return made


def test_first_heartbeat_says_everything_and_later_ones_what_changed() -> None:
    made = member()
    first = made.heartbeat_request()
    assert (first.member_epoch, first.rack_id, first.subscribed_topic_names) == (0, "rack-a", ["a", "b"])
    made = joined()
    assert made.assignment == {TOPIC_ID: (0, 2)}
    assert made.next_heartbeat_ms == 6000
    later = made.heartbeat_request()
    assert (later.member_epoch, later.rack_id, later.subscribed_topic_names) == (3, None, None)
    made.subscribe(frozenset({"c"}), 2000)
    assert made.next_heartbeat_ms == 2000
    assert made.heartbeat_request().subscribed_topic_names == ["c"]


def test_unanswered_heartbeat_is_repeated_in_full() -> None:
    made = joined()
    made.heartbeat_request()
    made.unanswered(2000, 100)
    assert made.next_heartbeat_ms == 2100
    assert made.heartbeat_request().subscribed_topic_names == ["a", "b"]


def test_member_without_an_assignment_asks_soon_again() -> None:
    made = member()
    answer = ShareGroupHeartbeatResponse(member_epoch=1, heartbeat_interval_ms=1000)
    delays = []
    for _ in range(5):
        made.answered(answer, 10_000, 100)
        delays.append(made.next_heartbeat_ms - 10_000)
    assert delays == [125, 250, 500, 1000, 1000]


@pytest.mark.parametrize("code", [ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_MEMBER_EPOCH])
def test_fenced_member_drops_its_assignment_and_joins_anew(code: ErrorCode) -> None:
    made = joined()
    assert made.answered(ShareGroupHeartbeatResponse(error_code=code), 2000, 100) is Reaction.GO_ON
    assert made.assignment == {}
    assert made.next_heartbeat_ms == 2000
    request = made.heartbeat_request()
    assert (request.member_epoch, request.subscribed_topic_names) == (0, ["a", "b"])


@pytest.mark.parametrize(
    ("code", "reaction", "next_ms"),
    [
        (ErrorCode.NOT_COORDINATOR, Reaction.FIND_COORDINATOR, 2000),
        (ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, Reaction.GO_ON, 2100),
        (ErrorCode.GROUP_AUTHORIZATION_FAILED, Reaction.FAIL, 2100),
        (ErrorCode.GROUP_MAX_SIZE_REACHED, Reaction.FAIL, 2100),
    ],
)
def test_what_errors_mean(code: ErrorCode, reaction: Reaction, next_ms: int) -> None:
    made = joined()
    assert made.answered(ShareGroupHeartbeatResponse(error_code=code), 2000, 100) is reaction
    assert made.next_heartbeat_ms == next_ms
    assert (made.error is not None) == (reaction is Reaction.FAIL)
    assert made.member_epoch == 3


def test_a_cluster_without_share_groups_is_told_as_such() -> None:
    made = joined()
    refused = ShareGroupHeartbeatResponse(error_code=ErrorCode.UNSUPPORTED_VERSION)
    assert made.answered(refused, 2000, 100) is Reaction.FAIL
    assert "no share groups (KIP-932). Have brokers of Kafka 4.1" in str(made.error)


def test_member_whose_application_is_away_leaves_until_it_is_back() -> None:
    made = joined()
    made.polled(10_000)
    assert not made.poll_expired(309_999)
    assert made.poll_expired(310_000)
    assert made.leave_request().member_epoch == -1
    made.left(until_polled=True)
    assert not made.is_active
    made.polled(400_000)
    assert made.is_active
    assert made.next_heartbeat_ms == 400_000
    assert made.heartbeat_request().member_epoch == 0
