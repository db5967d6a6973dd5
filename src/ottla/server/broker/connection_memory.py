"""How much memory requests may take, all of a broker's together: from when their size is known until they are answered.

`queued.max.request.bytes` is the limit. As with Kafka's memory pool a request may begin while any room is left, so
the limit can be passed by one request; when there is none, its connection is not read from until there is. A request
that was begun is let finish: if all had to wait halfway, none would ever end. Requests of up to 16 KiB are not counted:
a connection has room for them anyway.

Nothing of this is loaded where there is no limit.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from ottla.protocol.connection import FIRST_BYTES
from ottla.server.broker.connection import Connection

if TYPE_CHECKING:
    from ottla.server.broker.listener import Listener


class RequestMemory:
    """What requests take of `limit_bytes`, and who waits for room, in the order in which they came."""

    __slots__ = ("_waiting", "depleted_count", "limit_bytes", "used_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.depleted_count = 0
        """How often a request had to wait."""
        self._waiting: deque[BoundedConnection] = deque()

    @property
    def waiting(self) -> int:
        """Connections that are not read from because there is no room."""
        return len(self._waiting)

    def take(self, count: int) -> bool:
        """Take so many bytes, or have to wait."""
        if self.used_bytes >= self.limit_bytes or self._waiting:
            return False
        self.used_bytes += count
        return True

    def wait(self, connection: BoundedConnection) -> None:
        """Have `connection.receive_further` called when there is room."""
        self.depleted_count += 1
        self._waiting.append(connection)

    def give_up(self, connection: BoundedConnection) -> None:
        """It waits no more."""
        self._waiting.remove(connection)

    def give_back(self, count: int) -> None:
        """So many bytes are free; lets in those that have waited longest."""
        self.used_bytes -= count
        while self._waiting and self.used_bytes < self.limit_bytes:
            connection = self._waiting.popleft()
            self.used_bytes += connection.wanted_bytes
            connection.receive_further()


class BoundedConnection(Connection):
    """A connection whose requests are counted; plain ones, where there is no limit, do without all this."""

    __slots__ = ("_is_waiting", "_memory", "_taken", "wanted_bytes")

    def __init__(self, listener: Listener, memory: RequestMemory) -> None:
        super().__init__(listener)
        self._memory = memory
        self._taken = 0
        self._is_waiting = False
        self.wanted_bytes = 0
        """What it waits for."""

    def buffer_updated(self, nbytes: int) -> None:
        super().buffer_updated(nbytes)
        self._release_memory()
        if self._closing or self._reading_paused:
            return  # what is not read from grows no further
        size = self._wire.frame_bytes
        if size > FIRST_BYTES and size > self._taken:
            wanted = size - self._taken
            if self._memory.take(wanted):
                self._taken = size
            else:
                self._is_waiting = True
                self.wanted_bytes = wanted
                self._memory.wait(self)
                self._pause_reading()

    def receive_further(self) -> None:
        """There is room now, and it was taken."""
        self._is_waiting = False
        self._taken += self.wanted_bytes
        self.active = True
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._is_waiting:
            self._is_waiting = False
            self._memory.give_up(self)
        taken, self._taken = self._taken, 0
        self._memory.give_back(taken)

    @property
    def is_waiting(self) -> bool:
        return self._is_waiting or super().is_waiting

    def _go_on(self) -> None:
        if not self._is_waiting:
            super()._go_on()

    def _finish_awaited(self, response: object, error: BaseException | None) -> None:
        super()._finish_awaited(response, error)
        self._release_memory()

    def _answer_owed(self) -> None:
        super()._answer_owed()
        self._release_memory()

    def _release_memory(self) -> None:
        """Give back what nothing needs any more."""
        if not self._taken or self._is_waiting or self.is_busy:
            return
        size = self._wire.frame_bytes
        needed = size if size > FIRST_BYTES else 0
        if needed < self._taken:
            self._wire.trim()
            count, self._taken = self._taken - needed, needed
            self._memory.give_back(count)
