"""Settings of a node that belongs to a cluster: its roles, its controllers, and what Kafka checks about them.

Loaded when somebody sets any of them: a node alone, which is its own quorum, starts without.
"""

from __future__ import annotations

from collections.abc import Iterable
from os import uname
from typing import TYPE_CHECKING, Final, NamedTuple

from ottla.schema.definition import SettingError
from ottla.schema.listeners import Listener

if TYPE_CHECKING:
    from ottla.schema.config import BrokerConfig

VOTERS: Final = "controller.quorum.voters"
BOOTSTRAP_SERVERS: Final = "controller.quorum.bootstrap.servers"
LISTENER_NAMES: Final = "controller.listener.names"
AUTO_JOIN: Final = "controller.quorum.auto.join.enable"
_EVERYWHERE: Final = ("", "0.0.0.0", "::")
_LOCAL: Final = ("localhost", "127.0.0.1", "::1")


class Address(NamedTuple):
    """Where a controller listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_voters(entries: Iterable[str]) -> dict[int, Address]:
    """`controller.quorum.voters`: `{id}@{host}:{port}` entries of a static quorum, by id; raises `SettingError`."""
    voters = {}
    for entry in entries:
        voter_id, at, address = entry.partition("@")
        if not at or not voter_id.strip().isdecimal():
            raise SettingError(VOTERS, f"{VOTERS}: '{entry}' must look like id@host:port")
        voters[int(voter_id)] = _address(address, VOTERS, f"'{entry}' must look like id@host:port")
    return voters


def parse_bootstrap_servers(entries: Iterable[str]) -> list[Address]:
    """`controller.quorum.bootstrap.servers`: `{host}:{port}` entries; raises `SettingError`."""
    return [
        _address(entry, BOOTSTRAP_SERVERS, f"'{entry}' must look like host:port") for entry in entries if entry.strip()
    ]


def _address(text: str, setting: str, reason: str) -> Address:
    host, colon, port = text.strip().rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise SettingError(setting, f"{setting}: {reason}")
    return Address(host, int(port))


def advertised_controller_listeners(config: BrokerConfig) -> list[Listener]:
    """Where this controller says it can be reached, in the order of `controller.listener.names`.

    An empty host stands for this machine's name, port 0 for the port really bound. A listener that is not advertised
    is advertised as it is; the first one on all interfaces, as `controller.quorum.voters` calls this node (KIP-853).
    """
    advertised = {one.name: one for one in config.advertised_endpoints}
    bound = {one.name: one for one in config.controller_listeners}
    found = []
    for number, name in enumerate(config.controller_listener_names):
        listener = advertised.get(name) or bound.get(name)
        if listener is None:
            continue
        if name not in advertised and number == 0 and listener.host in _EVERYWHERE:
            own = parse_voters(config[VOTERS]).get(config.node_id)
            if own is not None:
                listener = listener._replace(host=own.host, port=own.port)
        found.append(listener)
    return found


def names_only_itself(config: BrokerConfig) -> bool:
    """Whether the controllers that a broker,controller is told of are no others than itself."""
    voters = parse_voters(config[VOTERS])
    servers = parse_bootstrap_servers(config[BOOTSTRAP_SERVERS])
    if config[AUTO_JOIN] or len(voters) > 1 or len(servers) > 1:
        return False
    return all(voter_id == config.node_id for voter_id in voters) and all(_is_own(config, one) for one in servers)


def _is_own(config: BrokerConfig, server: Address) -> bool:
    listeners = [*config.controller_listeners, *advertised_controller_listeners(config)]
    if listeners and all(server.port != listener.port for listener in listeners):
        return False
    return server.host in _LOCAL or server.host in {uname().nodename, *(listener.host for listener in listeners)}


def check_quorum(config: BrokerConfig) -> None:
    """Raise `SettingError` for roles, voters and controller listeners that Kafka would refuse together too.

    One thing more is allowed: a broker,controller that names nobody else needs no controller listener.
    """
    voters = parse_voters(config[VOTERS])
    servers = parse_bootstrap_servers(config[BOOTSTRAP_SERVERS])
    if config.is_single:
        if config.controller_listeners:
            _check_controller_listeners(config)
        return
    if config.is_default("node.id") and config.is_default("broker.id"):
        _refuse("node.id", "every node of a cluster needs one of its own; set it")
    if not voters and not servers:
        _refuse(
            BOOTSTRAP_SERVERS,
            f"a node with process.roles={','.join(config['process.roles'])} must know the controllers: set it to "
            f"host:port,… (or {VOTERS} to id@host:port,…)",
        )
    if config.is_controller:
        _check_own_vote(config, voters)
        _check_controller_listeners(config)
    else:
        _check_broker_only(config, voters)
    if not config.is_broker:
        _check_controller_only(config)
    if len(voters or servers) > 1 and config.controller_listener_names:
        _check_controller_login(config)


def _check_controller_login(config: BrokerConfig) -> None:
    """Who may log in by SCRAM stands in the metadata log: controllers would need each other to read it."""
    name = "sasl.mechanism.controller.protocol"
    mechanism: str = config[name]
    if mechanism.startswith("SCRAM-") and config.controller_protocol().startswith("SASL"):
        _refuse(name, f"several controllers cannot log in at each other by {mechanism}; set it to PLAIN or GSSAPI")


def _check_own_vote(config: BrokerConfig, voters: dict[int, Address]) -> None:
    if voters and config.node_id not in voters:
        _refuse(VOTERS, f"must contain this node ({config.node_id}), which is a controller")


def _check_controller_listeners(config: BrokerConfig) -> None:
    if not config.controller_listeners:
        _refuse(
            LISTENER_NAMES,
            f"a controller needs a listener of its own: name one of listeners ({_names(config.all_listeners)}) here, "
            "as CONTROLLER for listeners=…,CONTROLLER://host:9093",
        )
    there = {listener.name for listener in config.controller_listeners}
    missing = [name for name in config.controller_listener_names if name not in there]
    if missing:
        _refuse(LISTENER_NAMES, f"{', '.join(missing)} is not among the listeners ({_names(config.all_listeners)})")
    for listener in advertised_controller_listeners(config):
        if listener.host in ("0.0.0.0", "::"):
            _refuse(
                "advertised.listeners",
                f"nodes cannot connect to {listener}; add {listener.name}:// with an address they can reach",
            )


def _check_broker_only(config: BrokerConfig, voters: dict[int, Address]) -> None:
    if config.node_id in voters:
        _refuse(VOTERS, f"must not contain this node ({config.node_id}), which is only a broker")
    if not config.controller_listener_names:
        _refuse(LISTENER_NAMES, "must say what the controllers' listener is called, as CONTROLLER")
    if config.controller_listeners:
        _refuse(LISTENER_NAMES, f"{_names(config.controller_listeners)} is among the listeners of a node without it")
    config.controller_protocol()  # raises SettingError when the name has none
    if config[AUTO_JOIN]:
        _refuse(AUTO_JOIN, "only a node with the role controller can join the quorum")


def _check_controller_only(config: BrokerConfig) -> None:
    others = config.listeners
    if others:
        _refuse("listeners", f"{_names(others)} is no controller listener, and process.roles is controller alone")
    chosen = config["inter.broker.listener.name"]
    if chosen and chosen.upper() in config.controller_listener_names:
        _refuse(LISTENER_NAMES, f"must not contain the inter-broker listener {chosen.upper()}")


def _names(listeners: Iterable[Listener]) -> str:
    return ", ".join(listener.name for listener in listeners)


def _refuse(name: str, reason: str) -> None:
    raise SettingError(name, f"{name}: {reason}")
