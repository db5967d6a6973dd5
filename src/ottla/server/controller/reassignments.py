"""Partitions moving to other replicas (KIP-455): started, cancelled, listed.

A reassignment goes through a partition that has the old and the new replicas, `adding_replicas` and `removing_replicas`
telling them apart, until all new ones are in sync. Where they are already, because replicas only change their order or
go away, it is complete at once; `partitions` decides that, here as when AlterPartition brings the last of them in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
    ReassignablePartitionResponse,
    ReassignableTopicResponse,
)
from ottla.protocol.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
    OngoingPartitionReassignment,
    OngoingTopicReassignment,
)
from ottla.server.controller.decisions import Decisions
from ottla.server.controller.partitions import Wanted, is_reassigned
from ottla.server.controller.placement import check_assignment
from ottla.server.controller.result import Result
from ottla.server.controller.state import ClusterState
from ottla.server.metadata.image import MetadataImage, PartitionImage


def alter_reassignments(state: ClusterState, request: AlterPartitionReassignmentsRequest) -> Result:
    """AlterPartitionReassignments; each partition is answered for itself."""
    decisions = Decisions(state.image, state.config)
    responses = []
    for topic in request.topics:
        partitions = []
        for asked in topic.partitions:
            code, text = ErrorCode.NONE, None
            try:
                _alter(state.image, decisions, topic.name, asked.partition_index, asked.replicas, request)
            except ApiError as error:
                code, text = error.code, error.message
            partitions.append(
                ReassignablePartitionResponse(
                    partition_index=asked.partition_index, error_code=code, error_message=text
                )
            )
        responses.append(ReassignableTopicResponse(name=topic.name, partitions=partitions))
    response = AlterPartitionReassignmentsResponse(
        allow_replication_factor_change=request.allow_replication_factor_change,
        error_message=None,
        responses=responses,
    )
    return Result(decisions.records, response)


def list_reassignments(
    image: MetadataImage, request: ListPartitionReassignmentsRequest
) -> ListPartitionReassignmentsResponse:
    """ListPartitionReassignments: those of the partitions asked for, or all."""
    asked: Iterable[tuple[str, Iterable[int]]]
    if request.topics is None:
        asked = [(topic.name, topic.partitions) for topic in image.topics.by_name.values()]
    else:
        asked = [(topic.name, topic.partition_indexes) for topic in request.topics]
    topics = []
    for name, indexes in asked:
        found = [(index, image.topics.partition(name, index)) for index in indexes]
        ongoing = [
            OngoingPartitionReassignment(
                partition_index=index,
                replicas=list(partition.replicas),
                adding_replicas=list(partition.adding_replicas),
                removing_replicas=list(partition.removing_replicas),
            )
            for index, partition in found
            if partition is not None and is_reassigned(partition)
        ]
        if ongoing:
            topics.append(OngoingTopicReassignment(name=name, partitions=ongoing))
    return ListPartitionReassignmentsResponse(error_message=None, topics=topics)


def _alter(
    image: MetadataImage,
    decisions: Decisions,
    name: str,
    index: int,
    target: Sequence[int] | None,
    request: AlterPartitionReassignmentsRequest,
) -> None:
    topic = image.topics.by_name.get(name)
    partition = None if topic is None else topic.partitions.get(index)
    if topic is None or partition is None:
        text = f"Unable to find partition {name}:{index}."
        raise ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, text)
    if target is None:
        wanted = _cancelled(partition, allows_unclean=decisions.allows_unclean(topic))
    else:
        check_assignment(image.brokers, target)
        if not request.allow_replication_factor_change:
            _check_factor(partition, target)
        wanted = _reassigned(partition, target)
    decisions.change(topic, index, partition, wanted)


def _check_factor(partition: PartitionImage, target: Sequence[int]) -> None:
    current = len(partition.replicas) - len(partition.adding_replicas)
    if len(target) != current:
        text = f"The replication factor is changed from {current} to {len(target)}"
        raise ApiError(ErrorCode.INVALID_REPLICATION_FACTOR, text)


def _reassigned(partition: PartitionImage, target: Sequence[int]) -> Wanted:
    current = partition.replicas
    removing = sorted(set(current) - set(target))
    return Wanted(
        replicas=(*target, *removing),
        adding_replicas=tuple(sorted(set(target) - (set(current) - set(partition.adding_replicas)))),
        removing_replicas=tuple(removing),
    )


def _cancelled(partition: PartitionImage, *, allows_unclean: bool) -> Wanted:
    """The replicas from before. When none of those is in sync any more, their first one has to do, and records are
    lost."""
    if not is_reassigned(partition):
        code = ErrorCode.NO_REASSIGNMENT_IN_PROGRESS
        raise ApiError(code, code.message)
    replicas = tuple(replica for replica in partition.replicas if replica not in partition.adding_replicas)
    in_sync = tuple(replica for replica in partition.isr if replica in replicas)
    if not in_sync:
        if not allows_unclean:
            text = "The reassignment cannot be cancelled: of the replicas before it none is in sync any more."
            raise ApiError(ErrorCode.INVALID_REPLICA_ASSIGNMENT, text)
        in_sync = replicas[:1]
    return Wanted(replicas=replicas, isr=in_sync, adding_replicas=(), removing_replicas=())
