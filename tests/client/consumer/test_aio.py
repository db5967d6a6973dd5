"""The asynchronous consumer against a broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

import pytest

from ottla.aio import Consumer, Producer
from ottla.client.errors import ClientClosedError, IllegalStateError, KafkaTimeoutError, WakeupError
from ottla.client.model import OffsetAndMetadata, TopicPartition


@pytest.fixture
def bootstrap(quick_bootstrap: str) -> str:
    return quick_bootstrap


async def produce(bootstrap: str, topic: str, values: Iterable[object], partition: int | None = 0) -> None:
    async with Producer(bootstrap) as producer:
        for value in values:
            await producer.send(topic, str(value), partition=partition)
        await producer.flush()


def earliest(bootstrap: str, **settings: object) -> Consumer[bytes, bytes]:
    return Consumer(bootstrap, auto_offset_reset="earliest", **settings)  # type: ignore[arg-type]


async def until(condition: Callable[[], bool], *consumers: Consumer[bytes, bytes]) -> None:
    deadline_s = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline_s
        for consumer in consumers:
            await consumer.poll(timeout_s=0.02)


def test_iterating_polling_and_columns(bootstrap: str, name: str) -> None:
    async def main() -> None:
        tp = TopicPartition(name, 0)
        await produce(bootstrap, name, range(20))
        async with earliest(bootstrap) as consumer:
            await consumer.assign([tp])
            async for record in consumer:
                assert await consumer.position(tp) == record.offset + 1
                if record.offset == 4:
                    break
            assert [record.offset for record in await consumer.poll(timeout_s=5, max_records=3)] == [5, 6, 7]
            assert list((await consumer.poll_columns(timeout_s=5, max_records=4)).offset) == [8, 9, 10, 11]
            async for batch in consumer.batches(max_records=5):
                assert [record.offset for record in batch] == [12, 13, 14, 15, 16]
                break
            await consumer.seek(tp, 18)
            assert [record.offset for record in await consumer.poll(timeout_s=5)] == [18, 19]
            await consumer.seek_to_beginning()
            assert await consumer.position(tp) == 0
            assert await consumer.end_offsets([tp]) == {tp: 20}
            assert len(await consumer.poll(timeout_s=5)) == 20
            assert await consumer.poll(timeout_s=0) == []
            missing = TopicPartition(name, 77)
            await consumer.assign([missing])
            with pytest.raises(KafkaTimeoutError, match="position"):
                await consumer.position(missing, timeout_s=0.05)
        with pytest.raises(ClientClosedError):
            await consumer.poll()

    asyncio.run(main())


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_group_with_coroutine_callbacks(bootstrap: str, name: str, protocol: str) -> None:
    async def main() -> None:
        await produce(bootstrap, name, range(10))
        heard: list[tuple[str, list[TopicPartition]]] = []

        async def on_assigned(partitions: list[TopicPartition]) -> None:
            heard.append(("assigned", partitions))
            await first.seek(partitions[0], 5)

        async def on_revoked(partitions: list[TopicPartition]) -> None:
            await first.commit()
            heard.append(("revoked", partitions))

        first = earliest(bootstrap, group_id=name, group_protocol=protocol, enable_auto_commit=False)
        await first.subscribe([name], on_assigned=on_assigned, on_revoked=on_revoked)
        offsets = []
        async for record in first:
            offsets.append(record.offset)
            if len(offsets) == 3:
                break
        assert offsets == [5, 6, 7]
        second = earliest(bootstrap, group_id=name, group_protocol=protocol, topics=[name])
        await second.poll(timeout_s=0)
        await first.close()
        assert [event for event, _ in heard] == ["assigned", "revoked"]
        assert (await second.poll(timeout_s=15))[0].offset == 8
        await second.unsubscribe()
        assert second.assignment() == frozenset()
        await second.close()

    asyncio.run(main())


def test_commits(bootstrap: str, name: str) -> None:
    async def main() -> None:
        tp = TopicPartition(name, 0)
        await produce(bootstrap, name, range(10))
        async with earliest(bootstrap, group_id=name, enable_auto_commit=False) as consumer:
            await consumer.assign([tp])
            heard: list[object] = []

            async def committed(offsets: dict[TopicPartition, OffsetAndMetadata], error: object) -> None:
                heard.append((offsets[tp].offset, error))

            records = await consumer.poll(timeout_s=5)
            await consumer.commit_async(records[2], committed)
            await consumer.commit(records[4])
            assert heard == [(3, None)]
            assert (await consumer.committed())[tp] == OffsetAndMetadata(5, "", 0)

    asyncio.run(main())


def test_a_task_that_polls_too_much_does_not_keep_others_from_running(bootstrap: str, name: str) -> None:
    async def main() -> None:
        async with Producer(bootstrap, linger_ms=50) as producer:
            for number in range(20_000):
                await producer.send(name, b"x" * 50, partition=0)
                if number % 5000 == 0:
                    await producer.flush()
            await producer.flush()
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async with earliest(bootstrap, max_poll_records=10) as consumer:
            await consumer.assign([TopicPartition(name, 0)])
            await consumer.poll(timeout_s=5)
            task = asyncio.ensure_future(other())
            count = 10
            while count < 20_000:
                count += len(await consumer.poll(timeout_s=5))
            task.cancel()
        assert turns > 1

    asyncio.run(main())


def test_wakeup_and_two_tasks_at_once(bootstrap: str, name: str) -> None:
    async def main() -> None:
        await produce(bootstrap, name, [])
        async with Consumer(bootstrap) as consumer:
            await consumer.assign([TopicPartition(name, 0)])
            poll = asyncio.ensure_future(consumer.poll())
            await asyncio.sleep(0.01)
            with pytest.raises(IllegalStateError, match="Two tasks"):
                await consumer.poll()
            asyncio.get_running_loop().call_soon(consumer.wakeup)
            with pytest.raises(WakeupError):
                await poll
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(consumer.poll(), 0.02)  # cancelling is fine too
            assert await consumer.poll(timeout_s=0) == []

    asyncio.run(main())
