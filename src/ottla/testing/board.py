"""What is wrong with one broker while it runs: faults of its requests, of its lines, of its port.

All of it belongs to the broker's event loop. While nothing is wrong, the broker is as it always is: its routes lead to
its handlers.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ottla.testing.injection import Interceptor
from ottla.testing.ports import reserve

if TYPE_CHECKING:
    import socket

    from ottla.server.broker.connection import Connection
    from ottla.server.node.node import Node
    from ottla.testing.injection import RequestFault
    from ottla.testing.lines import Cut


_ACCEPTING_ROUNDS = 4
"""Rounds of the event loop from a connection the kernel has, to one that the broker has."""


class Board:
    """The switches of one broker, in one of its lives."""

    def __init__(self, node: Node) -> None:
        self.loop = asyncio.get_running_loop()
        self.node_id = node.config.node_id
        self._listeners = node.listeners
        # Lines from other nodes come in there too.
        self._all_listeners = (*node.listeners, *getattr(node, "controller_listeners", ()))
        self._interceptor = Interceptor(self._update)
        self._refusing = 0
        self._reserved: list[socket.socket] = []

    # Requests

    def add_fault(self, fault: RequestFault) -> None:
        """Let requests meet it."""
        self._interceptor.faults.append(fault)
        self._update()

    def remove_fault(self, fault: RequestFault) -> None:
        """No more."""
        if fault in self._interceptor.faults:
            self._interceptor.faults.remove(fault)
            self._update()

    # Lines

    def add_cut(self, cut: Cut) -> None:
        """Cut lines: those that are there, and those to come."""
        self._interceptor.cuts.append(cut)
        self._update()
        for listener in self._all_listeners:
            for connection in list(listener.connections):
                cut.catch(connection)

    def remove_cut(self, cut: Cut) -> None:
        """The lines are whole again."""
        self._interceptor.cuts.remove(cut)
        self._update()
        cut.heal()

    # The port

    async def refuse_connections(self) -> None:
        """Listen no more, but let nobody else have the port."""
        self._refusing += 1
        if self._refusing > 1:
            return
        for _ in range(_ACCEPTING_ROUNDS):
            await asyncio.sleep(0)
        for listener in self._listeners:
            listener.stop_accepting()
            if (reserved := reserve(listener.address.host, listener.port)) is not None:
                self._reserved.append(reserved)

    async def accept_connections(self) -> None:
        """Listen again."""
        self._refusing -= 1
        if self._refusing:
            return
        self.give_up()
        for listener in self._listeners:
            await listener.accept_again()

    def give_up(self) -> None:
        """Let others have the ports; also for a broker that has ended."""
        while self._reserved:
            self._reserved.pop().close()

    # Within

    def _update(self) -> None:
        is_needed = self._interceptor.is_needed
        for listener in self._all_listeners:
            listener.router.intercept(self._interceptor if is_needed else None)
            listener.on_connection = self._connected if self._interceptor.cuts else None

    def _connected(self, connection: Connection) -> None:
        for cut in self._interceptor.cuts:
            cut.catch(connection)
