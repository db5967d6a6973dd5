"""Where partitions end, wherever their leaders are: what the lag of a share group is counted from."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ottla.core.errors import ERRORS, ErrorCode
from ottla.core.ids import TopicPartition
from ottla.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from ottla.server.broker.neighbours import NOBODY, Neighbours, leader_of
from ottla.server.peers.errors import PeerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ottla.server.broker.broker import Broker

_CONSUMER = -1
_LATEST = -1
_CHANNEL = "end offsets"

EndOffsets = dict[TopicPartition, int | ErrorCode]
"""High watermarks, or why one cannot be told."""


async def end_offsets(broker: Broker, partitions: Iterable[TopicPartition]) -> EndOffsets:
    """The high watermark of each partition, asked of its leader."""
    found: EndOffsets = {}
    elsewhere: dict[int, list[TopicPartition]] = {}
    for partition in partitions:
        leader = leader_of(broker, *partition)
        if leader not in (broker.node_id, NOBODY):
            elsewhere.setdefault(leader, []).append(partition)
            continue
        hosted = broker.replicas.get(*partition)
        if hosted is not None and leader == broker.node_id:
            found[partition] = hosted.log.high_watermark
        elif broker.image.topics.partition(*partition) is None:
            found[partition] = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        else:
            found[partition] = ErrorCode.LEADER_NOT_AVAILABLE
    if elsewhere:
        neighbours = Neighbours(broker)
        answers = [_asked(neighbours, leader, wanted) for leader, wanted in elsewhere.items()]
        for answer in await asyncio.gather(*answers):
            found.update(answer)
    return found


async def _asked(neighbours: Neighbours, leader: int, partitions: Sequence[TopicPartition]) -> EndOffsets:
    topics: dict[str, list[ListOffsetsPartition]] = {}
    for topic, index in partitions:
        topics.setdefault(topic, []).append(ListOffsetsPartition(partition_index=index, timestamp=_LATEST))
    request = ListOffsetsRequest(
        replica_id=_CONSUMER,
        topics=[ListOffsetsTopic(name=name, partitions=wanted) for name, wanted in topics.items()],
    )
    found: EndOffsets = dict.fromkeys(partitions, ErrorCode.NOT_LEADER_OR_FOLLOWER)
    try:
        response: ListOffsetsResponse = await neighbours.ask(leader, request, channel=_CHANNEL)
    except PeerError:
        return found
    for answered in response.topics:
        for partition in answered.partitions:
            code = ERRORS.get(partition.error_code, ErrorCode.UNKNOWN_SERVER_ERROR)
            found[TopicPartition(answered.name, partition.partition_index)] = code or partition.offset
    return found
