"""Other brokers that are not there: what is sent to them, and answers as a test has them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from ottla.server.peers.errors import PeerError
from ottla.server.peers.peers import Address

LOST = PeerError("the connection was lost.")


class FakePeers:
    """As `Peers.send`; ``answer(port, message)`` gives a response, an awaitable of one, or raises PeerError."""

    def __init__(self, answer: Callable[[int, Any], Any]) -> None:
        self.answer = answer
        self.sent: list[tuple[int, Any]] = []
        self.in_flight = 0
        self.most_in_flight: dict[tuple[int, str], int] = {}
        self._open: dict[tuple[int, str], int] = {}

    async def send(
        self, address: Address, message: Any, *, timeout_ms: int, channel: str = "", version: int | None = None
    ) -> Any:
        port = address[1]
        self.sent.append((port, message))
        key = (port, channel)
        self._open[key] = self._open.get(key, 0) + 1
        self.most_in_flight[key] = max(self.most_in_flight.get(key, 0), self._open[key])
        try:
            await asyncio.sleep(0.001)
            found = self.answer(port, message)
            return await found if isinstance(found, Awaitable) else found
        finally:
            self._open[key] -= 1
