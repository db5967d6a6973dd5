"""Who waits for appended records to be committed, in the order of offsets."""

from __future__ import annotations

from bisect import insort
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from ottla.core.errors import ErrorCode
    from ottla.server.replication.partition import Partition


class CommitWaiter(Protocol):
    """Somebody waiting for what was appended to be committed: a produce with acks=all."""

    def committed(self, partition: Partition, code: ErrorCode) -> None:
        """The high watermark has got there (NONE, or NOT_ENOUGH_REPLICAS_AFTER_APPEND), or never will with this leader
        (NOT_LEADER_OR_FOLLOWER). Called once.  Must not append.
        """


class _Awaited(NamedTuple):
    end_offset: int
    number: int  # so that waiters are never compared
    waiter: CommitWaiter


class AwaitedCommits:
    """The waiters of one partition. Appends come in order, and so do they, but for repetitions of older batches."""

    __slots__ = ("_awaited", "_count")

    def __init__(self) -> None:
        self._awaited: list[_Awaited] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._awaited)

    def add(self, end_offset: int, waiter: CommitWaiter) -> None:
        """One more, for the high watermark `end_offset`."""
        one = _Awaited(end_offset, self._count, waiter)
        self._count += 1
        if self._awaited and end_offset < self._awaited[-1].end_offset:
            insort(self._awaited, one)
        else:
            self._awaited.append(one)

    def forget(self, waiter: CommitWaiter) -> None:
        """Take one out; fine when it is not there."""
        self._awaited = [one for one in self._awaited if one.waiter is not waiter]

    def take_reached(self, high_watermark: int) -> list[CommitWaiter]:
        """Take out those whose offset is committed."""
        awaited = self._awaited
        count = 0
        for one in awaited:
            if one.end_offset > high_watermark:
                break
            count += 1
        if not count:
            return []
        self._awaited = awaited[count:]
        return [one.waiter for one in awaited[:count]]

    def take_all(self) -> list[CommitWaiter]:
        """Take all of them out."""
        awaited, self._awaited = self._awaited, []
        return [one.waiter for one in awaited]
