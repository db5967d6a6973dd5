"""What users do to a consumer at the wrong moment: nothing is lost, and nobody waits for himself."""

from __future__ import annotations

import asyncio
import gc
import time
import warnings
import weakref
from random import Random
from typing import Any

import pytest

from ottla import Admin, Consumer, Producer, TopicPartition
from ottla.client.errors import IllegalStateError
from tests.client.consumer.scene import Scene, play


@pytest.mark.parametrize("call", ["poll", "unsubscribe", "close"])
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_callback_that_would_wait_for_itself_is_told(
    call: str, protocol: str, quick_bootstrap: str, name: str
) -> None:
    told: list[Exception] = []

    def callback(partitions: list[TopicPartition]) -> None:
        try:
            getattr(consumer, call)()
        except IllegalStateError as error:
            told.append(error)

    with Producer(quick_bootstrap) as producer:
        producer.send(name, "a")
    consumer = Consumer(
        quick_bootstrap, group_id=name, auto_offset_reset="earliest", group_protocol=protocol, topics=[name]
    )
    with consumer:
        consumer.subscribe([name], on_assigned=callback, on_revoked=callback)
        assert len(consumer.poll(15)) == 1
    assert len(told) == (1 if call == "close" else 2)
    assert f"{call}() in a callback" in str(told[0])


def test_a_callback_may_not_subscribe_while_the_consumer_closes(quick_bootstrap: str, name: str) -> None:
    told: list[Exception] = []

    def revoked(partitions: list[TopicPartition]) -> None:
        try:
            consumer.subscribe(["other"])
        except IllegalStateError as error:
            told.append(error)

    with Producer(quick_bootstrap) as producer:
        producer.send(name, "a")
    with Consumer(quick_bootstrap, group_id=name, auto_offset_reset="earliest") as consumer:
        consumer.subscribe([name], on_revoked=revoked)
        assert len(consumer.poll(15)) == 1
        began_s = time.monotonic()
    assert told
    assert time.monotonic() - began_s < 20


def test_a_poll_that_is_cancelled_loses_no_record() -> None:
    async def story(scene: Scene, random: Random) -> None:
        for number in range(200):
            scene.log().append([str(number)])
        async with scene.consumer() as consumer:
            await consumer.assign(scene.partitions)
            found: list[int] = []
            while len(found) < 200:
                task = asyncio.ensure_future(consumer.poll(max_records=100))
                for _ in range(random.randrange(4)):
                    await asyncio.sleep(random.choice((0, 0.003)))
                task.cancel()
                try:
                    found += [record.offset for record in await task]
                except asyncio.CancelledError:
                    pass
            assert found == list(range(200))

    for seed in range(5):
        play(story, seed)


@pytest.mark.parametrize("kind", [Consumer, Producer])
def test_one_that_is_forgotten_is_closed(kind: Any, quick_bootstrap: str, name: str) -> None:
    with Producer(quick_bootstrap) as producer:
        producer.send(name, "a")
    if kind is Consumer:
        client = Consumer(quick_bootstrap, group_id=name, topics=[name], auto_offset_reset="earliest")
        assert len(client.poll(15)) == 1
    else:
        client = Producer(quick_bootstrap)
        client.send(name, "b")
    engine = client._engine
    known = weakref.ref(client)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del client
        gc.collect()
    assert known() is None
    assert [f"unclosed {kind.__name__}" in str(one.message) for one in caught if one.category is ResourceWarning] == [
        True
    ]
    deadline_s = time.monotonic() + 10
    while not engine.cluster.is_closed:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    if kind is Consumer:
        with Admin(quick_bootstrap) as admin:
            assert not admin.describe_consumer_groups([name])[name].members
    else:
        with Consumer(quick_bootstrap) as reader:
            reader.assign([TopicPartition(name, 0)])
            reader.seek_to_beginning()
            assert [record.value for record in reader.poll(15)] == [b"a", b"b"]


def test_the_users_thread_never_finds_a_partition_missing() -> None:
    """While the loop puts it at the end of the turn."""
    from ottla.client.consumer.subscription import Subscription

    subscription = Subscription()
    subscription.assign([TopicPartition("t", number) for number in range(3)])
    seen = []

    class Watching(type(subscription.partitions)):  # type: ignore[misc]
        def __setitem__(self, key: object, value: object) -> None:
            seen.append(len(self))
            super().__setitem__(key, value)

        def pop(self, *arguments: object) -> object:
            seen.append(-1)
            return super().pop(*arguments)

    subscription.partitions = Watching(subscription.partitions)
    seen.clear()
    subscription.last_in_turn(TopicPartition("t", 0))
    assert not seen
    assert [tp.partition for tp in subscription.partitions] == [1, 2, 0]
