"""Our own consumers in a group that keeps rebalancing, on a node that may restart; the long run is
`python -m tests.simulation.client_rebalances`.
"""

from __future__ import annotations

import pytest

from tests.simulation.client_rebalances import KINDS, rebalances
from tests.simulation.workloads.cluster import Cluster, run_cluster
from tests.simulation.workloads.rebalancing import SESSION_MS, Group


@pytest.mark.parametrize("kind", KINDS)
def test_no_partition_is_owned_twice_and_nothing_is_skipped(kind: str) -> None:
    outcome = rebalances(kind, "short", 10)
    assert outcome.events >= 10
    assert outcome.processed > 100
    # A kill is noticed when its session is over, and soon after that all is consumed again.
    assert all(stall < SESSION_MS / 1000 + 15 for stalls in outcome.stalls.values() for stall in stalls)


@pytest.mark.parametrize("kind", KINDS)
def test_orderly_rebalances_process_every_record_once(kind: str) -> None:
    async def main(cluster: Cluster) -> None:
        settings = {"max.poll.interval.ms": 20_000, **KINDS[kind]}
        group = Group(cluster, settings, partitions=6, slots=4, records_per_s=4.0, kills=0.0)
        await group.prepare()
        await group.run(8)
        await group.finish()
        assert group.register.processed > 100
        assert group.register.reprocessed == 0

    run_cluster(main, seed=f"{kind} orderly")


@pytest.mark.parametrize("kind", ["cooperative-sticky", "consumer"])
def test_members_outlive_their_coordinator(kind: str) -> None:
    async def main(cluster: Cluster) -> None:
        group = Group(cluster, KINDS[kind], partitions=4, slots=3, records_per_s=2.0)
        await group.prepare()
        await group.run(2)
        trouble = cluster.spawn(cluster.trouble(15.0))
        await trouble
        await group.run(4)
        await group.finish()

    run_cluster(main, seed=f"{kind} moves")
