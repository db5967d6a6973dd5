"""The issuer's keys: fetched when the first client comes, kept, renewed in the background.

`sasl.oauthbearer.jwks.endpoint.refresh.ms` is how long they are kept; afterwards the old ones are used until new ones
are there, so that an issuer that is down for a while keeps nobody out. A token that names an unknown key makes the keys
be fetched at once, and waits for them: an issuer may sign with a new key the moment after it has published it.
So that nobody can make us flood the issuer with made-up key ids, this is done a few times, and then once in
`sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms`.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ottla.server.security.oauth.claims import TokenRefusedError
from ottla.server.security.oauth.signatures import PublicKeys, SignedToken
from ottla.server.security.sasl.mechanism import BackendUnavailableError

_log = logging.getLogger(__name__)

_MOST_BYTES: Final = 1024 * 1024
_TIMEOUT_S: Final = 10.0
_BURST: Final = 3
"""Fetches for unknown keys that may follow each other at once."""

Fetch = Callable[[], Awaitable[bytes]]
"""The JWKS document; raises OSError or ValueError (one line) when there is none."""


@dataclass(frozen=True, slots=True)
class RefreshRule:
    """The `sasl.oauthbearer.jwks.endpoint.*` settings."""

    refresh_ms: int = 3_600_000
    retry_backoff_ms: int = 100
    retry_backoff_max_ms: int = 10_000


class IssuerKeys:
    """The keys behind one URL."""

    def __init__(self, url: str, fetch: Fetch, rule: RefreshRule, now_ms: Callable[[], int]) -> None:
        self._url = url
        self._fetch = fetch
        self._rule = rule
        self._now_ms = now_ms
        self._document = b""
        self._keys: PublicKeys | None = None
        self._fetched_ms = 0
        self._failures = 0
        self._failure = ""
        self._retry_at_ms = 0
        self._fetching: asyncio.Task[None] | None = None
        self._allowance = float(_BURST)
        self._allowance_ms = now_ms()

    async def claims(self, token: SignedToken) -> dict[str, Any]:
        """The claims of a token that the issuer has signed.

        Raises `TokenRefusedError`, and `BackendUnavailableError` when there are no keys to judge it with.
        """
        keys = await self._current()
        if not keys.for_token(token) and self._may_ask_for_unknown():
            await self._renewed()
            keys = self._keys or keys
        if not keys.for_token(token):
            raise TokenRefusedError("it is signed with a key that the issuer has not published")
        return token.claims(keys)

    async def close(self) -> None:
        """Stop fetching."""
        if self._fetching is not None:
            self._fetching.cancel()

    async def _current(self) -> PublicKeys:
        now_ms = self._now_ms()
        if self._keys is None or self._rule.refresh_ms == 0:
            if now_ms >= self._retry_at_ms:
                await self._renewed()
        elif now_ms >= max(self._fetched_ms + self._rule.refresh_ms, self._retry_at_ms):
            self._start()
        if self._keys is None:
            raise BackendUnavailableError(f"no token can be judged: {self._failure}")
        return self._keys

    def _may_ask_for_unknown(self) -> bool:
        """One more fetch for a key that is not known, if not too many were made."""
        now_ms = self._now_ms()
        earned = max(0, now_ms - self._allowance_ms) / max(self._rule.retry_backoff_max_ms, 1)
        self._allowance = min(self._allowance + earned, _BURST)
        self._allowance_ms = now_ms
        if self._allowance < 1 or now_ms < self._retry_at_ms:
            return False
        self._allowance -= 1
        return True

    def _start(self) -> asyncio.Task[None]:
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.get_running_loop().create_task(self._renew())
        return self._fetching

    async def _renewed(self) -> None:
        # Who waits may go away; the others wait for the same answer.
        task = self._start()
        await asyncio.wait((task,))
        if task.cancelled():
            raise BackendUnavailableError("no token can be judged: the listener's settings are being replaced")
        task.result()

    async def _renew(self) -> None:
        try:
            document = await self._fetch()
            if document != self._document:
                self._keys = PublicKeys(document)
                self._document = document
                _log.info("%s: %d keys for tokens", self._url, len(self._keys))
        except (OSError, ValueError) as error:
            backoff_ms = min(self._rule.retry_backoff_ms << min(self._failures, 20), self._rule.retry_backoff_max_ms)
            self._failures += 1
            self._retry_at_ms = self._now_ms() + backoff_ms
            self._failure = f"{self._url} (sasl.oauthbearer.jwks.endpoint.url) gives no keys: {_reason(error)}"
            left = "the known keys are used" if self._keys is not None else "tokens cannot be judged"
            _log.warning("%s; %s", self._failure, left)
        else:
            self._failures = self._retry_at_ms = 0
            self._fetched_ms = self._now_ms()


def read_file(path: str) -> bytes:
    """A JWKS document in a file. Raises OSError, ValueError when it is too large."""
    with Path(path).open("rb") as file:
        return _bounded(file.read(_MOST_BYTES + 1))


def download(url: str, context: ssl.SSLContext | None) -> bytes:
    """A JWKS document from an HTTP server, without following it to other places. Raises OSError, ValueError."""
    handlers: list[Any] = [_NoRedirects()]
    if context is not None:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    opener = urllib.request.build_opener(*handlers)
    request = urllib.request.Request(url, headers={"Accept": "application/jwk-set+json, application/json"})
    try:
        with opener.open(request, timeout=_TIMEOUT_S) as answer:
            return _bounded(answer.read(_MOST_BYTES + 1))
    except urllib.error.HTTPError as error:
        with error:
            raise ValueError(f"it answers {error.code}") from None
    except HTTPException as error:
        raise ValueError(f"its answer is not HTTP ({type(error).__name__})") from None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Keys come from where the setting says, or not at all: who answers there decides who gets in."""

    def redirect_request(self, *arguments: Any, **named: Any) -> None:
        return None


def _bounded(document: bytes) -> bytes:
    if len(document) > _MOST_BYTES:
        raise ValueError(f"it is larger than {_MOST_BYTES} bytes")
    return document


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({reason.verify_message})"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return " ".join(str(reason).split())


def is_file_url(url: str) -> bool:
    """Whether keys are to be read from a file."""
    return urlsplit(url).scheme.lower() == "file"
