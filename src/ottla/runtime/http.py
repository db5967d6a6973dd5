"""HTTP for everything that offers it: an ASGI application, served by uvicorn's protocol on the event loop we are on.

The listening sockets are ours, and so is the accepting: uvicorn (and with it what parses HTTP) is loaded when the first
connection comes, in a worker thread, so that a broker whose metrics nobody reads does without, and one that carries
load does not stand still for the imports. There are no signal handlers, no access log, and no lifespan events.

An application that is expensive to import is wrapped: `serve(deferred(make_app), …)` makes it with the first request.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

logger = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]
"""An ASGI 3 application; `starlette.applications.Starlette` is one."""

MakeSocket = Callable[[str, int], socket.socket]

_BACKLOG = 128
_KEEP_ALIVE_S = 75
_ACCEPT_PAUSE_S = 0.1


class HttpListenError(OSError):
    """An address for HTTP cannot be bound. `address` is `host:port` as asked for, `in_use` whether somebody has it."""

    def __init__(self, host: str, port: int, cause: OSError) -> None:
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.in_use = cause.errno == errno.EADDRINUSE
        reason = "the port is already in use" if self.in_use else (cause.strerror or str(cause))
        super().__init__(cause.errno, f"cannot listen on http://{self.address}: {reason}")

    def __str__(self) -> str:
        return str(self.strerror)


class HttpServer:
    """A running server. `port` is the bound one, also when 0 was asked for."""

    def __init__(self, app: App, sockets: list[socket.socket]) -> None:
        self.port: int = sockets[0].getsockname()[1]
        self._app = app
        self._sockets = sockets
        self._config: Any = None
        self._state: Any = None
        self._loading: asyncio.Future[None] | None = None
        self._accepting = [asyncio.ensure_future(self._accept(one)) for one in sockets]

    @property
    def connection_count(self) -> int:
        """How many clients are connected."""
        return 0 if self._state is None else len(self._state.connections)

    async def close(self, grace_s: float = 1.0) -> None:
        """Accept nobody any more, let requests under way finish for at most `grace_s` seconds; safe to call twice."""
        accepting, self._accepting = self._accepting, []
        for task in accepting:
            task.cancel()
        await asyncio.gather(*accepting, return_exceptions=True)
        for one in self._sockets:
            one.close()
        if self._state is None:
            return
        for connection in list(self._state.connections):
            connection.shutdown()
        if self._state.tasks:
            await asyncio.wait(list(self._state.tasks), timeout=grace_s)
        for task in list(self._state.tasks):
            task.cancel()
        for connection in list(self._state.connections):
            connection.transport.abort()
        # The transports' last callbacks, so that nothing of this server is left on the loop.
        await asyncio.sleep(0)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listening)
            except OSError as error:
                # Out of file descriptors, as a rule: trying again at once would only keep the loop busy.
                logger.warning("an HTTP connection cannot be accepted: %s", error)
                await asyncio.sleep(_ACCEPT_PAUSE_S)
                continue
            try:
                if self._config is None:
                    await self._load(loop)
                await loop.connect_accepted_socket(self._protocol, connection)
            except OSError as error:
                connection.close()
                logger.debug("an HTTP connection was lost at once: %s", error)
            except BaseException:
                connection.close()
                raise

    async def _load(self, loop: asyncio.AbstractEventLoop) -> None:
        """Load uvicorn, once, whoever comes first."""
        if self._loading is None:
            self._loading = asyncio.ensure_future(loop.run_in_executor(None, _load_uvicorn))
        await asyncio.shield(self._loading)
        if self._config is None:
            from uvicorn.config import Config
            from uvicorn.server import ServerState

            self._state = ServerState()
            config = Config(
                self._app,
                interface="asgi3",
                # httptools, where it is installed, drops the body of a request that offers an upgrade to HTTP/2, as
                # those of Java's HttpClient do.
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
            )
            config.load()
            self._config = config

    def _protocol(self) -> asyncio.Protocol:
        protocol: asyncio.Protocol = self._config.http_protocol_class(
            config=self._config, server_state=self._state, app_state={}, _loop=asyncio.get_running_loop()
        )
        return protocol


async def serve(app: App, host: str, port: int, *, make_socket: MakeSocket | None = None) -> HttpServer:
    """Serve `app` on every address of `host` ("" for all there are) until `close`; port 0 takes a free one.

    `make_socket(address, port)` makes the bound and listening sockets, for who has them from elsewhere.
    Raises HttpListenError.
    """
    make = make_socket or _listening
    sockets: list[socket.socket] = []
    try:
        for address in await _addresses(host):
            try:
                made = make(address, sockets[0].getsockname()[1] if sockets and not port else port)
            except OSError as error:
                if not sockets or error.errno == errno.EADDRINUSE:
                    raise
                logger.debug("not listening on %s: %s", address, error)
                continue
            made.setblocking(False)
            sockets.append(made)
    except OSError as error:
        for one in sockets:
            one.close()
        raise HttpListenError(host, port, error) from error
    return HttpServer(app, sockets)


def deferred(make_app: Callable[[], App]) -> App:
    """An application that is made, and whatever it needs imported, with its first request."""
    made: list[App] = []

    async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if not made:
            made.append(make_app())
        await made[0](scope, receive, send)

    return app


async def _addresses(host: str) -> list[str]:
    """The addresses to bind; a name server is only asked about names."""
    if not host:
        return ["0.0.0.0", "::"]
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return [host]
    found = await asyncio.get_running_loop().getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


def _listening(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, port), family=family, backlog=_BACKLOG)


def _load_uvicorn() -> None:
    import uvicorn.config
    import uvicorn.server

    try:
        import uvicorn.protocols.http.httptools_impl
    except ImportError:
        import uvicorn.protocols.http.h11_impl  # noqa: F401
