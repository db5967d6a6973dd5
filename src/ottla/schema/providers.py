"""Config providers (KIP-297): `${env:NAME}`, `${file:/path:key}`, `${directory:/path:file}` inside values.

A provider is there only when `config.providers` names it and `config.providers.<name>.class` says which it is: one of
Kafka's own three, or `ottla.VaultConfigProvider`, for which `${vault:kv/ottla/broker:password}` is the value
`password` of the secret `ottla/broker` in the KV engine (version 2) mounted at `kv`. Reading is handed in, so that
this module stays free of I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ottla.schema.definition import SettingError
from ottla.schema.properties import parse_properties

ReadText = Callable[[str], str]
"""Path → content; raises `OSError`."""

ReadSecret = Callable[[Mapping[str, str], str, str], str]
"""A provider's parameters, path, key → the secret; raises `OSError`."""

VAULT = "ottla.VaultConfigProvider"
_PACKAGE = "org.apache.kafka.common.config.provider."


class Providers:
    """The providers that a configuration declares, resolving variables in its values."""

    def __init__(
        self,
        settings: Mapping[str, str],
        environment: Mapping[str, str],
        read_text: ReadText,
        read_secret: ReadSecret | None = None,
    ) -> None:
        self._environment = environment
        self._read_text = read_text
        self._read_secret = read_secret
        self._kinds: dict[str, str] = {}
        self._parameters: dict[str, dict[str, str]] = {}
        for name in filter(None, (item.strip() for item in settings.get("config.providers", "").split(","))):
            self._kinds[name] = _kind(name, settings)
            prefix = f"config.providers.{name}.param."
            self._parameters[name] = {key[len(prefix) :]: settings[key] for key in settings if key.startswith(prefix)}

    def __bool__(self) -> bool:
        return bool(self._kinds)

    def resolve(self, setting: str, text: str) -> str:
        """`text` with its variables replaced; those of unknown providers stay as they are, as in Kafka."""
        if "${" not in text:
            return text
        import re

        def replacement(match: re.Match[str]) -> str:
            provider, path, key = match[1], match[2] or "", match[3]
            return self._value(setting, provider, path, key) if provider in self._kinds else match[0]

        return re.sub(r"\$\{([^}]*?):(?:([^}]*?):)?([^}]*?)\}", replacement, text)

    def _value(self, setting: str, provider: str, path: str, key: str) -> str:
        if self._kinds[provider] == "EnvVarConfigProvider":
            return self._variable(setting, provider, key)
        if self._kinds[provider] == VAULT:
            return self._secret(setting, provider, path, key)
        if not self._is_allowed(provider, path):
            raise SettingError(
                setting, f"{setting}: {path} is outside of config.providers.{provider}.param.allowed.paths"
            )
        is_directory = self._kinds[provider] == "DirectoryConfigProvider"
        if is_directory and "/" in key:
            raise SettingError(setting, f"{setting}: {key} is not the name of a file in {path}")
        file_name = f"{path.rstrip('/')}/{key}" if is_directory else path
        try:
            content = self._read_text(file_name)
        except OSError as error:
            raise SettingError(setting, f"{setting}: cannot read {file_name}: {error.strerror or error}") from None
        if is_directory:
            return content
        values = {entry.name: entry.value for entry in parse_properties(content, path)}
        if key not in values:
            raise SettingError(setting, f"{setting}: {path} has no key {key}")
        return values[key]

    def _secret(self, setting: str, provider: str, path: str, key: str) -> str:
        if self._read_secret is None:
            raise SettingError(setting, f"{setting}: nothing is read from Vault here")
        try:
            return self._read_secret(self._parameters[provider], path, key)
        except OSError as error:
            raise SettingError(setting, f"{setting}: {error}") from None

    def _variable(self, setting: str, provider: str, name: str) -> str:
        import re

        pattern = self._parameters[provider].get("allowlist.pattern")
        if name not in self._environment or (pattern is not None and not re.fullmatch(pattern, name)):
            raise SettingError(
                setting, f"{setting}: there is no environment variable {name} for ${{{provider}:{name}}}"
            )
        return self._environment[name]

    def _is_allowed(self, provider: str, path: str) -> bool:
        allowed = self._parameters[provider].get("allowed.paths")
        if not allowed:
            return True
        import posixpath

        normal = posixpath.normpath(path)
        roots = [posixpath.normpath(root.strip()) for root in allowed.split(",")]
        return any(normal == root or normal.startswith(root.rstrip("/") + "/") for root in roots)


def _kind(name: str, settings: Mapping[str, str]) -> str:
    setting = f"config.providers.{name}.class"
    class_name = settings.get(setting)
    if class_name is None:
        raise SettingError(setting, f"config.providers names {name}, but {setting} is not set")
    kind = class_name.strip().removeprefix(_PACKAGE)
    if kind not in ("EnvVarConfigProvider", "FileConfigProvider", "DirectoryConfigProvider", VAULT):
        raise SettingError(
            setting, f"{setting}: {class_name} is not one of Kafka's own (EnvVar, File, Directory), nor {VAULT}"
        )
    return kind
