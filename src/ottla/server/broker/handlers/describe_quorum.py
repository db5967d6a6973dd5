"""DescribeQuorum (key 55), versions 0-2 (KIP-595): who leads the metadata log, and how far each voter has come.

A node that is alone is the quorum; the others ask the one they take part in.

Version notes. 1: times of the last fetch (KIP-836); a leader needs none, it is told as of now.
2: directory ids of the voters, where to reach them, and error texts (KIP-853). The partition must be
`__cluster_metadata`-0 and nothing else; any other gets UNKNOWN_TOPIC_OR_PARTITION.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ottla.core.errors import ErrorCode
from ottla.core.ids import ZERO_UUID
from ottla.protocol.messages.describe_quorum import (
    DescribeQuorumRequest,
    DescribeQuorumResponse,
    DescribeQuorumResponsePartitionData,
    DescribeQuorumResponseTopicData,
    Listener,
    Node,
    ReplicaState,
)
from ottla.server.raft.alone import LoneNode

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ottla.server.broker.broker import Broker, RequestContext

_METADATA_TOPIC: Final = "__cluster_metadata"
_FIRST_WITH_DIRECTORIES: Final = 2


def handle(
    broker: Broker, request: DescribeQuorumRequest, context: RequestContext
) -> DescribeQuorumResponse | Awaitable[DescribeQuorumResponse]:
    """Describe the quorum as of now."""
    if not isinstance(broker.metadata_log, LoneNode):
        from ottla.server.broker.quorum_requests import ask_quorum

        return ask_quorum(broker, request, context)
    asked = [(topic.topic_name, [one.partition_index for one in topic.partitions]) for topic in request.topics]
    if asked != [(_METADATA_TOPIC, [0])]:
        return _unknown(request)
    quorum = broker.metadata_log.describe_quorum()
    now_ms = broker.env.clock.now_ms()
    is_newer = context.api_version >= _FIRST_WITH_DIRECTORIES
    voters = [
        ReplicaState(
            replica_id=voter.voter_id,
            replica_directory_id=voter.directory_id if is_newer else ZERO_UUID,
            log_end_offset=voter.log_end_offset,
            last_fetch_timestamp=now_ms,
            last_caught_up_timestamp=now_ms,
        )
        for voter in quorum.voters
    ]
    partition = DescribeQuorumResponsePartitionData(
        partition_index=0,
        leader_id=quorum.leader_id,
        leader_epoch=quorum.leader_epoch,
        high_watermark=quorum.high_watermark,
        current_voters=voters,
    )
    nodes = [
        Node(
            node_id=voter.voter_id,
            listeners=[Listener(name=name, host=host, port=port) for name, host, port in voter.endpoints],
        )
        for voter in quorum.voters
    ]
    return DescribeQuorumResponse(
        topics=[DescribeQuorumResponseTopicData(topic_name=_METADATA_TOPIC, partitions=[partition])],
        nodes=nodes if is_newer else [],
    )


def _unknown(request: DescribeQuorumRequest) -> DescribeQuorumResponse:
    code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    return DescribeQuorumResponse(
        topics=[
            DescribeQuorumResponseTopicData(
                topic_name=topic.topic_name,
                partitions=[
                    DescribeQuorumResponsePartitionData(
                        partition_index=one.partition_index, error_code=code, error_message=code.message
                    )
                    for one in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )
