"""A replica that follows a leader: fetches, truncates, downloads snapshots, and stands for election when it is alone.

A voter acknowledges by the offset it fetches from, so it fetches only when everything it has is flushed. Whoever can
not reach the leader asks the bootstrap servers for another one meanwhile (KIP-853).

Beyond Kafka: a connection to the leader that is lost, and cannot be made anew, is taken as the leader's end. Such a
follower grants pre-votes, and stands for election soon instead of at the end of the fetch timeout. Only the election
begins earlier: a majority must agree, and those who still hear from the leader do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ottla.protocol.message import Request
from ottla.records.batch import CorruptRecordError, batches
from ottla.records.control import read_control_message
from ottla.records.record import read_batch_records
from ottla.server.raft.effects import Destination, InstallSnapshot, StoreSnapshotPiece
from ottla.server.raft.requests import (
    add_voter_request,
    fetch_snapshot_request,
    remove_voter_request,
    update_voter_request,
)
from ottla.server.raft.roles import Role, earliest
from ottla.server.raft.snapshot import SnapshotId

if TYPE_CHECKING:
    from ottla.server.raft.core import QuorumCore
    from ottla.server.raft.voters import ReplicaKey

FAILURES_OF_A_DEAD_LEADER: Final = 2
"""The request that was under way when the leader died, and the attempt to connect again."""


class Follower(Role):
    """Follows `leader`."""

    name = "follower"

    def __init__(self, core: QuorumCore, leader: Destination, now_ms: int) -> None:
        super().__init__(core)
        self.leader = leader
        self.fetch_deadline_ms = now_ms + core.settings.fetch_timeout_ms
        self.voter_update_ms = now_ms + core.settings.fetch_timeout_ms
        self.has_fetched = False
        self.has_told_leader = False
        self.failures = 0
        self.download: SnapshotId | None = None
        self.position = 0

    @property
    def suspects_leader(self) -> bool:
        """Whether the leader seems to be gone."""
        return self.failures >= FAILURES_OF_A_DEAD_LEADER

    def grants(self, candidate: ReplicaKey, *, is_up_to_date: bool, pre_vote: bool) -> bool:
        """Nobody's vote while there is a leader; a pre-vote when there may be none."""
        return pre_vote and is_up_to_date and (not self.has_fetched or self.suspects_leader)

    def drive(self, now_ms: int) -> int | None:
        """Fetch, or tell the leader about this voter; stand for election when the leader is silent."""
        core = self.core
        if core.is_shutting_down:
            return None
        deadline_ms: int | None = None
        if core.may_stand_for_election:
            if now_ms >= self.fetch_deadline_ms:
                core.become_prospective(now_ms)
                return None
            deadline_ms = self.fetch_deadline_ms
        if now_ms >= self.voter_update_ms:
            request = self._voter_change()
            if request is not None:
                if not core.connections.is_ready(self.leader, now_ms):
                    return earliest(deadline_ms, core.connections.paused_until_ms(self.leader, now_ms))
                core.send(self.leader, request, now_ms)
            self.voter_update_ms = now_ms + core.settings.fetch_timeout_ms
        return earliest(deadline_ms, self._fetch(now_ms))

    def leader_resigned(self, backoff_ms: int, now_ms: int) -> None:
        """Stand for election after `backoff_ms`, which depends on how far this voter is."""
        self.fetch_deadline_ms = now_ms + backoff_ms

    def failed(self, destination: Destination, now_ms: int, *, timed_out: bool) -> None:
        """A request of this follower was not answered."""
        if destination != self.leader or timed_out:
            return
        self.failures += 1
        if self.failures == FAILURES_OF_A_DEAD_LEADER:
            soon_ms = now_ms + self.core.random_below(max(1, self.core.settings.election_timeout_ms // 10))
            self.fetch_deadline_ms = min(self.fetch_deadline_ms, soon_ms)

    def heard(self, now_ms: int) -> None:
        """The leader has answered a fetch."""
        self.fetch_deadline_ms = now_ms + self.core.settings.fetch_timeout_ms
        self.has_fetched = True
        self.failures = 0

    # What the leader answered

    def on_fetched(self, partition: Any, fetch_offset: int, now_ms: int) -> bool:
        """A Fetch without error; whether the answer could be used."""
        core = self.core
        log = core.log
        if fetch_offset != log.end_offset or core.installing is not None:
            return True  # truncated or replaced since then: ask again
        if partition.diverging_epoch.epoch >= 0:
            if not self._truncate(partition.diverging_epoch.epoch, partition.diverging_epoch.end_offset):
                return False
        elif partition.snapshot_id.epoch >= 0 or partition.snapshot_id.end_offset >= 0:
            if partition.snapshot_id.epoch < 0 or partition.snapshot_id.end_offset <= 0:
                return False
            self.download = SnapshotId(partition.snapshot_id.end_offset, partition.snapshot_id.epoch)
            self.position = 0
        else:
            if partition.records is not None and len(partition.records) > 0 and not self._append(partition.records):
                return False
            core.advance_high_watermark(min(log.end_offset, partition.high_watermark))
        self.heard(now_ms)
        return True

    def on_snapshot_piece(self, partition: Any, now_ms: int) -> bool:
        """A piece of the snapshot, in order; whether it could be used."""
        snapshot_id = SnapshotId(partition.snapshot_id.end_offset, partition.snapshot_id.epoch)
        data = partition.unaligned_records
        if self.download is None or snapshot_id != self.download or partition.position != self.position:
            return True  # of a download that was given up
        if not data:
            return False
        core = self.core
        core.emit(StoreSnapshotPiece(snapshot_id, self.position, data))
        self.position += len(data)
        self.heard(now_ms)
        if self.position >= partition.size:
            self.download = None
            core.installing = snapshot_id
            core.emit(InstallSnapshot(snapshot_id))
        return True

    def on_snapshot_gone(self, now_ms: int) -> None:
        """The leader has a newer snapshot by now, or another leader never had this one: ask for the log again."""
        self.download = None
        self.heard(now_ms)

    def _truncate(self, epoch: int, end_offset: int) -> bool:
        """Cut the log where it and the leader's part (KIP-595)."""
        core = self.core
        log = core.log
        if epoch == 0:
            offset = min(end_offset, log.end_offset)
        else:
            own = log.end_offset_for_epoch(epoch)
            offset = min(own.end_offset, end_offset) if own.epoch == epoch else own.end_offset
        if offset < core.high_watermark:
            core.fail(
                f"the leader {self.leader.node_id} has a metadata log that ends epoch {epoch} at offset {end_offset}, "
                f"but records up to offset {core.high_watermark} were committed: its disk, or a majority's, was lost."
            )
            return False
        if offset < log.end_offset:
            log.truncate_to(offset)
            core.history.truncate_to(offset)
        return True

    def _append(self, data: Any) -> bool:
        """Append what continues the log; take note of control records in it."""
        core = self.core
        log = core.log
        start_offset = log.end_offset
        try:
            first = next(batches(data), None)
            if first is None or first[1].base_offset != start_offset or first[1].partition_leader_epoch > core.epoch:
                return False
            log.append_as_follower(data)
        except CorruptRecordError:
            return False
        finally:
            if log.end_offset > start_offset:
                for position, header in batches(data):
                    if header.is_control and header.next_offset <= log.end_offset:
                        for record in read_batch_records(data, position, header):
                            core.history.replay(record.offset, read_control_message(record))
                if core.must_flush:
                    core.request_flush()
        return True

    # What is asked

    def _fetch(self, now_ms: int) -> int | None:
        core = self.core
        if not core.may_fetch or not core.connections.is_idle:
            return None
        if not core.connections.is_ready(self.leader, now_ms):
            retry_ms = core.connections.paused_until_ms(self.leader, now_ms)
            if self.failures == 1:  # may be no more than a lost connection: find that out first
                return retry_ms
            return earliest(retry_ms, core.fetch_from_bootstrap(now_ms, besides=self.leader))
        if self.download is not None:
            settings, local = core.settings, core.local
            request: Request = fetch_snapshot_request(
                local.cluster_id, core.epoch, local.key, self.download, self.position, settings.fetch_snapshot_max_bytes
            )
        else:
            request = core.fetch_request()
        core.send(self.leader, request, now_ms)
        return None

    def _voter_change(self) -> Request | None:
        """What the leader should know about this replica, which may want to become a voter."""
        core, local = self.core, self.core.local
        voters, version = core.voters, core.history.kraft_version
        own = core.local_voter
        if not own.endpoints:
            return None
        if core.is_voter:
            current = voters.get(local.key.replica_id)
            if (current != own) if version > 0 else not self.has_told_leader:
                return update_voter_request(local.cluster_id, core.epoch, own)
        elif version > 0 and local.can_become_voter and core.settings.auto_join:
            former = voters.get(local.key.replica_id)
            if former is not None:
                return remove_voter_request(local.cluster_id, former.key)
            return add_voter_request(local.cluster_id, local.key, local.endpoints, core.settings.request_timeout_ms)
        return None
