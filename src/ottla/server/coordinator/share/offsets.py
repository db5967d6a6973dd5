"""What administrators do with the offsets of a share group, as commands of its machine: move, delete, delete all.

The offsets themselves are at the share coordinator. Each command says what has to be asked of it, and writes down first
that this is under way; the shell comes back with what became of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.alter_share_group_offsets import (
    AlterShareGroupOffsetsRequest,
    AlterShareGroupOffsetsResponse,
    AlterShareGroupOffsetsResponsePartition,
    AlterShareGroupOffsetsResponseTopic,
)
from ottla.protocol.messages.delete_share_group_offsets import (
    DeleteShareGroupOffsetsRequest,
    DeleteShareGroupOffsetsResponseTopic,
)
from ottla.server.coordinator.result import NOTHING, Result
from ottla.server.coordinator.share import records
from ottla.server.coordinator.share.group import ShareStateTopics, StateTopic, joined
from ottla.server.coordinator.share.groups import Initialization, initializing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ottla.server.coordinator.share.groups import ShareGroups
    from ottla.server.metadata.image import MetadataImage, TopicImage

#: Share partitions to forget: topic id → partitions.
Deletion = dict[bytes, frozenset[int]]


class Alteration(NamedTuple):
    """The answer as far as it is known, and where to begin anew; None when there is nothing to move."""

    response: AlterShareGroupOffsetsResponse
    initialization: Initialization | None


class OffsetDeletion(NamedTuple):
    """Topics that are refused, and what has to be forgotten of the others; ``names`` by topic id."""

    refused: list[DeleteShareGroupOffsetsResponseTopic]
    deletion: Deletion
    names: dict[bytes, str]


def alter_offsets(
    machine: ShareGroups, request: AlterShareGroupOffsetsRequest, image: MetadataImage
) -> Result[Alteration]:
    """AlterShareGroupOffsets; a group that does not exist begins so. ApiError GROUP_ID_NOT_FOUND, NON_EMPTY_GROUP."""
    group = machine.find_or_new(request.group_id)
    group.check_delete()
    responses: list[AlterShareGroupOffsetsResponseTopic] = []
    moved: dict[bytes, StateTopic] = {}
    offsets: dict[bytes, dict[int, int]] = {}
    for asked in request.topics:
        topic = image.topics.by_name.get(asked.topic_name)
        partitions = []
        for partition in asked.partitions:
            index = partition.partition_index
            exists = topic is not None and index in topic.partitions
            partitions.append(_altered(index, ErrorCode.NONE if exists else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION))
            if topic is not None and exists:
                offsets.setdefault(topic.topic_id, {})[index] = partition.start_offset
        response = AlterShareGroupOffsetsResponseTopic(topic_name=asked.topic_name, partitions=partitions)
        if topic is not None:
            response.topic_id = topic.topic_id
            if topic.topic_id in offsets:
                moved[topic.topic_id] = StateTopic(topic.name, frozenset(offsets[topic.topic_id]))
        responses.append(response)
    answer = AlterShareGroupOffsetsResponse(responses=responses)
    if not moved:
        return Result(Alteration(answer, None))
    initialization = Initialization(group.group_id, group.group_epoch, offsets)
    return Result(Alteration(answer, initialization), [initializing(group, moved)])


def begin_offset_deletion(
    machine: ShareGroups, request: DeleteShareGroupOffsetsRequest, image: MetadataImage
) -> Result[OffsetDeletion]:
    """DeleteShareGroupOffsets, first half. ApiError GROUP_ID_NOT_FOUND, NON_EMPTY_GROUP."""
    group = machine.group(request.group_id)
    group.check_delete()
    state = group.state_topics
    refused: list[DeleteShareGroupOffsetsResponseTopic] = []
    deletion: Deletion = {}
    names: dict[bytes, str] = {}
    for asked in request.topics:
        topic = image.topics.by_name.get(asked.topic_name)
        partitions = None if topic is None else _deletable(state, topic)
        if topic is None or partitions is None:
            message = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION.message
            if topic is not None:
                message = "There is no offset information to delete."
            refused.append(
                DeleteShareGroupOffsetsResponseTopic(
                    topic_name=asked.topic_name,
                    error_code=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                    error_message=message,
                )
            )
        else:
            deletion[topic.topic_id] = partitions
            names[topic.topic_id] = topic.name
    if not deletion:
        return Result(OffsetDeletion(refused, deletion, names))
    after = ShareStateTopics(
        state.initializing,
        {topic_id: topic for topic_id, topic in state.initialized.items() if topic_id not in deletion},
        {**state.deleting, **names},
    )
    return Result(OffsetDeletion(refused, deletion, names), [records.state_topics(group.group_id, after)])


def offsets_deleted(machine: ShareGroups, group_id: str, topic_ids: Iterable[bytes]) -> Result[None]:
    """DeleteShareGroupOffsets, second half: the share coordinator has forgotten these topics."""
    group = machine.find(group_id)
    gone = frozenset(topic_ids)
    if group is None or not gone & group.state_topics.deleting.keys():
        return NOTHING
    state = group.state_topics
    remaining = {topic_id: name for topic_id, name in state.deleting.items() if topic_id not in gone}
    return Result(None, [records.state_topics(group_id, state._replace(deleting=remaining))])


def begin_group_deletion(machine: ShareGroups, group_id: str, image: MetadataImage) -> Result[Deletion]:
    """DeleteGroups, first half: all share state of the group is to go, also what an earlier try left over.

    ApiError GROUP_ID_NOT_FOUND, NON_EMPTY_GROUP.
    """
    group = machine.group(group_id)
    group.check_delete()
    state = group.state_topics
    topics = joined(state.initialized, state.initializing)
    for topic_id in state.deleting:
        topic = image.topics.by_id.get(topic_id)
        if topic is not None:
            topics = joined(topics, {topic_id: StateTopic(topic.name, frozenset(topic.partitions))})
    deletion = {topic_id: topic.partitions for topic_id, topic in topics.items()}
    if not deletion:
        return Result(deletion)
    after = ShareStateTopics(deleting={topic_id: topic.name for topic_id, topic in topics.items()})
    return Result(deletion, [records.state_topics(group_id, after)])


def _deletable(state: ShareStateTopics, topic: TopicImage) -> frozenset[int] | None:
    """The partitions with share state, all of them when an earlier deletion did not finish; None without any."""
    initialized = state.initialized.get(topic.topic_id)
    if initialized is not None:
        return initialized.partitions
    return frozenset(topic.partitions) if topic.topic_id in state.deleting else None


def _altered(index: int, code: ErrorCode) -> AlterShareGroupOffsetsResponsePartition:
    return AlterShareGroupOffsetsResponsePartition(
        partition_index=index, error_code=code, error_message=None if code is ErrorCode.NONE else code.message
    )
