"""Whole simulations: workloads together on one node, its troubles, and what must hold afterwards."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random
from typing import Any, NamedTuple

from tests.simulation.workloads.checks import (
    Truth,
    Watcher,
    check_compacted,
    check_log,
    check_transactions,
    settled,
    until,
)
from tests.simulation.workloads.cluster import Cluster, Ending, run_cluster
from tests.simulation.workloads.consumers import Consumers
from tests.simulation.workloads.members import ClassicMember, ConsumerMember, Member, committed_offsets
from tests.simulation.workloads.producer import IdempotentProducer, Ledger, TransactionalProducer
from tests.simulation.workloads.quotas import change_quotas
from tests.simulation.workloads.reader import READ_UNCOMMITTED, read_all
from tests.simulation.workloads.sharing import JOBS, PARTITIONS, Sharing
from tests.simulation.workloads.tables import Tables
from tests.simulation.workloads.transform import INPUT, INPUT_PARTITIONS, OUTPUT, OUTPUT_PARTITIONS, TABLE, Transform

Counts = dict[str, int]


class Device(NamedTuple):
    """What the node's ends leave of its disk, and what it is told to do about that."""

    name: str
    options: dict[str, Any]


KILLED = Device("killed", {})
#: Power is lost, and every batch is on the device before it is acknowledged.
FLUSHED = Device("flushed", {"ending": Ending.POWER_LOST, "settings": {"log.flush.interval.messages": 1}})


PROTOCOLS: list[tuple[type[Member], ...]] = [(ClassicMember,), (ConsumerMember,), (ClassicMember, ConsumerMember)]
OUTPUTS = [(OUTPUT, partition) for partition in range(OUTPUT_PARTITIONS)]
INPUTS = [(INPUT, partition) for partition in range(INPUT_PARTITIONS)]


def transactions(seed: object, *, seconds: float = 30.0, device: Device = KILLED) -> Counts:
    """Consume-transform-produce, and nothing else."""

    async def main(cluster: Cluster) -> Counts:
        dice = cluster.random("scenario")
        ledger = Ledger()
        application = Transform(
            cluster,
            ledger,
            slots=dice.randint(1, 3),
            protocols=dice.choice(PROTOCOLS),
            v2=dice.random() < 0.6,
            own_ids=dice.random() < 0.4,
        )
        await application.create_topics()
        watchers = {place: Watcher(cluster, *place) for place in [*OUTPUTS, (TABLE, 0)]}
        for watcher in watchers.values():
            cluster.spawn(watcher.run())
        application.start()
        await cluster.trouble(seconds)
        await finish_transform(cluster, application, watchers)
        return cluster.counts

    return run_cluster(main, seed=seed, **device.options)


async def finish_transform(cluster: Cluster, application: Transform, watchers: dict[tuple[str, int], Watcher]) -> None:
    """Everything gets through, and is as it must be."""
    client = cluster.client("checker")
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
    client = cluster.client("checker")
    found = await committed_offsets(client, application.group, frozenset(INPUTS))
    for place, offset in found.items():
        view = await read_all(client, *place)
        if view.records and offset != view.position:
            cluster.fail(f"{place}: the group stands at {offset} of {view.position}")


def groups(seed: object, *, seconds: float = 40.0, device: Device = KILLED) -> Counts:
    """A consumer group, and nothing else."""

    async def main(cluster: Cluster) -> Counts:
        dice = cluster.random("scenario")
        ledger = Ledger()
        consumers = Consumers(
            cluster, ledger, slots=dice.randint(1, 4), protocols=dice.choice(PROTOCOLS), static=dice.random() < 0.3
        )
        await consumers.create_topics()
        consumers.start()
        await cluster.trouble(seconds)
        await finish_consumers(cluster, consumers)
        return cluster.counts

    return run_cluster(main, seed=seed, **device.options)


async def finish_consumers(cluster: Cluster, consumers: Consumers) -> None:
    """The group gets to the end of its topic, and stands there."""
    client = cluster.client("checker")

    async def is_through() -> bool:
        return consumers.is_stable() and not consumers.missing()

    await until(cluster, "the group processes everything", is_through)
    if missing := consumers.missing():
        cluster.fail(f"never processed: {missing}")
    for place in consumers.places:
        await check_log(cluster, consumers.ledger, place)

    async def is_committed() -> bool:
        found = await committed_offsets(client, consumers.group, frozenset(consumers.places))
        ends = {place: len(consumers.ledger.plain.get(place, ())) for place in consumers.places}
        return all(max(offset, 0) == ends[place] for place, offset in found.items())

    await until(cluster, "the group has committed everything", is_committed)
    consumers.is_over = True


def queues(seed: object, *, seconds: float = 30.0, device: Device = KILLED) -> Counts:
    """A share group, and nothing else."""

    async def main(cluster: Cluster) -> Counts:
        dice = cluster.random("scenario")
        sharing = Sharing(cluster, Ledger(), slots=dice.randint(1, 5), transactional=dice.random() < 0.4)
        await sharing.create_topics()
        sharing.start()
        await cluster.trouble(seconds)
        await finish_sharing(cluster, sharing)
        return cluster.counts

    return run_cluster(main, seed=seed, cuts=0.005, **device.options)


async def finish_sharing(cluster: Cluster, sharing: Sharing) -> None:
    """The group gets to the end of its topic; no job was lost on the way, none settled twice."""
    client = cluster.client("checker")
    places = [(JOBS, index) for index in range(PARTITIONS)]

    async def is_settled() -> bool:
        return all([await settled(client, place) for place in places])

    async def is_through() -> bool:
        ends = {index: (await read_all(client, *place)).position for index, place in enumerate(places)}
        starts = await sharing.start_offsets()
        return all(starts.get(index, 0) >= end for index, end in ends.items() if end)

    await until(cluster, "no transaction is open", is_settled)
    await until(cluster, "the share group catches up", is_through)
    await asyncio.sleep(1)  # until the workers have heard that they are done
    sharing.is_over = True
    views = {place: await read_all(client, *place) for place in places}
    truths = {place: Truth(sharing.ledger, place) for place in places}
    if sharing.transactional:
        standing = {index: dict(views[place].records) for index, place in enumerate(places)}
    else:
        standing = {index: dict(truths[place].stands) for index, place in enumerate(places)}
    sharing.check_fates(
        {index: dict(found) for index, found in standing.items()},
        {index: dict(truths[place].gone) for index, place in enumerate(places)},
    )
    for place in places:
        await check_log(cluster, sharing.ledger, place)


def tables(seed: object, *, seconds: float = 30.0, device: Device = KILLED) -> Counts:
    """Compacted topics, and nothing else."""

    async def main(cluster: Cluster) -> Counts:
        dice = cluster.random("scenario")
        tables = Tables(cluster, Ledger(), v2=dice.random() < 0.6, policy=dice.choice(("compact", "compact,delete")))
        await tables.create_topics()
        tables.start()
        await cluster.trouble(seconds)
        await finish_tables(cluster, tables)
        return cluster.counts

    return run_cluster(main, seed=seed, **device.options)


async def finish_tables(cluster: Cluster, tables: Tables) -> None:
    """No transaction stays open, and the cleaner gets through."""
    client = cluster.client("checker")

    async def is_settled() -> bool:
        return all([await settled(client, place) for place in tables.places])

    async def have_seen() -> bool:
        return all(watcher.view.position >= watcher.view.high_watermark for watcher in tables.watchers.values())

    await until(cluster, "no transaction is open", is_settled)
    await until(cluster, "who reads along has seen everything", have_seen)
    await asyncio.sleep(cluster.random("patience").choice((0.0, 5.0)))
    await tables.check()


def everything(seed: object, *, seconds: float = 30.0) -> Counts:
    """All of it on one node."""

    async def main(cluster: Cluster) -> Counts:
        dice = cluster.random("scenario")
        ledger = Ledger()
        v2 = dice.random() < 0.6
        protocols = dice.choice(PROTOCOLS)
        application = Transform(cluster, ledger, slots=2, protocols=protocols, v2=v2)
        consumers = Consumers(cluster, ledger, slots=2, protocols=dice.choice(PROTOCOLS), static=dice.random() < 0.3)
        sharing = Sharing(cluster, ledger, slots=2, transactional=dice.random() < 0.4)
        tables = Tables(cluster, ledger, v2=v2, policy="compact")
        for workload in (application, consumers, sharing, tables):
            await workload.create_topics()
            workload.start()
        watchers = {place: Watcher(cluster, *place) for place in [*OUTPUTS, (TABLE, 0)]}
        for watcher in watchers.values():
            cluster.spawn(watcher.run())
        cluster.spawn(change_quotas(cluster))
        await cluster.trouble(seconds)
        await finish_transform(cluster, application, watchers)
        await finish_consumers(cluster, consumers)
        await finish_sharing(cluster, sharing)
        await finish_tables(cluster, tables)
        return cluster.counts

    return run_cluster(main, seed=seed, cuts=0.01)


def flushed(seed: object) -> Counts:
    """One of the scenarios where the machine loses power."""
    scenario = (transactions, groups, queues, tables)[Random(f"{seed}").randrange(4)]
    return scenario(seed, device=FLUSHED)


def careless(seed: object, *, seconds: float = 25.0) -> Counts:
    """Power is lost, and nothing was flushed but what Kafka flushes: what was acknowledged may be gone, and one
    partition may have lost more than another, internal ones too. What is left is readable, and new work gets done.

    Queues are an exception, as they are in Kafka: a group whose share state is gone while its membership is not has to
    be reset by an administrator.
    """

    async def main(cluster: Cluster) -> Counts:
        dice = cluster.random("scenario")
        ledger = Ledger()
        application = Transform(cluster, ledger, slots=2, protocols=dice.choice(PROTOCOLS), v2=dice.random() < 0.6)
        consumers = Consumers(cluster, ledger, slots=2, protocols=dice.choice(PROTOCOLS), static=dice.random() < 0.3)
        sharing = Sharing(cluster, ledger, slots=2, transactional=False)
        for workload in (application, consumers, sharing):
            await workload.create_topics()
            workload.start()
        await cluster.trouble(seconds)
        await check_new_work(cluster, ledger, consumers)
        for place in [*INPUTS, *OUTPUTS, *consumers.places, *[(JOBS, index) for index in range(PARTITIONS)]]:
            view = await read_all(cluster.client("checker"), *place, isolation=READ_UNCOMMITTED)
            if unknown := set(view.records.values()) - ledger.sent.get(place, set()):
                cluster.fail(f"{place} has {sorted(unknown)}, which nobody sent")
        return cluster.counts

    return run_cluster(main, seed=seed, ending=Ending.POWER_LOST, may_lose=True)


async def check_new_work(cluster: Cluster, ledger: Ledger, consumers: Consumers) -> None:
    """Transactional ids and groups that were there before take what comes now."""
    client = cluster.client("newcomer")
    await client.create_topic("afterwards", 2)
    for transactional_id in ("app-0", "newcomer"):
        producer = TransactionalProducer(client, ledger, transactional_id, timeout_ms=10_000, v2=True)
        await producer.start()
        producer.begin()
        for partition in range(2):
            await producer.write("afterwards", partition, [(None, transactional_id.encode())])
        await producer.end(is_commit=True)

    async def are_visible() -> bool:
        views = [await read_all(client, "afterwards", partition) for partition in range(2)]
        return all(len(view.records) == 2 for view in views)

    await until(cluster, "new transactions are visible", are_visible)
    plain = IdempotentProducer(client, ledger)
    await plain.start()
    events = {place: await plain.write(*place, [(None, b"new")]) for place in consumers.places}

    async def are_processed() -> bool:
        return all(offset in consumers.processed.get(place, ()) for place, offset in events.items())

    await until(cluster, "the group takes new records", are_processed)


SCENARIOS = (transactions, groups, queues, tables, everything, flushed, careless)
