"""acks=all: a produce that waits until every in-sync replica has its batches, at most for its own timeout."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ottla.core.errors import ErrorCode
from ottla.server.broker.broker import DelayedResponse

if TYPE_CHECKING:
    from ottla.protocol.messages.produce import PartitionProduceResponse, ProduceResponse
    from ottla.server.replication.partition import Partition


class Uncommitted(NamedTuple):
    """A batch that was appended and is not committed: its answer, where it went, and the end offset to wait for."""

    answer: PartitionProduceResponse
    partition: Partition
    end_offset: int


class DelayedProduce(DelayedResponse):
    """Waits on partitions until their high watermarks reach what was appended; fails the answers that do not get there.

    The records stay in the log whatever the answer says: a client that hears of a failure may send them again.
    """

    __slots__ = ("_loop", "_timer", "_waiting", "_whole")

    lets_next_in = True

    def __init__(self, whole: ProduceResponse, batches: Sequence[Uncommitted], timeout_ms: int) -> None:
        super().__init__(self._forget)
        self._whole = whole
        self._waiting = [_AwaitedBatch(self, batch) for batch in batches]
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(timeout_ms / 1000, self._timed_out)

    def settled(self, batch: _AwaitedBatch, code: ErrorCode) -> None:
        """It is known what becomes of one of the batches."""
        if code is not ErrorCode.NONE:
            fail(batch.uncommitted.answer, code)
        waiting = self._waiting
        waiting.remove(batch)
        if not waiting:
            self._timer.cancel()
            if self.is_owed:
                self.respond(self._whole)
            else:
                # In a turn of its own: with the answer the connection goes on, perhaps to the next append.
                self._loop.call_soon(self.respond, self._whole)

    def _timed_out(self) -> None:
        for batch in self._waiting:
            fail(batch.uncommitted.answer, ErrorCode.REQUEST_TIMED_OUT)
        self._forget()
        self.respond(self._whole)

    def _forget(self) -> None:
        self._timer.cancel()
        for batch in self._waiting:
            batch.uncommitted.partition.forget_commit(batch)
        self._waiting = []


class _AwaitedBatch:
    __slots__ = ("_request", "uncommitted")

    def __init__(self, request: DelayedProduce, uncommitted: Uncommitted) -> None:
        self._request = request
        self.uncommitted = uncommitted
        uncommitted.partition.await_commit(uncommitted.end_offset, self)

    def committed(self, partition: Partition, code: ErrorCode) -> None:
        """See `replication.commits.CommitWaiter`."""
        self._request.settled(self, code)


class DelayedBatch(DelayedResponse):
    """One batch that is not committed, and its answer as bytes, should it be: what most produces with acks=all are.

    `refuse` makes the response when it is not.
    """

    __slots__ = ("_answer", "_loop", "_partition", "_refuse", "_timer")

    lets_next_in = True

    def __init__(
        self,
        partition: Partition,
        end_offset: int,
        answer: bytes,
        refuse: Callable[[ErrorCode], ProduceResponse],
        timeout_ms: int,
    ) -> None:
        super().__init__(self._forget)
        self._partition = partition
        self._answer = answer
        self._refuse = refuse
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(timeout_ms / 1000, self._timed_out)
        partition.await_commit(end_offset, self)

    def committed(self, partition: Partition, code: ErrorCode) -> None:
        """See `replication.commits.CommitWaiter`."""
        self._timer.cancel()
        response = self._answer if code is ErrorCode.NONE else self._refuse(code)
        if self.is_owed:
            self.respond(response)
        else:
            # In a turn of its own, as above.
            self._loop.call_soon(self.respond, response)

    def _timed_out(self) -> None:
        self._partition.forget_commit(self)
        self.respond(self._refuse(ErrorCode.REQUEST_TIMED_OUT))

    def _forget(self) -> None:
        self._timer.cancel()
        self._partition.forget_commit(self)


def fail(answer: PartitionProduceResponse, code: ErrorCode) -> None:
    """Turn an answer about an appended batch into a refusal."""
    answer.error_code = code
    answer.error_message = code.message
    answer.base_offset = -1
    answer.log_append_time_ms = -1
