"""ElectLeaders: the preferred leader where it is not the leader, or any leader where there is none (KIP-460)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages import metadata_records as messages
from ottla.protocol.messages.elect_leaders import (
    ElectLeadersRequest,
    ElectLeadersResponse,
    PartitionResult,
    ReplicaElectionResult,
)
from ottla.server.controller.brokers import elect
from ottla.server.controller.result import Result
from ottla.server.metadata.image import NO_LEADER, MetadataImage, PartitionImage

PREFERRED, UNCLEAN = 0, 1
"""Election types of ElectLeaders."""

_NOT_NEEDED: Final = ErrorCode.ELECTION_NOT_NEEDED


def elect_leaders(image: MetadataImage, request: ElectLeadersRequest) -> Result:
    """The records of the elections that are possible. Asked for all partitions, those that need none are left out.

    An unclean election takes any active replica when nobody in sync is left: records may be lost, which is what is
    asked for.
    """
    if request.topic_partitions is not None and not request.topic_partitions:
        return Result([], ElectLeadersResponse())
    if request.election_type not in (PREFERRED, UNCLEAN):
        raise ApiError(ErrorCode.INVALID_REQUEST, f"Unknown election type {request.election_type}")
    if request.topic_partitions is None:
        asked = [(topic.name, list(topic.partitions)) for topic in image.topics.by_name.values()]
    else:
        asked = [(topic.topic, topic.partitions) for topic in request.topic_partitions]
    records: list[Any] = []
    results = []
    for name, partitions in asked:
        outcomes = [(index, *_elect(image, name, index, request.election_type, records)) for index in partitions]
        results.append(
            ReplicaElectionResult(
                topic=name,
                partition_result=[
                    PartitionResult(partition_id=index, error_code=code, error_message=text)
                    for index, code, text in outcomes
                    if request.topic_partitions is not None or code != _NOT_NEEDED
                ],
            )
        )
    return Result(records, ElectLeadersResponse(replica_election_results=results), atomic=False)


def _elect(
    image: MetadataImage, name: str, index: int, election_type: int, records: list[Any]
) -> tuple[ErrorCode, str | None]:
    topic = image.topics.by_name.get(name)
    partition = None if topic is None else topic.partitions.get(index)
    if topic is None or partition is None:
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"No such partition as {name}-{index}"
    leader = partition.leader
    if (leader != NO_LEADER) if election_type == UNCLEAN else (leader == partition.replicas[0]):
        return _NOT_NEEDED, _NOT_NEEDED.message

    def is_active(replica: int) -> bool:
        broker = image.brokers.get(replica)
        return broker is not None and broker.is_active

    change = _change(partition, is_active, unclean=election_type == UNCLEAN)
    if change is None:
        code = ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE
        if election_type == UNCLEAN:
            code = ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE
        return code, code.message
    records.append(messages.PartitionChangeRecord(partition_id=index, topic_id=topic.topic_id, **change))
    return ErrorCode.NONE, None


def _change(partition: PartitionImage, is_active: Callable[[int], bool], *, unclean: bool) -> dict[str, Any] | None:
    preferred = partition.replicas[0]
    if preferred in partition.isr and is_active(preferred):
        return {"leader": preferred}
    if partition.leader != NO_LEADER:
        return None
    change = elect(partition, is_active)
    if change is None and unclean:
        leader = next(filter(is_active, partition.replicas), None)
        if leader is not None:
            change = {"leader": leader, "isr": [leader]}
            # Records without eligible leader replicas have no place for them.
            change |= {name: [] for name in ("eligible_leader_replicas", "last_known_elr") if getattr(partition, name)}
    return change
