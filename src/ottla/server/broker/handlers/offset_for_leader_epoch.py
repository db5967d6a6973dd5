"""OffsetForLeaderEpoch (key 23), versions 2-4: where a leader epoch ended (KIP-101, KIP-279, KIP-320).

Version notes.  3: replica_id (-1 a consumer, -2 one who does not say).  4: flexible.

Answers the largest known epoch that is not above the asked one, and its exclusive end offset; (-1, -1) when there is
none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.offset_for_leader_epoch import (
    EpochEndOffset,
    OffsetForLeaderEpochResponse,
    OffsetForLeaderTopicResult,
)

if TYPE_CHECKING:
    from ottla.protocol.messages.offset_for_leader_epoch import OffsetForLeaderEpochRequest, OffsetForLeaderPartition
    from ottla.server.broker.broker import Broker, RequestContext


def handle(
    broker: Broker, request: OffsetForLeaderEpochRequest, context: RequestContext
) -> OffsetForLeaderEpochResponse:
    """Look every partition's epoch up in its leader-epoch cache."""
    return OffsetForLeaderEpochResponse(
        topics=[
            OffsetForLeaderTopicResult(
                topic=topic.topic, partitions=[_answer(broker, topic.topic, wanted) for wanted in topic.partitions]
            )
            for topic in request.topics
        ]
    )


def error_response(
    request: OffsetForLeaderEpochRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> OffsetForLeaderEpochResponse:
    """The same code for every partition."""
    return OffsetForLeaderEpochResponse(
        topics=[
            OffsetForLeaderTopicResult(
                topic=topic.topic,
                partitions=[EpochEndOffset(partition=wanted.partition, error_code=code) for wanted in topic.partitions],
            )
            for topic in request.topics
        ]
    )


def _answer(broker: Broker, topic: str, wanted: OffsetForLeaderPartition) -> EpochEndOffset:
    answer = EpochEndOffset(partition=wanted.partition)
    try:
        partition = broker.replicas.get(topic, wanted.partition)
        if partition is None:
            raise ApiError(broker.replicas.missing_partition_error(topic, wanted.partition, broker.image))
        if error := partition.check_leader_epoch(wanted.current_leader_epoch):
            raise ApiError(error)
        answer.leader_epoch, answer.end_offset = partition.end_offset_for_epoch(wanted.leader_epoch)
    except ApiError as error:
        answer.error_code = error.code
    return answer
