"""Our own transactional producer beside a node that is killed: every input is in the committed output exactly once.

Two applications share a transactional id and fence each other. Connections are cut, calls time out and are repeated,
blocks end in errors, applications vanish without a word. When it is over, each number below the committed position is
there once, in the order of its partition, no other is, and no transaction hangs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from unittest.mock import patch

import pytest

from ottla.aio import Producer
from ottla.client.errors import (
    CommitFailedError,
    FatalProducerError,
    KafkaTimeoutError,
    ProducerFencedError,
    TransactionAbortableError,
)
from ottla.core.errors import ErrorCode
from ottla.core.ids import TopicPartition
from ottla.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
    OffsetFetchResponse,
)
from ottla.protocol.messages.update_features import FeatureUpdateKey, UpdateFeaturesRequest, UpdateFeaturesResponse
from ottla.testing.sim.env import START_MS
from tests.simulation.workloads.client import GROUP, TRANSACTION, Client
from tests.simulation.workloads.cluster import ADDRESS, Cluster, run_cluster
from tests.simulation.workloads.reader import read_all

OUTPUT, PARTITIONS = "results", 3
INPUT = TopicPartition("orders", 0)
GROUP_ID, TRANSACTIONAL_ID = "app", "app-0"
SETTINGS: dict[str, object] = {
    "transaction.timeout.ms": 8000,
    "retry.backoff.max.ms": 300,
    "reconnect.backoff.max.ms": 300,
    "request.timeout.ms": 5000,
    "delivery.timeout.ms": 6000,
    "linger.ms": 0,
}


class Application:
    """Takes the next numbers of the input, writes them to the output, and moves the position, in one transaction."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.dice = cluster.random(f"application {name}")
        self.client = Client(cluster, name)

    async def run(self) -> None:
        """One producer after the other, until the faults are over and something was committed after that."""
        while True:
            producer = Producer[str, str](ADDRESS, SETTINGS, transactional_id=TRANSACTIONAL_ID)
            try:
                await self._live(producer)
            except (ProducerFencedError, FatalProducerError) as error:
                self.cluster.count(f"ended by {type(error).__name__}")
                await asyncio.sleep(self.dice.uniform(0, 3))
            except KafkaTimeoutError:
                self.cluster.count("calls that took too long")
            else:
                return
            finally:
                if self.dice.random() < 0.5:
                    await producer.close(self.dice.choice((0, 5)))
                else:
                    self.cluster.spawn(self._close_later(producer))

    async def _close_later(self, producer: Producer[str, str]) -> None:
        await asyncio.sleep(self.dice.uniform(0, 20))
        await producer.close(0)

    async def _live(self, producer: Producer[str, str]) -> None:
        await producer.init_transactions(30)
        position = await self.position()
        while True:
            is_calm = self.cluster.is_calm
            numbers = range(position, position + self.dice.randint(1, 8))
            try:
                done = await self._transact(producer, numbers)
            except (TransactionAbortableError, CommitFailedError):
                self.cluster.count("transactions that could only be aborted")
                await self._insist(producer.abort_transaction)
                continue
            if done:
                self.cluster.count("committed transactions")
                position = numbers.stop
                if is_calm:
                    return

    async def _transact(self, producer: Producer[str, str], numbers: range) -> bool:
        await producer.begin_transaction()
        for number in numbers:
            timestamp_ms = START_MS + int(self.cluster.now() * 1000)
            await producer.send(OUTPUT, str(number), partition=number % PARTITIONS, timestamp_ms=timestamp_ms)
            if self.dice.random() < 0.1:
                await asyncio.sleep(self.dice.expovariate(2))
        if not self.cluster.is_calm and self.dice.random() < 0.02:
            await asyncio.sleep(self.dice.uniform(0, 15))  # longer than the transaction may take, sometimes
        await producer.send_offsets_to_transaction({INPUT: numbers.stop}, GROUP_ID, 30)
        if self.dice.random() < 0.1:
            await self._insist(producer.abort_transaction)
            return False
        await self._insist(producer.commit_transaction)
        return True

    async def _insist(self, call: object) -> None:
        """Again when the time was over, as the error says; not for ever."""
        for _ in range(20):
            try:
                await call(self.dice.choice((0.05, 2.0, 20.0)))  # type: ignore[operator]
                return
            except KafkaTimeoutError:
                self.cluster.count("calls taken up again")
        raise KafkaTimeoutError("for ever")

    async def position(self) -> int:
        """What is committed; waits for transactions that are not over."""
        topic = OffsetFetchRequestTopics(name=INPUT.topic, partition_indexes=[INPUT.partition])
        request = OffsetFetchRequest(
            groups=[OffsetFetchRequestGroup(group_id=GROUP_ID, topics=[topic])], require_stable=True
        )
        while True:
            [group] = (await self.client.insist(request, 8, OffsetFetchResponse)).groups
            if group.error_code == ErrorCode.NONE and not group.topics[0].partitions[0].error_code:
                return max(0, group.topics[0].partitions[0].committed_offset)
            await self.client.back_off()


@contextmanager
def cut_connections(cluster: Cluster) -> Iterator[None]:
    """Ends a connection of somebody now and then while there is trouble."""
    network = cluster.loop.network
    connect = network.connect
    transports: list[asyncio.Transport] = []
    dice = cluster.random("cuts")

    async def connect_and_note(*arguments: object, **more: object) -> object:
        made = await connect(*arguments, **more)  # type: ignore[arg-type]
        transports.append(made[0])
        return made

    async def cut() -> None:
        while not cluster.is_calm:
            await asyncio.sleep(dice.expovariate(1.0))
            alive = [transport for transport in transports if not transport.is_closing()]
            transports[:] = alive
            if alive:
                dice.choice(alive).abort()
                cluster.count("cut connections")

    cluster.spawn(cut())
    with (
        patch.object(network, "connect", connect_and_note),
        patch("ottla.client.producer.client.Random", lambda: Random(dice.random())),
    ):
        yield


async def work(cluster: Cluster, version: int, seconds: float) -> None:
    operator = Client(cluster, "operator")
    await operator.create_topic(OUTPUT, PARTITIONS)
    await operator.create_topic(INPUT.topic, 1)
    await operator.find_coordinator(GROUP_ID, GROUP)
    await operator.find_coordinator(TRANSACTIONAL_ID, TRANSACTION)
    if version == 1:
        update = FeatureUpdateKey(feature="transaction.version", max_version_level=1, upgrade_type=2)
        response = await operator.insist(UpdateFeaturesRequest(feature_updates=[update]), 1, UpdateFeaturesResponse)
        assert response.error_code == ErrorCode.NONE, response
    applications = [Application(cluster, name) for name in ("one", "two")]
    with cut_connections(cluster):
        tasks = [cluster.spawn(application.run()) for application in applications]
        await cluster.trouble(seconds)
        await asyncio.wait(tasks)
        await asyncio.sleep(30)  # what was left open times out
    position = await applications[0].position()
    seen: list[int] = []
    for partition in range(PARTITIONS):
        view = await read_all(operator, OUTPUT, partition)
        assert view.last_stable_offset == view.high_watermark, "a transaction hangs"
        found = [int(value or b"") for _, (_, value) in sorted(view.records.items())]
        assert found == sorted(found), "out of order"
        seen += found
    assert sorted(seen) == list(range(position)), "every input once, and none beyond the position"
    assert position > 20
    assert cluster.counts["committed transactions"] > 5


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_every_input_is_in_the_committed_output_once(seed: int, version: int) -> None:
    run_cluster(lambda cluster: work(cluster, version, 40.0), seed=f"client transactions {seed} {version}")
