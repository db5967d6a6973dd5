"""Signed JWTs with which a client proves who it is to a token endpoint (RFC 7523).

Either somebody writes them into `sasl.oauthbearer.assertion.file`, or they are made from the claims in the settings
(those of `sasl.oauthbearer.assertion.template.file` go on top, times on top of all) and signed with a private key,
which takes the `cryptography` package.
"""

from __future__ import annotations

import time
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ottla.client.errors import AuthenticationError, ConfigError

if TYPE_CHECKING:
    from ottla.client.settings import CommonSettings


class Assertions:
    """Makes (or reads) one assertion for each request."""

    def __init__(self, settings: CommonSettings) -> None:
        self._settings = settings
        if (
            settings.sasl_oauthbearer_assertion_file is None
            and settings.sasl_oauthbearer_assertion_private_key_file is None
        ):
            raise ConfigError(
                "an assertion is wanted: set sasl.oauthbearer.assertion.file, or "
                "sasl.oauthbearer.assertion.private.key.file to sign one with."
            )

    def create(self) -> str:
        """An assertion. Files are read anew, since they are replaced when keys are. Raises `AuthenticationError`."""
        path = self._settings.sasl_oauthbearer_assertion_file
        if path is not None:
            return _read(path).decode("ascii", errors="replace").strip()
        header, claims = self._parts(int(time.time()))
        content = ".".join(_base64(msgspec.json.encode(part)) for part in (header, claims))
        return f"{content}.{_base64(self._sign(content.encode()))}"

    def _parts(self, now_s: int) -> tuple[dict[str, Any], dict[str, Any]]:
        settings = self._settings
        named = {
            "aud": settings.sasl_oauthbearer_assertion_claim_aud,
            "iss": settings.sasl_oauthbearer_assertion_claim_iss,
            "sub": settings.sasl_oauthbearer_assertion_claim_sub,
        }
        claims: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
        header: dict[str, Any] = {}
        template = settings.sasl_oauthbearer_assertion_template_file
        if template is not None:
            try:
                parts = msgspec.json.decode(_read(template), type=dict[str, dict[str, Any]])
            except msgspec.DecodeError as error:
                raise AuthenticationError(
                    f"{template} is no template: {error}.", hint='It looks like {"header": {…}, "payload": {…}}.'
                ) from None
            header.update(parts.get("header", {}))
            claims.update(parts.get("payload", {}))
        header.update(alg=settings.sasl_oauthbearer_assertion_algorithm, typ="JWT")
        claims.update(
            iat=now_s,
            exp=now_s + settings.sasl_oauthbearer_assertion_claim_exp_seconds,
            nbf=now_s - settings.sasl_oauthbearer_assertion_claim_nbf_seconds,
        )
        if settings.sasl_oauthbearer_assertion_claim_jti_include:
            claims["jti"] = str(uuid.uuid4())
        return header, claims

    def _sign(self, content: bytes) -> bytes:
        settings = self._settings
        path = settings.sasl_oauthbearer_assertion_private_key_file
        assert path is not None
        passphrase = settings.sasl_oauthbearer_assertion_private_key_passphrase
        from ottla.client.security import signing

        try:
            key = signing.load_key(_read(path), None if passphrase is None else passphrase.value.encode())
        except (ValueError, TypeError) as error:
            raise AuthenticationError(
                f"{path} holds no private key in PEM that can be read: {error}.",
                hint="Check sasl.oauthbearer.assertion.private.key.passphrase.",
            ) from None
        try:
            signature: bytes = signing.sign(key, settings.sasl_oauthbearer_assertion_algorithm, content)
        except TypeError:
            raise AuthenticationError(
                f"the key in {path} does not fit {settings.sasl_oauthbearer_assertion_algorithm}.",
                hint="RS256 takes an RSA key, ES256 one of the curve P-256.",
            ) from None
        return signature


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise AuthenticationError(f"cannot read {path}: {error.strerror or error}.", hint="") from None


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
