"""PLAIN with a directory behind it.

Users that `sasl.jaas.config` names come first, and are asked for nowhere else: brokers among each other, and the
administrator who comes when the directory is down.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from ottla.server.security.ldap.directory import Directory
from ottla.server.security.ldap.settings import DirectorySettings
from ottla.server.security.sasl.mechanism import AuthenticationError
from ottla.server.security.sasl.plain import MECHANISM, USER_PREFIX, JaasPasswords
from ottla.server.security.session import Session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ottla.server.security.sasl.mechanism import Surroundings

_log = logging.getLogger(__name__)
_WRONG: Final = "Authentication failed: Invalid username or password"


def open_passwords(surroundings: Surroundings) -> DirectoryPasswords:
    """The passwords of a listener that has `ldap.url`. Raises `SecurityConfigError`."""
    settings = DirectorySettings.of(surroundings.settings)
    if settings.sends_passwords_in_clear:
        _log.warning(
            "listener %s sends passwords to the directory unencrypted: use ldaps:// in ldap.url, or set "
            "ldap.start.tls=true",
            surroundings.listener_name,
        )
    options: Mapping[str, str] = {}
    if surroundings.settings.get("sasl.jaas.config") is not None:
        from ottla.server.security.sasl.registry import jaas_options

        options = jaas_options(surroundings, "PlainLoginModule")
    directory = Directory(settings, surroundings.now_ms, surroundings.random_bytes)
    return DirectoryPasswords(directory, options, surroundings.secret)


class DirectoryPasswords:
    """The users of a JAAS entry, and those of a directory."""

    def __init__(self, directory: Directory, options: Mapping[str, str], secret: bytes) -> None:
        self._directory = directory
        self._own = JaasPasswords(options, secret)
        self._own_names = frozenset(name.removeprefix(USER_PREFIX) for name in options if name.startswith(USER_PREFIX))

    async def authenticate(self, username: str, password: str) -> Session | None:
        """Who this is, with the groups that the directory has for it."""
        if username in self._own_names:
            return await self._own.authenticate(username, password)
        try:
            groups = await self._directory.groups_of(username, password)
        except AuthenticationError as error:
            raise AuthenticationError(_WRONG, reason=error.reason, user=username) from None
        return Session(f"User:{username}", groups=groups, mechanism=MECHANISM)

    async def close(self) -> None:
        """Close the connections to the directory."""
        await self._directory.close()
