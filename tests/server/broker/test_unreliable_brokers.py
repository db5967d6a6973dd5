"""Coordinators and leaders on brokers that lose requests and answers, get them twice, and change meanwhile."""

from __future__ import annotations

import asyncio
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from ottla.core.errors import ErrorCode as E
from ottla.core.ids import TopicPartition
from ottla.core.topics import SHARE_STATE_TOPIC, TRANSACTIONS_TOPIC
from ottla.protocol.messages import initialize_share_group_state as initializing
from ottla.protocol.messages import read_share_group_state_summary as summarizing
from ottla.protocol.messages.write_txn_markers import WriteTxnMarkersRequest, WriteTxnMarkersResponse
from ottla.server.broker.share.coordinator_requests import ShareCoordinators
from ottla.server.broker.share.delivery import StateWrite
from ottla.server.broker.share.persister import PersistedState, Persister
from ottla.server.broker.transaction_markers import ClusterMarkers
from ottla.server.coordinator.share.service import arrival
from ottla.server.coordinator.share_state.service import ShareStateCoordinator
from ottla.server.coordinator.share_state.shard import ShareStateSettings
from ottla.server.coordinator.transactions.service import ProducerOutcome, TransactionCoordinator
from ottla.server.coordinator.transactions.settings import TransactionSettings
from ottla.server.coordinator.transactions.state import Transaction
from ottla.server.metadata.image import BrokerImage, Endpoint, MetadataImage, PartitionImage, TopicImage, TopicsImage
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.server.broker.fake_peers import LOST, FakePeers
from tests.server.broker.test_other_brokers import marked
from tests.server.coordinator.fake_log import FakeLog

HERE = 1
OTHERS = (2, 3)
TOPIC_ID = bytes(15) + b"\7"


class Config(dict[str, Any]):
    inter_broker_listener_name = "INTERNAL"


def placed(leader: int, epoch: int = 0) -> PartitionImage:
    return PartitionImage(
        replicas=(leader,), isr=(leader,), leader=leader, leader_epoch=epoch, partition_epoch=epoch, directories=()
    )


def image_of(**topics: dict[int, int]) -> MetadataImage:
    """Topics with the leaders of their partitions; three brokers, on ports 1001 to 1003."""
    made = {
        name: TopicImage(name, TOPIC_ID if name == "data" else name.encode()[:15].rjust(16, b"0"),
                         {index: placed(leader) for index, leader in leaders.items()})
        for name, leaders in topics.items()
    }  # fmt: skip
    brokers = {
        broker_id: BrokerImage(
            broker_id=broker_id,
            broker_epoch=1,
            incarnation_id=bytes(16),
            endpoints={"INTERNAL": Endpoint("INTERNAL", "other", 1000 + broker_id, 0)},
            features={},
            rack=None,
            fenced=False,
            in_controlled_shutdown=False,
            log_dirs=(),
        )
        for broker_id in (HERE, *OTHERS)
    }
    return MetadataImage(
        brokers=brokers,
        features={"transaction.version": 2},
        topics=TopicsImage(made, {topic.topic_id: topic for topic in made.values()}),
    )


class Broker:
    """As much of a broker as those who ask others need."""

    def __init__(self, env: SimulatedEnv, image: MetadataImage, peers: FakePeers) -> None:
        self.node_id = HERE
        self.env = env
        self.image = image
        self.peers = peers
        self.config = Config({"request.timeout.ms": 30_000})


def unreliable(random: Random, carry_out: Any) -> Any:
    """``carry_out(port, request)``, or nothing, or twice; its answer, or none."""

    async def answer(port: int, request: Any) -> Any:
        fate = random.random()
        await asyncio.sleep(random.random() / 20)
        if fate < 0.15:
            raise LOST
        if fate < 0.25:
            await carry_out(port, request)
        response = await carry_out(port, request)
        if fate < 0.4:
            raise LOST
        return response

    return answer


# Markers


class Leaders:
    """Partitions with the markers that their leaders wrote."""

    def __init__(self, random: Random, image: MetadataImage) -> None:
        self.random = random
        self.broker: Any = SimpleNamespace(image=image)
        self.markers: dict[TopicPartition, list[tuple[int, int, bool]]] = {}

    async def carry_out(self, port: int, request: WriteTxnMarkersRequest) -> WriteTxnMarkersResponse:
        assert len({asked.producer_id for asked in request.markers}) == len(request.markers)
        response = marked(request)
        for asked, result in zip(request.markers, response.markers, strict=True):
            for topic in result.topics:
                for partition in topic.partitions:
                    where = TopicPartition(topic.name, partition.partition_index)
                    found = self.broker.image.topics.partition(*where)
                    if found is None:
                        partition.error_code = E.UNKNOWN_TOPIC_OR_PARTITION
                    elif found.leader != port - 1000:
                        partition.error_code = E.NOT_LEADER_OR_FOLLOWER
                    elif self.random.random() < 0.2:
                        partition.error_code = self.random.choice(
                            [E.NOT_ENOUGH_REPLICAS, E.REQUEST_TIMED_OUT, E.KAFKA_STORAGE_ERROR]
                        )
                    else:
                        written = (asked.producer_id, asked.producer_epoch, asked.transaction_result)
                        self.markers.setdefault(where, []).append(written)
        return response


class ProducerIds:
    def __init__(self) -> None:
        self.next_id = 0

    def try_producer_id(self) -> int:
        self.next_id += 1
        return self.next_id

    async def producer_id(self) -> int:
        return self.try_producer_id()


async def _no_topic() -> None:
    raise AssertionError


@pytest.mark.parametrize("seed", range(8))
def test_every_partition_gets_its_marker_whoever_leads_it_by_then(seed: int) -> None:
    async def main(env: SimulatedEnv) -> None:
        random = Random(f"markers {seed}")
        leading: dict[str, dict[int, int]] = {"data": {index: random.choice(OTHERS) for index in range(6)},
                                              "gone": {0: 2}, TRANSACTIONS_TOPIC: {0: HERE}}  # fmt: skip
        image = image_of(**leading)
        leaders = Leaders(random, image)
        broker: Any = Broker(env, image, FakePeers(unreliable(random, leaders.carry_out)))
        leaders.broker = broker
        log = FakeLog()
        log.commits = True
        coordinator = TransactionCoordinator(
            TransactionSettings(topic_partition_count=1),
            env,
            node_id=HERE,
            open_log=lambda index: log,
            create_topic=_no_topic,
            producer_ids=ProducerIds(),
            markers=ClusterMarkers(broker),
        )
        coordinator.load(image)
        expected: dict[TopicPartition, set[tuple[int, int, bool]]] = {}
        for number in range(20):
            outcome = coordinator.init_producer_id(f"id {number}", 60_000, (-1, -1))
            assert isinstance(outcome, ProducerOutcome)
            partitions = {TopicPartition("data", random.randrange(6)) for _ in range(3)} | {TopicPartition("gone", 0)}
            assert coordinator.add_partitions(f"id {number}", outcome.producer, sorted(partitions), 2) is E.NONE
            is_commit = random.random() < 0.5
            ended = coordinator.end_transaction(f"id {number}", outcome.producer, is_commit=is_commit, client_version=2)
            assert isinstance(ended, ProducerOutcome)
            for partition in partitions:
                expected.setdefault(partition, set()).add((outcome.producer[0], ended.producer[1], is_commit))
        for _ in range(10):
            await asyncio.sleep(random.random() / 5)
            index = random.randrange(6)
            leading["data"][index] = random.choice([-1, *OTHERS])
            broker.image = image_of(**leading)
        del leading["gone"]
        leading["data"] = {index: random.choice(OTHERS) for index in range(6)}
        broker.image = image_of(**leading)
        await asyncio.sleep(60)
        for number in range(20):
            found = coordinator.describe(f"id {number}")
            assert isinstance(found, Transaction)
            assert found.state.title.startswith("Complete")
        for partition, wanted in expected.items():
            if partition.topic == "data":
                assert set(leaders.markers[partition]) == wanted
        assert len(broker.peers.sent) > 5
        assert max(broker.peers.most_in_flight.values()) == 1, "each request in flight has a connection of its own"
        coordinator.stop()

    simulate(main, seed=seed)


# Share state


class StateLog(FakeLog):
    def delete_records_before(self, offset: int) -> None:
        self.start_offset = offset


class States:
    """Three brokers with a share coordinator each; each leads one partition of the state topic."""

    def __init__(self, env: SimulatedEnv, random: Random) -> None:
        leading = {SHARE_STATE_TOPIC: {0: HERE, 1: 2, 2: 3}, "data": {0: HERE, 1: HERE, 2: HERE, 3: HERE}}
        image = image_of(**leading)
        self.coordinators = {broker_id: self._coordinator(env, broker_id) for broker_id in (HERE, *OTHERS)}
        for coordinator in self.coordinators.values():
            coordinator.load(image)
        broker: Any = Broker(env, image, FakePeers(unreliable(random, self.carry_out)))
        broker.share_state = self.coordinators[HERE]
        self.broker = broker
        self.door = ShareCoordinators(broker)

    @staticmethod
    def _coordinator(env: SimulatedEnv, broker_id: int) -> ShareStateCoordinator:
        log = StateLog()
        return ShareStateCoordinator(
            ShareStateSettings(partition_count=3),
            env,
            node_id=broker_id,
            open_log=lambda index: log,
            create_topic=_no_topic,
        )

    async def carry_out(self, port: int, request: Any) -> Any:
        coordinator = self.coordinators[port - 1000]
        method = {83: coordinator.initialize, 84: coordinator.read, 85: coordinator.write,
                  86: coordinator.delete, 87: coordinator.read_summary}[request.API_KEY]  # fmt: skip
        return await arrival(method(request))  # type: ignore[operator]

    def initialization(self, group_id: str) -> initializing.InitializeShareGroupStateRequest:
        return initializing.InitializeShareGroupStateRequest(
            group_id=group_id,
            topics=[
                initializing.InitializeStateData(
                    topic_id=TOPIC_ID,
                    partitions=[
                        initializing.PartitionData(partition=index, state_epoch=1, start_offset=10 + index)
                        for index in range(4)
                    ],
                )
            ],
        )

    def stop(self) -> None:
        self.door.stop()
        for coordinator in self.coordinators.values():
            coordinator.stop()


async def initialized(states: States, group_id: str) -> None:
    """Asked until every share coordinator has said yes."""
    while True:
        response = await arrival(states.door.initialize(states.initialization(group_id)))
        codes = {result.partition: E(result.error_code) for result in response.results[0].partitions}
        assert list(codes) == [0, 1, 2, 3]
        assert set(codes.values()) <= {E.NONE, E.COORDINATOR_NOT_AVAILABLE}
        if set(codes.values()) == {E.NONE}:
            return


@pytest.mark.parametrize("seed", range(8))
def test_share_states_at_three_coordinators(seed: int) -> None:
    async def main(env: SimulatedEnv) -> None:
        random = Random(f"share state {seed}")
        states = States(env, random)
        groups = ["a", "b"]
        await asyncio.gather(*(initialized(states, group_id) for group_id in groups))
        assert len(states.broker.peers.sent) > 2

        async def leader(group_id: str, index: int) -> None:
            """A share partition's leader: writes how far it got, and a new one finds it there."""
            start_offset = 10 + index
            for epoch in range(1, 4):
                persister = Persister(lambda: states.door, group_id, TOPIC_ID, index, epoch)
                read: asyncio.Future[tuple[E, PersistedState | None]] = asyncio.get_running_loop().create_future()
                persister.read(lambda code, state, read=read: read.set_result((code, state)))  # type: ignore[misc]
                code, state = await read
                assert code is E.NONE
                assert state is not None
                assert state.start_offset == start_offset
                for _ in range(5):
                    start_offset += random.randrange(1, 5)
                    written: asyncio.Future[E] = asyncio.get_running_loop().create_future()
                    persister.write(StateWrite(start_offset, 0, []), state.state_epoch, written.set_result)
                    assert await written is E.NONE
                persister.close()

        await asyncio.gather(*(leader(group_id, index) for group_id in groups for index in range(4)))
        await check_fencing(states)
        assert max(states.broker.peers.most_in_flight.values()) <= len(groups)
        states.stop()

    simulate(main, seed=seed)


async def check_fencing(states: States) -> None:
    """A leader of an old epoch is sent away, wherever the coordinator is."""
    for index in range(4):
        persister = Persister(lambda: states.door, "a", TOPIC_ID, index, leader_epoch=1)
        written: asyncio.Future[E] = asyncio.get_running_loop().create_future()
        persister.write(StateWrite(99, 0, []), 1, written.set_result)
        assert await written is E.NOT_LEADER_OR_FOLLOWER
        persister.close()


def test_a_share_coordinator_that_nobody_is() -> None:
    async def main(env: SimulatedEnv) -> None:
        states = States(env, Random(1))
        states.broker.image = image_of(data={0: HERE})
        response = states.door.read_summary(
            summarizing.ReadShareGroupStateSummaryRequest(
                group_id="a",
                topics=[
                    summarizing.ReadStateSummaryData(
                        topic_id=TOPIC_ID, partitions=[summarizing.PartitionData(partition=0, leader_epoch=-1)]
                    )
                ],
            )
        )
        assert response.results[0].partitions[0].error_code == E.COORDINATOR_NOT_AVAILABLE
        states.stop()

    simulate(main, seed=1)
