"""SASL SCRAM-SHA-256 and SCRAM-SHA-512 (RFC 5802, RFC 7677): the password is never sent, and the broker proves that
it knows it too.

Names and passwords are taken as UTF-8 without SASLprep, as Kafka's own clients and brokers do. With `tokenauth` the
user name is the id of a delegation token and the password its HMAC (KIP-48).
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode
from typing import Final

from ottla.security.errors import MechanismError
from ottla.security.scram_keys import HASHES, MIN_ITERATIONS, auth_message

_MAX_ITERATIONS: Final = 10_000_000
"""More would keep the client busy for long: a broker that asks for it is none."""

_NO_CHANNEL_BINDING: Final = "n,,"


class SaltedPasswords:
    """Salted passwords by salt and iterations: connections to the same cluster need not compute them again."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, bytes, int], bytes] = {}

    def find(self, hash_name: str, password: str, salt: bytes, iterations: int) -> bytes:
        """The salted password (`Hi` of RFC 5802)."""
        key = (hash_name, salt, iterations)
        found = self._known.get(key)
        if found is None:
            found = hashlib.pbkdf2_hmac(hash_name, password.encode(), salt, iterations)
            if len(self._known) >= 8:
                self._known.clear()
            self._known[key] = found
        return found


class Scram:
    """One exchange. `nonce` is printable, without commas, and random: handed in, so that a test can repeat it."""

    is_slow = True

    def __init__(
        self,
        mechanism: str,
        username: str,
        password: str,
        nonce: str,
        *,
        extensions: dict[str, str] | None = None,
        salted_passwords: SaltedPasswords | None = None,
    ) -> None:
        self._hash = HASHES[mechanism]
        self._password = password
        self._nonce = nonce
        self._salted_passwords = salted_passwords or SaltedPasswords()
        name = username.replace("=", "=3D").replace(",", "=2C")
        parts = [f"n={name}", f"r={nonce}", *(f"{key}={value}" for key, value in (extensions or {}).items())]
        self._first_bare = ",".join(parts)
        self._server_signature: bytes | None = None
        self._is_done = False

    def first_message(self) -> bytes:
        return (_NO_CHANNEL_BINDING + self._first_bare).encode()

    def respond(self, challenge: bytes) -> bytes | None:
        try:
            text = challenge.decode()
            fields = dict(field.split("=", 1) for field in text.split(","))
        except ValueError:
            raise _not_scram() from None
        if "e" in fields:
            raise MechanismError(f"the broker refused: {fields['e']}.")
        if self._server_signature is None:
            return self._prove(text, fields)
        if self._is_done:
            raise _not_scram()
        self._verify(fields)
        return None

    def _prove(self, server_first: str, fields: dict[str, str]) -> bytes:
        nonce = fields.get("r", "")
        try:
            salt, iterations = b64decode(fields["s"], validate=True), int(fields["i"])
        except (KeyError, ValueError):
            raise _not_scram() from None
        if not nonce.startswith(self._nonce) or nonce == self._nonce or "m" in fields or not salt:
            raise _not_scram()
        if not MIN_ITERATIONS <= iterations <= _MAX_ITERATIONS:
            raise MechanismError(
                f"the broker asks for {iterations} SCRAM iterations; {MIN_ITERATIONS} to {_MAX_ITERATIONS} are "
                "accepted.",
                hint="Set the password again, with more iterations.",
            )
        without_proof = f"c={b64encode(_NO_CHANNEL_BINDING.encode()).decode()},r={nonce}"
        signed = auth_message(self._first_bare, server_first, without_proof)
        salted = self._salted_passwords.find(self._hash, self._password, salt, iterations)
        client_key = self._hmac(salted, b"Client Key")
        stored_key = hashlib.new(self._hash, client_key).digest()
        signature = self._hmac(stored_key, signed)
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        self._server_signature = self._hmac(self._hmac(salted, b"Server Key"), signed)
        return f"{without_proof},p={b64encode(proof).decode()}".encode()

    def _verify(self, fields: dict[str, str]) -> None:
        self._is_done = True
        try:
            signature = b64decode(fields["v"], validate=True)
        except (KeyError, ValueError):
            raise _not_scram() from None
        assert self._server_signature is not None
        if not hmac.compare_digest(signature, self._server_signature):
            raise MechanismError(
                "the broker could not prove that it knows the password.",
                hint="Check that bootstrap.servers leads to your own brokers.",
            )

    def _hmac(self, key: bytes, message: bytes) -> bytes:
        return hmac.digest(key, message, self._hash)


def _not_scram() -> MechanismError:
    return MechanismError("the broker answered SCRAM with something that is not SCRAM.")
