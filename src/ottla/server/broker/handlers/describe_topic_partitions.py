"""DescribeTopicPartitions (key 75), version 0 (KIP-966): topics in alphabetical order, a page of partitions at a time.

A request without topics means all. The page holds at most `response_partition_limit`, or
`max.request.partition.size.limit`, partitions; `next_cursor` says where the next one begins, and goes into the next
request together with the same list of topics. A cursor that does not fit is INVALID_REQUEST, and since the response has
no place for it, is answered for each topic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.ids import ZERO_UUID
from ottla.core.topics import INTERNAL_TOPICS
from ottla.protocol.messages.describe_topic_partitions import (
    Cursor,
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
)
from ottla.server.broker.authorization import AclOperation, ResourceType, allowed_names, operations_of
from ottla.server.broker.metadata_answers import offline_replicas
from ottla.server.controller.result import is_valid_topic_name

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, RequestContext
    from ottla.server.metadata.image import MetadataImage, TopicImage


def handle(
    broker: Broker, request: DescribeTopicPartitionsRequest, context: RequestContext
) -> DescribeTopicPartitionsResponse:
    """Answer one page from the image."""
    image = broker.image
    cursor = request.cursor
    first_name = cursor.topic_name if cursor is not None else ""
    wanted = [topic.name for topic in request.topics] or list(image.topics.by_name)
    names = sorted(name for name in set(wanted) if name >= first_name)
    if cursor is not None:
        _check_cursor(cursor, names, ask_all=not request.topics)
    # Who asks for all topics has attempted nothing with those that are left out.
    is_attempt = bool(request.topics)
    visible = allowed_names(broker, context, AclOperation.DESCRIBE, ResourceType.TOPIC, names, audited=is_attempt)
    # Not on later pages again: there they stand behind a cursor.
    hidden = [] if not request.topics else [_denied(name) for name in names if name not in visible]
    names = [name for name in names if name in visible]
    limit = max(1, min(broker.config["max.request.partition.size.limit"], request.response_partition_limit))
    topics: list[DescribeTopicPartitionsResponseTopic] = []
    next_cursor: Cursor | None = None
    for name in names:
        if limit <= 0:
            next_cursor = Cursor(topic_name=name, partition_index=0)
            break
        topic = image.topics.by_name.get(name)
        if topic is None:
            topics.append(_failed(name, operations_of(broker, context, ResourceType.TOPIC, name)))
            continue
        start = cursor.partition_index if cursor is not None and name == cursor.topic_name else 0
        end = min(len(topic.partitions), start + limit)
        topics.append(_described(image, topic, range(start, end), context.listener_name))
        topics[-1].topic_authorized_operations = operations_of(broker, context, ResourceType.TOPIC, name)
        if end < len(topic.partitions):
            next_cursor = Cursor(topic_name=name, partition_index=end)
            break
        limit -= max(0, end - start)
    return DescribeTopicPartitionsResponse(topics=topics + hidden, next_cursor=next_cursor)


def error_response(
    request: DescribeTopicPartitionsRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> DescribeTopicPartitionsResponse:
    """The code for each topic that was asked for."""
    topics = [DescribeTopicPartitionsResponseTopic(error_code=code, name=topic.name) for topic in request.topics]
    return DescribeTopicPartitionsResponse(topics=topics)


def _check_cursor(cursor: Cursor, names: list[str], *, ask_all: bool) -> None:
    if not ask_all and cursor.topic_name not in names:
        raise ApiError(
            ErrorCode.INVALID_REQUEST,
            f"DescribeTopicPartitionsRequest topic list should contain the cursor topic: {cursor.topic_name}",
        )
    if cursor.partition_index < 0:
        raise ApiError(
            ErrorCode.INVALID_REQUEST, f"DescribeTopicPartitionsRequest cursor partition must be valid: {cursor}"
        )


def _denied(name: str) -> DescribeTopicPartitionsResponseTopic:
    code = ErrorCode.TOPIC_AUTHORIZATION_FAILED
    return DescribeTopicPartitionsResponseTopic(error_code=code, name=name, topic_id=ZERO_UUID)


def _failed(name: str, operations: int) -> DescribeTopicPartitionsResponseTopic:
    valid = is_valid_topic_name(name)
    return DescribeTopicPartitionsResponseTopic(
        error_code=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION if valid else ErrorCode.INVALID_TOPIC_EXCEPTION,
        name=name,
        topic_id=ZERO_UUID,
        is_internal=name in INTERNAL_TOPICS,
        topic_authorized_operations=operations,
    )


def _described(
    image: MetadataImage, topic: TopicImage, indexes: range, listener_name: str
) -> DescribeTopicPartitionsResponseTopic:
    partitions = []
    for index in indexes:
        partition = topic.partitions[index]
        leader = image.brokers.get(partition.leader)
        reachable = leader is not None and listener_name in leader.endpoints
        partitions.append(
            DescribeTopicPartitionsResponsePartition(
                partition_index=index,
                leader_id=partition.leader if reachable else -1,
                leader_epoch=partition.leader_epoch,
                replica_nodes=list(partition.replicas),
                isr_nodes=list(partition.isr),
                eligible_leader_replicas=list(partition.eligible_leader_replicas),
                last_known_elr=list(partition.last_known_elr),
                offline_replicas=offline_replicas(image.brokers, partition, listener_name),
            )
        )
    return DescribeTopicPartitionsResponseTopic(
        name=topic.name,
        topic_id=topic.topic_id,
        is_internal=topic.name in INTERNAL_TOPICS,
        partitions=partitions,
    )
