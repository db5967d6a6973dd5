"""One connection to another node: an asyncio protocol around the sans-I/O `ClientConnection`."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from ottla.core.errors import ERRORS, ErrorCode
from ottla.protocol.apis import APIS, ApiKey
from ottla.protocol.connection import NEED_DATA, ClientConnection
from ottla.protocol.errors import EncodeError, ProtocolError, UnsupportedVersionError
from ottla.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from ottla.server.peers.errors import PeerError, UnsupportedPeerVersionError
from ottla.version import VERSION

if TYPE_CHECKING:
    from ottla.protocol.message import Request

FIRST_FRAME_BYTES = 1024 * 1024
"""No response is larger until the peer has answered ApiVersions: other servers' greetings look like huge frames."""
FIRST_API_VERSIONS = 4
"""What a connection starts with: the last version that says all about a node."""

_SOFTWARE_VERSION = "".join(letter if letter.isalnum() or letter in "-." else "-" for letter in VERSION)


class PeerConnection(asyncio.BufferedProtocol):
    """Requests out, their responses in, in order. Whatever ends the connection fails all that is in flight."""

    __slots__ = ("_chosen", "_error", "_futures", "_is_lost", "_transport", "_wire", "due_at", "name", "versions")

    def __init__(self, client_id: str, name: str) -> None:
        self.name = name
        """The other node in messages: `host:port`."""
        self.versions: Mapping[int, tuple[int, int]] = {}
        """Lowest and highest version the peer serves, by API key; empty before `greet`."""
        self.due_at: float | None = None
        """When the session has to be renewed, by the loop's clock; None for one without end."""
        self._wire = ClientConnection(client_id, FIRST_FRAME_BYTES)
        self._futures: deque[asyncio.Future[Any]] = deque()
        self._transport: asyncio.Transport | None = None
        self._chosen: dict[int, int] = {}
        self._error: PeerError | None = None
        self._is_lost = False

    @property
    def is_open(self) -> bool:
        """Whether a request may be sent."""
        return self._transport is not None and not self._is_lost and not self._transport.is_closing()

    def is_due(self, now: float) -> bool:
        """Whether the session is to be renewed before anything else is sent."""
        return self.due_at is not None and now >= self.due_at

    async def greet(self) -> None:
        """Ask which versions the peer serves; once, before anything else. Raises PeerError."""
        version = FIRST_API_VERSIONS
        while True:
            request = ApiVersionsRequest(client_software_name="ottla", client_software_version=_SOFTWARE_VERSION)
            response: ApiVersionsResponse = await self.send(request, version)
            served = {api.api_key: (api.min_version, api.max_version) for api in response.api_keys}
            if not response.error_code:
                break
            # KIP-511: who does not know the version answers in version 0, with those that it knows.
            highest = served.get(ApiKey.API_VERSIONS, (0, 0))[1]
            if response.error_code != ErrorCode.UNSUPPORTED_VERSION or highest >= version:
                code = ERRORS.get(response.error_code, ErrorCode.UNKNOWN_SERVER_ERROR)
                raise PeerError(f"{self.name} answers ApiVersions with {code.name}.")
            version = highest
        self.versions = served
        self._wire.max_frame_bytes = 2**31 - 1

    def send(self, message: Request, version: int | None = None) -> asyncio.Future[Any]:
        """Send a request, in the highest version that both sides know if none is given; the future of its response.

        Raises PeerError when the connection has ended, and UnsupportedPeerVersionError. Who gives up waiting cancels
        the future; the response is dropped when it comes.
        """
        transport = self._transport
        if transport is None or self._is_lost or transport.is_closing():
            raise self._error or PeerError(f"the connection to {self.name} is closed.")
        if version is None:
            version = self._choose(message.API_KEY)
        try:
            parts = self._wire.send(message, version)
        except UnsupportedVersionError as error:
            raise UnsupportedPeerVersionError(f"{self.name} is too old for this: {error}.") from None
        except EncodeError as error:
            raise PeerError(f"a request to {self.name} cannot be written: {error}.") from None
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._futures.append(future)
        if len(parts) == 1:
            transport.write(parts[0])
        else:
            transport.writelines(parts)
        return future

    def abort(self, error: PeerError) -> None:
        """Close at once, for this reason."""
        if self._error is None:
            self._error = error
        if self._transport is not None and not self._is_lost:
            self._transport.abort()
        self._finish()

    def _choose(self, api_key: int) -> int:
        version = self._chosen.get(api_key)
        if version is None:
            api = APIS[api_key]
            served = self.versions.get(api_key)
            if served is None:
                raise UnsupportedPeerVersionError(f"{self.name} does not offer {api.name}.")
            version = min(api.latest_stable_version, served[1])
            if version < max(api.versions[0], served[0]):
                raise UnsupportedPeerVersionError(
                    f"{self.name} offers {api.name} in versions {served[0]} to {served[1]}, "
                    f"and this node needs {api.versions[0]} to {api.latest_stable_version}."
                )
            self._chosen[api_key] = version
        return version

    # For the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if self._is_lost:  # it was given up while it was being opened
            self._transport.abort()
            return
        found = transport.get_extra_info("socket")
        if found is not None:
            sock = cast("socket.socket", found)
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:
                pass  # not TCP, or a system that refuses: neither is needed for correctness

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._wire.get_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        wire = self._wire
        wire.bytes_received(nbytes)
        if self._is_lost:
            return
        try:
            while (response := wire.next_response()) is not NEED_DATA:
                future = self._futures.popleft()
                if not future.done():
                    future.set_result(response.body)
        except ProtocolError as error:
            self.abort(PeerError(f"{self.name} sent what is not Kafka's protocol: {error}."))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and self._error is None:
            self._error = PeerError(f"the connection to {self.name} was lost: {reason_of(exc)}.")
        self._finish()

    def _finish(self) -> None:
        if self._is_lost:
            return
        self._is_lost = True
        if self._error is None:
            self._error = PeerError(f"{self.name} closed the connection.")
        futures, self._futures = self._futures, deque()
        for future in futures:
            if not future.done():
                future.set_exception(self._error)
                future.exception()  # who has gone away without cancelling need not be told by the event loop


def reason_of(error: BaseException) -> str:
    """What the operating system says, in its words and without its numbers."""
    if isinstance(error, socket.gaierror):
        return f"the name cannot be resolved ({error.strerror or error})"
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__
