"""DescribeProducers (key 61), version 0: the producers a partition remembers, and their open transactions (KIP-664)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.describe_producers import (
    DescribeProducersResponse,
    PartitionResponse,
    ProducerState,
    TopicResponse,
)
from ottla.server.controller.result import is_valid_topic_name

if TYPE_CHECKING:
    from ottla.protocol.messages.describe_producers import DescribeProducersRequest
    from ottla.server.broker.broker import Broker, RequestContext


def handle(broker: Broker, request: DescribeProducersRequest, context: RequestContext) -> DescribeProducersResponse:
    """List every partition's producer states, as far as this broker knows: followers are asked as well."""
    return DescribeProducersResponse(
        topics=[
            TopicResponse(
                name=topic.name, partitions=[_describe(broker, topic.name, index) for index in topic.partition_indexes]
            )
            for topic in request.topics
        ]
    )


def error_response(
    request: DescribeProducersRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> DescribeProducersResponse:
    """The same code for every partition."""
    return DescribeProducersResponse(
        topics=[
            TopicResponse(
                name=topic.name,
                partitions=[
                    PartitionResponse(partition_index=index, error_code=code, error_message=message)
                    for index in topic.partition_indexes
                ],
            )
            for topic in request.topics
        ]
    )


def _describe(broker: Broker, topic: str, index: int) -> PartitionResponse:
    if not is_valid_topic_name(topic):
        code = ErrorCode.INVALID_TOPIC_EXCEPTION
        return PartitionResponse(partition_index=index, error_code=code, error_message=code.message)
    partition = broker.replicas.get(topic, index)
    if partition is None:
        code = broker.replicas.missing_partition_error(topic, index, broker.image)
        return PartitionResponse(partition_index=index, error_code=code, error_message=code.message)
    return PartitionResponse(
        partition_index=index,
        active_producers=[
            ProducerState(
                producer_id=state.producer_id,
                producer_epoch=state.producer_epoch,
                last_sequence=state.last_sequence,
                last_timestamp=state.last_timestamp_ms,
                coordinator_epoch=state.coordinator_epoch,
                current_txn_start_offset=state.current_transaction_first_offset,
            )
            for state in partition.log.producers()
        ],
    )
