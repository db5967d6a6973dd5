"""The settings of a client metrics subscription (KIP-714)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from ottla.schema.definition import SettingError, SettingTable, nearest

if TYPE_CHECKING:
    from ottla.core.regex import Regex

CLIENT_METRICS_SETTINGS = SettingTable("""
interval.ms int      medium 300000
match       list     medium []
metrics     list     medium []
""")

ALL_METRICS: Final = "*"
"""In `metrics`: every metric that a client has."""

MATCH_SELECTORS: Final = (
    "client_id",
    "client_instance_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
)
"""What `match` can look at: `selector=regular expression`, which must match the whole of it."""

_INTERVAL_MS: Final = (100, 3_600_000)


def validate_client_metrics_overrides(overrides: Mapping[str, str | None]) -> None:
    """Raise `ApiError` with Kafka's code unless a subscription may have these settings.

    INVALID_REQUEST for an unknown one and for `interval.ms` outside 100 ms to an hour, INVALID_CONFIG for a value that
    is none.
    """
    from ottla.core.errors import ApiError, ErrorCode

    for name in overrides:
        if name not in CLIENT_METRICS_SETTINGS:
            suggestion = nearest(name, CLIENT_METRICS_SETTINGS)
            hint = "" if suggestion is None else f" (did you mean {suggestion}?)"
            raise ApiError(ErrorCode.INVALID_REQUEST, f"Unknown client metrics configuration: {name}{hint}")
    try:
        values = {name: _parsed(name, text) for name, text in overrides.items()}
        parse_match(values.get("match", []))
    except SettingError as error:
        raise ApiError(ErrorCode.INVALID_CONFIG, error.reason) from None
    interval_ms = values.get("interval.ms", _INTERVAL_MS[0])
    if not _INTERVAL_MS[0] <= interval_ms <= _INTERVAL_MS[1]:
        text = f"Invalid value {interval_ms} for interval.ms, interval must be between 100 and 3600000 (1 hour)"
        raise ApiError(ErrorCode.INVALID_REQUEST, text)


def parse_match(patterns: Iterable[str]) -> dict[str, Regex]:
    """The selectors of a `match` setting with their compiled expressions; raises `SettingError`.

    Of a selector that is named twice, the last one counts, as in Kafka. They are matched against what clients call
    themselves, so in time linear in that: lookaround and references back, which only Java has, are refused.
    """
    from ottla.core.regex import Regex, RegexError

    found = {}
    for pattern in patterns:
        parts = [part.strip() for part in pattern.split("=")]
        if len(parts) != 2 or parts[0] not in MATCH_SELECTORS or not parts[1]:
            raise SettingError("match", f"Illegal client matching pattern: {pattern}")
        try:
            found[parts[0]] = Regex(parts[1])
        except RegexError:
            raise SettingError("match", f"Illegal client matching pattern: {pattern}") from None
    return found


def _parsed(name: str, text: str | None) -> Any:
    if text is None:
        raise SettingError(name, f"Null value not supported for client metrics configs: {name}")
    return CLIENT_METRICS_SETTINGS[name].parse(text)
