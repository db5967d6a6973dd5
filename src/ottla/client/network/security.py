"""What the network layer asks of TLS and SASL; made by `ottla.client.security`, loaded only when it is needed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ssl import SSLContext

    from ottla.protocol.message import Request

SendAndReceive = Callable[["Request"], Awaitable[Any]]
"""Sends a request on the connection that is being authenticated, and gives the body of its response."""


class ConnectionSecurity(Protocol):
    """How connections are encrypted and authenticated."""

    def ssl_context(self, host: str) -> tuple[SSLContext, str] | None:
        """The context and the name to expect in the broker's certificate; None without TLS."""

    async def authenticate(self, send_and_receive: SendAndReceive, host: str) -> int | None:
        """Prove who we are; `AuthenticationError` when the broker does not believe it.

        Runs after ApiVersions, and again before the session ends (KIP-368). Returns the session's lifetime in
        milliseconds, None for one without end.
        """
