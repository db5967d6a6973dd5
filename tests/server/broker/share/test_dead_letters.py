"""The dead-letter queue end to end: what goes there, with which headers, and what happens when it does not."""

from __future__ import annotations

import asyncio
import logging
from random import Random

import pytest

from ottla.core.errors import ErrorCode
from ottla.records.record import Record
from ottla.runtime.memory_disk import MemoryDisk, SimulatedCrashError
from ottla.schema.config import BrokerConfig
from ottla.server.broker.share import dead_letters
from ottla.server.metadata.image import ConfigResourceType
from ottla.server.node.node import Node
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.server.broker.share.share_world import GROUP, SETTINGS, TOPIC, ShareWorld, run

QUEUE = "dlq.jobs"
MARKED = {"errors_deadletterqueue_group_enable": "true"}


async def with_queue(world: ShareWorld, **settings: str) -> None:
    await world.create_topic(QUEUE, 2, **MARKED)
    await world.configure(errors_deadletterqueue_topic_name=QUEUE, share_delivery_count_limit="2", **settings)


async def letters(world: ShareWorld, topic: str = QUEUE, *, after_s: float = 1.0) -> list[dict[str, str]]:
    """The headers of everything in the queue, without their common prefix."""
    await asyncio.sleep(after_s)
    return [headers(record) for record in await world.read(topic)]


def headers(record: Record) -> dict[str, str]:
    prefix = "__dlq.errors."
    assert all(name.startswith(prefix) for name, _ in record.headers)
    return {name[len(prefix) :]: (value or b"").decode() for name, value in record.headers}


def core_start(world: ShareWorld) -> int:
    hosted = world.node.broker.share_partitions.existing(GROUP, world.topic_id, 0)
    assert hosted is not None
    assert hosted.core is not None
    return hosted.core.start_offset


def test_rejected_and_worn_out_records_go_to_the_queue() -> None:
    async def main(world: ShareWorld) -> None:
        await with_queue(world)
        await world.produce(b"fine", b"poison", b"worn out")
        async with world.worker() as worker:
            await worker.fetch()
            assert await worker.acknowledge((0, 2, [1, 3, 2])) is ErrorCode.NONE
            common = {"topic": TOPIC, "partition": "0", "group": GROUP}
            rejected = {**common, "offset": "1", "delivery.count": "1", "message": "Offset rejected by client."}
            assert await letters(world) == [rejected]
            await worker.fetch()
            assert await worker.acknowledge((2, 2, [2])) is ErrorCode.NONE
            message = "Offset delivery count exceeded the threshold."
            worn_out = {**common, "offset": "2", "delivery.count": "2", "message": message}
            assert await letters(world) == [rejected, worn_out]
            assert core_start(world) == 3
            assert all(record.key is record.value is None for record in await world.read(QUEUE))
            assert await worker.fetch() == {}

    run(main)


def test_the_queue_gets_what_the_last_member_rejects_when_it_goes() -> None:
    async def main(world: ShareWorld) -> None:
        await with_queue(world)
        await world.produce(b"poison")
        async with world.worker() as worker:
            await worker.fetch()
            assert await worker.acknowledge((0, 0, [3]), epoch=-1) is ErrorCode.NONE
        assert [letter["offset"] for letter in await letters(world)] == ["0"]
        assert world.node.broker.share_partitions.existing(GROUP, world.topic_id, 0) is None, "nobody needs it any more"

    run(main)


def test_locks_that_time_out_for_the_last_time_and_gaps() -> None:
    async def main(world: ShareWorld) -> None:
        await with_queue(world)
        await world.produce(b"slow", b"gap")
        async with world.worker() as worker:
            await worker.fetch()
            assert await worker.acknowledge((1, 1, [0])) is ErrorCode.NONE
            assert (await worker.fetch(max_wait_ms=40_000))[0].ranges == [(0, 0, 2)]
            found = await letters(world, after_s=40)
            assert [(letter["offset"], letter["delivery.count"]) for letter in found] == [("0", "2")]

    run(main)


@pytest.mark.parametrize("read_bytes", [1, 1_000_000])
def test_records_are_copied_when_the_group_wants_that(read_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "_READ_BYTES", read_bytes)

    async def main(world: ShareWorld) -> None:
        await with_queue(world, errors_deadletterqueue_copy_record_enable="true")
        await world.produce(b"one", b"two")
        await world.produce(b"three", compression=1)
        async with world.worker() as worker:
            await worker.fetch()
            assert await worker.acknowledge((0, 2, [3])) is ErrorCode.NONE
            await asyncio.sleep(1)
            assert [(r.key, r.value) for r in await world.read(QUEUE)] == [
                (b"k", b"one"),
                (b"k", b"two"),
                (b"k", b"three"),
            ]

    run(main)


def test_what_is_too_large_for_the_queue_leaves_its_headers_there() -> None:
    async def main(world: ShareWorld) -> None:
        await world.create_topic(QUEUE, 1, max_message_bytes="2000", **MARKED)
        await world.configure(errors_deadletterqueue_topic_name=QUEUE, errors_deadletterqueue_copy_record_enable="true")
        await world.produce(*[b"x" * 700] * 5, b"x" * 5000)
        async with world.worker() as worker:
            await worker.fetch()
            assert await worker.acknowledge((0, 5, [3])) is ErrorCode.NONE
            await asyncio.sleep(1)
            found = await world.read(QUEUE)
            assert [len(record.value or b"") for record in found] == [700] * 5 + [0]
            assert [headers(record)["offset"] for record in found] == list("012345")

    run(main)


def test_what_cannot_be_delivered_does_not_hold_up_what_comes_after_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("nobody expected this")

    async def main(world: ShareWorld) -> None:
        await with_queue(world)
        await world.produce(b"poison", b"more poison")
        async with world.worker() as worker:
            await worker.fetch()
            with monkeypatch.context() as patch:
                patch.setattr(dead_letters, "build_batch", broken)
                assert await worker.acknowledge((0, 0, [3])) is ErrorCode.NONE
                assert await letters(world) == []
            assert await worker.acknowledge((1, 1, [3])) is ErrorCode.NONE
            assert [found["offset"] for found in await letters(world)] == ["1"]
            assert core_start(world) == 2

    run(main)
    assert "given up without a copy" in caplog.text


def test_a_queue_is_created_when_the_broker_may() -> None:
    async def main(world: ShareWorld) -> None:
        await world.configure(errors_deadletterqueue_topic_name="dlq.fresh")
        await world.produce(b"poison")
        async with world.worker() as worker:
            await worker.fetch()
            assert await worker.acknowledge((0, 0, [3])) is ErrorCode.NONE
            assert [letter["offset"] for letter in await letters(world, "dlq.fresh")] == ["0"]
            assert world.node.broker.image.config_of(ConfigResourceType.TOPIC, "dlq.fresh") == {
                "errors.deadletterqueue.group.enable": "true",
                "message.timestamp.type": "CreateTime",
            }

    run(main, errors_deadletterqueue_auto_create_topics_enable=True)


@pytest.mark.parametrize("name", ["dlq.missing", "dlq.plain", "wrong.prefix", "__internal"])
def test_without_a_proper_queue_records_are_given_up_with_a_line_in_the_log(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(world: ShareWorld) -> None:
        await world.create_topic("dlq.plain")
        await world.create_topic("wrong.prefix", **MARKED)
        await world.configure(errors_deadletterqueue_topic_name=name)
        await world.produce(b"poison")
        async with world.worker() as worker:
            await worker.fetch()
            assert await worker.acknowledge((0, 0, [3])) is ErrorCode.NONE
            await asyncio.sleep(1)
            assert core_start(world) == 1

    with caplog.at_level(logging.ERROR, "ottla.server.broker.share.dead_letters"):
        run(main)
    assert any("given up without a copy" in line.getMessage() for line in caplog.records)


def test_a_queue_that_refuses_for_a_while_gets_everything_in_the_end() -> None:
    async def main(world: ShareWorld) -> None:
        await with_queue(world)
        await world.produce(b"poison")
        queue = world.node.broker.replicas.get(QUEUE, 0)
        assert queue is not None
        leader_epoch = queue.leader_epoch
        queue.update_leadership(-1, leader_epoch, (1,), (1,))
        async with world.worker() as worker:
            await worker.fetch()
            assert await worker.acknowledge((0, 0, [3])) is ErrorCode.NONE
            await asyncio.sleep(60)
            assert core_start(world) == 0
            queue.update_leadership(queue.node_id, leader_epoch, (queue.node_id,), (queue.node_id,))
            assert [letter["offset"] for letter in await letters(world, after_s=31)] == ["0"]
            await asyncio.sleep(1)
            assert core_start(world) == 1

    run(main)


@pytest.mark.parametrize("seed", range(6))
def test_a_rejected_record_gets_there_whenever_the_process_ends(seed: int) -> None:
    dice = Random(f"dead letters {seed}")
    disk = MemoryDisk()
    rejected: set[str] = set()

    async def live(env: SimulatedEnv) -> None:
        node = Node(BrokerConfig.of(SETTINGS), env)
        await node.start()
        world = ShareWorld(env, node)
        world.topic_id = await world.create_topic()
        if "state" not in rejected:
            await world.initialize()
            rejected.add("state")
        await with_queue(world)
        async with world.worker() as worker:
            await worker.fetch()
            while True:
                await world.produce(b"poison")
                taken = (await worker.fetch(max_wait_ms=1_000)).get(0)
                if taken is not None and taken.offsets:
                    first, last = taken.offsets[0], taken.offsets[-1]
                    if await worker.acknowledge((first, last, [3])) is ErrorCode.NONE:
                        rejected.update(map(str, taken.offsets))

    async def check(env: SimulatedEnv) -> None:
        node = Node(BrokerConfig.of(SETTINGS), env)
        await node.start()
        world = ShareWorld(env, node)
        world.topic_id = await world.create_topic()
        async with world.worker() as worker:
            await worker.fetch(max_wait_ms=1_000)
            found = {letter["offset"] for letter in await letters(world)}
        assert rejected - {"state"} <= found
        await node.stop()

    for life in range(3):
        disk.crash_at(dice.randint(60, 400))
        with pytest.raises(SimulatedCrashError):
            simulate(live, seed=seed * 10 + life, disk=disk)
        disk.restart_process()
        if "state" not in rejected:
            return
    simulate(check, seed=seed, disk=disk)
    assert len(rejected) > 1
