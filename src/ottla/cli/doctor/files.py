"""Files that a configuration names: who may read them, and until when certificates are good."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ottla.cli.connection import read_properties
from ottla.cli.doctor.findings import Finding, GivenSettings, Severity
from ottla.schema.definition import Password, SettingError
from ottla.security.errors import SecurityConfigError

if TYPE_CHECKING:
    from ottla.schema.config import BrokerConfig

_CRITICAL, _WARNING, _NOTICE = Severity.CRITICAL, Severity.WARNING, Severity.NOTICE

SOON = timedelta(days=30)
VERY_SOON = timedelta(days=7)
LEAST_FILES = 4096
"""Open files: a partition takes some, and a connection one."""
_KEY_SETTINGS = ("ssl.keystore.location", "encryption.key", "encryption.previous.key")
_KERBEROS_KEYS = re.compile(r'keyTab\s*=\s*"([^"]+)"')


def look(subject: GivenSettings, config_path: str | None, *, now: datetime | None = None) -> Iterator[Finding]:
    """All checks."""
    config = subject.config
    now = datetime.now(UTC) if now is None else now
    if config_path is not None:
        yield from _configuration(config_path)
    for path, setting in dict.fromkeys(_key_files(config)):
        yield from _readable(path, setting, "a private key")
    for listener in config.all_listeners:
        if listener.protocol.endswith("SSL"):
            yield from _certificates(config, listener.name, listener.protocol, now)
    for path in config.log_dirs:
        mode = _mode(path)
        if mode is not None and mode & stat.S_IROTH and mode & stat.S_IXOTH and not config["encryption.key"]:
            yield Finding(
                _NOTICE, "data-readable", path, "everybody on this machine may read the records",
                "no ACL is asked on the way to a file", f"chmod 700 {path}, or encryption (docs/encryption.md)",
            )  # fmt: skip
    yield from _open_files()


def _configuration(path: str) -> Iterator[Finding]:
    texts = read_properties(path, "--config")
    secrets = sorted(name for name, text in texts.items() if text and "${" not in text and _is_secret(name))
    mode = _mode(path)
    if not secrets or mode is None:
        return
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        yield Finding(
            _CRITICAL, "config-readable", path, f"everybody on this machine may read {', '.join(secrets)}",
            "a password that can be read protects nothing", f"chmod 600 {path}",
        )  # fmt: skip
    else:
        yield Finding(
            _NOTICE, "secrets-in-config", path, f"{len(secrets)} secrets stand in the file",
            "copies of it, in backups and repositories, have them too",
            "config.providers=directory, and ${directory:/path:name} in their place",
        )  # fmt: skip


def _is_secret(name: str) -> bool:
    # That of listener.name.… is the same setting of one listener.
    return name.endswith((".jaas.config", ".password", ".keystore.key", ".secret.key", ".pin", ".vault.token"))


def _key_files(config: BrokerConfig) -> Iterator[tuple[str, str]]:
    for name in _KEY_SETTINGS:
        value = config[name]
        if value:
            yield str(value).removeprefix("file:"), name
    for listener in config.all_listeners:
        own = config.for_listener(listener.name)
        if own["ssl.keystore.location"]:
            yield own["ssl.keystore.location"], own.key("ssl.keystore.location")
        for mechanism in own["sasl.enabled.mechanisms"]:
            jaas = config.for_listener(listener.name, mechanism)["sasl.jaas.config"]
            if isinstance(jaas, Password):
                for path in _KERBEROS_KEYS.findall(jaas.value):
                    yield path, f"sasl.jaas.config of {mechanism}"


def _readable(path: str, setting: str, what: str) -> Iterator[Finding]:
    """A file, or those of a directory."""
    paths = [os.path.join(path, name) for name in sorted(os.listdir(path))] if os.path.isdir(path) else [path]
    for each in paths:
        mode = _mode(each)
        if mode is not None and mode & (stat.S_IROTH | stat.S_IWOTH):
            yield Finding(
                _CRITICAL, "key-readable", each, f"everybody on this machine may read {what} ({setting})",
                "who has the key is this node", f"chmod 600 {each}",
            )  # fmt: skip
        elif mode is None and setting.endswith("location"):
            yield Finding(
                _CRITICAL, "file-missing", each, f"there is no such file ({setting})",
                "the node does not start without it", f"{setting}=…",
            )  # fmt: skip


def _certificates(config: BrokerConfig, name: str, protocol: str, now: datetime) -> Iterator[Finding]:
    from ottla.security.certificates import leaf_of
    from ottla.security.tls import key_pairs
    from ottla.server.security.tls import tls_config

    try:
        leaves = [
            (pair.origin, leaf_of(pair)) for pair in key_pairs(tls_config(config.for_listener(name), protocol).settings)
        ]
    except (SecurityConfigError, SettingError, OSError) as error:
        yield Finding(
            _CRITICAL, "keystore-unusable", name, str(error), "the listener cannot open", "what the message says",
        )  # fmt: skip
        return
    if not leaves:
        yield Finding(
            _CRITICAL, "keystore-missing", name, "there is no certificate", "the listener cannot open",
            f"listener.name.{name.lower()}.ssl.keystore.location=…",
        )  # fmt: skip
    for origin, leaf in leaves:
        left = leaf.not_after - now
        if left < SOON:
            day = leaf.not_after.date().isoformat()
            yield Finding(
                _CRITICAL if left < VERY_SOON else _WARNING, "certificate-ends", origin,
                f"the certificate of {leaf.subject} {'ended' if left < timedelta() else 'ends'} on {day}",
                "clients then refuse to connect", "a new one in its place: it is read while the node runs",
            )  # fmt: skip


def _open_files() -> Iterator[Finding]:
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= most < LEAST_FILES:
        yield Finding(
            _WARNING, "few-files", "ulimit -n", f"a process may open {most} files here",
            "each connection and each segment takes one", "LimitNOFILE=100000 in the service, or `ulimit -n 100000`",
        )  # fmt: skip


def _mode(path: str) -> int | None:
    try:
        return os.stat(path).st_mode
    except OSError:
        return None
