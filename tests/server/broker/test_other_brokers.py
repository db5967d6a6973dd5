"""What goes to leaders and coordinators on other brokers: in few requests, each answer told to those it concerns."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from ottla.core.errors import ErrorCode as E
from ottla.core.ids import TopicPartition
from ottla.core.topics import TRANSACTIONS_TOPIC
from ottla.protocol.messages.add_partitions_to_txn import (
    AddPartitionsToTxnPartitionResult,
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse,
    AddPartitionsToTxnResult,
    AddPartitionsToTxnTopicResult,
)
from ottla.protocol.messages.list_offsets import (
    ListOffsetsPartitionResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)
from ottla.protocol.messages.write_txn_markers import (
    WritableTxnMarkerPartitionResult,
    WritableTxnMarkerResult,
    WritableTxnMarkerTopicResult,
    WriteTxnMarkersRequest,
    WriteTxnMarkersResponse,
)
from ottla.server.broker.outbox import Outbox
from ottla.server.broker.share.end_offsets import end_offsets
from ottla.server.broker.transaction_markers import ClusterMarkers
from ottla.server.broker.transaction_verification import ClientProtocol, FirstBatch, Verdict, verify
from ottla.server.broker.verification_requests import VerificationRequests
from ottla.server.coordinator.transactions.completion import TransactionMarker
from tests.server.broker.data_world import World, world
from tests.server.broker.fake_peers import LOST, FakePeers
from tests.server.broker.support import NODE_ID, run

OTHER, THIRD = 2, 3


def marker(producer_id: int, *, epoch: int = 1) -> TransactionMarker:
    return TransactionMarker(producer_id, epoch, True, coordinator_epoch=3, transaction_version=2)


def with_others(broker: World, answer: Any) -> FakePeers:
    """Brokers 2 and 3 are there, on ports 1002 and 1003."""
    for broker_id in (OTHER, THIRD):
        broker.register_broker(broker_id, "other", 1000 + broker_id)
    peers = FakePeers(answer)
    broker.broker.open_peers = lambda: peers  # type: ignore[assignment, return-value]
    return peers


def marked(request: WriteTxnMarkersRequest, code: E = E.NONE) -> WriteTxnMarkersResponse:
    return WriteTxnMarkersResponse(
        markers=[
            WritableTxnMarkerResult(
                producer_id=asked.producer_id,
                topics=[
                    WritableTxnMarkerTopicResult(
                        name=topic.name,
                        partitions=[
                            WritableTxnMarkerPartitionResult(partition_index=index, error_code=code)
                            for index in topic.partition_indexes
                        ],
                    )
                    for topic in asked.topics
                ],
            )
            for asked in request.markers
        ]
    )


class Told:
    def __init__(self) -> None:
        self.codes: dict[TopicPartition, list[E]] = {}

    def __call__(self, partition: TopicPartition, code: E) -> None:
        self.codes.setdefault(partition, []).append(code)


# Outbox


def test_an_outbox_sends_what_comes_meanwhile_together_and_keeps_apart_what_must_be() -> None:
    async def main() -> None:
        delivered: list[list[tuple[str, int]]] = []
        go_on = asyncio.Event()

        async def deliver(destination: str, number: int, batch: list[tuple[str, int]]) -> None:
            delivered.append(batch)
            await go_on.wait()

        outbox: Outbox[str, tuple[str, int]] = Outbox(deliver, lambda item: item)
        for item in [("a", 1), ("b", 1), ("a", 2), ("b", 1)]:
            outbox.put("x", item)
        await asyncio.sleep(0.01)
        assert delivered == [[("a", 1), ("b", 1), ("b", 1)]]
        outbox.put("x", ("c", 1))
        await asyncio.sleep(0.01)
        assert len(delivered) == 1
        go_on.set()
        await asyncio.sleep(0.01)
        assert delivered[1:] == [[("a", 2), ("c", 1)]]
        go_on.clear()
        outbox.put("x", ("d", 1))
        await asyncio.sleep(0.01)
        outbox.put("x", ("d", 2))
        outbox.stop()
        await asyncio.sleep(0.01)
        assert delivered[2:] == [[("d", 1)]]

    run(main())


def test_an_outbox_never_has_more_in_flight_than_it_may_and_loses_nothing() -> None:
    async def main() -> None:
        random = Random(5)
        in_flight: dict[int, int] = {}
        numbers: set[tuple[int, int]] = set()
        delivered: list[int] = []

        async def deliver(destination: int, number: int, batch: list[int]) -> None:
            assert (destination, number) not in numbers
            numbers.add((destination, number))
            in_flight[destination] = in_flight.get(destination, 0) + 1
            assert in_flight[destination] <= 3
            await asyncio.sleep(random.random() / 500)
            in_flight[destination] -= 1
            numbers.remove((destination, number))
            delivered.extend(batch)

        outbox: Outbox[int, int] = Outbox(deliver, lambda item: (item % 5, item), requests_in_flight=3)
        for item in range(200):
            outbox.put(random.randrange(3), item)
            if random.random() < 0.3:
                await asyncio.sleep(0.0005)
        await asyncio.sleep(0.5)
        assert sorted(delivered) == list(range(200))

    run(main())


# Markers


def test_markers_of_many_transactions_share_a_request_to_each_leader() -> None:
    async def main() -> None:
        async with world() as broker:
            peers = with_others(broker, lambda port, request: marked(request))
            broker.create_topic("here")
            broker.create_topic("a", 2, leader=OTHER, replicas=(OTHER,))
            broker.create_topic("b", leader=THIRD, replicas=(THIRD,))
            told = Told()
            markers = ClusterMarkers(broker.broker)
            everywhere = [TopicPartition("here", 0), TopicPartition("a", 0), TopicPartition("a", 1)]
            markers.write(marker(7), [*everywhere, TopicPartition("b", 0)], told)
            markers.write(marker(8), everywhere, told)
            await asyncio.sleep(0.05)
            assert told.codes == {
                TopicPartition("here", 0): [E.NONE, E.NONE],
                TopicPartition("a", 0): [E.NONE, E.NONE],
                TopicPartition("a", 1): [E.NONE, E.NONE],
                TopicPartition("b", 0): [E.NONE],
            }
            assert [port for port, _ in peers.sent] == [1002, 1003]
            first = peers.sent[0][1]
            assert [(m.producer_id, m.producer_epoch, m.transaction_result, m.coordinator_epoch, m.transaction_version,
                     [(t.name, t.partition_indexes) for t in m.topics]) for m in first.markers] == [
                (7, 1, True, 3, 2, [("a", [0, 1])]),
                (8, 1, True, 3, 2, [("a", [0, 1])]),
            ]  # fmt: skip
            markers.stop()

    run(main())


@pytest.mark.parametrize(
    ("code", "heard"),
    [
        (E.UNKNOWN_TOPIC_OR_PARTITION, E.NOT_LEADER_OR_FOLLOWER),
        (E.NOT_LEADER_OR_FOLLOWER, E.NOT_LEADER_OR_FOLLOWER),
        (E.TRANSACTION_COORDINATOR_FENCED, E.TRANSACTION_COORDINATOR_FENCED),
        (None, E.NETWORK_EXCEPTION),
    ],
)
def test_what_a_leader_elsewhere_says_of_a_marker(code: E | None, heard: E) -> None:
    async def main() -> None:
        async with world() as broker:

            def answer(port: int, request: Any) -> Any:
                if code is None:
                    raise LOST
                return marked(request, code)

            with_others(broker, answer)
            broker.create_topic("a", leader=OTHER, replicas=(OTHER,))
            told = Told()
            ClusterMarkers(broker.broker).write(marker(7), [TopicPartition("a", 0)], told)
            await asyncio.sleep(0.01)
            assert told.codes == {TopicPartition("a", 0): [heard]}

    run(main())


def test_a_leader_that_is_not_there_and_answers_that_leave_out_a_partition() -> None:
    async def main() -> None:
        async with world() as broker:
            with_others(broker, lambda port, request: WriteTxnMarkersResponse(markers=[]))
            broker.create_topic("a", leader=9, replicas=(9,))
            broker.create_topic("b", leader=OTHER, replicas=(OTHER,))
            told = Told()
            ClusterMarkers(broker.broker).write(marker(7), [TopicPartition("a", 0), TopicPartition("b", 0)], told)
            await asyncio.sleep(0.01)
            assert told.codes == {
                TopicPartition("a", 0): [E.NETWORK_EXCEPTION],
                TopicPartition("b", 0): [E.UNKNOWN_SERVER_ERROR],
            }

    run(main())


# Verification


def verified(
    request: AddPartitionsToTxnRequest, code: E = E.NONE, *, top_level: E = E.NONE
) -> AddPartitionsToTxnResponse:
    return AddPartitionsToTxnResponse(
        error_code=top_level,
        results_by_transaction=[
            AddPartitionsToTxnResult(
                transactional_id=asked.transactional_id,
                topic_results=[
                    AddPartitionsToTxnTopicResult(
                        name=topic.name,
                        results_by_partition=[
                            AddPartitionsToTxnPartitionResult(partition_index=index, partition_error_code=code)
                            for index in topic.partitions
                        ],
                    )
                    for topic in asked.topics
                ],
            )
            for asked in request.transactions
        ],
    )


class Parts:
    """The only part that is asked for."""

    def __init__(self, broker: World) -> None:
        self.requests = VerificationRequests(broker.broker)

    def part(self, name: str) -> Any:
        assert name == "verification_requests"
        return self.requests


def with_coordinator(broker: World, answer: Any) -> FakePeers:
    peers = with_others(broker, answer)
    broker.create_topic(TRANSACTIONS_TOPIC, leader=OTHER, replicas=(OTHER,))
    broker.create_topic(partitions=2)
    broker.broker.coordinators = Parts(broker)  # type: ignore[assignment]
    return peers


async def verdict_of(broker: World, client: ClientProtocol, index: int = 0, producer: tuple[int, int] = (7, 0)) -> Any:
    batches = [FirstBatch(broker.partition(index=index), 0)]
    found = verify(broker.broker, f"id {producer[0]}", producer, batches, client)
    return found if isinstance(found, Verdict) else await found


@pytest.mark.parametrize(
    ("code", "client", "heard"),
    [
        (E.NONE, ClientProtocol.V2, None),
        (E.NONE, ClientProtocol.BASIC, None),
        (E.PRODUCER_FENCED, ClientProtocol.V2, E.INVALID_PRODUCER_EPOCH),
        (E.INVALID_PRODUCER_ID_MAPPING, ClientProtocol.V2, E.INVALID_PRODUCER_ID_MAPPING),
        (E.TRANSACTION_ABORTABLE, ClientProtocol.BASIC, E.INVALID_TXN_STATE),
        (E.TRANSACTION_ABORTABLE, ClientProtocol.ABORTABLE, E.TRANSACTION_ABORTABLE),
        (E.NOT_COORDINATOR, ClientProtocol.V2, E.NOT_COORDINATOR),
        (None, ClientProtocol.V2, E.NETWORK_EXCEPTION),
    ],
)
def test_what_a_coordinator_elsewhere_says(code: E | None, client: ClientProtocol, heard: E | None) -> None:
    async def main() -> None:
        async with world() as broker:

            def answer(port: int, request: Any) -> Any:
                if code is None:
                    raise LOST
                return verified(request, code)

            peers = with_coordinator(broker, answer)
            verdict = await verdict_of(broker, client)
            partition = broker.partition()
            assert verdict.errors.get(partition) == heard
            known = partition.log.producers_state.verifications.get(7)
            assert (known is None) == (code is E.INVALID_PRODUCER_ID_MAPPING)
            [(port, request)] = peers.sent
            assert port == 1002
            [asked] = request.transactions
            assert (asked.transactional_id, asked.producer_id, asked.producer_epoch) == ("id 7", 7, 0)
            assert asked.verify_only == (client is not ClientProtocol.V2)

    run(main())


def test_transactions_and_partitions_share_a_request_but_two_epochs_of_one_id_do_not() -> None:
    async def main() -> None:
        async with world() as broker:
            peers = with_coordinator(broker, lambda port, request: verified(request))
            client = ClientProtocol.V2
            verdicts = await asyncio.gather(
                verdict_of(broker, client, 0),
                verdict_of(broker, client, 1),
                verdict_of(broker, client, 0, (8, 0)),
                verdict_of(broker, client, 0, (8, 1)),
            )
            assert all(not verdict.errors for verdict in verdicts)
            first, second = (request for _, request in peers.sent)
            wanted = {asked.transactional_id: [t.partitions for t in asked.topics] for asked in first.transactions}
            assert wanted == {"id 7": [[0, 1]], "id 8": [[0]]}
            assert [(asked.producer_id, asked.producer_epoch) for asked in second.transactions] == [(8, 1)]
            assert set(peers.most_in_flight.values()) == {1}

    run(main())


def test_a_coordinator_that_refuses_the_whole_request_and_one_that_nobody_is() -> None:
    async def main() -> None:
        async with world() as broker:
            with_coordinator(broker, lambda port, request: verified(request, top_level=E.CLUSTER_AUTHORIZATION_FAILED))
            verdict = await verdict_of(broker, ClientProtocol.V2)
            assert verdict.errors == {broker.partition(): E.CLUSTER_AUTHORIZATION_FAILED}
            broker.elect(TRANSACTIONS_TOPIC, leader=-1)
            verdict = await verdict_of(broker, ClientProtocol.V2)
            assert verdict.errors == {broker.partition(): E.COORDINATOR_NOT_AVAILABLE}

    run(main())


# End offsets


def test_end_offsets_are_asked_of_each_leader() -> None:
    async def main() -> None:
        async with world() as broker:

            def answer(port: int, request: ListOffsetsRequest) -> Any:
                if port == 1003:
                    raise LOST
                return ListOffsetsResponse(
                    topics=[
                        ListOffsetsTopicResponse(
                            name=topic.name,
                            partitions=[
                                ListOffsetsPartitionResponse(partition_index=p.partition_index, offset=40 + port)
                                for p in topic.partitions
                            ],
                        )
                        for topic in request.topics
                    ]
                )

            with_others(broker, answer)
            broker.create_topic("here")
            for name, leader in (("a", OTHER), ("b", THIRD), ("c", -1)):
                broker.create_topic(name, leader=leader, replicas=(THIRD,))
            wanted = [TopicPartition(name, 0) for name in ("here", "a", "b", "c", "none")]
            assert await end_offsets(broker.broker, wanted) == {
                TopicPartition("here", 0): 0,
                TopicPartition("a", 0): 1042,
                TopicPartition("b", 0): E.NOT_LEADER_OR_FOLLOWER,
                TopicPartition("c", 0): E.LEADER_NOT_AVAILABLE,
                TopicPartition("none", 0): E.UNKNOWN_TOPIC_OR_PARTITION,
            }
            assert NODE_ID not in (OTHER, THIRD)

    run(main())
