"""Tokens from an OAuth endpoint over HTTPS: client credentials, or a signed JWT in exchange (JWT bearer)."""

from __future__ import annotations

import asyncio
import ssl
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote_plus, urlencode

import msgspec

from ottla.client.errors import AuthenticationError, ConfigError, ConnectionFailedError, KafkaError
from ottla.client.security.assertions import Assertions
from ottla.client.security.tokens import OAuthToken, token_from

if TYPE_CHECKING:
    from ottla.client.settings import CommonSettings

JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
CLIENT_ASSERTION: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_MAX_ANSWER_BYTES: Final = 1024 * 1024


class TokenEndpoint:
    """Asks for a token, again for a while when the endpoint has trouble."""

    def __init__(
        self,
        settings: CommonSettings,
        url: str,
        options: Mapping[str, str],
        extensions: Mapping[str, str],
        *,
        is_jwt_bearer: bool,
    ) -> None:
        self._settings = settings
        self._url = url
        self._options = options
        self._extensions = extensions
        self._is_jwt_bearer = is_jwt_bearer
        self._client_id = settings.sasl_oauthbearer_client_credentials_client_id or options.get("clientId")
        secret = settings.sasl_oauthbearer_client_credentials_client_secret
        self._secret = options.get("clientSecret") if secret is None else secret.value
        self._scope = settings.sasl_oauthbearer_scope or options.get("scope")
        self._assertions = Assertions(settings) if is_jwt_bearer or _has_assertion(settings) else None
        if self._assertions is None and (not self._client_id or not self._secret):
            raise ConfigError(
                "sasl.oauthbearer.token.endpoint.url is set: then sasl.oauthbearer.client.credentials.client.id and "
                "sasl.oauthbearer.client.credentials.client.secret are needed."
            )
        self._context: ssl.SSLContext | None = None

    async def fetch(self) -> OAuthToken:
        """A new token; `AuthenticationError` when the endpoint refuses, a retriable error when it cannot answer."""
        backoff_ms, longest_ms = (
            self._settings.sasl_login_retry_backoff_ms,
            self._settings.sasl_login_retry_backoff_max_ms,
        )
        give_up_at = time.monotonic() + longest_ms / 1000
        while True:
            try:
                return await asyncio.to_thread(self._ask)
            except KafkaError as error:
                left_s = give_up_at - time.monotonic()
                if not error.retriable or left_s <= 0:
                    raise
                await asyncio.sleep(min(backoff_ms / 1000, left_s))
                backoff_ms *= 2

    def request(self) -> urllib.request.Request:
        """What is posted."""
        headers = {
            "Accept": "application/json",
            "Cache-Control": "no-cache",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        fields: dict[str, str] = {"grant_type": "client_credentials"}
        if self._is_jwt_bearer:
            assert self._assertions is not None
            fields = {"grant_type": JWT_BEARER, "assertion": self._assertions.create()}
        elif self._assertions is not None:
            fields["client_assertion_type"] = CLIENT_ASSERTION
            fields["client_assertion"] = self._assertions.create()
            if self._client_id:
                fields["client_id"] = self._client_id
        else:
            headers["Authorization"] = self._basic()
        if self._scope:
            fields["scope"] = self._scope.strip()
        return urllib.request.Request(self._url, urlencode(fields).encode(), headers, method="POST")

    def _basic(self) -> str:
        """RFC 6749 wants both parts URL-encoded, which many endpoints do not expect: hence a setting."""
        parts = [str(self._client_id).strip(), str(self._secret).strip()]
        if self._settings.sasl_oauthbearer_header_urlencode:
            parts = [quote_plus(part) for part in parts]
        return "Basic " + b64encode(":".join(parts).encode()).decode()

    def _ask(self) -> OAuthToken:
        settings = self._settings
        timeouts = (settings.sasl_login_connect_timeout_ms, settings.sasl_login_read_timeout_ms)
        timeout_ms = max(filter(None, timeouts), default=settings.request_timeout_ms)
        try:
            context = self._tls()
            handlers = [] if context is None else [urllib.request.HTTPSHandler(context=context)]
            opener = urllib.request.build_opener(_NoRedirects, *handlers)
            with opener.open(self.request(), timeout=timeout_ms / 1000) as answer:
                body = answer.read(_MAX_ANSWER_BYTES)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refused(error.code, error.read(_MAX_ANSWER_BYTES)) from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise AuthenticationError(
                    f"no OAuth token: the certificate of {self._url} is not trusted: {reason.verify_message}.",
                    hint="Set ssl.truststore.location to who signed it.",
                ) from None
            raise ConnectionFailedError(f"no OAuth token: {self._url} cannot be reached: {reason}.") from None
        return self._token(body)

    def _tls(self) -> ssl.SSLContext | None:
        """The system's certificates and those of `ssl.truststore.*`; or what `ssl.*` options in the JAAS entry say."""
        if not self._url.lower().startswith("https:"):
            return None
        if self._context is None:
            from ottla.client.security.tls import make_ssl_context, read_trusted

            own = {name: value for name, value in self._options.items() if name.startswith("ssl.")}
            if own:
                from ottla.client.settings import AdminSettings

                self._context = make_ssl_context(AdminSettings.of("localhost", {"security.protocol": "SSL", **own}))
            else:
                self._context = ssl.create_default_context()
                trusted = read_trusted(self._settings)
                if trusted is not None:
                    self._context.load_verify_locations(capath=trusted.directory, cadata=trusted.pem)
        return self._context

    def _refused(self, status: int, body: bytes) -> KafkaError:
        said = _error_text(body)
        text = f"no OAuth token: {self._url} answered {status}{said}."
        # 408, 429 and most of 5xx pass; the others say that the request itself is wrong.
        passing = status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS) or (
            status >= 500 and status not in (HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
        )
        if passing:
            return ConnectionFailedError(text, hint="")
        return AuthenticationError(text, hint="Check the URL, the client's id and secret, and the scope.")

    def _token(self, body: bytes) -> OAuthToken:
        try:
            answer = msgspec.json.decode(body)
        except msgspec.DecodeError:
            answer = None
        token = (
            next((answer[name] for name in ("access_token", "id_token") if answer.get(name)), None)
            if isinstance(answer, dict)
            else None
        )
        if not isinstance(token, str):
            raise AuthenticationError(
                f"no OAuth token: the answer of {self._url} has no access_token.",
                hint="Check that the URL is the token endpoint.",
            )
        found = token_from(token.strip(), extensions=self._extensions)
        lifetime: Any = answer.get("expires_in") if isinstance(answer, dict) else None
        if found.expires_at_ms is None and isinstance(lifetime, (int, float)):
            found = found._replace(expires_at_ms=round((time.time() + lifetime) * 1000))
        return found


def _has_assertion(settings: CommonSettings) -> bool:
    return settings.sasl_oauthbearer_assertion_file is not None or settings.is_given(
        "sasl.oauthbearer.assertion.claim.iss"
    )


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The client's secret is for the endpoint that the setting names, and would be sent along."""

    def redirect_request(self, *arguments: Any, **named: Any) -> None:
        return None


def _error_text(body: bytes) -> str:
    """What RFC 6749 lets an endpoint say: `error` and `error_description`; they hold no secrets."""
    try:
        answer = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return ""
    if not isinstance(answer, dict):
        return ""
    parts = [
        answer.get("error") or answer.get("errorCode"),
        answer.get("error_description") or answer.get("errorSummary"),
    ]
    said = ": ".join(" ".join(str(part).split())[:200] for part in parts if part)
    return f" ({said.rstrip('.')})" if said else ""
