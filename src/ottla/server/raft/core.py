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

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ottla.protocol.message import Request, Response
from ottla.server.raft.effects import Effect, LeaderAndEpoch
from ottla.server.raft.ports import ReplicaLog
from ottla.server.raft.quorum_state import QuorumState
from ottla.server.raft.snapshot import SnapshotId
from ottla.server.raft.voters import Endpoints, ReplicaKey, VoterHistory, VoterSet


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
    """One replica of the quorum: voter or observer. `random_below(n)` gives a random integer in [0, n)."""

    def __init__(
        self,
        local: LocalReplica,
        settings: QuorumSettings,
        log: ReplicaLog,
        history: VoterHistory,
        state: QuorumState,
        random_below: Callable[[int], int],
    ) -> None:
        raise NotImplementedError

    # Reading

    @property
    def deadline_ms(self) -> int | None:
        """When `on_time` wants to be called."""
        raise NotImplementedError

    @property
    def leader(self) -> LeaderAndEpoch:
        """Who leads, as far as this replica knows."""
        raise NotImplementedError

    @property
    def is_leader(self) -> bool:
        """Whether this replica leads; see `LeaderChange` for when its listener may know."""
        raise NotImplementedError

    @property
    def high_watermark(self) -> int:
        """End of what is known to be committed; that of the newest snapshot to begin with."""
        raise NotImplementedError

    @property
    def leader_endpoints(self) -> Endpoints:
        """Where the leader's controller listeners are; empty when not known."""
        raise NotImplementedError

    @property
    def voters(self) -> VoterSet:
        """The voters that count, committed or not."""
        raise NotImplementedError

    @property
    def kraft_version(self) -> int:
        """Level of kraft.version, an upgrade under way included."""
        raise NotImplementedError

    @property
    def is_shut_down(self) -> bool:
        """After `shutdown`: whether nothing is left to do for the others."""
        raise NotImplementedError

    def take_effects(self) -> list[Effect]:
        """What is to be done, in order; each effect is given once."""
        raise NotImplementedError

    # Inputs

    def start(self, now_ms: int) -> None:
        """Begin; once, before anything else."""
        raise NotImplementedError

    def on_time(self, now_ms: int) -> None:
        """Time has passed."""
        raise NotImplementedError

    def on_request(
        self, token: object, request: Request, now_ms: int, *, version: int, listener: str, wall_ms: int
    ) -> None:
        """A Vote, BeginQuorumEpoch, EndQuorumEpoch, Fetch (of the metadata partition), FetchSnapshot, DescribeQuorum,
        AddRaftVoter, RemoveRaftVoter or UpdateRaftVoter came in on `listener`, in `version`.

        `wall_ms` is the wall clock's time of `now_ms`, for the timestamps of DescribeQuorum.
        """
        raise NotImplementedError

    def on_response(self, token: int, response: Response, now_ms: int) -> None:
        """The answer to a `Send`."""
        raise NotImplementedError

    def on_send_failed(self, token: int, now_ms: int, *, unsupported_version: bool = False) -> None:
        """A `Send` has no answer: no connection, lost, timed out, or the other does not serve such a request."""
        raise NotImplementedError

    def on_flushed(self, now_ms: int) -> None:
        """A `Flush` has ended; how far the log is flushed says the log."""
        raise NotImplementedError

    def on_snapshot_installed(
        self, snapshot_id: SnapshotId, kraft_version: int | None, voters: VoterSet | None, now_ms: int
    ) -> None:
        """The log stands at the end of the downloaded snapshot, which says this of the quorum (None: nothing)."""
        raise NotImplementedError

    def on_snapshot_failed(self, snapshot_id: SnapshotId, now_ms: int) -> None:
        """The downloaded snapshot is no good, and the log as it was; it will be fetched again."""
        raise NotImplementedError

    def append(self, epoch: int, frames: Sequence[bytes], now_ms: int, timestamp_ms: int) -> int:
        """Append one batch of framed records, stamped with the wall clock's `timestamp_ms`; its last offset.

        Raises NotLeaderError unless this replica leads in `epoch`.
        """
        raise NotImplementedError

    def resign(self, epoch: int, now_ms: int) -> None:
        """Give up leadership of `epoch`, and propose successors; nothing happens when it is over already."""
        raise NotImplementedError

    def upgrade_kraft_version(self, epoch: int, version: int, now_ms: int, *, validate_only: bool = False) -> bool:
        """Move a static quorum to kraft.version 1; whether anything was to be done (KIP-853).

        Raises NotLeaderError, and ApiError INVALID_UPDATE_VERSION when a voter does not support it, or is not known
        well enough yet, or the version is lower.
        """
        raise NotImplementedError

    def shutdown(self, now_ms: int) -> None:
        """Leave gracefully: a leader resigns and waits for a successor. `is_shut_down` says when it is done."""
        raise NotImplementedError

    def forget_before(self, offset: int) -> None:
        """Records before `offset` were replaced by a snapshot: older voter sets are not needed any more."""
        raise NotImplementedError

    def check_invariants(self) -> None:
        """Raise AssertionError when the state contradicts itself."""
        raise NotImplementedError
