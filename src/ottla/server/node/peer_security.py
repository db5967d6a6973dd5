"""How this node's connections to other nodes are secured: as the listeners are that it connects to.

Brokers are reached on the inter-broker listener, controllers on the first of `controller.listener.names`; what is set
for these listeners (`listener.name.<name>.…`) counts for both ends. A node where both speak PLAINTEXT loads nothing of
this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.schema.definition import SettingError
from ottla.server.broker.controller_channel import CHANNEL_PREFIX
from ottla.server.peers.peers import PeerSecurity
from ottla.server.raft.node import CHANNEL

if TYPE_CHECKING:
    from ssl import SSLContext

    from ottla.runtime.env import Env
    from ottla.schema.config import BrokerConfig
    from ottla.server.peers.sasl import PeerLogin
    from ottla.server.security.tls import RenewedContext


class OutgoingSecurity:
    """What `PeerSettings.security` is on a node of a secured cluster. Reads files. Raises SettingError."""

    def __init__(self, config: BrokerConfig, env: Env) -> None:
        self._env = env
        self.contexts: list[RenewedContext] = []
        """The TLS of outgoing connections, to be renewed when files or settings change."""
        broker, controller = _ways(config)
        self._brokers = self._security(config, *broker, config["sasl.mechanism.inter.broker.protocol"])
        self._controllers = self._security(config, *controller, config["sasl.mechanism.controller.protocol"])

    def __call__(self, channel: str) -> PeerSecurity | None:
        """The security of connections of a channel."""
        is_for_controllers = channel == CHANNEL or channel.startswith(CHANNEL_PREFIX)
        return self._controllers if is_for_controllers else self._brokers

    def _security(self, config: BrokerConfig, name: str, protocol: str, mechanism: str) -> PeerSecurity | None:
        if protocol == "PLAINTEXT":
            return None
        context = None
        if protocol.endswith("SSL"):
            from ottla.server.security.tls import RenewedContext

            renewed = RenewedContext(config, name, protocol, is_server=False)
            self.contexts.append(renewed)

            def context() -> SSLContext:
                return renewed.context

        login = None
        if protocol.startswith("SASL"):
            _require_offered(config, name, mechanism)
            login = self._login(config, name, mechanism)
        return PeerSecurity(context=context, authenticate=login)

    def _login(self, config: BrokerConfig, name: str, mechanism: str) -> PeerLogin:
        from ottla.security.errors import SecurityConfigError
        from ottla.server.peers.sasl import PeerLogin

        try:
            return PeerLogin(
                config.for_listener(name, mechanism),
                listener_name=name,
                mechanism=mechanism,
                run_blocking=self._env.run_blocking,
                random_bytes=self._env.secret_bytes,
            )
        except SecurityConfigError as error:
            raise SettingError(error.setting, error.message) from None


def _require_offered(config: BrokerConfig, name: str, mechanism: str) -> None:
    """All nodes are set up alike: what this one does not take on its own listener, the others will not either."""
    if any(each.name == name for each in (*config.listeners, *config.controller_listeners)):
        offered = config.for_listener(name)["sasl.enabled.mechanisms"]
        if mechanism not in offered:
            setting = "sasl.enabled.mechanisms"
            raise SettingError(
                setting,
                f"{setting}: nodes log in at {name} with {mechanism}, but only {', '.join(offered)} is let in there; "
                f"add {mechanism}",
            )


def outgoing_security(config: BrokerConfig, env: Env) -> OutgoingSecurity | None:
    """None where other nodes are spoken with in plain text."""
    if all(protocol == "PLAINTEXT" for _, protocol in _ways(config)):
        return None
    return OutgoingSecurity(config, env)


def _ways(config: BrokerConfig) -> tuple[tuple[str, str], tuple[str, str]]:
    """Names and protocols of the listeners of brokers and of controllers."""
    controller = ("", "PLAINTEXT")
    if config.controller_listener_names:
        controller = (config.controller_listener_names[0], config.controller_protocol())
    name = config.inter_broker_listener_name
    broker = next(((name, each.protocol) for each in config.listeners if each.name == name), ("", "PLAINTEXT"))
    return broker, controller
