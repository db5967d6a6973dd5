"""SASL OAUTHBEARER (RFC 7628, KIP-255, KIP-768): a token that somebody else has issued.

The client sends one message, with the token. When the token is not believed, the client is told why as JSON, says with
a single byte that it has understood, and is then refused with the same text.

`sasl.oauthbearer.jwks.endpoint.url` is where the keys come from that tokens are signed with. Tokens without a signature
are Kafka's default, which lets in everybody who can write JSON; here they take
`sasl.server.callback.handler.class=org.apache.kafka.common.security.oauthbearer.internals.unsecured.`\
`OAuthBearerUnsecuredValidatorCallbackHandler`, and a listener that believes them says so when it starts.

SASL extensions (KIP-342) are checked for their form; nothing is made of them, as in Kafka.
"""

from __future__ import annotations

import logging
import re
from base64 import urlsafe_b64decode
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

import msgspec

from ottla.security.errors import SecurityConfigError
from ottla.security.jaas import parse_jaas
from ottla.server.security.oauth.claims import BearerToken, ClaimRules, TokenRefusedError
from ottla.server.security.sasl.mechanism import AuthenticationError, Mechanism, Step, Surroundings
from ottla.server.security.session import Session

if TYPE_CHECKING:
    import ssl

    from ottla.server.security.oauth.keys import Fetch

_log = logging.getLogger(__name__)

UNSECURED: Final = "OAuthBearerUnsecuredValidatorCallbackHandler"
"""The last part of the name of Kafka's class that believes tokens without a signature."""

_HANDLERS: Final = (UNSECURED, "OAuthBearerValidatorCallbackHandler")
_VALIDATORS: Final = ("DefaultJwtValidator", "BrokerJwtValidator")
_URL: Final = "sasl.oauthbearer.jwks.endpoint.url"
_HANDLER: Final = "sasl.server.callback.handler.class"
_PREFIX: Final = "unsecuredValidator"

Validate = Callable[[str], Awaitable[BearerToken]]
"""What a token says; raises TokenRefusedError and BackendUnavailableError."""


def open_service(surroundings: Surroundings) -> OAuthBearerService:
    """OAUTHBEARER as a listener offers it. Raises `SecurityConfigError`."""
    settings = surroundings.settings
    handler = _class_name(settings, _HANDLER, _HANDLERS)
    _class_name(settings, "sasl.oauthbearer.jwt.validator.class", _VALIDATORS)
    if handler == UNSECURED:
        _log.warning(
            "listener %s believes OAuth tokens that nobody has signed (%s): for development only",
            surroundings.listener_name,
            _HANDLER,
        )
        return OAuthBearerService(_unsecured(surroundings), _nothing)
    if not settings.get(_URL):
        raise SecurityConfigError(
            _URL,
            f"OAUTHBEARER on listener {surroundings.listener_name} needs {_URL}, the keys of who issues the tokens. "
            f"To believe tokens that nobody has signed, for development, set {_HANDLER} to "
            f"org.apache.kafka.common.security.oauthbearer.internals.unsecured.{UNSECURED}.",
        )
    return _signed(surroundings)


async def _nothing() -> None:
    return None


class OAuthBearerService:
    """Validates the tokens of one listener."""

    def __init__(self, validate: Validate, close: Callable[[], Awaitable[None]]) -> None:
        self._validate = validate
        self._close = close

    def begin(self, client_host: str) -> Mechanism:
        """A new exchange."""
        return OAuthBearerExchange(self._validate)

    async def close(self) -> None:
        """Stop fetching keys."""
        await self._close()


class OAuthBearerExchange:
    """One login."""

    def __init__(self, validate: Validate) -> None:
        self._validate = validate
        self._refusal: AuthenticationError | None = None

    async def respond(self, message: bytes) -> Step:
        """A session, or what is wrong with the token; then the client is only waited for to have read it."""
        if self._refusal is not None:
            raise self._refusal
        first = parse_message(message)
        try:
            token = await self._validate(first.token)
        except TokenRefusedError as error:
            text = refusal_text("invalid_token")
            self._refusal = AuthenticationError(text, reason=f"the token is refused: {error}")
            return Step(text.encode(), refusal=self._refusal)
        if first.authorization_id and first.authorization_id != token.name:
            raise AuthenticationError(
                "Authentication failed: the authorization id that was asked for is not the one the token is for",
                reason=f"the token is for {token.name}, but another authorization id was asked for",
                user=token.name,
            )
        session = Session(
            f"User:{token.name}", groups=token.groups, mechanism="OAUTHBEARER", expires_ms=token.expires_ms
        )
        return Step(b"", session)


def refusal_text(status: str) -> str:
    """The JSON of RFC 7628, section 3.2.2, as Kafka writes it."""
    return f'{{"status":"{status}"}}'


class FirstMessage(NamedTuple):
    """What the client sends."""

    token: str
    authorization_id: str
    extensions: Mapping[str, str]


_NAME = r"(?:[\x02-\x2b\x2d-\x3c\x3e-\x7f]|=2C|=3D)+"
_FORM: Final = re.compile(rf"n,(?:a=({_NAME}))?,\x01((?:[A-Za-z]+=[\x20-\x7e\t\r\n]+\x01)*)\x01".encode())
_AUTH: Final = re.compile(r"(\w+) +([-_~+/.a-zA-Z0-9]+=*)", re.ASCII)


def parse_message(message: bytes) -> FirstMessage:
    """Raises `AuthenticationError`, without a word for the client."""
    form = _FORM.fullmatch(message)
    if form is None:
        raise AuthenticationError(reason="it is no OAUTHBEARER message")
    pairs = (pair.partition("=") for pair in form[2].decode("ascii").split("\x01") if pair)
    values: dict[str, str] = {}
    for name, _, value in pairs:
        if name in values:
            raise AuthenticationError(reason=f"the OAUTHBEARER message has {name} twice")
        values[name] = value
    auth = _AUTH.fullmatch(values.pop("auth", ""))
    if auth is None or auth[1].lower() != "bearer":
        raise AuthenticationError(reason="the OAUTHBEARER message has no bearer token")
    authorization_id = (form[1] or b"").decode("ascii").replace("=2C", ",").replace("=3D", "=")
    return FirstMessage(auth[2], authorization_id, values)


# What is believed


def _rules(settings: Mapping[str, Any]) -> ClaimRules:
    return ClaimRules(
        issuer=settings.get("sasl.oauthbearer.expected.issuer") or None,
        audiences=tuple(settings.get("sasl.oauthbearer.expected.audience") or ()),
        clock_skew_ms=1000 * settings["sasl.oauthbearer.clock.skew.seconds"],
        subject_claim=settings["sasl.oauthbearer.sub.claim.name"],
        scope_claim=settings["sasl.oauthbearer.scope.claim.name"],
        groups_claim=settings.get("sasl.oauthbearer.groups.claim.name") or None,
    )


def _signed(surroundings: Surroundings) -> OAuthBearerService:
    settings = surroundings.settings
    rules = _rules(settings)
    for unset, name in ((not rules.issuer, "issuer"), (not rules.audiences, "audience")):
        if unset:
            _log.warning(
                "listener %s believes tokens whatever their %s: set sasl.oauthbearer.expected.%s",
                surroundings.listener_name,
                name,
                name,
            )
    try:
        from ottla.server.security.oauth.keys import IssuerKeys
        from ottla.server.security.oauth.signatures import SignedToken
    except ImportError as error:
        raise SecurityConfigError(
            "sasl.enabled.mechanisms", f"OAUTHBEARER needs the joserfc package ({error}): pip install 'ottla[oauth]'."
        ) from None
    keys = IssuerKeys(settings[_URL], *_fetch(surroundings), surroundings.now_ms)

    async def validate(text: str) -> BearerToken:
        claims = await keys.claims(SignedToken.parse(text))
        return rules.judge(claims, surroundings.now_ms())

    return OAuthBearerService(validate, keys.close)


def _fetch(surroundings: Surroundings) -> tuple[Fetch, Any]:
    """How the keys are fetched, and how often."""
    from ottla.server.security.oauth import keys
    from ottla.server.security.oauth.signatures import PublicKeys

    settings = surroundings.settings
    url = settings[_URL]
    rule = keys.RefreshRule(
        settings["sasl.oauthbearer.jwks.endpoint.refresh.ms"],
        settings["sasl.oauthbearer.jwks.endpoint.retry.backoff.ms"],
        settings["sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms"],
    )
    if keys.is_file_url(url):
        path = url2pathname(urlsplit(url).path)
        try:
            PublicKeys(keys.read_file(path))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SecurityConfigError(_URL, f"{_URL}: {path} cannot be used: {reason}.") from None

        async def read() -> bytes:
            document: bytes = await surroundings.run_blocking(keys.read_file, path)
            return document

        # A file is read with each login: a key that was taken out of it counts no more.
        return read, replace(rule, refresh_ms=0)
    if urlsplit(url).scheme.lower() not in ("http", "https") or not urlsplit(url).hostname:
        raise SecurityConfigError(_URL, f"{_URL} must be a URL that begins with https:, http: or file:.")
    context = _tls(settings, url)

    async def fetch() -> bytes:
        document: bytes = await surroundings.run_blocking(keys.download, url, context)
        return document

    return fetch, rule


def _tls(settings: Mapping[str, Any], url: str) -> ssl.SSLContext | None:
    """The system's certificates, or those of `ssl.truststore.*` options in the JAAS entry, as in Kafka."""
    if urlsplit(url).scheme.lower() != "https":
        return None
    from ottla.security.settings import TlsSettings
    from ottla.security.tls import client_context

    options = _jaas_options(settings)
    named = ("ssl.truststore.location", "ssl.truststore.type", "ssl.truststore.password", "ssl.truststore.certificates")
    given: dict[str, Any] = {
        name.removeprefix("ssl.").replace(".", "_"): options[name] for name in named if name in options
    }
    return client_context(TlsSettings(**given))


def _jaas_options(settings: Mapping[str, Any]) -> Mapping[str, str]:
    text = settings.get("sasl.jaas.config")
    if text is None:
        return {}
    entry = parse_jaas(getattr(text, "value", text))
    if entry.module != "OAuthBearerLoginModule":
        raise SecurityConfigError(
            "sasl.jaas.config",
            f"sasl.jaas.config has a {entry.module}; OAUTHBEARER takes an OAuthBearerLoginModule, or nothing.",
        )
    return entry.options


def _class_name(settings: Mapping[str, Any], setting: str, known: tuple[str, ...]) -> str:
    name = str(settings.get(setting) or "").rpartition(".")[2]
    if name and name not in known:
        raise SecurityConfigError(
            setting, f"{setting}: there is no {name}; Ottla has {' and '.join(known)} of its own, and loads no classes."
        )
    return name


# Tokens that nobody has signed


def _unsecured(surroundings: Surroundings) -> Validate:
    options = _jaas_options(surroundings.settings)
    skew = options.get(f"{_PREFIX}AllowableClockSkewMs", "0").strip()
    if not skew.isdigit():
        raise SecurityConfigError(
            "sasl.jaas.config", f"sasl.jaas.config: {_PREFIX}AllowableClockSkewMs must be a number of milliseconds."
        )
    rules = ClaimRules(
        clock_skew_ms=int(skew),
        subject_claim=options.get(f"{_PREFIX}PrincipalClaimName", "sub").strip(),
        scope_claim=options.get(f"{_PREFIX}ScopeClaimName", "scope").strip(),
        groups_claim=surroundings.settings.get("sasl.oauthbearer.groups.claim.name") or None,
        required_scopes=tuple(options.get(f"{_PREFIX}RequiredScope", "").split()),
        needs_issued_at=False,
    )

    async def validate(text: str) -> BearerToken:
        claims = unsigned_claims(text)
        claims.pop("aud", None)
        return rules.judge(claims, surroundings.now_ms())

    return validate


def unsigned_claims(text: str) -> dict[str, Any]:
    """The claims of a token without a signature. Raises `TokenRefusedError`."""
    parts = text.split(".")
    if len(parts) != 3 or parts[2]:
        raise TokenRefusedError("it is no token without a signature")
    header, claims = (_decoded(part) for part in parts[:2])
    if header.get("alg") != "none":
        raise TokenRefusedError("a token without a signature must say so (alg: none)")
    return claims


def _decoded(part: str) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise TokenRefusedError("it is no token: its parts are not JSON")
    return value
