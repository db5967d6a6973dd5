"""WriteTxnMarkers (key 27), versions 1-2: end transactions in partitions that this broker leads.

Version notes.  1: flexible.  2: the transaction.version of each marker (KIP-1228), which says how strictly its producer
epoch is checked.

Transaction coordinators of other brokers send it, and `kafka-transactions abort` (KIP-664).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ErrorCode
from ottla.core.ids import TopicPartition
from ottla.protocol.messages.write_txn_markers import (
    WritableTxnMarker,
    WritableTxnMarkerPartitionResult,
    WritableTxnMarkerResult,
    WritableTxnMarkerTopicResult,
    WriteTxnMarkersRequest,
    WriteTxnMarkersResponse,
)
from ottla.server.broker.broker import DelayedResponse
from ottla.server.broker.transaction_markers import Written, write_marker
from ottla.server.coordinator.transactions.completion import TransactionMarker

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, RequestContext


def handle(
    broker: Broker, request: WriteTxnMarkersRequest, context: RequestContext
) -> WriteTxnMarkersResponse | DelayedResponse:
    """Answered when the last marker is committed."""
    answer = _Answer(request)
    for number, marker in enumerate(request.markers):
        content = TransactionMarker(
            marker.producer_id,
            marker.producer_epoch,
            marker.transaction_result,
            marker.coordinator_epoch,
            marker.transaction_version,
        )
        for topic in marker.topics:
            for index in topic.partition_indexes:
                partition = TopicPartition(topic.name, index)
                if topic.name not in broker.replicas.by_name or broker.replicas.get(*partition) is None:
                    answer.settle(number, partition, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
                else:
                    write_marker(broker, content, partition, answer.settler(number))
    return answer.response_or_wait()


def error_response(
    request: WriteTxnMarkersRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> WriteTxnMarkersResponse:
    """The same code for every partition of every marker."""
    return WriteTxnMarkersResponse(markers=[_result(marker, {}, code) for marker in request.markers])


class _Answer:
    """Collects what became of each marker in each partition."""

    __slots__ = ("_codes", "_delayed", "_missing", "_request")

    def __init__(self, request: WriteTxnMarkersRequest) -> None:
        self._request = request
        self._codes: list[dict[TopicPartition, ErrorCode]] = [{} for _ in request.markers]
        self._missing = sum(len(topic.partition_indexes) for marker in request.markers for topic in marker.topics)
        self._delayed: DelayedResponse | None = None

    def settler(self, number: int) -> Written:
        """`settle` for one marker."""
        return lambda partition, code: self.settle(number, partition, code)

    def settle(self, number: int, partition: TopicPartition, code: ErrorCode) -> None:
        """One marker in one partition is committed, or refused."""
        self._codes[number][partition] = code
        self._missing -= 1
        if not self._missing and self._delayed is not None:
            self._delayed.respond_with(self._response)

    def response_or_wait(self) -> WriteTxnMarkersResponse | DelayedResponse:
        """The response, now or later."""
        if self._missing <= 0:
            return self._response()
        self._delayed = DelayedResponse()
        return self._delayed

    def _response(self) -> WriteTxnMarkersResponse:
        return WriteTxnMarkersResponse(
            markers=[
                _result(marker, codes, ErrorCode.NONE)
                for marker, codes in zip(self._request.markers, self._codes, strict=True)
            ]
        )


def _result(
    marker: WritableTxnMarker, codes: dict[TopicPartition, ErrorCode], otherwise: ErrorCode
) -> WritableTxnMarkerResult:
    return WritableTxnMarkerResult(
        producer_id=marker.producer_id,
        topics=[
            WritableTxnMarkerTopicResult(
                name=topic.name,
                partitions=[
                    WritableTxnMarkerPartitionResult(
                        partition_index=index, error_code=codes.get(TopicPartition(topic.name, index), otherwise)
                    )
                    for index in topic.partition_indexes
                ],
            )
            for topic in marker.topics
        ],
    )
