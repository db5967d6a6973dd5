"""The quorum's requests as they come in: validated in Kafka's order, then handed to the role."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ottla.core.errors import ErrorCode
from ottla.core.ids import ZERO_UUID
from ottla.protocol.message import Request
from ottla.protocol.messages import fetch_snapshot
from ottla.protocol.messages.add_raft_voter import AddRaftVoterRequest
from ottla.protocol.messages.begin_quorum_epoch import BeginQuorumEpochRequest
from ottla.protocol.messages.describe_quorum import DescribeQuorumRequest
from ottla.protocol.messages.end_quorum_epoch import EndQuorumEpochRequest
from ottla.protocol.messages.fetch import FetchRequest
from ottla.protocol.messages.fetch_snapshot import FetchSnapshotRequest
from ottla.protocol.messages.remove_raft_voter import RemoveRaftVoterRequest
from ottla.protocol.messages.update_raft_voter import UpdateRaftVoterRequest
from ottla.protocol.messages.vote import VoteRequest
from ottla.server.raft.answers import (
    Inbound,
    describe_quorum_refusal,
    election_answer,
    fetch_snapshot_answer,
    refusal,
    update_voter_answer,
)
from ottla.server.raft.effects import Reply
from ottla.server.raft.follower import Follower
from ottla.server.raft.leader import Leader, refuse_fetch
from ottla.server.raft.requests import metadata_partition
from ottla.server.raft.roles import Prospective, Unattached
from ottla.server.raft.voters import ReplicaKey

if TYPE_CHECKING:
    from ottla.server.raft.core import QuorumCore


def serve(core: QuorumCore, inbound: Inbound) -> None:
    """Answer a request, or let the leader answer it later."""
    _HANDLERS[type(inbound.request)](core, inbound)


def _vote(core: QuorumCore, inbound: Inbound) -> None:
    partition = _partition(core, inbound)
    if partition is None:
        return
    epoch, pre_vote = partition.replica_epoch, partition.pre_vote
    last_epoch, end_offset = partition.last_offset_epoch, partition.last_offset
    # A candidate has raised the epoch beyond that of its log; a prospective one has not.
    is_illegal = last_epoch > epoch if pre_vote else last_epoch >= epoch
    if end_offset < 0 or last_epoch < 0 or is_illegal:
        _answer_election(core, inbound, ErrorCode.INVALID_REQUEST)
        return
    if not _is_valid_for_voter(core, inbound, partition.replica_id, epoch):
        return
    if epoch > core.epoch:
        core.become_unattached(epoch, inbound.now_ms)
    if not _is_meant_for(core, inbound.request.voter_id, partition.voter_directory_id):
        _answer_election(core, inbound, ErrorCode.INVALID_VOTER_KEY)
        return
    candidate = ReplicaKey(partition.replica_id, partition.replica_directory_id)
    granted = candidate.replica_id != core.local.key.replica_id and core.role.grants(
        candidate, is_up_to_date=core.is_up_to_date(last_epoch, end_offset), pre_vote=pre_vote
    )
    if granted and not pre_vote and core.voted is None:
        assert isinstance(core.role, Unattached | Prospective)
        core.add_vote(candidate, inbound.now_ms)
    _answer_election(core, inbound, ErrorCode.NONE, granted=granted)


def _begin_quorum_epoch(core: QuorumCore, inbound: Inbound) -> None:
    partition = _partition(core, inbound)
    if partition is None or not _is_valid_for_voter(core, inbound, partition.leader_id, partition.leader_epoch):
        return
    _leader_told(core, inbound, partition)
    is_meant = _is_meant_for(core, inbound.request.voter_id, partition.voter_directory_id)
    _answer_election(core, inbound, ErrorCode.NONE if is_meant else ErrorCode.INVALID_VOTER_KEY)


def _end_quorum_epoch(core: QuorumCore, inbound: Inbound) -> None:
    partition = _partition(core, inbound)
    if partition is None or not _is_valid_for_voter(core, inbound, partition.leader_id, partition.leader_epoch):
        return
    _leader_told(core, inbound, partition)
    role = core.role
    if isinstance(role, Follower) and core.leader_id == partition.leader_id:
        successors = [
            ReplicaKey(one.candidate_id, one.candidate_directory_id) for one in partition.preferred_candidates
        ]
        successors = successors or [ReplicaKey(one) for one in partition.preferred_successors]
        role.leader_resigned(_successor_backoff_ms(core, successors), inbound.now_ms)
    _answer_election(core, inbound, ErrorCode.NONE)


def _successor_backoff_ms(core: QuorumCore, successors: list[ReplicaKey]) -> int:
    """The first successor begins at once, each one after it twice as late as the one before, the last at the maximum;
    who is not among them waits for the maximum, as the resigned leader knew it not to be up to date."""
    longest_ms = core.settings.election_backoff_max_ms
    key = core.local.key
    for position, successor in enumerate(successors):
        if successor.replica_id == key.replica_id and successor.directory_id in (ZERO_UUID, key.directory_id):
            if position == 0:
                return 0
            return min(longest_ms, (longest_ms >> (len(successors) - 1)) << (position - 1))
    return longest_ms if successors else 0


def _fetch(core: QuorumCore, inbound: Inbound) -> None:
    request: FetchRequest = inbound.request
    if not _is_of_this_cluster(core, inbound):
        return
    partition = metadata_partition(request.topics, version=inbound.version)
    if partition is None:
        core.emit(Reply(inbound.token, refusal(request, ErrorCode.INVALID_REQUEST)))
        return
    replica_id = request.replica_state.replica_id if inbound.version >= 15 else request.replica_id
    epoch, last_epoch = partition.current_leader_epoch, partition.last_fetched_epoch
    if request.max_wait_ms < 0 or partition.fetch_offset < 0 or not 0 <= last_epoch <= epoch:
        error: ErrorCode | None = ErrorCode.INVALID_REQUEST
    else:
        error = _leader_error(core, epoch)
        if error is None and replica_id == core.local.key.replica_id:
            error = ErrorCode.INVALID_REQUEST
    if error is not None:
        core.emit(Reply(inbound.token, refuse_fetch(core, inbound, error)))
        return
    assert isinstance(core.role, Leader)
    core.role.on_fetch(inbound, partition, ReplicaKey(replica_id, partition.replica_directory_id))


def _fetch_snapshot(core: QuorumCore, inbound: Inbound) -> None:
    request: FetchSnapshotRequest = inbound.request
    if not _is_of_this_cluster(core, inbound):
        return
    if len(request.topics) != 1 or len(request.topics[0].partitions) != 1:
        core.emit(Reply(inbound.token, refusal(request, ErrorCode.INVALID_REQUEST)))
        return
    partition = metadata_partition(request.topics)
    if partition is None:
        error: ErrorCode | None = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    else:
        error = _leader_error(core, partition.current_leader_epoch)
    if error is not None:
        about = fetch_snapshot.FetchSnapshotResponsePartitionSnapshot(error_code=error, unaligned_records=b"")
        response = fetch_snapshot_answer(inbound, core.known_leader, about)
        response.topics[0].name = request.topics[0].name
        about.index = request.topics[0].partitions[0].partition
        core.emit(Reply(inbound.token, response))
        return
    assert isinstance(core.role, Leader)
    assert partition is not None
    core.role.on_fetch_snapshot(inbound, partition, ReplicaKey(request.replica_id, partition.replica_directory_id))


def _describe_quorum(core: QuorumCore, inbound: Inbound) -> None:
    if metadata_partition(inbound.request.topics) is None:
        error = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    elif isinstance(core.role, Leader):
        core.role.on_describe_quorum(inbound)
        return
    else:
        error = ErrorCode.NOT_LEADER_OR_FOLLOWER
    core.emit(Reply(inbound.token, describe_quorum_refusal(inbound.request, error)))


def _add_voter(core: QuorumCore, inbound: Inbound) -> None:
    leader = _leader_for_change(core, inbound)
    if leader is not None:
        leader.changes.add(inbound)


def _remove_voter(core: QuorumCore, inbound: Inbound) -> None:
    leader = _leader_for_change(core, inbound)
    if leader is not None:
        leader.changes.remove(inbound)


def _update_voter(core: QuorumCore, inbound: Inbound) -> None:
    request: UpdateRaftVoterRequest = inbound.request
    if request.cluster_id is not None and request.cluster_id != core.local.cluster_id:
        error: ErrorCode | None = ErrorCode.INCONSISTENT_CLUSTER_ID
    else:
        error = _leader_error(core, request.current_leader_epoch)
    if error is not None:
        core.emit(Reply(inbound.token, update_voter_answer(inbound, core.known_leader, error)))
        return
    assert isinstance(core.role, Leader)
    core.role.changes.update(inbound)


_HANDLERS: dict[type[Request], Callable[[QuorumCore, Inbound], None]] = {
    VoteRequest: _vote,
    BeginQuorumEpochRequest: _begin_quorum_epoch,
    EndQuorumEpochRequest: _end_quorum_epoch,
    FetchRequest: _fetch,
    FetchSnapshotRequest: _fetch_snapshot,
    DescribeQuorumRequest: _describe_quorum,
    AddRaftVoterRequest: _add_voter,
    RemoveRaftVoterRequest: _remove_voter,
    UpdateRaftVoterRequest: _update_voter,
}


def _leader_told(core: QuorumCore, inbound: Inbound, partition: Any) -> None:
    """A leader, or one that resigns, has named itself and its endpoints (since v1)."""
    endpoints = tuple((one.name, one.host, one.port) for one in inbound.request.leader_endpoints)
    core.heard_of_leader(partition.leader_epoch, partition.leader_id, endpoints, inbound.now_ms)


def _leader_for_change(core: QuorumCore, inbound: Inbound) -> Leader | None:
    request = inbound.request
    if request.cluster_id is not None and request.cluster_id != core.local.cluster_id:
        text = f"the cluster's id is {core.local.cluster_id}, not {request.cluster_id}."
        core.emit(Reply(inbound.token, refusal(request, ErrorCode.INCONSISTENT_CLUSTER_ID, text)))
        return None
    error = _leader_error(core, core.epoch)
    if error is not None:
        core.emit(Reply(inbound.token, refusal(request, error)))
        return None
    assert isinstance(core.role, Leader)
    return core.role


def _partition(core: QuorumCore, inbound: Inbound) -> Any | None:
    """What the request says of the metadata partition; None when it was refused."""
    if not _is_of_this_cluster(core, inbound):
        return None
    partition = metadata_partition(inbound.request.topics)
    if partition is None:
        core.emit(Reply(inbound.token, refusal(inbound.request, ErrorCode.INVALID_REQUEST)))
    return partition


def _is_of_this_cluster(core: QuorumCore, inbound: Inbound) -> bool:
    cluster_id = inbound.request.cluster_id
    if cluster_id is None or cluster_id == core.local.cluster_id:
        return True
    core.emit(Reply(inbound.token, refusal(inbound.request, ErrorCode.INCONSISTENT_CLUSTER_ID)))
    return False


def _is_valid_for_voter(core: QuorumCore, inbound: Inbound, replica_id: int, epoch: int) -> bool:
    """Whether a request from a candidate or a leader is of this epoch or a later one."""
    if epoch < core.epoch:
        _answer_election(core, inbound, ErrorCode.FENCED_LEADER_EPOCH)
    elif replica_id < 0:
        _answer_election(core, inbound, ErrorCode.INVALID_REQUEST)
    else:
        return True
    return False


def _is_meant_for(core: QuorumCore, voter_id: int, directory_id: bytes) -> bool:
    """Whether the voter that a request names is this replica; before v1 none is named."""
    key = core.local.key
    return voter_id < 0 or (voter_id == key.replica_id and directory_id in (ZERO_UUID, key.directory_id))


def _leader_error(core: QuorumCore, epoch: int) -> ErrorCode | None:
    if epoch < core.epoch:
        return ErrorCode.FENCED_LEADER_EPOCH
    if epoch > core.epoch:
        return ErrorCode.UNKNOWN_LEADER_EPOCH
    if not isinstance(core.role, Leader):
        return ErrorCode.NOT_LEADER_OR_FOLLOWER
    return ErrorCode.BROKER_NOT_AVAILABLE if core.is_shutting_down else None


def _answer_election(core: QuorumCore, inbound: Inbound, error: ErrorCode, *, granted: bool = False) -> None:
    core.emit(Reply(inbound.token, election_answer(inbound, core.known_leader, error, granted=granted)))
