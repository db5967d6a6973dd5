"""AssignReplicasToDirs: a broker tells in which of its log directories its replicas lie (KIP-858).

A replica that turns out to lie in a directory that has failed leaves ISR and leadership at once.
"""

from __future__ import annotations

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.assign_replicas_to_dirs import (
    AssignReplicasToDirsRequest,
    AssignReplicasToDirsResponse,
    AssignReplicasToDirsResponseDirectoryData,
    AssignReplicasToDirsResponsePartitionData,
    AssignReplicasToDirsResponseTopicData,
)
from ottla.server.controller.decisions import Decisions
from ottla.server.controller.partitions import FIRST_WITH_DIRECTORIES, Wanted, is_online
from ottla.server.controller.result import Result
from ottla.server.controller.state import ClusterState
from ottla.server.metadata.image import TopicImage


def assign_replicas(state: ClusterState, request: AssignReplicasToDirsRequest) -> Result:
    """Each partition is answered for itself. Raises ApiError STALE_BROKER_EPOCH, UNSUPPORTED_VERSION."""
    if state.image.metadata_version < FIRST_WITH_DIRECTORIES:
        raise ApiError(ErrorCode.UNSUPPORTED_VERSION, "Directory assignment is not supported yet.")
    broker = state.registered(request.broker_id, request.broker_epoch)
    online = Decisions(state.image, state.config)
    offline = Decisions(state.image, state.config, leaving=broker.broker_id)
    directories = []
    for directory in request.directories:
        decisions = online if is_online(broker, directory.id) else offline
        topics = []
        for asked in directory.topics:
            topic = state.image.topics.by_id.get(asked.topic_id)
            partitions = [
                AssignReplicasToDirsResponsePartitionData(
                    partition_index=one.partition_index,
                    error_code=_assign(
                        decisions, topic, one.partition_index, broker.broker_id, directory.id, decisions is offline
                    ),
                )
                for one in asked.partitions
            ]
            topics.append(AssignReplicasToDirsResponseTopicData(topic_id=asked.topic_id, partitions=partitions))
        directories.append(AssignReplicasToDirsResponseDirectoryData(id=directory.id, topics=topics))
    records = [*online.records, *offline.records]
    return Result(records, AssignReplicasToDirsResponse(directories=directories), atomic=False)


def _assign(
    decisions: Decisions, topic: TopicImage | None, index: int, broker_id: int, directory: bytes, is_offline: bool
) -> ErrorCode:
    if topic is None:
        return ErrorCode.UNKNOWN_TOPIC_ID
    partition = topic.partitions.get(index)
    if partition is None:
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    if broker_id not in partition.replicas:
        return ErrorCode.NOT_LEADER_OR_FOLLOWER
    isr = None
    if is_offline and broker_id in partition.isr:
        isr = tuple(replica for replica in partition.isr if replica != broker_id)
    decisions.change(topic, index, partition, Wanted(isr=isr, directories=((broker_id, directory),)))
    return ErrorCode.NONE
