"""What a replica is in its epoch, as long as nobody leads: unattached, prospective, candidate, resigned.

A role has the timers and counts that end with it; epoch, leader and vote are the core's. `drive` does what is due and
says when it wants to be driven again; it may make the core enter another role.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from ottla.protocol.message import Request
from ottla.server.raft.effects import Destination
from ottla.server.raft.requests import end_quorum_epoch_request, vote_request
from ottla.server.raft.voters import ReplicaKey, VoterSet

if TYPE_CHECKING:
    from ottla.server.raft.core import QuorumCore


class Role:
    """The base of all roles."""

    name: ClassVar[str] = ""

    def __init__(self, core: QuorumCore) -> None:
        self.core = core

    def grants(self, candidate: ReplicaKey, *, is_up_to_date: bool, pre_vote: bool) -> bool:
        """Whether to vote for a replica of this epoch."""
        return pre_vote and is_up_to_date

    def drive(self, now_ms: int) -> int | None:
        """Do what is due; the time of the next call, None for "when something happens"."""
        return None

    def leave(self) -> None:
        """Another role follows."""

    def _grants_while_leaderless(self, candidate: ReplicaKey, *, is_up_to_date: bool, pre_vote: bool) -> bool:
        if pre_vote:
            return is_up_to_date
        voted = self.core.voted
        if voted is not None:
            return voted == candidate or (voted.replica_id == candidate.replica_id and not any(voted.directory_id))
        return self.core.leader_id < 0 and is_up_to_date


class Unattached(Role):
    """Knows nobody to follow: asks the bootstrap servers for the leader, and stands for election in the end."""

    name = "unattached"

    def __init__(self, core: QuorumCore, election_deadline_ms: int) -> None:
        super().__init__(core)
        self.election_deadline_ms = election_deadline_ms

    def grants(self, candidate: ReplicaKey, *, is_up_to_date: bool, pre_vote: bool) -> bool:
        """The first candidate of the epoch, unless somebody leads already."""
        return self._grants_while_leaderless(candidate, is_up_to_date=is_up_to_date, pre_vote=pre_vote)

    def drive(self, now_ms: int) -> int | None:
        """Fetch from anybody; after the election timeout a voter stands for election."""
        core = self.core
        if core.is_shutting_down:
            return None
        deadline_ms = core.fetch_from_bootstrap(now_ms)
        if core.may_stand_for_election:
            if now_ms >= self.election_deadline_ms:
                core.become_prospective(now_ms)
                return None
            deadline_ms = earliest(deadline_ms, self.election_deadline_ms)
        return deadline_ms


class Nominee(Role):
    """Asks the voters of the moment for their votes, its own counted."""

    pre_vote: ClassVar[bool]

    def __init__(self, core: QuorumCore, election_deadline_ms: int) -> None:
        super().__init__(core)
        self.election_deadline_ms = election_deadline_ms
        self.voters: VoterSet = core.voters
        self.granted: set[int] = {core.local.key.replica_id} if core.is_voter else set()
        self.rejected: set[int] = set()

    @property
    def is_won(self) -> bool:
        """A majority has granted its vote."""
        return len(self.granted) >= self.voters.majority

    @property
    def is_lost(self) -> bool:
        """There is no majority left."""
        return len(self.voters) - len(self.rejected) < self.voters.majority

    def answered(self, voter_id: int, granted: bool) -> None:
        """A voter of this election has decided; the first answer counts."""
        if voter_id in self.voters and voter_id not in self.granted and voter_id not in self.rejected:
            (self.granted if granted else self.rejected).add(voter_id)

    def ask(self, now_ms: int) -> int | None:
        """Ask who has not answered yet, and may be asked now."""
        if self.is_lost:
            return None
        core = self.core
        deadline_ms: int | None = None
        for voter in self.voters:
            destination = core.destination_of(voter)
            if destination is None or voter.voter_id in self.granted or voter.voter_id in self.rejected:
                continue
            if core.connections.is_ready(destination, now_ms):
                request = vote_request(
                    core.local.cluster_id, core.epoch, core.local.key, voter.key, core.log, pre_vote=self.pre_vote
                )
                core.send(destination, request, now_ms)
            deadline_ms = earliest(deadline_ms, core.connections.paused_until_ms(destination, now_ms))
        return deadline_ms


class Prospective(Nominee):
    """Finds out whether it could win, before it raises the epoch and disturbs everybody (KIP-996)."""

    name = "prospective"
    pre_vote = True

    def grants(self, candidate: ReplicaKey, *, is_up_to_date: bool, pre_vote: bool) -> bool:
        """As if unattached: it has not voted for itself yet."""
        return self._grants_while_leaderless(candidate, is_up_to_date=is_up_to_date, pre_vote=pre_vote)

    def drive(self, now_ms: int) -> int | None:
        """On with it, back to where it came from, or ask."""
        core = self.core
        if self.is_won:
            core.become_candidate(now_ms)
            return None
        if (
            not core.may_stand_for_election
            or self.is_lost
            or (now_ms >= self.election_deadline_ms and not core.is_shutting_down)
        ):
            core.give_up_election(now_ms)
            return None
        return earliest(self.ask(now_ms), None if core.is_shutting_down else self.election_deadline_ms)


class Candidate(Nominee):
    """Has voted for itself in a new epoch."""

    name = "candidate"
    pre_vote = False

    def drive(self, now_ms: int) -> int | None:
        """Lead, or ask; who has lost waits for the rest of the election timeout, which differs from voter to voter."""
        core = self.core
        if self.is_won:
            core.become_leader(now_ms, self.granted)
            return None
        if now_ms >= self.election_deadline_ms and not core.is_shutting_down:
            if core.may_stand_for_election:
                core.become_prospective(now_ms)
            else:
                core.become_unattached(core.epoch + 1, now_ms)
            return None
        return earliest(self.ask(now_ms), None if core.is_shutting_down else self.election_deadline_ms)


class Resigned(Role):
    """Led this epoch, and does not any more: tells the voters, who to prefer first."""

    name = "resigned"

    def __init__(self, core: QuorumCore, election_deadline_ms: int, successors: Sequence[ReplicaKey]) -> None:
        super().__init__(core)
        self.election_deadline_ms = election_deadline_ms
        self.successors = tuple(successors)
        self.unacknowledged = [voter for voter in core.voters if voter.voter_id != core.local.key.replica_id]

    def drive(self, now_ms: int) -> int | None:
        """Tell who has not acknowledged; when nobody takes over, begin again in the next epoch."""
        core = self.core
        if now_ms >= self.election_deadline_ms and not core.is_shutting_down:
            core.become_unattached(core.epoch + 1, now_ms)
            return None
        request: Request = end_quorum_epoch_request(
            core.local.cluster_id, core.epoch, core.local.key.replica_id, core.local.endpoints, self.successors
        )
        deadline_ms: int | None = None if core.is_shutting_down else self.election_deadline_ms
        for voter in self.unacknowledged:
            deadline_ms = earliest(deadline_ms, core.send_when_ready(core.destination_of(voter), request, now_ms))
        return deadline_ms

    def acknowledged(self, destination: Destination) -> None:
        """A voter knows."""
        self.unacknowledged = [voter for voter in self.unacknowledged if voter.voter_id != destination.node_id]


def earliest(one: int | None, other: int | None) -> int | None:
    """The earlier of two times, of which either may be never."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
