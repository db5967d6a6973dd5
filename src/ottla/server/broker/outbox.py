"""What is to go to other brokers in as few requests as possible: while one is in flight, the next one is collected."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

logger = logging.getLogger(__name__)

Destination = TypeVar("Destination", bound=Hashable)
Item = TypeVar("Item")

#: (key, content): items of one key share a request only when their content is equal.
Identity = Callable[[Item], tuple[Hashable, object]]

#: Sends a batch to a destination; the number tells apart the requests that may be in flight at once.
Deliver = Callable[[Destination, int, list[Item]], Coroutine[Any, Any, None]]


class Outbox(Generic[Destination, Item]):
    """Batches by destination, at most ``requests_in_flight`` requests to each at a time.

    One that must not share a request with another of its key waits until a request has been answered. ``deliver``
    answers those who wait, whatever happens.
    """

    __slots__ = ("_deliver", "_free", "_identity", "_requests_in_flight", "_tasks", "_waiting")

    def __init__(
        self, deliver: Deliver[Destination, Item], identity: Identity[Item], *, requests_in_flight: int = 1
    ) -> None:
        self._deliver = deliver
        self._identity = identity
        self._requests_in_flight = requests_in_flight
        self._waiting: dict[Destination, list[Item]] = {}
        self._free: dict[Destination, list[int]] = {}
        self._tasks: dict[asyncio.Task[None], None] = {}

    def put(self, destination: Destination, item: Item) -> None:
        """Send it with all that comes in this turn of the loop, or when a request to the destination is answered."""
        waiting = self._waiting.get(destination)
        if waiting is not None:
            waiting.append(item)
            return
        self._waiting[destination] = [item]
        asyncio.get_running_loop().call_soon(self._send, destination)

    def stop(self) -> None:
        """Send nothing more; nobody is answered any more."""
        self._waiting.clear()
        for task in list(self._tasks):
            task.cancel()

    def _send(self, destination: Destination) -> None:
        waiting = self._waiting.get(destination)
        free = self._free.get(destination)
        if not waiting or (free is not None and not free):
            return
        if free is None:
            free = self._free[destination] = list(range(self._requests_in_flight - 1, -1, -1))
        batch, left = self._split(waiting)
        if left:
            self._waiting[destination] = left
        else:
            del self._waiting[destination]
        task = asyncio.get_running_loop().create_task(self._run(destination, free.pop(), batch))
        self._tasks[task] = None
        task.add_done_callback(self._done)

    def _split(self, waiting: list[Item]) -> tuple[list[Item], list[Item]]:
        batch: list[Item] = []
        left: list[Item] = []
        contents: dict[Hashable, object] = {}
        for item in waiting:
            key, content = self._identity(item)
            if contents.setdefault(key, content) == content:
                batch.append(item)
            else:
                left.append(item)
        return batch, left

    async def _run(self, destination: Destination, number: int, batch: list[Item]) -> None:
        try:
            await self._deliver(destination, number, batch)
        finally:
            free = self._free[destination]
            free.append(number)
            if destination in self._waiting:
                self._send(destination)
            elif len(free) == self._requests_in_flight:
                del self._free[destination]

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("what was to go to another broker is lost", exc_info=error)
