"""Lines between clients and a broker that are cut: nothing gets through, and nobody is told.

A connection that is cut stays open on both sides, as it does when a network breaks: what the client sends stays in the
kernel, what the broker sends in a `HeldLine`. When the network heals, both arrive, late. All of it belongs to the
broker's event loop.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from ottla.server.broker.broker import RequestContext
    from ottla.server.broker.connection import Connection


class HeldLine(asyncio.Transport):
    """A transport that keeps what is written until `release`. Closing waits for that as well; aborting does not."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self.holders: set[Cut] = set()
        self._connection = connection
        self._real = connection.transport
        self._kept: list[Any] = []
        self._wants_to_read = True
        self._wants_to_close = False
        self._is_released = False
        self._real.pause_reading()
        connection.send_through(self)

    def release(self) -> None:
        """Let through what was kept, and everything from now on."""
        self._is_released = True
        real, connection = self._real, self._connection
        connection.send_through(real)
        if real.is_closing():
            return
        kept, self._kept = self._kept, []
        for data in kept:
            real.write(data)
        if self._wants_to_close:
            real.close()
        elif self._wants_to_read:
            real.resume_reading()

    def write(self, data: Any) -> None:
        if self._is_released:
            self._real.write(data)
        else:
            self._kept.append(bytes(data))

    def is_closing(self) -> bool:
        return self._wants_to_close or self._real.is_closing()

    def close(self) -> None:
        self._wants_to_close = True
        if self._is_released:
            self._real.close()

    def abort(self) -> None:
        self._real.abort()

    def pause_reading(self) -> None:
        self._wants_to_read = False
        if self._is_released:
            self._real.pause_reading()

    def resume_reading(self) -> None:
        self._wants_to_read = True
        if self._is_released:
            self._real.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._real.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        # Never nothing: a connection past whose transport files are sent reads them instead.
        return self._real.get_write_buffer_size() + sum(map(len, self._kept)) + 1


class Cut:
    """The lines of one broker to some clients, or to all, while they are cut."""

    def __init__(
        self, client_ids: frozenset[str], addresses: frozenset[str], on_held: Callable[[], object] = lambda: None
    ) -> None:
        """Both empty: everybody. Addresses are a host, or host:port. `on_held` hears of each connection."""
        self.client_ids = client_ids
        self.addresses = addresses
        self._on_held = on_held
        self._lines: dict[Connection, HeldLine] = {}
        self._waiting: list[asyncio.Future[None]] = []

    def holds(self, context: RequestContext) -> bool:
        """Whether who has this context is cut off."""
        if not self.client_ids and not self.addresses:
            return True
        return (
            context.client_id in self.client_ids
            or context.client_host in self.addresses
            or f"{context.client_host}:{context.client_port}" in self.addresses
        )

    def catch(self, connection: Connection) -> None:
        """Cut a connection's line if it is one of those."""
        if self.holds(connection.context) and connection not in self._lines:
            line = connection.transport
            if not isinstance(line, HeldLine):
                line = HeldLine(connection)
            line.holders.add(self)
            self._lines[connection] = line
            connection.context.when_closed(f"cut line {id(self)}", lambda: self._lines.pop(connection, None))
            self._on_held()

    async def hold(self, connection: Connection) -> None:
        """A request has come through on a line that is to be cut: it goes on when the network is healed."""
        self.catch(connection)
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        await waiting

    def heal(self) -> None:
        """Everything gets through again, in the order in which it was sent."""
        lines, self._lines = self._lines, {}
        for line in lines.values():
            line.holders.discard(self)
            if not line.holders:
                line.release()
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.done():
                one.set_result(None)
