"""AddPartitionsToTxn to a transaction coordinator on another broker: verify partitions, or add them (KIP-890).

One request to each broker is in flight; what the partitions' producers ask meanwhile shares the next one.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from ottla.core.errors import ERRORS, ErrorCode
from ottla.core.ids import TopicPartition
from ottla.protocol.messages.add_partitions_to_txn import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse,
    AddPartitionsToTxnTopic,
    AddPartitionsToTxnTransaction,
)
from ottla.server.broker.neighbours import Neighbours
from ottla.server.broker.outbox import Outbox
from ottla.server.coordinator.result import Pending
from ottla.server.peers.errors import PeerError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ottla.server.broker.broker import Broker
    from ottla.server.coordinator.transactions.shard import Producer
    from ottla.server.metadata.delta import MetadataDelta
    from ottla.server.metadata.image import MetadataImage

    Codes = dict[TopicPartition, ErrorCode]

logger = logging.getLogger(__name__)

_CHANNEL = "transaction verification"
_UNKNOWN = ErrorCode.UNKNOWN_SERVER_ERROR


class _Transaction(NamedTuple):
    transactional_id: str
    producer: Producer
    verify_only: bool


class _Asked(NamedTuple):
    transaction: _Transaction
    partitions: tuple[TopicPartition, ...]
    pending: Pending[Codes]


class VerificationRequests:
    """What is asked of coordinators elsewhere. No answer is NETWORK_EXCEPTION, after which producers try again."""

    __slots__ = ("_neighbours", "_outbox")

    def __init__(self, broker: Broker) -> None:
        self._neighbours = Neighbours(broker)
        self._outbox: Outbox[int, _Asked] = Outbox(
            self._deliver, lambda asked: (asked.transaction.transactional_id, asked.transaction)
        )

    def ask(
        self,
        node_id: int,
        transactional_id: str,
        producer: Producer,
        partitions: Iterable[TopicPartition],
        *,
        verify_only: bool,
    ) -> Pending[Codes]:
        """Whether each partition is (or, unless ``verify_only``, now is) part of the producer's transaction."""
        wanted = tuple(partitions)
        pending: Pending[Codes] = Pending(lambda code: dict.fromkeys(wanted, code))
        self._outbox.put(node_id, _Asked(_Transaction(transactional_id, producer, verify_only), wanted, pending))
        return pending

    # A part of the node (`server.node.coordinators.Part`)

    def load(self, image: MetadataImage) -> None:
        """Nothing to take over: coordinators are looked up when they are asked."""

    def on_metadata_change(self, delta: MetadataDelta, image: MetadataImage) -> None:
        """Nothing to take over."""

    def stop(self) -> None:
        """Answer nobody any more."""
        self._outbox.stop()

    async def _deliver(self, node_id: int, number: int, batch: list[_Asked]) -> None:
        otherwise = _UNKNOWN
        codes: dict[str, Codes] = {}
        try:
            response: AddPartitionsToTxnResponse
            response = await self._neighbours.ask(node_id, _request(batch), channel=_CHANNEL)
            if response.error_code:
                otherwise = ERRORS.get(response.error_code, _UNKNOWN)
                logger.error("broker %d refuses to verify transactions: %s", node_id, otherwise.name)
            else:
                codes = _codes(response)
        except PeerError as error:
            logger.info("no answer about transactions from broker %d: %s", node_id, error)
            otherwise = ErrorCode.NETWORK_EXCEPTION
        for transaction, partitions, pending in batch:
            found = codes.get(transaction.transactional_id, {})
            pending.release({partition: found.get(partition, otherwise) for partition in partitions})


def _request(batch: Iterable[_Asked]) -> AddPartitionsToTxnRequest:
    wanted: dict[_Transaction, dict[str, dict[int, None]]] = {}
    for asked in batch:
        topics = wanted.setdefault(asked.transaction, {})
        for topic, index in asked.partitions:
            topics.setdefault(topic, {})[index] = None
    return AddPartitionsToTxnRequest(
        transactions=[
            AddPartitionsToTxnTransaction(
                transactional_id=transaction.transactional_id,
                producer_id=transaction.producer[0],
                producer_epoch=transaction.producer[1],
                verify_only=transaction.verify_only,
                topics=[
                    AddPartitionsToTxnTopic(name=topic, partitions=list(indexes)) for topic, indexes in topics.items()
                ],
            )
            for transaction, topics in wanted.items()
        ]
    )


def _codes(response: AddPartitionsToTxnResponse) -> dict[str, Codes]:
    return {
        result.transactional_id: {
            TopicPartition(topic.name, partition.partition_index): ERRORS.get(partition.partition_error_code, _UNKNOWN)
            for topic in result.topic_results
            for partition in topic.results_by_partition
        }
        for result in response.results_by_transaction
    }
