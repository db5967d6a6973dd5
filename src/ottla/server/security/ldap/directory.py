"""Asks a directory whether a password is right and which groups a user is in, and remembers the answer for a moment.

At most `ldap.pool.size` questions are under way at a time; `ldap.timeout.ms` is for the whole of one, with its waiting.
Only good answers are remembered, for `ldap.cache.ms`, under a keyed hash of name and password: what is kept cannot be
turned back into a password, and a user who is taken out of the directory gets in no longer than that.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import ssl
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from ottla.security.errors import SecurityConfigError
from ottla.server.security.ldap import wire
from ottla.server.security.ldap.client import Connection, DirectoryError
from ottla.server.security.ldap.settings import DirectorySettings, is_sane_name
from ottla.server.security.sasl.mechanism import AuthenticationError, BackendUnavailableError

_log = logging.getLogger(__name__)

_MOST_REMEMBERED: Final = 10_000
_MOST_GROUPS: Final = 1000


class Directory:
    """The directory of one listener."""

    def __init__(
        self,
        settings: DirectorySettings,
        now_ms: Callable[[], int],
        random_bytes: Callable[[int], bytes],
        context: ssl.SSLContext | None = None,
    ) -> None:
        """Raises `SecurityConfigError` for filters and trust stores that cannot be used."""
        _check_filter("ldap.user.search.filter", settings.user_filter("user"))
        _check_filter("ldap.group.search.filter", settings.group_filter("user", "cn=user"))
        self._settings = settings
        self._now_ms = now_ms
        self._context = context if context is not None else _tls(settings)
        self._secret = random_bytes(32)
        self._remembered: OrderedDict[bytes, tuple[int, tuple[str, ...]]] = OrderedDict()
        self._idle: list[Connection] = []
        self._is_closed = False
        self._places: asyncio.Semaphore | None = None

    async def groups_of(self, user: str, password: str) -> tuple[str, ...]:
        """The groups of a user whose password this is.

        Raises `AuthenticationError` when it is not, and `BackendUnavailableError` when nobody can tell.
        """
        if not password or "\0" in password or not is_sane_name(user):
            raise AuthenticationError(reason="the user name or the password is none that a directory is asked for")
        key = hmac.digest(self._secret, f"{user}\0{password}".encode(), hashlib.sha256)
        known = self._remembered.get(key)
        if known is not None and self._now_ms() < known[0]:
            return known[1]
        try:
            async with asyncio.timeout(self._settings.timeout_ms / 1000):
                groups = await self._ask(user, password)
        except TimeoutError:
            raise BackendUnavailableError(
                f"the directory does not answer within {self._settings.timeout_ms} ms (ldap.timeout.ms)"
            ) from None
        except DirectoryError as error:
            raise BackendUnavailableError(f"the directory cannot be asked: {error}") from None
        self._remember(key, groups)
        return groups

    async def close(self) -> None:
        """Close all connections, those in use when they are free, and forget what was remembered."""
        self._is_closed = True
        self._remembered.clear()
        while self._idle:
            self._idle.pop().close()

    def _remember(self, key: bytes, groups: tuple[str, ...]) -> None:
        if self._settings.cache_ms <= 0:
            return
        self._remembered[key] = (self._now_ms() + self._settings.cache_ms, groups)
        self._remembered.move_to_end(key)
        if len(self._remembered) > _MOST_REMEMBERED:
            self._remembered.popitem(last=False)

    async def _ask(self, user: str, password: str) -> tuple[str, ...]:
        if self._places is None:
            self._places = asyncio.Semaphore(self._settings.pool_size)
        async with self._places:
            while self._idle:
                connection = self._idle.pop()
                if connection.is_closed:
                    continue
                try:
                    return await self._use(connection, user, password)
                except DirectoryError:
                    # It may have been closed while nobody used it: a new one tells what is the matter.
                    continue
            return await self._use(await self._connect(), user, password)

    async def _connect(self) -> Connection:
        failures = []
        for address in self._settings.addresses:
            try:
                return await Connection.connect(address, self._context, uses_start_tls=self._settings.start_tls)
            except DirectoryError as error:
                failures.append(str(error))
        raise DirectoryError("; ".join(failures))

    async def _use(self, connection: Connection, user: str, password: str) -> tuple[str, ...]:
        try:
            groups = await _Question(connection, self._settings).groups_of(user, password)
        except AuthenticationError:
            self._give_back(connection)
            raise
        except BaseException:
            connection.close()
            raise
        self._give_back(connection)
        return groups

    def _give_back(self, connection: Connection) -> None:
        if self._is_closed:
            connection.close()
        else:
            self._idle.append(connection)


class _Question:
    """One question on one connection; each begins with a bind, so nothing is left of the question before."""

    def __init__(self, connection: Connection, settings: DirectorySettings) -> None:
        self._connection = connection
        self._settings = settings

    async def groups_of(self, user: str, password: str) -> tuple[str, ...]:
        settings = self._settings
        if settings.user_dn_pattern is not None:
            dn = settings.user_dn(user)
            await self._check_password(user, dn, password)
            await self._check_spelling(user, dn)
        else:
            await self._bind_service()
            dn = await self._find(user)
            await self._check_password(user, dn, password)
        if settings.group_search_base is None:
            return ()
        if settings.bind_dn is not None:
            await self._bind_service()
        return await self._find_groups(user, dn)

    async def _bind_service(self) -> None:
        settings = self._settings
        if settings.bind_dn is None:
            result = await self._connection.bind_nobody()
        else:
            assert settings.bind_password is not None
            result = await self._connection.bind(settings.bind_dn, settings.bind_password)
        if result.code != wire.SUCCESS:
            raise DirectoryError(f"it does not accept ldap.bind.dn and ldap.bind.password: {result}")

    async def _check_password(self, user: str, dn: str, password: str) -> None:
        result = await self._connection.bind(dn, password)
        if result.code in wire.NOT_NOW:
            raise DirectoryError(f"it cannot check a password now: {result}")
        if result.code != wire.SUCCESS:
            raise AuthenticationError(reason=f"the directory refuses the password: {result}", user=user)

    async def _find(self, user: str) -> str:
        """The distinguished name of a user. Who is not there is refused like one whose password is wrong."""
        settings = self._settings
        assert settings.user_search_base is not None
        name = settings.user_name_attribute
        entries, result = await self._connection.search(
            settings.user_search_base, wire.SUBTREE, wire.parse_filter(settings.user_filter(user)), [name], 2
        )
        if result.code not in (wire.SUCCESS, wire.SIZE_LIMIT_EXCEEDED):
            raise DirectoryError(f"users cannot be searched in {settings.user_search_base}: {result}")
        if len(entries) != 1:
            found = "more than one entry" if entries else "no entry"
            raise AuthenticationError(reason=f"the directory has {found} for the user", user=user)
        self._compare(user, entries[0])
        return entries[0].dn

    async def _check_spelling(self, user: str, dn: str) -> None:
        if self._settings.bind_dn is not None:
            await self._bind_service()
        name = self._settings.user_name_attribute
        entries, result = await self._connection.search(dn, wire.BASE, wire.parse_filter("(objectClass=*)"), [name], 1)
        if len(entries) != 1:
            raise AuthenticationError(
                reason=f"the user's entry cannot be read, by itself or by ldap.bind.dn: {result}", user=user
            )
        self._compare(user, entries[0])

    def _compare(self, user: str, entry: wire.Entry) -> None:
        name = self._settings.user_name_attribute
        if user not in entry.attributes.get(name.lower(), ()):
            raise AuthenticationError(
                reason=f"the directory spells the user's {name} (ldap.user.name.attribute) differently", user=user
            )

    async def _find_groups(self, user: str, dn: str) -> tuple[str, ...]:
        settings = self._settings
        assert settings.group_search_base is not None
        name = settings.group_name_attribute
        entries, result = await self._connection.search(
            settings.group_search_base,
            wire.SUBTREE,
            wire.parse_filter(settings.group_filter(user, dn)),
            [name],
            _MOST_GROUPS,
        )
        if result.code != wire.SUCCESS:
            # Without all of them, what is denied to a group might be allowed.
            raise DirectoryError(f"groups cannot be searched in {settings.group_search_base}: {result}")
        names = {group for entry in entries for group in entry.attributes.get(name.lower(), ()) if group.isprintable()}
        return tuple(sorted(names))


def _check_filter(setting: str, text: str) -> None:
    try:
        wire.parse_filter(text)
    except ValueError as error:
        raise SecurityConfigError(setting, f"{setting} is no LDAP filter: {error}.") from None


def _tls(settings: DirectorySettings) -> ssl.SSLContext | None:
    if not settings.start_tls and not any(address.is_tls for address in settings.addresses):
        return None
    from ottla.security.settings import TlsSettings
    from ottla.security.tls import client_context

    try:
        return client_context(
            TlsSettings(
                truststore_location=settings.truststore_location,
                truststore_type=settings.truststore_type,
                truststore_password=settings.truststore_password,
            )
        )
    except SecurityConfigError as error:
        setting = error.setting.replace("ssl.", "ldap.", 1)
        raise SecurityConfigError(setting, error.message.replace("ssl.truststore", "ldap.truststore")) from None
