"""Elections: pre-votes, votes, who wins, who gives up."""

from __future__ import annotations

import pytest

from ottla.core.errors import ErrorCode
from ottla.core.ids import ZERO_UUID
from ottla.protocol.messages.end_quorum_epoch import EndQuorumEpochRequest, EndQuorumEpochResponse
from ottla.protocol.messages.fetch import FetchRequest
from ottla.protocol.messages.raft_data import LeaderChangeMessage
from ottla.protocol.messages.vote import VoteRequest
from ottla.records.control import read_control_message
from ottla.records.record import read_records
from ottla.server.raft.effects import Flush, HighWatermark, LeaderChange, Persist, Reply, Send
from ottla.server.raft.metadata_log import LeaderAndEpoch
from ottla.server.raft.quorum_state import QuorumState
from tests.server.raft.model_log import ModelLog
from tests.server.raft.replica import (
    Replica,
    about,
    begin_request,
    directory,
    end_request,
    fetch_response,
    vote_request,
    vote_response,
)


def test_quorum_of_one_leads_at_once_without_timers_or_network() -> None:
    replica = Replica(1)
    assert replica.role == "leader"
    assert replica.core.deadline_ms is None
    assert [type(one) for one in replica.effects] == [Persist, LeaderChange, Flush]
    assert replica.of(Persist)[0].state == QuorumState(leader_id=1, leader_epoch=1)
    assert replica.of(LeaderChange) == [LeaderChange(LeaderAndEpoch(1, 1), 0)]
    assert [type(one) for one in replica.flush()] == [HighWatermark]
    assert replica.core.high_watermark == replica.log.end_offset


def test_quorum_of_one_that_comes_back_never_uses_an_epoch_again() -> None:
    replica = Replica(1)
    state = replica.of(Persist)[-1].state
    assert Replica(1, state=state).core.epoch == 2
    assert Replica(1, log=replica.log).core.epoch == 2


def test_voter_asks_before_it_raises_the_epoch() -> None:
    replica = Replica()
    replica.wait(999)
    assert replica.role == "unattached"
    replica.wait(1)
    assert replica.role == "prospective"
    assert replica.core.epoch == 0
    assert not replica.of(Persist)
    asked = replica.sent(VoteRequest)
    assert sorted(asked) == [2, 3]
    assert all(about(request).pre_vote and about(request).replica_epoch == 0 for _, request in asked.values())


def test_majority_makes_a_candidate_and_then_a_leader_with_its_vote_on_disk_first() -> None:
    replica = Replica()
    replica.wait(1000)
    replica.answer(replica.sent(VoteRequest)[3][0], vote_response(0, granted=True))
    assert replica.role == "candidate"
    kinds = [type(one) for one in replica.effects]
    assert kinds.index(Persist) < kinds.index(Send)
    assert replica.of(Persist)[0].state == QuorumState(leader_epoch=1, voted_id=1, voted_directory_id=directory(1))
    asked = replica.sent(VoteRequest)
    assert all(not about(request).pre_vote for _, request in asked.values())
    replica.answer(asked[2][0], vote_response(1, granted=True))
    assert replica.role == "leader"
    assert replica.of(LeaderChange) == [LeaderChange(LeaderAndEpoch(1, 1), 0)]
    change = read_control_message(next(read_records(replica.log.batches[0].data)))
    assert isinstance(change, LeaderChangeMessage)
    assert [one.voter_id for one in change.granting_voters] == [1, 2]
    assert [one.voter_id for one in change.voters] == [1, 2, 3]


def test_rejected_pre_vote_sends_a_follower_back_to_its_leader() -> None:
    replica = Replica()
    replica.request(begin_request(2, 1))
    assert replica.role == "follower"
    replica.wait(2000)
    assert replica.role == "prospective"
    for token, _ in replica.sent(VoteRequest).values():
        replica.answer(token, vote_response(1, granted=False, leader_id=2))
    assert replica.role == "follower"
    assert replica.core.epoch == 1


def test_pre_vote_of_a_voter_that_does_not_know_them_is_skipped() -> None:
    replica = Replica()
    replica.wait(1000)
    replica.fail(replica.sent(VoteRequest)[2][0], unsupported_version=True)
    assert replica.role == "candidate"


def test_lost_candidate_waits_for_the_rest_of_its_time() -> None:
    replica = Replica()
    replica.wait(1000)
    replica.answer(replica.sent(VoteRequest)[2][0], vote_response(0, granted=True))
    for token, _ in replica.sent(VoteRequest).values():
        replica.answer(token, vote_response(1, granted=False))
    assert replica.role == "candidate"
    assert not replica.wait(999)
    replica.wait(1)
    assert replica.role == "prospective"


def test_vote_is_given_once_in_an_epoch_and_is_on_disk_before_the_answer() -> None:
    replica = Replica()
    assert about(replica.request(vote_request(2, 5))).vote_granted
    kinds = [type(one) for one in replica.effects]
    assert kinds.index(Persist) < kinds.index(Reply)
    assert replica.of(Persist)[-1].state.voted_id == 2
    assert about(replica.request(vote_request(2, 5))).vote_granted
    assert not about(replica.request(vote_request(3, 5))).vote_granted
    again = Replica(state=QuorumState(leader_epoch=5, voted_id=2, voted_directory_id=directory(2)))
    assert not about(again.request(vote_request(3, 5))).vote_granted


def test_vote_needs_a_log_that_has_everything() -> None:
    log = ModelLog()
    log.append_as_leader(3, [b"a", b"b"], 0)
    replica = Replica(log=log)
    assert not about(replica.request(vote_request(2, 4, last_epoch=2, end_offset=9))).vote_granted
    assert not about(replica.request(vote_request(2, 5, last_epoch=3, end_offset=1))).vote_granted
    assert about(replica.request(vote_request(2, 6, last_epoch=3, end_offset=2))).vote_granted


def test_pre_vote_is_refused_by_who_hears_from_the_leader() -> None:
    replica = Replica()
    replica.request(begin_request(2, 1))
    ask = vote_request(3, 1, pre_vote=True)
    assert about(replica.request(ask)).vote_granted, "it has not heard from that leader yet"
    replica = Replica()
    replica.request(begin_request(2, 1))
    token, _ = replica.sent(FetchRequest)[2]
    replica.answer(token, fetch_response(2, 1))
    assert not about(replica.request(ask)).vote_granted


def test_dead_leader_is_noticed_before_the_fetch_timeout() -> None:
    replica = Replica()
    replica.request(begin_request(2, 1))
    replica.answer(replica.sent(FetchRequest)[2][0], fetch_response(2, 1))
    replica.fail(replica.sent(FetchRequest)[2][0])
    assert not about(replica.request(vote_request(3, 1, pre_vote=True))).vote_granted, "a lost connection is not enough"
    replica.wait(20)
    replica.fail(replica.sent(FetchRequest)[2][0])
    assert replica.role == "prospective"
    assert about(replica.request(vote_request(3, 1, pre_vote=True))).vote_granted


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (vote_request(2, 0), ErrorCode.INVALID_REQUEST),
        (vote_request(2, 3, last_epoch=3), ErrorCode.INVALID_REQUEST),
        (vote_request(2, 6, end_offset=-1), ErrorCode.INVALID_REQUEST),
        (vote_request(2, 4), ErrorCode.FENCED_LEADER_EPOCH),
        (vote_request(-1, 6), ErrorCode.INVALID_REQUEST),
        (vote_request(2, 6, voter_id=3), ErrorCode.INVALID_VOTER_KEY),
        (vote_request(2, 6, voter_directory=directory(9)), ErrorCode.INVALID_VOTER_KEY),
        (vote_request(2, 6, voter_directory=ZERO_UUID), ErrorCode.NONE),
    ],
)
def test_votes_are_validated_as_kafka_does(request_: VoteRequest, error: ErrorCode) -> None:
    replica = Replica(state=QuorumState(leader_epoch=5))
    answer = about(replica.request(request_))
    assert answer.error_code == error
    assert answer.vote_granted == (error == ErrorCode.NONE)


def test_requests_of_other_clusters_and_topics_are_refused() -> None:
    replica = Replica()
    assert replica.request(vote_request(cluster_id="other")).error_code == ErrorCode.INCONSISTENT_CLUSTER_ID
    request = vote_request()
    request.topics[0].topic_name = "other"
    assert replica.request(request).error_code == ErrorCode.INVALID_REQUEST
    assert not about(replica.request(vote_request(cluster_id=None, epoch=0, pre_vote=True))).error_code


def test_begin_quorum_epoch_makes_a_follower_and_tells_who_leads() -> None:
    replica = Replica()
    answer = replica.request(begin_request(2, 1))
    assert (about(answer).leader_id, about(answer).leader_epoch) == (2, 1)
    assert [(one.node_id, one.host) for one in answer.node_endpoints] == [(2, "n2")]
    assert replica.of(LeaderChange) == [LeaderChange(LeaderAndEpoch(2, 1))]
    assert about(replica.request(begin_request(3, 0))).error_code == ErrorCode.FENCED_LEADER_EPOCH
    wrong = replica.request(begin_request(3, 2, voter_directory=directory(7)))
    assert about(wrong).error_code == ErrorCode.INVALID_VOTER_KEY
    assert replica.core.leader == LeaderAndEpoch(3, 2)


def test_successors_stand_for_election_one_after_the_other() -> None:
    for successors, wait_ms in (((1, 3), 0), ((3, 1), 500), ((3,), 1000)):
        replica = Replica()
        replica.request(begin_request(2, 1))
        replica.answer(replica.sent(FetchRequest)[2][0], fetch_response(2, 1))
        replica.request(end_request(2, 1, *successors))
        if wait_ms:
            replica.wait(wait_ms - 1)
            assert replica.role == "follower"
            replica.wait(1)
        assert replica.role == "prospective"


def test_resigned_leader_tells_voters_until_they_know_and_begins_again_in_the_next_epoch() -> None:
    replica = Replica()
    replica.elect()
    replica.core.resign(1, replica.now_ms)
    replica.collect()
    assert replica.role == "resigned"
    assert replica.of(LeaderChange) == [LeaderChange(LeaderAndEpoch(-1, 1))]
    asked = replica.sent(EndQuorumEpochRequest)
    assert sorted(asked) == [2, 3]
    response = EndQuorumEpochResponse(topics=[])
    replica.answer(asked[2][0], response)
    replica.fail(asked[3][0])
    replica.wait(20)
    assert 3 in replica.sent(EndQuorumEpochRequest)
    replica.wait(1000)
    assert replica.role == "prospective"
    assert replica.core.epoch == 2


def test_former_leader_that_comes_back_resigns() -> None:
    replica = Replica(state=QuorumState(leader_id=1, leader_epoch=4))
    assert replica.role == "resigned"
    assert not about(replica.request(vote_request(2, 4, pre_vote=True, last_epoch=5))).vote_granted
    assert about(replica.request(vote_request(2, 5))).vote_granted


def test_voter_that_comes_back_follows_the_leader_it_knew() -> None:
    replica = Replica(state=QuorumState(leader_id=3, leader_epoch=4))
    assert replica.role == "follower"
    assert 3 in replica.sent(FetchRequest)


def test_epoch_of_a_log_ahead_of_the_state_file_counts() -> None:
    log = ModelLog()
    log.append_as_leader(7, [b"a"], 0)
    replica = Replica(log=log, state=QuorumState(leader_id=2, leader_epoch=3, voted_id=2))
    assert replica.core.epoch == 7
    assert replica.role == "unattached"
    assert replica.core.voted is None


def test_shutdown_of_a_leader_waits_for_a_successor() -> None:
    replica = Replica()
    replica.elect()
    replica.core.shutdown(replica.now_ms)
    replica.collect()
    assert replica.role == "resigned"
    assert not replica.core.is_shut_down
    replica.request(vote_request(2, 2, last_epoch=1, end_offset=replica.log.end_offset))
    replica.request(begin_request(2, 2))
    assert replica.core.is_shut_down


def test_shutdown_alone_is_over_at_once() -> None:
    replica = Replica(1)
    replica.core.shutdown(replica.now_ms)
    assert replica.core.is_shut_down
    assert replica.role == "leader"
