"""Whole clusters under faults: nothing that was acknowledged is lost, moved, repeated or shown by halves.

More seeds: `python -m tests.simulation.cluster_soak --minutes 10`.
"""

from __future__ import annotations

import pytest

from tests.simulation.cluster_scenarios import play


@pytest.mark.parametrize(
    ("profile", "shape"),
    [
        ("produce under kills", "three"),
        ("produce under losses", "three"),
        ("move under everything", "three"),
        ("copy under kills and partitions", "three"),
        ("compact under kills", "three"),
        ("upgrade", "three"),
        ("produce under everything", "apart"),
    ],
)
def test_what_was_promised_holds(profile: str, shape: str) -> None:
    counts = play(profile, 1, shape=shape, seconds=4)
    assert counts["deliveries done"]
    assert counts["logs compared"]


def test_a_seed_gives_one_run() -> None:
    assert play("produce under kills", 7, seconds=2) == play("produce under kills", 7, seconds=2)
