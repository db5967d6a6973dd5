"""The transaction coordinator of one broker: what the handlers of the transaction APIs and the produce path call.

Methods return the answer, or a ``Pending`` when it waits for a commit. A refusal is an error code in the answer, except
for `NoProducerIdError`: then ``wait_for_producer_ids`` and ask again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ids import TopicPartition
from ottla.core.topics import TRANSACTIONS_TOPIC
from ottla.server.coordinator.append_errors import transaction_error
from ottla.server.coordinator.result import Instant, Pending, Result
from ottla.server.coordinator.runtime import CoordinatorPartition, PartitionLog, RuntimeSettings
from ottla.server.coordinator.topic_coordinator import TopicCoordinator
from ottla.server.coordinator.transactions.completion import Completion, MarkerWriter
from ottla.server.coordinator.transactions.records import TransactionRecordCodec
from ottla.server.coordinator.transactions.settings import TransactionSettings
from ottla.server.coordinator.transactions.shard import NoProducerIdError, Producer, TransactionShard
from ottla.server.coordinator.transactions.state import Transaction

if TYPE_CHECKING:
    from ottla.runtime.env import Env
    from ottla.server.metadata.delta import MetadataDelta
    from ottla.server.metadata.image import MetadataImage

logger = logging.getLogger(__name__)

NO_PRODUCER: Producer = (-1, -1)

#: Transactional ids with their transactions, or why a partition's cannot be told.
Found = list[tuple[str, Transaction]] | ErrorCode


class ProducerIds(Protocol):
    """Where fresh producer ids come from: the controller, in blocks."""

    def try_producer_id(self) -> int | None:
        """One out of the block at hand, None when it is used up."""

    async def producer_id(self) -> int:
        """One out of the next block, if need be."""


class ProducerOutcome(NamedTuple):
    """What InitProducerId and EndTxn answer."""

    code: ErrorCode
    producer: Producer = NO_PRODUCER


class TransactionCoordinator(TopicCoordinator[TransactionShard]):
    """Transactional ids of the partitions of ``__transaction_state`` that this broker leads.

    ``markers`` writes to the leaders of the partitions of a transaction; see `topic_coordinator.TopicCoordinator` for
    the rest.
    """

    def __init__(
        self,
        settings: TransactionSettings,
        env: Env,
        *,
        node_id: int,
        open_log: Callable[[int], PartitionLog | None],
        create_topic: Callable[[], Awaitable[None]],
        producer_ids: ProducerIds,
        markers: MarkerWriter,
    ) -> None:
        self.settings = settings
        self._producer_ids = producer_ids
        self._spare_producer_ids: list[int] = []
        self._next_block: asyncio.Task[None] | None = None
        # Rings of completions that try again.
        self._retries: dict[asyncio.TimerHandle, None] = {}
        self._markers = markers
        super().__init__(
            TRANSACTIONS_TOPIC,
            settings.topic_partition_count,
            env,
            node_id=node_id,
            open_log=open_log,
            create_topic=create_topic,
            codec=TransactionRecordCodec(),
            settings=RuntimeSettings(
                commit_timeout_ms=settings.commit_timeout_ms, load_chunk_bytes=settings.load_buffer_bytes
            ),
        )

    def new_shard(self, partition: int) -> TransactionShard:
        """An empty shard that knows the metadata of now."""
        return TransactionShard(
            self.settings, self._take_producer_id, partial(self._on_prepared, partition), self.image
        )

    def changed(
        self, shard: TransactionShard, delta: MetadataDelta, image: MetadataImage, now: Instant
    ) -> Result[None] | None:
        """Shards look at the finalized features."""
        shard.image = image
        return None

    def stop(self) -> None:
        """Answer nobody any more; what is prepared goes on after the next start."""
        if self._next_block is not None:
            self._next_block.cancel()
        for timer in self._retries:
            timer.cancel()
        self._retries.clear()
        self._markers.stop()
        super().stop()

    # -- commands

    def init_producer_id(
        self, transactional_id: str, timeout_ms: int, expected: Producer, *, two_phase: bool = False
    ) -> ProducerOutcome | Pending[ProducerOutcome]:
        """Begin as (or go on after an error as) the one producer of a transactional id."""
        try:
            partition = self.partition_of(transactional_id)
            result = partition.shard.init_producer_id(
                transactional_id, timeout_ms, expected, partition.now(), two_phase=two_phase
            )
        except ApiError as error:
            return ProducerOutcome(error.code)
        if result.response == NO_PRODUCER:
            return _answer(partition, result, ErrorCode.CONCURRENT_TRANSACTIONS)
        return _answer(partition, result)

    def add_partitions(
        self, transactional_id: str, producer: Producer, partitions: Iterable[TopicPartition], client_version: int
    ) -> ErrorCode | Pending[ErrorCode]:
        """Make partitions part of the producer's transaction."""
        if not transactional_id:
            return ErrorCode.INVALID_REQUEST
        try:
            partition = self.partition_of(transactional_id)
            result = partition.shard.add_partitions(
                transactional_id, producer, frozenset(partitions), client_version, partition.now()
            )
        except ApiError as error:
            return error.code
        return partition.complete(result, transaction_error)

    def verify_partitions(
        self, transactional_id: str, producer: Producer, partitions: Iterable[TopicPartition]
    ) -> dict[TopicPartition, ErrorCode] | Pending[dict[TopicPartition, ErrorCode]]:
        """Whether each partition is part of the producer's transaction."""
        wanted = list(partitions)

        def refusal(code: ErrorCode) -> dict[TopicPartition, ErrorCode]:
            return dict.fromkeys(wanted, code)

        if not transactional_id:
            return refusal(ErrorCode.INVALID_REQUEST)
        try:
            partition = self.partition_of(transactional_id)
            result = partition.shard.verify_partitions(transactional_id, producer, wanted)
        except ApiError as error:
            return refusal(error.code)
        return partition.complete(result, refusal)

    def end_transaction(
        self, transactional_id: str, producer: Producer, *, is_commit: bool, client_version: int
    ) -> ProducerOutcome | Pending[ProducerOutcome]:
        """Commit or abort; answered when the outcome is committed, which is before the markers are written."""
        if not transactional_id:
            return ProducerOutcome(ErrorCode.INVALID_REQUEST)
        try:
            partition = self.partition_of(transactional_id)
            result = partition.shard.end_transaction(
                transactional_id, producer, is_commit=is_commit, client_version=client_version, now=partition.now()
            )
        except ApiError as error:
            return ProducerOutcome(error.code)
        return _answer(partition, result)

    # -- looking

    def describe(self, transactional_id: str) -> Transaction | ErrorCode | Pending[Transaction | ErrorCode]:
        """The transactional id as it stands, or TRANSACTIONAL_ID_NOT_FOUND, NOT_COORDINATOR …"""
        if not transactional_id:
            return ErrorCode.INVALID_REQUEST
        try:
            partition = self.partition_of(transactional_id)
        except ApiError as error:
            return error.code
        found = partition.shard.transactions.get(transactional_id)
        described: Transaction | ErrorCode = ErrorCode.TRANSACTIONAL_ID_NOT_FOUND if found is None else found
        return partition.complete(Result(described), transaction_error)

    def transactions(self) -> list[Found | Pending[Found]]:
        """Everything coordinated here, by partition; ApiError COORDINATOR_LOAD_IN_PROGRESS."""
        if self._runtime.is_loading:
            raise ApiError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)
        found = []
        for partition in self._runtime.active_partitions():
            transactions: Found = list(partition.shard.transactions.items())
            found.append(partition.complete(Result(transactions), transaction_error))
        return found

    def now_ms(self) -> int:
        """The wall clock that transactions are measured with."""
        return self._env.clock.now_ms()

    # -- what is prepared

    def _on_prepared(self, index: int, transactional_id: str) -> None:
        partition = self._runtime.active(index)
        partition.when_committed(partial(self._write_markers, partition, transactional_id))

    def _write_markers(self, partition: CoordinatorPartition[TransactionShard], transactional_id: str) -> None:
        transaction = partition.shard.transactions.get(transactional_id)
        if transaction is not None and transaction.is_prepared:
            Completion(partition, transactional_id, transaction, self._markers, self._later).start()

    def _later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do it after so many seconds, unless the node stops before."""

        def ring() -> None:
            del self._retries[timer]
            action()

        timer = asyncio.get_running_loop().call_later(delay_s, ring)
        self._retries[timer] = None

    # -- producer ids

    async def wait_for_producer_ids(self) -> None:
        """Return when there is a producer id to take; ApiError when the controller gives none."""
        if self._next_block is not None:
            await asyncio.shield(self._next_block)

    def _take_producer_id(self) -> int:
        if self._spare_producer_ids:
            return self._spare_producer_ids.pop()
        producer_id = self._producer_ids.try_producer_id()
        if producer_id is not None:
            return producer_id
        if self._next_block is None:
            self._next_block = asyncio.get_running_loop().create_task(self._fetch_producer_id())
            self._next_block.add_done_callback(self._fetched)
        raise NoProducerIdError

    async def _fetch_producer_id(self) -> None:
        self._spare_producer_ids.append(await self._producer_ids.producer_id())

    def _fetched(self, task: asyncio.Task[None]) -> None:
        self._next_block = None
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.warning("the controller gives no producer ids: %s", error)


def _answer(
    partition: CoordinatorPartition[TransactionShard], result: Result[Producer], code: ErrorCode = ErrorCode.NONE
) -> ProducerOutcome | Pending[ProducerOutcome]:
    outcome = Result(ProducerOutcome(code, result.response), result.records)
    return partition.complete(outcome, lambda refused: ProducerOutcome(transaction_error(refused)))
