"""Voters added, removed and updated, and the step from a static quorum to a dynamic one."""

from __future__ import annotations

from typing import Any

import pytest

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ids import ZERO_UUID
from ottla.protocol.message import Request
from ottla.protocol.messages.add_raft_voter import AddRaftVoterRequest, AddRaftVoterResponse, Listener
from ottla.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse, SupportedFeatureKey
from ottla.protocol.messages.fetch import FetchRequest
from ottla.protocol.messages.remove_raft_voter import RemoveRaftVoterRequest
from ottla.protocol.messages.update_raft_voter import (
    CurrentLeader,
    KRaftVersionFeature,
    UpdateRaftVoterRequest,
    UpdateRaftVoterResponse,
)
from ottla.protocol.messages.update_raft_voter import Listener as UpdateListener
from ottla.protocol.messages.vote import VoteRequest
from ottla.server.raft.effects import Reply
from ottla.server.raft.quorum_state import QuorumState
from tests.server.raft.replica import (
    CLUSTER,
    LISTENER,
    Replica,
    begin_request,
    directory,
    fetch_response,
    vote_response,
    voter,
)


@pytest.fixture
def leader() -> Replica:
    replica = Replica()
    replica.elect()
    replica.commit(2)
    return replica


def add_request(node_id: int = 4, **other: Any) -> AddRaftVoterRequest:
    fields: dict[str, Any] = {
        "cluster_id": CLUSTER,
        "timeout_ms": 1000,
        "voter_id": node_id,
        "voter_directory_id": directory(node_id),
        "listeners": [Listener(name=LISTENER, host=f"n{node_id}", port=9093)],
        **other,
    }
    return AddRaftVoterRequest(**fields)


def remove_request(node_id: int, voter_directory: bytes | None = None) -> RemoveRaftVoterRequest:
    directory_id = directory(node_id) if voter_directory is None else voter_directory
    return RemoveRaftVoterRequest(cluster_id=CLUSTER, voter_id=node_id, voter_directory_id=directory_id)


def update_request(
    node_id: int, epoch: int = 1, *, port: int = 9999, versions: tuple[int, int] = (0, 1), listener: str = LISTENER
) -> UpdateRaftVoterRequest:
    return UpdateRaftVoterRequest(
        cluster_id=CLUSTER,
        current_leader_epoch=epoch,
        voter_id=node_id,
        voter_directory_id=directory(node_id),
        listeners=[UpdateListener(name=listener, host=f"n{node_id}", port=port)],
        kraft_version_feature=KRaftVersionFeature(min_supported_version=versions[0], max_supported_version=versions[1]),
    )


def versions_response(low: int = 0, high: int = 1) -> ApiVersionsResponse:
    feature = SupportedFeatureKey(name="kraft.version", min_version=low, max_version=high)
    return ApiVersionsResponse(supported_features=[feature])


def _reply(replica: Replica) -> Any:
    (reply,) = [one for one in replica.of(Reply) if isinstance(one.response, AddRaftVoterResponse)]
    return reply.response


def test_voter_is_added_when_it_has_caught_up_and_told_its_versions(leader: Replica) -> None:
    leader.request(leader.fetch(4, max_wait_ms=0))
    assert leader.request(add_request()) is None
    token, _ = leader.sent(ApiVersionsRequest)[4]
    leader.answer(token, versions_response())
    assert leader.core.voters.ids == (1, 2, 3, 4), "it counts at once"
    assert not leader.of(Reply)
    leader.flush()
    leader.commit(2)
    assert leader.core.high_watermark < leader.log.end_offset, "two of four are no majority"
    leader.request(leader.fetch(4, max_wait_ms=0))
    assert _reply(leader).error_code == ErrorCode.NONE
    assert leader.core.high_watermark == leader.log.end_offset


def test_answer_does_not_wait_for_the_commit_when_nobody_wants_that(leader: Replica) -> None:
    leader.request(leader.fetch(4, max_wait_ms=0))
    leader.request(add_request(ack_when_committed=False))
    token, _ = leader.sent(ApiVersionsRequest)[4]
    leader.answer(token, versions_response())
    assert _reply(leader).error_code == ErrorCode.NONE
    assert leader.request(remove_request(3)).error_code == ErrorCode.REQUEST_TIMED_OUT, "that one is under way"
    leader.wait(1999)
    leader.commit(2, 3)
    leader.wait(1)
    response = leader.request(remove_request(3))
    assert response.error_code == ErrorCode.REQUEST_TIMED_OUT
    assert "not committed" in response.error_message


def test_voter_that_lags_is_not_added(leader: Replica) -> None:
    leader.append()
    leader.request(leader.fetch(4, 0, 0, max_wait_ms=0))
    leader.request(add_request())
    leader.answer(leader.sent(ApiVersionsRequest)[4][0], versions_response())
    assert _reply(leader).error_code == ErrorCode.REQUEST_TIMED_OUT
    assert "caught up" in _reply(leader).error_message
    assert leader.core.voters.ids == (1, 2, 3)


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (versions_response(0, 0), ErrorCode.INVALID_REQUEST),
        (ApiVersionsResponse(), ErrorCode.INVALID_REQUEST),
        (ApiVersionsResponse(error_code=ErrorCode.UNSUPPORTED_VERSION), ErrorCode.REQUEST_TIMED_OUT),
        (None, ErrorCode.REQUEST_TIMED_OUT),
    ],
)
def test_voter_that_cannot_take_part_is_not_added(
    leader: Replica, response: ApiVersionsResponse | None, error: ErrorCode
) -> None:
    leader.request(leader.fetch(4, max_wait_ms=0))
    leader.request(add_request())
    token, _ = leader.sent(ApiVersionsRequest)[4]
    if response is None:
        leader.fail(token)
    else:
        leader.answer(token, response)
    assert _reply(leader).error_code == error


def test_additions_are_validated_as_kafka_does(leader: Replica) -> None:
    for request, error in (
        (add_request(cluster_id="other"), ErrorCode.INCONSISTENT_CLUSTER_ID),
        (add_request(voter_id=-1), ErrorCode.INVALID_REQUEST),
        (add_request(voter_directory_id=ZERO_UUID), ErrorCode.INVALID_REQUEST),
        (add_request(listeners=[]), ErrorCode.INVALID_REQUEST),
        (add_request(2), ErrorCode.DUPLICATE_VOTER),
    ):
        response = leader.request(request)
        assert response.error_code == error
        assert response.error_message
        assert "\n" not in response.error_message
    assert Replica().request(add_request()).error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
    fresh = Replica()
    fresh.elect()
    assert "not committed anything" in fresh.request(add_request()).error_message
    static = Replica(1, static=True)
    static.flush()
    assert static.request(add_request()).error_code == ErrorCode.UNSUPPORTED_VERSION


def test_voter_is_removed_and_goes_on_as_an_observer(leader: Replica) -> None:
    leader.commit(3)
    assert leader.request(remove_request(3, directory(9))).error_code == ErrorCode.VOTER_NOT_FOUND
    assert leader.request(remove_request(3)) is None
    assert leader.core.voters.ids == (1, 2)
    leader.flush()
    leader.request(leader.fetch(3, max_wait_ms=0))
    assert not leader.of(Reply)[0].response.error_code
    assert leader.core.high_watermark < leader.log.end_offset
    leader.commit(2)
    errors = [one.response.error_code for one in leader.of(Reply) if not hasattr(one.response, "responses")]
    assert errors == [ErrorCode.NONE]


def test_leader_that_removes_itself_resigns_when_that_is_committed(leader: Replica) -> None:
    assert leader.request(remove_request(1)) is None
    leader.flush()
    leader.commit(2)
    assert leader.role == "leader", "it does not count itself any more"
    leader.commit(3)
    assert leader.role == "resigned"
    leader.wait(10_000)
    assert leader.role == "unattached", "and stands for no election"


def test_removed_voter_stands_for_election_until_its_removal_is_committed() -> None:
    replica = Replica(1, 2)
    replica.elect()
    replica.commit(2)
    assert replica.request(remove_request(1)) is None
    replica.flush()
    replica.wait(4000)
    replica.wait(2000)
    assert replica.role in ("prospective", "candidate")
    for _ in range(2):
        token, _request = replica.sent(VoteRequest)[2]
        replica.answer(token, vote_response(replica.core.epoch, granted=True))
    assert replica.role == "leader"
    assert replica.core.voters.ids == (2,)
    replica.flush()
    replica.commit(2)
    assert replica.role == "resigned"


def test_only_voter_stays(leader: Replica) -> None:
    alone = Replica(1)
    alone.flush()
    response = alone.request(remove_request(1))
    assert response.error_code == ErrorCode.VOTER_NOT_FOUND
    assert "only voter" in response.error_message


def test_change_that_takes_too_long_is_given_up_and_may_still_happen(leader: Replica) -> None:
    assert leader.request(remove_request(3)) is None
    for _ in range(4):
        leader.wait(500)
        replies = [one.response for one in leader.of(Reply)]
    assert [one.error_code for one in replies] == [ErrorCode.REQUEST_TIMED_OUT]
    assert leader.core.voters.ids == (1, 2)


def test_change_under_way_is_refused_when_leadership_ends(leader: Replica) -> None:
    assert leader.request(remove_request(3)) is None
    leader.request(begin_request(2, 9))
    errors = [one.response.error_code for one in leader.of(Reply)]
    assert ErrorCode.NOT_LEADER_OR_FOLLOWER in errors


def test_voter_that_moved_tells_the_leader(leader: Replica) -> None:
    response = leader.request(update_request(2))
    assert response.error_code == ErrorCode.NONE
    assert (response.current_leader.leader_id, response.current_leader.host) == (1, "n1")
    moved = leader.core.voters.get(2)
    assert moved is not None
    assert moved.endpoints == ((LISTENER, "n2", 9999),)
    assert leader.request(update_request(2)).error_code == ErrorCode.REQUEST_TIMED_OUT, "not committed yet"
    leader.flush()
    leader.commit(3)
    end_offset = leader.log.end_offset
    assert leader.request(update_request(2)).error_code == ErrorCode.NONE
    assert leader.log.end_offset == end_offset, "nothing to write"
    for request, error in (
        (update_request(5), ErrorCode.VOTER_NOT_FOUND),
        (update_request(2, 0), ErrorCode.FENCED_LEADER_EPOCH),
        (update_request(2, 2), ErrorCode.UNKNOWN_LEADER_EPOCH),
        (update_request(2, listener="OTHER"), ErrorCode.INVALID_REQUEST),
        (update_request(2, versions=(1, 0)), ErrorCode.INVALID_REQUEST),
        (update_request(2, versions=(0, 0)), ErrorCode.INVALID_REQUEST),
    ):
        assert leader.request(request).error_code == error


def follow(replica: Replica, kind: type[Request]) -> tuple[int, Any]:
    """Answer fetches as leader 2 would, until a request of a kind comes; its token and the request."""
    for _ in range(100):
        found = replica.sent(kind)
        if found:
            return found[2]
        fetches = replica.sent(FetchRequest)
        if 2 in fetches:
            replica.now_ms += 50
            replica.answer(fetches[2][0], fetch_response(2, 1))
    raise AssertionError(f"no {kind.__name__}")


def test_follower_that_moved_tells_the_leader_after_a_while() -> None:
    moved = Replica()
    old = voter(1)._replace(endpoints=((LISTENER, "old", 1),))
    moved.core.history.replay(0, moved.core.voters.with_voter(old).to_record())
    moved.request(begin_request(2, 1))
    token, request = follow(moved, UpdateRaftVoterRequest)
    assert moved.now_ms == 2000
    assert (request.voter_id, request.listeners[0].host, request.current_leader_epoch) == (1, "n1", 1)
    done = UpdateRaftVoterResponse(current_leader=CurrentLeader(leader_id=2, leader_epoch=1, host="n2", port=9093))
    moved.answer(token, done)
    assert moved.sent(FetchRequest)


def test_static_quorum_becomes_dynamic_when_all_voters_have_told_their_directories() -> None:
    replica = Replica(1, 2, static=True)
    replica.elect()
    replica.commit(2)
    epoch = replica.core.epoch
    with pytest.raises(ApiError, match="voter 2 supports 0 to 0"):
        replica.core.upgrade_kraft_version(epoch, 1, replica.now_ms)
    assert replica.request(update_request(2, epoch)).error_code == ErrorCode.NONE
    assert replica.core.kraft_version == 0
    assert replica.core.upgrade_kraft_version(epoch, 1, replica.now_ms, validate_only=True)
    assert replica.core.kraft_version == 0
    assert replica.core.upgrade_kraft_version(epoch, 1, replica.now_ms)
    replica.collect()
    assert replica.core.kraft_version == 1
    assert [one.key.directory_id for one in replica.core.voters] == [directory(1), directory(2)]
    assert not replica.core.upgrade_kraft_version(epoch, 1, replica.now_ms)
    with pytest.raises(ApiError, match="cannot be lowered"):
        replica.core.upgrade_kraft_version(epoch, 0, replica.now_ms)
    replica.flush()
    replica.commit(2)
    assert replica.core.high_watermark == replica.log.end_offset


def test_static_voters_are_in_the_state_file_and_dynamic_ones_are_not() -> None:
    replica = Replica(1, static=True)
    assert replica.core._persisted == QuorumState(leader_id=1, leader_epoch=1, current_voters=(1,), cluster_id=CLUSTER)


@pytest.mark.parametrize("has_former_self", [False, True])
def test_controller_joins_by_itself_and_removes_its_former_self_first(has_former_self: bool) -> None:
    replica = Replica(2, 3, auto_join=True, bootstrap=(2,), state=QuorumState(leader_id=2, leader_epoch=1))
    if has_former_self:
        old = voter(1)._replace(directory_id=directory(77))
        replica.core.history.replay(0, replica.core.voters.with_voter(old).to_record())
    _, request = follow(replica, RemoveRaftVoterRequest if has_former_self else AddRaftVoterRequest)
    assert request.voter_id == 1
    assert request.voter_directory_id == (directory(77) if has_former_self else directory(1))
