from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ottla.server.log.checkpoint import read_leader_epochs
from ottla.server.log.leader_epochs import LeaderEpochs
from tests.server.log.support import new_disk

PATH = "/data/leader-epoch-checkpoint"


def new_epochs(*entries):
    epochs = LeaderEpochs(new_disk(), PATH)
    for epoch, start in entries:
        epochs.assign(epoch, start)
    return epochs


@pytest.mark.parametrize(
    ("asked", "expected"),
    [(-1, (-1, -1)), (0, (0, 5)), (1, (1, 9)), (2, (2, 20)), (3, (2, 20)), (4, (4, 30)), (5, (-1, -1))],
)
def test_end_offsets_of_epochs(asked, expected):
    epochs = new_epochs((1, 5), (2, 9), (4, 20))
    assert epochs.end_offset_for(asked, 30) == expected


def test_no_epoch_is_known_of_an_empty_log():
    assert new_epochs().end_offset_for(0, 0) == (-1, -1)
    assert new_epochs().latest == -1


def test_epoch_of_an_offset():
    epochs = new_epochs((1, 5), (2, 9))
    assert [epochs.epoch_for_offset(offset) for offset in (4, 5, 8, 9, 100)] == [-1, 1, 1, 2, 2]


def test_assigning_an_older_epoch_or_offset_drops_what_contradicts_it():
    epochs = new_epochs((1, 5), (2, 9), (4, 20))
    epochs.assign(3, 15)
    assert epochs.entries() == [(1, 5), (2, 9), (3, 15)]
    epochs.assign(7, 9)
    assert epochs.entries() == [(1, 5), (7, 9)]


def test_start_moves_with_the_log():
    epochs = new_epochs((1, 5), (2, 9), (4, 20))
    epochs.truncate_from_start(12)
    assert epochs.entries() == [(2, 12), (4, 20)]
    epochs.truncate_from_start(20)
    assert epochs.entries() == [(4, 20)]
    epochs.truncate_from_start(25)
    assert epochs.entries() == [(4, 25)]


def test_end_moves_with_the_log():
    epochs = new_epochs((1, 5), (2, 9), (4, 20))
    epochs.truncate_from_end(20)
    assert epochs.entries() == [(1, 5), (2, 9)]
    epochs.truncate_from_end(0)
    assert epochs.entries() == []


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["assign", "start", "end"]), st.integers(0, 8), st.integers(0, 40))))
def test_file_and_memory_always_agree_and_ascend(operations):
    disk = new_disk()
    epochs = LeaderEpochs(disk, PATH)
    for operation, epoch, offset in operations:
        match operation:
            case "assign":
                epochs.assign(epoch, offset)
            case "start":
                epochs.truncate_from_start(offset)
            case _:
                epochs.truncate_from_end(offset)
        entries = epochs.entries()
        assert read_leader_epochs(disk, PATH) == entries
        assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(entries))
        assert epochs.latest == (entries[-1][0] if entries else -1)
