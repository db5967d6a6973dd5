"""What brokers and networks do to a consumer: it goes on, skips nothing, and says what it cannot solve."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from ottla.aio import Consumer
from ottla.client.errors import AuthorizationError, KafkaError, LogTruncatedError, NoOffsetForPartitionError
from ottla.client.model import TopicPartition
from ottla.core.errors import ErrorCode
from ottla.protocol.apis import ApiKey
from tests.client.consumer.scene import Scene, play
from tests.client.network.fake_broker import CLOSE, SILENCE, Cut, Delay


async def offsets(consumer: Consumer[bytes, bytes], count: int, timeout_s: float = 60) -> list[int]:
    found: list[int] = []
    deadline_s = asyncio.get_running_loop().time() + timeout_s
    while len(found) < count and asyncio.get_running_loop().time() < deadline_s:
        found += [record.offset for record in await consumer.poll(timeout_s=1)]
    return found


def values(count: int) -> list[str]:
    return [f"value {number}" for number in range(count)]


def test_a_connection_that_ends_in_the_middle_of_an_answer() -> None:
    async def story(scene: Scene, random: Random) -> None:
        scene.log().append(values(5))
        for size in (0, 3, 4, 11, 60):
            scene.fake[1].script(ApiKey.FETCH, Cut(size), CLOSE)
        async with scene.consumer(reconnect_backoff_ms=10) as consumer:
            await consumer.assign(scene.partitions)
            assert await offsets(consumer, 5) == [0, 1, 2, 3, 4]

    play(story)


def test_a_leader_that_moved_is_found_by_the_hint_without_metadata() -> None:
    async def story(scene: Scene, random: Random) -> None:
        scene.log().append(values(2))
        async with scene.consumer() as consumer:
            await consumer.assign(scene.partitions)
            assert await offsets(consumer, 2) == [0, 1]
            asked = len(scene.fake[1].received(ApiKey.METADATA)) + len(scene.fake[2].received(ApiKey.METADATA))
            scene.move_leader(0, 2)
            scene.model.errors[scene.partitions[0]] = ErrorCode.NOT_LEADER_OR_FOLLOWER
            for one in scene.fake:  # the hint is all that the consumer gets
                one.on(ApiKey.METADATA, SILENCE)
            scene.log().append(values(2))
            assert await offsets(consumer, 2) == [2, 3]
            assert len(scene.fake[2].received(ApiKey.OFFSET_FOR_LEADER_EPOCH)) == 1
            assert asked >= 1

    play(story, brokers=2)


def test_a_slow_broker_does_not_hold_up_the_others() -> None:
    async def story(scene: Scene, random: Random) -> None:
        loop = asyncio.get_running_loop()
        for partition in (0, 1):
            scene.log(partition).append(values(3))
        scene.fake[1].script(ApiKey.FETCH, Delay(20))
        async with scene.consumer() as consumer:
            await consumer.assign(scene.partitions)
            began_s = loop.time()
            records = await consumer.poll()
            assert {record.partition for record in records} == {1}
            assert loop.time() - began_s < 2
            for _ in range(10):
                scene.log(1).append(values(1))
                assert len(await consumer.poll(timeout_s=1)) == 1
            assert loop.time() - began_s < 5
            records = await consumer.poll(timeout_s=30)
            assert [record.offset for record in records] == [0, 1, 2]

    play(story, brokers=2, partitions=2)


def test_a_broker_that_restarts() -> None:
    async def story(scene: Scene, random: Random) -> None:
        scene.log().append(values(3))
        async with scene.consumer() as consumer:
            await consumer.assign(scene.partitions)
            assert await offsets(consumer, 3) == [0, 1, 2]
            await scene.fake[1].stop()
            assert await consumer.poll(timeout_s=3) == []
            scene.model.lose_sessions(1)
            scene.log().append(values(2))
            await scene.fake[1].start()
            assert await offsets(consumer, 2) == [3, 4]

    play(story)


def test_brokers_that_come_up_after_the_consumer() -> None:
    async def story(scene: Scene, random: Random) -> None:
        scene.log().append(values(3))
        bootstrap = scene.fake.bootstrap
        await scene.fake.stop()
        consumer: Consumer[bytes, bytes] = Consumer(
            bootstrap, auto_offset_reset="earliest", request_timeout_ms=2000, default_api_timeout_ms=2000
        )
        async with consumer:
            await consumer.assign(scene.partitions)
            with pytest.raises(KafkaError, match=r"127\.0\.0\.1"):
                await consumer.poll()
            await scene.fake.start()
            assert await offsets(consumer, 3) == [0, 1, 2]

    play(story)


def test_a_log_that_was_cut_is_read_from_where_it_was_cut() -> None:
    async def story(scene: Scene, random: Random) -> None:
        tp = scene.partitions[0]
        scene.log().append(values(5))
        async with scene.consumer() as consumer:
            await consumer.assign(scene.partitions)
            assert await offsets(consumer, 5) == [0, 1, 2, 3, 4]
            scene.move_leader(0, 2)
            scene.log().batches.clear()
            scene.log().end = 3
            scene.log().append(["new 3", "new 4", "new 5"])
            scene.truncated[tp] = (0, 3)
            found = []
            while len(found) < 3:
                found += [(record.offset, record.value) for record in await consumer.poll(timeout_s=1)]
                scene.truncated.clear()
            assert found == [(3, b"new 3"), (4, b"new 4"), (5, b"new 5")]

    play(story, brokers=2)


@pytest.mark.parametrize("end", [(0, 3), (-1, -1)])
def test_a_log_that_was_cut_is_an_error_when_nothing_says_where_to_go_on(end: tuple[int, int]) -> None:
    async def story(scene: Scene, random: Random) -> None:
        tp = scene.partitions[0]
        scene.log().append(values(5))
        async with scene.consumer(auto_offset_reset="none") as consumer:
            await consumer.assign(scene.partitions)
            await consumer.seek(tp, 0)
            assert await offsets(consumer, 5) == [0, 1, 2, 3, 4]
            scene.truncated[tp] = end
            scene.move_leader(0, 2)
            with pytest.raises(LogTruncatedError, match="offset 5 of leader epoch 0"):
                await offsets(consumer, 1)
            scene.log().append(values(1))
            await consumer.seek(tp, 5)
            assert await offsets(consumer, 1) == [5]

    play(story, brokers=2)


def test_buffered_records_of_a_log_that_was_cut_are_fetched_anew() -> None:
    async def story(scene: Scene, random: Random) -> None:
        tp = scene.partitions[0]
        for _ in range(10):
            scene.log().append(["old"] * 60)
        async with scene.consumer(max_poll_records=60) as consumer:
            await consumer.assign(scene.partitions)
            assert len(await consumer.poll()) == 60
            scene.move_leader(0, 2)
            del scene.log().batches[4:]
            scene.log().end = 240
            scene.log().append(["new"] * 60)
            scene.truncated[tp] = (0, 240)
            await asyncio.sleep(2)
            assert await consumer.position(tp) == 60
            found = []
            while len(found) < 240:
                found += await consumer.poll(timeout_s=1)
                consumer._engine.fetching.check_invariants()
            assert [record.offset for record in found] == list(range(60, 300))
            assert [record.value for record in found] == [b"old"] * 180 + [b"new"] * 60

    play(story, brokers=2)


def test_leaders_too_old_to_be_asked_about_epochs_are_trusted() -> None:
    async def story(scene: Scene, random: Random) -> None:
        scene.fake.versions[ApiKey.OFFSET_FOR_LEADER_EPOCH] = (2, 2)
        scene.log().append(values(2))
        async with scene.consumer() as consumer:
            await consumer.assign(scene.partitions)
            assert await offsets(consumer, 2) == [0, 1]
            scene.move_leader(0, 2)
            scene.log().append(values(2))
            assert await offsets(consumer, 2) == [2, 3]

    play(story, brokers=2)


@pytest.mark.parametrize("newest", [4, 6, 7, 11, 12, 16])
def test_every_generation_of_brokers(newest: int) -> None:
    async def story(scene: Scene, random: Random) -> None:
        scene.fake.versions[ApiKey.FETCH] = (4, newest)
        scene.log().append(values(2))
        async with scene.consumer() as consumer:
            await consumer.assign(scene.partitions)
            assert await offsets(consumer, 2) == [0, 1]
            scene.log().append(values(2))
            assert await offsets(consumer, 2) == [2, 3]

    play(story)


def test_the_replica_in_our_rack_is_fetched_from() -> None:
    async def story(scene: Scene, random: Random) -> None:
        scene.log().append(values(2))
        scene.log().followers.add(2)
        usual = scene.fetch

        async def prefers(request: Any, call: Any) -> Any:
            response = await usual(request, call)
            for topic in response.responses:
                for data in topic.partitions:
                    data.preferred_read_replica, data.records = 2, b""
            return response

        scene.fake[1].on(ApiKey.FETCH, prefers)
        async with scene.consumer(client_rack="near") as consumer:
            await consumer.assign(scene.partitions)
            assert await offsets(consumer, 2) == [0, 1]
            assert scene.fake[1].received(ApiKey.FETCH)[0].rack_id == "near"
            scene.log().append(values(2))
            assert await offsets(consumer, 2) == [2, 3]
            scene.fake[1].on(ApiKey.FETCH, usual)
            await scene.fake[2].stop()
            scene.log().append(values(2))
            assert await offsets(consumer, 2) == [4, 5]

    play(story, brokers=2)


def test_what_one_may_not_read_is_raised_and_the_rest_goes_on() -> None:
    async def story(scene: Scene, random: Random) -> None:
        for partition in (0, 1):
            scene.log(partition).append(values(2))
        scene.model.errors[scene.partitions[0]] = ErrorCode.TOPIC_AUTHORIZATION_FAILED
        async with scene.consumer() as consumer:
            await consumer.assign(scene.partitions)
            errors = 0
            found = []
            for _ in range(20):
                try:
                    found += [(one.partition, one.offset) for one in await consumer.poll(timeout_s=0.5)]
                except AuthorizationError:
                    errors += 1
            assert errors == 1
            assert sorted(found) == [(0, 0), (0, 1), (1, 0), (1, 1)]

    play(story, partitions=2)


def test_without_a_reset_a_missing_position_is_raised() -> None:
    async def story(scene: Scene, random: Random) -> None:
        async with scene.consumer(auto_offset_reset="none") as consumer:
            await consumer.assign(scene.partitions)
            with pytest.raises(NoOffsetForPartitionError, match="t-0"):
                await consumer.position(scene.partitions[0])

    play(story)


@pytest.mark.parametrize("seed", range(12))
def test_nothing_is_skipped_and_nothing_comes_twice_whatever_happens(seed: int) -> None:
    async def story(scene: Scene, random: Random) -> None:
        total = 60
        expected = dict.fromkeys(scene.partitions, 0)

        async def producing() -> None:
            for _ in range(total):
                await asyncio.sleep(random.expovariate(10))
                for partition in range(len(scene.partitions)):
                    scene.log(partition).append(values(random.randint(1, 3)))

        async def disturbing() -> None:
            while True:
                await asyncio.sleep(random.expovariate(2))
                broker = scene.fake[random.choice(list(scene.fake.brokers))]
                match random.randrange(6):
                    case 0:
                        scene.move_leader(random.randrange(len(scene.partitions)), broker.id)
                    case 1:
                        broker.script(ApiKey.FETCH, Cut(random.randint(0, 200)))
                    case 2:
                        broker.drop_connections()
                    case 3:
                        scene.model.lose_sessions(broker.id)
                    case 4:
                        broker.script(ApiKey.FETCH, Delay(random.random()))
                    case 5:
                        scene.model.lose_sessions(broker.id)
                        await broker.restart(random.random())

        work = asyncio.ensure_future(producing())
        disturbance = asyncio.ensure_future(disturbing())
        settings = {
            "max_poll_records": random.choice([3, 500]),
            "max_partition_fetch_bytes": random.choice([200, 5000]),
        }
        async with scene.consumer(**settings, reconnect_backoff_max_ms=200, metadata_max_age_ms=2000) as consumer:
            await consumer.assign(scene.partitions)
            while True:
                for record in await consumer.poll(timeout_s=1):
                    tp = TopicPartition(record.topic, record.partition)
                    assert record.offset == expected[tp]
                    expected[tp] += 1
                consumer._engine.fetching.check_invariants()
                if random.random() < 0.1:
                    await asyncio.sleep(random.random() * 3)  # slow user code
                if work.done() and all(expected[tp] == scene.model.logs[tp].end for tp in expected):
                    break
                assert asyncio.get_running_loop().time() < 600
        disturbance.cancel()

    play(story, seed, brokers=1 + seed % 3, partitions=1 + seed % 4)
