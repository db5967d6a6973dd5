"""Markers into partitions that wait for other replicas, and verifications whose answer comes later."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from ottla.core.errors import ErrorCode as E
from ottla.core.ids import TopicPartition
from ottla.core.topics import TRANSACTIONS_TOPIC
from ottla.server.broker.transaction_markers import ClusterMarkers, _UntilCommitted, write_marker
from ottla.server.broker.transaction_verification import ClientProtocol, FirstBatch, Verdict, verify
from ottla.server.coordinator.result import Pending
from ottla.server.coordinator.transactions.completion import TransactionMarker
from ottla.server.log.verification import UNVERIFIED
from tests.server.broker.data_world import World, world
from tests.server.broker.support import NODE_ID, run

MARKER = TransactionMarker(7, 1, False, coordinator_epoch=3, transaction_version=2)
PARTITION = TopicPartition("topic", 0)
CONFIG = {
    "transaction.partition.verification.enable": True,
    "add.partitions.to.txn.retry.backoff.ms": 1,
    "add.partitions.to.txn.retry.backoff.max.ms": 60,
    "request.timeout.ms": 1000,
}


class Told:
    def __init__(self) -> None:
        self.codes: list[E] = []

    def __call__(self, partition: TopicPartition, code: E) -> None:
        assert partition == PARTITION
        self.codes.append(code)


def test_a_marker_is_written_when_the_other_replicas_have_it() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic(replicas=(NODE_ID, 2))
            told = Told()
            write_marker(broker.broker, MARKER, PARTITION, told)
            assert broker.partition().log.log_end_offset == 1
            assert told.codes == []
            broker.partition().follower_fetched(2, 1)
            assert told.codes == [], "not from within the partition"
            await asyncio.sleep(0)
            assert told.codes == [E.NONE]
            assert broker.partition().waiter_count == 0

    run(main())


def test_a_marker_of_a_leader_that_is_none_any_more_is_sent_elsewhere() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic(replicas=(NODE_ID, 2))
            told = Told()
            write_marker(broker.broker, MARKER, PARTITION, told)
            broker.elect("topic", leader=2)
            await asyncio.sleep(0)
            assert told.codes == [E.NOT_LEADER_OR_FOLLOWER]
            write_marker(broker.broker, MARKER, PARTITION, told)
            assert told.codes == [E.NOT_LEADER_OR_FOLLOWER] * 2

    run(main())


def test_a_marker_that_nobody_copies_is_given_up_for_now() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic(replicas=(NODE_ID, 2))
            told = Told()
            _UntilCommitted(broker.partition(), PARTITION, 1, 5, told)
            await asyncio.sleep(0.05)
            assert told.codes == [E.REQUEST_TIMED_OUT]
            assert broker.partition().waiter_count == 0

    run(main())


def test_partitions_without_metadata_are_gone() -> None:
    async def main() -> None:
        async with world() as broker:
            told = Told()
            markers = ClusterMarkers(broker.broker)
            markers.write(MARKER, [PARTITION], told)
            assert told.codes == [E.UNKNOWN_TOPIC_OR_PARTITION]
            broker.create_topic(leader=-1)
            markers.write(MARKER, [PARTITION], told)
            assert told.codes[1:] == [E.LEADER_NOT_AVAILABLE]
            broker.elect("topic")
            markers.write(MARKER, [PARTITION], told)
            assert told.codes[2:] == [E.NONE]
            markers.stop()

    run(main())


class FakeTransactions:
    """Answers in the order given; a `Pending` when told to."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[list[TopicPartition]] = []

    def add_partitions(self, key: str, producer: tuple[int, int], partitions: Any, version: int) -> Any:
        self.asked.append(list(partitions))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def verify_partitions(self, key: str, producer: tuple[int, int], partitions: Any) -> Any:
        answer = self.add_partitions(key, producer, partitions, 0)
        return answer if isinstance(answer, Pending) else dict.fromkeys(partitions, answer)


def asking(broker: World, transactions: FakeTransactions, **settings: object) -> Any:
    if TRANSACTIONS_TOPIC not in broker.topic_ids:
        broker.create_topic(TRANSACTIONS_TOPIC)
    return SimpleNamespace(
        config={**CONFIG, **settings},
        env=broker.broker.env,
        image=broker.broker.image,
        node_id=NODE_ID,
        transactions=transactions,
    )


@pytest.mark.parametrize(
    ("code", "client", "heard"),
    [
        (E.NONE, ClientProtocol.V2, None),
        (E.PRODUCER_FENCED, ClientProtocol.V2, E.INVALID_PRODUCER_EPOCH),
        (E.INVALID_PRODUCER_ID_MAPPING, ClientProtocol.V2, E.INVALID_PRODUCER_ID_MAPPING),
        (E.INVALID_PRODUCER_ID_MAPPING, ClientProtocol.BASIC, E.INVALID_PRODUCER_ID_MAPPING),
        (E.NONE, ClientProtocol.BASIC, None),
        (E.TRANSACTION_ABORTABLE, ClientProtocol.BASIC, E.INVALID_TXN_STATE),
        (E.TRANSACTION_ABORTABLE, ClientProtocol.ABORTABLE, E.TRANSACTION_ABORTABLE),
        (E.CONCURRENT_TRANSACTIONS, ClientProtocol.ABORTABLE, E.CONCURRENT_TRANSACTIONS),
    ],
)
def test_what_the_coordinator_says_at_once(code: E, client: ClientProtocol, heard: E | None) -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic()
            partition = broker.partition()
            verdict = verify(asking(broker, FakeTransactions(code)), "id", (7, 0), [FirstBatch(partition, 0)], client)
            assert isinstance(verdict, Verdict)
            assert verdict.errors.get(partition) == heard
            known = partition.log.producers_state.verifications.get(7)
            if code is E.INVALID_PRODUCER_ID_MAPPING:
                assert known is None  # ids that somebody has made up are not remembered
            else:
                assert verdict.verifications[partition] is known

    run(main())


def test_an_answer_that_waits_for_its_commit_is_awaited() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic()
            pending: Pending[E] = Pending(lambda code: code)
            coming = verify(
                asking(broker, FakeTransactions(pending)),
                "id",
                (7, 0),
                [FirstBatch(broker.partition(), 0)],
                ClientProtocol.V2,
            )
            assert not isinstance(coming, Verdict)
            asyncio.get_running_loop().call_later(0.01, pending.release, E.NONE)
            assert (await coming).errors == {}

    run(main())


def test_transactions_v2_wait_a_moment_for_the_one_before() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic()
            batch = [FirstBatch(broker.partition(), 0)]
            transactions = FakeTransactions(E.CONCURRENT_TRANSACTIONS, E.CONCURRENT_TRANSACTIONS, E.NONE)
            coming = verify(asking(broker, transactions), "id", (7, 0), batch, ClientProtocol.V2)
            assert not isinstance(coming, Verdict)
            assert (await coming).errors == {}
            assert len(transactions.asked) == 3
            busy = FakeTransactions(E.CONCURRENT_TRANSACTIONS)
            coming = verify(asking(broker, busy), "id", (7, 0), batch, ClientProtocol.V2)
            assert not isinstance(coming, Verdict)
            assert (await coming).errors == {broker.partition(): E.CONCURRENT_TRANSACTIONS}

    run(main())


def test_nobody_is_asked_where_that_is_switched_off_or_answered_by_the_log() -> None:
    async def main() -> None:
        async with world() as broker:
            broker.create_topic()
            broker.create_topic("elsewhere", leader=2, replicas=(NODE_ID, 2))
            partition, other = broker.partition(), broker.partition("elsewhere")
            transactions = FakeTransactions(E.UNKNOWN_SERVER_ERROR)
            off = asking(broker, transactions, **{"transaction.partition.verification.enable": False})
            verdict = verify(off, "id", (7, 0), [FirstBatch(partition, 0)], ClientProtocol.BASIC)
            assert verdict == Verdict({}, {partition: UNVERIFIED})
            verdict = verify(asking(broker, transactions), "id", (7, 0), [FirstBatch(other, 0)], ClientProtocol.V2)
            assert verdict == Verdict({other: E.NOT_LEADER_OR_FOLLOWER}, {})
            write_marker(broker.broker, MARKER, PARTITION, Told())
            verdict = verify(asking(broker, transactions), "id", (7, 0), [FirstBatch(partition, 0)], ClientProtocol.V2)
            assert verdict == Verdict({partition: E.INVALID_PRODUCER_EPOCH}, {})
            assert transactions.asked == []

    run(main())
