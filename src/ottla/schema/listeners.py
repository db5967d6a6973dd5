"""Listeners: `NAME://host:port`, and what protocol each name speaks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ottla.schema.definition import SettingError

SECURITY_PROTOCOL_IDS = {"PLAINTEXT": 0, "SSL": 1, "SASL_PLAINTEXT": 2, "SASL_SSL": 3}
"""Security protocols and their numbers in broker registrations."""

SECURITY_PROTOCOLS = tuple(SECURITY_PROTOCOL_IDS)


class Listener(NamedTuple):
    """An address under a name. An empty host means all interfaces, port 0 any free port."""

    name: str
    protocol: str
    host: str
    port: int

    @property
    def address(self) -> str:
        """`host:port`, an IPv6 host in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.name}://{self.address}"


def parse_protocol_map(text: str) -> dict[str, str]:
    """`listener.security.protocol.map`: listener name → security protocol."""
    setting = "listener.security.protocol.map"
    protocols: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, colon, protocol = (part.strip() for part in item.partition(":"))
        if not colon or not name:
            raise SettingError(setting, f"{setting}: '{item}' must look like NAME:PROTOCOL")
        if protocol.upper() not in SECURITY_PROTOCOLS:
            choices = ", ".join(SECURITY_PROTOCOLS)
            raise SettingError(setting, f"{setting}: '{protocol}' is not a security protocol; there are {choices}")
        if name.upper() in protocols:
            raise SettingError(setting, f"{setting}: listener {name.upper()} is mapped twice")
        protocols[name.upper()] = protocol.upper()
    return protocols


def parse_listeners(
    endpoints: Iterable[str], protocols: Mapping[str, str], *, setting: str = "listeners", unique_ports: bool = True
) -> list[Listener]:
    """The listeners of a list of endpoints; raises `SettingError` for a malformed, unknown or doubled one."""
    listeners = [_parse_endpoint(endpoint, protocols, setting) for endpoint in endpoints]
    names = [listener.name for listener in listeners]
    if len(set(names)) < len(names):
        raise SettingError(setting, f"{setting}: each listener must have a different name, found {_join(listeners)}")
    if unique_ports:
        _check_ports(listeners, setting)
    return listeners


def _parse_endpoint(endpoint: str, protocols: Mapping[str, str], setting: str) -> Listener:
    name, separator, address = endpoint.partition("://")
    host, colon, port_text = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host and not separator:
        colon = ""
    if not separator or not colon or not name or not port_text.isdecimal() or any(c in host for c in "/[]@ "):
        raise SettingError(setting, f"{setting}: '{endpoint}' must look like NAME://host:port")
    if int(port_text) > 65535:
        raise SettingError(setting, f"{setting}: port {port_text} of '{endpoint}' is above 65535")
    name = name.upper()
    protocol = protocols.get(name)
    if protocol is None:
        raise SettingError(
            setting,
            f"{setting}: no security protocol defined for listener {name}; add {name}:PLAINTEXT to "
            "listener.security.protocol.map",
        )
    return Listener(name, protocol, host, int(port_text))


def _check_ports(listeners: Sequence[Listener], setting: str) -> None:
    """Ports must differ; only an IPv4 and an IPv6 address may share one (KIP-797)."""
    by_port: dict[int, list[Listener]] = {}
    for listener in listeners:
        if listener.port:
            by_port.setdefault(listener.port, []).append(listener)
    for port, same in by_port.items():
        kinds = [":" in listener.host for listener in same if _is_ip_address(listener.host)]
        if len(same) > 1 and not (len(same) == 2 and sorted(kinds) == [False, True]):
            raise SettingError(setting, f"{setting}: each listener must have a different port, found {port} twice")


def _is_ip_address(host: str) -> bool:
    return ":" in host or (host.count(".") == 3 and host.replace(".", "").isdecimal())


def _join(listeners: Iterable[Listener]) -> str:
    return ",".join(map(str, listeners))
