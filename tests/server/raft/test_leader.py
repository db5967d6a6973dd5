"""The leader: high watermark, fetches that wait, check quorum, what it answers."""

from __future__ import annotations

import pytest

from ottla.core.errors import ErrorCode
from ottla.core.ids import ZERO_UUID
from ottla.protocol.codec import encode
from ottla.protocol.messages.begin_quorum_epoch import BeginQuorumEpochRequest
from ottla.protocol.messages.describe_quorum import (
    DescribeQuorumRequest,
    DescribeQuorumRequestPartitionData,
    DescribeQuorumRequestTopicData,
)
from ottla.protocol.messages.end_quorum_epoch import EndQuorumEpochRequest
from ottla.protocol.messages.fetch_snapshot import (
    FetchSnapshotRequest,
    FetchSnapshotRequestPartitionSnapshot,
    FetchSnapshotRequestTopicSnapshot,
)
from ottla.protocol.messages.fetch_snapshot import SnapshotId as WireSnapshotId
from ottla.server.raft.effects import Flush, HighWatermark, Reply, ReplySnapshot
from ottla.server.raft.metadata_log import NotLeaderError
from ottla.server.raft.snapshot import SnapshotId
from tests.server.raft.model_log import ModelLog, Snapshot
from tests.server.raft.replica import CLUSTER, TOPIC, WALL_MS, Replica, about, begin_request, directory, vote_request


@pytest.fixture
def leader() -> Replica:
    replica = Replica()
    replica.elect()
    return replica


def test_a_leader_grants_nobody_a_pre_vote(leader: Replica) -> None:
    replica = leader
    epoch, end_offset = replica.core.epoch, replica.log.end_offset + 5
    ask = vote_request(3, epoch, last_epoch=epoch, end_offset=end_offset, pre_vote=True)
    assert not about(replica.request(ask)).vote_granted, "the others hear from it"
    assert replica.role == "leader"


def test_only_a_majority_with_a_record_of_this_epoch_commits() -> None:
    log = ModelLog()
    log.append_as_leader(1, [b"a"] * 5, 0)
    log.flushed_end_offset = 5
    replica = Replica(log=log)
    replica.elect()
    assert replica.core.epoch == 2
    replica.request(replica.fetch(2, 5, 1))
    assert replica.core.high_watermark == 0, "records of an earlier epoch do not count by themselves"
    replica.request(replica.fetch(2))
    assert replica.of(HighWatermark) == [HighWatermark(replica.log.end_offset)]


def test_the_leaders_own_copy_counts_when_it_is_flushed(leader: Replica) -> None:
    leader.append()
    assert leader.of(Flush)
    leader.request(leader.fetch(2))
    assert leader.core.high_watermark < leader.log.end_offset
    leader.flush()
    assert leader.core.high_watermark == leader.log.end_offset
    leader.append()
    leader.commit(2, 3)
    assert leader.core.high_watermark == leader.log.end_offset, "two others are a majority, too"


def test_one_flush_at_a_time_and_another_for_what_came_meanwhile(leader: Replica) -> None:
    leader.append()
    assert len(leader.of(Flush)) == 1
    leader.append()
    assert not leader.of(Flush)
    leader.log.flushed_end_offset = leader.log.end_offset - 1
    leader.core.on_flushed(leader.now_ms)
    leader.collect()
    assert len(leader.of(Flush)) == 1


def test_fetch_waits_for_records_for_the_high_watermark_or_for_its_time(leader: Replica) -> None:
    leader.commit(2)
    assert leader.request(leader.fetch(2, max_wait_ms=0)) is not None
    assert leader.request(leader.fetch(3)) is None
    leader.append()
    (reply,) = leader.of(Reply)
    assert about(reply.response).records == leader.log.batches[-1].data
    leader.flush()
    assert leader.request(leader.fetch(2, high_watermark=leader.core.high_watermark)) is not None
    assert leader.request(leader.fetch(3, high_watermark=leader.core.high_watermark)) is None
    leader.append()
    leader.commit(2)
    leader.flush()
    assert leader.request(leader.fetch(3)) is None
    leader.wait(499)
    assert not leader.of(Reply)
    leader.wait(1)
    (reply,) = leader.of(Reply)
    assert not about(reply.response).records


def test_waiting_fetches_are_sent_away_when_leadership_ends(leader: Replica) -> None:
    leader.commit(2, 3)
    assert leader.request(leader.fetch(2)) is None
    leader.request(begin_request(3, 7))
    (reply,) = [one for one in leader.of(Reply) if hasattr(one.response, "responses")]
    answer = about(reply.response)
    assert answer.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
    assert (answer.current_leader.leader_id, answer.current_leader.leader_epoch) == (3, 7)
    with pytest.raises(NotLeaderError, match="does not lead"):
        leader.append()


def test_replica_that_parted_is_told_where(leader: Replica) -> None:
    leader.append()
    answer = about(leader.request(leader.fetch(2, 9, 1)))
    assert (answer.diverging_epoch.epoch, answer.diverging_epoch.end_offset) == (1, leader.log.end_offset)
    answer = about(leader.request(leader.fetch(2, 1, 0)))
    assert (answer.diverging_epoch.epoch, answer.diverging_epoch.end_offset) == (0, 0)
    assert leader.leading.replicas.voters[2].end_offset == -1, "that acknowledges nothing"


def test_replica_behind_the_log_gets_the_snapshot(leader: Replica) -> None:
    for _ in range(4):
        leader.append()
    leader.flush()
    leader.commit()
    snapshot_id = SnapshotId(4, 1)
    leader.log.take_snapshot(Snapshot(snapshot_id, b"0123456789", 1, leader.core.voters))
    empty = about(leader.request(leader.fetch(4, 0, 0)))
    assert (empty.snapshot_id.end_offset, empty.snapshot_id.epoch) == snapshot_id
    assert about(leader.request(leader.fetch(4, 2, 1))).records, "the log still has it"
    leader.log.drop_before(snapshot_id)
    assert about(leader.request(leader.fetch(4, 2, 1))).snapshot_id.end_offset == 4
    assert about(leader.request(leader.fetch(4, 4, 0))).snapshot_id.end_offset == 4, "parted before the snapshot"
    assert about(leader.request(leader.fetch(4, 4, 1))).records


def _fetch_snapshot(replica: Replica, snapshot_id: SnapshotId, position: int, epoch: int = 1) -> FetchSnapshotRequest:
    partition = FetchSnapshotRequestPartitionSnapshot(
        current_leader_epoch=epoch,
        snapshot_id=WireSnapshotId(end_offset=snapshot_id.end_offset, epoch=snapshot_id.epoch),
        position=position,
        replica_directory_id=directory(4),
    )
    topic = FetchSnapshotRequestTopicSnapshot(name=TOPIC, partitions=[partition])
    return FetchSnapshotRequest(cluster_id=CLUSTER, replica_id=4, max_bytes=4, topics=[topic])


def test_snapshot_is_served_in_pieces(leader: Replica) -> None:
    snapshot_id = SnapshotId(1, 1)
    leader.log.take_snapshot(Snapshot(snapshot_id, b"0123456789", 1, leader.core.voters))
    leader.request(_fetch_snapshot(leader, snapshot_id, 8))
    (piece,) = leader.of(ReplySnapshot)
    assert (piece.position, piece.max_bytes, about(piece.response).size) == (8, 2, 10)
    for asked, position, epoch, error in (
        (snapshot_id, 10, 1, ErrorCode.POSITION_OUT_OF_RANGE),
        (snapshot_id, -1, 1, ErrorCode.POSITION_OUT_OF_RANGE),
        (SnapshotId(2, 1), 0, 1, ErrorCode.SNAPSHOT_NOT_FOUND),
        (SnapshotId(0, 0), 0, 1, ErrorCode.SNAPSHOT_NOT_FOUND),
        (snapshot_id, 0, 0, ErrorCode.FENCED_LEADER_EPOCH),
        (snapshot_id, 0, 2, ErrorCode.UNKNOWN_LEADER_EPOCH),
    ):
        assert about(leader.request(_fetch_snapshot(leader, asked, position, epoch))).error_code == error
    wrong = _fetch_snapshot(leader, snapshot_id, 0)
    wrong.topics[0].name = "other"
    assert about(leader.request(wrong)).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def test_fetches_are_validated_as_kafka_does(leader: Replica) -> None:
    for request, error in (
        (leader.fetch(2, epoch=0, last_epoch=0), ErrorCode.FENCED_LEADER_EPOCH),
        (leader.fetch(2, epoch=2), ErrorCode.UNKNOWN_LEADER_EPOCH),
        (leader.fetch(2, offset=-1), ErrorCode.INVALID_REQUEST),
        (leader.fetch(2, last_epoch=2), ErrorCode.INVALID_REQUEST),
        (leader.fetch(2, last_epoch=-1), ErrorCode.INVALID_REQUEST),
        (leader.fetch(2, max_wait_ms=-1), ErrorCode.INVALID_REQUEST),
        (leader.fetch(1), ErrorCode.INVALID_REQUEST),
    ):
        answer = about(leader.request(request))
        assert answer.error_code == error
        assert answer.current_leader.leader_id == 1
    other = leader.fetch(2)
    other.cluster_id = "other"
    assert leader.request(other).error_code == ErrorCode.INCONSISTENT_CLUSTER_ID
    other = leader.fetch(2)
    other.topics[0].topic_id = directory(5)
    assert leader.request(other).error_code == ErrorCode.INVALID_REQUEST
    follower = Replica()
    answer = about(follower.request(follower.fetch(2)))
    assert answer.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER


def test_every_version_of_every_answer_can_be_written(leader: Replica) -> None:
    for version in range(4, 19):
        request = leader.fetch(2, max_wait_ms=0)
        if version < 15:
            request.replica_id = 2
        encode(leader.request(request, version), version)
    for version in range(3):
        topics = [DescribeQuorumRequestTopicData(topic_name=TOPIC, partitions=[DescribeQuorumRequestPartitionData()])]
        encode(leader.request(DescribeQuorumRequest(topics=topics), version), version)


def test_who_observes_without_being_a_voter_commits_nothing(leader: Replica) -> None:
    leader.append()
    leader.flush()
    before = leader.core.high_watermark
    leader.request(leader.fetch(9))
    leader.request(leader.fetch(2, replica_directory=directory(8)))
    leader.request(leader.fetch(-1, replica_directory=ZERO_UUID))
    assert leader.core.high_watermark == before
    assert sorted(key.replica_id for key in leader.leading.replicas.observers) == [2, 9]


def test_leader_that_hears_from_no_majority_resigns(leader: Replica) -> None:
    for _ in range(5):
        leader.wait(2000)
        leader.commit(3)
    assert leader.role == "leader"
    leader.wait(2999)
    assert leader.role == "leader"
    leader.wait(1)
    assert leader.role == "resigned"
    requests = leader.sent(EndQuorumEpochRequest)
    candidates = about(requests[2][1]).preferred_candidates
    assert [one.candidate_id for one in candidates] == [3, 2], "who is furthest first"


def test_voters_that_do_not_fetch_are_told_again(leader: Replica) -> None:
    told: list[int] = []
    for _ in range(8):
        leader.commit(2)
        leader.wait(500)
        told += leader.sent(BeginQuorumEpochRequest)
    assert set(told) == {3}


def test_quorum_is_described_with_times_of_the_wall_clock(leader: Replica) -> None:
    leader.wait(100)
    leader.append()
    leader.flush()
    leader.request(leader.fetch(2, 3, 1))
    leader.wait(50)
    leader.request(leader.fetch(9))
    topics = [DescribeQuorumRequestTopicData(topic_name=TOPIC, partitions=[DescribeQuorumRequestPartitionData()])]
    response = leader.request(DescribeQuorumRequest(topics=topics))
    said = about(response)
    now_ms = WALL_MS + leader.now_ms
    assert (said.leader_id, said.leader_epoch, said.high_watermark) == (1, 1, 3)
    assert [
        (one.replica_id, one.log_end_offset, one.last_fetch_timestamp, one.last_caught_up_timestamp)
        for one in said.current_voters
    ] == [(1, 4, now_ms, now_ms), (2, 3, now_ms - 50, -1), (3, -1, -1, -1)]
    assert [(one.replica_id, one.last_caught_up_timestamp) for one in said.observers] == [(9, now_ms)]
    assert [(one.node_id, one.listeners[0].host) for one in response.nodes] == [(1, "n1"), (2, "n2"), (3, "n3")]
    leader.wait(2000)
    leader.commit(2, 3)
    for _ in range(200):
        leader.wait(2000)
        leader.commit(2, 3)
    assert not about(leader.request(DescribeQuorumRequest(topics=topics))).observers, "gone for five minutes"
    follower = Replica()
    answer = about(follower.request(DescribeQuorumRequest(topics=topics)))
    assert answer.error_code == ErrorCode.NOT_LEADER_OR_FOLLOWER
