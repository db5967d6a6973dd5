"""The leading replica: serves fetches, advances the high watermark, and resigns when the others are out of reach."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ottla.core.errors import ErrorCode
from ottla.core.ids import ZERO_UUID
from ottla.protocol.messages import describe_quorum, fetch, fetch_snapshot, raft_data
from ottla.records.control import ControlMessage
from ottla.server.log.files import METADATA_TOPIC
from ottla.server.raft.answers import Inbound, fetch_answer, fetch_snapshot_answer
from ottla.server.raft.effects import LeaderChange, Reply, ReplySnapshot
from ottla.server.raft.metadata_log import LeaderAndEpoch
from ottla.server.raft.progress import Progress, Replicas
from ottla.server.raft.requests import begin_quorum_epoch_request
from ottla.server.raft.roles import Role, earliest
from ottla.server.raft.snapshot import SnapshotId
from ottla.server.raft.voter_changes import VoterChanges
from ottla.server.raft.voters import ReplicaKey

if TYPE_CHECKING:
    from ottla.server.raft.core import QuorumCore

CHECK_QUORUM_FACTOR: Final = 1.5
BOOTSTRAP_SNAPSHOT: Final = SnapshotId(0, 0)


@dataclass(frozen=True, slots=True)
class ParkedFetch:
    """A fetch that found nothing new."""

    inbound: Inbound
    partition: Any
    deadline_ms: int


class Leader(Role):
    """Leads the core's epoch; its first record is at `epoch_start_offset`."""

    name = "leader"

    def __init__(self, core: QuorumCore, granted: Collection[int], now_ms: int) -> None:
        super().__init__(core)
        self.granted = granted
        self.epoch_start_offset = core.log.end_offset
        self.high_watermark = -1
        """Of this epoch; -1 until a record of it is committed."""
        self.replicas = Replicas(core.local.key, core.voters)
        self.changes = VoterChanges(self)
        self.parked: list[ParkedFetch] = []
        self.begin_epoch_ms = now_ms
        self._check_quorum_ms = now_ms + self._check_quorum_timeout_ms
        self._heard_from: set[int] = set()
        self._resign_requested = False

    @property
    def _check_quorum_timeout_ms(self) -> int:
        return int(self.core.settings.fetch_timeout_ms * CHECK_QUORUM_FACTOR)

    def grants(self, candidate: ReplicaKey, *, is_up_to_date: bool, pre_vote: bool) -> bool:
        """No vote, and no pre-vote: as long as a majority follows nobody else is needed (KIP-996). When it does not
        this replica resigns.
        """
        return False

    # Appending

    def begin_epoch(self) -> None:
        """Open the epoch in the log, and renew what the log says of this voter when it has changed."""
        core = self.core
        core.emit(LeaderChange(LeaderAndEpoch(core.local.key.replica_id, core.epoch), self.epoch_start_offset))
        first: list[ControlMessage] = [
            raft_data.LeaderChangeMessage(
                version=0,
                leader_id=core.local.key.replica_id,
                voters=_change_voters(core.voters.ids),
                granting_voters=_change_voters(sorted(self.granted)),
            )
        ]
        history = core.history
        if history.kraft_version > 0:
            own = core.local_voter
            voters = history.voters
            if core.is_voter and own.endpoints and voters.get(own.voter_id) != own:
                voters = voters.with_voter(own)
            if history.voters_offset == -1 or voters != history.voters:
                first.append(raft_data.KRaftVersionRecord(version=0, kraft_version=history.kraft_version))
                first.append(voters.to_record())
        self.append_control(first)

    def append_control(self, messages: Sequence[ControlMessage]) -> int:
        """Append control records, which count at once; the offset of the last one."""
        core = self.core
        base_offset = core.log.append_control(core.epoch, messages)
        for offset, message in enumerate(messages, base_offset):
            core.history.replay(offset, message)
        if any(isinstance(message, raft_data.VotersRecord) for message in messages):
            needed_others = self.replicas.other_votes_needed > 0
            self.replicas.set_voters(core.voters)
            self._heard_from.intersection_update(self.replicas.voters)
            if not needed_others:
                self._check_quorum_ms = core.now_ms + self._check_quorum_timeout_ms
        self.appended()
        return base_offset + len(messages) - 1

    def appended(self) -> None:
        """The log has grown: whoever waits for records gets them, and they are flushed here meanwhile."""
        if self.parked:
            end_offset = self.core.log.end_offset
            self._release(lambda parked: parked.partition.fetch_offset < end_offset)
        self.core.request_flush()

    def flushed(self) -> None:
        """This replica has come further."""
        core = self.core
        self.replicas.get_or_add(core.local.key).end_offset = core.log.flushed_end_offset
        self.update_high_watermark()

    def update_high_watermark(self) -> None:
        """Commit what a majority has, as soon as that includes a record of this epoch (Raft §5.4.2)."""
        core = self.core
        offset = self.replicas.majority_end_offset()
        # The end of a voter that came in lately may lie behind, and a follower's own may lie ahead of what is here.
        offset = min(offset, core.log.end_offset)
        if offset <= self.epoch_start_offset or offset <= self.high_watermark:
            return
        self.high_watermark = offset
        core.advance_high_watermark(offset)
        if self.changes.high_watermark_advanced(offset) and not core.is_voter:
            self._resign_requested = True  # it has removed itself
        self._release(lambda parked: True)

    # Time

    def drive(self, now_ms: int) -> int | None:
        """Resign when it must be; tell voters that do not fetch who leads; let parked fetches go."""
        core = self.core
        alone = self.replicas.other_votes_needed <= 0
        if self._resign_requested or core.is_shutting_down or (not alone and now_ms >= self._check_quorum_ms):
            core.become_resigned(now_ms, [voter.key for voter in self.replicas.by_progress()])
            return None
        self.changes.expire(now_ms)
        self._release(lambda parked: parked.deadline_ms <= now_ms)
        deadline_ms = self.changes.deadline_ms
        for parked in self.parked:
            deadline_ms = earliest(deadline_ms, parked.deadline_ms)
        if not alone:
            deadline_ms = earliest(deadline_ms, self._check_quorum_ms)
        if self.replicas.remote_voters:
            deadline_ms = earliest(deadline_ms, self._tell_voters(now_ms))
        return deadline_ms

    def request_resignation(self) -> None:
        """Resign at the next opportunity."""
        self._resign_requested = True

    def _tell_voters(self, now_ms: int) -> int:
        """BeginQuorumEpoch to the voters that have not fetched lately, every half of the fetch timeout."""
        core = self.core
        period_ms = max(1, core.settings.fetch_timeout_ms // 2)
        if now_ms >= self.begin_epoch_ms:
            for progress in self.replicas.remote_voters:
                voter = core.voters.get(progress.key.replica_id)
                if voter is None or (
                    progress.last_fetch_ms is not None and now_ms - progress.last_fetch_ms < period_ms
                ):
                    continue
                request = begin_quorum_epoch_request(
                    core.local.cluster_id, core.epoch, core.local.key.replica_id, core.local.endpoints, voter.key
                )
                core.send_when_ready(core.destination_of(voter), request, now_ms)
            self.begin_epoch_ms = now_ms + period_ms
        return self.begin_epoch_ms

    def heard_from(self, key: ReplicaKey, now_ms: int) -> None:
        """A voter follows; when a majority does, the check quorum begins anew."""
        if key.replica_id != self.core.local.key.replica_id and self.replicas.is_voter(key):
            self._heard_from.add(key.replica_id)
            if len(self._heard_from) >= self.replicas.other_votes_needed:
                self._heard_from.clear()
                self._check_quorum_ms = now_ms + self._check_quorum_timeout_ms

    def leave(self) -> None:
        """Whoever waits is told that this replica does not lead any more."""
        parked, self.parked = self.parked, []
        for one in parked:
            self.core.emit(Reply(one.inbound.token, refuse_fetch(self.core, one.inbound, _NOT_LEADER)))
        self.changes.abort(_NOT_LEADER)

    # Fetch

    def on_fetch(self, inbound: Inbound, partition: Any, replica: ReplicaKey) -> None:
        """A checked Fetch of this epoch: answer it, or park it until there is something new."""
        response = self._fetch_response(inbound, partition, replica)
        about = response.responses[0].partitions[0]
        nothing_new = (
            not about.records
            and about.diverging_epoch.epoch < 0
            and about.snapshot_id.epoch < 0
            and partition.high_watermark >= about.high_watermark
        )
        if nothing_new and inbound.request.max_wait_ms > 0:
            self.parked.append(ParkedFetch(inbound, partition, inbound.now_ms + inbound.request.max_wait_ms))
        else:
            self.core.emit(Reply(inbound.token, response))

    def _fetch_response(self, inbound: Inbound, partition: Any, replica: ReplicaKey | None) -> fetch.FetchResponse:
        """What this replica has for a fetch. With `replica` the fetch counts as that one's acknowledgement."""
        log = self.core.log
        offset, epoch = partition.fetch_offset, partition.last_fetched_epoch
        about = fetch.PartitionData(records=b"", log_start_offset=log.start_offset)
        snapshot_id = self._snapshot_instead(offset, epoch)
        if snapshot_id is not None:
            about.snapshot_id = fetch.SnapshotId(end_offset=snapshot_id.end_offset, epoch=snapshot_id.epoch)
        else:
            end = log.end_offset_for_epoch(epoch)
            if (offset > 0 or log.start_offset > 0) and (end.epoch != epoch or end.end_offset < offset):
                about.diverging_epoch = fetch.EpochEndOffset(epoch=end.epoch, end_offset=end.end_offset)
            else:
                if replica is not None and replica.replica_id >= 0:
                    self._acknowledged(replica, offset, inbound.now_ms)
                if offset < log.end_offset:
                    about.records = log.read(offset, inbound.request.max_bytes)
        about.high_watermark = self.high_watermark
        return fetch_answer(inbound, self.core.known_leader, about)

    def _snapshot_instead(self, offset: int, epoch: int) -> SnapshotId | None:
        """The snapshot for a replica whose log ends before this one begins, or parted from it before that (KIP-630).

        A log that is empty begins with a snapshot whenever there is one.
        """
        log = self.core.log
        latest, earliest_id, start_offset = log.latest_snapshot, log.earliest_snapshot, log.start_offset
        if latest is None or earliest_id is None:
            return None
        if offset == 0 or offset < start_offset:
            return latest
        if start_offset == 0:
            return None
        if offset == start_offset:
            # Only the snapshot that ends here knows the epoch of the record before.
            return None if earliest_id == (start_offset, epoch) else latest
        return latest if earliest_id.end_offset == start_offset and epoch < earliest_id.epoch else None

    def _acknowledged(self, replica: ReplicaKey, offset: int, now_ms: int) -> None:
        progress = self.replicas.get_or_add(replica)
        progress.fetched(offset, self.core.log.end_offset, now_ms)
        self.heard_from(replica, now_ms)
        if self.replicas.is_voter(replica):
            self.update_high_watermark()

    def _release(self, condition: Any) -> None:
        """Answer the parked fetches that meet a condition. Their arrival has been counted; this is no new one."""
        if not self.parked:
            return
        parked, self.parked = self.parked, []
        for one in parked:
            if condition(one):
                self.core.emit(Reply(one.inbound.token, self._fetch_response(one.inbound, one.partition, None)))
            else:
                self.parked.append(one)

    # Other requests

    def on_fetch_snapshot(self, inbound: Inbound, partition: Any, replica: ReplicaKey) -> None:
        """A checked FetchSnapshot of this epoch."""
        core = self.core
        snapshot_id = SnapshotId(partition.snapshot_id.end_offset, partition.snapshot_id.epoch)
        size = None if snapshot_id == BOOTSTRAP_SNAPSHOT else core.log.snapshot_size(snapshot_id)
        about = fetch_snapshot.FetchSnapshotResponsePartitionSnapshot(unaligned_records=b"")
        if size is None or not 0 <= partition.position < size:
            about.error_code = ErrorCode.SNAPSHOT_NOT_FOUND if size is None else ErrorCode.POSITION_OUT_OF_RANGE
            core.emit(Reply(inbound.token, fetch_snapshot_answer(inbound, core.known_leader, about)))
            return
        self.heard_from(replica, inbound.now_ms)
        about.snapshot_id = fetch_snapshot.SnapshotId(end_offset=snapshot_id.end_offset, epoch=snapshot_id.epoch)
        about.size, about.position = size, partition.position
        max_bytes = min(inbound.request.max_bytes, size - partition.position)
        response = fetch_snapshot_answer(inbound, core.known_leader, about)
        core.emit(ReplySnapshot(inbound.token, response, snapshot_id, partition.position, max_bytes))

    def on_describe_quorum(self, inbound: Inbound) -> None:
        """The state of the quorum; of the leader itself it says that it is caught up now."""
        core = self.core
        self.replicas.forget_idle_observers(inbound.now_ms)
        about = describe_quorum.DescribeQuorumResponsePartitionData(
            leader_id=core.local.key.replica_id,
            leader_epoch=core.epoch,
            high_watermark=self.high_watermark,
            current_voters=[self._replica_state(inbound, one) for one in self.replicas.voters.values()],
            observers=[self._replica_state(inbound, one) for one in self.replicas.observers.values()],
        )
        topic = describe_quorum.DescribeQuorumResponseTopicData(topic_name=METADATA_TOPIC, partitions=[about])
        response = describe_quorum.DescribeQuorumResponse(topics=[topic])
        if inbound.version >= 2:
            response.nodes = [
                describe_quorum.Node(
                    node_id=voter.voter_id,
                    listeners=[
                        describe_quorum.Listener(name=name, host=host, port=port)
                        for name, host, port in voter.endpoints
                    ],
                )
                for voter in core.voters
            ]
        core.emit(Reply(inbound.token, response))

    def _replica_state(self, inbound: Inbound, progress: Progress) -> describe_quorum.ReplicaState:
        is_local = progress.matches(self.core.local.key)

        def wall_ms(time_ms: int | None) -> int:
            if is_local:
                return inbound.wall_ms
            return -1 if time_ms is None else inbound.wall_ms - (inbound.now_ms - time_ms)

        return describe_quorum.ReplicaState(
            replica_id=progress.key.replica_id,
            replica_directory_id=progress.key.directory_id if inbound.version >= 2 else ZERO_UUID,
            log_end_offset=self.core.log.end_offset if is_local else progress.end_offset,
            last_fetch_timestamp=wall_ms(progress.last_fetch_ms),
            last_caught_up_timestamp=wall_ms(progress.last_caught_up_ms),
        )


def refuse_fetch(core: QuorumCore, inbound: Inbound, error: ErrorCode) -> fetch.FetchResponse:
    """The answer to a Fetch that is not served, with the leader as far as it is known."""
    about = fetch.PartitionData(
        error_code=error, records=b"", high_watermark=-1, log_start_offset=core.log.start_offset
    )
    return fetch_answer(inbound, core.known_leader, about)


_NOT_LEADER: Final = ErrorCode.NOT_LEADER_OR_FOLLOWER


def _change_voters(ids: Iterable[int]) -> list[raft_data.LeaderChangeMessageVoter]:
    return [raft_data.LeaderChangeMessageVoter(voter_id=one) for one in ids]
