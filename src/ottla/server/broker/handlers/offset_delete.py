"""OffsetDelete (key 47), version 0: forget offsets of a group in topics that it does not consume (KIP-496)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestTopic,
    OffsetDeleteResponse,
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
)
from ottla.server.broker.group_answers import answer, partition_exists

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, DelayedResponse, RequestContext


def handle(
    broker: Broker, request: OffsetDeleteRequest, context: RequestContext
) -> OffsetDeleteResponse | DelayedResponse:
    """Partitions that do not exist are refused one by one; a refused group leaves the topics empty."""
    image = broker.image
    existing = [
        OffsetDeleteRequestTopic(
            name=topic.name,
            partitions=[
                partition
                for partition in topic.partitions
                if partition_exists(image, topic.name, partition.partition_index)
            ],
        )
        for topic in request.topics
    ]

    def merge(response: OffsetDeleteResponse) -> OffsetDeleteResponse:
        if response.error_code:
            return response
        answers = []
        for asked, answered in zip(request.topics, response.topics, strict=True):
            codes = {partition.partition_index: partition.error_code for partition in answered.partitions}
            partitions = [
                OffsetDeleteResponsePartition(
                    partition_index=partition.partition_index,
                    error_code=codes.get(partition.partition_index, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
                )
                for partition in asked.partitions
            ]
            answers.append(OffsetDeleteResponseTopic(name=asked.name, partitions=partitions))
        return OffsetDeleteResponse(topics=answers)

    reduced = OffsetDeleteRequest(group_id=request.group_id, topics=existing)
    return answer(broker.groups.delete_offsets(reduced), merge)
