"""The checkers of clusters find out brokers that do one thing wrong."""

from __future__ import annotations

import pytest

from tests.simulation import cluster_mutants as mutants
from tests.simulation.cluster_faults import NETWORK
from tests.simulation.cluster_scenarios import ONE, Kinds, producing, run_cluster_scenario

RESETS: Kinds = [one for one in NETWORK if one[1].__name__ == "reset"]


@pytest.mark.parametrize(
    ("mutant", "kinds", "words"),
    [
        (mutants.forgets_a_batch, RESETS, "lost"),
        (mutants.forgets_producers, RESETS, "duplicate"),
        (mutants.reads_what_is_not_committed, RESETS, "G1"),
        (mutants.commits_what_was_aborted, RESETS, "G1a"),
        (mutants.says_less_than_before, RESETS, "high watermark"),
        (mutants.forgets_a_commit, RESETS, "lost commit"),
    ],
)
def test_it_is_found_out(mutant: mutants.Mutant, kinds: Kinds, words: str) -> None:
    told = []
    for seed in range(8):
        try:
            with mutant():
                run_cluster_scenario("mutants", seed, producing, kinds=kinds, shape=ONE, seconds=8)
        except AssertionError as error:
            told += [str(error), *getattr(error, "__notes__", ())]
        if any(words in one for one in told):
            return
    raise AssertionError(f"not found out: {told[:3]}")
