"""Our clients, a broker that is away for long, and locks that are renewed meanwhile.

More seeds: `python -m tests.simulation.soak --scenario outages` (or `renewals`).
"""

from __future__ import annotations

import pytest

from tests.simulation.client_outages import outages
from tests.simulation.client_renewals import renewals


@pytest.mark.parametrize("seed", [5, 8, 10])
def test_when_the_broker_is_back_everybody_goes_on_and_nothing_is_lost_or_there_twice(seed: int) -> None:
    counts = outages(seed)
    assert counts["outages survived"] == 3
    assert counts["lines that it is away"]


@pytest.mark.parametrize("seed", range(4))
def test_who_renews_keeps_his_records_and_who_does_not_loses_them(seed: int) -> None:
    counts = renewals(seed)
    assert counts["locks renewed"]
    assert counts["jobs kept for longer than a lock"]
    assert counts["jobs that others got when he stopped"]
