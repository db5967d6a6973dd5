"""The `ldap.*` settings of a listener, and names put into filters (RFC 4515) and distinguished names (RFC 4514)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from ottla.security.errors import SecurityConfigError

_PLACEHOLDER: Final = re.compile(r"\{(\w*)\}")
_DEFAULT_PORTS: Final = {"ldap": 389, "ldaps": 636}
_LONGEST_NAME: Final = 256


@dataclass(frozen=True, slots=True)
class Address:
    """Where a directory listens."""

    host: str
    port: int
    is_tls: bool

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'ldaps' if self.is_tls else 'ldap'}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class DirectorySettings:
    """How to find users and groups. Either `user_dn_pattern` or `user_search_base` is set."""

    addresses: tuple[Address, ...]
    """Tried in this order."""
    start_tls: bool = False
    truststore_location: str | None = None
    truststore_type: str | None = None
    truststore_password: str | None = field(default=None, repr=False)
    bind_dn: str | None = None
    bind_password: str | None = field(default=None, repr=False)
    user_dn_pattern: str | None = None
    user_search_base: str | None = None
    user_search_filter: str = "(uid={user})"
    user_name_attribute: str = "uid"
    group_search_base: str | None = None
    group_search_filter: str = "(member={dn})"
    group_name_attribute: str = "cn"
    timeout_ms: int = 5000
    cache_ms: int = 30_000
    pool_size: int = 4

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> DirectorySettings:
        """From a listener's settings, where `ldap.url` is set. Raises `SecurityConfigError`."""

        def text(name: str) -> str | None:
            value = settings.get(name)
            return getattr(value, "value", value) or None

        made = cls(
            addresses=tuple(_address(url) for url in settings["ldap.url"]),
            start_tls=settings["ldap.start.tls"],
            truststore_location=text("ldap.truststore.location"),
            truststore_type=text("ldap.truststore.type"),
            truststore_password=text("ldap.truststore.password"),
            bind_dn=text("ldap.bind.dn"),
            bind_password=text("ldap.bind.password"),
            user_dn_pattern=text("ldap.user.dn.pattern"),
            user_search_base=text("ldap.user.search.base"),
            user_search_filter=settings["ldap.user.search.filter"],
            user_name_attribute=settings["ldap.user.name.attribute"],
            group_search_base=text("ldap.group.search.base"),
            group_search_filter=settings["ldap.group.search.filter"],
            group_name_attribute=settings["ldap.group.name.attribute"],
            timeout_ms=settings["ldap.timeout.ms"],
            cache_ms=settings["ldap.cache.ms"],
            pool_size=settings["ldap.pool.size"],
        )
        made._check()
        return made

    def user_dn(self, user: str) -> str:
        """The distinguished name of a user, by the pattern."""
        assert self.user_dn_pattern is not None
        return _filled(self.user_dn_pattern, {"user": escape_dn(user)})

    def user_filter(self, user: str) -> str:
        """What finds a user."""
        return _filled(self.user_search_filter, {"user": escape_filter(user)})

    def group_filter(self, user: str, dn: str) -> str:
        """What finds the groups of a user."""
        return _filled(self.group_search_filter, {"user": escape_filter(user), "dn": escape_filter(dn)})

    def _check(self) -> None:
        if (self.user_dn_pattern is None) == (self.user_search_base is None):
            raise SecurityConfigError(
                "ldap.user.dn.pattern",
                "ldap.url is set: then set ldap.user.dn.pattern (uid={user},ou=people,dc=example,dc=com) or "
                "ldap.user.search.base, one of them.",
            )
        if self.bind_dn is not None and self.bind_password is None:
            raise SecurityConfigError("ldap.bind.password", "ldap.bind.dn is set: then set ldap.bind.password.")
        if self.start_tls and any(address.is_tls for address in self.addresses):
            raise SecurityConfigError("ldap.start.tls", "ldap.start.tls is for ldap:// only; ldaps:// has TLS already.")
        _check_placeholders("ldap.user.dn.pattern", self.user_dn_pattern or "{user}", {"user"}, {"user"})
        _check_placeholders("ldap.user.search.filter", self.user_search_filter, {"user"}, {"user"})
        _check_placeholders("ldap.group.search.filter", self.group_search_filter, set(), {"user", "dn"})

    @property
    def sends_passwords_in_clear(self) -> bool:
        """Whether somebody on the way to the directory could read passwords."""
        local = ("localhost", "127.0.0.1", "::1")
        return not self.start_tls and any(not each.is_tls and each.host not in local for each in self.addresses)


def is_sane_name(user: str) -> bool:
    """Whether a directory is to be asked for this name at all."""
    return 0 < len(user) <= _LONGEST_NAME and user.isprintable() and user == user.strip()


def escape_filter(text: str) -> str:
    """A value for a filter: everything that is not a letter, a digit or harmless, byte by byte (RFC 4515)."""
    return "".join(
        character
        if character.isascii() and (character.isalnum() or character in "-_.@=, ")
        else "".join(f"\\{byte:02x}" for byte in character.encode())
        for character in text
    )


def escape_dn(text: str) -> str:
    """A value for a distinguished name, the same way (RFC 4514)."""
    return "".join(
        character
        if character.isascii() and (character.isalnum() or character in "-_.@")
        else "".join(f"\\{byte:02x}" for byte in character.encode())
        for character in text
    )


def _filled(pattern: str, values: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda found: values[found[1]], pattern)


def _check_placeholders(setting: str, pattern: str, needed: set[str], known: set[str]) -> None:
    found = set(_PLACEHOLDER.findall(pattern))
    if not needed <= found or not found <= known or (not needed and not found):
        names = " or ".join(f"{{{name}}}" for name in sorted(known))
        raise SecurityConfigError(setting, f"{setting}: {pattern!r} must hold {names}, and no other name in braces.")


def _address(url: str) -> Address:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    scheme = parts.scheme.lower()
    if scheme not in _DEFAULT_PORTS or not parts.hostname or parts.path.strip("/") or parts.query or parts.username:
        raise SecurityConfigError("ldap.url", f"ldap.url: {url!r} must look like ldaps://host or ldap://host:389.")
    return Address(parts.hostname, port or _DEFAULT_PORTS[scheme], scheme == "ldaps")
