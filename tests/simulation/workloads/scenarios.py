"""Whole simulations: workloads together on one node, its troubles, and what must hold afterwards."""

from __future__ import annotations

from collections import Counter

from tests.simulation.workloads.checks import (
    Watcher,
    check_compacted,
    check_log,
    check_transactions,
    settled,
    until,
)
from tests.simulation.workloads.client import Client
from tests.simulation.workloads.cluster import Cluster, run_cluster
from tests.simulation.workloads.members import ClassicMember, ConsumerMember, Member
from tests.simulation.workloads.producer import Ledger
from tests.simulation.workloads.reader import read_all
from tests.simulation.workloads.transform import INPUT, INPUT_PARTITIONS, OUTPUT, OUTPUT_PARTITIONS, TABLE, Transform

Counts = dict[str, int]

PROTOCOLS: list[tuple[type[Member], ...]] = [(ClassicMember,), (ConsumerMember,), (ClassicMember, ConsumerMember)]
OUTPUTS = [(OUTPUT, partition) for partition in range(OUTPUT_PARTITIONS)]
INPUTS = [(INPUT, partition) for partition in range(INPUT_PARTITIONS)]


def transactions(seed: object, *, seconds: float = 30.0) -> Counts:
    """Consume-transform-produce, and nothing else."""

    async def main(cluster: Cluster) -> Counts:
        dice = cluster.random("scenario")
        ledger = Ledger()
        application = Transform(
            cluster, ledger, slots=dice.randint(1, 3), protocols=dice.choice(PROTOCOLS), v2=dice.random() < 0.6
        )
        await application.create_topics()
        watchers = {place: Watcher(cluster, *place) for place in [*OUTPUTS, (TABLE, 0)]}
        for watcher in watchers.values():
            cluster.spawn(watcher.run())
        application.start()
        await cluster.trouble(seconds)
        await finish_transform(cluster, application, watchers)
        return cluster.counts

    return run_cluster(main, seed=seed)


async def finish_transform(cluster: Cluster, application: Transform, watchers: dict[tuple[str, int], Watcher]) -> None:
    """Everything gets through, and is as it must be."""
    client = Client(cluster, "checker")
    ledger = application.ledger

    async def is_through() -> bool:
        views = [await read_all(client, *place) for place in OUTPUTS]
        return sum(len(view.records) for view in views) >= len(application.inputs)

    async def is_settled() -> bool:
        return all([await settled(client, place) for place in [*OUTPUTS, (TABLE, 0)]])

    async def have_seen() -> bool:
        return all(watcher.view.position >= watcher.view.high_watermark for watcher in watchers.values())

    await until(cluster, "the application catches up", is_through)
    application.is_over = True
    await until(cluster, "no transaction is open", is_settled)
    await until(cluster, "who reads along has seen everything", have_seen)
    for place in INPUTS:
        await check_log(cluster, ledger, place)
    views = {place: await check_log(cluster, ledger, place, watchers[place]) for place in OUTPUTS}
    check_transactions(cluster, ledger, views)
    results = Counter(value for view in views.values() for _, value in view.records.values())
    expected = Counter(application.inputs)
    if results != expected:
        cluster.fail(f"lost: {sorted(expected - results)}, twice: {sorted(results - expected)}")
    await check_compacted(cluster, ledger, (TABLE, 0), watchers[TABLE, 0])
    await check_stored_offsets(cluster, application)


async def check_stored_offsets(cluster: Cluster, application: Transform) -> None:
    """The group stands at the end of its input."""
    from tests.simulation.workloads.members import committed_offsets

    client = Client(cluster, "checker")
    found = await committed_offsets(client, application.group, frozenset(INPUTS))
    for place, offset in found.items():
        view = await read_all(client, *place)
        if view.records and offset != view.position:
            cluster.fail(f"{place}: the group stands at {offset} of {view.position}")
