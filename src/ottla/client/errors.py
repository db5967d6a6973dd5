"""What the clients raise.

Everything is a `KafkaError`: it carries Kafka's code (None for what happens only in the client), whether the same call
may succeed later (`retriable`), and what to do about it (`hint`). Classes of their own exist for what programs tell
apart; `error_for(code)` finds the class of a code. `str(error)` is one complete line.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from ottla.core.errors import ERRORS, ErrorCode


class KafkaError(Exception):
    """Base of all errors of the clients. `message` says what happened, `hint` what to do (may be empty)."""

    default_code: ClassVar[ErrorCode | None] = None
    default_hint: ClassVar[str] = ""
    default_retriable: ClassVar[bool] = False

    errors: Mapping[Any, KafkaError] = MappingProxyType({})
    """Of a call about several items: what went wrong, by item (see `ottla.admin`)."""
    results: Mapping[Any, Any] = MappingProxyType({})
    """Of a call about several items: what came of the items that did not fail."""

    delivery: Any = None
    """Of `send_many`: the `BulkDelivery` of the records before the one that could not be sent, when there are some."""

    def __init__(
        self,
        message: str | None = None,
        *,
        code: ErrorCode | int | None = None,
        retriable: bool | None = None,
        hint: str | None = None,
    ) -> None:
        found = self.default_code if code is None else ERRORS.get(int(code))
        self.code: ErrorCode | None = found
        self.number: int | None = int(code) if code is not None else None if found is None else int(found)
        if message is None:
            message = found.message if found is not None else f"the broker answered with the unknown error {code}"
        self.message = message
        if retriable is None:
            retriable = found.retriable if found is not None else self.default_retriable
        self.retriable = retriable
        self.hint = (
            (_HINTS.get(found, self.default_hint) if found is not None else self.default_hint) if hint is None else hint
        )
        super().__init__(message)

    def __str__(self) -> str:
        name = f"{self.code.name}: " if self.code is not None else ""
        if not self.hint:
            return f"{name}{self.message}"
        # What brokers say may end without a full stop.
        return f"{name}{self.message}{'' if self.message.endswith(('.', '!', '?', ':')) else '.'} {self.hint}"

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.number, self.retriable, self.hint))


def _rebuild(cls: type[KafkaError], message: str, code: int | None, retriable: bool, hint: str) -> KafkaError:
    return cls(message, code=code, retriable=retriable, hint=hint)


class ConfigError(KafkaError, ValueError):
    """A setting is unknown, misspelt, or has a value that cannot be used."""


class ClientClosedError(KafkaError, RuntimeError):
    """The client was closed before this call, or while it waited."""

    default_hint = "Make a new one."


class ClientForkedError(KafkaError, RuntimeError):
    """The client was made in a parent process: its connections and threads did not come along."""

    default_hint = "Make clients after the fork, one for each process."


class IllegalStateError(KafkaError, RuntimeError):
    """The call makes no sense now, e.g. `commit()` without a group id."""


class WakeupError(KafkaError):
    """`wakeup()` was called from another thread: the waiting `poll` ended without records."""


class KafkaTimeoutError(KafkaError, TimeoutError):
    """Time ran out before the call could be completed."""

    default_retriable = True


class BufferFullError(KafkaTimeoutError):
    """`buffer.memory` stayed full for `max.block.ms`: records are sent faster than the brokers take them."""

    default_hint = "Send more slowly, or raise buffer.memory or max.block.ms."


class ConnectionFailedError(KafkaError, ConnectionError):
    """A broker could not be reached, or closed the connection before it answered."""

    default_code = ErrorCode.NETWORK_EXCEPTION
    default_retriable = True


class BootstrapError(ConnectionFailedError):
    """None of the bootstrap servers could be reached in time."""

    default_hint = "Check bootstrap.servers, and that a broker listens there with the security.protocol you set."


class SerializationError(KafkaError, ValueError):
    """A key or value could not be turned into bytes, or bytes not into a key or value."""


class RecordDeserializationError(SerializationError):
    """A fetched record could not be deserialized. `seek` behind it to go on.

    `topic`, `partition`, `offset` say which; `origin` is "key" or "value"; `raw_key`, `raw_value` are its bytes.
    """

    topic: str = ""
    partition: int = -1
    offset: int = -1
    origin: str = ""
    raw_key: bytes | None = None
    raw_value: bytes | None = None


class CorruptRecordsError(KafkaError):
    """A fetched batch has a wrong checksum or is damaged otherwise."""

    default_code = ErrorCode.CORRUPT_MESSAGE


class RecordTooLargeError(KafkaError, ValueError):
    """The record is larger than `max.request.size`, `buffer.memory` or the topic's `max.message.bytes` allow."""

    default_code = ErrorCode.MESSAGE_TOO_LARGE


class UnknownTopicError(KafkaError):
    """The topic or partition does not exist."""

    default_code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


class InvalidTopicError(KafkaError, ValueError):
    """The topic's name is not a legal one."""

    default_code = ErrorCode.INVALID_TOPIC_EXCEPTION


class AuthenticationError(KafkaError):
    """The broker did not accept who we say we are, or we did not accept the broker (TLS)."""

    default_code = ErrorCode.SASL_AUTHENTICATION_FAILED


class AuthorizationError(KafkaError):
    """The principal may not do this."""


class UnsupportedVersionError(KafkaError):
    """The broker is too old (or too new) for what was asked of it."""

    default_code = ErrorCode.UNSUPPORTED_VERSION


class ProducerFencedError(KafkaError):
    """Another producer with the same transactional id took over: this one is done for."""

    default_code = ErrorCode.PRODUCER_FENCED


class TransactionAbortableError(KafkaError):
    """The transaction can only be aborted; then the producer can go on with a new one."""

    default_code = ErrorCode.TRANSACTION_ABORTABLE


class FatalProducerError(KafkaError):
    """The producer cannot go on; close it and make a new one."""


class CommitFailedError(KafkaError):
    """The offsets were not committed: the group has given the partitions to somebody else."""


class RebalanceInProgressError(KafkaError):
    """The group is rebalancing; poll, then try again."""

    default_code = ErrorCode.REBALANCE_IN_PROGRESS


class FencedInstanceIdError(KafkaError):
    """Another consumer runs with the same group.instance.id."""

    default_code = ErrorCode.FENCED_INSTANCE_ID


class OffsetOutOfRangeError(KafkaError):
    """There is nothing at the position any more (or not yet), and `auto.offset.reset` is none."""

    default_code = ErrorCode.OFFSET_OUT_OF_RANGE


class NoOffsetForPartitionError(KafkaError):
    """The group has committed nothing for a partition, and `auto.offset.reset` is none."""

    default_hint = "Set auto.offset.reset to earliest or latest, or seek."


class LogTruncatedError(OffsetOutOfRangeError):
    """Records that were consumed are gone: an unclean leader election cut the log (KIP-320)."""


def error_for(code: ErrorCode | int, message: str | None = None, *, hint: str | None = None) -> KafkaError:
    """The exception for an error code of a response. `message` is the broker's own, or None for the code's."""
    return _CLASSES.get(int(code), KafkaError)(message or None, code=code, hint=hint)


_CLASSES: dict[int, type[KafkaError]] = {
    **{
        int(cls.default_code): cls
        for cls in (
            ConnectionFailedError,
            CorruptRecordsError,
            RecordTooLargeError,
            UnknownTopicError,
            InvalidTopicError,
            AuthenticationError,
            UnsupportedVersionError,
            ProducerFencedError,
            TransactionAbortableError,
            RebalanceInProgressError,
            FencedInstanceIdError,
            OffsetOutOfRangeError,
        )
        if cls.default_code is not None
    },
    ErrorCode.UNKNOWN_TOPIC_ID: UnknownTopicError,
    ErrorCode.REQUEST_TIMED_OUT: KafkaTimeoutError,
    ErrorCode.RECORD_LIST_TOO_LARGE: RecordTooLargeError,
    ErrorCode.INVALID_PRODUCER_EPOCH: ProducerFencedError,
    ErrorCode.TOPIC_AUTHORIZATION_FAILED: AuthorizationError,
    ErrorCode.GROUP_AUTHORIZATION_FAILED: AuthorizationError,
    ErrorCode.CLUSTER_AUTHORIZATION_FAILED: AuthorizationError,
    ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: AuthorizationError,
    ErrorCode.DELEGATION_TOKEN_AUTHORIZATION_FAILED: AuthorizationError,
    ErrorCode.UNSUPPORTED_SASL_MECHANISM: AuthenticationError,
    ErrorCode.ILLEGAL_SASL_STATE: AuthenticationError,
}

_HINTS: dict[ErrorCode, str] = {
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: "Create the topic, or check its name.",
    ErrorCode.UNKNOWN_TOPIC_ID: "The topic was deleted, or made anew under its name.",
    ErrorCode.INVALID_TOPIC_EXCEPTION: "Names of topics have 1 to 249 of a-z, A-Z, 0-9, dot, underscore and hyphen.",
    ErrorCode.MESSAGE_TOO_LARGE: "Raise the topic's max.message.bytes, or send smaller records.",
    ErrorCode.NOT_ENOUGH_REPLICAS: "Bring brokers back, or lower the topic's min.insync.replicas.",
    ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND: "The records are written, but on fewer replicas than asked for.",
    ErrorCode.TOPIC_AUTHORIZATION_FAILED: "Ask for an ACL on the topic for this principal.",
    ErrorCode.GROUP_AUTHORIZATION_FAILED: "Ask for an ACL (READ) on the group for this principal.",
    ErrorCode.CLUSTER_AUTHORIZATION_FAILED: "Ask for an ACL on the cluster for this principal.",
    ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "Ask for an ACL (WRITE) on the transactional id.",
    ErrorCode.SASL_AUTHENTICATION_FAILED: "Check user name, password and sasl.mechanism.",
    ErrorCode.ILLEGAL_SASL_STATE: "The listener may not ask for SASL: check security.protocol and the port.",
    ErrorCode.INVALID_SESSION_TIMEOUT: "Keep session.timeout.ms within the broker's group.min/max.session.timeout.ms.",
    ErrorCode.GROUP_MAX_SIZE_REACHED: "Use fewer consumers, or raise the broker's group.max.size.",
    ErrorCode.INCONSISTENT_GROUP_PROTOCOL: (
        "All members of a group need a partition.assignment.strategy in common, and the same kind of group."
    ),
    ErrorCode.INVALID_TRANSACTION_TIMEOUT: "Keep transaction.timeout.ms below the broker's transaction.max.timeout.ms.",
    ErrorCode.PRODUCER_FENCED: "Close this producer; only one may use a transactional.id at a time.",
    ErrorCode.INVALID_PRODUCER_EPOCH: "Close this producer; only one may use a transactional.id at a time.",
    ErrorCode.TRANSACTION_ABORTABLE: "Abort the transaction and run it again.",
    ErrorCode.FENCED_INSTANCE_ID: "Give each consumer its own group.instance.id.",
    ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT: (
        "Set enable.idempotence to false, or raise the topic's message.format.version to 0.11 or newer."
    ),
    ErrorCode.UNSUPPORTED_VERSION: "Upgrade the broker, or do without this.",
    ErrorCode.UNSUPPORTED_SASL_MECHANISM: "Set sasl.mechanism to one that the broker offers.",
    ErrorCode.OFFSET_OUT_OF_RANGE: "Set auto.offset.reset to earliest or latest, or seek.",
    ErrorCode.NETWORK_EXCEPTION: "Check that the broker runs and can be reached.",
    ErrorCode.NON_EMPTY_GROUP: "Stop the group's members first.",
    ErrorCode.INVALID_TIMESTAMP: "The topic bounds timestamps with message.timestamp.before/after.max.ms.",
}
