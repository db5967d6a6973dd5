"""Transactional producers against a model cluster in trouble: all or nothing, once, and nothing hangs.

Each transaction writes some records and a position. What `commit` said to have happened has happened; what was aborted
is not seen; where a call failed for good, either is right, but never a part.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from random import Random

import pytest

from ottla.client.errors import (
    CommitFailedError,
    FatalProducerError,
    IllegalStateError,
    KafkaError,
    KafkaTimeoutError,
    ProducerFencedError,
    TransactionAbortableError,
)
from ottla.client.model import ConsumerGroupMetadata, OffsetAndMetadata
from ottla.client.producer.completion import Completion
from ottla.client.producer.transaction_state import State
from ottla.core.ids import TopicPartition
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.client.producer.mini_producer import MiniProducer
from tests.client.producer.model_broker import ModelCluster
from tests.client.producer.model_network import ModelNetwork

PARTITIONS = [TopicPartition("out", partition) for partition in range(3)]
INPUT = TopicPartition("in", 0)
GROUP = ConsumerGroupMetadata("g", 1, "member")


@dataclass
class Attempt:
    """One transaction: what it wrote, and what the application knows of its end."""

    values: dict[TopicPartition, list[str]] = field(default_factory=dict)
    position: int = -1
    end: str = "unknown"


class Application:
    """Runs transactions with one transactional id until it is told to stop, with a new producer when one is lost."""

    def __init__(self, name: str, cluster: ModelCluster, dice: Random, trouble: float) -> None:
        self.name = name
        self.cluster = cluster
        self.dice = dice
        self.trouble = trouble
        self.attempts: list[Attempt] = []
        self.fenced = 0
        self.is_stopping = False

    async def run(self, transactions: int) -> None:
        while transactions > 0 and not self.is_stopping:
            network = ModelNetwork(self.cluster, self.dice)
            network.trouble = self.trouble
            producer = MiniProducer(
                network,
                self.dice,
                "id",
                delivery_timeout=self.dice.choice((0.1, 1.0, 30.0)),
                refusals=self.dice.choice((0.0, 0.02)),
            )
            try:
                await self.patiently(producer, producer.state.init_transactions)
                while transactions > 0 and not self.is_stopping:
                    transactions -= 1
                    await self.transact(producer)
            except ProducerFencedError:
                self.fenced += 1
            except FatalProducerError:
                assert producer.state.state is State.FATAL_ERROR
            await producer.close()
            await asyncio.sleep(self.dice.uniform(0, 1))

    async def transact(self, producer: MiniProducer) -> None:
        attempt = Attempt()
        self.attempts.append(attempt)
        producer.state.begin()
        try:
            for _ in range(self.dice.randint(0, 6)):
                tp = self.dice.choice(PARTITIONS)
                value = f"{self.name} {len(self.attempts)} {sum(map(len, attempt.values.values()))}"
                attempt.values.setdefault(tp, []).append(value)
                producer.send(tp, value)
                if self.dice.random() < 0.3:
                    await asyncio.sleep(self.dice.expovariate(1 / 0.05))
            if self.dice.random() < 0.5:
                attempt.position = len(self.attempts) + 1000 * ord(self.name)
                offsets = {INPUT: OffsetAndMetadata(attempt.position)}
                await self.patiently(producer, lambda: producer.state.add_offsets(offsets, GROUP))
            if self.dice.random() < 0.2:
                await self.abort(producer, attempt)
                return
            await producer.flush()
            await self.patiently(producer, producer.state.commit)
            attempt.end = "committed"
        except (TransactionAbortableError, CommitFailedError):
            await self.abort(producer, attempt)

    async def abort(self, producer: MiniProducer, attempt: Attempt) -> None:
        await self.patiently(producer, producer.state.abort)
        attempt.end = "aborted"

    async def patiently(self, producer: MiniProducer, call: object) -> None:
        """As often as its time runs out; what was begun is taken up."""
        while True:
            producer.pump()
            completion: Completion = call()  # type: ignore[operator]
            try:
                await producer.wait(completion, self.dice.choice((50, 500, 60_000)))
                return
            except KafkaTimeoutError:
                if completion.what != "send_offsets_to_transaction()":
                    with pytest.raises(KafkaError):
                        producer.state.begin()


async def check(cluster: ModelCluster, applications: list[Application]) -> None:
    await asyncio.sleep(120)  # what is late arrives, what was left open times out
    seen = Counter(value for tp in PARTITIONS for value in cluster.log(tp).committed_values())
    assert max(seen.values(), default=0) <= 1, "twice"
    for application in applications:
        for attempt in application.attempts:
            values = [value for found in attempt.values.values() for value in found]
            there = sum(value in seen for value in values)
            if attempt.end == "committed":
                assert there == len(values), "committed, and not all of it is there"
            elif attempt.end == "aborted":
                assert there == 0, "aborted, and some of it is there"
            else:
                assert there in (0, len(values)), "a part"
    for tp in PARTITIONS:
        order = {value: place for place, value in enumerate(cluster.log(tp).committed_values())}
        for application in applications:
            places = [order[v] for a in application.attempts for v in a.values.get(tp, ()) if v in order]
            assert places == sorted(places), "out of order"
    positions = {a.position: a.end for application in applications for a in application.attempts if a.position >= 0}
    if "g" in cluster.positions:
        assert positions[cluster.positions["g"]] != "aborted"
    assert all(found.state != "Ongoing" for found in cluster.transactions.values())


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("seed", range(40))
def test_all_or_nothing(seed: int, version: int) -> None:
    async def main(env: SimulatedEnv) -> None:
        dice = Random(f"transactions {seed} {version}")
        cluster = ModelCluster(asyncio.get_running_loop().call_later, version)
        application = Application("a", cluster, dice, dice.choice((0.0, 0.03, 0.1, 0.3)))
        await application.run(12)
        if not application.trouble:
            assert {attempt.end for attempt in application.attempts} <= {"committed", "aborted"}
        await check(cluster, [application])

    simulate(main, seed=seed)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("seed", range(20))
def test_twins_fence_each_other(seed: int, version: int) -> None:
    async def main(env: SimulatedEnv) -> None:
        dice = Random(f"twins {seed} {version}")
        cluster = ModelCluster(asyncio.get_running_loop().call_later, version)
        twins = [Application(name, cluster, dice, dice.choice((0.0, 0.1))) for name in "ab"]
        await asyncio.gather(*(twin.run(10) for twin in twins))
        await check(cluster, twins)

    simulate(main, seed=seed)


@pytest.mark.parametrize("version", [1, 2])
def test_the_version_rises_between_two_transactions(version: int) -> None:
    async def main(env: SimulatedEnv) -> None:
        dice = Random(version)
        cluster = ModelCluster(asyncio.get_running_loop().call_later, 1)
        producer = MiniProducer(ModelNetwork(cluster, dice), dice, "id")
        await producer.wait(producer.state.init_transactions())
        assert producer.state.produce_max_version == 11
        for number in range(4):
            epoch = producer.state.producer_epoch
            producer.state.begin()
            producer.send(PARTITIONS[0], f"{number}")
            await producer.flush()
            if number == 1:
                cluster.version = 2
                producer.state.learn_transaction_version(2)
            await producer.wait(producer.state.commit())
            assert producer.state.uses_transactions_v2 == (number >= 1)
            assert (producer.state.producer_epoch > epoch) == (number >= 1)
        assert producer.state.produce_max_version is None
        await asyncio.sleep(1)
        assert cluster.log(PARTITIONS[0]).committed_values() == ["0", "1", "2", "3"]
        with pytest.raises(IllegalStateError):
            producer.send(PARTITIONS[0], "outside")
        await producer.close()

    simulate(main, seed=version)
