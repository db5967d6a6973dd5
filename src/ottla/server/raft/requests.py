"""The requests that replicas of the quorum send each other, and what is looked at in those that come in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ottla.core.ids import ONE_UUID, ZERO_UUID
from ottla.protocol.messages import (
    add_raft_voter,
    begin_quorum_epoch,
    end_quorum_epoch,
    fetch,
    fetch_snapshot,
    remove_raft_voter,
    update_raft_voter,
    vote,
)
from ottla.server.log.files import METADATA_TOPIC
from ottla.server.raft.ports import ReplicaLog
from ottla.server.raft.snapshot import SnapshotId
from ottla.server.raft.voters import Endpoints, ReplicaKey, Voter

METADATA_TOPIC_ID: Final = ONE_UUID


def vote_request(
    cluster_id: str, epoch: int, candidate: ReplicaKey, voter: ReplicaKey, log: ReplicaLog, *, pre_vote: bool
) -> vote.VoteRequest:
    """A candidate, or a prospective one, asks for the vote of `voter`."""
    partition = vote.VoteRequestPartitionData(
        replica_epoch=epoch,
        replica_id=candidate.replica_id,
        replica_directory_id=candidate.directory_id,
        voter_directory_id=voter.directory_id,
        last_offset_epoch=log.last_epoch,
        last_offset=log.end_offset,
        pre_vote=pre_vote,
    )
    topic = vote.VoteRequestTopicData(topic_name=METADATA_TOPIC, partitions=[partition])
    return vote.VoteRequest(cluster_id=cluster_id, voter_id=voter.replica_id, topics=[topic])


def begin_quorum_epoch_request(
    cluster_id: str, epoch: int, leader_id: int, endpoints: Endpoints, voter: ReplicaKey
) -> begin_quorum_epoch.BeginQuorumEpochRequest:
    """A leader makes itself known to `voter`."""
    partition = begin_quorum_epoch.BeginQuorumEpochRequestPartitionData(
        voter_directory_id=voter.directory_id, leader_id=leader_id, leader_epoch=epoch
    )
    topic = begin_quorum_epoch.BeginQuorumEpochRequestTopicData(topic_name=METADATA_TOPIC, partitions=[partition])
    return begin_quorum_epoch.BeginQuorumEpochRequest(
        cluster_id=cluster_id,
        voter_id=voter.replica_id,
        topics=[topic],
        leader_endpoints=[
            begin_quorum_epoch.LeaderEndpoint(name=name, host=host, port=port) for name, host, port in endpoints
        ],
    )


def end_quorum_epoch_request(
    cluster_id: str, epoch: int, leader_id: int, endpoints: Endpoints, successors: Sequence[ReplicaKey]
) -> end_quorum_epoch.EndQuorumEpochRequest:
    """A leader resigns; `successors` begin with the one that is furthest."""
    partition = end_quorum_epoch.EndQuorumEpochRequestPartitionData(
        leader_id=leader_id,
        leader_epoch=epoch,
        preferred_successors=[key.replica_id for key in successors],
        preferred_candidates=[
            end_quorum_epoch.ReplicaInfo(candidate_id=key.replica_id, candidate_directory_id=key.directory_id)
            for key in successors
        ],
    )
    topic = end_quorum_epoch.EndQuorumEpochRequestTopicData(topic_name=METADATA_TOPIC, partitions=[partition])
    return end_quorum_epoch.EndQuorumEpochRequest(
        cluster_id=cluster_id,
        topics=[topic],
        leader_endpoints=[
            end_quorum_epoch.LeaderEndpoint(name=name, host=host, port=port) for name, host, port in endpoints
        ],
    )


def fetch_request(
    cluster_id: str,
    epoch: int,
    replica: ReplicaKey,
    log: ReplicaLog,
    high_watermark: int,
    *,
    max_wait_ms: int,
    max_bytes: int,
) -> fetch.FetchRequest:
    """A replica asks for what comes behind its log. It says who it is as from v15 on (KIP-903)."""
    partition = fetch.FetchPartition(
        current_leader_epoch=epoch,
        fetch_offset=log.end_offset,
        last_fetched_epoch=log.last_epoch,
        partition_max_bytes=max_bytes,
        replica_directory_id=replica.directory_id,
        high_watermark=high_watermark,
    )
    topic = fetch.FetchTopic(topic=METADATA_TOPIC, topic_id=METADATA_TOPIC_ID, partitions=[partition])
    return fetch.FetchRequest(
        cluster_id=cluster_id,
        replica_state=fetch.ReplicaState(replica_id=replica.replica_id),
        max_wait_ms=max_wait_ms,
        max_bytes=max_bytes,
        topics=[topic],
    )


def fetch_snapshot_request(
    cluster_id: str, epoch: int, replica: ReplicaKey, snapshot_id: SnapshotId, position: int, max_bytes: int
) -> fetch_snapshot.FetchSnapshotRequest:
    """A replica asks for a piece of a snapshot."""
    partition = fetch_snapshot.FetchSnapshotRequestPartitionSnapshot(
        current_leader_epoch=epoch,
        snapshot_id=fetch_snapshot.SnapshotId(end_offset=snapshot_id.end_offset, epoch=snapshot_id.epoch),
        position=position,
        replica_directory_id=replica.directory_id,
    )
    topic = fetch_snapshot.FetchSnapshotRequestTopicSnapshot(name=METADATA_TOPIC, partitions=[partition])
    return fetch_snapshot.FetchSnapshotRequest(
        cluster_id=cluster_id, replica_id=replica.replica_id, max_bytes=max_bytes, topics=[topic]
    )


def add_voter_request(
    cluster_id: str, voter: ReplicaKey, endpoints: Endpoints, timeout_ms: int
) -> add_raft_voter.AddRaftVoterRequest:
    """A controller wants to join the voters by itself; answered when the change is in the leader's log."""
    return add_raft_voter.AddRaftVoterRequest(
        cluster_id=cluster_id,
        timeout_ms=timeout_ms,
        voter_id=voter.replica_id,
        voter_directory_id=voter.directory_id,
        listeners=[add_raft_voter.Listener(name=name, host=host, port=port) for name, host, port in endpoints],
        ack_when_committed=False,
    )


def remove_voter_request(cluster_id: str, voter: ReplicaKey) -> remove_raft_voter.RemoveRaftVoterRequest:
    """A controller that lost its directory wants its former self out of the voters."""
    return remove_raft_voter.RemoveRaftVoterRequest(
        cluster_id=cluster_id, voter_id=voter.replica_id, voter_directory_id=voter.directory_id
    )


def update_voter_request(cluster_id: str, epoch: int, voter: Voter) -> update_raft_voter.UpdateRaftVoterRequest:
    """A voter tells the leader what it looks like now."""
    return update_raft_voter.UpdateRaftVoterRequest(
        cluster_id=cluster_id,
        current_leader_epoch=epoch,
        voter_id=voter.voter_id,
        voter_directory_id=voter.directory_id,
        listeners=[update_raft_voter.Listener(name=name, host=host, port=port) for name, host, port in voter.endpoints],
        kraft_version_feature=update_raft_voter.KRaftVersionFeature(
            min_supported_version=voter.min_kraft_version, max_supported_version=voter.max_kraft_version
        ),
    )


def metadata_partition(topics: Sequence[Any], *, version: int = 0) -> Any | None:
    """The one partition a request or response is about; None when it is about another, or about several.

    Its topic has a `topic_name`, a `name`, or (Fetch, by `version`) a name or an id.
    """
    if len(topics) != 1 or len(topics[0].partitions) != 1:
        return None
    topic = topics[0]
    if isinstance(topic, fetch.FetchTopic | fetch.FetchableTopicResponse):
        # A response does not say its version: whichever of the two is set.
        by_id = topic.topic_id != ZERO_UUID and (version >= 13 or version == 0)
        known = topic.topic_id == METADATA_TOPIC_ID if by_id else topic.topic == METADATA_TOPIC
    else:
        name = topic.name if hasattr(topic, "name") else topic.topic_name
        known = name == METADATA_TOPIC
    partition = topic.partitions[0]
    index = getattr(partition, "partition_index", None)
    if index is None:
        index = partition.index if hasattr(partition, "index") else partition.partition
    return partition if known and index == 0 else None
