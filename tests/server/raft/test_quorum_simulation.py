"""Quorum cores in a bad world, by seed (`quorum_run` runs thousands)."""

from __future__ import annotations

import pytest

from tests.server.raft.quorum_run import run_seed

QUICK_MS = 500
"""How long the faults of a quick run last."""


@pytest.mark.parametrize("first", range(0, 200, 20))
def test_committed_records_survive_whatever_happens(first: int) -> None:
    for seed in range(first, first + 20):
        run_seed(seed, QUICK_MS)


@pytest.mark.parametrize(
    "seed",
    [
        26,  # a follower that looks for its leader where its old voters have it
        34,  # a snapshot of records that the crash of their log took away
        70,  # a leader that removes itself from two voters, and fails before that is committed
        2109,  # an observer that knows from its disk who leads, but not where
    ],
)
def test_seeds_that_failed_once(seed: int) -> None:
    run_seed(seed)
