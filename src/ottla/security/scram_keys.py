"""The arithmetic of SCRAM (RFC 5802, RFC 7677): what both sides, and all who set passwords, compute.

Names and passwords are taken as UTF-8 without SASLprep, as Kafka's own clients and brokers do.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final, NamedTuple

HASHES: Final = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}
MECHANISM_TYPES: Final = {"SCRAM-SHA-256": 1, "SCRAM-SHA-512": 2}
"""The numbers of mechanisms in requests and metadata records."""
MECHANISM_NAMES: Final = {number: name for name, number in MECHANISM_TYPES.items()}
MIN_ITERATIONS: Final = 4096
MAX_STORED_ITERATIONS: Final = 16384
"""Kafka's bound for what is stored: a client has to do this work at every login."""


class StoredKeys(NamedTuple):
    """What a server keeps of a salted password."""

    stored_key: bytes
    server_key: bytes

    def __repr__(self) -> str:
        return "StoredKeys([hidden])"


def salted_password(mechanism: str, password: str, salt: bytes, iterations: int) -> bytes:
    """`Hi` of RFC 5802: a millisecond and more, by design."""
    return hashlib.pbkdf2_hmac(HASHES[mechanism], password.encode(), salt, iterations)


def stored_keys(mechanism: str, salted: bytes) -> StoredKeys:
    """What is kept of a salted password."""
    name = HASHES[mechanism]
    client_key = hmac.digest(salted, b"Client Key", name)
    return StoredKeys(hashlib.new(name, client_key).digest(), hmac.digest(salted, b"Server Key", name))


def auth_message(client_first_bare: str, server_first: str, client_final_without_proof: str) -> bytes:
    """What both sides sign."""
    return f"{client_first_bare},{server_first},{client_final_without_proof}".encode()


def is_proof(mechanism: str, stored_key: bytes, signed: bytes, proof: bytes) -> bool:
    """Whether `proof` shows that the client knows the password behind `stored_key`."""
    name = HASHES[mechanism]
    signature = hmac.digest(stored_key, signed, name)
    if len(proof) != len(signature):
        return False
    client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
    return hmac.compare_digest(hashlib.new(name, client_key).digest(), stored_key)


def server_signature(mechanism: str, server_key: bytes, signed: bytes) -> bytes:
    """What proves to the client that the server knows its password."""
    return hmac.digest(server_key, signed, HASHES[mechanism])
