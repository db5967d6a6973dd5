"""Every group setting of Apache Kafka 4.4 (consumer, share and streams groups).

The default of a group setting is the broker setting of the same name with `group.` in front, where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ottla.schema.definition import SettingError, SettingTable, nearest

if TYPE_CHECKING:
    from ottla.schema.config import BrokerConfig

GROUP_SETTINGS = SettingTable("""
consumer.assignment.interval.ms           int      medium 1000 [0,...]
consumer.assignor.offload.enable          boolean  medium,internal true
consumer.heartbeat.interval.ms            int      medium 5000 [1,...]
consumer.session.timeout.ms               int      medium 45000 [1,...]
errors.deadletterqueue.copy.record.enable boolean  medium false
errors.deadletterqueue.topic.name         string   medium ""
share.assignment.interval.ms              int      medium 1000 [0,...]
share.assignor.offload.enable             boolean  medium,internal true
share.auto.offset.reset                   string   medium latest [latest, earliest, by_duration:PnDTnHnMn.nS]
share.delivery.count.limit                int      medium 5 [2,...]
share.heartbeat.interval.ms               int      medium 5000 [1,...]
share.isolation.level                     string   medium read_uncommitted [read_committed, read_uncommitted]
share.partition.max.record.locks          int      medium 2000 [100,...]
share.record.lock.duration.ms             int      medium 30000 [1000,...]
share.renew.acknowledge.enable            boolean  medium true
share.session.timeout.ms                  int      medium 45000 [1,...]
streams.acceptable.recovery.lag           long     medium,internal 10000 [0,...]
streams.assignment.interval.ms            int      medium 1000 [0,...]
streams.assignor.name                     string   medium null
streams.assignor.offload.enable           boolean  medium,internal true
streams.heartbeat.interval.ms             int      medium 5000 [1,...]
streams.initial.rebalance.delay.ms        int      medium 3000 [0,...]
streams.num.standby.replicas              int      medium 0 [0,...]
streams.num.warmup.replicas               int      medium,internal 2 [0,...]
streams.rack.aware.assignment.tags        list     low    []
streams.session.timeout.ms                int      medium 45000 [1,...]
streams.task.offset.interval.ms           int      medium,internal 60000 [1,...]
""")


def broker_synonym(name: str) -> str | None:
    """The broker setting that gives a group setting its default."""
    from ottla.schema.broker import BROKER_SETTINGS

    synonym = f"group.{name}"
    return synonym if synonym in BROKER_SETTINGS else None


def default_value(config: BrokerConfig, name: str) -> Any:
    """The value of a group setting that the group does not have."""
    synonym = broker_synonym(name)
    return GROUP_SETTINGS[name].default if synonym is None else config[synonym]


def group_settings(config: BrokerConfig, overrides: Mapping[str, str]) -> dict[str, Any]:
    """Every group setting of a group, typed; those the broker bounds are pulled within its bounds, as Kafka does."""
    settings = {name: default_value(config, name) for name in GROUP_SETTINGS}
    for name, text in overrides.items():
        if name in GROUP_SETTINGS:
            value = GROUP_SETTINGS[name].parse(text)
            minimum, maximum = _bounds(config, name)
            if minimum is not None:
                value = max(minimum, value)  # type: ignore[type-var]
            if maximum is not None:
                value = min(value, maximum)  # type: ignore[type-var]
            settings[name] = value
    return settings


def validate_group_overrides(overrides: Mapping[str, str | None], config: BrokerConfig) -> None:
    """Raise `ApiError` INVALID_CONFIG, in Kafka's words, unless a group may have these settings."""
    from ottla.core.errors import ApiError, ErrorCode

    try:
        _check(overrides, config)
    except SettingError as error:
        raise ApiError(ErrorCode.INVALID_CONFIG, error.reason) from None


def _check(overrides: Mapping[str, str | None], config: BrokerConfig) -> None:
    settings = {name: default_value(config, name) for name in GROUP_SETTINGS}
    for name, text in overrides.items():
        if name not in GROUP_SETTINGS:
            suggestion = nearest(name, GROUP_SETTINGS)
            hint = "" if suggestion is None else f" (did you mean {suggestion}?)"
            raise SettingError(name, f"Unknown group config name: {name}{hint}")
        if text is None:
            raise SettingError(name, f"Null value not supported for group configs: {name}")
        value = settings[name] = GROUP_SETTINGS[name].parse(text)
        minimum, maximum = _bounds(config, name)
        if minimum is not None and value < minimum:  # type: ignore[operator]
            raise SettingError(name, f"{name} must be greater than or equal to {_bound_name(name, 'min')}")
        if maximum is not None and value > maximum:  # type: ignore[operator]
            raise SettingError(name, f"{name} must be less than or equal to {_bound_name(name, 'max')}")
    for kind in ("consumer", "share", "streams"):
        heartbeat, session = f"{kind}.heartbeat.interval.ms", f"{kind}.session.timeout.ms"
        if settings[heartbeat] >= settings[session]:
            raise SettingError(session, f"{session} must be greater than {heartbeat}")


def _bound_name(name: str, end: str) -> str:
    kind, _, rest = name.partition(".")
    return f"group.{kind}.{end}.{rest.removeprefix('num.')}"


def _bounds(config: BrokerConfig, name: str) -> tuple[int | None, int | None]:
    """The least and the greatest value that the broker allows for a group setting, where it says so."""
    from ottla.schema.broker import BROKER_SETTINGS

    names = [_bound_name(name, end) for end in ("min", "max")]
    minimum, maximum = (config[bound] if bound in BROKER_SETTINGS else None for bound in names)
    return minimum, maximum
