"""OffsetFetch (key 9), versions 1-10: the committed offsets of groups.

Version notes.  2: null topics ask for all, top-level error.  3: throttle time.  5: leader epoch.  6: flexible.  7:
require_stable (KIP-447).  8: several groups, errors per group (KIP-709).  9: member id and epoch (KIP-848).  10:
topics by id (KIP-848).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.offset_fetch import (
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
    OffsetFetchResponse,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
)
from ottla.server.broker.group_answers import answer_all

if TYPE_CHECKING:
    from ottla.protocol.messages.offset_fetch import OffsetFetchRequest
    from ottla.server.broker.broker import Broker, DelayedResponse, RequestContext
    from ottla.server.coordinator.result import Pending
    from ottla.server.metadata.image import TopicsImage

_FIRST_VERSION_WITH_TOP_LEVEL_ERROR = 2
_FIRST_VERSION_WITH_GROUPS = 8
_FIRST_VERSION_WITH_TOPIC_IDS = 10


def handle(
    broker: Broker, request: OffsetFetchRequest, context: RequestContext
) -> OffsetFetchResponse | DelayedResponse:
    """Answered at once, unless a commit of the group still waits for its replicas."""
    version = context.api_version
    groups = request.groups
    if version < _FIRST_VERSION_WITH_GROUPS:
        topics = None
        if request.topics is not None:
            topics = [
                OffsetFetchRequestTopics(name=topic.name, partition_indexes=topic.partition_indexes)
                for topic in request.topics
            ]
        groups = [OffsetFetchRequestGroup(group_id=request.group_id, topics=topics)]
    if version < _FIRST_VERSION_WITH_TOPIC_IDS:
        outcomes: list[OffsetFetchResponseGroup | Pending[OffsetFetchResponseGroup]] = [
            broker.groups.fetch_offsets(group, require_stable=request.require_stable) for group in groups
        ]
    else:
        known = broker.image.topics
        outcomes = []
        for group in groups:
            existing = _named(group, known)
            outcomes.append(broker.groups.fetch_offsets(existing, require_stable=request.require_stable))

    def shape(answers: list[OffsetFetchResponseGroup]) -> OffsetFetchResponse:
        if version < _FIRST_VERSION_WITH_GROUPS:
            return _single(request, answers[0], version)
        if version >= _FIRST_VERSION_WITH_TOPIC_IDS:
            answers = [_by_id(group, found, known) for group, found in zip(groups, answers, strict=True)]
        return OffsetFetchResponse(groups=answers)

    return answer_all(outcomes, shape)


def error_response(
    request: OffsetFetchRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> OffsetFetchResponse:
    """The same code for every group; before version 8 there is one."""
    if context.api_version < _FIRST_VERSION_WITH_GROUPS:
        return _single(request, OffsetFetchResponseGroup(error_code=code), context.api_version)
    return OffsetFetchResponse(
        groups=[OffsetFetchResponseGroup(group_id=group.group_id, error_code=code) for group in request.groups]
    )


def _named(group: OffsetFetchRequestGroup, known: TopicsImage) -> OffsetFetchRequestGroup:
    """The group with those of its topics that exist, named."""
    topics = None
    if group.topics is not None:
        topics = [
            OffsetFetchRequestTopics(name=name, topic_id=topic.topic_id, partition_indexes=topic.partition_indexes)
            for topic in group.topics
            if (name := known.name_of(topic.topic_id)) is not None
        ]
    return OffsetFetchRequestGroup(
        group_id=group.group_id, member_id=group.member_id, member_epoch=group.member_epoch, topics=topics
    )


def _by_id(
    group: OffsetFetchRequestGroup, found: OffsetFetchResponseGroup, known: TopicsImage
) -> OffsetFetchResponseGroup:
    """The group's answer with topic ids: unknown ones refused, and (all topics asked) deleted topics left out."""
    if found.error_code:
        return found
    if group.topics is None:
        topics = []
        for topic in found.topics:
            topic_id = known.id_of(topic.name)
            if topic_id is not None:
                topic.topic_id = topic_id
                topics.append(topic)
    else:
        existing = iter(found.topics)
        topics = [
            next(existing) if known.name_of(topic.topic_id) is not None else _unknown_id(topic)
            for topic in group.topics
        ]
    return OffsetFetchResponseGroup(group_id=group.group_id, topics=topics)


def _unknown_id(topic: OffsetFetchRequestTopics) -> OffsetFetchResponseTopics:
    return OffsetFetchResponseTopics(
        topic_id=topic.topic_id,
        partitions=[
            OffsetFetchResponsePartitions(
                partition_index=index, committed_offset=-1, metadata="", error_code=ErrorCode.UNKNOWN_TOPIC_ID
            )
            for index in topic.partition_indexes
        ],
    )


def _single(request: OffsetFetchRequest, group: OffsetFetchResponseGroup, version: int) -> OffsetFetchResponse:
    """The answer of one group as versions 1 to 7 write it; version 1 has no place for an error but the partitions."""
    if group.error_code and version < _FIRST_VERSION_WITH_TOP_LEVEL_ERROR:
        topics = [
            OffsetFetchResponseTopic(
                name=topic.name,
                partitions=[
                    OffsetFetchResponsePartition(
                        partition_index=index, committed_offset=-1, metadata="", error_code=group.error_code
                    )
                    for index in topic.partition_indexes
                ],
            )
            for topic in request.topics or ()
        ]
        return OffsetFetchResponse(topics=topics)
    return OffsetFetchResponse(
        error_code=group.error_code,
        topics=[
            OffsetFetchResponseTopic(
                name=topic.name,
                partitions=[
                    OffsetFetchResponsePartition(
                        partition_index=partition.partition_index,
                        committed_offset=partition.committed_offset,
                        committed_leader_epoch=partition.committed_leader_epoch,
                        metadata=partition.metadata,
                        error_code=partition.error_code,
                    )
                    for partition in topic.partitions
                ],
            )
            for topic in group.topics
        ],
    )
