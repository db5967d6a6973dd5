"""Elections that are asked for, and those that come round by themselves.

ElectLeaders (KIP-460): the preferred leader where it does not lead, or any leader where there is none. From time to
time leaderships go back to preferred leaders (`auto.leader.rebalance.enable`), and partitions without a leader get one
that may lack records, where the topic allows it (`unclean.leader.election.enable`).
"""

from __future__ import annotations

from typing import Final

from ottla.core.errors import ApiError, ErrorCode
from ottla.protocol.messages.elect_leaders import (
    ElectLeadersRequest,
    ElectLeadersResponse,
    PartitionResult,
    ReplicaElectionResult,
)
from ottla.server.controller.decisions import Decisions
from ottla.server.controller.partitions import Election
from ottla.server.controller.result import Result
from ottla.server.controller.state import ClusterState
from ottla.server.metadata.image import NO_LEADER

PREFERRED, UNCLEAN = 0, 1
"""Election types of ElectLeaders."""

MAX_ELECTIONS: Final = 1_000
"""So many leaders change in one go of the periodic elections, as in Kafka."""

_NOT_NEEDED: Final = ErrorCode.ELECTION_NOT_NEEDED


def elect_leaders(state: ClusterState, request: ElectLeadersRequest) -> Result:
    """The records of the elections that are possible. Asked for all partitions, those that need none are left out.

    An unclean election takes any active replica when nobody in sync is left: records may be lost, which is what is
    asked for.
    """
    if request.topic_partitions is not None and not request.topic_partitions:
        return Result([], ElectLeadersResponse())
    if request.election_type not in (PREFERRED, UNCLEAN):
        raise ApiError(ErrorCode.INVALID_REQUEST, f"Unknown election type {request.election_type}")
    if request.topic_partitions is None:
        asked = [(topic.name, list(topic.partitions)) for topic in state.image.topics.by_name.values()]
    else:
        asked = [(topic.topic, topic.partitions) for topic in request.topic_partitions]
    decisions = Decisions(state.image, state.config)
    results = []
    for name, partitions in asked:
        outcomes = [(index, *_elect(state, decisions, name, index, request.election_type)) for index in partitions]
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
    return Result(decisions.records, ElectLeadersResponse(replica_election_results=results), atomic=False)


def balance_leaders(state: ClusterState) -> Result:
    """Leaderships go back to preferred leaders; the response is whether more of them wait."""
    decisions = Decisions(state.image, state.config)
    for topic_id, index in state.index.imbalanced():
        if len(decisions.records) >= MAX_ELECTIONS:
            break
        topic = state.image.topics.by_id[topic_id]
        decisions.change(topic, index, topic.partitions[index], election=Election.PREFERRED)
    return Result(decisions.records, len(decisions.records) >= MAX_ELECTIONS, atomic=False)


def elect_uncleanly(state: ClusterState) -> Result:
    """Leaders for partitions that have none and would rather lose records; the response is whether more wait."""
    decisions = Decisions(state.image, state.config)
    for topic_id, index in state.index.leaderless():
        if len(decisions.records) >= MAX_ELECTIONS:
            break
        topic = state.image.topics.by_id[topic_id]
        if decisions.allows_unclean(topic):
            decisions.change(topic, index, topic.partitions[index], election=Election.UNCLEAN)
    return Result(decisions.records, len(decisions.records) >= MAX_ELECTIONS, atomic=False)


def _elect(
    state: ClusterState, decisions: Decisions, name: str, index: int, election_type: int
) -> tuple[ErrorCode, str | None]:
    topic = state.image.topics.by_name.get(name)
    partition = None if topic is None else topic.partitions.get(index)
    if topic is None or partition is None:
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"No such partition as {name}-{index}"
    leader = partition.leader
    if (leader != NO_LEADER) if election_type == UNCLEAN else (leader == partition.replicas[0]):
        return _NOT_NEEDED, _NOT_NEEDED.message
    election = Election.UNCLEAN if election_type == UNCLEAN else Election.PREFERRED
    if decisions.change(topic, index, partition, election=election):
        return ErrorCode.NONE, None
    code = ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE
    if election_type == UNCLEAN:
        code = ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE
    return code, code.message
