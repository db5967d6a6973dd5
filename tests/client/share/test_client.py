"""The share consumer beside brokers that misbehave, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, contextmanager

import pytest

from ottla.client.errors import ClientClosedError, CorruptRecordsError, KafkaError
from ottla.client.share.blocking import ShareConsumer as BlockingShareConsumer
from ottla.client.share.client import ShareConsumer
from ottla.core.errors import ErrorCode
from ottla.core.ids import TopicPartition
from ottla.protocol.apis import ApiKey
from ottla.protocol.messages.share_fetch import ShareFetchResponse
from ottla.testing.sim.env import simulate
from tests.client.network.fake_broker import CLOSE, SILENCE, Delay, FakeCluster
from tests.client.share.queue_broker import ACCEPT, Queue

JOBS = TopicPartition("jobs", 0)


def run(main: Callable[[], Awaitable[object]], seed: int = 1) -> None:
    async def whole() -> None:
        async with asyncio.timeout(3600):  # virtual seconds: whatever waits longer than that waits for ever
            await main()
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert not left, left

    simulate(lambda _: whole(), seed=seed)


@asynccontextmanager
async def scene(size: int = 1, partitions: int | None = None, heartbeat_interval_ms: int = 5000, **names):
    fake = FakeCluster(size)
    fake.add_topic("jobs", partitions=partitions or size)
    queue = Queue(fake, heartbeat_interval_ms)
    async with fake:
        consumer = ShareConsumer(fake.bootstrap, topics=["jobs"], group_id="g", **names)
        yield fake, queue, consumer
        await consumer.close()


def fetches(fake: FakeCluster) -> int:
    return sum(len(broker.received(ApiKey.SHARE_FETCH)) for broker in fake)


def test_a_poll_without_limit_comes_back_when_the_broker_does():
    async def main():
        async with scene() as (fake, queue, consumer):
            queue.fill("jobs", 0, 1)
            assert len(await consumer.poll()) == 1
            poll = asyncio.ensure_future(consumer.poll())
            await asyncio.sleep(0.2)
            await fake[1].stop()
            queue.forget_sessions()
            await asyncio.sleep(20)
            await fake[1].start()
            queue.fill("jobs", 0, 1)
            assert {record.offset for record in await poll} <= {0, 1}

    run(main)


def test_a_poll_without_limit_waits_for_metadata_of_what_is_assigned():
    async def main():
        async with scene() as (fake, queue, consumer):
            topic = fake.topics["jobs"]
            topic.partitions[0].leader = -1
            queue.fill("jobs", 0, 1)
            poll = asyncio.ensure_future(consumer.poll())
            await asyncio.sleep(10)
            fake.move("jobs", 0, 1)
            assert len(await poll) == 1

    run(main)


def test_a_throttled_broker_is_asked_again_when_the_pause_is_over():
    async def main():
        async with scene() as (fake, queue, consumer):
            fake[1].script(ApiKey.SHARE_FETCH, ShareFetchResponse(throttle_time_ms=3000))
            queue.fill("jobs", 0, 1)
            assert len(await consumer.poll()) == 1

    run(main)


def test_who_waits_in_a_poll_stays_in_the_group():
    async def main():
        async with scene(max_poll_interval_ms=10_000) as (_, queue, consumer):
            poll = asyncio.ensure_future(consumer.poll())
            await asyncio.sleep(60)
            queue.fill("jobs", 0, 3)
            assert len(await poll) == 3
            assert queue.members

    run(main)


def test_who_does_not_poll_leaves_and_comes_back_with_the_next_poll():
    async def main():
        async with scene(max_poll_interval_ms=10_000) as (_, queue, consumer):
            queue.fill("jobs", 0, 1)
            assert await consumer.poll()
            await asyncio.sleep(15)
            assert not queue.members
            queue.fill("jobs", 0, 1)
            assert await consumer.poll()
            await asyncio.sleep(1)
            assert queue.members

    run(main)


@pytest.mark.parametrize("code", [ErrorCode.COORDINATOR_NOT_AVAILABLE, ErrorCode.SHARE_SESSION_LIMIT_REACHED])
def test_a_broker_that_refuses_is_asked_again_at_a_moderate_rate(code):
    async def main():
        async with scene() as (fake, queue, consumer):
            fake[1].on(ApiKey.SHARE_FETCH, ShareFetchResponse(error_code=code))
            assert await consumer.poll(10.0) == []
            assert fetches(fake) < 60
            fake[1].on(ApiKey.SHARE_FETCH, queue.fetch)
            queue.fill("jobs", 0, 1)
            assert await consumer.poll()

    run(main)


def test_a_broker_that_does_not_lead_any_more_is_asked_at_a_moderate_rate():
    async def main():
        async with scene(2, partitions=1) as (fake, queue, consumer):
            assert await consumer.poll(1.0) == []
            for broker in fake:
                broker.script(ApiKey.METADATA, *[Delay(20.0)])
            fake.topics["jobs"].partitions[0].leader = 2
            before = fetches(fake)
            assert await consumer.poll(10.0) == []
            assert fetches(fake) - before < 60
            queue.fill("jobs", 0, 1)
            assert await consumer.poll()

    run(main)


def test_records_of_a_session_that_ended_are_not_handed_out():
    async def main():
        async with scene() as (_, queue, consumer):
            assert await consumer.poll(1.0) == []
            with pytest.raises(TimeoutError):  # a fetch is on its way when the poll is given up
                async with asyncio.timeout(0.1):
                    await consumer.poll()
            queue.fill("jobs", 0, 1)
            await asyncio.sleep(1)
            await consumer.unsubscribe()
            assert not queue.members
            await consumer.subscribe(["jobs"])
            (record,) = await consumer.poll()
            assert record.delivery_count == 2
            assert await consumer.commit() == {JOBS: None}
            assert queue.verdicts == {("jobs", 0, 0): ACCEPT}

    run(main)


def test_records_whose_lock_ran_out_before_anybody_took_them_are_not_handed_out():
    async def main():
        async with scene() as (_, queue, consumer):
            assert await consumer.poll(1.0) == []
            with pytest.raises(TimeoutError):  # a fetch is on its way when the poll is given up
                async with asyncio.timeout(0.1):
                    await consumer.poll()
            queue.fill("jobs", 0, 1)
            await asyncio.sleep(31)
            partition = queue.partitions[queue.fake.topics["jobs"].id, 0]
            partition.free[0] = partition.locked.pop(0)[2]
            (record,) = await consumer.poll()
            assert record.delivery_count == 2
            assert await consumer.commit() == {JOBS: None}

    run(main)


def test_what_is_held_when_a_consumer_unsubscribes_does_not_bar_the_next_poll():
    async def main():
        async with scene(share_acknowledgement_mode="explicit") as (_, queue, consumer):
            queue.fill("jobs", 0, 2)
            assert len(await consumer.poll()) == 2
            await consumer.unsubscribe()
            await consumer.subscribe(["jobs"])
            records = await consumer.poll()
            assert [record.delivery_count for record in records] == [2, 2]
            for record in records:
                consumer.acknowledge(record)

    run(main)


def test_commit_says_what_could_not_be_acknowledged_while_a_broker_is_down():
    async def main():
        async with scene() as (fake, queue, consumer):
            queue.fill("jobs", 0, 2)
            assert len(await consumer.poll()) == 2
            await fake[1].stop()
            result = await consumer.commit()
            assert isinstance(result[JOBS], KafkaError)
            await fake[1].start()

    run(main)


def test_commit_in_explicit_mode_says_so_too_when_the_session_was_lost_before():
    async def main():
        async with scene(share_acknowledgement_mode="explicit") as (fake, queue, consumer):
            queue.fill("jobs", 0, 2)
            first, second = await consumer.poll()
            consumer.acknowledge(first)
            await fake[1].stop()
            assert isinstance((await consumer.commit())[JOBS], KafkaError)
            # Its lock went with the session: nobody may believe that it is acknowledged.
            with pytest.raises(KafkaError):
                consumer.acknowledge(second)
            await fake[1].start()

    run(main)


def test_a_commit_waits_only_for_its_own_while_another_task_polls():
    async def main():
        async with scene() as (_, queue, consumer):
            queue.fill("jobs", 0, 1)
            assert await consumer.poll()
            poll = asyncio.ensure_future(consumer.poll(100.0))
            await asyncio.sleep(0.1)
            begun = asyncio.get_running_loop().time()
            await consumer.commit()
            assert asyncio.get_running_loop().time() - begun < 2
            poll.cancel()

    run(main)


def test_the_result_of_a_commit_does_not_change_afterwards():
    async def main():
        async with scene() as (_, queue, consumer):
            queue.fill("jobs", 0, 1)
            assert await consumer.poll()
            result = await consumer.commit()
            assert result == {JOBS: None}
            queue.fill("jobs", 0, 1)
            assert await consumer.poll()
            queue.forget_sessions()
            await consumer.poll(2.0)
            assert result == {JOBS: None}

    run(main)


def test_a_lock_that_ran_out_is_told_by_commit_and_not_by_the_next_poll():
    async def main():
        async with scene() as (_, queue, consumer):
            queue.fill("jobs", 0, 1)
            assert await consumer.poll()
            partition = queue.partitions[queue.fake.topics["jobs"].id, 0]
            partition.free[0] = partition.locked.pop(0)[2]
            result = await consumer.commit()
            assert result[JOBS] is not None
            assert result[JOBS].code is ErrorCode.INVALID_RECORD_STATE
            (record,) = await consumer.poll()
            assert record.delivery_count == 2

    run(main)


def test_every_acknowledgement_is_answered_for_when_the_broker_is_silent_at_the_end():
    told = []

    async def main():
        def acknowledged(offsets, error):
            told.append((dict(offsets), error))

        async with scene(on_acknowledgement=acknowledged) as (fake, queue, consumer):
            queue.fill("jobs", 0, 3)
            assert len(await consumer.poll()) == 3
            for key in (ApiKey.SHARE_FETCH, ApiKey.SHARE_ACKNOWLEDGE):
                fake[1].on(key, SILENCE)
            begun = asyncio.get_running_loop().time()
            await consumer.close(2.0)
            assert asyncio.get_running_loop().time() - begun < 3

    run(main)
    ((offsets, error),) = told
    assert offsets == {JOBS: [0, 1, 2]}
    assert error is not None


def test_a_member_whose_join_was_not_answered_leaves_all_the_same():
    async def main():
        async with scene() as (fake, queue, consumer):

            async def late(request, call):
                answer = queue.heartbeat(request, call)
                await asyncio.sleep(3)
                return answer

            fake[1].script(ApiKey.SHARE_GROUP_HEARTBEAT, late)
            assert await consumer.poll(1.0) == []
            assert queue.members
            await consumer.close()
            assert not queue.members

    run(main)


def test_no_heartbeat_joins_again_behind_the_leave():
    async def main():
        async with scene(heartbeat_interval_ms=500) as (fake, queue, consumer):
            await consumer.poll(1.0)

            async def slow(request, call):
                answer = queue.heartbeat(request, call)
                await asyncio.sleep(2)
                return answer

            fake[1].on(ApiKey.SHARE_GROUP_HEARTBEAT, slow)
            await consumer.close()
            await asyncio.sleep(5)
            assert not queue.members

    run(main)


def test_acknowledgements_of_a_topic_that_is_gone_are_answered_for():
    async def main():
        async with scene(metadata_max_age_ms=1000) as (fake, queue, consumer):
            queue.fill("jobs", 0, 1)
            assert await consumer.poll()
            gone = fake.topics.pop("jobs")
            await asyncio.sleep(3)
            queue.partitions[gone.id, 0].locked.clear()
            result = await consumer.commit()
            assert result[JOBS] is not None

    run(main)


def test_records_of_a_topic_made_anew_under_its_name_come():
    async def main():
        async with scene(metadata_max_age_ms=1000, heartbeat_interval_ms=1000) as (fake, queue, consumer):
            queue.fill("jobs", 0, 1)
            assert await consumer.poll()
            fake.topics.pop("jobs")
            fake.add_topic("other")
            fake.add_topic("jobs")
            queue.members.clear()
            queue.fill("jobs", 0, 1)
            assert len(await consumer.poll()) == 1

    run(main)


def test_a_name_alone_is_one_topic():
    consumer = ShareConsumer("localhost:1", topics="jobs", group_id="g")
    assert consumer.subscription() == {"jobs"}


def test_records_come_on_when_leaders_move_and_connections_break():
    async def main():
        async with scene(3, metadata_max_age_ms=2000) as (fake, queue, consumer):
            for partition in range(3):
                queue.fill("jobs", partition, 10)
            seen = set()
            for step in range(60):
                for record in await consumer.poll(1.0, max_records=3):
                    seen.add((record.partition, record.offset))
                if step < 30:
                    fake[1 + step % 3].script(ApiKey.SHARE_FETCH, CLOSE if step % 2 else Delay(0.5))
                    fake.move("jobs", step % 3, 1 + (step * 7) % 3)
            assert len(seen) == 30

    run(main)


def test_damaged_batches_are_told_and_released_and_whole_ones_still_come():
    async def main():
        async with scene() as (_, queue, consumer):
            queue.fill("jobs", 0, 2)
            queue.fill("jobs", 0, 2)
            records = queue.partitions[queue.fake.topics["jobs"].id, 0].records
            second = len(records) // 2
            whole = bytes(records)
            records[second + 8 : second + 12] = (3).to_bytes(4, "big")  # no batch is as short
            assert [record.offset for record in await consumer.poll()] == [0, 1]
            with pytest.raises(CorruptRecordsError):
                await consumer.poll()
            records[:] = whole
            assert [record.offset for record in await consumer.poll()] == [2, 3]

    run(main)


@pytest.mark.parametrize("check", [True, False])
def test_checksums_are_checked_unless_that_is_switched_off(check):
    async def main():
        async with scene(check_crcs=check) as (_, queue, consumer):
            queue.fill("jobs", 0, 1)
            queue.partitions[queue.fake.topics["jobs"].id, 0].records[-3] ^= 1
            if check:
                with pytest.raises(CorruptRecordsError):
                    await consumer.poll()
            else:
                assert len(await consumer.poll()) == 1

    run(main)


def test_records_that_an_interrupted_poll_brought_are_released():
    with FakePortalInterrupt.consumer() as (blocking, released):
        with pytest.raises(KeyboardInterrupt):
            blocking.poll()
        assert released == [True]


class FakePortalInterrupt:
    """A portal in which Ctrl-C comes at the very moment a poll ends."""

    def run(self, coroutine):
        coroutine.close()
        raise KeyboardInterrupt

    def call_soon(self, function):
        function()

    @classmethod
    @contextmanager
    def consumer(cls):
        blocking = BlockingShareConsumer("localhost:1", topics="jobs", group_id="g")
        released: list[bool] = []
        real, blocking._portal = blocking._portal, cls()
        blocking._inner.abandon_records = lambda: released.append(True)
        yield blocking, released
        blocking._portal = real
        blocking.close()


def test_a_closed_share_consumer_says_so():
    async def main():
        async with scene() as (_, _, consumer):
            await consumer.close()
            with pytest.raises(ClientClosedError):
                await consumer.poll()

    run(main)
