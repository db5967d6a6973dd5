"""Before the first batch of a transaction goes into a partition: does the transaction coordinator know of it (KIP-890)?

Old clients (Produce up to 11, TxnOffsetCommit up to 4) have added the partition themselves, and the coordinator is
asked whether that is so. Those of transactions v2 leave it to the partition's leader to add it. Either way it happens
once for a transaction and a partition: a partition whose log has the transaction open is not asked about again.

While the transaction before is still getting its markers, the coordinator refuses with CONCURRENT_TRANSACTIONS. For a
client of transactions v2 that is awaited here for a moment, since its batch would have to come over the wire again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Iterable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ids import TopicPartition
from ottla.core.topics import TRANSACTIONS_TOPIC
from ottla.server.broker.neighbours import NOBODY, coordinator_of
from ottla.server.coordinator.result import Pending
from ottla.server.coordinator.transactions.shard import Producer
from ottla.server.coordinator.transactions.state import TRANSACTIONS_V2
from ottla.server.log.verification import UNVERIFIED, Verification

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker
    from ottla.server.replication.partition import Partition


class ClientProtocol(Enum):
    """What a request's version says of its client."""

    BASIC = "basic"  # learns of a failed verification as INVALID_TXN_STATE
    ABORTABLE = "abortable"  # knows TRANSACTION_ABORTABLE
    V2 = "v2"  # leaves it to the broker to add partitions

    @classmethod
    def of(cls, version: int, *, first_abortable: int, first_v2: int) -> ClientProtocol:
        """That of a request in this version, of an API whose versions changed there."""
        if version >= first_v2:
            return cls.V2
        return cls.ABORTABLE if version >= first_abortable else cls.BASIC


class FirstBatch(NamedTuple):
    """A batch that may be the first of its transaction in the partition; -1 for one without sequences."""

    partition: Partition
    base_sequence: int


class Verdict(NamedTuple):
    """What became of each partition: why it may not be written to, or what its log wants to see with the batch."""

    errors: dict[Partition, ErrorCode]
    verifications: dict[Partition, Verification]

    @property
    def is_concurrent(self) -> bool:
        """Whether it is only that the transaction before is not complete yet."""
        return ErrorCode.CONCURRENT_TRANSACTIONS in self.errors.values()


def verify(
    broker: Broker, transactional_id: str, producer: Producer, batches: Sequence[FirstBatch], client: ClientProtocol
) -> Verdict | Awaitable[Verdict]:
    """Ask the coordinator where that is necessary; the answer is there at once if the coordinator is."""
    outcome = _verify_once(broker, transactional_id, producer, batches, client)
    if isinstance(outcome, Verdict) and not (client is ClientProtocol.V2 and outcome.is_concurrent):
        return outcome
    return _verify_patiently(broker, transactional_id, producer, batches, client, outcome)


async def _verify_patiently(
    broker: Broker,
    transactional_id: str,
    producer: Producer,
    batches: Sequence[FirstBatch],
    client: ClientProtocol,
    outcome: Verdict | Awaitable[Verdict],
) -> Verdict:
    config = broker.config
    backoff_s = config["add.partitions.to.txn.retry.backoff.ms"] / 1000
    patience_s = min(config["add.partitions.to.txn.retry.backoff.max.ms"], config["request.timeout.ms"]) / 1000
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_s
    while True:
        verdict = outcome if isinstance(outcome, Verdict) else await outcome
        if client is not ClientProtocol.V2 or not verdict.is_concurrent or loop.time() >= deadline:
            return verdict
        await asyncio.sleep(backoff_s)
        outcome = _verify_once(broker, transactional_id, producer, batches, client)


def _verify_once(
    broker: Broker, transactional_id: str, producer: Producer, batches: Sequence[FirstBatch], client: ClientProtocol
) -> Verdict | Coroutine[Any, Any, Verdict]:
    verdict = Verdict({}, {})
    is_v2 = client is ClientProtocol.V2
    if not is_v2 and not broker.config["transaction.partition.verification.enable"]:
        verdict.verifications.update((batch.partition, UNVERIFIED) for batch in batches)
        return verdict
    producer_id, producer_epoch = producer
    now_ms = broker.env.clock.now_ms()
    asked: dict[TopicPartition, Partition] = {}
    begun: list[Partition] = []
    for partition, base_sequence in batches:
        if not partition.is_leader:
            verdict.errors[partition] = ErrorCode.NOT_LEADER_OR_FOLLOWER
            continue
        producers = partition.log.producers_state
        if producer_id not in producers.verifications:
            begun.append(partition)
        try:
            verification = producers.start_verification(
                producer_id, producer_epoch, base_sequence, transactions_v2=is_v2, now_ms=now_ms
            )
        except ApiError as error:
            verdict.errors[partition] = error.code
            continue
        if verification is not None:
            verdict.verifications[partition] = verification
            asked[TopicPartition(partition.topic, partition.partition)] = partition
    if not asked:
        return verdict
    outcome = _ask_coordinator(broker, transactional_id, producer, asked, verify_only=not is_v2)
    if isinstance(outcome, Pending):
        if outcome.response is None:
            return _when_answered(outcome, verdict, asked, begun, producer_id, client)
        outcome = outcome.response
    return _judge(outcome, verdict, asked, begun, producer_id, client)


def _ask_coordinator(
    broker: Broker,
    transactional_id: str,
    producer: Producer,
    partitions: Iterable[TopicPartition],
    *,
    verify_only: bool,
) -> Any:
    """One code for all partitions, one for each, or a `Pending` of either; the coordinator may be on another broker."""
    leader = coordinator_of(broker, TRANSACTIONS_TOPIC, transactional_id)
    if leader == broker.node_id:
        transactions = broker.transactions
        if verify_only:
            return transactions.verify_partitions(transactional_id, producer, partitions)
        return transactions.add_partitions(transactional_id, producer, partitions, TRANSACTIONS_V2)
    if leader == NOBODY:
        return ErrorCode.COORDINATOR_NOT_AVAILABLE
    return broker.verification_requests.ask(leader, transactional_id, producer, partitions, verify_only=verify_only)


async def _when_answered(
    pending: Pending[Any],
    verdict: Verdict,
    asked: dict[TopicPartition, Partition],
    begun: Sequence[Partition],
    producer_id: int,
    client: ClientProtocol,
) -> Verdict:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def arrived(response: Any) -> None:
        if not future.done():
            future.set_result(response)

    pending.listener = arrived
    return _judge(await future, verdict, asked, begun, producer_id, client)


def _judge(
    outcome: ErrorCode | dict[TopicPartition, ErrorCode],
    verdict: Verdict,
    asked: dict[TopicPartition, Partition],
    begun: Sequence[Partition],
    producer_id: int,
    client: ClientProtocol,
) -> Verdict:
    if outcome is ErrorCode.INVALID_PRODUCER_ID_MAPPING or (
        isinstance(outcome, dict) and ErrorCode.INVALID_PRODUCER_ID_MAPPING in outcome.values()
    ):
        # Nothing of this producer will ever be verified: anybody's made-up ids would be remembered for a day.
        for partition in begun:
            partition.log.producers_state.verifications.pop(producer_id, None)
    for topic_partition, partition in asked.items():
        code = outcome[topic_partition] if isinstance(outcome, dict) else outcome
        if code is ErrorCode.PRODUCER_FENCED:
            code = ErrorCode.INVALID_PRODUCER_EPOCH  # what producers expect of a partition
        elif code is ErrorCode.TRANSACTION_ABORTABLE and client is ClientProtocol.BASIC:
            code = ErrorCode.INVALID_TXN_STATE
        if code is not ErrorCode.NONE:
            verdict.errors[partition] = code
    return verdict
