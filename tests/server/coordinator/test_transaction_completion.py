"""Markers until they are written: what is tried again, what is left alone, and that Complete comes last."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ottla.core.errors import ErrorCode as E
from ottla.core.ids import TopicPartition
from ottla.server.coordinator.result import Pending
from ottla.server.coordinator.transactions.completion import TransactionMarker
from ottla.server.coordinator.transactions.service import ProducerOutcome, TransactionCoordinator
from ottla.server.coordinator.transactions.settings import TransactionSettings
from ottla.server.coordinator.transactions.state import Transaction
from ottla.server.metadata.image import MetadataImage, PartitionImage, TopicImage, TopicsImage
from ottla.testing.sim.env import SimulatedEnv, simulate
from tests.server.coordinator.fake_log import FakeLog

NODE_ID = 1
T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)
Written = Callable[[TopicPartition, E], None]


class FakeMarkers:
    """Notes what is written; answers as the test has it, or when the test says so (None)."""

    def __init__(self) -> None:
        self.answers: dict[TopicPartition, list[E | None]] = {}
        self.written: list[tuple[TopicPartition, TransactionMarker]] = []
        self.waiting: list[tuple[TopicPartition, Written]] = []

    def write(self, marker: TransactionMarker, partitions: Sequence[TopicPartition], written: Written) -> None:
        for partition in partitions:
            self.written.append((partition, marker))
            answers = self.answers.get(partition)
            answer = answers.pop(0) if answers else E.NONE
            if answer is None:
                self.waiting.append((partition, written))
            else:
                written(partition, answer)

    def stop(self) -> None:
        pass


class ProducerIds:
    def __init__(self) -> None:
        self.next_id = 0

    def try_producer_id(self) -> int | None:
        self.next_id += 1
        return self.next_id

    async def producer_id(self) -> int:
        return self.next_id


class World:
    def __init__(self, env: SimulatedEnv) -> None:
        self.log = FakeLog()
        self.markers = FakeMarkers()
        self.coordinator = TransactionCoordinator(
            TransactionSettings(topic_partition_count=1),
            env,
            node_id=NODE_ID,
            open_log=lambda index: self.log,
            create_topic=self._create,
            producer_ids=ProducerIds(),
            markers=self.markers,
        )
        self.load()

    async def _create(self) -> None:
        raise AssertionError

    def load(self) -> None:
        """Elected for the topic's only partition."""
        placed = PartitionImage(
            replicas=(NODE_ID,), isr=(NODE_ID,), leader=NODE_ID, leader_epoch=7, partition_epoch=0, directories=()
        )
        topic = TopicImage("__transaction_state", bytes(15) + b"\1", {0: placed})
        topics = TopicsImage({topic.name: topic}, {topic.topic_id: topic})
        self.coordinator.load(MetadataImage(features={"transaction.version": 2}, topics=topics))

    @property
    def state(self) -> str:
        found = self.coordinator.describe("x")
        assert isinstance(found, Transaction)
        return found.state.title

    def begin(self) -> tuple[int, int]:
        made = self.coordinator.init_producer_id("x", 60_000, (-1, -1))
        assert isinstance(made, ProducerOutcome)
        assert self.coordinator.add_partitions("x", made.producer, [T0, T1], 2) is E.NONE
        return made.producer

    def end(self, producer: tuple[int, int]) -> ProducerOutcome | Pending[ProducerOutcome]:
        return self.coordinator.end_transaction("x", producer, is_commit=True, client_version=2)


def run(test: Callable[[World], object]) -> None:
    async def main(env: SimulatedEnv) -> None:
        world = World(env)
        await world.coordinator.wait_until_loaded()
        await test(world)  # type: ignore[misc]
        world.coordinator.stop()

    simulate(main, seed=1)


def test_the_answer_comes_first_then_the_markers_then_complete() -> None:
    async def test(world: World) -> None:
        world.markers.answers = {T1: [None]}
        producer = world.begin()
        assert world.end(producer) == ProducerOutcome(E.NONE, (producer[0], 1))
        assert (world.state, world.markers.written) == ("PrepareCommit", [])
        await asyncio.sleep(0)
        marker = TransactionMarker(producer[0], 1, True, coordinator_epoch=7, transaction_version=2)
        assert world.markers.written == [(T0, marker), (T1, marker)]
        assert world.state == "PrepareCommit"
        [(partition, written)] = world.markers.waiting
        written(partition, E.NONE)
        assert world.state == "CompleteCommit"
        written(partition, E.NONE)
        assert len(world.markers.written) == 2

    run(test)


def test_markers_wait_for_the_commit_of_the_decision() -> None:
    async def test(world: World) -> None:
        producer = world.begin()
        world.log.commits = False
        outcome = world.end(producer)
        assert isinstance(outcome, Pending)
        await asyncio.sleep(100)
        assert outcome.response == ProducerOutcome(E.COORDINATOR_NOT_AVAILABLE), "the client asks again"
        assert not world.markers.written
        again = world.end(producer)
        assert again == ProducerOutcome(E.CONCURRENT_TRANSACTIONS)
        world.log.commits = True
        world.log.commit()
        await asyncio.sleep(0.01)
        assert len(world.markers.written) == 2
        assert world.state == "CompleteCommit"

    run(test)


def test_what_can_not_be_written_now_is_tried_again() -> None:
    async def test(world: World) -> None:
        world.markers.answers = {T0: [E.NOT_LEADER_OR_FOLLOWER, E.KAFKA_STORAGE_ERROR, E.REQUEST_TIMED_OUT, E.NONE]}
        world.end(world.begin())
        await asyncio.sleep(0.01)
        assert world.state == "PrepareCommit"
        await asyncio.sleep(10)
        assert [partition for partition, _ in world.markers.written] == [T0, T1, T0, T0, T0]
        assert world.state == "CompleteCommit"

    run(test)


def test_partitions_that_are_gone_or_further_on_hold_nothing_up() -> None:
    async def test(world: World) -> None:
        world.markers.answers = {T0: [E.UNKNOWN_TOPIC_OR_PARTITION], T1: [E.INVALID_PRODUCER_EPOCH]}
        world.end(world.begin())
        await asyncio.sleep(0.01)
        assert world.state == "CompleteCommit"

    run(test)


def test_a_newer_coordinator_is_left_to_it() -> None:
    async def test(world: World) -> None:
        world.markers.answers = {T0: [E.TRANSACTION_COORDINATOR_FENCED]}
        world.end(world.begin())
        await asyncio.sleep(100)
        assert world.state == "PrepareCommit"
        assert len(world.markers.written) == 2

    run(test)


def test_complete_is_written_as_soon_as_the_log_takes_it() -> None:
    async def test(world: World) -> None:
        producer = world.begin()
        world.end(producer)
        world.log.refusal = E.NOT_ENOUGH_REPLICAS
        await asyncio.sleep(1)
        assert world.state == "PrepareCommit"
        assert world.end((producer[0], 1)) == ProducerOutcome(E.CONCURRENT_TRANSACTIONS)
        world.log.refusal = None
        await asyncio.sleep(2)
        assert world.state == "CompleteCommit"
        assert len(world.markers.written) == 2

    run(test)


def test_whoever_loads_a_prepared_transaction_writes_its_markers_again() -> None:
    async def test(world: World) -> None:
        world.markers.answers = {T0: [None]}
        world.end(world.begin())
        await asyncio.sleep(0.01)
        [(partition, written)] = world.markers.waiting
        world.coordinator.stop()
        written(partition, E.NONE)
        world.coordinator._topic_id = None
        world.load()
        await world.coordinator.wait_until_loaded()
        await asyncio.sleep(0.01)
        assert [partition for partition, _ in world.markers.written] == [T0, T1, T0, T1]
        assert world.state == "CompleteCommit"

    run(test)


def test_refusals_of_the_log_as_clients_hear_them() -> None:
    async def test(world: World) -> None:
        producer = world.begin()
        for refusal, heard in (
            (E.NOT_ENOUGH_REPLICAS, E.COORDINATOR_NOT_AVAILABLE),
            (E.NOT_LEADER_OR_FOLLOWER, E.NOT_COORDINATOR),
            (E.KAFKA_STORAGE_ERROR, E.NOT_COORDINATOR),
            (E.MESSAGE_TOO_LARGE, E.UNKNOWN_SERVER_ERROR),
        ):
            world.log.refusal = refusal
            assert world.end(producer) == ProducerOutcome(heard)
            assert world.state == "Ongoing", "nothing was decided"
        world.log.refusal = None
        assert world.end(producer) == ProducerOutcome(E.NONE, (producer[0], 1))

    run(test)
