"""Transactions and the producers behind them (KIP-664)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from ottla.client.admin.calls import AdminCalls
from ottla.client.admin.outcomes import at_least_zero, by_topic, known, names, outcome
from ottla.client.admin.routing import Brokers, Coordinators, Leaders, Route, Target
from ottla.client.errors import KafkaError, error_for
from ottla.client.model import TopicPartition, topic_partition
from ottla.core.errors import ErrorCode
from ottla.protocol.messages.describe_producers import (
    DescribeProducersRequest,
    DescribeProducersResponse,
    TopicRequest,
)
from ottla.protocol.messages.describe_transactions import DescribeTransactionsRequest, DescribeTransactionsResponse
from ottla.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from ottla.protocol.messages.list_transactions import ListTransactionsRequest, ListTransactionsResponse
from ottla.protocol.messages.write_txn_markers import (
    WritableTxnMarker,
    WritableTxnMarkerTopic,
    WriteTxnMarkersRequest,
    WriteTxnMarkersResponse,
)

TRANSACTION = 1
"""Key type of transactional ids among coordinators."""


class TransactionState(StrEnum):
    """Where a transaction stands."""

    UNKNOWN = "Unknown"
    EMPTY = "Empty"
    ONGOING = "Ongoing"
    PREPARE_COMMIT = "PrepareCommit"
    PREPARE_ABORT = "PrepareAbort"
    COMPLETE_COMMIT = "CompleteCommit"
    COMPLETE_ABORT = "CompleteAbort"
    PREPARE_EPOCH_FENCE = "PrepareEpochFence"


class ProducerIdAndEpoch(NamedTuple):
    """Who a producer is to the brokers."""

    producer_id: int
    producer_epoch: int


class TransactionListing(NamedTuple):
    """A transaction in a list."""

    transactional_id: str
    producer_id: int
    state: TransactionState
    coordinator_id: int
    """The broker that coordinates it."""


class TransactionDescription(NamedTuple):
    """A transaction as its coordinator knows it."""

    coordinator_id: int
    state: TransactionState
    producer_id: int
    producer_epoch: int
    transaction_timeout_ms: int
    transaction_start_time_ms: int | None
    """When it began, ms since 1970; None while none is open."""
    partitions: frozenset[TopicPartition]
    """Where it has written."""


class ProducerState(NamedTuple):
    """A producer that a partition remembers. What is None it has not done, or no transaction is open."""

    producer_id: int
    producer_epoch: int
    last_sequence: int | None
    last_timestamp_ms: int | None
    coordinator_epoch: int | None
    current_transaction_start_offset: int | None


class AbortTransactionSpec(NamedTuple):
    """A hanging transaction, as `describe_producers` shows it."""

    partition: TopicPartition
    producer_id: int
    producer_epoch: int
    coordinator_epoch: int


class TransactionCalls(AdminCalls):
    """Calls about transactions and producers."""

    async def describe_transactions(
        self, transactional_ids: str | Iterable[str], *, timeout_s: float | None = None
    ) -> dict[str, TransactionDescription]:
        """Transactions by transactional id; an id nobody uses fails with TRANSACTIONAL_ID_NOT_FOUND."""

        async def ask(target: Target, asked: list[str]) -> dict[str, TransactionDescription | KafkaError]:
            request = DescribeTransactionsRequest(transactional_ids=asked)
            response = await target.request(request, DescribeTransactionsResponse)
            return {
                found.transactional_id: outcome(
                    found.error_code,
                    None,
                    TransactionDescription(
                        target.node_id,
                        known(TransactionState, found.transaction_state or "Unknown"),
                        found.producer_id,
                        found.producer_epoch,
                        found.transaction_timeout_ms,
                        at_least_zero(found.transaction_start_time_ms),
                        frozenset(
                            TopicPartition(topic.topic, partition)
                            for topic in found.topics
                            for partition in topic.partitions
                        ),
                    ),
                )
                for found in response.transaction_states
            }

        route: Coordinators[str] = Coordinators(TRANSACTION)
        return await self._routing.run("describe_transactions", names(transactional_ids), route, ask, timeout_s)

    async def list_transactions(
        self,
        *,
        states: Iterable[TransactionState] = (),
        producer_ids: Iterable[int] = (),
        running_longer_than_ms: int | None = None,
        transactional_id_pattern: str | None = None,
        timeout_s: float | None = None,
    ) -> list[TransactionListing]:
        """All transactions that the filters leave, from all brokers. The pattern is one of RE2/J (KIP-1152).

        When some brokers fail, the error's `errors` and `results` are by broker.
        """
        request = ListTransactionsRequest(
            state_filters=[state.value for state in states],
            producer_id_filters=list(producer_ids),
            duration_filter=-1 if running_longer_than_ms is None else running_longer_than_ms,
            transactional_id_pattern=transactional_id_pattern or None,
        )
        oldest = 2 if transactional_id_pattern else 1 if running_longer_than_ms is not None else None

        async def ask(target: Target, asked: list[int]) -> dict[int, list[TransactionListing]]:
            response = await target.request(request, ListTransactionsResponse, min_version=oldest)
            if response.error_code:
                raise error_for(response.error_code)
            if response.unknown_state_filters:
                unknown = ", ".join(response.unknown_state_filters)
                raise KafkaError(f"The broker knows no transactions of state {unknown}.")
            return {
                target.node_id: [
                    TransactionListing(
                        found.transactional_id,
                        found.producer_id,
                        known(TransactionState, found.transaction_state),
                        target.node_id,
                    )
                    for found in response.transaction_states
                ]
            }

        loading = ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        listed = await self._routing.run_everywhere("list_transactions", ask, timeout_s, loading)
        return [listing for listings in listed.values() for listing in listings]

    async def describe_producers(
        self,
        partitions: Iterable[TopicPartition],
        *,
        broker_id: int | None = None,
        timeout_s: float | None = None,
    ) -> dict[TopicPartition, list[ProducerState]]:
        """The producers that partitions remember, as their leaders say (or this broker)."""
        wanted = [topic_partition(partition) for partition in partitions]

        async def ask(
            target: Target, asked: list[TopicPartition]
        ) -> dict[TopicPartition, list[ProducerState] | KafkaError]:
            request = DescribeProducersRequest(
                topics=[
                    TopicRequest(name=topic, partition_indexes=indexes) for topic, indexes in by_topic(asked).items()
                ]
            )
            response = await target.request(request, DescribeProducersResponse)
            return {
                TopicPartition(topic.name, partition.partition_index): outcome(
                    partition.error_code,
                    partition.error_message,
                    [
                        ProducerState(
                            producer.producer_id,
                            producer.producer_epoch,
                            at_least_zero(producer.last_sequence),
                            at_least_zero(producer.last_timestamp),
                            at_least_zero(producer.coordinator_epoch),
                            at_least_zero(producer.current_txn_start_offset),
                        )
                        for producer in partition.active_producers
                    ],
                )
                for topic in response.topics
                for partition in topic.partitions
            }

        route: Route[TopicPartition] = Leaders(self._leaders)
        if broker_id is not None:
            route = Brokers(lambda _: broker_id)
        return await self._routing.run("describe_producers", wanted, route, ask, timeout_s)

    async def abort_transaction(self, spec: AbortTransactionSpec, *, timeout_s: float | None = None) -> None:
        """Abort a hanging transaction in one partition, behind its coordinator's back. For emergencies only."""

        async def ask(target: Target, asked: list[TopicPartition]) -> dict[TopicPartition, KafkaError | None]:
            marker = WritableTxnMarker(
                producer_id=spec.producer_id,
                producer_epoch=spec.producer_epoch,
                transaction_result=False,
                topics=[
                    WritableTxnMarkerTopic(name=topic, partition_indexes=indexes)
                    for topic, indexes in by_topic(asked).items()
                ],
                coordinator_epoch=spec.coordinator_epoch,
            )
            response = await target.request(WriteTxnMarkersRequest(markers=[marker]), WriteTxnMarkersResponse)
            return {
                TopicPartition(topic.name, partition.partition_index): outcome(partition.error_code, None, None)
                for found in response.markers
                for topic in found.topics
                for partition in topic.partitions
            }

        wanted = [topic_partition(spec.partition)]
        await self._routing.run("abort_transaction", wanted, Leaders(self._leaders), ask, timeout_s)

    async def fence_producers(
        self, transactional_ids: str | Iterable[str], *, timeout_s: float | None = None
    ) -> dict[str, ProducerIdAndEpoch]:
        """Lock out the producers that use these ids and abort what they have open; returns their successors' epochs."""
        transaction_timeout_ms = self._routing.request_timeout_ms if timeout_s is None else int(timeout_s * 1000)

        async def fence(target: Target, transactional_id: str) -> ProducerIdAndEpoch | KafkaError:
            request = InitProducerIdRequest(
                transactional_id=transactional_id, transaction_timeout_ms=max(1, transaction_timeout_ms)
            )
            # the sixth version is not stable yet and asks for two-phase commit
            response = await target.request(request, InitProducerIdResponse, max_version=5)
            fenced = ProducerIdAndEpoch(response.producer_id, response.producer_epoch)
            return outcome(response.error_code, None, fenced)

        async def ask(target: Target, asked: list[str]) -> dict[str, ProducerIdAndEpoch | KafkaError]:
            found = await asyncio.gather(*(fence(target, transactional_id) for transactional_id in asked))
            return dict(zip(asked, found, strict=True))

        route: Coordinators[str] = Coordinators(TRANSACTION, ErrorCode.CONCURRENT_TRANSACTIONS)
        return await self._routing.run("fence_producers", names(transactional_ids), route, ask, timeout_s)

    async def force_terminate_transaction(self, transactional_id: str, *, timeout_s: float | None = None) -> None:
        """End the transaction of this id, also one prepared for two-phase commit, and fence its producer (KIP-939)."""
        await self.fence_producers(transactional_id, timeout_s=timeout_s)
