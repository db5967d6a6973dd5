"""The settings of one listener: `listener.name.<name>.<setting>` stands above `<setting>`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ottla.schema.definition import Setting, SettingError

if TYPE_CHECKING:
    from ottla.schema.config import BrokerConfig


class ListenerConfig(Mapping[str, Any]):
    """`config.for_listener("INTERNAL")["ssl.keystore.location"]`: typed values, as of a `BrokerConfig`.

    With a SASL mechanism, `listener.name.<name>.<mechanism>.<setting>` stands above both. Dynamic settings count
    under each of these names, those of the broker before those of the cluster. It belongs to one configuration: ask
    again when that has been replaced.
    """

    __slots__ = ("_config", "_prefixes", "name")

    def __init__(self, config: BrokerConfig, name: str, mechanism: str | None = None) -> None:
        self.name = name
        self._config = config
        own = f"listener.name.{name.lower()}."
        self._prefixes = (own,) if mechanism is None else (f"{own}{mechanism.lower()}.", own)

    def __getitem__(self, name: str) -> Any:
        key = self._own_key(name)
        if key is None:
            return self._config[name]
        setting = _setting(name)
        text = self._text(key)
        assert text is not None
        if setting is None:
            return text
        try:
            return setting.parse(text)
        except SettingError as error:
            raise error.at(key) from None

    def key(self, name: str) -> str:
        """Under which name the value is set: for errors that say where to look."""
        return self._own_key(name) or name

    def is_default(self, name: str) -> bool:
        """Whether nobody has set it, neither for this listener nor for all."""
        return self._own_key(name) is None and self._config.is_default(name)

    def is_own(self, name: str) -> bool:
        """Whether it is set for this listener, and not just for all."""
        return self._own_key(name) is not None

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (self._own_key(name) is not None or _setting(name) is not None)

    def __iter__(self) -> Iterator[str]:
        from ottla.schema.broker import BROKER_SETTINGS

        return iter(BROKER_SETTINGS)

    def __len__(self) -> int:
        from ottla.schema.broker import BROKER_SETTINGS

        return len(BROKER_SETTINGS)

    def __repr__(self) -> str:
        return f"ListenerConfig({self.name!r})"

    def _own_key(self, name: str) -> str | None:
        return next((key for prefix in self._prefixes if self._text(key := prefix + name) is not None), None)

    def _text(self, key: str) -> str | None:
        config = self._config
        for texts in (config.per_broker, config.cluster_wide):
            if key in texts:
                return texts[key]
        given = config.given.get(key)
        return None if given is None else given.text


def _setting(name: str) -> Setting | None:
    from ottla.schema.config import find_setting

    return find_setting(name)
