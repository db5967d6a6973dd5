"""All connections of this node to others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ottla.core.errors import ErrorCode
from ottla.server.peers.connection import PeerConnection, reason_of
from ottla.server.peers.errors import NotTrustedError, PeerError

if TYPE_CHECKING:
    from ssl import SSLContext

    from ottla.protocol.message import Request
    from ottla.runtime.tls import ReceiveBuffer

logger = logging.getLogger(__name__)

_QUIET_S = 60.0
_STOPPING = "this node is stopping."
_RENEWED_AFTER = 0.85
"""Of its lifetime, when a session is renewed: as Kafka's clients do it."""

Address = tuple[str, int]
"""Host and port."""


@dataclass(frozen=True, slots=True)
class PeerSecurity:
    """How connections to one of the other nodes' listeners are secured."""

    context: Callable[[], SSLContext] | None = None
    """What TLS is spoken with, asked anew for each connection; None for none."""
    authenticate: Callable[[PeerConnection, str], Awaitable[int | None]] | None = None
    """Says who this node is (SASL), given a connection that was greeted and its host; for how many milliseconds that
    holds, None for ever. Raises PeerError."""


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """How connections to other nodes are made."""

    connection_setup_timeout_ms: int = 10_000
    """socket.connection.setup.timeout.ms: so long may opening a connection take, the first ApiVersions included."""
    security: Callable[[str], PeerSecurity | None] | None = None
    """By channel, since that tells which listener is on the other side; None where all is in plain text."""


class Peers:
    """`send` asks another node. `client_id` is what this node calls itself in the headers of its requests."""

    def __init__(self, *, client_id: str, settings: PeerSettings | None = None) -> None:
        self._client_id = client_id
        self._settings = settings or PeerSettings()
        self._connections: dict[tuple[Address, str], PeerConnection] = {}
        self._opening: dict[tuple[Address, str], asyncio.Task[PeerConnection]] = {}
        self._receive_buffer: ReceiveBuffer | None = None
        self._refused_by: set[Address] = set()
        self._is_closed = False
        # Until when not to complain again of nodes that do not let this one in.
        self._quiet_until: dict[Address, float] = {}

    async def send(
        self,
        address: Address,
        message: Request,
        *,
        timeout_ms: int,
        channel: str = "",
        version: int | None = None,
    ) -> Any:
        """The response to `message`, in the highest version that both sides know unless one is given.

        Raises PeerError when there is none within `timeout_ms`, which includes opening the connection. A request that
        was sent and is not answered in time ends its connection. Requests of one channel arrive in the order of these
        calls. Record sets of a response are views of its own memory, and stay valid as long as somebody holds them.
        """
        key = address, channel
        connection = self._connections.get(key)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_ms / 1000
        if connection is None or not connection.is_open or connection.is_due(loop.time()):
            connection = await self._open(key, timeout_ms)
        response = connection.send(message, version)
        timer = loop.call_at(deadline, _expire, connection, response, type(message).__name__, timeout_ms)
        try:
            answer = await response
        finally:
            timer.cancel()
        if getattr(answer, "error_code", 0) == ErrorCode.CLUSTER_AUTHORIZATION_FAILED:
            self._tell_refusal(address, message)
        return answer

    def _tell_refusal(self, address: Address, message: Request) -> None:
        """Once for each node: it is asked again and again."""
        if address not in self._refused_by:
            self._refused_by.add(address)
            logger.error(
                "%s takes no %s from this node: whom it logs in as there (on a listener without authentication that is "
                "User:ANONYMOUS) needs ClusterAction on the cluster; name it in super.users of every node, or give it "
                "an ACL",
                _name(address),
                type(message).__name__.removesuffix("Request"),
            )

    def versions(self, address: Address, channel: str = "") -> dict[int, tuple[int, int]]:
        """What the node at the other end of an open connection serves, by API key; nothing when there is none."""
        connection = self._connections.get((address, channel))
        return {} if connection is None else dict(connection.versions)

    def disconnect(self, address: Address, reason: str, *, channel_prefix: str = "") -> None:
        """End the connections to an address whose channels begin so: what is in flight fails with this reason.

        Those that are being opened are given up as well.
        """
        for key, connection in list(self._connections.items()):
            if key[0] == address and key[1].startswith(channel_prefix):
                del self._connections[key]
                connection.abort(PeerError(reason))
        for key, task in self._opening.items():
            if key[0] == address and key[1].startswith(channel_prefix):
                task.cancel(reason)

    async def close(self) -> None:
        """End everything; what is in flight, and all that is sent later, fails."""
        self._is_closed = True
        opening = list(self._opening.values())
        for task in opening:
            task.cancel(_STOPPING)
        error = PeerError(_STOPPING)
        for connection in self._connections.values():
            connection.abort(error)
        self._connections.clear()
        await asyncio.gather(*opening, return_exceptions=True)
        # The transports' last callbacks, so that nothing is left on the loop.
        await asyncio.sleep(0)

    async def _open(self, key: tuple[Address, str], timeout_ms: int) -> PeerConnection:
        """The connection, once it is there: one attempt for all who wait for it.

        It is not given up with the first one who does not want to wait any longer.
        """
        if self._is_closed:
            raise PeerError(_STOPPING)
        task = self._opening.get(key)
        if task is None:
            task = self._opening[key] = asyncio.ensure_future(self._connect(key))
            task.add_done_callback(partial(self._opened, key))
        done, _ = await asyncio.wait((task,), timeout=timeout_ms / 1000)
        if not done:
            raise PeerError(f"no connection to {_name(key[0])} within {timeout_ms} ms.")
        if task.cancelled():
            raise PeerError(_STOPPING if self._is_closed else f"the connection to {_name(key[0])} was given up.")
        return task.result()

    async def _connect(self, key: tuple[Address, str]) -> PeerConnection:
        host, port = key[0]
        name = _name(key[0])
        choose = self._settings.security
        security = None if choose is None else choose(key[1])
        known = self._connections.get(key)
        if (
            known is not None
            and known.is_open
            and security is not None
            and await self._log_in_again(known, host, security)
        ):
            return known
        connection = PeerConnection(self._client_id, name)
        timeout_ms = self._settings.connection_setup_timeout_ms
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                if security is None or security.context is None:
                    await asyncio.get_running_loop().create_connection(lambda: connection, host, port)
                else:
                    await self._connect_tls(connection, key[0], security.context())
                await connection.greet()
                await self._log_in(connection, host, security)
        except TimeoutError:
            error = PeerError(f"no connection to {name} within {timeout_ms} ms.")
            connection.abort(error)
            raise error from None
        except OSError as problem:
            raise PeerError(f"cannot connect to {name}: {reason_of(problem)}.") from None
        except asyncio.CancelledError as cancelled:
            error = PeerError(str(cancelled) or f"the connection to {name} was given up.")
            connection.abort(error)
            raise error from None  # for all who wait for it; none of them was cancelled
        except PeerError as error:
            connection.abort(error)
            if isinstance(error, NotTrustedError):
                self._complain(key[0], error)
            raise
        self._connections[key] = connection
        return connection

    def _complain(self, address: Address, error: NotTrustedError) -> None:
        """Say it, now and then: whoever asked tries again in silence."""
        now = asyncio.get_running_loop().time()
        if now >= self._quiet_until.get(address, now):
            self._quiet_until[address] = now + _QUIET_S
            logger.warning("%s", error)

    async def _log_in(self, connection: PeerConnection, host: str, security: PeerSecurity | None) -> None:
        if security is not None and security.authenticate is not None:
            lifetime_ms = await security.authenticate(connection, host)
            now = asyncio.get_running_loop().time()
            connection.due_at = None if lifetime_ms is None else now + lifetime_ms / 1000 * _RENEWED_AFTER

    async def _log_in_again(self, connection: PeerConnection, host: str, security: PeerSecurity) -> bool:
        """Renew the session of a connection, behind what is in flight on it; whether it can be used further."""
        timeout_ms = self._settings.connection_setup_timeout_ms
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                await self._log_in(connection, host, security)
        except (PeerError, TimeoutError) as error:
            # A session that is not renewed would end in the middle of something: better now, on a new connection.
            connection.abort(PeerError(f"the session with {connection.name} was not renewed: {error or timeout_ms}"))
            return False
        except asyncio.CancelledError:
            connection.abort(PeerError(f"the connection to {connection.name} was given up."))
            raise
        return connection.is_open

    async def _connect_tls(self, connection: PeerConnection, address: Address, context: SSLContext) -> None:
        from ottla.runtime.tls import HandshakeError, ReceiveBuffer, connect_tls

        if self._receive_buffer is None:
            self._receive_buffer = ReceiveBuffer()
        try:
            await connect_tls(
                connection,
                *address,
                context,
                receive_buffer=self._receive_buffer,
                timeout_s=self._settings.connection_setup_timeout_ms / 1000,
            )
        except HandshakeError as error:
            raise NotTrustedError(f"no TLS with {connection.name}: {error}.") from None

    def _opened(self, key: tuple[Address, str], task: asyncio.Task[PeerConnection]) -> None:
        del self._opening[key]
        if not task.cancelled():
            task.exception()  # those who wait are told; when nobody does any more, it is no news


def _expire(connection: PeerConnection, response: asyncio.Future[Any], what: str, timeout_ms: int) -> None:
    if not response.done():
        connection.abort(PeerError(f"{connection.name} did not answer {what} within {timeout_ms} ms."))


def _name(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
