"""A node that answers as a test tells it to, on whatever event loop runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from ottla.core.errors import ErrorCode
from ottla.protocol.apis import APIS, ApiKey
from ottla.protocol.codec import decode
from ottla.protocol.connection import NEED_DATA, ServerConnection
from ottla.protocol.framing import encode_response
from ottla.protocol.message import Response
from ottla.protocol.messages.api_versions import ApiVersion, ApiVersionsResponse

Answer = Callable[[Any, int], "Response | Awaitable[Response] | None"]
"""(request, version) → response; None: never."""


class FakeNode:
    """Listens, and answers each request with `answer`; ApiVersions by itself, with `versions`."""

    def __init__(self, answer: Answer, versions: dict[int, tuple[int, int]] | None = None) -> None:
        self.answer = answer
        self.versions = versions or {key: (api.versions[0], api.latest_stable_version) for key, api in APIS.items()}
        self.highest_api_versions = 4
        self.requests: list[tuple[int, int, Any]] = []
        """(API key, version, request) of everything that came in but ApiVersions."""
        self.greetings: list[int] = []
        """Versions of ApiVersions that came in."""
        self.connections: list[_Connection] = []
        self.greets = True
        self._server: asyncio.AbstractServer | None = None
        self._came = asyncio.Event()
        self.address = ("127.0.0.1", 0)

    async def start(self) -> tuple[str, int]:
        server = await asyncio.get_running_loop().create_server(lambda: _Connection(self), "127.0.0.1", 0)
        self._server = server
        self.address = server.sockets[0].getsockname()[:2]
        return self.address

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for connection in self.connections:
            connection.transport.abort()
        await asyncio.sleep(0)

    async def received(self, count: int) -> None:
        """Wait until so many requests have come."""
        while len(self.requests) < count:
            self._came.clear()
            await self._came.wait()

    def receive(self, api_key: int, version: int, request: Any) -> None:
        self.requests.append((api_key, version, request))
        self._came.set()

    def greeting(self, version: int) -> ApiVersionsResponse:
        self.greetings.append(version)
        keys = [
            ApiVersion(api_key=key, min_version=low, max_version=high) for key, (low, high) in self.versions.items()
        ]
        if version > self.highest_api_versions:
            own = ApiVersion(api_key=ApiKey.API_VERSIONS, min_version=0, max_version=self.highest_api_versions)
            return ApiVersionsResponse(error_code=ErrorCode.UNSUPPORTED_VERSION, api_keys=[own])
        return ApiVersionsResponse(api_keys=keys)


class _Connection(asyncio.Protocol):
    def __init__(self, node: FakeNode) -> None:
        self.node = node
        self.wire = ServerConnection()
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.queue: asyncio.Queue[tuple[int, int, int, Any]] = asyncio.Queue()
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.node.connections.append(self)
        self.task = asyncio.ensure_future(self.answer_all())

    def data_received(self, data: bytes) -> None:
        self.wire.receive_data(data)
        while (request := self.wire.next_request()) is not NEED_DATA:
            if request.api_key == ApiKey.API_VERSIONS:
                if not self.node.greets:
                    continue
                greeting = self.node.greeting(request.api_version)
                version = 0 if greeting.error_code else request.api_version
                self.transport.writelines(encode_response(greeting, version, request.correlation_id))
                continue
            body = bytes(request.buffer[request.body_offset : request.end])
            decoded = decode(APIS[request.api_key].request_class(), request.api_version, body)
            self.node.receive(request.api_key, request.api_version, decoded)
            self.queue.put_nowait((request.api_key, request.api_version, request.correlation_id, decoded))

    async def answer_all(self) -> None:
        while True:
            _, version, correlation_id, request = await self.queue.get()
            response = self.node.answer(request, version)
            if response is not None and not isinstance(response, Response):
                response = await response
            if response is None:
                return
            self.transport.writelines(encode_response(response, version, correlation_id))

    def connection_lost(self, exc: Exception | None) -> None:
        self.node.connections.remove(self)
        if self.task is not None:
            self.task.cancel()
