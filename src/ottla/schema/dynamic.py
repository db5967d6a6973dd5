"""Settings that change at run time: what AlterConfigs may set on a broker, and how lists grow and shrink."""

from __future__ import annotations

from collections.abc import Mapping

from ottla.schema.broker import BROKER_SETTINGS
from ottla.schema.config import BrokerConfig, find_setting
from ottla.schema.definition import Setting, SettingError, SettingType, convert, format_value, nearest

NEEDS_RESTART = ("config.providers", "listener.security.protocol.map", "listeners")
"""Kafka can change these at run time; saying yes and not doing it would be worse than refusing."""


THREAD_COUNTS = (
    "background.threads",
    "log.cleaner.threads",
    "num.io.threads",
    "num.recovery.threads.per.data.dir",
    "num.replica.fetchers",
)
"""Settings that may go to half or double at a time, so that a slip of the finger does not stop a broker."""


def validate_broker_overrides(config: BrokerConfig, overrides: Mapping[str, str | None], *, per_broker: bool) -> None:
    """Raise `ApiError` INVALID_REQUEST (Kafka's code for it) unless these may be the dynamic settings of a broker.

    `overrides` are all of them after the change; `per_broker` tells one broker's from those of the whole cluster.
    """
    from ottla.core.errors import ApiError, ErrorCode
    from ottla.schema.checks import check_config, check_support

    try:
        texts = _checked_texts(overrides, per_broker)
        if per_broker:
            candidate = config.with_dynamic(config.cluster_wide, texts)
        else:
            candidate = config.with_dynamic(texts, config.per_broker)
        check_config(candidate)
        check_support(candidate)
        _check_thread_counts(config, candidate)
    except SettingError as error:
        raise ApiError(ErrorCode.INVALID_REQUEST, error.reason) from None


def _check_thread_counts(config: BrokerConfig, candidate: BrokerConfig) -> None:
    for name in THREAD_COUNTS:
        current, wanted = config[name], candidate[name]
        reason = None
        if wanted != current and wanted < max(1, current // 2):
            reason = f"should be at least {'half the current value ' + str(current) if wanted > 0 else 1}"
        elif wanted > current * 2:
            reason = f"should not be greater than double the current value {current}"
        if reason is not None:
            text = f"Dynamic thread count update validation failed for {name}={wanted}, value {reason}"
            raise SettingError(name, text)


def _checked_texts(overrides: Mapping[str, str | None], per_broker: bool) -> dict[str, str]:
    texts = {}
    for name, text in overrides.items():
        setting = find_setting(name)
        if setting is None:
            suggestion = nearest(name, BROKER_SETTINGS)
            hint = "" if suggestion is None else f" (did you mean {suggestion}?)"
            raise SettingError(name, f"Unknown broker config name: {name}{hint}")
        if setting.dynamic == "read-only" or name in NEEDS_RESTART:
            raise SettingError(name, f"Cannot update these configs dynamically: {name}")
        if setting.dynamic == "per-broker" and not per_broker and name == setting.name:
            raise SettingError(name, f"Cannot update these configs at default cluster level: {name}")
        if text is None:
            raise SettingError(name, f"Null value not supported for broker configs: {name}")
        setting.parse(text)
        texts[name] = text
    return texts


def appended(setting: Setting, current: str | None, text: str) -> str:
    """The list after the APPEND operation of IncrementalAlterConfigs; None stands for the default.

    Raises `SettingError` when the setting is no list.
    """
    items = _items(setting, current)
    return ",".join(items + [item for item in _new_items(setting, text) if item not in items])


def subtracted(setting: Setting, current: str | None, text: str) -> str:
    """The list after the SUBTRACT operation; items that are not in it are passed over."""
    items = _items(setting, current)
    removed = _new_items(setting, text)
    return ",".join(item for item in items if item not in removed)


def _items(setting: Setting, current: str | None) -> list[str]:
    if setting.type is not SettingType.LIST:
        raise SettingError(
            setting.name, f"Can't APPEND to or SUBTRACT from key {setting.name} because its type is not LIST."
        )
    return _new_items(setting, current if current is not None else format_value(setting.type, setting.default) or "")


def _new_items(setting: Setting, text: str) -> list[str]:
    return list(dict.fromkeys(convert(setting.type, text)))
