"""Brokers that coordinate are killed, while a group, an exactly-once copy and a queue go on with the next one."""

from __future__ import annotations

import pytest

from tests.simulation.cluster_faults import Faults
from tests.simulation.cluster_scenarios import SHARING, Act, consuming, copying, queueing, run_cluster_scenario
from tests.simulation.cluster_watch import newest_image
from tests.simulation.cluster_world import Machine, Shape

APART = Shape(3, controllers=1, settings=SHARING)
SECONDS = 8.0


async def kill_a_coordinator(faults: Faults) -> None:
    """A signal 9 to a broker that leads a partition of an internal topic."""
    image = newest_image(faults.world)
    if image is None:
        return
    leaders = {
        placed.leader
        for name, topic in image.topics.by_name.items()
        if name.startswith("__")
        for placed in topic.partitions.values()
    }
    machine = faults.choose([one for one in faults.world.brokers if one.node_id in leaders])
    if machine is not None and not faults.ends:
        faults.world.count("coordinators killed")
        await faults.end(machine, _kill, loses=False, away_s=faults.span(0.5, 4.0))


async def _kill(machine: Machine) -> None:
    machine.kill()


@pytest.mark.parametrize("act", [consuming, copying, queueing])
@pytest.mark.parametrize("seed", range(1))
def test_clients_follow_their_coordinators(act: Act, seed: int) -> None:
    name = f"{act.__name__} while coordinators are killed"
    counts = run_cluster_scenario(name, seed, act, kinds=[(1, kill_a_coordinator)], shape=APART, seconds=SECONDS)
    assert counts["coordinators killed"] >= 1
    assert counts["deliveries done"] >= 30
