"""A client of a few lines, for programs that run beside the node on the loop of a simulation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from ottla.protocol.codec import decode
from ottla.protocol.framing import encode_request
from ottla.protocol.headers import response_header_version
from ottla.protocol.message import Request, Response

R = TypeVar("R", bound=Response)


class WireClient:
    """One connection, one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._correlation_id = 0

    @classmethod
    @asynccontextmanager
    async def connected(cls, address: str) -> AsyncIterator[WireClient]:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            yield cls(reader, writer)
        finally:
            writer.close()

    async def ask(self, request: Request, version: int, response: type[R]) -> R:
        """Send a request and wait for its response. Raises IncompleteReadError or OSError when the connection ends."""
        self._correlation_id += 1
        self._writer.write(b"".join(encode_request(request, version, self._correlation_id, "simulation")))
        size = int.from_bytes(await self._reader.readexactly(4), "big")
        frame = await self._reader.readexactly(size)
        assert int.from_bytes(frame[:4], "big") == self._correlation_id
        return decode(response, version, frame, 5 if response_header_version(request.API_KEY, version) else 4)
