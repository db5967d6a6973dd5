"""The long poll: a fetch that waits for min_bytes of new records, at most max_wait_ms."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ottla.server.broker.fetch_reader import FetchReader
    from ottla.server.broker.fetch_sessions import FetchedPartition
    from ottla.server.replication.partition import Partition


class DelayedFetch:
    """Waits on the partitions of a `FetchReader` until there is enough to answer, then calls `on_ready` once.

    Nothing polls: partitions tell when they moved. The answer is put together in a later turn of the loop, so that one
    burst of appends is one answer, and the producer that caused it is answered first.
    """

    __slots__ = ("_bytes", "_done", "_loop", "_min_bytes", "_on_ready", "_reader", "_scheduled", "_timer", "_waits")

    def __init__(self, reader: FetchReader, min_bytes: int, max_wait_ms: int, on_ready: Callable[[], None]) -> None:
        self._reader = reader
        self._min_bytes = min_bytes
        self._on_ready = on_ready
        self._scheduled = False
        self._done = False
        self._loop = asyncio.get_running_loop()
        self._bytes = reader.total_bytes
        # What each partition had when the wait began, to count only what one notification adds.
        self._waits: dict[Partition, tuple[FetchedPartition, int]] = {}
        for entry, found in zip(reader.entries, reader.slices, strict=True):
            partition = reader.partition(entry)
            if partition is not None:
                self._waits[partition] = (entry, 0 if found is None else found.size)
                partition.add_waiter(self)
        self._timer = self._loop.call_later(max_wait_ms / 1000, self._finish)

    def partition_changed(self, partition: Partition) -> None:
        """Something moved; see whether it is enough."""
        if self._scheduled:
            return
        entry, had_bytes = self._waits[partition]
        readable = self._reader.readable_bytes(partition, entry.request, at_most=self._min_bytes)
        if readable is not None:
            self._waits[partition] = (entry, readable)
            self._bytes += readable - had_bytes
            if self._bytes < self._min_bytes:
                return
        self._scheduled = True
        self._loop.call_soon(self._finish)

    def cancel(self) -> None:
        """Nobody waits any more: let go of the partitions and the timer."""
        self._done = self._scheduled = True
        self._timer.cancel()
        for partition in self._waits:
            partition.remove_waiter(self)
        self._waits.clear()

    def _finish(self) -> None:
        if not self._done:
            self.cancel()
            self._on_ready()
