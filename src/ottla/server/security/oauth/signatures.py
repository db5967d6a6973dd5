"""Public keys (JWKS, RFC 7517) and signatures of tokens (JWS, RFC 7515), by the `joserfc` package.

Signatures are made with a private key that only the issuer has: RSA and ECDSA. Others are not taken, whatever a token's
header says: `none` proves nothing, and with HS256 whoever knows the public key could sign.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey
from joserfc.jws import JWSRegistry

from ottla.server.security.oauth.claims import TokenRefusedError

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")

_CURVES: Final = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}
_PRIVATE: Final = frozenset(("d", "p", "q", "dp", "dq", "qi", "oth", "k"))
_SHORTEST_RSA_BITS: Final = 2048
_MOST_KEYS: Final = 200
_MOST_TRIED: Final = 8
"""Keys that a signature is tried with, when the token does not name one."""
_LONGEST_KEY_ID: Final = 1000
"""As in Kafka."""


class _Registry(JWSRegistry):
    """The library's bounds, for headers that carry a certificate's fingerprints and for RSA keys of 8192 bits."""

    max_header_length = 4096
    max_payload_length = 64 * 1024
    max_signature_length = 1500


_REGISTRY: Final = _Registry(algorithms=list(ALGORITHMS), strict_check_header=False)


@dataclass(frozen=True, slots=True)
class SignedToken:
    """A token that was taken apart; nothing of it is to be believed before `claims` has returned."""

    key_id: str | None
    algorithm: str
    _signed: Any

    @classmethod
    def parse(cls, text: str) -> SignedToken:
        """Raises `TokenRefusedError` for what is no signed token, or signed in a way that is not taken."""
        try:
            signed = jws.extract_compact(text.encode("ascii"), registry=_REGISTRY)
            header = signed.headers()
        except (JoseError, ValueError, TypeError, RecursionError) as error:
            raise TokenRefusedError(f"it is no signed token ({type(error).__name__})") from None
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm not in ALGORITHMS:
            named = algorithm if isinstance(algorithm, str) and algorithm.isalnum() and len(algorithm) < 20 else "?"
            raise TokenRefusedError(f"a token signed with {named} is not taken")
        if "crit" in header or "b64" in header:
            raise TokenRefusedError("the token has a header that must be understood and is not")
        if key_id is not None and (not isinstance(key_id, str) or len(key_id) > _LONGEST_KEY_ID):
            raise TokenRefusedError("the token names a key in a way that is not taken")
        return cls(key_id, algorithm, signed)

    def claims(self, keys: PublicKeys) -> dict[str, Any]:
        """The claims, when one of the keys has signed them. Raises `TokenRefusedError`."""
        for key in keys.for_token(self)[:_MOST_TRIED]:
            try:
                is_valid = jws.validate_compact(self._signed, key, registry=_REGISTRY)
            except (JoseError, ValueError, TypeError):
                continue
            if is_valid:
                return _decode(self._signed.payload)
        raise TokenRefusedError("the signature is not of a key of the issuer")


class PublicKeys:
    """The keys of a JWKS document that signatures can be checked with."""

    def __init__(self, document: bytes) -> None:
        """Keys of other kinds are left out, as RFC 7517 wants it. Raises `ValueError` (one line) without any key."""
        try:
            found = msgspec.json.decode(document)
        except (msgspec.DecodeError, RecursionError):
            raise ValueError("it is no JSON") from None
        entries = found.get("keys") if isinstance(found, dict) else None
        if not isinstance(entries, list):
            raise ValueError('it is no JWKS document: {"keys": […]}')
        self._keys = [key for entry in entries[:_MOST_KEYS] if (key := _public_key(entry)) is not None]
        if not self._keys:
            raise ValueError("it has no RSA key (of 2048 bits or more) and no EC key for signatures")

    def __len__(self) -> int:
        return len(self._keys)

    def for_token(self, token: SignedToken) -> list[Any]:
        """The keys that may have signed a token: those of the id that it names, or else all that fit its algorithm."""
        return [
            key
            for key in self._keys
            if (token.key_id is None or key.get("kid") == token.key_id) and _fits(key, token.algorithm)
        ]


def _public_key(entry: object) -> Any | None:
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
        return None
    operations = entry.get("key_ops")
    if isinstance(operations, list) and "verify" not in operations:
        return None
    # What is said of certificates and operations is not used; private parts do not belong here.
    kept = {name: value for name, value in entry.items() if name not in _PRIVATE and name in _USED}
    try:
        if kept.get("kty") == "RSA":
            if len(kept["n"]) * 6 < _SHORTEST_RSA_BITS:
                return None
            rsa = RSAKey.import_key(kept)
            return rsa if rsa.raw_value.key_size >= _SHORTEST_RSA_BITS else None
        if kept.get("kty") == "EC":
            return ECKey.import_key(kept)
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    return None


_USED: Final = frozenset(("kty", "kid", "alg", "n", "e", "crv", "x", "y"))


def _fits(key: Any, algorithm: str) -> bool:
    if key.get("alg", algorithm) != algorithm:
        return False
    if isinstance(key, ECKey):
        return key.curve_name == _CURVES.get(algorithm)
    return algorithm not in _CURVES


def _decode(payload: bytes) -> dict[str, Any]:
    try:
        claims = msgspec.json.decode(payload)
    except (msgspec.DecodeError, RecursionError):
        claims = None
    if not isinstance(claims, dict):
        raise TokenRefusedError("the token has no claims")
    return claims
