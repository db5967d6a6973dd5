"""Followers and observers: fetching, truncation, snapshots, finding the leader."""

from __future__ import annotations

import pytest

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.fetch import FetchRequest
from ottla.protocol.messages.fetch_snapshot import FetchSnapshotRequest
from ottla.server.raft.effects import (
    Fail,
    Flush,
    HighWatermark,
    InstallSnapshot,
    LeaderChange,
    Send,
    StoreSnapshotPiece,
)
from ottla.server.raft.metadata_log import LeaderAndEpoch
from ottla.server.raft.quorum_state import QuorumState
from ottla.server.raft.snapshot import SnapshotId
from ottla.server.raft.voters import VoterSet
from tests.server.raft.model_log import ModelLog, Snapshot
from tests.server.raft.replica import (
    Replica,
    about,
    begin_request,
    fetch_response,
    snapshot_response,
    vote_request,
    voter,
)


def records(*texts: str, base_offset: int = 0, epoch: int = 1) -> bytes:
    """A batch as a leader sends it."""
    log = ModelLog()
    log.log_start = SnapshotId(base_offset, 0)
    log.append_as_leader(epoch, [text.encode() for text in texts], 0)
    return log.batches[0].data


@pytest.fixture
def follower() -> Replica:
    replica = Replica()
    replica.request(begin_request(2, 1))
    return replica


def _token(replica: Replica, node_id: int = 2) -> int:
    return replica.sent(FetchRequest)[node_id][0]


def test_voter_acknowledges_what_is_on_the_device(follower: Replica) -> None:
    follower.answer(_token(follower), fetch_response(records=records("a", "b"), high_watermark=1))
    assert follower.log.end_offset == 2
    assert follower.of(Flush)
    assert follower.of(HighWatermark) == [HighWatermark(1)]
    assert not follower.sent(FetchRequest)
    follower.flush()
    _, request = follower.sent(FetchRequest)[2]
    asked = about(request)
    assert (asked.fetch_offset, asked.last_fetched_epoch, asked.high_watermark) == (2, 1, 1)


def test_broker_fetches_on_without_flushing() -> None:
    state = QuorumState(leader_epoch=1)
    observer = Replica(2, 3, can_become_voter=False, bootstrap=(2,), node_id=9, state=state)
    assert observer.role == "unattached"
    observer.answer(_token(observer, -2), fetch_response(2, 1, records=records("a"), high_watermark=1, endpoint=True))
    assert observer.role == "follower"
    assert observer.log.end_offset == 1
    assert not observer.of(Flush)
    assert about(observer.sent(FetchRequest)[2][1]).fetch_offset == 1
    observer.wait(60_000)
    assert observer.role == "follower", "an observer never stands for election"


def test_observer_finds_the_leader_by_asking_anybody() -> None:
    observer = Replica(2, 3, can_become_voter=False, bootstrap=(7,), node_id=9)
    response = fetch_response(3, 4, error=ErrorCode.FENCED_LEADER_EPOCH, endpoint=True)
    observer.answer(_token(observer, -2), response)
    assert observer.role == "follower"
    assert observer.of(LeaderChange) == [LeaderChange(LeaderAndEpoch(3, 4))]
    assert 3 in observer.sent(FetchRequest)


def test_answers_that_come_too_late_are_ignored(follower: Replica) -> None:
    late = _token(follower)
    follower.request(begin_request(3, 2))
    follower.answer(late, fetch_response(2, 1, records=records("a")))
    assert follower.log.end_offset == 0


def test_batches_that_do_not_continue_the_log_are_refused(follower: Replica) -> None:
    for data in (records("a", base_offset=3), records("a", epoch=9), b"\0" * 70):
        follower.answer(_token(follower), fetch_response(records=data))
        assert follower.log.end_offset == 0
        assert list(follower.sent(FetchRequest)) == [3], "the leader is not asked again at once"
        follower.fail(_token(follower, 3))
        follower.wait(20)


def test_follower_truncates_where_its_log_parts_from_the_leaders() -> None:
    log = ModelLog()
    log.append_as_leader(1, [b"a", b"b"], 0)
    log.append_as_leader(2, [b"c", b"d"], 0)
    log.append_control(2, [VoterSet([voter(1)]).to_record()])
    log.flushed_end_offset = log.end_offset
    log.bootstrap = Snapshot(SnapshotId(0, 0), b"", 1, VoterSet(voter(one) for one in (1, 2, 3)))
    replica = Replica(1, 2, 3, log=log)
    assert replica.role == "leader", "alone by a record that is not committed"
    replica.core.become_unattached(5, 0)
    replica.collect()
    replica.request(begin_request(2, 5))
    replica.log.flushed_end_offset = replica.log.end_offset
    replica.core.on_flushed(0)
    replica.collect()
    token = _token(replica)
    replica.answer(token, fetch_response(2, 5, diverging=(1, 2)))
    assert replica.log.end_offset == 2
    assert replica.core.voters.ids == (1, 2, 3), "the set that was truncated does not count any more"
    assert about(replica.sent(FetchRequest)[2][1]).fetch_offset == 2


def test_follower_does_not_truncate_what_was_committed(follower: Replica) -> None:
    follower.answer(_token(follower), fetch_response(records=records("a", "b"), high_watermark=2))
    follower.flush()
    follower.answer(_token(follower), fetch_response(diverging=(0, 0)))
    (fail,) = follower.of(Fail)
    assert "were committed" in fail.reason
    assert follower.log.end_offset == 2
    assert not follower.wait(10_000)


def test_snapshot_is_downloaded_piece_by_piece_and_replaces_the_log(follower: Replica) -> None:
    snapshot_id = SnapshotId(40, 1)
    follower.answer(_token(follower), fetch_response(snapshot=snapshot_id))
    for position in (0, 4):
        token, request = follower.sent(FetchSnapshotRequest)[2]
        assert about(request).position == position
        data = b"0123456789"[position : position + 4]
        follower.answer(token, snapshot_response(snapshot_id, position, data, 10))
        assert follower.of(StoreSnapshotPiece) == [StoreSnapshotPiece(snapshot_id, position, data)]
    token, _ = follower.sent(FetchSnapshotRequest)[2]
    follower.answer(token, snapshot_response(snapshot_id, 8, b"89", 10))
    assert follower.of(InstallSnapshot) == [InstallSnapshot(snapshot_id)]
    assert not follower.wait(60_000), "neither fetches nor elections while the log is replaced"
    voters = VoterSet([voter(1), voter(2)])
    follower.log.install(Snapshot(snapshot_id, b"", 1, voters))
    follower.core.on_snapshot_installed(snapshot_id, 1, voters, follower.now_ms)
    follower.collect()
    assert follower.of(HighWatermark) == [HighWatermark(40)]
    assert follower.core.voters == voters
    assert follower.role == "prospective", "the fetch timeout went on"


def test_download_begins_again_when_the_snapshot_is_gone_or_damaged(follower: Replica) -> None:
    snapshot_id = SnapshotId(40, 1)
    follower.answer(_token(follower), fetch_response(snapshot=snapshot_id))
    token, _ = follower.sent(FetchSnapshotRequest)[2]
    gone = snapshot_response(SnapshotId(-1, -1), 0, b"", 0, error=ErrorCode.SNAPSHOT_NOT_FOUND)
    follower.answer(token, gone)
    follower.answer(_token(follower), fetch_response(snapshot=snapshot_id))
    token, _ = follower.sent(FetchSnapshotRequest)[2]
    follower.answer(token, snapshot_response(snapshot_id, 0, b"0123", 4))
    follower.core.on_snapshot_failed(snapshot_id, follower.now_ms)
    follower.collect()
    assert follower.sent(FetchRequest)


def test_nobody_is_elected_while_the_log_is_replaced(follower: Replica) -> None:
    snapshot_id = SnapshotId(40, 1)
    follower.answer(_token(follower), fetch_response(snapshot=snapshot_id))
    token, _ = follower.sent(FetchSnapshotRequest)[2]
    follower.answer(token, snapshot_response(snapshot_id, 0, b"0123", 4))
    assert about(follower.request(vote_request(3, 2, last_epoch=1, end_offset=50))).vote_granted
    follower.wait(60_000)
    assert follower.role == "unattached"


def test_silent_leader_is_asked_about_elsewhere_and_then_replaced() -> None:
    replica = Replica(bootstrap=(3,))
    replica.request(begin_request(2, 1))
    replica.wait(1999)
    assert replica.role == "follower"
    replica.wait(1)
    assert replica.role == "prospective"
    observer = Replica(2, 3, can_become_voter=False, bootstrap=(3,), node_id=9)
    observer.answer(_token(observer, -2), fetch_response(2, 1, error=ErrorCode.FENCED_LEADER_EPOCH, endpoint=True))
    observer.wait(2000)
    assert -2 in observer.sent(FetchRequest), "the leader did not answer in time"
    answer = fetch_response(3, 2, error=ErrorCode.FENCED_LEADER_EPOCH, endpoint=True)
    observer.answer(_token(observer, -2), answer)
    assert 3 in observer.sent(FetchRequest)


def test_leader_known_without_an_address_is_found() -> None:
    replica = Replica(0, state=QuorumState(leader_id=5, leader_epoch=3), bootstrap=(5,), can_become_voter=False)
    assert replica.role == "unattached"
    replica.answer(_token(replica, -2), fetch_response(5, 3, records=records("a"), endpoint=True))
    assert replica.role == "follower"
    assert replica.log.end_offset == 1


def test_leader_that_listens_elsewhere_is_found_by_what_it_or_others_say() -> None:
    replica = Replica(state=QuorumState(leader_id=2, leader_epoch=3))
    moved = begin_request(2, 3)
    moved.leader_endpoints[0].port = 9999
    replica.request(moved)
    (send,) = replica.of(Send)
    assert send.destination.address == ("n2", 9999)
    replica.answer(send.token, fetch_response(2, 3))
    replica.request(begin_request(2, 3))
    assert not replica.of(Send), "it is there, whatever others believe"


def test_what_a_crash_left_unflushed_is_flushed_before_it_is_acknowledged() -> None:
    log = ModelLog()
    log.append_as_leader(1, [b"a"], 0)
    replica = Replica(log=log, bootstrap=(2,))
    assert replica.of(Flush)
    assert not replica.sent(FetchRequest)
    replica.flush()
    assert replica.sent(FetchRequest)
