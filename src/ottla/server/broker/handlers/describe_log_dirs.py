"""DescribeLogDirs (key 35), versions 1-5: what lies in each log directory (KIP-113).

Version notes. 2: flexible. 3: top-level error code. 4: total and usable bytes of the volume (KIP-827). 5: cordoned
directories (KIP-1066).

A directory that failed is listed with KAFKA_STORAGE_ERROR. The lag of a replica in its own directory is 0; that of a
copy which is being made there (a future replica) is what it still misses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.describe_log_dirs import (
    DescribeLogDirsPartition,
    DescribeLogDirsResponse,
    DescribeLogDirsResult,
    DescribeLogDirsTopic,
)

if TYPE_CHECKING:
    from ottla.protocol.messages.describe_log_dirs import DescribeLogDirsRequest
    from ottla.server.broker.broker import Broker, RequestContext
    from ottla.server.log.directories import DirectoryDescription


async def handle(broker: Broker, request: DescribeLogDirsRequest, context: RequestContext) -> DescribeLogDirsResponse:
    """List every directory with those of its partitions that were asked for; null topics ask for all."""
    wanted: dict[str, set[int]] | None = None
    if request.topics is not None:
        wanted = {}
        for topic in request.topics:
            wanted.setdefault(topic.topic, set()).update(topic.partitions)
    cordoned = {path.rstrip("/") for path in broker.config["cordoned.log.dirs"]}
    directories = await broker.log_directories.describe()
    return DescribeLogDirsResponse(results=[_describe(directory, wanted, cordoned) for directory in directories])


def _describe(
    directory: DirectoryDescription, wanted: dict[str, set[int]] | None, cordoned: set[str]
) -> DescribeLogDirsResult:
    if directory.failure is not None:
        return DescribeLogDirsResult(log_dir=directory.path, error_code=ErrorCode.KAFKA_STORAGE_ERROR)
    topics: dict[str, DescribeLogDirsTopic] = {}
    found = [(log, 0, False) for log in directory.logs]
    found += [(move.future, move.offset_lag, True) for move in directory.futures]
    for log, offset_lag, is_future in found:
        name, index = log.topic_partition
        if wanted is None or index in wanted.get(name, ()):
            topic = topics.get(name)
            if topic is None:
                topic = topics[name] = DescribeLogDirsTopic(name=name)
            topic.partitions.append(
                DescribeLogDirsPartition(
                    partition_index=index,
                    partition_size=log.size_in_bytes,
                    offset_lag=offset_lag,
                    is_future_key=is_future,
                )
            )
    return DescribeLogDirsResult(
        log_dir=directory.path,
        topics=list(topics.values()),
        total_bytes=directory.total_bytes,
        usable_bytes=directory.usable_bytes,
        is_cordoned=directory.path in cordoned,
    )
