"""The leader's side of one partition: appends, offsets a reader may see, and who waits for them to move."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.topics import INTERNAL_TOPICS

if TYPE_CHECKING:
    from ottla.core.ids import TopicPartition
    from ottla.server.log.log import AppendOrigin, AppendResult, Log
    from ottla.server.log.verification import Verification

READ_UNCOMMITTED = 0
READ_COMMITTED = 1
NO_EPOCH = -1

# Refusals that say nothing of a broker's health, as Kafka sees it: they are not counted as failed requests.
_UNCOUNTED_FAILURES = frozenset(
    (
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.MESSAGE_TOO_LARGE,
        ErrorCode.RECORD_LIST_TOO_LARGE,
        ErrorCode.CORRUPT_MESSAGE,
        ErrorCode.KAFKA_STORAGE_ERROR,
    )
)
_OUT_OF_ORDER = frozenset((ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode.INVALID_PRODUCER_EPOCH))

COUNTERS = (
    "append_count",
    "bytes_in",
    "bytes_out",
    "bytes_rejected",
    "failed_append_count",
    "failed_fetch_count",
    "fetch_count",
    "invalid_crc_count",
    "invalid_magic_count",
    "invalid_sequence_count",
    "keyless_count",
)
"""What a `Partition` counts besides `messages_in`, from the moment it is opened."""


class PartitionWaiter(Protocol):
    """Somebody waiting for a partition's offsets to move: a long-polling fetch, a produce with acks=all."""

    def partition_changed(self, partition: Partition) -> None:
        """New records, a moved high watermark or stable offset, or a changed leadership.  Must not append."""


class Partition:
    """One hosted partition, as its leader sees it.

    `isr` and `replicas` are broker ids. While this broker is alone in the ISR, and that is enough, an appended record
    is committed at once; followers' positions (`follower_fetched`) hold the high watermark back otherwise, and so does
    a flush that `flush.messages` promises: what it is waiting for nobody sees yet.
    """

    __slots__ = (
        *COUNTERS,
        "_awaits_flush",
        "_first_offset",
        "_follower_end_offsets",
        "_min_isr",
        "_waiters",
        "commits_alone",
        "is_internal",
        "isr",
        "leader_epoch",
        "leader_id",
        "log",
        "node_id",
        "partition",
        "replicas",
        "topic",
        "topic_id",
    )

    def __init__(self, node_id: int, topic_partition: TopicPartition, topic_id: bytes, log: Log) -> None:
        self.node_id = node_id
        self.topic, self.partition = topic_partition
        self.topic_id = topic_id
        self.is_internal = self.topic in INTERNAL_TOPICS
        self.log = log
        self.leader_id = -1
        self.leader_epoch = NO_EPOCH
        self.isr: tuple[int, ...] = ()
        self.replicas: tuple[int, ...] = ()
        self._min_isr = 1
        self.commits_alone = False
        self._awaits_flush = False
        self._follower_end_offsets: dict[int, int] = {}
        self._waiters: dict[PartitionWaiter, None] = {}
        self._first_offset = log.log_end_offset
        self.append_count = self.bytes_in = self.fetch_count = self.bytes_out = 0
        self.failed_append_count = self.failed_fetch_count = self.bytes_rejected = 0
        self.invalid_crc_count = self.invalid_magic_count = self.invalid_sequence_count = self.keyless_count = 0

    @property
    def messages_in(self) -> int:
        """Records appended since the partition was opened: the way that the end of its log has gone."""
        return max(self.log.log_end_offset - self._first_offset, 0)

    # Leadership

    @property
    def is_leader(self) -> bool:
        """True when this broker leads the partition."""
        return self.leader_id == self.node_id

    def update_leadership(
        self, leader_id: int, leader_epoch: int, replicas: tuple[int, ...], isr: tuple[int, ...]
    ) -> None:
        """Take over what the metadata image says; a new leader forgets what it knew of followers."""
        changed = leader_id != self.leader_id or leader_epoch != self.leader_epoch
        self.leader_id = leader_id
        self.leader_epoch = leader_epoch
        self.replicas = replicas
        self.isr = isr
        self._update_commits_alone()
        if changed:
            self._follower_end_offsets.clear()
        self._advance_high_watermark()
        self.notify()

    def update_min_isr(self, min_isr: int) -> None:
        """Take over min.insync.replicas."""
        if min_isr != self._min_isr:
            self._min_isr = min_isr
            self._update_commits_alone()
            self._advance_high_watermark()
            self.notify()

    @property
    def needed_isr(self) -> int:
        """How many in-sync replicas a commit needs: never more than there are replicas."""
        return min(self._min_isr, len(self.replicas))

    def _update_commits_alone(self) -> None:
        self.commits_alone = self.leader_id == self.node_id and self.isr == (self.node_id,) and self.needed_isr <= 1

    def check_leader_epoch(self, current_leader_epoch: int) -> ErrorCode:
        """NONE, or why a client with this idea of the leader epoch is refused (KIP-320); -1 asks for no check."""
        if self.leader_id != self.node_id:
            return ErrorCode.NOT_LEADER_OR_FOLLOWER
        if current_leader_epoch == NO_EPOCH or current_leader_epoch == self.leader_epoch:
            return ErrorCode.NONE
        if current_leader_epoch < self.leader_epoch:
            return ErrorCode.FENCED_LEADER_EPOCH
        return ErrorCode.UNKNOWN_LEADER_EPOCH

    # Appending

    def append(
        self,
        records: bytearray | memoryview,
        required_acks: int,
        now_ms: int,
        origin: AppendOrigin,
        produce_version: int | None = None,
        verification: Verification | None = None,
        transaction_version: int = 0,
    ) -> AppendResult:
        """Append batches (writable: offsets are patched in place) and move the high watermark as far as the ISR allows.

        `verification` lets a batch begin a transaction; `transaction_version` is that of a transaction marker.

        Raises ApiError: NOT_LEADER_OR_FOLLOWER, NOT_ENOUGH_REPLICAS (acks=all and too small an ISR), or what the log
        refuses.
        """
        self.append_count += 1
        log = self.log
        try:
            if not self.commits_alone:
                self._check_may_append(required_acks)
            result = log.append_as_leader(
                records,
                self.leader_epoch,
                now_ms,
                origin=origin,
                produce_version=produce_version,
                transaction_version=transaction_version,
                verification=verification,
            )
        except ApiError as error:
            self._count_refused(error, len(records))
            raise
        self.bytes_in += len(records)
        if result.flush_pending:
            self._awaits_flush = True
            log.on_flushed = self._flushed
        elif self.commits_alone:
            log.advance_high_watermark(log.log_end_offset)
        else:
            self._advance_high_watermark()
        if self._waiters:
            self.notify()
        return result

    def _count_refused(self, error: ApiError, size: int) -> None:
        code = error.code
        if code not in _UNCOUNTED_FAILURES:
            self.failed_append_count += 1
        if code is ErrorCode.MESSAGE_TOO_LARGE or code is ErrorCode.RECORD_LIST_TOO_LARGE:
            self.bytes_rejected += size
        elif code is ErrorCode.CORRUPT_MESSAGE:
            self.invalid_crc_count += "CRC" in (error.message or "")
            self.invalid_magic_count += "magic" in (error.message or "")
        elif code in _OUT_OF_ORDER:
            self.invalid_sequence_count += 1
        elif code is ErrorCode.INVALID_RECORD:
            # How many records had no key; see `records.validation`.
            self.keyless_count += len(getattr(error, "record_errors", ()))

    def _flushed(self) -> None:
        self._awaits_flush = self.log.is_flush_due
        self._advance_high_watermark()
        self.notify()

    def _check_may_append(self, required_acks: int) -> None:
        if self.leader_id != self.node_id:
            raise ApiError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        if required_acks == -1 and len(self.isr) < self.needed_isr:
            raise ApiError(
                ErrorCode.NOT_ENOUGH_REPLICAS,
                f"{self.topic}-{self.partition} needs {self.needed_isr} in-sync replicas and has {list(self.isr)}",
            )

    # Offsets

    def end_offset_for_epoch(self, leader_epoch: int) -> tuple[int, int]:
        """(epoch, exclusive end offset) of the largest known epoch not above this one; (-1, -1) when there is none.

        The current epoch is known from the election on, although the log learns of it with its first append.
        """
        if leader_epoch == self.leader_epoch:
            return leader_epoch, self.log.log_end_offset
        return self.log.end_offset_for_epoch(leader_epoch)

    def readable_end_offset(self, isolation_level: int) -> int:
        """Exclusive end of what a consumer may read: high watermark, or last stable offset for read_committed."""
        return self.log.last_stable_offset if isolation_level == READ_COMMITTED else self.log.high_watermark

    def follower_fetched(self, replica_id: int, fetch_offset: int) -> None:
        """A follower asked for `fetch_offset`: it has everything below."""
        self._follower_end_offsets[replica_id] = fetch_offset
        before = self.log.high_watermark
        self._advance_high_watermark()
        if self.log.high_watermark != before:
            self.notify()

    def _advance_high_watermark(self) -> None:
        # Nothing is committed by fewer replicas than the topic asks for (KIP-966).
        if self.leader_id != self.node_id or len(self.isr) < self.needed_isr:
            return
        end_offset = self.log.recovery_point if self._awaits_flush else self.log.log_end_offset
        for replica_id in self.isr:
            if replica_id != self.node_id:
                end_offset = min(end_offset, self._follower_end_offsets.get(replica_id, 0))
        if end_offset > self.log.high_watermark:
            self.log.advance_high_watermark(end_offset)

    def delete_records_before(self, offset: int) -> int:
        """Raise the log start to `offset` (-1: the high watermark) and return the new low watermark.

        Raises ApiError: NOT_LEADER_OR_FOLLOWER, OFFSET_OUT_OF_RANGE beyond the high watermark, POLICY_VIOLATION on a
        topic whose cleanup policy does not delete.
        """
        if self.leader_id != self.node_id:
            raise ApiError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        log = self.log
        policy = log.config.cleanup_policy
        if "delete" not in policy and "compact" in policy:
            raise ApiError(
                ErrorCode.POLICY_VIOLATION,
                f"Records of {self.topic} cannot be deleted: its cleanup.policy is {','.join(policy)}",
            )
        target = log.high_watermark if offset == -1 else offset
        if target < 0 or target > log.high_watermark:
            raise ApiError(
                ErrorCode.OFFSET_OUT_OF_RANGE,
                f"Offset {offset} of {self.topic}-{self.partition} is beyond the high watermark {log.high_watermark}",
            )
        log.delete_records_before(target)
        self.notify()
        return log.log_start_offset

    # Waiting

    def add_waiter(self, waiter: PartitionWaiter) -> None:
        """Tell `waiter` about every change from now on."""
        self._waiters[waiter] = None

    def remove_waiter(self, waiter: PartitionWaiter) -> None:
        """Forget `waiter`; fine when it was not there."""
        self._waiters.pop(waiter, None)

    def notify(self) -> None:
        """Tell everybody who waits that something changed."""
        if self._waiters:
            for waiter in tuple(self._waiters):
                waiter.partition_changed(self)

    @property
    def waiter_count(self) -> int:
        """How many wait; for tests and metrics."""
        return len(self._waiters)
