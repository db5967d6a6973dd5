"""What is secret about delegation tokens (KIP-48): their HMACs, and the credentials to log in with.

A token's HMAC is made of its id and `delegation.token.secret.key`, which all nodes of a cluster share; the metadata log
has neither. Who knows the HMAC may renew the token and log in: SCRAM with the token's id as user and the HMAC, in
base64, as password.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol

from ottla.server.security.sasl.mechanism import TokenCredential

ITERATIONS: Final = 4096
"""The fewest that Kafka's clients take: an HMAC cannot be guessed, however fast somebody tries."""

_HASHES: Final = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}
_SPARE: Final = 64


class Token(Protocol):
    """As much of `ottla.server.metadata.image.DelegationTokenImage` as is needed here."""

    @property
    def owner(self) -> str:
        """`Type:name`."""

    @property
    def expiration_timestamp_ms(self) -> int:
        """Wall clock."""

    @property
    def groups(self) -> tuple[str, ...]:
        """Of the owner."""


class Credential(NamedTuple):
    """A SCRAM credential, as the server keeps it (RFC 5802)."""

    salt: bytes
    stored_key: bytes
    server_key: bytes
    iterations: int

    def __repr__(self) -> str:
        return "Credential([hidden])"


def token_hmac(secret_key: str, token_id: str) -> bytes:
    """The HMAC of a token, 64 bytes."""
    return hmac.digest(secret_key.encode(), token_id.encode(), "sha512")


class TokenIndex:
    """Which token an HMAC is of. Hashes of HMACs are looked up: how long that takes tells nothing about an HMAC."""

    def __init__(self, secret_key: str) -> None:
        self._secret_key = secret_key
        self._tokens: Mapping[str, object] = {}
        self._hashes: dict[str, bytes] = {}
        self._ids: dict[bytes, str] = {}

    def find(self, tokens: Mapping[str, object], given: bytes) -> str | None:
        """The id of the token, None when there is none with this HMAC."""
        if tokens is not self._tokens:
            self._follow(tokens)
        return self._ids.get(hashlib.sha256(given).digest())

    def _follow(self, tokens: Mapping[str, object]) -> None:
        known = self._hashes
        self._hashes = {token_id: known.get(token_id) or self._hash(token_id) for token_id in tokens}
        self._ids = {digest: token_id for token_id, digest in self._hashes.items()}
        self._tokens = tokens

    def _hash(self, token_id: str) -> bytes:
        return hashlib.sha256(token_hmac(self._secret_key, token_id)).digest()


class TokenCredentials:
    """SCRAM credentials of tokens; a first login with a token computes them, later ones find them.

    Salts are derived as well: a credential is the same on all nodes, and nothing has to be stored.
    """

    def __init__(self, secret_key: str) -> None:
        self._secret_key = secret_key
        self._known: dict[tuple[str, str], Credential] = {}

    def find(self, tokens: Mapping[str, Token], mechanism: str, token_id: str, now_ms: int) -> TokenCredential | None:
        """Who logs in with this token until when; None for one that is unknown or expired at `now_ms`, and always
        where there is no secret: everybody could compute HMACs then."""
        token = tokens.get(token_id)
        if token is None or token.expiration_timestamp_ms <= now_ms or mechanism not in _HASHES or not self._secret_key:
            return None
        key = mechanism, token_id
        credential = self._known.get(key)
        if credential is None:
            if len(self._known) > 2 * len(tokens) + _SPARE:
                self._known = {one: kept for one, kept in self._known.items() if one[1] in tokens}
            credential = self._known[key] = self._computed(_HASHES[mechanism], token_id)
        return TokenCredential(token.owner, token.expiration_timestamp_ms, credential, token.groups)

    def _computed(self, hash_name: str, token_id: str) -> Credential:
        secret = token_hmac(self._secret_key, token_id)
        salt = hmac.digest(secret, f"salt of {hash_name}".encode(), hash_name)
        salted = hashlib.pbkdf2_hmac(hash_name, b64encode(secret), salt, ITERATIONS)
        client_key = hmac.digest(salted, b"Client Key", hash_name)
        return Credential(
            salt,
            hashlib.new(hash_name, client_key).digest(),
            hmac.digest(salted, b"Server Key", hash_name),
            ITERATIONS,
        )
