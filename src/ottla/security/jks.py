"""Java's own key store format, JKS: what `keytool -storetype JKS` writes.

A file is a magic number, a version, entries, and a SHA-1 digest over the password and everything before. Private keys
are masked with a key stream of SHA-1 digests: a format that hides little from who has time, which is why newer stores
are PKCS12. Reading it takes nothing but hashlib, so there is no dependency for it.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from typing import Final, NamedTuple

_MAGIC: Final = 0xFEEDFEED
_KEY, _CERTIFICATE = 1, 2
_DIGEST_SIZE: Final = 20
_KEY_PROTECTION: Final = bytes.fromhex("060a2b060104012a02110101")
"""The object identifier 1.3.6.1.4.1.42.2.17.1.1, which Sun gave the masking of keys."""


class JksError(Exception):
    """The file cannot be read; `is_about_password` when another password may help."""

    def __init__(self, reason: str, *, is_about_password: bool = False) -> None:
        super().__init__(reason)
        self.is_about_password = is_about_password


class JksEntries(NamedTuple):
    """The first private key (PKCS8) with its certificates, and all trusted certificates, as DER."""

    key: bytes | None
    chain: list[bytes]
    trusted: list[bytes]


def read_jks(data: bytes, password: str | None, key_password: str | None) -> JksEntries:
    """The entries of a store. Without a password its digest is not checked, and keys cannot be had."""
    if password is not None:
        seen = hashlib.sha1(_utf16(password) + b"Mighty Aphrodite" + data[:-_DIGEST_SIZE]).digest()
        if not hmac.compare_digest(seen, data[-_DIGEST_SIZE:]):
            raise JksError("it is damaged or has another password", is_about_password=True)
    try:
        return _Reader(data[:-_DIGEST_SIZE]).entries(key_password)
    except (struct.error, IndexError, UnicodeDecodeError):
        raise JksError("it is damaged") from None


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def entries(self, key_password: str | None) -> JksEntries:
        magic, version, number = self._int(), self._int(), self._int()
        if magic != _MAGIC or version not in (1, 2):
            raise JksError("it is no JKS store of a known version")
        key: bytes | None = None
        chain: list[bytes] = []
        trusted: list[bytes] = []
        for _ in range(number):
            tag = self._int()
            self._bytes(self._short())  # its alias
            self._bytes(8)  # when it was made
            if tag == _KEY:
                masked = self._bytes(self._int())
                certificates = [self._certificate(version) for _ in range(self._int())]
                if key is None:
                    key, chain = _unmask(masked, key_password), certificates
            elif tag == _CERTIFICATE:
                trusted.append(self._certificate(version))
            else:
                raise JksError("it has an entry that is neither a private key nor a certificate")
        return JksEntries(key, chain, trusted)

    def _certificate(self, version: int) -> bytes:
        if version == 2:
            self._bytes(self._short())  # its type, X.509
        return self._bytes(self._int())

    def _int(self) -> int:
        return int(struct.unpack(">I", self._bytes(4))[0])

    def _short(self) -> int:
        return int(struct.unpack(">H", self._bytes(2))[0])

    def _bytes(self, size: int) -> bytes:
        end = self._position + size
        if end > len(self._data):
            raise IndexError(end)
        found = self._data[self._position : end]
        self._position = end
        return found


def _unmask(info: bytes, password: str | None) -> bytes:
    """The PKCS8 key in an EncryptedPrivateKeyInfo."""
    if password is None:
        raise JksError("a password is needed for its key", is_about_password=True)
    algorithm, rest = _der(_der(info)[0])
    if _KEY_PROTECTION not in algorithm:
        raise JksError("its key is protected in a way that is not known")
    masked, _ = _der(rest)
    salt, body, check = masked[:_DIGEST_SIZE], masked[_DIGEST_SIZE:-_DIGEST_SIZE], masked[-_DIGEST_SIZE:]
    secret = _utf16(password)
    stream = bytearray()
    digest = salt
    while len(stream) < len(body):
        digest = hashlib.sha1(secret + digest).digest()
        stream += digest
    key = bytes(a ^ b for a, b in zip(body, stream, strict=False))
    if not hmac.compare_digest(hashlib.sha1(secret + key).digest(), check):
        raise JksError("its key has another password; set ssl.key.password", is_about_password=False)
    return key


def _der(data: bytes) -> tuple[bytes, bytes]:
    """The content of the DER value that `data` begins with, and what follows it."""
    size, start = data[1], 2
    if size & 0x80:
        start += size & 0x7F
        size = int.from_bytes(data[2:start], "big")
    if start + size > len(data):
        raise IndexError(size)
    return data[start : start + size], data[start + size :]


def _utf16(password: str) -> bytes:
    return password.encode("utf-16-be")
