"""Brokers that coordinate fail, several at once; a group, an exactly-once copy and a queue go on with the next one.

More seeds: `python -m tests.simulation.cluster_soak --minutes 10 --profile "copy while coordinators fail"`.
"""

from __future__ import annotations

import pytest

from tests.simulation.cluster_faults import kill_a_coordinator
from tests.simulation.cluster_scenarios import SHARING, Act, consuming, copying, play, queueing, run_cluster_scenario
from tests.simulation.cluster_world import Shape

LONE = Shape(3, controllers=1, settings=SHARING)
"""One controller, so that little else happens."""
SECONDS = 8.0


@pytest.mark.parametrize(("act", "seed"), [(consuming, 0), (copying, 0), (queueing, 18)])
def test_clients_follow_their_coordinators(act: Act, seed: int) -> None:
    name = f"{act.__name__} while coordinators are killed"
    counts = run_cluster_scenario(name, seed, act, kinds=[(1, kill_a_coordinator)], shape=LONE, seconds=SECONDS)
    assert counts["coordinators killed"] >= 1
    assert counts["deliveries done"] >= 30


@pytest.mark.parametrize("who", ["consume", "copy", "queue"])
def test_coordinators_that_are_killed_frozen_restarted_and_cut_off(who: str) -> None:
    counts = play(f"{who} while coordinators fail", 1, seconds=SECONDS)
    assert counts["deliveries done"] >= 30
