"""The checkers of clusters find out brokers that do one thing wrong."""

from __future__ import annotations

import pytest

from tests.simulation import cluster_mutants as mutants
from tests.simulation.cluster_faults import KILLS, reset, strand
from tests.simulation.cluster_scenarios import (
    ONE,
    THREE,
    Act,
    Kinds,
    Shape,
    compacting,
    producing,
    run_cluster_scenario,
)

RESETS: Kinds = [(1, reset)]
STRANDED: Kinds = [(1, strand)]
FIRST_SEED, SEEDS = 5, 12
"""Within which each is found, mostly with the first."""


@pytest.mark.parametrize(
    ("mutant", "act", "shape", "kinds", "seconds", "words"),
    [
        (mutants.forgets_a_batch, producing, ONE, RESETS, 5, "lost"),
        (mutants.forgets_producers, producing, ONE, RESETS, 5, "duplicate"),
        (mutants.reads_what_is_not_committed, producing, ONE, RESETS, 5, "G1"),
        (mutants.commits_what_was_aborted, producing, ONE, RESETS, 5, "G1a"),
        (mutants.says_less_than_before, producing, ONE, RESETS, 5, "high watermark"),
        (mutants.forgets_a_commit, producing, ONE, RESETS, 5, "lost commit"),
        (mutants.acknowledges_alone, producing, THREE, KILLS, 6, "acknowledged"),
        (mutants.compacts_by_what_was_aborted, compacting, ONE, RESETS, 8, "the last value of"),
        (mutants.elects_anybody, producing, THREE, STRANDED, 12, "error 1"),
    ],
)
def test_it_is_found_out(
    mutant: mutants.Mutant, act: Act, shape: Shape, kinds: Kinds, seconds: float, words: str
) -> None:
    told: list[str] = []
    for number in range(SEEDS):
        seed = (number + FIRST_SEED) % SEEDS
        try:
            with mutant():
                run_cluster_scenario("mutants", seed, act, kinds=kinds, shape=shape, seconds=seconds)
        except AssertionError as error:
            told += [str(error), *getattr(error, "__notes__", ())]
        if any(words in one for one in told):
            return
    raise AssertionError(f"not found out: {told[:3]}")
