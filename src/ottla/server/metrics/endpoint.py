"""The door: `http.listeners` is opened when the node starts, and everything behind it is loaded with the first request.

GET /metrics          Prometheus text; `?names=confluent,exporter` for other names than `metrics.names` says
GET /health/live      200 while the event loop turns
GET /health/ready     200 when clients are served and there is a data directory in service, else 503 and why
GET /lag              consumer groups and whether they keep up; /lag/GROUP: one with its partitions
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ottla.runtime.http import HttpListenError, HttpServer, deferred, serve
from ottla.schema.definition import SettingError

if TYPE_CHECKING:
    from ottla.runtime.http import App
    from ottla.schema.config import BrokerConfig
    from ottla.server.metrics.registry import Metrics

logger = logging.getLogger(__name__)

SETTING = "http.listeners"
_PREFIX = "http://"


class Address(NamedTuple):
    """Where HTTP is listened for; the empty host stands for all addresses, port 0 for a free one."""

    host: str
    port: int


class Health(Protocol):
    """What the endpoint asks of a node."""

    def not_ready(self) -> str | None:
        """Why clients are not served; None when they are."""

    def metrics(self) -> Metrics | None:
        """The metrics, made when first asked for; None while the node is starting or stopping."""


def parse_addresses(texts: list[str]) -> list[Address]:
    """`http://host:port`, each; raises `SettingError`."""
    found = []
    for text in texts:
        host, colon, port = text.removeprefix(_PREFIX).rstrip("/").rpartition(":")
        if not text.startswith(_PREFIX) or not colon or not port.isdecimal() or int(port) > 65_535:
            raise SettingError(SETTING, f"{SETTING}: '{text}' must look like http://127.0.0.1:8080")
        found.append(Address(host.strip("[]"), int(port)))
    return found


class HttpEndpoint:
    """The HTTP listeners of a node."""

    def __init__(self, config: BrokerConfig, health: Health) -> None:
        self._addresses = parse_addresses(config[SETTING])
        self._is_default = config.is_default(SETTING)
        self._health = health
        self._servers: list[HttpServer] = []

    @property
    def ports(self) -> list[int]:
        """The bound ports."""
        return [server.port for server in self._servers]

    async def open(self) -> None:
        """Listen. Raises `HttpListenError`, but for the default address, about which there is only a warning."""
        app = deferred(self._make_app)
        for address in self._addresses:
            try:
                self._servers.append(await serve(app, *address))
            except HttpListenError as error:
                if not self._is_default:
                    await self.close()
                    raise
                logger.warning("%s; no metrics are served, set %s to have them elsewhere", error, SETTING)

    async def close(self) -> None:
        """Listen no more."""
        servers, self._servers = self._servers, []
        for server in servers:
            await server.close()

    def _make_app(self) -> App:
        from ottla.server.metrics.app import make_app

        return make_app(self._health)
