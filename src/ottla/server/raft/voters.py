"""Who votes in the metadata quorum: replica keys, voter sets, and which set was in force at which offset (KIP-853).

A replica is a node id with the id of its metadata directory: a node that comes back with an empty disk is another
replica. With kraft.version 0 the voters are static (`controller.quorum.voters`) and their directories not known, which
is written as the zero uuid and matches any directory. From kraft.version 1 on the voters stand in the log as control
records, and count from the moment they are appended, committed or not; that is why truncation may take them back.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple, TypeVar

from ottla.core.ids import ZERO_UUID, uuid_to_text
from ottla.protocol.messages import raft_data as messages

Endpoint = tuple[str, str, int]
"""`(listener name, host, port)`."""

Endpoints = tuple[Endpoint, ...]

LATEST_KRAFT_VERSION: Final = 1

_T = TypeVar("_T")


class ReplicaKey(NamedTuple):
    """A replica of the metadata log; `directory_id` is zero where it is not known."""

    replica_id: int
    directory_id: bytes = ZERO_UUID

    def __str__(self) -> str:
        return f"{self.replica_id} ({uuid_to_text(self.directory_id)})"


class Voter(NamedTuple):
    """One voter: its directory, where it can be reached, and the range of kraft.version it supports."""

    voter_id: int
    directory_id: bytes
    endpoints: Endpoints
    min_kraft_version: int = 0
    max_kraft_version: int = LATEST_KRAFT_VERSION

    @property
    def key(self) -> ReplicaKey:
        return ReplicaKey(self.voter_id, self.directory_id)

    def matches(self, key: ReplicaKey) -> bool:
        """Whether `key` is this voter; any directory is when the voter's own is not known."""
        return self.voter_id == key.replica_id and self.directory_id in (ZERO_UUID, key.directory_id)


class VoterSet:
    """The voters of a quorum by id; immutable."""

    __slots__ = ("_voters",)

    def __init__(self, voters: Iterable[Voter] = ()) -> None:
        self._voters = {voter.voter_id: voter for voter in sorted(voters)}

    @classmethod
    def from_record(cls, record: messages.VotersRecord) -> VoterSet:
        """The set in a KRAFT_VOTERS record."""
        return cls(
            Voter(
                one.voter_id,
                one.voter_directory_id,
                tuple((endpoint.name, endpoint.host, endpoint.port) for endpoint in one.endpoints),
                one.kraft_version_feature.min_supported_version,
                one.kraft_version_feature.max_supported_version,
            )
            for one in record.voters
        )

    @classmethod
    def static(cls, listener: str, addresses: Mapping[int, tuple[str, int]]) -> VoterSet:
        """The voters of `controller.quorum.voters`: directories and versions are not known until they tell."""
        return cls(Voter(one, ZERO_UUID, ((listener, host, port),), 0, 0) for one, (host, port) in addresses.items())

    def to_record(self) -> messages.VotersRecord:
        """The set as a KRAFT_VOTERS record."""
        return messages.VotersRecord(
            version=0,
            voters=[
                messages.VotersRecordVoter(
                    voter_id=voter.voter_id,
                    voter_directory_id=voter.directory_id,
                    endpoints=[
                        messages.Endpoint(name=name, host=host, port=port) for name, host, port in voter.endpoints
                    ],
                    kraft_version_feature=messages.KRaftVersionFeature(
                        min_supported_version=voter.min_kraft_version,
                        max_supported_version=voter.max_kraft_version,
                    ),
                )
                for voter in self
            ],
        )

    def __iter__(self) -> Iterator[Voter]:
        return iter(self._voters.values())

    def __len__(self) -> int:
        return len(self._voters)

    def __contains__(self, voter_id: object) -> bool:
        return voter_id in self._voters

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VoterSet) and self._voters == other._voters

    def __hash__(self) -> int:
        return hash(tuple(self._voters.values()))

    def __repr__(self) -> str:
        return f"VoterSet({', '.join(str(voter.key) for voter in self)})"

    @property
    def ids(self) -> tuple[int, ...]:
        """In ascending order."""
        return tuple(self._voters)

    @property
    def majority(self) -> int:
        """How many voters decide."""
        return len(self._voters) // 2 + 1

    def get(self, voter_id: int) -> Voter | None:
        """The voter of an id."""
        return self._voters.get(voter_id)

    def is_voter(self, key: ReplicaKey) -> bool:
        """Whether this very replica votes."""
        voter = self._voters.get(key.replica_id)
        return voter is not None and voter.matches(key)

    def is_only_voter(self, key: ReplicaKey) -> bool:
        """Whether this replica decides alone."""
        return len(self._voters) == 1 and self.is_voter(key)

    def endpoints(self, voter_id: int) -> Endpoints:
        """Where a voter can be reached; empty for nodes that do not vote."""
        voter = self._voters.get(voter_id)
        return () if voter is None else voter.endpoints

    def with_voter(self, voter: Voter) -> VoterSet:
        """The set with one voter added, or replaced by its id."""
        return VoterSet({**self._voters, voter.voter_id: voter}.values())

    def without_voter(self, voter_id: int) -> VoterSet:
        """The set with one voter less."""
        return VoterSet(voter for voter in self if voter.voter_id != voter_id)

    def overlaps(self, other: VoterSet) -> bool:
        """Whether every majority of one shares a voter with every majority of the other (at most one replaced)."""
        mine, theirs = {voter.key for voter in self}, {voter.key for voter in other}
        return len(mine - theirs) <= 1 and len(theirs - mine) <= 1


def address_of(endpoints: Endpoints, listener: str) -> tuple[str, int] | None:
    """`(host, port)` of a listener; None when it is not among the endpoints."""
    for name, host, port in endpoints:
        if name == listener:
            return host, port
    return None


class VoterHistory:
    """kraft.version and voter sets by the offset of the record that brought them.

    What a snapshot ending at N says counts from offset N - 1 (so the snapshot of `storage format` gives offset -1).
    `static` are the voters of kraft.version 0, in force until the log names others.
    """

    def __init__(self, static: VoterSet | None = None) -> None:
        self._static = static or VoterSet()
        self._versions: list[tuple[int, int]] = []
        self._voters: list[tuple[int, VoterSet]] = []

    @property
    def kraft_version(self) -> int:
        """The newest level, committed or not."""
        return self._versions[-1][1] if self._versions else 0

    @property
    def voters(self) -> VoterSet:
        """The newest set, committed or not: the one that counts."""
        return self._voters[-1][1] if self._voters else self._static

    @property
    def former_voters(self) -> VoterSet:
        """The set before the newest one, as far as it is known."""
        return self._voters[-2][1] if len(self._voters) > 1 else self._static

    @property
    def voters_offset(self) -> int | None:
        """Where the newest set stands; None for the static one."""
        return self._voters[-1][0] if self._voters else None

    def kraft_version_at(self, offset: int) -> int:
        """The level as of a record, which must not be older than the newest snapshot."""
        position = bisect_right(self._versions, offset, key=lambda entry: entry[0])
        return self._versions[position - 1][1] if position else 0

    def voters_at(self, offset: int) -> VoterSet:
        """The set as of a record; the static one when the log has none by then."""
        position = bisect_right(self._voters, offset, key=lambda entry: entry[0])
        return self._voters[position - 1][1] if position else self._static

    def replay(self, offset: int, message: object) -> None:
        """Take note of a control record of the log; other kinds are ignored."""
        if isinstance(message, messages.KRaftVersionRecord):
            self._versions.append((offset, message.kraft_version))
        elif isinstance(message, messages.VotersRecord):
            self._voters.append((offset, VoterSet.from_record(message)))

    def load_snapshot(self, end_offset: int, kraft_version: int | None, voters: VoterSet | None) -> None:
        """Begin anew from what a snapshot says; None where it says nothing."""
        self._versions = [] if kraft_version is None else [(end_offset - 1, kraft_version)]
        self._voters = [] if voters is None else [(end_offset - 1, voters)]

    def truncate_to(self, end_offset: int) -> None:
        """Forget what stood at `end_offset` or later."""
        while self._versions and self._versions[-1][0] >= end_offset:
            self._versions.pop()
        while self._voters and self._voters[-1][0] >= end_offset:
            self._voters.pop()

    def forget_before(self, start_offset: int) -> None:
        """Keep only what the log from `start_offset` on needs: older entries, all but the newest of them, go."""
        self._versions = _newest_before(self._versions, start_offset)
        self._voters = _newest_before(self._voters, start_offset)


def _newest_before(entries: list[tuple[int, _T]], start_offset: int) -> list[tuple[int, _T]]:
    position = bisect_right(entries, start_offset - 1, key=lambda entry: entry[0])
    return entries[max(0, position - 1) :]
