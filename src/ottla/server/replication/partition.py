"""One partition on this broker: appends, offsets a reader may see, and who waits for them to move.

It leads or it follows. A leader that has followers keeps a `Followers` beside it; one that is alone has none, and
takes the short way: what it appends is committed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ottla.core.errors import ApiError, ErrorCode
from ottla.core.topics import INTERNAL_TOPICS
from ottla.records.batch import HEADER_SIZE, parse_header
from ottla.server.replication.cluster_view import ClusterView

if TYPE_CHECKING:
    from ottla.core.binary import Buffer
    from ottla.core.ids import TopicPartition
    from ottla.server.log.log import AppendOrigin, AppendResult, Log
    from ottla.server.log.verification import Verification
    from ottla.server.replication.commits import AwaitedCommits, CommitWaiter
    from ottla.server.replication.followers import Followers, PendingIsr

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
# The controller says that the partition is as it was.
_ISR_NOT_CHANGED = frozenset((ErrorCode.OPERATION_NOT_ATTEMPTED, ErrorCode.INELIGIBLE_REPLICA))
# The controller knows better than this broker, which will hear of it.
_ISR_OUT_OF_DATE = frozenset(
    (
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.UNKNOWN_TOPIC_ID,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.INVALID_UPDATE_VERSION,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.NEW_LEADER_ELECTED,
    )
)
_OUT_OF_ORDER = frozenset((ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode.INVALID_PRODUCER_EPOCH))

_COUNTED = (
    "append_count",
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
COUNTERS = ("messages_in", "bytes_in", *_COUNTED)
"""What a `Partition` tells of itself, from the moment it is opened."""


class PartitionWaiter(Protocol):
    """Somebody waiting for what a consumer may read to move: a long-polling fetch, a coordinator."""

    def partition_changed(self, partition: Partition) -> None:
        """A moved high watermark or stable offset, or a changed leadership.  Must not append."""


class LogWatcher(Protocol):
    """A follower's fetch session on the leader: it reads up to the end of the log, and is there all the time."""

    def log_grew(self, partition: Partition) -> None:
        """Something was appended.  Must not append."""

    def partition_changed(self, partition: Partition) -> None:
        """High watermark, log start or leadership have changed.  Must not append."""


class Partition:
    """One hosted partition.

    `isr` and `replicas` are broker ids. While this broker is the only replica an appended record is committed at once;
    followers' positions (`follower_fetched`) hold the high watermark back otherwise, and so does a flush that
    `flush.messages` promises: what it is waiting for nobody sees yet.
    """

    __slots__ = (
        *_COUNTED,
        "_awaits_flush",
        "_bytes_in",
        "_cluster",
        "_commits",
        "_first_byte",
        "_first_offset",
        "_messages_in",
        "_min_isr",
        "_waiters",
        "_watchers",
        "commits_alone",
        "followers",
        "is_internal",
        "leader_epoch",
        "leader_epoch_start_offset",
        "leader_id",
        "log",
        "node_id",
        "partition",
        "partition_epoch",
        "replicas",
        "_isr",
        "topic",
        "topic_id",
    )

    def __init__(
        self,
        node_id: int,
        topic_partition: TopicPartition,
        topic_id: bytes,
        log: Log,
        cluster: ClusterView | None = None,
    ) -> None:
        self.node_id = node_id
        self.topic, self.partition = topic_partition
        self.topic_id = topic_id
        self.is_internal = self.topic in INTERNAL_TOPICS
        self.log = log
        self._cluster = cluster or ClusterView()
        self.leader_id = -1
        self.leader_epoch = NO_EPOCH
        self.leader_epoch_start_offset = 0
        self.partition_epoch = NO_EPOCH
        self.replicas: tuple[int, ...] = ()
        self._isr: tuple[int, ...] = ()
        self.followers: Followers | None = None
        """What it knows of the other replicas, while it leads and there are any."""
        self._min_isr = 1
        self.commits_alone = False
        self._awaits_flush = False
        self._waiters: dict[PartitionWaiter, None] = {}
        self._watchers: dict[LogWatcher, None] = {}
        self._commits: AwaitedCommits | None = None  # made for the first one who waits
        # What was appended under leaderships before this one, and where this one began to append.
        self._messages_in = self._bytes_in = 0
        self._first_offset, self._first_byte = log.log_end_offset, log.written_bytes
        self.append_count = self.fetch_count = self.bytes_out = 0
        self.failed_append_count = self.failed_fetch_count = self.bytes_rejected = 0
        self.invalid_crc_count = self.invalid_magic_count = self.invalid_sequence_count = self.keyless_count = 0

    def __repr__(self) -> str:
        return f"{self.topic}-{self.partition}"

    @property
    def messages_in(self) -> int:
        """Records appended as leader since the partition was opened: the way that the end of its log has gone."""
        return self._messages_in + (self.log.log_end_offset - self._first_offset if self.is_leader else 0)

    @property
    def bytes_in(self) -> int:
        """Bytes appended as leader since the partition was opened."""
        return self._bytes_in + (self.log.written_bytes - self._first_byte if self.is_leader else 0)

    def _count_from_here(self, log: Log) -> None:
        """Leadership or log will change: what was appended until now stays counted."""
        self._messages_in, self._bytes_in = self.messages_in, self.bytes_in
        self._first_offset, self._first_byte = log.log_end_offset, log.written_bytes

    def replace_log(self, log: Log) -> None:
        """Go on with a copy of the log, in another directory."""
        self._count_from_here(log)
        self.log = log
        self.notify()

    # Leadership

    @property
    def is_leader(self) -> bool:
        """True when this broker leads the partition."""
        return self.leader_id == self.node_id

    @property
    def isr(self) -> tuple[int, ...]:
        """The in-sync replicas that the controller has agreed to."""
        return self._isr if self.followers is None else self.followers.isr

    def update_leadership(
        self,
        leader_id: int,
        leader_epoch: int,
        replicas: tuple[int, ...],
        isr: tuple[int, ...],
        partition_epoch: int = NO_EPOCH,
        now_ms: int = 0,
    ) -> None:
        """Take over what the metadata image says; older news than what the controller has answered changes nothing.

        A new leader begins its epoch at the end of its log and forgets what it knew of followers.
        """
        if NO_EPOCH < partition_epoch < self.partition_epoch:
            return
        led = self.leader_id == self.node_id
        is_new_epoch = leader_id != self.leader_id or leader_epoch != self.leader_epoch
        # In between another one may have led, to whom followers have cut their logs: nothing is known of them then.
        led_before = led and leader_epoch <= self.leader_epoch + 1
        is_known = not is_new_epoch and NO_EPOCH < partition_epoch == self.partition_epoch
        if leader_id != self.leader_id:
            self._count_from_here(self.log)
        self.leader_id = leader_id
        self.leader_epoch = leader_epoch
        self.partition_epoch = max(partition_epoch, self.partition_epoch)
        self.replicas = replicas
        self._isr = isr
        if leader_id != self.node_id:
            self.followers = None
            self._update_commits_alone()
            if led:
                self._abandon_commits()
        else:
            if is_new_epoch:
                self.leader_epoch_start_offset = self.log.log_end_offset
            self._update_followers(is_new_epoch, led_before, is_known, now_ms)
            self._update_commits_alone()
            self._advance_high_watermark()
        self._tell_watchers()
        self.notify()

    def _update_followers(self, is_new_epoch: bool, led_before: bool, is_known: bool, now_ms: int) -> None:
        if self.replicas == (self.node_id,):
            self.followers = None
        elif self.followers is None or not led_before:
            from ottla.server.replication.followers import Followers

            self.followers = Followers(self.node_id, self.replicas, self._isr, now_ms)
        else:
            self.followers.update(self.replicas, self._isr, is_known=is_known)
            if is_new_epoch:
                self.followers.reelected(now_ms)

    def update_min_isr(self, min_isr: int) -> None:
        """Take over min.insync.replicas."""
        if min_isr != self._min_isr:
            self._min_isr = min_isr
            self._update_commits_alone()
            self._advance_high_watermark()
            self.notify()

    @property
    def is_under_min_isr(self) -> bool:
        """Whether acks=all is refused, and nothing is committed."""
        return len(self.isr) < self.needed_isr

    @property
    def needed_isr(self) -> int:
        """How many in-sync replicas a commit needs: never more than there are replicas."""
        return min(self._min_isr, len(self.replicas))

    def _update_commits_alone(self) -> None:
        self.commits_alone = (
            self.leader_id == self.node_id and self.followers is None and self._isr == (self.node_id,)
        ) and self.needed_isr <= 1

    def check_leader_epoch(self, current_leader_epoch: int, *, leader_only: bool = True) -> ErrorCode:
        """NONE, or why a client with this idea of the leader epoch is refused (KIP-320); -1 asks for no check.

        Consumers may read from followers (KIP-392), without `leader_only`.
        """
        if current_leader_epoch != NO_EPOCH and current_leader_epoch != self.leader_epoch:
            if current_leader_epoch < self.leader_epoch:
                return ErrorCode.FENCED_LEADER_EPOCH
            return ErrorCode.UNKNOWN_LEADER_EPOCH
        if leader_only and self.leader_id != self.node_id:
            return ErrorCode.NOT_LEADER_OR_FOLLOWER
        return ErrorCode.NONE

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
        if result.flush_pending:
            self._awaits_flush = True
            log.on_flushed = self._flushed
        elif self.commits_alone:
            log.advance_high_watermark(log.log_end_offset)
        else:
            self._grew()
            return result
        if self._waiters:
            self.notify()
        return result

    def _grew(self) -> None:
        """Something was appended that followers have to fetch: tell them, and only them, unless it is committed."""
        for watcher in self._watchers:
            watcher.log_grew(self)
        followers = self.followers
        if (followers is None or followers.is_alone) and self._advance_high_watermark():
            self.notify()

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

    def append_from_leader(self, records: Buffer, leader_epoch: int, now_ms: int) -> int:
        """Append what was fetched from the leader of this epoch, as far as it is whole; the new log end offset.

        Raises ApiError (NOT_LEADER_OR_FOLLOWER when another leader was elected meanwhile, or what the log refuses) and
        `CorruptRecordError`.
        """
        if self.leader_id == self.node_id or leader_epoch != self.leader_epoch:
            raise ApiError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        log = self.log
        if log.log_start_offset == log.log_end_offset and len(records) >= HEADER_SIZE:
            header = parse_header(records)
            if header.base_offset < log.log_end_offset < header.next_offset:
                # The leader's log starts within a batch, as DeleteRecords can have it; an empty one begins with all of
                # that batch.
                log.truncate_fully_and_start_at(header.base_offset, now_ms=now_ms)
        log.append_as_follower(records, now_ms, leader_epoch=leader_epoch)
        return log.log_end_offset

    def leader_told(self, high_watermark: int, log_start_offset: int) -> None:
        """As a follower, take over how far the leader's records are committed and where its log starts."""
        log = self.log
        before = log.high_watermark, log.last_stable_offset, log.log_start_offset
        log.advance_high_watermark(high_watermark)
        if log_start_offset > log.log_start_offset:
            log.delete_records_before(min(log_start_offset, log.high_watermark))
        if before != (log.high_watermark, log.last_stable_offset, log.log_start_offset):
            self._tell_watchers()
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

        A leader's own epoch is known from the election on, although the log learns of it with its first append: it
        begins where the log ended then, and so all earlier ones end there.
        """
        log = self.log
        if self.leader_id != self.node_id:
            return log.end_offset_for_epoch(leader_epoch)
        if leader_epoch == self.leader_epoch:
            return leader_epoch, log.log_end_offset
        latest = log.leader_epochs.latest
        if 0 <= leader_epoch < self.leader_epoch and latest < self.leader_epoch and leader_epoch >= latest:
            return latest if latest >= 0 else leader_epoch, self.leader_epoch_start_offset
        return log.end_offset_for_epoch(leader_epoch)

    def readable_end_offset(self, isolation_level: int) -> int:
        """Exclusive end of what a consumer may read: high watermark, or last stable offset for read_committed."""
        return self.log.last_stable_offset if isolation_level == READ_COMMITTED else self.log.high_watermark

    def follower_fetched(
        self,
        replica_id: int,
        fetch_offset: int,
        log_start_offset: int = 0,
        broker_epoch: int = -1,
        now_ms: int = 0,
    ) -> None:
        """A follower asked for `fetch_offset`: it has everything below, from `log_start_offset` on.

        Raises ApiError NOT_LEADER_OR_FOLLOWER for a fetch that an earlier run of the broker has left behind (KIP-903):
        what that one had, the present one may have lost.
        """
        followers = self.followers
        progress = None if followers is None else followers.progress.get(replica_id)
        if followers is None or progress is None:
            return
        if self._cluster.is_outdated(replica_id, broker_epoch):
            raise ApiError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        log = self.log
        had_end_offset, had_start_offset = progress.end_offset, progress.start_offset
        progress.fetched(fetch_offset, log_start_offset, broker_epoch, log.log_end_offset, now_ms)
        if replica_id not in followers.isr:
            cluster = self._cluster
            followers.look_for_joining(log.log_end_offset, now_ms, cluster.lag_time_max_ms, cluster.is_eligible)
            self._propose_expansion(followers, replica_id)
        moved = had_end_offset != fetch_offset and self._advance_high_watermark()
        if moved or had_start_offset != log_start_offset:
            self.notify()

    def _propose_expansion(self, followers: Followers, replica_id: int) -> None:
        cluster = self._cluster
        if cluster.propose_isr is None:
            return
        pending = followers.propose_expansion(
            replica_id,
            max(self.log.high_watermark, self.leader_epoch_start_offset),
            self.leader_epoch,
            self.partition_epoch,
            cluster.is_eligible,
        )
        if pending is not None:
            cluster.propose_isr(self, pending)

    def check_isr(self, now_ms: int) -> None:
        """Ask the controller to go on without followers that are late; to be called now and then."""
        followers, cluster = self.followers, self._cluster
        if followers is None or cluster.propose_isr is None:
            return
        end_offset, lag_ms = self.log.log_end_offset, cluster.lag_time_max_ms
        followers.look_for_joining(end_offset, now_ms, lag_ms, cluster.is_eligible)
        if late := followers.late(end_offset, now_ms, lag_ms):
            pending = followers.propose_shrinking(late, self.leader_epoch, self.partition_epoch)
            if pending is not None:
                cluster.propose_isr(self, pending)
        if self._advance_high_watermark():
            self.notify()

    def isr_decided(self, pending: PendingIsr, isr: tuple[int, ...], leader_epoch: int, partition_epoch: int) -> None:
        """The controller has answered a proposal with how the partition is now."""
        followers = self.followers
        if (
            followers is None
            or followers.pending is not pending
            or leader_epoch != self.leader_epoch
            or partition_epoch < self.partition_epoch
        ):
            self._cluster.failed_isr_updates += 1
            return
        followers.settle(pending, isr)
        self._isr = isr
        self.partition_epoch = partition_epoch
        self._cluster.isr_expands += bool(pending.added)
        self._cluster.isr_shrinks += bool(pending.removed)
        self._advance_high_watermark()
        self.notify()

    def isr_refused(self, pending: PendingIsr, code: ErrorCode) -> bool:
        """The controller has refused a proposal; whether the same is to be asked for again.

        When it says that nothing was changed, the committed state counts again. Otherwise this broker's idea of the
        partition is an old one, and nobody knows what was done: the proposal stands until the metadata has told.
        """
        self._cluster.failed_isr_updates += 1
        followers = self.followers
        if followers is None or followers.pending is not pending:
            return False
        if code in _ISR_NOT_CHANGED:
            followers.settle(pending, None)
            if self._advance_high_watermark():
                self.notify()
            return False
        return code not in _ISR_OUT_OF_DATE

    @property
    def low_watermark(self) -> int:
        """Where the replicas that are alive have all of their log from; -1 when one of them has not told yet."""
        start_offset = self.log.log_start_offset
        if self.followers is None:
            return start_offset
        return self.followers.low_watermark(start_offset, self._cluster.is_alive)

    def _advance_high_watermark(self) -> bool:
        """Move it as far as the in-sync replicas allow; who waits for the commit is told, others are not."""
        # Nothing is committed by fewer replicas than the topic asks for (KIP-966).
        if self.leader_id != self.node_id or self.is_under_min_isr:
            return False
        log = self.log
        end_offset = log.recovery_point if self._awaits_flush else log.log_end_offset
        if self.followers is not None:
            end_offset = self.followers.common_end_offset(end_offset)
        if end_offset <= log.high_watermark:
            return False
        log.advance_high_watermark(end_offset)
        if self._commits:
            self._settle_commits(self._commits)
        self._tell_watchers()
        return True

    def delete_records_before(self, offset: int) -> int:
        """Raise the log start to `offset` (-1: the high watermark); the offset that `low_watermark` has to reach.

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
        self._tell_watchers()
        self.notify()
        return target

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

    def watch(self, watcher: LogWatcher) -> None:
        """Tell a follower's session about every append and every change from now on."""
        self._watchers[watcher] = None

    def unwatch(self, watcher: LogWatcher) -> None:
        """Forget `watcher`; fine when it was not there."""
        self._watchers.pop(watcher, None)

    def _tell_watchers(self) -> None:
        for watcher in self._watchers:
            watcher.partition_changed(self)

    def await_commit(self, end_offset: int, waiter: CommitWaiter) -> None:
        """Tell `waiter` once when the high watermark has reached `end_offset`, or will not with this leader."""
        commits = self._commits
        if commits is None:
            from ottla.server.replication.commits import AwaitedCommits

            commits = self._commits = AwaitedCommits()
        commits.add(end_offset, waiter)

    def forget_commit(self, waiter: CommitWaiter) -> None:
        """Do not tell `waiter` any more."""
        if self._commits is not None:
            self._commits.forget(waiter)

    def _settle_commits(self, commits: AwaitedCommits) -> None:
        followers = self.followers
        size = len(self._isr) if followers is None else len(followers.maximal_isr)
        code = ErrorCode.NONE if size >= self.needed_isr else ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND
        for waiter in commits.take_reached(self.log.high_watermark):
            waiter.committed(self, code)

    def _abandon_commits(self) -> None:
        if self._commits is not None:
            for waiter in self._commits.take_all():
                waiter.committed(self, ErrorCode.NOT_LEADER_OR_FOLLOWER)

    @property
    def waiter_count(self) -> int:
        """How many wait; for tests and metrics."""
        return len(self._waiters) + (0 if self._commits is None else len(self._commits))
