"""DeleteRecords on replicated partitions: the answer waits until every replica that is alive has deleted as well."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ottla.core.errors import ErrorCode
from ottla.server.broker.broker import DelayedResponse

if TYPE_CHECKING:
    from ottla.protocol.messages.delete_records import DeleteRecordsPartitionResult, DeleteRecordsResponse
    from ottla.server.replication.partition import Partition

UNKNOWN_LOW_WATERMARK = -1


class Undeleted(NamedTuple):
    """A partition some replica of which still has records below `offset`, and its part of the answer."""

    result: DeleteRecordsPartitionResult
    partition: Partition
    offset: int


class DelayedDelete(DelayedResponse):
    """Waits on partitions until their low watermarks get where they were asked to, at most for `timeout_ms`."""

    __slots__ = ("_loop", "_timer", "_waiting", "_whole")

    def __init__(self, whole: DeleteRecordsResponse, undeleted: Sequence[Undeleted], timeout_ms: int) -> None:
        super().__init__(self._forget)
        self._whole = whole
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[Partition, Undeleted] = {}
        for item in undeleted:
            item.result.error_code = ErrorCode.REQUEST_TIMED_OUT  # until something better is known
            self._waiting[item.partition] = item
            item.partition.add_waiter(self)
        self._timer = self._loop.call_later(timeout_ms / 1000, self._finish)

    def partition_changed(self, partition: Partition) -> None:
        """See `replication.partition.PartitionWaiter`."""
        item = self._waiting[partition]
        if not partition.is_leader:
            item.result.error_code = ErrorCode.NOT_LEADER_OR_FOLLOWER
            item.result.low_watermark = UNKNOWN_LOW_WATERMARK
        else:
            low_watermark = partition.low_watermark
            if low_watermark < item.offset:
                return
            item.result.error_code = ErrorCode.NONE
            item.result.low_watermark = low_watermark
        del self._waiting[partition]
        partition.remove_waiter(self)
        if not self._waiting:
            self._loop.call_soon(self._finish)

    def _finish(self) -> None:
        self._forget()
        self.respond(self._whole)

    def _forget(self) -> None:
        self._timer.cancel()
        for partition in self._waiting:
            partition.remove_waiter(self)
        self._waiting = {}
