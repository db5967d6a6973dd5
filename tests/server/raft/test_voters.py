"""Voter sets, and which one counts at which offset."""

from __future__ import annotations

from ottla.core.ids import ZERO_UUID
from ottla.protocol.messages.raft_data import KRaftVersionRecord, LeaderChangeMessage
from ottla.server.raft.voters import ReplicaKey, VoterHistory, VoterSet, address_of
from tests.server.raft.replica import LISTENER, directory, voter


def test_set_survives_its_record() -> None:
    voters = VoterSet([voter(2), voter(1)])
    assert VoterSet.from_record(voters.to_record()) == voters
    assert voters.ids == (1, 2)


def test_directory_counts_unless_it_is_not_known() -> None:
    voters = VoterSet([voter(1)])
    assert voters.is_voter(ReplicaKey(1, directory(1)))
    assert not voters.is_voter(ReplicaKey(1, directory(2)))
    static = VoterSet.static(LISTENER, {1: ("host", 9093)})
    assert static.is_voter(ReplicaKey(1, directory(2)))
    assert static.is_only_voter(ReplicaKey(1, ZERO_UUID))
    assert address_of(static.endpoints(1), LISTENER) == ("host", 9093)
    assert address_of(static.endpoints(1), "OTHER") is None


def test_majorities_of_sets_that_differ_by_one_voter_overlap() -> None:
    one = VoterSet([voter(1), voter(2), voter(3)])
    assert one.overlaps(one.with_voter(voter(4)))
    assert one.overlaps(one.without_voter(3))
    assert not one.overlaps(one.without_voter(3).without_voter(2))
    assert [VoterSet(voter(one) for one in range(n)).majority for n in (1, 2, 3, 4, 5)] == [1, 2, 2, 3, 3]


def test_history_follows_the_log_and_its_truncation() -> None:
    static = VoterSet.static(LISTENER, {1: ("host", 9093)})
    history = VoterHistory(static)
    assert (history.voters, history.voters_offset, history.kraft_version) == (static, None, 0)
    history.replay(4, LeaderChangeMessage(version=0, leader_id=1))
    history.replay(5, KRaftVersionRecord(version=0, kraft_version=1))
    first = VoterSet([voter(1)])
    second = first.with_voter(voter(2))
    history.replay(6, first.to_record())
    history.replay(9, second.to_record())
    assert (history.voters, history.voters_offset, history.kraft_version) == (second, 9, 1)
    assert history.former_voters == first
    assert (history.voters_at(8), history.voters_at(5), history.kraft_version_at(4)) == (first, static, 0)
    history.truncate_to(9)
    assert history.voters == first
    history.truncate_to(5)
    assert (history.voters, history.kraft_version) == (static, 0)


def test_history_keeps_what_the_log_behind_a_snapshot_needs() -> None:
    history = VoterHistory()
    history.load_snapshot(0, 1, VoterSet([voter(1)]))
    assert history.voters_offset == -1
    second, third = VoterSet([voter(1), voter(2)]), VoterSet([voter(2)])
    history.replay(3, second.to_record())
    history.replay(8, third.to_record())
    history.forget_before(5)
    assert history.voters_at(5) == second
    history.truncate_to(8)
    assert history.voters == second
    history.load_snapshot(20, None, None)
    assert (len(history.voters), history.kraft_version) == (0, 0)
