"""The quorum core: one replica of the metadata log, without I/O (KIP-595, 630, 853, 996).

How a shell drives it
---------------------
1. Open the log (`ports.ReplicaLog`), fill a `VoterHistory` with what its newest snapshot and its control records say,
   read `quorum-state`, and make a `QuorumCore`.
2. Call `start(now_ms)`; a quorum of one leads from here on.
3. After *every* call take the effects with `take_effects()` and carry them out in order (`effects`); then wait until
   `deadline_ms` (None: nothing to wait for) or until something happens, whichever comes first:

   - a request of the quorum's APIs came in: `on_request(token, request, …)`; the answer is a `Reply` (or
     `ReplySnapshot`) with the same token, at once or later,
   - the answer to a `Send` came, or there will be none: `on_response(token, …)`, `on_send_failed(token, …)`,
   - a `Flush` ended: `on_flushed(now_ms)`,
   - `InstallSnapshot` ended: `on_snapshot_installed(…)` or `on_snapshot_failed(…)`,
   - the time has come: `on_time(now_ms)`,
   - the controller wants something: `append`, `resign`, `upgrade_kraft_version`, `shutdown`.

`now_ms` is monotonic. The core appends to the log and truncates it while it handles an input; the shell does neither.

Invariants: no epoch is voted in twice; a leader appends only in its own epoch; nothing is acknowledged that is not on
the device; the high watermark passes a record only when a majority of the voters has flushed it and a record of the
leader's own epoch; it never goes back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from ottla.core.ids import ZERO_UUID
from ottla.protocol.message import Request, Response
from ottla.protocol.messages import fetch
from ottla.server.raft.answers import Inbound, KnownLeader
from ottla.server.raft.connections import Connections
from ottla.server.raft.effects import (
    Destination,
    Effect,
    Fail,
    Flush,
    HighWatermark,
    LeaderChange,
    Persist,
    Send,
)
from ottla.server.raft.follower import Follower
from ottla.server.raft.leader import Leader
from ottla.server.raft.metadata_log import LeaderAndEpoch, NotLeaderError
from ottla.server.raft.ports import ReplicaLog
from ottla.server.raft.quorum_state import QuorumState
from ottla.server.raft.requests import fetch_request
from ottla.server.raft.roles import Candidate, Prospective, Resigned, Role, Unattached, earliest
from ottla.server.raft.serving import serve
from ottla.server.raft.settling import settle, settle_failure
from ottla.server.raft.snapshot import SnapshotId
from ottla.server.raft.voters import Endpoints, ReplicaKey, Voter, VoterHistory, VoterSet, address_of


@dataclass(frozen=True, slots=True)
class QuorumSettings:
    """Kafka's `controller.quorum.*`, in milliseconds and bytes."""

    election_timeout_ms: int = 1000
    fetch_timeout_ms: int = 2000
    election_backoff_max_ms: int = 1000
    request_timeout_ms: int = 2000
    retry_backoff_ms: int = 20
    fetch_max_wait_ms: int = 500
    fetch_max_bytes: int = 1024 * 1024
    fetch_snapshot_max_bytes: int = 1024 * 1024
    auto_join: bool = False


@dataclass(frozen=True, slots=True)
class LocalReplica:
    """This node in the quorum.

    `listener` is the controller listener's name under which other replicas are reached (the first of
    `controller.listener.names`), `endpoints` all controller listeners of this node as others reach them (empty on a
    node that is only a broker), `can_become_voter` whether it has the role controller.
    """

    key: ReplicaKey
    cluster_id: str
    listener: str
    endpoints: Endpoints = ()
    can_become_voter: bool = True
    bootstrap_servers: tuple[tuple[str, int], ...] = ()


class QuorumCore:
    """One replica of the quorum: voter or observer. `random_below(n)` gives a random integer in [0, n).

    What the shell calls stands first; the rest is for the roles, which share the core's state.
    """

    def __init__(
        self,
        local: LocalReplica,
        settings: QuorumSettings,
        log: ReplicaLog,
        history: VoterHistory,
        state: QuorumState,
        random_below: Callable[[int], int],
    ) -> None:
        self.local = local
        self.settings = settings
        self.log = log
        self.history = history
        self.random_below = random_below
        self.connections = Connections(settings.retry_backoff_ms, settings.request_timeout_ms)
        self.now_ms = 0
        self.epoch = max(state.leader_epoch, log.last_epoch)
        self.leader_id = -1
        self.leader_endpoints: Endpoints = ()
        self.voted: ReplicaKey | None = None
        self.high_watermark: int = log.latest_snapshot.end_offset if log.latest_snapshot is not None else 0
        """End of what is known to be committed; that of the newest snapshot to begin with."""
        self.installing: SnapshotId | None = None
        self.is_shutting_down = False
        self.role: Role = Unattached(self, 0)
        self.deadline_ms: int | None = None
        """When `on_time` wants to be called; None: when something happens."""
        self._bootstrap = [
            Destination(-2 - index, *address)
            for index, address in enumerate(local.bootstrap_servers)
            if address not in {(host, port) for _, host, port in local.endpoints}
        ]
        self.trouble: str | None = None
        """Why the last node that was asked did not want to talk to this one, for who wonders why nobody leads."""
        self._initial = state
        self._persisted: QuorumState | None = state
        self._announced = LeaderAndEpoch(-1, -1)
        self._flushing = False
        self._failed = False
        self._effects: list[Effect] = []

    # What the shell reads

    @property
    def leader(self) -> LeaderAndEpoch:
        """Who leads, as far as this replica knows."""
        return LeaderAndEpoch(-1 if isinstance(self.role, Resigned) else self.leader_id, self.epoch)

    @property
    def is_leader(self) -> bool:
        """Whether this replica leads; see `LeaderChange` for when its listener may know."""
        return isinstance(self.role, Leader)

    @property
    def voters(self) -> VoterSet:
        """The voters that count, committed or not."""
        return self.history.voters

    @property
    def is_voter(self) -> bool:
        """Whether this replica is one of them."""
        return self.history.voters.is_voter(self.local.key)

    @property
    def kraft_version(self) -> int:
        """Level of kraft.version, one that is not committed yet included."""
        return self.history.kraft_version

    @property
    def is_shut_down(self) -> bool:
        """After `shutdown`: whether nothing is left to do for the others."""
        return self.is_shutting_down and (
            self._failed
            or not self.is_voter
            or self.voters.is_only_voter(self.local.key)
            or self.leader_id not in (-1, self.local.key.replica_id)
        )

    def take_effects(self) -> list[Effect]:
        """What is to be done, in order; each effect is given once."""
        effects, self._effects = self._effects, []
        return effects

    # What the shell tells

    def start(self, now_ms: int) -> None:
        """Begin; once, before anything else.

        A replica that led, or voted for itself, in the last epoch never leads in it again: what it had appended may be
        lost.
        """
        self.now_ms = now_ms
        state = self._initial
        if state.leader_epoch == self.epoch and state.voted_id >= 0:
            self.voted = ReplicaKey(state.voted_id, state.voted_directory_id)
        if self.log.flushed_end_offset < self.log.end_offset:
            self.request_flush()
        election_ms = now_ms + self.election_timeout_ms()
        if self.voters.is_only_voter(self.local.key):
            self._lead_alone(now_ms)
            return
        if state.leader_epoch == self.epoch and state.leader_id >= 0:
            self.leader_id = state.leader_id
            endpoints = self.voters.endpoints(state.leader_id)
            address = address_of(endpoints, self.local.listener)
            if state.leader_id == self.local.key.replica_id:
                self.leader_endpoints = self.local.endpoints
                self._enter(Resigned(self, election_ms, ()))
            elif address is not None:
                self.leader_endpoints = endpoints
                self._enter(Follower(self, Destination(state.leader_id, *address), now_ms))
            else:
                self._enter(Unattached(self, election_ms))
        else:
            self._enter(Unattached(self, election_ms))
        self._drive(now_ms)

    def on_time(self, now_ms: int) -> None:
        """Time has passed."""
        self._drive(now_ms)

    def on_request(
        self, token: object, request: Request, now_ms: int, *, version: int, listener: str, wall_ms: int
    ) -> None:
        """A Vote, BeginQuorumEpoch, EndQuorumEpoch, Fetch (of the metadata partition), FetchSnapshot, DescribeQuorum,
        AddRaftVoter, RemoveRaftVoter or UpdateRaftVoter came in on `listener`, in `version`.

        `wall_ms` is the wall clock's time of `now_ms`, for the timestamps of DescribeQuorum.
        """
        if not self._failed:
            self.now_ms = now_ms
            serve(self, Inbound(token, request, version, listener, now_ms, wall_ms))
            self._drive(now_ms)

    def on_response(self, token: int, response: Response, now_ms: int) -> None:
        """The answer to a `Send`."""
        asked = self.connections.answered(token)
        if asked is not None and not self._failed:
            self.now_ms = now_ms
            settle(self, asked, response, now_ms)
            self._drive(now_ms)

    def on_send_failed(self, token: int, now_ms: int, *, unsupported_version: bool = False) -> None:
        """A `Send` has no answer: no connection, lost, timed out, or the other does not serve such a request."""
        self._send_failed(token, now_ms, unsupported_version=unsupported_version, timed_out=False)
        self._drive(now_ms)

    def on_flushed(self, now_ms: int) -> None:
        """A `Flush` has ended; how far the log is flushed says the log."""
        self.now_ms = now_ms
        self._flushing = False
        if self._failed:
            return
        if self.log.flushed_end_offset < self.log.end_offset:
            self.request_flush()
        if isinstance(self.role, Leader):
            self.role.flushed()
        self._drive(now_ms)

    def on_snapshot_installed(
        self, snapshot_id: SnapshotId, kraft_version: int | None, voters: VoterSet | None, now_ms: int
    ) -> None:
        """The log stands at the end of the downloaded snapshot, which says this of the quorum (None: nothing)."""
        assert snapshot_id == self.installing, "installed without being asked to"
        self.installing = None
        self.history.load_snapshot(snapshot_id.end_offset, kraft_version, voters)
        self.advance_high_watermark(snapshot_id.end_offset)
        self._drive(now_ms)

    def on_snapshot_failed(self, snapshot_id: SnapshotId, now_ms: int) -> None:
        """The downloaded snapshot is no good, and the log as it was; it will be fetched again."""
        assert snapshot_id == self.installing, "failed without being asked to"
        self.installing = None
        self._drive(now_ms)

    def append(self, epoch: int, frames: Sequence[bytes], now_ms: int, timestamp_ms: int) -> int:
        """Append one batch of framed records, stamped with the wall clock's `timestamp_ms`; its last offset.

        Raises NotLeaderError unless this replica leads in `epoch`.
        """
        leader = self._leading(epoch)
        self.now_ms = now_ms
        last_offset = self.log.append_as_leader(epoch, frames, timestamp_ms)
        leader.appended()
        return last_offset

    def resign(self, epoch: int, now_ms: int) -> None:
        """Give up leadership of `epoch`, and propose successors; nothing happens when it is over already."""
        if isinstance(self.role, Leader) and epoch == self.epoch:
            self.role.request_resignation()
            self._drive(now_ms)

    def upgrade_kraft_version(self, epoch: int, version: int, now_ms: int, *, validate_only: bool = False) -> bool:
        """Move a static quorum to kraft.version 1; whether anything was to be done (KIP-853).

        Raises NotLeaderError, and ApiError INVALID_UPDATE_VERSION when a voter does not support it, or is not known
        well enough yet, or the version is lower.
        """
        leader = self._leading(epoch)
        self.now_ms = now_ms
        return leader.changes.upgrade(version, validate_only=validate_only)

    def shutdown(self, now_ms: int) -> None:
        """Leave gracefully: a leader resigns and waits for a successor. `is_shut_down` says when it is done."""
        self.is_shutting_down = True
        if not self.voters.is_only_voter(self.local.key):
            self._drive(now_ms)

    def forget_before(self, offset: int) -> None:
        """Records before `offset` were replaced by a snapshot: older voter sets are not needed any more."""
        self.history.forget_before(offset)

    def check_invariants(self) -> None:
        """Raise AssertionError when the state contradicts itself."""
        log, role = self.log, self.role
        assert self.epoch >= log.last_epoch, "the log is of a later epoch"
        assert self.high_watermark <= log.end_offset or self.installing is not None, "more is committed than is here"
        assert log.flushed_end_offset <= log.end_offset
        assert (self.leader_id == self.local.key.replica_id) == isinstance(role, Leader | Resigned)
        if isinstance(role, Leader):
            assert self.installing is None
            assert role.high_watermark <= self.high_watermark
            assert self.voters.ids == tuple(role.replicas.voters), "counts other voters than the log names"
        if isinstance(role, Follower):
            assert role.leader.node_id == self.leader_id
        if isinstance(role, Candidate):
            assert self.voted == self.local.key

    # For the roles: effects

    def emit(self, effect: Effect) -> None:
        """Have something done."""
        self._effects.append(effect)

    def send(self, destination: Destination, request: Request, now_ms: int) -> None:
        """Ask a node that is ready."""
        token = self.connections.ask(destination, request, now_ms)
        self.emit(Send(destination, request, token, self.settings.request_timeout_ms))

    def send_when_ready(self, destination: Destination | None, request: Request, now_ms: int) -> int | None:
        """Ask a node unless it is asked already, or failed a moment ago: then it may be asked at the time returned."""
        if destination is None or self.connections.is_busy(destination):
            return None
        until_ms = self.connections.paused_until_ms(destination, now_ms)
        if until_ms is None:
            self.send(destination, request, now_ms)
        return until_ms

    def request_flush(self) -> None:
        """Have the log flushed, unless that goes on: then once more after it."""
        if not self._flushing:
            self._flushing = True
            self.emit(Flush())

    def advance_high_watermark(self, offset: int) -> None:
        """What is committed; it never goes back."""
        if offset > self.high_watermark:
            self.high_watermark = offset
            self.emit(HighWatermark(offset))

    def fail(self, reason: str) -> None:
        """Give up."""
        self._failed = True
        self.deadline_ms = None
        self.connections.reset()
        self.emit(Fail(reason))

    # For the roles: fetching

    @property
    def must_flush(self) -> bool:
        """Whether this replica's acknowledgement counts, now or after the next change of the voters."""
        return self.local.can_become_voter or self.is_voter

    @property
    def may_fetch(self) -> bool:
        """A fetch acknowledges everything before its offset, which must have been flushed."""
        return self.installing is None and (not self.must_flush or self.log.flushed_end_offset >= self.log.end_offset)

    def fetch_request(self) -> fetch.FetchRequest:
        """A Fetch for what comes next."""
        settings = self.settings
        return fetch_request(
            self.local.cluster_id,
            self.epoch,
            self.local.key,
            self.log,
            self.high_watermark,
            max_wait_ms=settings.fetch_max_wait_ms,
            max_bytes=settings.fetch_max_bytes,
        )

    def fetch_from_bootstrap(self, now_ms: int, besides: Destination | None = None) -> int | None:
        """Ask one of the bootstrap servers, at random, unless something is under way; it will name the leader.

        `besides` is not asked. Without bootstrap servers the voters are as good.
        """
        if not self.may_fetch or not self.connections.is_idle:
            return None
        known = self._bootstrap or [
            destination
            for voter in self.voters
            if voter.voter_id != self.local.key.replica_id and (destination := self.destination_of(voter)) is not None
        ]
        others = [one for one in known if besides is None or one.address != besides.address]
        ready = [one for one in others if self.connections.is_ready(one, now_ms)]
        if ready:
            self.send(ready[self.random_below(len(ready))], self.fetch_request(), now_ms)
            return None
        deadline_ms: int | None = None
        for one in others:
            deadline_ms = earliest(deadline_ms, self.connections.paused_until_ms(one, now_ms))
        return deadline_ms

    # For the roles: transitions

    @property
    def known_leader(self) -> KnownLeader:
        """The leader as this replica tells others."""
        return KnownLeader(self.leader_id, self.epoch, self.leader_endpoints)

    @property
    def local_voter(self) -> Voter:
        """This replica as a voter, as it would like to be known."""
        key = self.local.key
        return Voter(key.replica_id, key.directory_id, self.local.endpoints or self.voters.endpoints(key.replica_id))

    @property
    def may_stand_for_election(self) -> bool:
        """A voter, with a log that nobody replaces at this moment.

        So is one that the log removes, until that is committed: nobody else may have the record, and without it nobody
        else may win (Raft dissertation §4.2.2; Kafka gives up here).
        """
        key, offset = self.local.key, self.history.voters_offset
        is_removed = offset is not None and offset >= self.high_watermark and self.history.former_voters.is_voter(key)
        return self.installing is None and (self.is_voter or is_removed)

    def destination_of(self, voter: Voter) -> Destination | None:
        """Where a voter is reached; None when it has no such listener."""
        address = address_of(voter.endpoints, self.local.listener)
        return None if address is None else Destination(voter.voter_id, *address)

    def election_timeout_ms(self) -> int:
        """Anything from the setting to twice as much."""
        timeout_ms = max(1, self.settings.election_timeout_ms)
        return timeout_ms + self.random_below(timeout_ms)

    def is_up_to_date(self, last_epoch: int, end_offset: int) -> bool:
        """Whether a log that ends so has everything that this one has (Raft §5.4.1)."""
        return (last_epoch, end_offset) >= (self.log.last_epoch, self.log.end_offset)

    def become_unattached(self, epoch: int, now_ms: int, leader_id: int = -1) -> None:
        """Follow nobody in `epoch`. An election timeout that runs goes on."""
        role = self.role
        deadline_ms = now_ms + self.election_timeout_ms()
        if isinstance(role, Unattached | Candidate | Resigned) or (isinstance(role, Prospective) and not role.is_lost):
            deadline_ms = max(now_ms + 1, role.election_deadline_ms)
        if epoch > self.epoch:
            self.epoch, self.voted = epoch, None
        self.leader_id, self.leader_endpoints = leader_id, ()
        self._enter(Unattached(self, deadline_ms))

    def become_prospective(self, now_ms: int) -> None:
        """Ask for pre-votes, in the same epoch."""
        self._enter(Prospective(self, now_ms + self.election_timeout_ms()))

    def become_candidate(self, now_ms: int) -> None:
        """Vote for oneself in the next epoch."""
        self.epoch += 1
        self.voted = self.local.key
        self.leader_id, self.leader_endpoints = -1, ()
        self._enter(Candidate(self, now_ms + self.election_timeout_ms()))

    def become_leader(self, now_ms: int, granted: Collection[int]) -> None:
        """Lead, by the votes of `granted`."""
        self.now_ms = now_ms
        self.voted = None
        self.leader_id, self.leader_endpoints = self.local.key.replica_id, self.local_voter.endpoints
        leader = Leader(self, sorted(granted), now_ms)
        self._enter(leader)
        leader.begin_epoch()

    def become_follower(self, epoch: int, leader_id: int, endpoints: Endpoints, now_ms: int) -> None:
        """Follow a leader, if it can be reached; otherwise keep in mind that there is one."""
        address = address_of(endpoints, self.local.listener)
        if address is None:
            if epoch > self.epoch or self.leader_id < 0:
                self.become_unattached(epoch, now_ms, leader_id)
            return
        if epoch > self.epoch:
            self.epoch, self.voted = epoch, None
        self.leader_id, self.leader_endpoints = leader_id, endpoints
        self._enter(Follower(self, Destination(leader_id, *address), now_ms))

    def become_resigned(self, now_ms: int, successors: Sequence[ReplicaKey]) -> None:
        """Stop leading, and let others lead."""
        self._enter(Resigned(self, now_ms + self.election_timeout_ms(), successors))

    def give_up_election(self, now_ms: int) -> None:
        """A pre-vote did not succeed: back to the leader, if there is one."""
        if self.leader_id >= 0 and self.leader_endpoints:
            self.become_follower(self.epoch, self.leader_id, self.leader_endpoints, now_ms)
        else:
            self.become_unattached(self.epoch, now_ms, self.leader_id)

    def heard_of_leader(self, epoch: int, leader_id: int, endpoints: Endpoints, now_ms: int) -> None:
        """Somebody names a leader (-1: none) of an epoch that is not older than this replica's."""
        if leader_id == self.local.key.replica_id:
            if epoch > self.epoch:  # an epoch that this replica has forgotten; it must not lead in it again
                self.become_unattached(epoch, now_ms)
            return
        is_known = epoch == self.epoch and self.knows_leader(leader_id, endpoints)
        if leader_id >= 0 and not endpoints:
            endpoints = self.voters.endpoints(leader_id)
        if epoch > self.epoch:
            if leader_id >= 0:
                self.become_follower(epoch, leader_id, endpoints, now_ms)
            else:
                self.become_unattached(epoch, now_ms)
        elif leader_id >= 0 and not is_known:
            self.become_follower(epoch, leader_id, endpoints, now_ms)

    def knows_leader(self, leader_id: int, endpoints: Endpoints) -> bool:
        """Whether it is no news who leads this epoch, and where.

        A leader that was never reached may be elsewhere than this replica's voters, or its state file, have it.
        """
        if self.leader_id < 0 or not self.leader_endpoints:
            return False
        if leader_id != self.leader_id or (isinstance(self.role, Follower) and self.role.has_fetched):
            return True
        address = address_of(endpoints, self.local.listener)
        return address is None or address == address_of(self.leader_endpoints, self.local.listener)

    def add_vote(self, candidate: ReplicaKey, now_ms: int) -> None:
        """Vote for somebody else in this epoch; the election timeout begins anew."""
        assert self.voted is None
        self.voted = candidate
        if isinstance(self.role, Unattached | Prospective):
            self.role.election_deadline_ms = now_ms + self.election_timeout_ms()
        self._persist()

    # Inside

    def _enter(self, role: Role) -> None:
        before, self.role = self.role, role
        self.connections.reset()
        self._persist()
        before.leave()
        if self.leader != self._announced:
            self._announced = self.leader
            if not isinstance(role, Leader):  # which announces itself, with the offset where its epoch begins
                self.emit(LeaderChange(self.leader))

    def _persist(self) -> None:
        is_static = self.history.kraft_version == 0
        state = QuorumState(
            leader_id=self.leader_id,
            leader_epoch=self.epoch,
            voted_id=-1 if self.voted is None else self.voted.replica_id,
            voted_directory_id=ZERO_UUID if self.voted is None else self.voted.directory_id,
            current_voters=self.voters.ids if is_static else None,
            cluster_id=self.local.cluster_id if is_static else "",
        )
        if state != self._persisted:
            self._persisted = state
            self.emit(Persist(state))

    def _lead_alone(self, now_ms: int) -> None:
        """Nobody to ask, so there are no elections and no timers."""
        self.epoch += 1
        self.become_leader(now_ms, (self.local.key.replica_id,))
        self._drive(now_ms)

    def _leading(self, epoch: int) -> Leader:
        if not isinstance(self.role, Leader) or epoch != self.epoch or self._failed:
            raise NotLeaderError(f"node {self.local.key.replica_id} does not lead the metadata log in epoch {epoch}.")
        return self.role

    def _send_failed(self, token: int, now_ms: int, *, unsupported_version: bool, timed_out: bool) -> None:
        asked = self.connections.answered(token)
        if asked is None or self._failed:
            return
        self.now_ms = now_ms
        self.connections.pause(asked.destination, now_ms)
        settle_failure(self, asked, now_ms, unsupported_version=unsupported_version, timed_out=timed_out)

    def _drive(self, now_ms: int) -> None:
        """Do what is due, in this role and in those that follow from it."""
        if self._failed:
            return
        self.now_ms = now_ms
        for token in self.connections.expired(now_ms):
            self._send_failed(token, now_ms, unsupported_version=False, timed_out=True)
        while True:
            role = self.role
            deadline_ms = role.drive(now_ms)
            if role is self.role:
                break
        self.deadline_ms = None if self._failed else earliest(deadline_ms, self.connections.deadline_ms)
