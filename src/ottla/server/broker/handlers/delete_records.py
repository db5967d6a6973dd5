"""DeleteRecords (key 21), versions 0-2: raise the start of partitions' logs (KIP-107).

Version notes.  2: flexible.

Offset -1 means the high watermark. The answer's low watermark is the lowest log start over the replicas: here, the
leader's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.delete_records import (
    DeleteRecordsPartitionResult,
    DeleteRecordsResponse,
    DeleteRecordsTopicResult,
)

if TYPE_CHECKING:
    from ottla.protocol.messages.delete_records import DeleteRecordsPartition, DeleteRecordsRequest
    from ottla.server.broker.broker import Broker, RequestContext

_UNKNOWN_LOW_WATERMARK = -1


def handle(broker: Broker, request: DeleteRecordsRequest, context: RequestContext) -> DeleteRecordsResponse:
    """Move every log start; segments below it go with the next retention run."""
    return DeleteRecordsResponse(
        topics=[
            DeleteRecordsTopicResult(
                name=topic.name, partitions=[_delete(broker, topic.name, wanted) for wanted in topic.partitions]
            )
            for topic in request.topics
        ]
    )


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


def _delete(broker: Broker, topic: str, wanted: DeleteRecordsPartition) -> DeleteRecordsPartitionResult:
    index = wanted.partition_index
    partition = broker.replicas.get(topic, index)
    if partition is None:
        return _refused(index, broker.replicas.missing_partition_error(topic, index, broker.image))
    if broker.replicas.is_internal(topic):
        return _refused(index, ErrorCode.INVALID_TOPIC_EXCEPTION)
    try:
        partition.delete_records_before(wanted.offset)
        low_watermark = partition.low_watermark
    except ApiError as error:
        return _refused(index, error.code)
    return DeleteRecordsPartitionResult(partition_index=index, low_watermark=low_watermark)


def _refused(index: int, code: ErrorCode) -> DeleteRecordsPartitionResult:
    return DeleteRecordsPartitionResult(partition_index=index, low_watermark=_UNKNOWN_LOW_WATERMARK, error_code=code)
