"""Share consumers among brokers that misbehave at random, in virtual time: a queue without loss or false promises."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from random import Random

import pytest

from ottla.client.errors import KafkaError, KafkaTimeoutError
from ottla.client.share.client import ShareConsumer
from ottla.protocol.apis import ApiKey
from ottla.testing.sim.env import simulate
from tests.client.network.fake_broker import CLOSE, SILENCE, Cut, Delay, FakeCluster
from tests.client.share.queue_broker import ACCEPT, RELEASE, Queue

FAULTY_SECONDS = 40
RECORDS = 60
SETTINGS = {
    "group_id": "g",
    "request_timeout_ms": 2000,
    "metadata_max_age_ms": 3000,
    "socket_connection_setup_timeout_ms": 1000,
    "socket_connection_setup_timeout_max_ms": 1000,
    "max_poll_interval_ms": 5000,
    "default_api_timeout_ms": 5000,
}
KEYS = (ApiKey.SHARE_FETCH,) * 3 + (
    ApiKey.SHARE_ACKNOWLEDGE,
    ApiKey.SHARE_GROUP_HEARTBEAT,
    ApiKey.METADATA,
    ApiKey.FIND_COORDINATOR,
)


class World:
    def __init__(self, seed: int) -> None:
        self.random = Random(f"share faults {seed}")
        self.fake = FakeCluster(3)
        self.fake.add_topic("jobs", partitions=3)
        self.queue = Queue(self.fake, heartbeat_interval_ms=1000)
        self.is_over = False

    async def misbehave(self) -> None:
        random, fake, loop = self.random, self.fake, asyncio.get_running_loop()
        filled = 0
        while loop.time() < FAULTY_SECONDS:
            await asyncio.sleep(random.expovariate(3))
            kind = random.randrange(8)
            broker = random.choice(list(fake))
            if kind == 0 and broker.is_running:
                await broker.stop()
                self.queue.forget_sessions(broker.id)
                await asyncio.sleep(random.random() * 3)
                await broker.start()
            elif kind == 1:
                broker.drop_connections()
            elif kind == 2:
                fake.move("jobs", random.randrange(3), random.randint(1, 3))
            elif kind == 3:
                self.queue.forget_sessions(broker.id)
            elif kind == 4 and filled < RECORDS:
                self.queue.fill("jobs", random.randrange(3), 4)
                filled += 4
            else:
                fault = random.choice(
                    (CLOSE, SILENCE, Cut(random.randrange(60)), Delay(random.random() * 3), Delay(0.05))
                )
                broker.script(random.choice(KEYS), fault)
        for broker in fake:
            broker._scripts.clear()
        self.queue.fill("jobs", 0, RECORDS - filled or 1)

    async def consume(self, number: int, *, is_explicit: bool) -> None:
        """Until everything is accepted; checks that what the client says of its acknowledgements is so."""
        random = Random(f"consumer {number} {self.random.random()}")
        told: Counter[tuple[int, int]] = Counter()
        given: Counter[tuple[int, int]] = Counter()
        promised: set[tuple[int, int]] = set()

        def acknowledged(offsets, error):
            for tp, found in offsets.items():
                for offset in found:
                    told[tp.partition, offset] += 1
                    if error is None:
                        promised.add((tp.partition, offset))

        mode = "explicit" if is_explicit else "implicit"
        consumer = ShareConsumer(
            self.fake.bootstrap,
            topics="jobs",
            on_acknowledgement=acknowledged,
            share_acknowledgement_mode=mode,
            **SETTINGS,
        )
        released = set()
        while not self.is_over:
            records = await consumer.poll(random.choice((0, 0.1, 1.0)), max_records=random.randint(1, 10))
            for record in records:
                given[record.partition, record.offset] += 1
                if is_explicit:
                    is_released = random.random() < 0.2
                    if is_released:
                        released.add((record.partition, record.offset))
                    try:
                        consumer.acknowledge(record, RELEASE if is_released else ACCEPT)
                    except KafkaError:
                        given[record.partition, record.offset] -= 1  # its lock was lost while we were at it
            if random.random() < 0.1:
                await asyncio.sleep(random.choice((0.5, 8)))
            if random.random() < 0.2:
                with suppress(KafkaTimeoutError):  # a broker is silent
                    await consumer.commit()
        await consumer.close(10)
        assert told == +given
        for partition, offset in promised - released:
            assert self.queue.verdicts["jobs", partition, offset] == ACCEPT

    async def run(self) -> None:
        async with self.fake:
            consumers = [asyncio.ensure_future(self.consume(number, is_explicit=number == 1)) for number in range(2)]
            await self.misbehave()
            until = asyncio.get_running_loop().time() + 60
            while any(one.free or one.locked for one in self.queue.partitions.values()):
                assert asyncio.get_running_loop().time() < until, "records are left behind"
                for one in consumers:
                    assert not one.done(), one
                await asyncio.sleep(0.5)
            self.is_over = True
            await asyncio.gather(*consumers)
            assert not self.queue.members
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert not left, left


@pytest.mark.parametrize("seed", range(6))
def test_every_record_is_accepted_and_every_acknowledgement_answered_for(seed):
    simulate(lambda _: World(seed).run(), seed=seed)
