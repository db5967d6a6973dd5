"""OffsetCommit (key 8), versions 2-10: store the position of a group in partitions.

Version notes.  2-4: retention_time_ms, an expiry of its own for these offsets.  3: throttle time.  6: leader epoch.
7: group instance id (KIP-345).  8: flexible.  9: GROUP_ID_NOT_FOUND for a member of an absent group (KIP-848).  10:
topics by id (KIP-848).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ErrorCode
from ottla.core.ids import ZERO_UUID
from ottla.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)
from ottla.server.broker.group_answers import answer, answer_plain
from ottla.server.coordinator.service import refused_commit

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, DelayedResponse, RequestContext
    from ottla.server.metadata.image import TopicImage, TopicsImage

_FIRST_VERSION_WITH_TOPIC_IDS = 10


def handle(
    broker: Broker, request: OffsetCommitRequest, context: RequestContext
) -> OffsetCommitResponse | DelayedResponse:
    """Answered at once where this broker is alone in the ISR of the group's partition."""
    topics = broker.image.topics
    version = context.api_version
    for topic in request.topics:
        found = _find(topics, topic, version)
        if found is None or any(partition.partition_index not in found.partitions for partition in topic.partitions):
            return _handle_with_unknown(broker, request, version)
    return answer_plain(broker.groups.commit_offsets(request, version))


def error_response(
    request: OffsetCommitRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> OffsetCommitResponse:
    """The same code for every partition."""
    return refused_commit(request, code)


def _find(topics: TopicsImage, topic: OffsetCommitRequestTopic, version: int) -> TopicImage | None:
    """The topic; what the request does not say of it, name or id, is filled in."""
    if version < _FIRST_VERSION_WITH_TOPIC_IDS:
        found = topics.by_name.get(topic.name)
        topic.topic_id = ZERO_UUID if found is None else found.topic_id
        return found
    found = topics.by_id.get(topic.topic_id)
    if found is not None:
        topic.name = found.name
    return found


def _handle_with_unknown(
    broker: Broker, request: OffsetCommitRequest, version: int
) -> OffsetCommitResponse | DelayedResponse:
    """Commit what exists, and say of each other partition what is unknown about it."""
    topics = broker.image.topics
    existing = []
    refusals: list[dict[int, ErrorCode]] = []
    for topic in request.topics:
        found = _find(topics, topic, version)
        known = () if found is None else found.partitions
        by_id = found is None and version >= _FIRST_VERSION_WITH_TOPIC_IDS
        code = ErrorCode.UNKNOWN_TOPIC_ID if by_id else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        indexes = {partition.partition_index for partition in topic.partitions}
        refusals.append({index: code for index in indexes if index not in known})
        partitions = [partition for partition in topic.partitions if partition.partition_index in known]
        existing.append(OffsetCommitRequestTopic(name=topic.name, topic_id=topic.topic_id, partitions=partitions))
    reduced = OffsetCommitRequest(
        group_id=request.group_id,
        generation_id_or_member_epoch=request.generation_id_or_member_epoch,
        member_id=request.member_id,
        group_instance_id=request.group_instance_id,
        retention_time_ms=request.retention_time_ms,
        topics=existing,
    )

    def merge(response: OffsetCommitResponse) -> OffsetCommitResponse:
        answers = []
        for asked, codes, answered in zip(request.topics, refusals, response.topics, strict=True):
            stored = iter(answered.partitions)
            partitions = [
                OffsetCommitResponsePartition(
                    partition_index=partition.partition_index, error_code=codes[partition.partition_index]
                )
                if partition.partition_index in codes
                else next(stored)
                for partition in asked.partitions
            ]
            answers.append(OffsetCommitResponseTopic(name=asked.name, topic_id=asked.topic_id, partitions=partitions))
        return OffsetCommitResponse(topics=answers)

    if not any(topic.partitions for topic in existing):
        empty = [OffsetCommitResponseTopic() for _ in existing]
        return merge(OffsetCommitResponse(topics=empty))
    return answer(broker.groups.commit_offsets(reduced, version), merge)
