"""How far the replicas have come, as their leader sees it; the high watermark and the check quorum follow from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ottla.server.raft.voters import ReplicaKey, VoterSet

OBSERVER_SESSION_TIMEOUT_MS: Final = 300_000
"""An observer that has not fetched for so long is forgotten."""

CAUGHT_UP_WINDOW_MS: Final = 3_600_000
"""A new voter must have fetched within the last hour."""


@dataclass(slots=True)
class Progress:
    """One replica. `end_offset` is how far it has acknowledged, -1 before its first fetch; times are None by then.

    It was caught up when it last fetched from the leader's end, or from where the leader's end was a fetch before.
    """

    key: ReplicaKey
    end_offset: int = -1
    last_fetch_ms: int | None = None
    last_caught_up_ms: int | None = None
    leader_end_offset: int = -1
    """The leader's end at the last fetch."""

    def matches(self, key: ReplicaKey) -> bool:
        """Whether this is the progress of `key`; any directory is as long as none is known."""
        return self.key.replica_id == key.replica_id and (
            not any(self.key.directory_id) or self.key.directory_id == key.directory_id
        )

    def fetched(self, offset: int, leader_end_offset: int, now_ms: int) -> None:
        """It asked for what comes from `offset` on: it has everything before, flushed."""
        if offset >= leader_end_offset:
            self.last_caught_up_ms = now_ms
        elif self.leader_end_offset > 0 and offset >= self.leader_end_offset:
            self.last_caught_up_ms = self.last_fetch_ms
        self.leader_end_offset = leader_end_offset
        self.last_fetch_ms = now_ms
        self.end_offset = offset


class Replicas:
    """All replicas the leader knows, itself included: voters by id, observers by key."""

    def __init__(self, local: ReplicaKey, voters: VoterSet) -> None:
        self.local = local
        self.voters: dict[int, Progress] = {voter.voter_id: Progress(voter.key) for voter in voters}
        self.observers: dict[ReplicaKey, Progress] = {}

    def get(self, key: ReplicaKey) -> Progress | None:
        """The progress of a replica, voter or observer."""
        voter = self.voters.get(key.replica_id)
        return voter if voter is not None and voter.matches(key) else self.observers.get(key)

    def get_or_add(self, key: ReplicaKey) -> Progress:
        """The progress of a replica; who does not vote is an observer."""
        progress = self.get(key)
        if progress is None:
            progress = self.observers[key] = Progress(key)
        return progress

    def is_voter(self, key: ReplicaKey) -> bool:
        """Whether this replica counts."""
        voter = self.voters.get(key.replica_id)
        return voter is not None and voter.matches(key)

    @property
    def remote_voters(self) -> list[Progress]:
        """The voters other than this replica."""
        return [voter for voter in self.voters.values() if not voter.matches(self.local)]

    @property
    def other_votes_needed(self) -> int:
        """How many others make a majority, with this replica when it votes."""
        return len(self.voters) // 2 + 1 - (1 if self.is_voter(self.local) else 0)

    def by_progress(self) -> list[Progress]:
        """The other voters, those that are furthest first."""
        return sorted(self.remote_voters, key=lambda voter: (-voter.end_offset, voter.key))

    def majority_end_offset(self) -> int:
        """What a majority of the voters has; -1 when too few have said how far they are."""
        offsets = sorted((voter.end_offset for voter in self.voters.values()), reverse=True)
        return offsets[len(offsets) // 2] if offsets else -1

    def set_voters(self, voters: VoterSet) -> None:
        """Other voters: new ones keep what they had as observers, former ones go on as observers."""
        before = self.voters
        self.voters = {}
        for voter in voters:
            former = before.get(voter.voter_id)
            if former is not None and former.matches(voter.key):
                former.key = voter.key
                self.voters[voter.voter_id] = former
                del before[voter.voter_id]
            else:
                self.voters[voter.voter_id] = self.observers.get(voter.key) or Progress(voter.key)
            self.observers.pop(voter.key, None)
        for former in before.values():
            self.observers.setdefault(former.key, former)

    def is_caught_up(self, key: ReplicaKey, now_ms: int) -> bool:
        """Whether an observer may become a voter without holding up commits."""
        progress = self.observers.get(key)
        return (
            progress is not None
            and progress.last_caught_up_ms is not None
            and progress.last_fetch_ms is not None
            and progress.last_fetch_ms > now_ms - CAUGHT_UP_WINDOW_MS
        )

    def forget_idle_observers(self, now_ms: int) -> None:
        """Drop observers that have gone."""
        for key, observer in list(self.observers.items()):
            idle = observer.last_fetch_ms is None or now_ms - observer.last_fetch_ms >= OBSERVER_SESSION_TIMEOUT_MS
            if idle and key != self.local:
                del self.observers[key]
