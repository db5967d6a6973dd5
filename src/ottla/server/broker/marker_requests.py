"""Transaction markers on their way to partitions that other brokers lead: WriteTxnMarkers, by leader.

Markers of many transactions share a request. A partition that cannot commit its marker holds up the answer for all of
its request, so a few requests to each broker are in flight at a time, on connections of their own.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from ottla.core.errors import ERRORS, ErrorCode
from ottla.core.ids import TopicPartition
from ottla.protocol.messages.write_txn_markers import (
    WritableTxnMarker,
    WritableTxnMarkerTopic,
    WriteTxnMarkersRequest,
    WriteTxnMarkersResponse,
)
from ottla.server.broker.neighbours import Neighbours
from ottla.server.broker.outbox import Outbox
from ottla.server.peers.errors import PeerError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ottla.server.broker.broker import Broker
    from ottla.server.broker.transaction_markers import Written
    from ottla.server.coordinator.transactions.completion import TransactionMarker

logger = logging.getLogger(__name__)

REQUESTS_IN_FLIGHT = 4

_UNKNOWN = ErrorCode.UNKNOWN_SERVER_ERROR


class _Asked(NamedTuple):
    marker: TransactionMarker
    partition: TopicPartition
    written: Written


class MarkerRequests:
    """Sends markers, once; whoever is told of an error finds the leader and sends again."""

    __slots__ = ("_neighbours", "_outbox")

    def __init__(self, broker: Broker) -> None:
        self._neighbours = Neighbours(broker)
        self._outbox: Outbox[int, _Asked] = Outbox(
            self._deliver,
            # Answers are by producer id: a request has one marker of each.
            lambda asked: (asked.marker.producer_id, asked.marker),
            requests_in_flight=REQUESTS_IN_FLIGHT,
        )

    def send(self, node_id: int, marker: TransactionMarker, partition: TopicPartition, written: Written) -> None:
        """Have the broker write the marker into a partition that it leads; ``written`` is told, later, what became of
        it. No answer is NETWORK_EXCEPTION: the marker may be there or not.
        """
        self._outbox.put(node_id, _Asked(marker, partition, written))

    def stop(self) -> None:
        """Tell nobody any more."""
        self._outbox.stop()

    async def _deliver(self, node_id: int, number: int, batch: list[_Asked]) -> None:
        otherwise = _UNKNOWN
        codes: dict[tuple[int, TopicPartition], ErrorCode] = {}
        try:
            response = await self._neighbours.ask(node_id, _request(batch), channel=f"transaction markers {number}")
            codes = _codes(response)
        except PeerError as error:
            logger.info("no answer about transaction markers from broker %d: %s", node_id, error)
            otherwise = ErrorCode.NETWORK_EXCEPTION
        for marker, partition, written in batch:
            code = codes.get((marker.producer_id, partition), otherwise)
            if code is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
                # It does not host the partition (yet). Whether there is one at all our own metadata says.
                code = ErrorCode.NOT_LEADER_OR_FOLLOWER
            written(partition, code)


def _request(batch: Iterable[_Asked]) -> WriteTxnMarkersRequest:
    wanted: dict[TransactionMarker, dict[str, dict[int, None]]] = {}
    for asked in batch:
        topic, index = asked.partition
        wanted.setdefault(asked.marker, {}).setdefault(topic, {})[index] = None
    return WriteTxnMarkersRequest(
        markers=[
            WritableTxnMarker(
                producer_id=marker.producer_id,
                producer_epoch=marker.producer_epoch,
                transaction_result=marker.is_commit,
                topics=[
                    WritableTxnMarkerTopic(name=topic, partition_indexes=list(indexes))
                    for topic, indexes in topics.items()
                ],
                coordinator_epoch=marker.coordinator_epoch,
                transaction_version=marker.transaction_version,
            )
            for marker, topics in wanted.items()
        ]
    )


def _codes(response: WriteTxnMarkersResponse) -> dict[tuple[int, TopicPartition], ErrorCode]:
    return {
        (result.producer_id, TopicPartition(topic.name, partition.partition_index)): ERRORS.get(
            partition.error_code, _UNKNOWN
        )
        for result in response.markers
        for topic in result.topics
        for partition in topic.partitions
    }
