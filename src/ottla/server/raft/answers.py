"""The responses of the quorum's APIs, and what the ones that come back say of the leader."""

from __future__ import annotations

from typing import Any, NamedTuple

from ottla.core.errors import ErrorCode
from ottla.core.ids import ZERO_UUID
from ottla.protocol.message import Request, Response
from ottla.protocol.messages import (
    add_raft_voter,
    begin_quorum_epoch,
    describe_quorum,
    end_quorum_epoch,
    fetch,
    fetch_snapshot,
    remove_raft_voter,
    update_raft_voter,
    vote,
)
from ottla.server.log.files import METADATA_TOPIC
from ottla.server.raft.requests import METADATA_TOPIC_ID, metadata_partition
from ottla.server.raft.voters import Endpoints, address_of


class Inbound(NamedTuple):
    """A request with what an answer to it depends on: its token, version, the listener it came in on, and the times
    of its arrival (monotonic, and the wall clock's)."""

    token: object
    request: Any
    version: int
    listener: str
    now_ms: int
    wall_ms: int


class KnownLeader(NamedTuple):
    """What a replica says of the leader in every answer."""

    leader_id: int
    epoch: int
    endpoints: Endpoints

    def address(self, listener: str) -> tuple[str, int] | None:
        """Where the leader is reached by whoever came in on `listener`."""
        return address_of(self.endpoints, listener) if self.leader_id >= 0 else None


class Said(NamedTuple):
    """What a response says: its error, the leader it names (-1: none) with the epoch, and where that one is.

    `partition` is the part about the metadata partition, None when there is none: then the error is about the request
    as a whole, and nothing is said of a leader.
    """

    error: ErrorCode
    leader_id: int
    epoch: int
    endpoints: Endpoints
    partition: Any


_PARTITION_RESPONSES: dict[type[Request], tuple[Any, Any, Any]] = {
    vote.VoteRequest: (vote.VoteResponse, vote.VoteResponseTopicData, vote.VoteResponsePartitionData),
    begin_quorum_epoch.BeginQuorumEpochRequest: (
        begin_quorum_epoch.BeginQuorumEpochResponse,
        begin_quorum_epoch.BeginQuorumEpochResponseTopicData,
        begin_quorum_epoch.BeginQuorumEpochResponsePartitionData,
    ),
    end_quorum_epoch.EndQuorumEpochRequest: (
        end_quorum_epoch.EndQuorumEpochResponse,
        end_quorum_epoch.EndQuorumEpochResponseTopicData,
        end_quorum_epoch.EndQuorumEpochResponsePartitionData,
    ),
}

_PLAIN_RESPONSES: dict[type[Request], Any] = {
    fetch.FetchRequest: fetch.FetchResponse,
    fetch_snapshot.FetchSnapshotRequest: fetch_snapshot.FetchSnapshotResponse,
    describe_quorum.DescribeQuorumRequest: describe_quorum.DescribeQuorumResponse,
    add_raft_voter.AddRaftVoterRequest: add_raft_voter.AddRaftVoterResponse,
    remove_raft_voter.RemoveRaftVoterRequest: remove_raft_voter.RemoveRaftVoterResponse,
    update_raft_voter.UpdateRaftVoterRequest: update_raft_voter.UpdateRaftVoterResponse,
}

_ENDPOINTS_SINCE: dict[type[Response], tuple[Any, int]] = {
    vote.VoteResponse: (vote.NodeEndpoint, 1),
    begin_quorum_epoch.BeginQuorumEpochResponse: (begin_quorum_epoch.NodeEndpoint, 1),
    end_quorum_epoch.EndQuorumEpochResponse: (end_quorum_epoch.NodeEndpoint, 1),
    fetch.FetchResponse: (fetch.NodeEndpoint, 16),
    fetch_snapshot.FetchSnapshotResponse: (fetch_snapshot.NodeEndpoint, 1),
}


_ERRORS: dict[int, ErrorCode] = {int(error): error for error in ErrorCode}


def refusal(request: Request, error: ErrorCode, message: str | None = None) -> Response:
    """An answer that says nothing but an error, for the request as a whole."""
    kind = type(request)
    response: Any = _PARTITION_RESPONSES[kind][0] if kind in _PARTITION_RESPONSES else _PLAIN_RESPONSES[kind]
    if message is not None:
        return response(error_code=error, error_message=message)  # type: ignore[no-any-return]
    return response(error_code=error)  # type: ignore[no-any-return]


def election_answer(inbound: Inbound, leader: KnownLeader, error: ErrorCode, *, granted: bool = False) -> Response:
    """The answer to Vote, BeginQuorumEpoch or EndQuorumEpoch."""
    response, topic, partition = _PARTITION_RESPONSES[type(inbound.request)]
    about = partition(error_code=error, leader_id=leader.leader_id, leader_epoch=leader.epoch)
    if granted:
        about.vote_granted = True
    answer: Any = response(topics=[topic(topic_name=METADATA_TOPIC, partitions=[about])])
    _tell_endpoint(answer, inbound, leader)
    return answer  # type: ignore[no-any-return]


def fetch_answer(inbound: Inbound, leader: KnownLeader, partition: fetch.PartitionData) -> fetch.FetchResponse:
    """The answer to a Fetch, with the leader put into `partition`."""
    if inbound.version >= 12:
        partition.current_leader = fetch.LeaderIdAndEpoch(leader_id=leader.leader_id, leader_epoch=leader.epoch)
    topic = fetch.FetchableTopicResponse(
        topic=METADATA_TOPIC, topic_id=METADATA_TOPIC_ID if inbound.version >= 13 else ZERO_UUID, partitions=[partition]
    )
    answer = fetch.FetchResponse(responses=[topic])
    _tell_endpoint(answer, inbound, leader)
    return answer


def fetch_snapshot_answer(
    inbound: Inbound, leader: KnownLeader, partition: fetch_snapshot.FetchSnapshotResponsePartitionSnapshot
) -> fetch_snapshot.FetchSnapshotResponse:
    """The answer to a FetchSnapshot, with the leader put into `partition`."""
    partition.current_leader = fetch_snapshot.LeaderIdAndEpoch(leader_id=leader.leader_id, leader_epoch=leader.epoch)
    topic = fetch_snapshot.FetchSnapshotResponseTopicSnapshot(name=METADATA_TOPIC, partitions=[partition])
    answer = fetch_snapshot.FetchSnapshotResponse(topics=[topic])
    _tell_endpoint(answer, inbound, leader)
    return answer


def update_voter_answer(inbound: Inbound, leader: KnownLeader, error: ErrorCode) -> Response:
    """The answer to an UpdateRaftVoter."""
    host, port = leader.address(inbound.listener) or ("", 0)
    return update_raft_voter.UpdateRaftVoterResponse(
        error_code=error,
        current_leader=update_raft_voter.CurrentLeader(
            leader_id=leader.leader_id, leader_epoch=leader.epoch, host=host, port=port
        ),
    )


def describe_quorum_refusal(request: describe_quorum.DescribeQuorumRequest, error: ErrorCode) -> Response:
    """The answer of a replica that does not lead: an error for each partition that was asked for."""
    return describe_quorum.DescribeQuorumResponse(
        topics=[
            describe_quorum.DescribeQuorumResponseTopicData(
                topic_name=topic.topic_name,
                partitions=[
                    describe_quorum.DescribeQuorumResponsePartitionData(
                        partition_index=one.partition_index, error_code=error, error_message=error.message
                    )
                    for one in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )


def said_by(response: Any, listener: str) -> Said:
    """What a response of Vote, BeginQuorumEpoch, EndQuorumEpoch, Fetch or FetchSnapshot says; `listener` is the name
    under which replicas reach each other."""
    error = _error(response.error_code)
    if isinstance(response, update_raft_voter.UpdateRaftVoterResponse):
        leader = response.current_leader
        endpoints: Endpoints = ((listener, leader.host, leader.port),) if leader.host else ()
        return Said(error, leader.leader_id, leader.leader_epoch, endpoints, response)
    topics = response.responses if isinstance(response, fetch.FetchResponse) else response.topics
    partition = metadata_partition(topics) if error is ErrorCode.NONE else None
    if partition is None:
        return Said(error, -1, -1, (), None)
    if isinstance(response, fetch.FetchResponse | fetch_snapshot.FetchSnapshotResponse):
        leader_id, epoch = partition.current_leader.leader_id, partition.current_leader.leader_epoch
    else:
        leader_id, epoch = partition.leader_id, partition.leader_epoch
    endpoints = tuple((listener, one.host, one.port) for one in response.node_endpoints if one.node_id == leader_id)
    return Said(_error(partition.error_code), leader_id, epoch, endpoints, partition)


def _tell_endpoint(answer: Any, inbound: Inbound, leader: KnownLeader) -> None:
    endpoint, since = _ENDPOINTS_SINCE[type(answer)]
    address = leader.address(inbound.listener)
    if address is not None and inbound.version >= since:
        answer.node_endpoints = [endpoint(node_id=leader.leader_id, host=address[0], port=address[1])]


def _error(code: int) -> ErrorCode:
    try:
        return _ERRORS[code]
    except KeyError:
        return ErrorCode.UNKNOWN_SERVER_ERROR
