"""AlterPartition: a leader tells who is in sync, and gets told what has become of its partition (KIP-497, KIP-903).

Kafka's checks, in Kafka's order. A leader that knows more than this controller is told NOT_CONTROLLER, so that it looks
for the one it has it from. The change may complete a reassignment, and that may take the leadership from who asked:
NEW_LEADER_ELECTED then, with the records written all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ottla.core.errors import ErrorCode
from ottla.protocol.messages.alter_partition import (
    AlterPartitionRequest,
    AlterPartitionRequestPartitionData,
    AlterPartitionResponse,
    AlterPartitionResponsePartitionData,
    AlterPartitionResponseTopicData,
)
from ottla.server.controller.decisions import Decisions
from ottla.server.controller.partitions import RECOVERED, RECOVERING, Wanted, is_online, is_valid_isr
from ottla.server.controller.result import Result
from ottla.server.controller.state import ClusterState
from ottla.server.metadata.image import BrokerImage, PartitionImage, TopicImage

_FIRST_WITH_EPOCHS = 3
_ANY_EPOCH = -1


def alter_partition(state: ClusterState, request: AlterPartitionRequest, *, api_version: int) -> Result:
    """Each partition is answered for itself. Raises ApiError STALE_BROKER_EPOCH."""
    state.registered(request.broker_id, request.broker_epoch)
    decisions = Decisions(state.image, state.config)
    topics = []
    for asked_topic in request.topics:
        topic = state.image.topics.by_id.get(asked_topic.topic_id)
        partitions = []
        for asked in asked_topic.partitions:
            isr = _asked_isr(asked, api_version)
            if topic is None:
                answer = _refusal(asked.partition_index, ErrorCode.UNKNOWN_TOPIC_ID)
            else:
                answer = _alter(state, decisions, topic, asked, isr, request.broker_id)
            partitions.append(answer)
        topics.append(AlterPartitionResponseTopicData(topic_id=asked_topic.topic_id, partitions=partitions))
    return Result(decisions.records, AlterPartitionResponse(topics=topics), atomic=False)


def _asked_isr(asked: AlterPartitionRequestPartitionData, api_version: int) -> list[tuple[int, int]]:
    """The ISR as `(broker id, broker epoch)`."""
    if api_version < _FIRST_WITH_EPOCHS:
        return [(broker_id, _ANY_EPOCH) for broker_id in asked.new_isr]
    return [(one.broker_id, one.broker_epoch) for one in asked.new_isr_with_epochs]


def _alter(
    state: ClusterState,
    decisions: Decisions,
    topic: TopicImage,
    asked: AlterPartitionRequestPartitionData,
    isr: list[tuple[int, int]],
    broker_id: int,
) -> AlterPartitionResponsePartitionData:
    index = asked.partition_index
    partition = topic.partitions.get(index)
    if partition is None:
        return _refusal(index, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    code = _check(partition, asked, isr, broker_id, state.image.brokers)
    if code != ErrorCode.NONE:
        return _refusal(index, code)
    wanted = Wanted(isr=tuple(member for member, _ in isr), leader_recovery_state=asked.leader_recovery_state)
    changes = decisions.change(topic, index, partition, wanted)
    if changes.get("leader", broker_id) != broker_id:
        return _refusal(index, ErrorCode.NEW_LEADER_ELECTED)
    return _answer(index, partition, changes)


def _check(
    partition: PartitionImage,
    asked: AlterPartitionRequestPartitionData,
    isr: list[tuple[int, int]],
    broker_id: int,
    brokers: Mapping[int, BrokerImage],
) -> ErrorCode:
    members = [member for member, _ in isr]
    if asked.leader_epoch > partition.leader_epoch or asked.partition_epoch > partition.partition_epoch:
        return ErrorCode.NOT_CONTROLLER
    if asked.leader_epoch < partition.leader_epoch:
        return ErrorCode.FENCED_LEADER_EPOCH
    if broker_id != partition.leader:
        return ErrorCode.INVALID_REQUEST
    if asked.partition_epoch < partition.partition_epoch:
        return ErrorCode.INVALID_UPDATE_VERSION
    if not is_valid_isr(members, partition.replicas) or partition.leader not in members:
        return ErrorCode.INVALID_REQUEST
    if asked.leader_recovery_state == RECOVERING and len(members) > 1:
        return ErrorCode.INVALID_REQUEST
    if partition.leader_recovery_state == RECOVERED and asked.leader_recovery_state == RECOVERING:
        return ErrorCode.INVALID_REQUEST
    if not all(_is_eligible(brokers.get(member), epoch) for member, epoch in isr):
        return ErrorCode.INELIGIBLE_REPLICA
    directories = dict(zip(partition.replicas, partition.directories, strict=False))
    for member in set(members).difference(partition.isr):
        if member in directories and not is_online(brokers.get(member), directories[member]):
            return ErrorCode.INELIGIBLE_REPLICA  # it could not lead, nor keep what it is sent
    return ErrorCode.NONE


def _is_eligible(broker: BrokerImage | None, broker_epoch: int) -> bool:
    """A broker that is gone, going, or has restarted since the leader saw it catch up, is not in sync."""
    if broker is None or not broker.is_active:
        return False
    return broker_epoch in (_ANY_EPOCH, broker.broker_epoch)


def _answer(index: int, partition: PartitionImage, changes: Mapping[str, Any]) -> AlterPartitionResponsePartitionData:
    """The partition as it is with the changes."""
    return AlterPartitionResponsePartitionData(
        partition_index=index,
        leader_id=changes.get("leader", partition.leader),
        leader_epoch=partition.leader_epoch + ("leader" in changes),
        isr=list(changes.get("isr", partition.isr)),
        leader_recovery_state=changes.get("leader_recovery_state", partition.leader_recovery_state),
        partition_epoch=partition.partition_epoch + bool(changes),
    )


def _refusal(index: int, code: ErrorCode) -> AlterPartitionResponsePartitionData:
    return AlterPartitionResponsePartitionData(partition_index=index, error_code=code)
