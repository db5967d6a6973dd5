"""An OAuth token that is kept fresh: fetched when the first connection needs one, shared by all, replaced in time.

There is no background thread: connections ask when they sign in, and again before the broker ends their session
(KIP-368), which it does when the token expires. A token is replaced once a share of its life is over
(`sasl.login.refresh.window.factor` and `.jitter`), or earlier so that `sasl.login.refresh.buffer.seconds` are left, but
not within `sasl.login.refresh.min.period.seconds` of the last time. When no new one can be had, the old one is used to
its end.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ottla.client.errors import KafkaError

if TYPE_CHECKING:
    from ottla.client.settings import CommonSettings

_log = logging.getLogger("ottla.client")


class OAuthToken(NamedTuple):
    """A token; times are milliseconds since 1970."""

    value: str
    expires_at_ms: int | None = None
    """None when nobody knows: then it is asked for again with each connection."""

    extensions: Mapping[str, str] = {}
    """SASL extensions that go with it (KIP-342)."""

    issued_at_ms: int | None = None

    def __repr__(self) -> str:
        return f"OAuthToken([hidden], expires_at_ms={self.expires_at_ms})"


def token_from(value: str, expires_at_ms: int | None = None, extensions: Mapping[str, str] | None = None) -> OAuthToken:
    """A token; what is not known of its times is taken from its claims, when it is a JWT."""
    claims = jwt_claims(value)
    expires, issued = claims.get("exp"), claims.get("iat")
    if expires_at_ms is None and isinstance(expires, (int, float)):
        expires_at_ms = round(expires * 1000)
    issued_at_ms = round(issued * 1000) if isinstance(issued, (int, float)) else None
    return OAuthToken(value, expires_at_ms, extensions or {}, issued_at_ms)


def jwt_claims(token: str) -> dict[str, Any]:
    """The claims of a JWT, unchecked; empty for a token of another kind."""
    import msgspec

    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        claims = msgspec.json.decode(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:  # msgspec's and base64's errors are
        return {}
    return claims if isinstance(claims, dict) else {}


class RefreshRule(NamedTuple):
    """When a token is to be replaced."""

    window_factor: float
    window_jitter: float
    min_period_ms: int
    buffer_ms: int

    def refresh_at_ms(self, token: OAuthToken, fetched_at_ms: int, chance: float) -> int:
        """The time from which a new token is wanted; `chance` is a random number between 0 and 1."""
        if token.expires_at_ms is None:
            return fetched_at_ms
        lifetime_ms = max(token.expires_at_ms - fetched_at_ms, 0)
        wanted_ms = fetched_at_ms + int(lifetime_ms * (self.window_factor + self.window_jitter * chance))
        # With a life too short for both, the buffer and the least period give way, as in Kafka.
        if lifetime_ms > self.min_period_ms + self.buffer_ms:
            wanted_ms = min(wanted_ms, token.expires_at_ms - self.buffer_ms)
            wanted_ms = max(wanted_ms, fetched_at_ms + self.min_period_ms)
        return min(wanted_ms, token.expires_at_ms)


class TokenKeeper:
    """The token of one client."""

    def __init__(
        self,
        settings: CommonSettings,
        *,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        chance: Callable[[], float] = random.random,
    ) -> None:
        from ottla.client.security.token_sources import token_source

        self._fetch = token_source(settings)
        self._rule = RefreshRule(
            settings.sasl_login_refresh_window_factor,
            settings.sasl_login_refresh_window_jitter,
            settings.sasl_login_refresh_min_period_seconds * 1000,
            settings.sasl_login_refresh_buffer_seconds * 1000,
        )
        self._now_ms = now_ms
        self._chance = chance
        self._token: OAuthToken | None = None
        self._refresh_at_ms = 0
        self._fetching: asyncio.Lock | None = None

    async def token(self) -> OAuthToken:
        """A token that is still good. Raises `AuthenticationError` or a retriable `KafkaError` when there is none."""
        if self._token is not None and self._now_ms() < self._refresh_at_ms:
            return self._token
        if self._fetching is None:
            self._fetching = asyncio.Lock()
        async with self._fetching:
            if self._token is None or self._now_ms() >= self._refresh_at_ms:
                await self._renew()
        assert self._token is not None
        return self._token

    async def _renew(self) -> None:
        try:
            token = await self._fetch()
        except KafkaError as error:
            now_ms = self._now_ms()
            old = self._token
            if old is None or old.expires_at_ms is None or old.expires_at_ms <= now_ms:
                raise
            _log.warning("no new OAuth token, the old one is used while it lasts: %s", error)
            self._refresh_at_ms = min(now_ms + self._rule.min_period_ms, old.expires_at_ms)
            return
        self._token = token
        self._refresh_at_ms = self._rule.refresh_at_ms(token, self._now_ms(), self._chance())
