"""The answers to what the core has asked: first what they say of leader and epoch, then what they were asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ottla.core.errors import ErrorCode
from ottla.protocol.message import Response
from ottla.protocol.messages.add_raft_voter import AddRaftVoterRequest
from ottla.protocol.messages.api_versions import ApiVersionsRequest
from ottla.protocol.messages.begin_quorum_epoch import BeginQuorumEpochRequest
from ottla.protocol.messages.end_quorum_epoch import EndQuorumEpochRequest
from ottla.protocol.messages.fetch import FetchRequest
from ottla.protocol.messages.fetch_snapshot import FetchSnapshotRequest
from ottla.protocol.messages.remove_raft_voter import RemoveRaftVoterRequest
from ottla.protocol.messages.update_raft_voter import UpdateRaftVoterRequest
from ottla.protocol.messages.vote import VoteRequest
from ottla.server.raft.answers import Said, said_by
from ottla.server.raft.connections import Asked
from ottla.server.raft.follower import Follower
from ottla.server.raft.leader import Leader
from ottla.server.raft.roles import Nominee, Prospective, Resigned

if TYPE_CHECKING:
    from ottla.server.raft.core import QuorumCore


def settle(core: QuorumCore, asked: Asked, response: Response, now_ms: int) -> None:
    """A response came. When it is of no use, the node is left alone for a moment."""
    request = asked.request
    if isinstance(request, ApiVersionsRequest):
        if isinstance(core.role, Leader):
            core.role.changes.on_versions(asked.destination, response, now_ms)
        return
    if isinstance(request, AddRaftVoterRequest | RemoveRaftVoterRequest):
        # Whatever it says: what the voters are shows the log, and the next attempt has its own time.
        return
    said = said_by(response, core.local.listener)
    if isinstance(request, UpdateRaftVoterRequest):
        _update_voter(core, said, now_ms)
        return
    if said.partition is None:
        core.connections.pause(asked.destination, now_ms)
        host, port = asked.destination.address
        core.trouble = f"{host}:{port} refused a {type(request).__name__}: {said.error.name}: {said.error.message}"
        if said.error is ErrorCode.UNSUPPORTED_VERSION:
            settle_failure(core, asked, now_ms, unsupported_version=True, timed_out=True)
        return
    core.trouble = None
    if said.error not in (ErrorCode.NONE, ErrorCode.SNAPSHOT_NOT_FOUND):
        core.connections.pause(asked.destination, now_ms)
    if _is_settled_by_epoch(core, said, now_ms):
        return
    if not _settle_with_role(core, asked, said, now_ms):
        core.connections.pause(asked.destination, now_ms)


def settle_failure(core: QuorumCore, asked: Asked, now_ms: int, *, unsupported_version: bool, timed_out: bool) -> None:
    """No response came."""
    role = core.role
    if isinstance(asked.request, ApiVersionsRequest):
        if isinstance(role, Leader):
            role.changes.on_versions(asked.destination, None, now_ms)
    elif isinstance(asked.request, UpdateRaftVoterRequest):
        if isinstance(role, Follower) and unsupported_version:
            role.has_told_leader = True
    elif isinstance(asked.request, VoteRequest):
        if isinstance(role, Prospective) and unsupported_version:
            core.become_candidate(now_ms)  # somebody does not know pre-votes yet: as if there were none
    elif isinstance(role, Follower):
        role.failed(asked.destination, now_ms, timed_out=timed_out)


def _is_settled_by_epoch(core: QuorumCore, said: Said, now_ms: int) -> bool:
    """Follow what the answer says of leader and epoch; whether there is nothing more in it."""
    error = said.error
    if said.epoch < core.epoch or error is ErrorCode.UNKNOWN_LEADER_EPOCH:
        return True
    if said.epoch > core.epoch or error in (ErrorCode.FENCED_LEADER_EPOCH, ErrorCode.NOT_LEADER_OR_FOLLOWER):
        core.heard_of_leader(said.epoch, said.leader_id, said.endpoints, now_ms)
        return True
    if said.leader_id >= 0 and not core.knows_leader(said.leader_id, said.endpoints):
        core.heard_of_leader(said.epoch, said.leader_id, said.endpoints, now_ms)
        return error is not ErrorCode.NONE
    return False


def _settle_with_role(core: QuorumCore, asked: Asked, said: Said, now_ms: int) -> bool:
    """The answer is of this epoch; whether it was of use."""
    role, request, partition = core.role, asked.request, said.partition
    if isinstance(request, FetchSnapshotRequest) and isinstance(role, Follower):
        if said.error is ErrorCode.SNAPSHOT_NOT_FOUND or (
            said.error is ErrorCode.NONE and (partition.snapshot_id.end_offset < 0 or partition.snapshot_id.epoch < 0)
        ):
            role.on_snapshot_gone(now_ms)
            return True
        if said.error is ErrorCode.POSITION_OUT_OF_RANGE:
            role.download = None  # another snapshot of this name: begin again
            return False
    if said.error is not ErrorCode.NONE:
        return False
    return _use(core, asked, partition, now_ms)


def _use(core: QuorumCore, asked: Asked, partition: Any, now_ms: int) -> bool:
    role, request = core.role, asked.request
    if isinstance(request, VoteRequest):
        if isinstance(role, Nominee) and request.topics[0].partitions[0].pre_vote == role.pre_vote:
            role.answered(asked.destination.node_id, partition.vote_granted)
    elif isinstance(request, BeginQuorumEpochRequest):
        pass  # its fetches will tell that it follows
    elif isinstance(request, EndQuorumEpochRequest):
        if isinstance(role, Resigned):
            role.acknowledged(asked.destination)
    elif isinstance(request, FetchRequest):
        if isinstance(role, Follower):
            return role.on_fetched(partition, request.topics[0].partitions[0].fetch_offset, now_ms)
    elif isinstance(request, FetchSnapshotRequest) and isinstance(role, Follower):
        return role.on_snapshot_piece(partition, now_ms)
    return True


def _update_voter(core: QuorumCore, said: Said, now_ms: int) -> None:
    if _is_settled_by_epoch(core, said, now_ms):
        return
    if isinstance(core.role, Follower) and said.error in (ErrorCode.NONE, ErrorCode.UNSUPPORTED_VERSION):
        core.role.has_told_leader = True
        core.role.heard(now_ms)
