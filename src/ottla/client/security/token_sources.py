"""Where OAuth tokens come from.

The first of these that is set: the user's own function or object (`sasl.oauth.token.provider`, librdkafka's `oauth_cb`,
or as `sasl.login.callback.handler.class`), `sasl.oauthbearer.jwt.retriever.class`, the token endpoint (a `file:` URL is
a file), an unsecured token for development (`unsecuredLoginStringClaim_sub` and its like in `sasl.jaas.config`, or
librdkafka's `sasl.oauthbearer.config`).
"""

from __future__ import annotations

import asyncio
import time
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable, Mapping
from inspect import Parameter, isawaitable, iscoroutinefunction, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from ottla.client.errors import AuthenticationError, ConfigError, KafkaError
from ottla.client.security.credentials import jaas_entry
from ottla.client.security.errors import as_client_errors
from ottla.client.security.tokens import OAuthToken, token_from
from ottla.security.oauthbearer import check_extensions

if TYPE_CHECKING:
    from ottla.client.settings import CommonSettings

TokenSource = Callable[[], Awaitable[OAuthToken]]

_UNSECURED = "unsecuredLogin"


def token_source(settings: CommonSettings) -> TokenSource:
    """What fetches a token with these settings; `ConfigError` when nothing says where tokens come from."""
    entry = jaas_entry(settings)
    options = {} if entry is None else entry.options
    handler = settings.sasl_login_callback_handler_class
    retriever = settings.sasl_oauthbearer_jwt_retriever_class
    extensions = _extensions(settings, options)
    for own in (settings.sasl_oauth_token_provider, handler, retriever):
        if own is not None and not isinstance(own, str):
            return _from_provider(own, settings, extensions)
    url = settings.sasl_oauthbearer_token_endpoint_url
    if handler == "unsecured" or (url is None and retriever is None):
        return _unsecured_source(settings, options, extensions)
    if url is None:
        raise ConfigError("sasl.oauthbearer.token.endpoint.url is needed: where tokens come from.")
    scheme = urlsplit(url).scheme.lower()
    if retriever == "file" or (scheme == "file" and retriever in (None, "default")):
        return _from_file(url, extensions)
    if scheme not in ("https", "http"):
        raise ConfigError(f"sasl.oauthbearer.token.endpoint.url cannot be {url!r}: it takes https://… or file:///….")
    from ottla.client.security.token_endpoint import TokenEndpoint

    return TokenEndpoint(settings, url, options, extensions, is_jwt_bearer=retriever == "jwt_bearer").fetch


def _extensions(settings: CommonSettings, options: Mapping[str, str]) -> dict[str, str]:
    prefix = "extension_"
    found = {name.removeprefix(prefix): value for name, value in options.items() if name.startswith(prefix)}
    for pair in filter(None, (item.strip() for item in (settings.sasl_oauthbearer_extensions or "").split(","))):
        name, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError("sasl.oauthbearer.extensions cannot be read: write name=value, several with commas.")
        found[name.strip()] = value.strip()
    with as_client_errors():
        check_extensions(found)
    return found


# The user's own


def _from_provider(provider: Any, settings: CommonSettings, extensions: dict[str, str]) -> TokenSource:
    """A function without arguments, or with librdkafka's configuration text; or an object with `token()`, as
    kafka-python and aiokafka have it. Coroutines are awaited, all else runs in a thread; for request.timeout.ms."""
    method = getattr(provider, "token", None)
    function = method if callable(method) else provider
    if not callable(function):
        raise ConfigError("sasl.oauth.token.provider must be a function, or an object with a method token().")
    arguments = (settings.sasl_oauthbearer_config or "",) if _takes_argument(function) else ()
    is_coroutine = iscoroutinefunction(function)

    async def fetch() -> OAuthToken:
        limit = asyncio.timeout(settings.request_timeout_ms / 1000)
        try:
            async with limit:
                result = function(*arguments) if is_coroutine else await asyncio.to_thread(function, *arguments)
                if isawaitable(result):
                    result = await result
            more = getattr(provider, "extensions", None)
            token = _provided(result)
            own = dict(more() or {}) if callable(more) and not isinstance(provider, OAuthToken) else {}
        except KafkaError:
            raise
        except Exception as error:
            what = f"failed: {type(error).__name__}: {' '.join(str(error).split()) or 'no reason given'}"
            if limit.expired():
                what = f"gave nothing for {settings.request_timeout_ms} ms"
            # What goes wrong between it and somebody else may go well next time.
            is_trouble = isinstance(error, OSError)
            raise AuthenticationError(f"the OAuth token provider {what}.", retriable=is_trouble, hint="") from error
        return token._replace(extensions={**extensions, **own, **token.extensions})

    return fetch


def _takes_argument(function: Callable[..., Any]) -> bool:
    try:
        parameters = signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    return any(each.kind in positional and each.default is Parameter.empty for each in parameters)


def _provided(result: object) -> OAuthToken:
    """A token from what a provider returns: the token, or (token, expiry in seconds since 1970[, principal
    [, extensions]]) as confluent-kafka wants it."""
    if isinstance(result, OAuthToken):
        return result
    if isinstance(result, (bytes, bytearray)):
        result = bytes(result).decode("ascii")
    if isinstance(result, str):
        return token_from(result.strip())
    if isinstance(result, tuple) and len(result) >= 2 and isinstance(result[0], str):
        expires = result[1]
        extensions = result[3] if len(result) > 3 else None
        expires_at_ms = round(expires * 1000) if isinstance(expires, (int, float)) else None
        return token_from(result[0], expires_at_ms, dict(extensions) if extensions else None)
    raise AuthenticationError(
        f"the OAuth token provider returned {type(result).__name__}.",
        hint="It must return the token, or a tuple of the token and its expiry in seconds since 1970.",
    )


# A file


def _from_file(url: str, extensions: dict[str, str]) -> TokenSource:
    path = url2pathname(urlsplit(url).path) if url.lower().startswith("file:") else url

    async def fetch() -> OAuthToken:
        try:
            text = (await asyncio.to_thread(Path(path).read_text, "utf-8")).strip()
        except (OSError, UnicodeDecodeError) as error:
            raise AuthenticationError(
                f"no OAuth token: cannot read {path}: {getattr(error, 'strerror', None) or error}.", hint=""
            ) from None
        if not text:
            raise AuthenticationError(f"no OAuth token: {path} is empty.", hint="")
        return token_from(text, extensions=extensions)

    return fetch


# Unsecured tokens, for development


def _unsecured_source(settings: CommonSettings, options: Mapping[str, str], extensions: dict[str, str]) -> TokenSource:
    from_jaas = any(name.startswith(_UNSECURED) for name in options)
    if settings.sasl_oauthbearer_config and not from_jaas:
        claims, lifetime_s, more = _librdkafka_claims(settings.sasl_oauthbearer_config)
    elif from_jaas:
        claims, lifetime_s, more = _jaas_claims(options)
    else:
        raise ConfigError(
            "sasl.mechanism is OAUTHBEARER: say where tokens come from, with sasl.oauthbearer.token.endpoint.url or "
            "sasl.oauth.token.provider."
        )
    with as_client_errors():
        check_extensions(more)

    async def fetch() -> OAuthToken:
        now_s = round(time.time(), 3)
        token = unsecured_token({**claims, "iat": now_s, "exp": now_s + lifetime_s})
        return token_from(token, extensions={**extensions, **more})

    return fetch


def unsecured_token(claims: Mapping[str, object]) -> str:
    """A JWT without a signature."""
    import msgspec

    parts = ({"alg": "none"}, claims)
    encoded = (urlsafe_b64encode(msgspec.json.encode(part)).rstrip(b"=").decode() for part in parts)
    return ".".join([*encoded, ""])


def _jaas_claims(options: Mapping[str, str]) -> tuple[dict[str, object], float, dict[str, str]]:
    """Claims, lifetime in seconds, and extensions from `unsecuredLogin…` options."""
    claims: dict[str, object] = {}
    extensions: dict[str, str] = {}
    for name, value in options.items():
        kind, _, claim = name.removeprefix(_UNSECURED).partition("_")
        if not name.startswith(_UNSECURED) or not claim:
            continue
        if claim in ("iat", "exp"):
            raise ConfigError(f"sasl.jaas.config sets the claim {claim}, which is set by itself.")
        if kind == "StringClaim":
            claims[claim] = value
        elif kind == "NumberClaim":
            claims[claim] = _number(name, value)
        elif kind == "ListClaim":
            # The first character separates the items: |read|write
            claims[claim] = value[1:].split(value[:1]) if value else []
        elif kind == "Extension":
            extensions[claim] = value
    principal = options.get(f"{_UNSECURED}PrincipalClaimName", "sub")
    if not claims.get(principal):
        raise ConfigError(f"sasl.jaas.config needs unsecuredLoginStringClaim_{principal}: who the client is.")
    return claims, _number("lifetime", options.get(f"{_UNSECURED}LifetimeSeconds", "3600")), extensions


def _librdkafka_claims(text: str) -> tuple[dict[str, object], float, dict[str, str]]:
    """The same from `principal=… scope=a,b lifeSeconds=600 extension_x=y`, pairs with spaces between them."""
    known = ("principal", "principalClaimName", "scope", "scopeClaimName", "lifeSeconds")
    pairs: dict[str, str] = {}
    for pair in text.split():
        name, equals, value = pair.partition("=")
        if not equals or not (name in known or name.startswith("extension_")):
            raise ConfigError(
                f"sasl.oauthbearer.config cannot be read at {name!r}: it takes principal=, scope=, lifeSeconds=, "
                "principalClaimName=, scopeClaimName= and extension_NAME=, with spaces between."
            )
        pairs[name] = value
    if not pairs.get("principal"):
        raise ConfigError("sasl.oauthbearer.config needs principal=…: who the client is.")
    claims: dict[str, object] = {pairs.get("principalClaimName", "sub"): pairs["principal"]}
    if "scope" in pairs:
        claims[pairs.get("scopeClaimName", "scope")] = pairs["scope"].split(",")
    extensions = {name[10:]: value for name, value in pairs.items() if name.startswith("extension_")}
    return claims, _number("lifeSeconds", pairs.get("lifeSeconds", "3600")), extensions


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ConfigError(f"{name} cannot be {text!r}: a number is needed.") from None
    return int(number) if number.is_integer() else number
