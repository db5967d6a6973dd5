"""What the doctor finds, and what it looks at."""

from __future__ import annotations

import ipaddress
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from ottla.schema.config import find_setting
from ottla.schema.definition import SettingError
from ottla.schema.listeners import Listener, parse_listeners, parse_protocol_map

if TYPE_CHECKING:
    from ottla.schema.config import BrokerConfig


class Severity(IntEnum):
    """How bad it is, the worst first."""

    CRITICAL = 0
    """Somebody who does not belong can get in, or read along, or data is lost."""
    WARNING = 1
    """A defence is missing or weak, or will be soon."""
    NOTICE = 2
    """Worth knowing; may be meant."""


class Finding(NamedTuple):
    """One thing that is not as it should be. `remedy` is what to set, as `name=value` where that is all it takes."""

    severity: Severity
    name: str
    """A fixed word for programs: `listener-plain`."""
    where: str
    """A listener, a file, a setting."""
    what: str
    why: str
    remedy: str


class Subject(ABC):
    """The settings of one node, wherever they come from: values are typed; None where only the node knows them."""

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def value(self, name: str, listener: str | None = None, mechanism: str | None = None) -> Any:
        """What is in force, for a listener (and a SASL mechanism of it) where one is named."""

    @abstractmethod
    def is_given(self, name: str) -> bool:
        """Whether somebody has set it."""

    @property
    @abstractmethod
    def names(self) -> Iterable[str]:
        """What somebody has set, also for single listeners."""

    @property
    def listeners(self) -> list[Listener]:
        """All that it listens on."""
        protocols = parse_protocol_map(self.value("listener.security.protocol.map"))
        for name in self.value("controller.listener.names") or ():
            protocols.setdefault(name.upper(), "PLAINTEXT")
        return parse_listeners(self.value("listeners"), protocols, unique_ports=False)

    @property
    def open_listeners(self) -> Iterator[Listener]:
        """Those that other machines can reach."""
        return (listener for listener in self.listeners if is_open(listener.host))

    @property
    def has_authorizer(self) -> bool:
        return bool(self.value("authorizer.class.name"))


class GivenSettings(Subject):
    """A configuration that was read here, secrets and files among it."""

    def __init__(self, name: str, config: BrokerConfig) -> None:
        super().__init__(name)
        self.config = config

    def value(self, name: str, listener: str | None = None, mechanism: str | None = None) -> Any:
        if find_setting(name) is None:  # one of the authorizer's own
            given = self.config.given.get(name)
            return None if given is None else given.text
        return self.config[name] if listener is None else self.config.for_listener(listener, mechanism)[name]

    def is_given(self, name: str) -> bool:
        return not self.config.is_default(name)

    @property
    def names(self) -> Iterable[str]:
        return self.config.given

    @property
    def listeners(self) -> list[Listener]:
        return self.config.all_listeners


class RemoteSettings(Subject):
    """What a running broker tells of its settings; secrets are not among it."""

    def __init__(self, name: str, texts: Mapping[str, str | None], given: frozenset[str]) -> None:
        super().__init__(name)
        self._texts = texts
        self._given = given

    def value(self, name: str, listener: str | None = None, mechanism: str | None = None) -> Any:
        key = name if listener is None else f"listener.name.{listener.lower()}.{name}"
        if key not in self._texts:
            key = name
        text = self._texts.get(key)
        setting = find_setting(name)
        if setting is None:
            return text
        if text is None:
            return None if key in self._texts else setting.default
        try:
            return setting.parse(text)
        except SettingError:  # of another version, which knows more values
            return None

    def is_given(self, name: str) -> bool:
        return name in self._given

    @property
    def names(self) -> Iterable[str]:
        return sorted(self._given)


def is_open(host: str) -> bool:
    """Whether who listens on this address hears other machines."""
    if host in ("localhost", "localhost.localdomain", "ip6-localhost"):
        return False
    try:
        return not ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return True  # empty for all addresses, or a name
