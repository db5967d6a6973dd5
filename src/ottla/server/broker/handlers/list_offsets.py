"""ListOffsets (key 2), versions 1-11: offsets by time, and the special places of a log.

Version notes. 2: isolation level. 4: leader epochs. 6: flexible. 7: -3, the record with the largest timestamp
(KIP-734). 8: -4, the local log start (KIP-405). 9: -5, the last tiered offset (KIP-1005). 10: timeout_ms for remote
reads. 11: -6, the first offset not yet tiered (KIP-1023).

A leader that has not committed anything of its own epoch yet does not know how far its predecessor had got: it tells
consumers no latest offset, and of others only those that are surely committed (OFFSET_NOT_AVAILABLE, KIP-207).

Nothing is tiered here: the local start is the log start, and what asks for tiering (-5, -6) has no answer, as in Kafka
without remote storage. An empty log starts in the epoch of its leader, who will write its first record.
Searching by time reads records between two index entries, so it goes to a worker thread.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.list_offsets import (
    ListOffsetsPartitionResponse,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)
from ottla.records.batch import CorruptRecordError
from ottla.runtime.disk import DiskError

if TYPE_CHECKING:
    from ottla.protocol.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest
    from ottla.server.broker.broker import Broker, RequestContext
    from ottla.server.replication.partition import Partition

logger = logging.getLogger(__name__)

LATEST = -1
EARLIEST = -2
MAX_TIMESTAMP = -3
EARLIEST_LOCAL = -4
LATEST_TIERED = -5
EARLIEST_PENDING_UPLOAD = -6

_MIN_VERSION = {
    LATEST: 1,
    EARLIEST: 1,
    MAX_TIMESTAMP: 7,
    EARLIEST_LOCAL: 8,
    LATEST_TIERED: 9,
    EARLIEST_PENDING_UPLOAD: 11,
}
_NOTHING = -1
CONSUMER_REPLICA_ID = -1
DEBUGGING_REPLICA_ID = -2
_FIRST_NOT_AVAILABLE_VERSION = 5
_FIRST_VERSION_WITH_EPOCH = 4


def handle(
    broker: Broker, request: ListOffsetsRequest, context: RequestContext
) -> ListOffsetsResponse | Awaitable[ListOffsetsResponse]:
    """Answer from memory where that is enough, else search the logs."""
    searching: list[tuple[Partition, ListOffsetsPartition, ListOffsetsPartitionResponse]] = []
    duplicates = _duplicates(request)
    topics = []
    for topic in request.topics:
        answers = []
        for wanted in topic.partitions:
            answer = ListOffsetsPartitionResponse(partition_index=wanted.partition_index)
            answers.append(answer)
            if (topic.name, wanted.partition_index) in duplicates:
                answer.error_code = ErrorCode.INVALID_REQUEST
                continue
            try:
                partition = _find(broker, topic.name, wanted, request.replica_id, context.api_version)
                if wanted.timestamp >= 0 or wanted.timestamp == MAX_TIMESTAMP:
                    searching.append((partition, wanted, answer))
                else:
                    if wanted.timestamp == LATEST and _is_behind(partition, request):
                        raise ApiError(_not_available(context.api_version))
                    _special(partition, wanted.timestamp, request, answer)
                    if context.api_version < _FIRST_VERSION_WITH_EPOCH:
                        answer.leader_epoch = _NOTHING
            except ApiError as error:
                answer.error_code = error.code
        topics.append(ListOffsetsTopicResponse(name=topic.name, partitions=answers))
    response = ListOffsetsResponse(topics=topics)
    if searching:
        return _search_all(broker, request, context.api_version, searching, response)
    return response


def error_response(
    request: ListOffsetsRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> ListOffsetsResponse:
    """The same code for every partition."""
    return ListOffsetsResponse(
        topics=[
            ListOffsetsTopicResponse(
                name=topic.name,
                partitions=[
                    ListOffsetsPartitionResponse(partition_index=wanted.partition_index, error_code=code)
                    for wanted in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )


def _duplicates(request: ListOffsetsRequest) -> set[tuple[str, int]]:
    seen: set[tuple[str, int]] = set()
    twice = set()
    for topic in request.topics:
        for wanted in topic.partitions:
            key = (topic.name, wanted.partition_index)
            if key in seen:
                twice.add(key)
            seen.add(key)
    return twice


def _find(broker: Broker, topic: str, wanted: ListOffsetsPartition, replica_id: int, version: int) -> Partition:
    if wanted.timestamp < 0 and version < _MIN_VERSION.get(wanted.timestamp, version + 1):
        raise ApiError(ErrorCode.UNSUPPORTED_VERSION)
    partition = broker.replicas.get(topic, wanted.partition_index)
    if partition is None:
        raise ApiError(broker.replicas.missing_partition_error(topic, wanted.partition_index, broker.image))
    if error := partition.check_leader_epoch(
        wanted.current_leader_epoch, leader_only=replica_id != DEBUGGING_REPLICA_ID
    ):
        raise ApiError(error)
    return partition


def _is_behind(partition: Partition, request: ListOffsetsRequest) -> bool:
    """Whether a consumer asks a new leader that does not know yet what is committed."""
    return (
        request.replica_id == CONSUMER_REPLICA_ID
        and partition.is_leader
        and partition.leader_epoch_start_offset > partition.log.high_watermark
    )


def _not_available(version: int) -> ErrorCode:
    return ErrorCode.OFFSET_NOT_AVAILABLE if version >= _FIRST_NOT_AVAILABLE_VERSION else ErrorCode.LEADER_NOT_AVAILABLE


def _end_offset(partition: Partition, request: ListOffsetsRequest) -> int:
    """Exclusive end of what the asker can fetch: followers see the whole log."""
    if request.replica_id >= 0:
        return partition.log.log_end_offset
    return partition.readable_end_offset(request.isolation_level)


def _special(
    partition: Partition, timestamp: int, request: ListOffsetsRequest, answer: ListOffsetsPartitionResponse
) -> None:
    """Fill in a place that needs no search; the timestamp stays -1."""
    log = partition.log
    if timestamp in (LATEST_TIERED, EARLIEST_PENDING_UPLOAD):
        answer.offset = _NOTHING
        return
    if timestamp == LATEST:
        answer.offset = _end_offset(partition, request)
        answer.leader_epoch = partition.leader_epoch
    else:
        answer.offset = log.log_start_offset
        is_empty = log.log_start_offset == log.log_end_offset
        answer.leader_epoch = partition.leader_epoch if is_empty else log.epoch_for_offset(answer.offset)


async def _search_all(
    broker: Broker,
    request: ListOffsetsRequest,
    version: int,
    searching: list[tuple[Partition, ListOffsetsPartition, ListOffsetsPartitionResponse]],
    response: ListOffsetsResponse,
) -> ListOffsetsResponse:
    for partition, wanted, answer in searching:
        end_offset = _end_offset(partition, request)
        log = partition.log
        is_maximum = wanted.timestamp == MAX_TIMESTAMP
        search = log.max_timestamp_search() if is_maximum else log.timestamp_search(wanted.timestamp)
        try:
            found = await broker.env.run_blocking(search)
        except DiskError as error:
            answer.error_code = log.storage_error(error).code
            continue
        except CorruptRecordError as error:
            logger.error("%s cannot be searched: %s", log.topic_partition, error)
            answer.error_code = ErrorCode.CORRUPT_MESSAGE
            continue
        if found is not None and found.offset < end_offset:
            answer.timestamp = found.timestamp_ms
            answer.offset = found.offset
            if version >= _FIRST_VERSION_WITH_EPOCH:
                answer.leader_epoch = found.leader_epoch
        elif _is_behind(partition, request):
            answer.error_code = _not_available(version)
    return response
