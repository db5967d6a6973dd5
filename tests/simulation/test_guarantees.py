"""A whole node with everything on it, ending anywhere: exactly once, all or nothing, one owner, nothing goes back."""

from __future__ import annotations

import pytest

from tests.simulation.workloads.scenarios import transactions


@pytest.mark.parametrize("seed", range(12))
def test_every_input_is_in_the_output_exactly_once(seed: int) -> None:
    counts = transactions(seed)
    assert counts["committed transactions"] > 5
