"""DeleteRecords (key 21), versions 0-2: raise the start of partitions' logs (KIP-107).

Version notes.  2: flexible.

Offset -1 means the high watermark. The answer's low watermark is the lowest log start over the replicas that are alive;
it waits until that has got where it was asked to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.delete_records import (
    DeleteRecordsPartitionResult,
    DeleteRecordsResponse,
    DeleteRecordsTopicResult,
)
from ottla.server.broker.delayed_delete import UNKNOWN_LOW_WATERMARK, DelayedDelete, Undeleted

if TYPE_CHECKING:
    from ottla.protocol.messages.delete_records import DeleteRecordsPartition, DeleteRecordsRequest
    from ottla.server.broker.broker import Broker, RequestContext

    Answer = DeleteRecordsResponse | DelayedDelete


def handle(broker: Broker, request: DeleteRecordsRequest, context: RequestContext) -> Answer:
    """Move every log start; segments below it go with the next retention run."""
    undeleted: list[Undeleted] = []
    response = DeleteRecordsResponse(
        topics=[
            DeleteRecordsTopicResult(
                name=topic.name,
                partitions=[_delete(broker, topic.name, wanted, undeleted) for wanted in topic.partitions],
            )
            for topic in request.topics
        ]
    )
    return DelayedDelete(response, undeleted, request.timeout_ms) if undeleted else response


def error_response(
    request: DeleteRecordsRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> DeleteRecordsResponse:
    """The same code for every partition."""
    return DeleteRecordsResponse(
        topics=[
            DeleteRecordsTopicResult(
                name=topic.name,
                partitions=[_refused(wanted.partition_index, code) for wanted in topic.partitions],
            )
            for topic in request.topics
        ]
    )


def _delete(
    broker: Broker, topic: str, wanted: DeleteRecordsPartition, undeleted: list[Undeleted]
) -> DeleteRecordsPartitionResult:
    index = wanted.partition_index
    partition = broker.replicas.get(topic, index)
    if partition is None:
        return _refused(index, broker.replicas.missing_partition_error(topic, index, broker.image))
    if broker.replicas.is_internal(topic):
        return _refused(index, ErrorCode.INVALID_TOPIC_EXCEPTION)
    try:
        offset = partition.delete_records_before(wanted.offset)
    except ApiError as error:
        return _refused(index, error.code)
    result = DeleteRecordsPartitionResult(partition_index=index, low_watermark=partition.low_watermark)
    if result.low_watermark < offset:
        undeleted.append(Undeleted(result, partition, offset))
    return result


def _refused(index: int, code: ErrorCode) -> DeleteRecordsPartitionResult:
    return DeleteRecordsPartitionResult(partition_index=index, low_watermark=UNKNOWN_LOW_WATERMARK, error_code=code)
