"""TxnOffsetCommit (key 28), versions 0-6: store the position of a group as part of a transaction.

Version notes.  2: leader epoch; COORDINATOR_LOAD_IN_PROGRESS, for which older clients see COORDINATOR_NOT_AVAILABLE.
3: flexible; member, generation and instance are checked (KIP-447).  4: TRANSACTION_ABORTABLE.  5: transactions v2,
where this broker adds the group's partition to the transaction (KIP-890).  6: topics by id.

The offsets are pending until the transaction's marker arrives in the group's partition.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from ottla.core.errors import ErrorCode
from ottla.core.topics import OFFSETS_TOPIC
from ottla.protocol.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestTopic,
    TxnOffsetCommitResponse,
    TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
)
from ottla.server.broker.group_answers import answer
from ottla.server.broker.transaction_answers import when_released
from ottla.server.broker.transaction_verification import ClientProtocol, FirstBatch, Verdict, verify
from ottla.server.coordinator.append_errors import transactional_commit_error
from ottla.server.coordinator.result import Pending
from ottla.server.coordinator.runtime import TransactionalWrite
from ottla.server.coordinator.service import refused_commit_in_transaction

if TYPE_CHECKING:
    from ottla.server.broker.broker import Broker, DelayedResponse, RequestContext
    from ottla.server.replication.partition import Partition

    Shape = Callable[[TxnOffsetCommitResponse], TxnOffsetCommitResponse]

_FIRST_LOADING_VERSION = 2
_FIRST_ABORTABLE_VERSION = 4
_FIRST_V2_VERSION = 5
_FIRST_TOPIC_ID_VERSION = 6
_NO_SEQUENCE = -1


def handle(
    broker: Broker, request: TxnOffsetCommitRequest, context: RequestContext
) -> TxnOffsetCommitResponse | DelayedResponse | Awaitable[TxnOffsetCommitResponse]:
    """Answered at once where both coordinators are here and alone in the ISR of their partitions."""
    version = context.api_version
    existing, refusals = _existing(broker, request, version)

    def shape(response: TxnOffsetCommitResponse) -> TxnOffsetCommitResponse:
        return _merged(request, refusals, response, version)

    if not any(topic.partitions for topic in existing.topics):
        empty = [TxnOffsetCommitResponseTopic(name=topic.name, topic_id=topic.topic_id) for topic in existing.topics]
        return shape(TxnOffsetCommitResponse(topics=empty))
    if not request.group_id:
        return shape(refused_commit_in_transaction(existing, ErrorCode.INVALID_GROUP_ID))
    partition = broker.replicas.get(OFFSETS_TOPIC, broker.groups.partition_for(request.group_id))
    if partition is None:
        return shape(refused_commit_in_transaction(existing, ErrorCode.NOT_COORDINATOR))
    producer = (request.producer_id, request.producer_epoch)
    batch = FirstBatch(partition, _NO_SEQUENCE)
    client = ClientProtocol.of(version, first_abortable=_FIRST_ABORTABLE_VERSION, first_v2=_FIRST_V2_VERSION)
    verdict = verify(broker, request.transactional_id, producer, [batch], client)
    if isinstance(verdict, Verdict):
        return answer(_commit(broker, existing, version, partition, verdict), shape)
    return _commit_when_verified(broker, existing, version, partition, verdict, shape)


def error_response(
    request: TxnOffsetCommitRequest, context: RequestContext, code: ErrorCode, message: str | None
) -> TxnOffsetCommitResponse:
    """The same code for every partition."""
    return refused_commit_in_transaction(request, code)


async def _commit_when_verified(
    broker: Broker,
    request: TxnOffsetCommitRequest,
    version: int,
    partition: Partition,
    verdict: Awaitable[Verdict],
    shape: Shape,
) -> TxnOffsetCommitResponse:
    outcome = _commit(broker, request, version, partition, await verdict)
    return shape(await when_released(outcome) if isinstance(outcome, Pending) else outcome)


def _commit(
    broker: Broker, request: TxnOffsetCommitRequest, version: int, partition: Partition, verdict: Verdict
) -> TxnOffsetCommitResponse | Pending[TxnOffsetCommitResponse]:
    code = verdict.errors.get(partition)
    if code is not None:
        return refused_commit_in_transaction(request, transactional_commit_error(code))
    write = TransactionalWrite(request.producer_id, request.producer_epoch, verdict.verifications.get(partition))
    return broker.groups.commit_in_transaction(request, version, write)


def _existing(
    broker: Broker, request: TxnOffsetCommitRequest, version: int
) -> tuple[TxnOffsetCommitRequest, list[dict[int, ErrorCode]]]:
    """The request with those partitions that exist, its topics named; and what is unknown of each topic."""
    topics = broker.image.topics
    by_id = version >= _FIRST_TOPIC_ID_VERSION
    existing = []
    refusals = []
    for topic in request.topics:
        found = topics.by_id.get(topic.topic_id) if by_id else topics.by_name.get(topic.name)
        known = () if found is None else found.partitions
        code = ErrorCode.UNKNOWN_TOPIC_ID if by_id and found is None else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        name = topic.name if found is None else found.name
        partitions = [partition for partition in topic.partitions if partition.partition_index in known]
        existing.append(TxnOffsetCommitRequestTopic(name=name, topic_id=topic.topic_id, partitions=partitions))
        indexes = (partition.partition_index for partition in topic.partitions)
        refusals.append({index: code for index in indexes if index not in known})
    reduced = TxnOffsetCommitRequest(
        transactional_id=request.transactional_id,
        group_id=request.group_id,
        producer_id=request.producer_id,
        producer_epoch=request.producer_epoch,
        generation_id_or_member_epoch=request.generation_id_or_member_epoch,
        member_id=request.member_id,
        group_instance_id=request.group_instance_id,
        topics=existing,
    )
    return reduced, refusals


def _merged(
    request: TxnOffsetCommitRequest,
    refusals: list[dict[int, ErrorCode]],
    response: TxnOffsetCommitResponse,
    version: int,
) -> TxnOffsetCommitResponse:
    """An answer for every partition of the request, in its order."""
    topics = []
    for topic, codes, answered in zip(request.topics, refusals, response.topics, strict=True):
        stored = iter(answered.partitions)
        partitions = []
        for partition in topic.partitions:
            index = partition.partition_index
            code = codes[index] if index in codes else next(stored).error_code
            if code == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS and version < _FIRST_LOADING_VERSION:
                code = ErrorCode.COORDINATOR_NOT_AVAILABLE
            partitions.append(TxnOffsetCommitResponsePartition(partition_index=index, error_code=code))
        topics.append(TxnOffsetCommitResponseTopic(name=topic.name, topic_id=topic.topic_id, partitions=partitions))
    return TxnOffsetCommitResponse(topics=topics)
