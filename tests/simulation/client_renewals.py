"""A share consumer that renews its locks, others that want its records, a network that hurts and a node that dies.

What a broker has confirmed to be renewed is its for as long as a lock lasts, counted from before it asked. Nobody else
is given the record in that time, unless the holder's connection or the node was lost, which ends its session and its
locks. When it renews no more, others get everything. A delivery counts when a record is delivered, not when renewed.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from random import Random
from typing import Any

from ottla.client.errors import KafkaError
from ottla.core.errors import ErrorCode
from ottla.protocol.apis import ApiKey
from tests.simulation.client_world import EXPLICIT, Counts, Stage, play
from tests.simulation.workloads.our_queues import JOBS, LOCK_S, Job
from tests.simulation.workloads.programs import Program

RENEWALS = 12
HURT = 0.03
GONE_S = LOCK_S + 12.0
"""A lock's time, and what a call or a restart in between may take."""


@dataclass
class Holder:
    """What the one who renews has, and until when."""

    until_s: dict[Job, float] = field(default_factory=dict)
    since_s: dict[Job, float] = field(default_factory=dict)
    """Since when it was delivered, and not given up."""
    counts: dict[Job, int] = field(default_factory=dict)
    left: set[Job] = field(default_factory=set)
    """What it had when it stopped."""
    name: str = ""


def renewals(seed: object) -> Counts:
    """For half of the seeds all is quiet; for the others the network hurts, and the node is killed twice."""

    async def act(stage: Stage) -> None:
        cluster, world = stage.cluster, stage.world
        await stage.queue(workers=0, partitions=1)  # of several, some would be the holder's alone
        holder = Holder()
        has_some = asyncio.Event()
        keeper = world.start("keeper", _keeper(stage, holder, has_some))
        await has_some.wait()
        watcher = world.start("watcher", _watcher(stage, holder))
        if is_hurt:
            for _ in range(2):
                await asyncio.sleep(stage.dice.uniform(2, 6))
                await cluster.die(stage.dice.uniform(0, 2))
        await keeper.task
        cluster.is_calm = True
        watcher.close()
        await stage.finish()
        await world.end()

    is_hurt = Random(f"{seed}").random() < 0.5
    return play("renewals", seed, act, hurt=HURT if is_hurt else 0.0)


def _keeper(stage: Stage, holder: Holder, has_some: asyncio.Event) -> Any:
    cluster = stage.cluster

    async def keep(program: Program) -> None:
        holder.name = program.name
        consumer = program.share_consumer(EXPLICIT, topics=[JOBS])
        try:
            held: dict[Job, Any] = {}
            for _ in range(RENEWALS):
                held |= await _polled(cluster, holder, consumer)
                while not held:
                    held |= await _polled(cluster, holder, consumer)
                has_some.set()
                await _renew(stage, holder, consumer, held)
                await asyncio.sleep(LOCK_S / 2)
            holder.left = set(held)
            await asyncio.sleep(GONE_S)  # it is there, polls no more and does not close
            if holder.left:
                cluster.fail(f"not renewed for {GONE_S} s, and nobody else has them: {sorted(holder.left)}")
        finally:
            await consumer.__aexit__(KafkaError, KafkaError("it is done"), None)

    return keep


async def _polled(cluster: Any, holder: Holder, consumer: Any) -> dict[Job, Any]:
    try:
        records = await consumer.poll(timeout_s=0.2)
    except KafkaError as error:
        if not error.retriable:
            raise
        return {}
    found = {}
    for record in records:
        job = record.partition, record.offset
        found[job] = record
        before = holder.counts.get(job)
        if before is not None and record.delivery_count < before:
            cluster.fail(f"{job} comes for the {record.delivery_count}th time, and had come {before} times")
        holder.counts[job] = record.delivery_count
        holder.since_s[job] = cluster.now()
    return found


async def _renew(stage: Stage, holder: Holder, consumer: Any, held: dict[Job, Any]) -> None:
    """Renew all, and see what is confirmed; what is not is given up."""
    cluster = stage.cluster
    began_s = cluster.now()
    lost: set[Job] = set()
    for job, record in held.items():
        try:
            consumer.renew(record)
        except KafkaError as error:  # it is known by now that it is not ours any more
            if error.code not in (None, ErrorCode.INVALID_RECORD_STATE):
                raise
            lost.add(job)
    try:
        confirmed = await consumer.commit()
    except KafkaError as error:
        if not error.retriable:
            raise
        confirmed = None
    for job in set(held):
        failure = KafkaError("unknown") if confirmed is None else _failure(confirmed, job)
        if job in lost or failure is not None:
            if not _was_hurt(stage, holder, began_s - LOCK_S):
                cluster.fail(f"{job} was not renewed: {failure}")
            del held[job]
            holder.until_s.pop(job, None)
        else:
            cluster.count("locks renewed")
            holder.until_s[job] = began_s + LOCK_S
            if cluster.now() - holder.since_s[job] > LOCK_S:
                cluster.count("jobs kept for longer than a lock")


def _failure(confirmed: Any, job: Job) -> Any:
    return next((error for place, error in confirmed.items() if place.partition == job[0]), None)


def _was_hurt(stage: Stage, holder: Holder, since_s: float) -> bool:
    """The holder's session may have ended since then."""
    proxy = stage.world.proxy
    return proxy.cut_s.get(holder.name, -1.0) >= since_s or proxy.share > 0


def _watcher(stage: Stage, holder: Holder) -> Any:
    cluster, proxy = stage.cluster, stage.world.proxy

    async def watch(program: Program) -> None:
        consumer = program.share_consumer(EXPLICIT, topics=[JOBS])
        async with consumer:
            while not program.is_closing:
                try:
                    records = await consumer.poll(timeout_s=1.0)
                except KafkaError as error:
                    if not error.retriable:
                        raise
                    continue
                for record in records:
                    job = record.partition, record.offset
                    until_s = holder.until_s.pop(job, 0.0)
                    cut_s = proxy.cut_s.get(holder.name, -1.0)
                    if cluster.now() < until_s and cut_s < until_s - LOCK_S:
                        cluster.fail(f"{job} was given to another while its lock was renewed")
                    _check_count(stage, holder, job, record.delivery_count)
                    if job in holder.left:
                        holder.left.discard(job)
                        cluster.count("jobs that others got when he stopped")
                    consumer.acknowledge(record)

    return watch


def _check_count(stage: Stage, holder: Holder, job: Job, count: int) -> None:
    """One more than the holder had, as renewals are none; deliveries whose answers were lost were counted, too. A node
    that died knows no more of deliveries that were not settled.
    """
    before = holder.counts.pop(job, None)
    lost = stage.world.proxy.lost[ApiKey.SHARE_FETCH]
    least = 1 if before is None or stage.cluster.lives > 1 else before + 1
    if before is not None and not least <= count <= before + 1 + lost:
        stage.cluster.fail(f"{job} was delivered {before} times, and is now the {count}th time")
