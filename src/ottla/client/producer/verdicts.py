"""What a broker's answer about one partition says, in the form in which the sender decides on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ottla.client.errors import (
    AuthenticationError,
    KafkaError,
    KafkaTimeoutError,
    UnsupportedVersionError,
    error_for,
)
from ottla.core.errors import ERRORS, ErrorCode
from ottla.core.ids import ZERO_UUID
from ottla.protocol.messages.produce import ProduceResponse


class PartitionAnswer(NamedTuple):
    """The answer about one batch; by default: it was written, nobody said where (`acks=0`)."""

    code: int = ErrorCode.NONE
    base_offset: int = -1
    log_append_time_ms: int = -1
    log_start_offset: int = -1
    message: str | None = None
    record_errors: tuple[tuple[int, str | None], ...] = ()
    leader_id: int = -1
    leader_epoch: int = -1
    cause: KafkaError | None = None
    """What the network raised, when there was no answer."""

    @property
    def is_retriable(self) -> bool:
        """Whether the same batch may be accepted later."""
        if self.cause is not None:
            return self.cause.retriable
        known = ERRORS.get(self.code)
        return known is not None and known.retriable

    def error(self) -> KafkaError:
        """The exception for it."""
        return self.cause if self.cause is not None else error_for(self.code, self.message)


def answers_of(response: ProduceResponse) -> Iterator[tuple[tuple[str | bytes, int], PartitionAnswer]]:
    """All answers of a response, each with its partition: by topic id from version 13 on, by name before."""
    for topic in response.responses:
        name: str | bytes = topic.topic_id if topic.topic_id != ZERO_UUID else topic.name
        for partition in topic.partition_responses:
            yield (
                (name, partition.index),
                PartitionAnswer(
                    partition.error_code,
                    partition.base_offset,
                    partition.log_append_time_ms,
                    partition.log_start_offset,
                    partition.error_message,
                    tuple((each.batch_index, each.batch_index_error_message) for each in partition.record_errors),
                    partition.current_leader.leader_id,
                    partition.current_leader.leader_epoch,
                ),
            )


def lost_answer(error: BaseException | None) -> PartitionAnswer:
    """The answer when there is none: the connection broke, or took too long, or was never made."""
    if isinstance(error, KafkaTimeoutError):
        return PartitionAnswer(ErrorCode.REQUEST_TIMED_OUT, cause=error)
    if isinstance(error, UnsupportedVersionError):
        return PartitionAnswer(ErrorCode.UNSUPPORTED_VERSION, cause=error)
    if isinstance(error, AuthenticationError):
        return PartitionAnswer(ErrorCode.SASL_AUTHENTICATION_FAILED, cause=error)
    if isinstance(error, KafkaError):
        return PartitionAnswer(error.number or ErrorCode.NETWORK_EXCEPTION, cause=error)
    if error is not None:
        return PartitionAnswer(ErrorCode.UNKNOWN_SERVER_ERROR, message=f"an unexpected error: {error}.")
    return PartitionAnswer(ErrorCode.NETWORK_EXCEPTION)


def record_errors_of(answer: PartitionAnswer, records_count: int) -> dict[int, KafkaError] | None:
    """The errors of single records (KIP-467), when the broker named the bad ones: the others may be sent again.

    One bad record has the error of the partition; of several it is not known which has it, so they are INVALID_RECORD.
    """
    if not answer.record_errors:
        return None
    code = answer.code if len(answer.record_errors) == 1 else ErrorCode.INVALID_RECORD
    others = KafkaError(
        "the record was not written because others in its batch were refused.", retriable=True, hint="Send it again."
    )
    errors = dict.fromkeys(range(records_count), others)
    for index, message in answer.record_errors:
        errors[index] = error_for(code, message or answer.message)
    return errors
