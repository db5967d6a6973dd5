"""One quorum core on a model log, driven by hand."""

from __future__ import annotations

from typing import Any, TypeVar

from ottla.protocol.message import Request
from ottla.protocol.messages import begin_quorum_epoch, end_quorum_epoch, fetch, fetch_snapshot, vote
from ottla.server.raft import effects as effect
from ottla.server.raft.core import LocalReplica, QuorumCore, QuorumSettings
from ottla.server.raft.leader import Leader
from ottla.server.raft.quorum_state import QuorumState
from ottla.server.raft.requests import METADATA_TOPIC_ID
from ottla.server.raft.snapshot import SnapshotId
from ottla.server.raft.voters import ReplicaKey, Voter, VoterSet
from tests.server.raft.model_log import ModelLog, Snapshot

CLUSTER = "cluster"
LISTENER = "CONTROLLER"
WALL_MS = 1_700_000_000_000
TOPIC = "__cluster_metadata"

M = TypeVar("M")
E = TypeVar("E", bound=effect.Effect)


def directory(node_id: int) -> bytes:
    """The directory id of a node."""
    return bytes([node_id % 256]) * 16


def voter(node_id: int) -> Voter:
    """A voter as it is by default."""
    return Voter(node_id, directory(node_id), ((LISTENER, f"n{node_id}", 9093),))


class Replica:
    """Node 1, by default one of the voters 1, 2 and 3."""

    def __init__(
        self,
        *voters: int,
        state: QuorumState | None = None,
        log: ModelLog | None = None,
        static: bool = False,
        can_become_voter: bool = True,
        bootstrap: tuple[int, ...] = (),
        auto_join: bool = False,
        node_id: int = 1,
    ) -> None:
        ids = voters or (1, 2, 3)
        self.log = log or ModelLog()
        if not static and self.log.bootstrap is None and not any(batch.is_control for batch in self.log.batches):
            self.log.bootstrap = Snapshot(SnapshotId(0, 0), b"", 1, VoterSet(voter(one) for one in ids if one > 0))
        static_voters = VoterSet.static(LISTENER, {one: (f"n{one}", 9093) for one in ids}) if static else None
        local = LocalReplica(
            ReplicaKey(node_id, directory(node_id)),
            CLUSTER,
            LISTENER,
            voter(node_id).endpoints if can_become_voter else (),
            can_become_voter,
            tuple((f"n{one}", 9093) for one in bootstrap),
        )
        settings = QuorumSettings(auto_join=auto_join)
        history = self.log.history(static_voters)
        self.core = QuorumCore(local, settings, self.log, history, state or QuorumState(), lambda bound: 0)
        self.now_ms = 0
        self.tokens = 0
        self.core.start(0)
        self.effects: list[effect.Effect] = []
        self.collect()

    def collect(self) -> list[effect.Effect]:
        """The effects since the last look."""
        self.core.check_invariants()
        self.effects = self.core.take_effects()
        return self.effects

    def of(self, kind: type[E]) -> list[E]:
        """The effects of a kind that the last step had."""
        return [one for one in self.effects if isinstance(one, kind)]

    def sent(self, kind: type[M]) -> dict[int, tuple[int, Any]]:
        """The requests of a kind that the last step sent: node id → token and request."""
        sends = [one for one in self.of(effect.Send) if isinstance(one.request, kind)]
        return {one.destination.node_id: (one.token, one.request) for one in sends}

    def wait(self, duration_ms: int) -> list[effect.Effect]:
        """Let time pass, deadline by deadline; all effects of it."""
        end_ms = self.now_ms + duration_ms
        effects: list[effect.Effect] = []
        while self.core.deadline_ms is not None and self.core.deadline_ms <= end_ms:
            self.now_ms = max(self.now_ms, self.core.deadline_ms)
            self.core.on_time(self.now_ms)
            effects += self.collect()
        self.now_ms = end_ms
        self.effects = effects
        return effects

    def request(self, request: Request, version: int | None = None) -> Any:
        """What a request is answered with at once; None when it waits."""
        self.tokens += 1
        token = f"request {self.tokens}"
        highest = type(request).VALID_VERSIONS[1]
        self.core.on_request(
            token,
            request,
            self.now_ms,
            version=highest if version is None else version,
            listener=LISTENER,
            wall_ms=WALL_MS + self.now_ms,
        )
        self.collect()
        answers = [one.response for one in self.of(effect.Reply) if one.token == token]
        answers += [one.response for one in self.of(effect.ReplySnapshot) if one.token == token]
        return answers[0] if answers else None

    def answer(self, token: int, response: Any) -> list[effect.Effect]:
        """An answer comes in."""
        self.core.on_response(token, response, self.now_ms)
        return self.collect()

    def fail(self, token: int, *, unsupported_version: bool = False) -> list[effect.Effect]:
        """There is no answer."""
        self.core.on_send_failed(token, self.now_ms, unsupported_version=unsupported_version)
        return self.collect()

    def flush(self) -> list[effect.Effect]:
        """The flush under way ends."""
        self.log.flushed_end_offset = self.log.end_offset
        self.core.on_flushed(self.now_ms)
        return self.collect()

    # Shorthand

    @property
    def role(self) -> str:
        return self.core.role.name

    @property
    def leading(self) -> Leader:
        """The role of a leader."""
        assert isinstance(self.core.role, Leader)
        return self.core.role

    def append(self, text: str = "x") -> int:
        """Append a record as leader; its offset."""
        offset = self.core.append(self.core.epoch, [text.encode()], self.now_ms, WALL_MS)
        self.collect()
        return offset

    def elect(self) -> None:
        """Make it the leader, with everything flushed."""
        self.wait(1000)
        for kind in ("pre-vote", "vote"):
            asked = self.sent(vote.VoteRequest)
            assert asked, kind
            for token, request in asked.values():
                self.answer(token, vote_response(self.core.epoch, granted=True))
                if self.sent(vote.VoteRequest) or self.role == "leader":
                    break
                del request
        assert self.role == "leader"
        self.flush()

    def commit(self, *followers: int) -> None:
        """Let followers fetch up to the end."""
        for one in followers or (2, 3):
            self.request(self.fetch(one, max_wait_ms=0))

    def fetch(
        self,
        replica_id: int = 2,
        offset: int | None = None,
        last_epoch: int | None = None,
        *,
        epoch: int | None = None,
        max_wait_ms: int = 500,
        high_watermark: int = 1 << 62,
        replica_directory: bytes | None = None,
    ) -> fetch.FetchRequest:
        """A Fetch of another replica, from the end of the log unless told otherwise."""
        partition = fetch.FetchPartition(
            current_leader_epoch=self.core.epoch if epoch is None else epoch,
            fetch_offset=self.log.end_offset if offset is None else offset,
            last_fetched_epoch=self.log.last_epoch if last_epoch is None else last_epoch,
            replica_directory_id=directory(replica_id) if replica_directory is None else replica_directory,
            high_watermark=high_watermark,
        )
        return fetch.FetchRequest(
            cluster_id=CLUSTER,
            replica_state=fetch.ReplicaState(replica_id=replica_id),
            max_wait_ms=max_wait_ms,
            max_bytes=1 << 20,
            topics=[fetch.FetchTopic(topic=TOPIC, topic_id=METADATA_TOPIC_ID, partitions=[partition])],
        )


def about(response: Any) -> Any:
    """What a response says of the metadata partition."""
    topics = response.responses if isinstance(response, fetch.FetchResponse) else response.topics
    return topics[0].partitions[0]


def vote_request(
    candidate: int = 2,
    epoch: int = 1,
    *,
    last_epoch: int = 0,
    end_offset: int = 0,
    pre_vote: bool = False,
    cluster_id: str | None = CLUSTER,
    voter_id: int = 1,
    voter_directory: bytes | None = None,
) -> vote.VoteRequest:
    """A Vote to node 1."""
    partition = vote.VoteRequestPartitionData(
        replica_epoch=epoch,
        replica_id=candidate,
        replica_directory_id=directory(candidate),
        voter_directory_id=directory(1) if voter_directory is None else voter_directory,
        last_offset_epoch=last_epoch,
        last_offset=end_offset,
        pre_vote=pre_vote,
    )
    topic = vote.VoteRequestTopicData(topic_name=TOPIC, partitions=[partition])
    return vote.VoteRequest(cluster_id=cluster_id, voter_id=voter_id, topics=[topic])


def vote_response(epoch: int, *, granted: bool, leader_id: int = -1, error: int = 0) -> vote.VoteResponse:
    """An answer to a Vote."""
    partition = vote.VoteResponsePartitionData(
        error_code=error, leader_id=leader_id, leader_epoch=epoch, vote_granted=granted
    )
    return vote.VoteResponse(topics=[vote.VoteResponseTopicData(topic_name=TOPIC, partitions=[partition])])


def begin_request(leader: int = 2, epoch: int = 1, **other: Any) -> begin_quorum_epoch.BeginQuorumEpochRequest:
    """A BeginQuorumEpoch to node 1."""
    partition = begin_quorum_epoch.BeginQuorumEpochRequestPartitionData(
        voter_directory_id=other.pop("voter_directory", directory(1)), leader_id=leader, leader_epoch=epoch
    )
    topic = begin_quorum_epoch.BeginQuorumEpochRequestTopicData(topic_name=TOPIC, partitions=[partition])
    endpoint = begin_quorum_epoch.LeaderEndpoint(name=LISTENER, host=f"n{leader}", port=9093)
    fields: dict[str, Any] = {"cluster_id": CLUSTER, "voter_id": 1, **other}
    return begin_quorum_epoch.BeginQuorumEpochRequest(topics=[topic], leader_endpoints=[endpoint], **fields)


def end_request(leader: int, epoch: int, *successors: int) -> end_quorum_epoch.EndQuorumEpochRequest:
    """An EndQuorumEpoch to node 1."""
    partition = end_quorum_epoch.EndQuorumEpochRequestPartitionData(
        leader_id=leader,
        leader_epoch=epoch,
        preferred_candidates=[
            end_quorum_epoch.ReplicaInfo(candidate_id=one, candidate_directory_id=directory(one)) for one in successors
        ],
    )
    topic = end_quorum_epoch.EndQuorumEpochRequestTopicData(topic_name=TOPIC, partitions=[partition])
    return end_quorum_epoch.EndQuorumEpochRequest(cluster_id=CLUSTER, topics=[topic])


def fetch_response(
    leader_id: int = 2,
    epoch: int = 1,
    *,
    records: bytes = b"",
    high_watermark: int = -1,
    error: int = 0,
    diverging: tuple[int, int] | None = None,
    snapshot: SnapshotId | None = None,
    endpoint: bool = False,
) -> fetch.FetchResponse:
    """A leader's answer to a Fetch; `diverging` is epoch and end offset."""
    partition = fetch.PartitionData(
        error_code=error,
        records=records,
        high_watermark=high_watermark,
        current_leader=fetch.LeaderIdAndEpoch(leader_id=leader_id, leader_epoch=epoch),
    )
    if diverging is not None:
        partition.diverging_epoch = fetch.EpochEndOffset(epoch=diverging[0], end_offset=diverging[1])
    if snapshot is not None:
        partition.snapshot_id = fetch.SnapshotId(end_offset=snapshot.end_offset, epoch=snapshot.epoch)
    topic = fetch.FetchableTopicResponse(topic=TOPIC, topic_id=METADATA_TOPIC_ID, partitions=[partition])
    response = fetch.FetchResponse(responses=[topic])
    if endpoint:
        response.node_endpoints = [fetch.NodeEndpoint(node_id=leader_id, host=f"n{leader_id}", port=9093)]
    return response


def snapshot_response(
    snapshot_id: SnapshotId, position: int, data: bytes, size: int, *, epoch: int = 1, error: int = 0
) -> fetch_snapshot.FetchSnapshotResponse:
    """A leader's answer to a FetchSnapshot."""
    partition = fetch_snapshot.FetchSnapshotResponsePartitionSnapshot(
        error_code=error,
        snapshot_id=fetch_snapshot.SnapshotId(end_offset=snapshot_id.end_offset, epoch=snapshot_id.epoch),
        current_leader=fetch_snapshot.LeaderIdAndEpoch(leader_id=2, leader_epoch=epoch),
        size=size,
        position=position,
        unaligned_records=data,
    )
    topic = fetch_snapshot.FetchSnapshotResponseTopicSnapshot(name=TOPIC, partitions=[partition])
    return fetch_snapshot.FetchSnapshotResponse(topics=[topic])
