"""From a decided outcome to a complete transaction: a marker into every partition, however long that takes.

The outcome is committed when this begins, so nothing here can fail for good: what can not be written now is tried again
until it is written, until its partition is deleted, or until another broker coordinates the transaction (which then
begins anew; a marker that is written twice does no harm).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from ottla.core.errors import ErrorCode
from ottla.core.ids import TopicPartition
from ottla.server.coordinator.runtime import CoordinatorPartition, PartitionState
from ottla.server.coordinator.transactions.shard import TransactionShard
from ottla.server.coordinator.transactions.state import Transaction, TransactionState

logger = logging.getLogger(__name__)

FIRST_BACKOFF_MS = 20
LONGEST_BACKOFF_MS = 1_000


class TransactionMarker(NamedTuple):
    """The end of a transaction as it is written into its partitions.

    ``coordinator_epoch`` is the leader epoch of the coordinator's partition; ``transaction_version`` says how strictly
    the producer epoch is checked.
    """

    producer_id: int
    producer_epoch: int
    is_commit: bool
    coordinator_epoch: int
    transaction_version: int


class MarkerWriter(Protocol):
    """The coordinator's port to the leaders of the partitions, wherever they are."""

    def write(
        self,
        marker: TransactionMarker,
        partitions: Sequence[TopicPartition],
        written: Callable[[TopicPartition, ErrorCode], None],
    ) -> None:
        """Write the marker into each partition and call ``written`` for each: at once, or later when it is committed.

        UNKNOWN_TOPIC_OR_PARTITION means that the partition is not part of the cluster (any more).
        """

    def stop(self) -> None:
        """Call nobody any more."""


class Completion:
    """Writes the markers of one prepared transaction, and its Complete record when all of them are there.

    `later(delay_s, action)` has something done after a pause, as long as there is a coordinator.
    """

    __slots__ = (
        "_backoff_ms",
        "_is_over",
        "_later",
        "_missing",
        "_partition",
        "_transaction",
        "_transactional_id",
        "_writer",
    )

    def __init__(
        self,
        partition: CoordinatorPartition[TransactionShard],
        transactional_id: str,
        transaction: Transaction,
        writer: MarkerWriter,
        later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self._partition = partition
        self._transactional_id = transactional_id
        self._writer = writer
        self._transaction = transaction
        self._is_over = False
        self._missing = dict.fromkeys(sorted(transaction.partitions))
        self._backoff_ms = FIRST_BACKOFF_MS
        self._later = later

    def start(self) -> None:
        """Write what is missing, again and again if need be."""
        if not self._is_wanted:
            return
        if not self._missing:
            self._complete()
            return
        self._writer.write(self._marker(), list(self._missing), self._written)

    @property
    def _is_wanted(self) -> bool:
        return self._partition.state is PartitionState.ACTIVE and not self._is_over

    def _marker(self) -> TransactionMarker:
        """With the coordinator's epoch of now: it may have been elected again meanwhile."""
        transaction = self._transaction
        return TransactionMarker(
            transaction.producer_id,
            transaction.producer_epoch,
            transaction.state is TransactionState.PREPARE_COMMIT,
            self._partition.leader_epoch,
            transaction.client_version,
        )

    def _written(self, partition: TopicPartition, code: ErrorCode) -> None:
        if partition not in self._missing or not self._is_wanted:
            return
        if code is ErrorCode.TRANSACTION_COORDINATOR_FENCED:
            logger.warning("%s: a newer coordinator ends this transaction", self._transactional_id)
            self._is_over = True
            return
        if code is ErrorCode.INVALID_PRODUCER_EPOCH:
            # The partition is past this transaction, so its marker has no work to do there.
            logger.warning("%s: %s knows a newer epoch of its producer", self._transactional_id, partition)
        elif code not in (ErrorCode.NONE, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION):
            logger.debug("%s: no marker in %s yet: %s", self._transactional_id, partition, code.name)
            self._retry(partial(self._write_again, partition))
            return
        del self._missing[partition]
        if not self._missing:
            self._complete()

    def _write_again(self, partition: TopicPartition) -> None:
        if self._is_wanted and partition in self._missing:
            self._writer.write(self._marker(), [partition], self._written)

    def _complete(self) -> None:
        partition = self._partition
        if not self._is_wanted:
            return
        producer = (self._transaction.producer_id, self._transaction.producer_epoch)
        result = partition.shard.complete(self._transactional_id, producer, partition.now())
        partition.complete(result, self._not_completed)

    def _not_completed(self, code: ErrorCode) -> None:
        self._retry(self._complete)

    def _retry(self, action: Callable[[], None]) -> None:
        self._later(self._backoff_ms / 1000, action)
        self._backoff_ms = min(self._backoff_ms * 2, LONGEST_BACKOFF_MS)
