"""What DescribeConfigs tells: each setting's value, where it comes from, and what else would give it one.

Sources and their order are Kafka's (KIP-226): a topic's own, then dynamic per broker, dynamic cluster-wide, static,
default; the first that has a value is the one in force. The synonyms of a topic setting include all broker settings
it can fall back to; Kafka leaves them out when only a later one (`log.retention.hours`) has a value, which hides
where the value comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

from ottla.schema.broker import BROKER_SETTINGS
from ottla.schema.config import BrokerConfig, find_setting
from ottla.schema.definition import Setting, SettingError, SettingTable, SettingType, Value, format_value

TOPIC = 1
DYNAMIC_BROKER = 2
DYNAMIC_DEFAULT_BROKER = 3
STATIC_BROKER = 4
DEFAULT = 5
DYNAMIC_BROKER_LOGGER = 6
CLIENT_METRICS = 7
GROUP = 8

_SYNONYM_GROUPS: tuple[tuple[str, ...], ...] = (
    ("log.roll.ms", "log.roll.hours"),
    ("log.roll.jitter.ms", "log.roll.jitter.hours"),
    ("log.flush.interval.ms", "log.flush.scheduler.interval.ms"),
    ("log.retention.ms", "log.retention.minutes", "log.retention.hours"),
)


class Synonym(NamedTuple):
    """A place that has a value for a setting."""

    name: str
    value: str | None
    source: int


class Description(NamedTuple):
    """One entry of a DescribeConfigs response; the value of a sensitive setting is None. `type` is the wire's code."""

    name: str
    value: str | None
    source: int
    is_read_only: bool
    is_sensitive: bool
    type: int
    synonyms: list[Synonym]
    documentation: str | None

    @property
    def is_default(self) -> bool:
        """The flag of version 0."""
        return self.source == DEFAULT


def describe_broker(config: BrokerConfig, keys: Collection[str] | None = None) -> list[Description]:
    """The settings of a broker as they are in force; `keys` limits the answer to some names.

    Undocumented ones are told only when somebody has set them.
    """
    from ottla.schema.ottla import OTTLA_SETTINGS

    names = [name for table in (BROKER_SETTINGS, OTTLA_SETTINGS) for name in table if not table[name].internal]
    known = set(names)
    names += [
        name for texts in (config.given, config.cluster_wide, config.per_broker) for name in texts if name not in known
    ]
    return [_describe_broker_setting(config, name) for name in _selected(names, keys)]


def describe_cluster_wide(config: BrokerConfig, keys: Collection[str] | None = None) -> list[Description]:
    """The dynamic settings of all brokers together (the broker resource without a name): only those that are set."""
    described = [_describe_broker_setting(config, name) for name in _selected(config.cluster_wide, keys)]
    return [
        entry._replace(
            value=None if entry.is_sensitive else config.cluster_wide[entry.name],
            source=DYNAMIC_DEFAULT_BROKER,
            synonyms=[synonym for synonym in entry.synonyms if synonym.source == DYNAMIC_DEFAULT_BROKER],
        )
        for entry in described
    ]


def describe_topic(
    config: BrokerConfig, overrides: Mapping[str, str], keys: Collection[str] | None = None
) -> list[Description]:
    """All settings of a topic with these overrides."""
    from ottla.schema.topic import TOPIC_SETTINGS, default_value

    def synonyms(setting: Setting) -> list[Synonym]:
        return _broker_synonyms(config, setting.synonyms)

    return _describe_resource(
        TOPIC_SETTINGS, overrides, TOPIC, synonyms, lambda name: default_value(config, name), keys
    )


def describe_group(
    config: BrokerConfig, overrides: Mapping[str, str], keys: Collection[str] | None = None
) -> list[Description]:
    """All settings of a group with these overrides."""
    from ottla.schema.group import GROUP_SETTINGS, broker_synonym, default_value

    def synonyms(setting: Setting) -> list[Synonym]:
        synonym = broker_synonym(setting.name)
        if synonym is not None:
            return _broker_synonyms(config, (synonym,))
        default = format_value(setting.type, setting.default)
        return [] if default is None else [Synonym(setting.name, default, DEFAULT)]

    return _describe_resource(
        GROUP_SETTINGS, overrides, GROUP, synonyms, lambda name: default_value(config, name), keys
    )


def describe_client_metrics(overrides: Mapping[str, str], keys: Collection[str] | None = None) -> list[Description]:
    """All settings of a client metrics subscription with these overrides."""
    from ottla.schema.client_metrics import CLIENT_METRICS_SETTINGS

    return _describe_resource(
        CLIENT_METRICS_SETTINGS,
        overrides,
        CLIENT_METRICS,
        lambda setting: [],
        lambda name: CLIENT_METRICS_SETTINGS[name].default,
        keys,
    )


def _selected(names: Iterable[str], keys: Collection[str] | None) -> list[str]:
    return sorted(name for name in set(names) if keys is None or name in keys)


def _describe_resource(
    table: SettingTable,
    overrides: Mapping[str, str],
    source: int,
    synonyms_of: Callable[[Setting], list[Synonym]],
    default_of: Callable[[str], Value],
    keys: Collection[str] | None,
) -> list[Description]:
    entries = []
    for name in _selected([name for name in table if not table[name].internal or name in overrides], keys):
        setting = table[name]
        synonyms = synonyms_of(setting)
        if name in overrides:
            value = _canonical(setting, overrides[name])
            synonyms = [Synonym(name, value, source), *synonyms]
        else:
            value = format_value(setting.type, default_of(name))
        entries.append(_entry(setting, name, value, synonyms, is_read_only=False))
    return entries


def _canonical(setting: Setting, text: str) -> str | None:
    try:
        return format_value(setting.type, setting.parse(text))
    except SettingError:
        return text


def _describe_broker_setting(config: BrokerConfig, name: str) -> Description:
    setting = find_setting(name)
    if setting is None:
        # Free-form ones (providers, plug-ins): what they are is not known, so it is kept to ourselves, as Kafka does.
        return Description(name, None, STATIC_BROKER, True, True, 0, [Synonym(name, None, STATIC_BROKER)], None)
    value = format_value(setting.type, config[name])
    is_read_only = setting.dynamic == "read-only"
    return _entry(setting, name, value, _broker_setting_synonyms(config, setting, name), is_read_only=is_read_only)


def _broker_setting_synonyms(config: BrokerConfig, setting: Setting, name: str) -> list[Synonym]:
    """From this name on down its chain: what comes before it would override it, but is not another place of it."""
    alone = (name,) if name == setting.name else (name, setting.name)
    chain = next((group for group in _SYNONYM_GROUPS if name in group), alone)
    synonyms = _broker_synonyms(config, chain)
    start = next((index for index, synonym in enumerate(synonyms) if synonym.name == name), len(synonyms))
    return synonyms[start:]


def _broker_synonyms(config: BrokerConfig, names: Iterable[str]) -> list[Synonym]:
    """Every place that has a value under one of these names, the strongest first."""
    names = list(names)
    found = []
    static = {name: given.text for name, given in config.given.items()}
    for texts, source in (
        (config.per_broker, DYNAMIC_BROKER),
        (config.cluster_wide, DYNAMIC_DEFAULT_BROKER),
        (static, STATIC_BROKER),
    ):
        found += [(name, texts[name], source) for name in names if name in texts]
    for name in names:
        setting = find_setting(name)
        if setting is not None and setting.name == name:
            default = format_value(setting.type, config.default(name))
            if default is not None:
                found.append((name, default, DEFAULT))
    return [Synonym(name, _hidden(name, text), source) for name, text, source in found]


def _hidden(name: str, text: str) -> str | None:
    setting = find_setting(name)
    return None if setting is None or setting.type is SettingType.PASSWORD else text.strip()


def _entry(
    setting: Setting, name: str, value: str | None, synonyms: list[Synonym], *, is_read_only: bool
) -> Description:
    return Description(
        name=name,
        value=None if setting.is_sensitive else value,
        source=synonyms[0].source if synonyms else DEFAULT,
        is_read_only=is_read_only,
        is_sensitive=setting.is_sensitive,
        type=int(setting.type),
        synonyms=synonyms,
        documentation=setting.documentation,
    )
