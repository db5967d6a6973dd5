"""What is known of one transactional id: an immutable value, which is what a record of ``__transaction_state`` holds.

Theory of operation. A transaction goes Empty → Ongoing → PrepareCommit or PrepareAbort → CompleteCommit or
CompleteAbort → Ongoing …; once a Prepare state is committed its outcome stands, and Complete says that every partition
has its marker. Each function here makes the value that follows another; `shard` decides when.

Epochs fence. InitProducerId bumps the epoch, so that an earlier producer of the same transactional id is refused from
then on. With transactions v2 (KIP-890) every end of a transaction bumps it as well, so that nothing a producer sent in
one transaction can be taken for a part of the next. The highest epochs are left to the coordinator: a producer at
`LAST_CLIENT_EPOCH` goes on under a new producer id.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from ottla.core.ids import TopicPartition

NO_PRODUCER_ID = -1
NO_EPOCH = -1
NO_TIME = -1
HIGHEST_EPOCH = 32_767
#: A producer never learns of a higher epoch: the coordinator needs one more to fence it with.
LAST_CLIENT_EPOCH = HIGHEST_EPOCH - 1
#: The timeout of a two-phase commit (KIP-939), which only its own coordinator ends.
NEVER_MS = 2**31 - 1
#: The feature level of transaction.version with which every end of a transaction bumps the epoch.
TRANSACTIONS_V2 = 2

NO_PARTITIONS: frozenset[TopicPartition] = frozenset()


class TransactionState(IntEnum):
    """States as they are stored; `title` is how DescribeTransactions and ListTransactions call them.

    Dead and PrepareEpochFence are never stored: an id that expires is removed by its tombstone, and fencing goes
    straight on to PrepareAbort.
    """

    title: str

    def __new__(cls, value: int, title: str = "") -> TransactionState:
        member = int.__new__(cls, value)
        member._value_ = value
        member.title = title
        return member

    EMPTY = 0, "Empty"
    ONGOING = 1, "Ongoing"
    PREPARE_COMMIT = 2, "PrepareCommit"
    PREPARE_ABORT = 3, "PrepareAbort"
    COMPLETE_COMMIT = 4, "CompleteCommit"
    COMPLETE_ABORT = 5, "CompleteAbort"
    DEAD = 6, "Dead"
    PREPARE_EPOCH_FENCE = 7, "PrepareEpochFence"


class Transaction(NamedTuple):
    """One transactional id. Times are wall clock milliseconds.

    `previous_producer_id` is the one before the last change; a producer may come with it that never heard the answer.
    `next_producer_id` takes over when the transaction is complete, because epochs are used up. `last_producer_epoch`
    is the epoch before the last bump, as far as its producer may repeat the request that bumped it; it is not stored.
    `client_version` is the transaction.version that the request which led here spoke.
    """

    producer_id: int
    producer_epoch: int
    timeout_ms: int
    state: TransactionState
    partitions: frozenset[TopicPartition]
    start_ms: int
    last_update_ms: int
    previous_producer_id: int = NO_PRODUCER_ID
    next_producer_id: int = NO_PRODUCER_ID
    last_producer_epoch: int = NO_EPOCH
    client_version: int = 0

    @property
    def is_prepared(self) -> bool:
        """Whether the outcome stands and the markers are on their way: nothing else can happen until they arrived."""
        return self.state in (TransactionState.PREPARE_COMMIT, TransactionState.PREPARE_ABORT)

    @property
    def is_epoch_exhausted(self) -> bool:
        """Whether the producer needs a new producer id, as there is no epoch left to give it."""
        return self.producer_epoch >= LAST_CLIENT_EPOCH

    @property
    def may_expire(self) -> bool:
        """Whether nothing is open."""
        return self.state in (
            TransactionState.EMPTY,
            TransactionState.COMPLETE_COMMIT,
            TransactionState.COMPLETE_ABORT,
        )

    def has_timed_out(self, now_ms: int, watched_ms: int = 0) -> bool:
        """Whether it is open for longer than its producer allowed: by the wall clock, or by who has watched it so long.

        The clock that it began by may have been far ahead, and readers would wait until all others get there.
        """
        return (
            self.state is TransactionState.ONGOING
            and self.timeout_ms != NEVER_MS
            and (self.start_ms + self.timeout_ms < now_ms or self.timeout_ms < watched_ms)
        )

    # What follows

    def initialized(
        self, *, producer_id: int, producer_epoch: int, last_producer_epoch: int, timeout_ms: int, now_ms: int
    ) -> Transaction:
        """A producer began with this id and epoch."""
        return self._replace(
            producer_id=producer_id,
            producer_epoch=producer_epoch,
            last_producer_epoch=last_producer_epoch,
            previous_producer_id=self.producer_id,
            timeout_ms=timeout_ms,
            state=TransactionState.EMPTY,
            partitions=NO_PARTITIONS,
            start_ms=NO_TIME,
            last_update_ms=now_ms,
        )

    def with_partitions(self, added: frozenset[TopicPartition], client_version: int, now_ms: int) -> Transaction:
        """Open, with these partitions among others."""
        return self._replace(
            previous_producer_id=self.producer_id,
            state=TransactionState.ONGOING,
            partitions=self.partitions | added,
            start_ms=self.start_ms if self.state is TransactionState.ONGOING else now_ms,
            last_update_ms=now_ms,
            client_version=client_version,
        )

    def prepared(self, *, is_commit: bool, client_version: int, next_producer_id: int, now_ms: int) -> Transaction:
        """Its outcome is decided. With transactions v2 the epoch is bumped for the markers."""
        epoch, last_epoch = self.producer_epoch, self.last_producer_epoch
        if client_version >= TRANSACTIONS_V2:
            last_epoch = epoch
            epoch = min(epoch + 1, HIGHEST_EPOCH)
        return self._replace(
            producer_epoch=epoch,
            last_producer_epoch=last_epoch,
            previous_producer_id=self.producer_id,
            next_producer_id=next_producer_id,
            state=TransactionState.PREPARE_COMMIT if is_commit else TransactionState.PREPARE_ABORT,
            # A transaction that is aborted before it had a partition begins and ends at once.
            start_ms=self.start_ms if self.state is TransactionState.ONGOING else now_ms,
            last_update_ms=now_ms,
            client_version=client_version,
        )

    def fenced(self, server_version: int, next_producer_id: int, now_ms: int) -> Transaction:
        """Aborted on behalf of the coordinator, with an epoch that shuts the producer out."""
        if server_version >= TRANSACTIONS_V2:
            before = self
        else:
            bumped = min(self.producer_epoch + 1, HIGHEST_EPOCH)
            before = self._replace(producer_epoch=bumped, last_producer_epoch=NO_EPOCH)
        version = server_version if server_version >= TRANSACTIONS_V2 else 0
        return before.prepared(
            is_commit=False, client_version=version, next_producer_id=next_producer_id, now_ms=now_ms
        )

    def completed(self, now_ms: int) -> Transaction:
        """Every partition has its marker."""
        rotates = self.client_version >= TRANSACTIONS_V2 and self.next_producer_id != NO_PRODUCER_ID
        is_commit = self.state is TransactionState.PREPARE_COMMIT
        return self._replace(
            producer_id=self.next_producer_id if rotates else self.producer_id,
            producer_epoch=0 if rotates else self.producer_epoch,
            previous_producer_id=self.producer_id,
            next_producer_id=NO_PRODUCER_ID,
            state=TransactionState.COMPLETE_COMMIT if is_commit else TransactionState.COMPLETE_ABORT,
            partitions=NO_PARTITIONS,
            last_update_ms=now_ms,
        )


def new_transaction(producer_id: int, timeout_ms: int, now_ms: int) -> Transaction:
    """An id that nobody has used yet: its first epoch will be 0."""
    return Transaction(
        producer_id,
        NO_EPOCH,
        timeout_ms,
        TransactionState.EMPTY,
        NO_PARTITIONS,
        start_ms=NO_TIME,
        last_update_ms=now_ms,
    )
