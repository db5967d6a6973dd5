"""The requests of a transaction and what the coordinators' answers mean; transactions decide when to send which.

Every answer comes down to one `Outcome`. What is not in the tables is fatal: to guess would risk records that are
neither committed nor aborted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum, auto
from typing import NamedTuple

from ottla.client.errors import CommitFailedError, KafkaError, error_for
from ottla.client.model import ConsumerGroupMetadata, OffsetAndMetadata
from ottla.core.errors import ERRORS, ErrorCode
from ottla.core.ids import TopicPartition
from ottla.protocol.message import Request
from ottla.protocol.messages.add_offsets_to_txn import AddOffsetsToTxnRequest
from ottla.protocol.messages.add_partitions_to_txn import (
    AddPartitionsToTxnRequest,
    AddPartitionsToTxnResponse,
    AddPartitionsToTxnTopic,
)
from ottla.protocol.messages.end_txn import EndTxnRequest
from ottla.protocol.messages.init_producer_id import InitProducerIdRequest
from ottla.protocol.messages.txn_offset_commit import (
    TxnOffsetCommitRequest,
    TxnOffsetCommitRequestPartition,
    TxnOffsetCommitRequestTopic,
    TxnOffsetCommitResponse,
)


class Kind(Enum):
    INIT_PRODUCER_ID = "InitProducerId"
    ADD_PARTITIONS = "AddPartitionsToTxn"
    ADD_OFFSETS = "AddOffsetsToTxn"
    COMMIT_OFFSETS = "TxnOffsetCommit"
    END = "EndTxn"


class Target(Enum):
    """Who is asked."""

    ANY = "any"
    TRANSACTION_COORDINATOR = "transaction"
    GROUP_COORDINATOR = "group"


class Outcome(Enum):
    DONE = auto()
    RETRY = auto()
    MOVED = auto()
    """Again, after the coordinator was looked up anew."""
    REFUSED = auto()
    """Nothing happened; the user may try again when the cause is gone."""
    ABORTABLE = auto()
    FENCED = auto()
    FATAL = auto()


class PendingRequest(NamedTuple):
    """One request to carry out: to whom, and within which versions (None: any that both sides know)."""

    kind: Kind
    request: Request
    target: Target
    key: str = ""
    """The transactional id or group id that the coordinator is looked up by."""
    min_version: int | None = None
    max_version: int | None = None


def outcome_of(kind: Kind, code: int) -> Outcome:
    """What an error code means as the answer to a request of this kind."""
    if code == ErrorCode.NONE:
        return Outcome.DONE
    if code in _MOVED or (kind is Kind.COMMIT_OFFSETS and code == ErrorCode.REQUEST_TIMED_OUT):
        return Outcome.MOVED
    if code in (ErrorCode.INVALID_PRODUCER_EPOCH, ErrorCode.PRODUCER_FENCED):
        return Outcome.FENCED
    error = ERRORS.get(code)
    if error is not None and error.retriable:
        return Outcome.RETRY
    if kind is Kind.INIT_PRODUCER_ID and code in _REFUSED:
        return Outcome.REFUSED
    return Outcome.ABORTABLE if code in _ABORTABLE[kind] else Outcome.FATAL


_MOVED = (ErrorCode.NOT_COORDINATOR, ErrorCode.COORDINATOR_NOT_AVAILABLE)

_REFUSED = (
    ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
    ErrorCode.TRANSACTION_ABORTABLE,
)

_ABORTABLE: dict[Kind, frozenset[ErrorCode]] = {
    Kind.INIT_PRODUCER_ID: frozenset(),
    Kind.ADD_PARTITIONS: frozenset(
        (
            ErrorCode.TRANSACTION_ABORTABLE,
            ErrorCode.UNKNOWN_PRODUCER_ID,
            ErrorCode.TOPIC_AUTHORIZATION_FAILED,
            ErrorCode.OPERATION_NOT_ATTEMPTED,
            ErrorCode.INVALID_TOPIC_EXCEPTION,
        )
    ),
    Kind.ADD_OFFSETS: frozenset(
        (
            ErrorCode.TRANSACTION_ABORTABLE,
            ErrorCode.UNKNOWN_PRODUCER_ID,
            ErrorCode.GROUP_AUTHORIZATION_FAILED,
            ErrorCode.INVALID_GROUP_ID,
        )
    ),
    Kind.COMMIT_OFFSETS: frozenset(
        (
            ErrorCode.TRANSACTION_ABORTABLE,
            ErrorCode.INVALID_TXN_STATE,  # how TRANSACTION_ABORTABLE is told to old versions
            ErrorCode.UNKNOWN_MEMBER_ID,
            ErrorCode.ILLEGAL_GENERATION,
            ErrorCode.STALE_MEMBER_EPOCH,
            ErrorCode.FENCED_INSTANCE_ID,
            ErrorCode.GROUP_AUTHORIZATION_FAILED,
            ErrorCode.GROUP_ID_NOT_FOUND,
            ErrorCode.INVALID_GROUP_ID,
            ErrorCode.TOPIC_AUTHORIZATION_FAILED,
            ErrorCode.OFFSET_METADATA_TOO_LARGE,
            ErrorCode.INVALID_COMMIT_OFFSET_SIZE,
        )
    ),
    Kind.END: frozenset(
        (
            ErrorCode.TRANSACTION_ABORTABLE,
            ErrorCode.UNKNOWN_PRODUCER_ID,
            ErrorCode.INVALID_TXN_STATE,  # the coordinator has aborted it already, since it took too long
        )
    ),
}

_MEMBER_IS_GONE = (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.ILLEGAL_GENERATION, ErrorCode.STALE_MEMBER_EPOCH)


def error_of(pending: PendingRequest, code: int, message: str | None = None) -> KafkaError:
    """The exception for a refusal, in the words of the operation."""
    what = _WORDS[pending.kind]
    if pending.kind is Kind.COMMIT_OFFSETS and code in _MEMBER_IS_GONE:
        return CommitFailedError(
            f"{what}: the consumer is no longer this member of group {pending.key!r}",
            code=code,
            hint="Abort the transaction; its input belongs to another consumer now.",
        )
    if message is None:
        known = ERRORS.get(code)
        message = known.message if known is not None else f"the broker answered with the unknown error {code}"
    hint = None
    if pending.kind is Kind.INIT_PRODUCER_ID and code == ErrorCode.CLUSTER_AUTHORIZATION_FAILED:
        hint = "Ask for an ACL (WRITE) on the topic for this principal."  # With WRITE on any, it would have been given.
    return error_for(code, f"{what}: {message}", hint=hint)


_WORDS = {
    Kind.INIT_PRODUCER_ID: "no producer id was given",
    Kind.ADD_PARTITIONS: "partitions could not be added to the transaction",
    Kind.ADD_OFFSETS: "the group could not be added to the transaction",
    Kind.COMMIT_OFFSETS: "the offsets could not be committed in the transaction",
    Kind.END: "the transaction could not be ended",
}


# Requests


def init_producer_id(
    transactional_id: str | None,
    timeout_ms: int,
    *,
    current: tuple[int, int] | None,
    enable_2pc: bool,
    keep_prepared: bool,
) -> PendingRequest:
    """`current`: producer id and epoch to raise (KIP-360); None: what the coordinator likes, fencing whoever else."""
    producer_id, producer_epoch = current or (-1, -1)
    request = InitProducerIdRequest(
        transactional_id=transactional_id,
        transaction_timeout_ms=timeout_ms,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        enable_2pc=enable_2pc,
        keep_prepared_txn=keep_prepared,
    )
    two_phase = enable_2pc or keep_prepared
    return PendingRequest(
        Kind.INIT_PRODUCER_ID,
        request,
        Target.ANY if transactional_id is None else Target.TRANSACTION_COORDINATOR,
        transactional_id or "",
        min_version=6 if two_phase else 3 if current else None,
        max_version=6 if two_phase else 5,
    )


def add_partitions(
    transactional_id: str, producer_id: int, producer_epoch: int, partitions: Iterable[TopicPartition]
) -> PendingRequest:
    topics: dict[str, list[int]] = {}
    for tp in sorted(partitions):
        topics.setdefault(tp.topic, []).append(tp.partition)
    request = AddPartitionsToTxnRequest(
        v3_and_below_transactional_id=transactional_id,
        v3_and_below_producer_id=producer_id,
        v3_and_below_producer_epoch=producer_epoch,
        v3_and_below_topics=[AddPartitionsToTxnTopic(name=name, partitions=found) for name, found in topics.items()],
    )
    # later versions are for brokers among themselves
    return PendingRequest(Kind.ADD_PARTITIONS, request, Target.TRANSACTION_COORDINATOR, transactional_id, max_version=3)


def add_offsets(transactional_id: str, producer_id: int, producer_epoch: int, group_id: str) -> PendingRequest:
    request = AddOffsetsToTxnRequest(
        transactional_id=transactional_id, producer_id=producer_id, producer_epoch=producer_epoch, group_id=group_id
    )
    return PendingRequest(Kind.ADD_OFFSETS, request, Target.TRANSACTION_COORDINATOR, transactional_id)


def commit_offsets(
    transactional_id: str,
    producer_id: int,
    producer_epoch: int,
    offsets: Mapping[TopicPartition, OffsetAndMetadata],
    group: ConsumerGroupMetadata,
    *,
    version_2: bool,
) -> PendingRequest:
    topics: dict[str, list[TxnOffsetCommitRequestPartition]] = {}
    for tp, offset in sorted(offsets.items()):
        topics.setdefault(tp.topic, []).append(
            TxnOffsetCommitRequestPartition(
                partition_index=tp.partition,
                committed_offset=offset.offset,
                committed_leader_epoch=-1 if offset.leader_epoch is None else offset.leader_epoch,
                committed_metadata=offset.metadata,
            )
        )
    request = TxnOffsetCommitRequest(
        transactional_id=transactional_id,
        group_id=group.group_id,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        generation_id_or_member_epoch=group.generation_id,
        member_id=group.member_id,
        group_instance_id=group.group_instance_id,
        topics=[TxnOffsetCommitRequestTopic(name=name, partitions=found) for name, found in topics.items()],
    )
    is_member = group.generation_id >= 0 or group.member_id != "" or group.group_instance_id is not None
    return PendingRequest(
        Kind.COMMIT_OFFSETS,
        request,
        Target.GROUP_COORDINATOR,
        group.group_id,
        min_version=3 if is_member else None,
        max_version=5 if version_2 else 4,  # v6 names topics by id
    )


def end_transaction(
    transactional_id: str, producer_id: int, producer_epoch: int, *, committed: bool, version_2: bool
) -> PendingRequest:
    request = EndTxnRequest(
        transactional_id=transactional_id,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        committed=committed,
    )
    return PendingRequest(
        Kind.END, request, Target.TRANSACTION_COORDINATOR, transactional_id, max_version=5 if version_2 else 4
    )


# Responses with an error for each partition


def codes_of_added_partitions(response: AddPartitionsToTxnResponse) -> dict[TopicPartition, int]:
    return {
        TopicPartition(topic.name, found.partition_index): found.partition_error_code
        for topic in response.results_by_topic_v3_and_below
        for found in topic.results_by_partition
    }


def codes_of_committed_offsets(response: TxnOffsetCommitResponse) -> dict[TopicPartition, int]:
    return {
        TopicPartition(topic.name, found.partition_index): found.error_code
        for topic in response.topics
        for found in topic.partitions
    }
