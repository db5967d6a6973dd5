"""How much memory answers may take that clients do not read, all of a broker's together: `queued.max.response.bytes`.

A connection whose client does not read gets no further request handled, so it holds one answer; but there may be many
such clients. When their answers together are above the limit, those go that have not been taken for the longest time:
without the limit all of them would go, with the broker. What is sent from files stays in the page cache, and does not
count.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ottla.server.broker.connection import Connection

logger = logging.getLogger(__name__)

AUTOMATIC_SHARE: Final = 4
"""`queued.max.response.bytes=0`: the memory there is, by this."""


class ResponseMemory:
    """Connections whose clients do not read, the longest first, and what was written to them."""

    __slots__ = ("_blocked", "closed_count", "limit_bytes", "used_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        """-1: no limit; 0: not known yet, a part of the memory there is."""
        self.used_bytes = 0
        self.closed_count = 0
        """Connections that were closed for the sake of others."""
        self._blocked: dict[Connection, int] = {}

    def blocked(self, connection: Connection, size: int) -> None:
        """A client has not taken this much of what was written to it."""
        if not self.limit_bytes:
            from ottla.runtime.memory import total_memory

            self.limit_bytes = total_memory() // AUTOMATIC_SHARE
        self.used_bytes += size - self._blocked.get(connection, 0)
        self._blocked[connection] = size
        while 0 < self.limit_bytes < self.used_bytes and len(self._blocked) > 1:
            slowest = next(iter(self._blocked))
            self.taken(slowest)
            self.closed_count += 1
            logger.warning(
                "closing the connection of %s: it does not read its answers, and there is no memory left for them",
                slowest.client,
            )
            slowest.abort()

    def taken(self, connection: Connection) -> None:
        """It reads again, or is gone."""
        self.used_bytes -= self._blocked.pop(connection, 0)
