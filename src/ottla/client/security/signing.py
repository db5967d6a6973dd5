"""Signatures of JWTs (RFC 7515); loading this module loads the `cryptography` package."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

_P256_BYTES = 32


def load_key(pem: bytes, passphrase: bytes | None) -> Any:
    """A private key; `ValueError` or `TypeError` when it cannot be read."""
    return load_pem_private_key(pem, passphrase)


def sign(key: Any, algorithm: str, content: bytes) -> bytes:
    """The signature for `RS256` or `ES256`; `TypeError` for a key of another kind."""
    if algorithm == "RS256" and isinstance(key, rsa.RSAPrivateKey):
        signature: bytes = key.sign(content, padding.PKCS1v15(), SHA256())
        return signature
    if algorithm == "ES256" and isinstance(key, ec.EllipticCurvePrivateKey) and key.key_size == 8 * _P256_BYTES:
        # JWS wants both numbers in full size, one after the other; cryptography gives DER.
        numbers = decode_dss_signature(key.sign(content, ec.ECDSA(SHA256())))
        return b"".join(number.to_bytes(_P256_BYTES, "big") for number in numbers)
    raise TypeError(algorithm)
