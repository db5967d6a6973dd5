"""What a node listens on, and what is enforced there: addresses, routes, limits, quotas, the log of requests.

Controller listeners open first, because controllers need each other to say anything at all; clients are let in when
the broker is there.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ottla.server.broker.connection_limits import ConnectionLimits
from ottla.server.broker.dispatch import Router
from ottla.server.broker.listener import Listener
from ottla.server.broker.request_log import follow_settings, quiet_request_log

if TYPE_CHECKING:
    from ottla.schema.config import BrokerConfig
    from ottla.server.broker.broker import Broker
    from ottla.server.broker.request_metrics import RequestMetrics
    from ottla.server.metadata.image import MetadataImage
    from ottla.server.security.tls import RenewedContext


class Front:
    """All listeners of a node; `broker` is what their requests are handled with."""

    def __init__(self, config: BrokerConfig, broker: Broker, metrics: dict[int, RequestMetrics]) -> None:
        self._broker = broker
        unstable = config["unstable.api.versions.enable"]
        self._routers = [Router(unstable_versions=unstable, metrics=metrics) for _ in config.listeners]
        self._limits = ConnectionLimits.from_config(config)
        self.listeners = [
            Listener(broker, address, router, self._limits)
            for address, router in zip(config.listeners, self._routers, strict=True)
        ]
        """For clients and other brokers."""
        self.controller_listeners: list[Listener] = []
        """For other controllers, brokers, and clients that were given controllers to begin with (KIP-919)."""
        if config.controller_listeners:
            from ottla.server.broker.api_table import CONTROLLER_APIS

            router = broker.controller_router = Router(CONTROLLER_APIS, unstable_versions=unstable, metrics=metrics)
            self._routers.append(router)
            self.controller_listeners = [
                Listener(broker, address, router, self._limits) for address in config.controller_listeners
            ]
        self._finding_hosts: asyncio.Task[None] | None = None
        quiet_request_log()
        broker.on_loggers_changed = self._follow_request_log
        self._follow_request_log()

    async def open_controllers(self) -> None:
        """Listen for controllers. Raises ListenError."""
        self._guard()
        for listener in self.controller_listeners:
            await listener.start()

    async def bind(self) -> None:
        """Take the addresses for clients, whose ports are known then; nobody is let in. Raises ListenError."""
        self._guard()
        for listener in self.listeners:
            await listener.bind()

    async def accept(self) -> None:
        """Let clients in."""
        for listener in self.listeners:
            await listener.accept()

    def name_requests(self) -> None:
        """Let the audit log know which APIs are asked."""
        for router in self._routers:
            router.name_requests()

    def tls_contexts(self) -> list[RenewedContext]:
        """The TLS of all listeners that speak it."""
        listeners = (*self.listeners, *self.controller_listeners)
        return [listener.handshakes.context for listener in listeners if listener.handshakes is not None]

    def follow_settings(self) -> None:
        """The broker's configuration is another one."""
        for listener in (*self.listeners, *self.controller_listeners):
            listener.follow_settings()
        self._follow_request_log()

    def apply_quotas(self, image: MetadataImage) -> None:
        """The image's quotas are other ones."""
        from ottla.server.node.quotas import apply_quotas

        self._stop_finding_hosts()
        self._finding_hosts = apply_quotas(self._broker, self._limits, image)

    async def close(self, grace_s: float) -> None:
        """Let nobody in, and finish what clients have asked for; requests under way have so many seconds."""
        self._stop_finding_hosts()
        listeners, self.listeners = self.listeners, []
        await asyncio.gather(*(listener.close(grace_s) for listener in listeners))

    async def close_controllers(self, grace_s: float) -> None:
        """The same on controller listeners, when the metadata log has left the quorum."""
        listeners, self.controller_listeners = self.controller_listeners, []
        await asyncio.gather(*(listener.close(grace_s) for listener in listeners))

    def abort(self) -> None:
        """Break every connection, at once."""
        self._stop_finding_hosts()
        for listener in (*self.listeners, *self.controller_listeners):
            listener.abort()
        self.listeners, self.controller_listeners = [], []

    def _guard(self) -> None:
        """Check permissions, if there is somebody who knows them."""
        if self._broker.authorizer is not None:
            from ottla.server.broker.permissions.table import guard

            for router in self._routers:
                router.guard = guard

    def _stop_finding_hosts(self) -> None:
        if self._finding_hosts is not None:
            self._finding_hosts.cancel()

    def _follow_request_log(self) -> None:
        """Log requests as settings and levels of loggers say now."""
        for router in self._routers:
            follow_settings(router, self._broker.config)
