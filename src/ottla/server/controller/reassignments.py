"""Partitions moving to other replicas (KIP-455): started, cancelled, listed.

A reassignment goes through a partition that has the old and the new replicas, `adding_replicas` and `removing_replicas`
telling them apart, until all new ones are in sync. Where they are already, because replicas only change their order or
go away, it is complete at once. A replica on a broker that is not active never counts as in sync here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages import metadata_records as messages
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
from ottla.server.controller.brokers import elect
from ottla.server.controller.placement import check_assignment, directory_of
from ottla.server.controller.result import Result
from ottla.server.metadata.image import MetadataImage, PartitionImage

_FIRST_WITH_DIRECTORIES = 17


def alter_reassignments(image: MetadataImage, request: AlterPartitionReassignmentsRequest) -> Result:
    """AlterPartitionReassignments; each partition is answered for itself."""
    records: list[Any] = []
    responses = []
    for topic in request.topics:
        partitions = []
        for asked in topic.partitions:
            code, text = ErrorCode.NONE, None
            try:
                records += _alter(image, topic.name, asked.partition_index, asked.replicas, request)
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
    return Result(records, response)


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
            if partition is not None and _is_ongoing(partition)
        ]
        if ongoing:
            topics.append(OngoingTopicReassignment(name=name, partitions=ongoing))
    return ListPartitionReassignmentsResponse(error_message=None, topics=topics)


def _alter(
    image: MetadataImage,
    name: str,
    index: int,
    target: Sequence[int] | None,
    request: AlterPartitionReassignmentsRequest,
) -> list[messages.PartitionChangeRecord]:
    topic = image.topics.by_name.get(name)
    partition = None if topic is None else topic.partitions.get(index)
    if topic is None or partition is None:
        text = f"Unable to find partition {name}:{index}."
        raise ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, text)

    def is_active(replica: int) -> bool:
        broker = image.brokers.get(replica)
        return broker is not None and broker.is_active

    if target is None:
        changes = _cancelled(partition, is_active)
    else:
        check_assignment(image.brokers, target)
        if not request.allow_replication_factor_change:
            _check_factor(partition, target)
        changes = _reassigned(partition, target, is_active)
    if not changes:
        return []
    if "replicas" in changes and image.metadata_version >= _FIRST_WITH_DIRECTORIES:
        known = dict(zip(partition.replicas, partition.directories, strict=False))
        changes["directories"] = [
            known.get(replica) or directory_of(image.brokers[replica]) for replica in changes["replicas"]
        ]
    return [messages.PartitionChangeRecord(partition_id=index, topic_id=topic.topic_id, **changes)]


def _is_ongoing(partition: PartitionImage) -> bool:
    return bool(partition.adding_replicas or partition.removing_replicas)


def _check_factor(partition: PartitionImage, target: Sequence[int]) -> None:
    current = len(partition.replicas) - len(partition.adding_replicas)
    if len(target) != current:
        text = f"The replication factor is changed from {current} to {len(target)}"
        raise ApiError(ErrorCode.INVALID_REPLICATION_FACTOR, text)


def _reassigned(partition: PartitionImage, target: Sequence[int], is_active: Callable[[int], bool]) -> dict[str, Any]:
    current = partition.replicas
    adding = sorted(set(target) - (set(current) - set(partition.adding_replicas)))
    removing = sorted(set(current) - set(target))
    in_sync = [replica for replica in partition.isr if replica in target and is_active(replica)]
    # Fewer replicas than before must not mean fewer in sync than could be.
    needed = target if len(adding) < len(removing) else adding
    if not in_sync or not set(needed) <= set(in_sync):
        after: dict[str, Any] = {"replicas": [*target, *removing]}
        after |= {"adding_replicas": adding, "removing_replicas": removing}
        return _differences(partition, after)
    after = {"replicas": list(target), "adding_replicas": [], "removing_replicas": []}
    if removing:
        after["isr"] = in_sync
    return _with_leader(partition, _differences(partition, after), is_active)


def _cancelled(partition: PartitionImage, is_active: Callable[[int], bool]) -> dict[str, Any]:
    if not _is_ongoing(partition):
        code = ErrorCode.NO_REASSIGNMENT_IN_PROGRESS
        raise ApiError(code, code.message)
    replicas = [replica for replica in partition.replicas if replica not in partition.adding_replicas]
    in_sync = [replica for replica in partition.isr if replica in replicas]
    if not in_sync:
        text = "The reassignment cannot be cancelled: of the replicas before it none is in sync any more."
        raise ApiError(ErrorCode.INVALID_REPLICA_ASSIGNMENT, text)
    after = {"replicas": replicas, "isr": in_sync, "adding_replicas": [], "removing_replicas": []}
    return _with_leader(partition, _differences(partition, after), is_active)


def _differences(partition: PartitionImage, after: Mapping[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in after.items() if list(getattr(partition, field)) != value}


def _with_leader(
    partition: PartitionImage, changes: dict[str, Any], is_active: Callable[[int], bool]
) -> dict[str, Any]:
    """A leader that is no replica any more hands over to the best of the others."""
    replaced: dict[str, Any] = {field: tuple(value) for field, value in changes.items()}
    after = partition._replace(**replaced)
    if after.leader in after.isr:
        return changes
    return {**changes, **(elect(after, is_active) or {})}
