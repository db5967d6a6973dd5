"""From names and values as the user wrote them to typed values by Kafka's names."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ottla.client.errors import ConfigError
from ottla.client.settings.special import SPECIAL, parse_bootstrap_servers, resolve_class
from ottla.schema.definition import Password, Setting, SettingError, SettingType, convert
from ottla.schema.validators import OneOf, Range, ResetStrategy

if TYPE_CHECKING:
    from ottla.client.settings.model import CommonSettings
    from ottla.schema.providers import Providers

_log = logging.getLogger("ottla.client")
_told: set[str] = set()
"""What was logged already: a setting without effect is worth one line in a process."""

_PROVIDER_PREFIX = "config.providers."


class _Written(NamedTuple):
    """A value as it was written, and under which name."""

    name: str
    value: object


def read(
    kind: type[CommonSettings],
    bootstrap_servers: str | Iterable[str] | None,
    settings: Mapping[str, object],
    names: Mapping[str, object],
) -> dict[str, Any]:
    """Typed, validated values of what was given, by dotted name. Raises `ConfigError`."""
    if isinstance(bootstrap_servers, Mapping):  # all settings in one dictionary, as the only argument
        if settings:
            raise ConfigError("settings are given twice, as first and as second argument. Put them in one dictionary.")
        return read(kind, None, bootstrap_servers, names)
    if not isinstance(settings, Mapping):
        raise ConfigError(f"settings must be a mapping of names to values, not {type(settings).__name__}.")
    _check_names(settings)
    resolve = _resolver(settings, names)
    values = _read_mapping(kind, settings, resolve, {})
    keywords = _read_mapping(kind, names, resolve, values)
    if bootstrap_servers is not None:
        servers = parse_bootstrap_servers("bootstrap.servers", bootstrap_servers)
        if keywords.get("bootstrap.servers", servers) != servers:
            raise ConfigError("bootstrap servers are given twice, as first argument and by name. Leave one out.")
        keywords["bootstrap.servers"] = servers
    values.update(keywords)
    _check_schemes(values, bootstrap_servers, settings, names)
    return values


def _check_schemes(values: Mapping[str, Any], first: object, *mappings: Mapping[str, object]) -> None:
    """`SSL://host:port` says which protocol is meant; that must be the one which is spoken."""
    protocol = values.get("security.protocol", "PLAINTEXT")
    written = [first] + [mapping.get("bootstrap.servers", mapping.get("bootstrap_servers")) for mapping in mappings]
    for value in written:
        items = value.split(",") if isinstance(value, str) else value if isinstance(value, (list, tuple)) else ()
        for item in items:
            scheme, separator, _ = str(item).strip().partition("://")
            if separator and scheme.upper() != protocol:
                raise ConfigError(
                    f"bootstrap.servers has {item}, but security.protocol is {protocol}. Leave out {scheme}://, or set "
                    f"security.protocol={scheme.upper()}."
                )


def _read_mapping(
    kind: type[CommonSettings], mapping: Mapping[str, object], resolve: _Resolver, known_before: Mapping[str, Any]
) -> dict[str, Any]:
    from ottla.client.settings.librdkafka import translate

    values: dict[str, Any] = {}
    written: dict[str, _Written] = {}
    # `compression.level` needs to know the codec, so what depends on something else is read last.
    for given_name, given_value in sorted(
        mapping.items(), key=lambda item: "compression" in item[0] and "level" in item[0]
    ):
        if not isinstance(given_name, str):
            raise ConfigError(f"names of settings are text, not {given_name!r}.")
        if given_value is None:
            continue
        name = given_name.replace("_", ".")
        if name.startswith(_PROVIDER_PREFIX):
            _check_provider(name, mapping)
            continue
        value = resolve(name, given_value)
        if name not in kind.table:
            known = translate(kind, name, value, {**known_before, **values})
            if known is None:
                _other_name(kind, given_name, name, value)
                continue
            name, value = known
            if not name:
                continue
        if name in kind.unsupported:
            raise ConfigError(f"{given_name} cannot be set for {kind.called}: {_why_unsupported(name)}.")
        typed = parse(kind.table[name], given_name, value)
        before = written.get(name)
        if before is not None and values[name] != typed:
            both = " and ".join(_shown(kind.table[name], each) for each in (before.value, given_value))
            raise ConfigError(
                f"{before.name} and {given_name} are the same setting and have different values ({both}). "
                "Leave one out."
            )
        written[name] = _Written(given_name, given_value)
        values[name] = typed
    return values


def _check_names(mapping: Mapping[str, object]) -> None:
    for name in mapping:
        if not isinstance(name, str):
            raise ConfigError(f"names of settings are text, not {name!r}.")


def _in_order(mapping: Mapping[str, object]) -> list[tuple[str, object]]:
    """What was given, `compression.level` last: it needs to know the codec."""
    given = [(name, value) for name, value in mapping.items() if value is not None]
    return sorted(given, key=lambda item: item[0].replace("_", ".") == "compression.level")


def parse(setting: Setting, given_name: str, value: object) -> Any:
    """The typed value of one setting; raises `ConfigError` naming it, the value, and what is allowed."""
    special = SPECIAL.get(setting.name)
    try:
        if special is not None:
            value = special(setting.name, value)
        typed = _coerce(setting, value)
        reason = None if setting.validator is None else setting.validator.check(typed)
        if reason is not None:
            raise ValueError(reason)
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        also = "" if given_name.replace("_", ".") == setting.name else f" (Kafka's {setting.name})"
        reason = f" ({error})" if setting.validator is None and str(error) else ""
        raise ConfigError(
            f"{given_name}{also} cannot be {_shown(setting, value)}: it takes {takes(setting)}{reason}."
        ) from None
    if setting.validator is not None and str(setting.validator).startswith("(case insensitive)"):
        lower = isinstance(setting.default, str) and setting.default.islower()
        typed = typed.lower() if lower else typed.upper()
    return typed


def takes(setting: Setting) -> str:
    """What a setting takes, in words: `a whole number, 0 or more`."""
    words = _TYPE_WORDS[setting.type]
    validator = setting.validator
    if validator is None:
        return words
    if isinstance(validator, Range):
        low, high = validator.minimum, validator.maximum
        return f"{words}, {f'{low} or more' if high is None else f'{low} to {high}'}"
    if isinstance(validator, (OneOf, ResetStrategy)):
        choices = str(validator)[str(validator).index("[") :].strip("[]")
        return f"{'some' if setting.type is SettingType.LIST else 'one'} of {choices}"
    return f"{words}: {validator}"


_TYPE_WORDS = {
    SettingType.BOOLEAN: "true or false",
    SettingType.STRING: "text",
    SettingType.INT: "a whole number",
    SettingType.SHORT: "a whole number",
    SettingType.LONG: "a whole number",
    SettingType.DOUBLE: "a number",
    SettingType.LIST: "a list, or text with commas",
    SettingType.CLASS: "an object or its name",
    SettingType.PASSWORD: "text",
}


def _coerce(setting: Setting, value: object) -> Any:
    """The value in the setting's type, unvalidated; raises `ValueError`."""
    kind = setting.type
    if kind is SettingType.CLASS:
        return resolve_class(setting.name, value)
    if isinstance(value, str):
        typed = convert(kind, value)
        if kind is SettingType.LIST:
            return _list(typed)
        return typed
    if kind is SettingType.LIST and isinstance(value, Iterable) and not isinstance(value, (bytes, Mapping)):
        return _list(value)
    if kind is SettingType.PASSWORD:
        if isinstance(value, Password):
            return value
        if isinstance(value, (bytes, bytearray)):
            return Password(bytes(value).decode("utf-8"))
    elif kind is SettingType.BOOLEAN:
        if isinstance(value, bool):
            return value
    elif kind is SettingType.DOUBLE:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    elif kind.is_integer or kind is SettingType.STRING:
        if isinstance(value, int) and not isinstance(value, bool):
            return convert(kind, str(value))
        if kind is SettingType.STRING and hasattr(value, "__fspath__"):
            return str(value)
    raise ValueError(f"not {type(value).__name__}")


def _list(items: Iterable[object]) -> list[object]:
    found = [item.strip() if isinstance(item, str) else item for item in items]
    if "" in found:
        raise ValueError("items must not be empty")
    return list(dict.fromkeys(found))


def _shown(setting: Setting, value: object) -> str:
    return "[hidden]" if setting.is_sensitive else repr(value)


def _other_name(kind: type[CommonSettings], given_name: str, name: str, value: object) -> None:
    """A name that is no setting: without effect (said once), refused with a reason, or unknown."""
    from ottla.client.settings.without_effect import HARMLESS_VALUES, REFUSED, WITHOUT_EFFECT, unknown

    if value in HARMLESS_VALUES.get(name, ()):
        return
    reason = REFUSED.get(name)
    if reason is not None:
        raise ConfigError(f"{given_name} cannot be set: {reason}.")
    reason = WITHOUT_EFFECT.get(name)
    if reason is None:
        raise unknown(kind, given_name, name)
    tell_once(given_name, reason)


def tell_once(name: str, reason: str) -> None:
    """Log that a setting changes nothing; once in a process."""
    if name not in _told:
        _told.add(name)
        _log.info("%s has no effect: %s", name, reason)


def _why_unsupported(name: str) -> str:
    from ottla.client.settings.without_effect import UNSUPPORTED_REASONS

    return UNSUPPORTED_REASONS.get(name, "share groups have no such thing")


class _Resolver:
    """Fills in `${provider:path:key}` where `config.providers` says so."""

    def __init__(self, providers: Providers | None) -> None:
        self._providers = providers

    def __call__(self, name: str, value: object) -> object:
        if self._providers is None:
            return value
        try:
            if isinstance(value, str):
                return self._providers.resolve(name, value)
            if isinstance(value, (list, tuple)):
                return [self._providers.resolve(name, item) if isinstance(item, str) else item for item in value]
        except SettingError as error:
            raise ConfigError(f"{error}.") from None
        return value


def _read_secret(parameters: Mapping[str, str], path: str, key: str) -> str:
    from ottla.runtime.vault import secret_of

    return secret_of(parameters, path, key)


def _resolver(*mappings: Mapping[str, object]) -> _Resolver:
    texts: dict[str, str] = {}
    for mapping in mappings:
        for name, value in mapping.items():
            dotted = str(name).replace("_", ".") if "config" in str(name) else ""
            if dotted.startswith("config.providers") and value is not None:
                listed = isinstance(value, (list, tuple))
                texts[dotted] = ",".join(map(str, value)) if listed else str(value)  # type: ignore[call-overload]
    if not texts.get("config.providers"):
        return _Resolver(None)
    import os
    from pathlib import Path

    from ottla.schema.providers import Providers

    try:
        return _Resolver(
            Providers(texts, os.environ, lambda path: Path(path).read_text(encoding="utf-8"), _read_secret)
        )
    except SettingError as error:
        raise ConfigError(f"{error}.") from None


def _check_provider(name: str, mapping: Mapping[str, object]) -> None:
    """A parameter of a provider that nobody named would be passed over silently."""
    provider = name.removeprefix(_PROVIDER_PREFIX).partition(".")[0]
    named = next((value for key, value in mapping.items() if key.replace("_", ".") == "config.providers"), None)
    listed = named.split(",") if isinstance(named, str) else named if isinstance(named, (list, tuple)) else []
    if provider not in [str(item).strip() for item in listed]:
        raise ConfigError(f"{name} is set, but config.providers does not name {provider}.")
