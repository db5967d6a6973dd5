"""acks=all: a produce that waits until every in-sync replica has its batches, at most for its own timeout."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ottla.core.errors import ErrorCode

if TYPE_CHECKING:
    from ottla.protocol.messages.produce import PartitionProduceResponse
    from ottla.server.replication.partition import Partition


class Uncommitted(NamedTuple):
    """A batch that was appended and is not committed: its answer, where it went, and the end offset to wait for."""

    answer: PartitionProduceResponse
    partition: Partition
    end_offset: int


class DelayedProduce:
    """Waits on partitions until their high watermarks reach what was appended; fails the answers that do not get there.

    The records stay in the log whatever the answer says: a client that hears of a failure may send them again.
    """

    __slots__ = ("_future", "_waiting")

    def __init__(self, batches: Sequence[Uncommitted]) -> None:
        self._future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting = list(batches)

    async def wait(self, timeout_ms: int) -> None:
        """Return when every answer says what became of its batch."""
        for partition in {batch.partition for batch in self._waiting}:
            partition.add_waiter(self)
            self.partition_changed(partition)
        try:
            await asyncio.wait_for(self._future, timeout_ms / 1000)
        except TimeoutError:
            for batch in self._waiting:
                _fail(batch.answer, ErrorCode.REQUEST_TIMED_OUT)
        finally:
            for partition in {batch.partition for batch in self._waiting}:
                partition.remove_waiter(self)

    def partition_changed(self, partition: Partition) -> None:
        """Settle what is waiting for this partition, if it got there or never will."""
        still = [batch for batch in self._waiting if batch.partition is not partition or not _settled(batch)]
        if all(batch.partition is not partition for batch in still):
            partition.remove_waiter(self)
        self._waiting = still
        if not still and not self._future.done():
            self._future.set_result(None)


def _settled(batch: Uncommitted) -> bool:
    partition = batch.partition
    if not partition.is_leader:
        _fail(batch.answer, ErrorCode.NOT_LEADER_OR_FOLLOWER)
    elif partition.log.high_watermark < batch.end_offset:
        return False
    elif len(partition.isr) < partition.needed_isr:
        _fail(batch.answer, ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND)
    return True


def _fail(answer: PartitionProduceResponse, code: ErrorCode) -> None:
    answer.error_code = code
    answer.error_message = code.message
    answer.base_offset = -1
    answer.log_append_time_ms = -1
