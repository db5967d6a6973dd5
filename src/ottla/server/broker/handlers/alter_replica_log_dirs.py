"""AlterReplicaLogDirs (key 34), versions 1-2: move replicas of this broker to other data directories (KIP-113).

Version notes. 2: flexible.

The answer says that a move was begun; DescribeLogDirs shows how far it is. Naming the directory in which the replica
lies gives up a move that is under way. A directory for a partition that is not here yet is remembered until it is
made, and answered with REPLICA_NOT_AVAILABLE all the same.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ottla.core.errors import ErrorCode
from ottla.core.ids import TopicPartition
from ottla.protocol.messages.alter_replica_log_dirs import (
    AlterReplicaLogDirPartitionResult,
    AlterReplicaLogDirsResponse,
    AlterReplicaLogDirTopicResult,
)
from ottla.runtime.disk import DiskError

if TYPE_CHECKING:
    from ottla.protocol.messages.alter_replica_log_dirs import AlterReplicaLogDirsRequest
    from ottla.server.broker.broker import Broker, RequestContext

logger = logging.getLogger(__name__)

LONGEST_NAME = 255
# A dash, the partition, a dot, 32 digits and "-future".
MARK_LENGTH = 1 + 1 + 32 + 7


def handle(broker: Broker, request: AlterReplicaLogDirsRequest, context: RequestContext) -> AlterReplicaLogDirsResponse:
    """Begin, change or give up the move of each replica."""
    wanted = {
        TopicPartition(topic.name, partition): directory.path
        for directory in request.dirs
        for topic in directory.topics
        for partition in topic.partitions
    }
    topics: dict[str, AlterReplicaLogDirTopicResult] = {}
    for key, path in wanted.items():
        code = _alter(broker, key, path)
        if code is not ErrorCode.NONE:
            logger.warning("%s is not moved to %s: %s", key, path, code.name)
        result = topics.setdefault(key.topic, AlterReplicaLogDirTopicResult(topic_name=key.topic))
        result.partitions.append(AlterReplicaLogDirPartitionResult(partition_index=key.partition, error_code=code))
    return AlterReplicaLogDirsResponse(results=list(topics.values()))


def error_response(
    request: AlterReplicaLogDirsRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> AlterReplicaLogDirsResponse:
    """The same code for every partition."""
    return AlterReplicaLogDirsResponse(
        results=[
            AlterReplicaLogDirTopicResult(
                topic_name=topic.name,
                partitions=[
                    AlterReplicaLogDirPartitionResult(partition_index=index, error_code=code)
                    for index in topic.partitions
                ],
            )
            for directory in request.dirs
            for topic in directory.topics
        ]
    )


def _alter(broker: Broker, key: TopicPartition, path: str) -> ErrorCode:
    directories = broker.log_directories
    if len(key.topic) + len(str(key.partition)) + MARK_LENGTH > LONGEST_NAME:
        return ErrorCode.INVALID_TOPIC_EXCEPTION
    destination = directories.named(path)
    if destination is None:
        return ErrorCode.LOG_DIR_NOT_FOUND
    if destination.failure is not None:
        return ErrorCode.KAFKA_STORAGE_ERROR
    if destination.path in {cordoned.rstrip("/") for cordoned in broker.config["cordoned.log.dirs"]}:
        return ErrorCode.INVALID_REPLICA_ASSIGNMENT
    log = directories.get(key)
    if broker.replicas.get(*key) is None or log is None:
        missing = broker.replicas.missing_partition_error(*key, broker.image)
        if missing is ErrorCode.KAFKA_STORAGE_ERROR:
            return missing
        directories.prefer(key, destination)
        return ErrorCode.REPLICA_NOT_AVAILABLE
    moves = directories.moves
    move = moves.get(key)
    if move is not None:
        if move.destination is destination:
            return ErrorCode.NONE
        moves.cancel(key)
    home = directories.directory_of(key)
    if home is destination:
        return ErrorCode.NONE
    if directories.offline or home is None or home.failure is not None:
        # Another copy of it may lie in a directory that can not be looked at.
        return ErrorCode.KAFKA_STORAGE_ERROR
    try:
        moves.begin(log, destination)
    except DiskError:
        return ErrorCode.KAFKA_STORAGE_ERROR
    return ErrorCode.NONE
