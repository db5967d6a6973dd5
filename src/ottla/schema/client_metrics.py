"""The settings of a client metrics subscription (KIP-714)."""

from __future__ import annotations

from collections.abc import Mapping

from ottla.schema.definition import SettingError, SettingTable, nearest

CLIENT_METRICS_SETTINGS = SettingTable("""
interval.ms int      medium 300000
match       list     medium []
metrics     list     medium []
""")

_SELECTORS = (
    "client_id",
    "client_instance_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
)


def validate_client_metrics_overrides(overrides: Mapping[str, str | None]) -> None:
    """Raise `ApiError` INVALID_CONFIG unless a subscription may have these settings.

    `interval.ms` is 100 ms to an hour; `match` holds `selector=regular expression` items.
    """
    from ottla.core.errors import ApiError, ErrorCode

    try:
        for name, text in overrides.items():
            _check(name, text)
    except SettingError as error:
        raise ApiError(ErrorCode.INVALID_CONFIG, error.reason) from None


def _check(name: str, text: str | None) -> None:
    if name not in CLIENT_METRICS_SETTINGS:
        suggestion = nearest(name, CLIENT_METRICS_SETTINGS)
        hint = "" if suggestion is None else f" (did you mean {suggestion}?)"
        raise SettingError(name, f"Unknown client metrics configuration: {name}{hint}")
    if text is None:
        raise SettingError(name, f"Null value not supported for client metrics configs: {name}")
    value = CLIENT_METRICS_SETTINGS[name].parse(text)
    if isinstance(value, int) and not 100 <= value <= 3_600_000:
        raise SettingError(name, f"Invalid value {text} for {name}, interval must be between 100 and 3600000 (1 hour)")
    if name == "match" and isinstance(value, list):
        for pattern in value:
            _check_pattern(pattern)


def _check_pattern(pattern: str) -> None:
    import re

    selector, equals, expression = pattern.partition("=")
    if not equals or selector.strip() not in _SELECTORS:
        raise SettingError("match", f"Illegal client matching pattern: {pattern}")
    try:
        re.compile(expression.strip())
    except re.error:
        raise SettingError("match", f"Illegal client matching pattern: {pattern}") from None
