"""Master keys: `encryption.key` says where one is, a `KeySource` wraps and unwraps with it."""

from __future__ import annotations

import binascii
import hashlib
import secrets
from base64 import b64decode
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Protocol

from ottla.schema.definition import SettingError

if TYPE_CHECKING:
    from ottla.schema.config import BrokerConfig

SETTING: Final = "encryption.key"
KEY_BYTES: Final = 32

FORMS: Final = "file:PATH, env:VARIABLE, vault:MOUNT/KEY or pkcs11:TOKEN/LABEL"


class KeySource(Protocol):
    """A master key. Both methods may wait for others, and raise `SettingError`, which never tells a secret."""

    @property
    def name(self) -> str:
        """Which key it is, for people and for the ring; the same for the same key, wherever it lies."""

    def wrap(self, key: bytes) -> bytes:
        """Encrypt a key-encryption key."""

    def unwrap(self, wrapped: bytes) -> bytes:
        """What was wrapped."""


class LocalKey:
    """A master key that this process knows."""

    __slots__ = ("_key", "name")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.name = f"local:{hashlib.sha256(b'ottla master key' + key).hexdigest()[:16]}"

    def wrap(self, key: bytes) -> bytes:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = secrets.token_bytes(12)
        return nonce + AESGCM(self._key).encrypt(nonce, key, b"ottla key")

    def unwrap(self, wrapped: bytes) -> bytes:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        try:
            return AESGCM(self._key).decrypt(wrapped[:12], wrapped[12:], b"ottla key")
        except (InvalidTag, ValueError):  # it is another key's, or not even as long as one has to be
            raise SettingError(SETTING, f"the ring of keys is damaged: what {self.name} wrapped is not there") from None


def source_of(config: BrokerConfig, environment: Mapping[str, str], setting: str = SETTING) -> KeySource:
    """The master key that a setting names. Reads files; raises `SettingError`."""
    text = config[setting]
    kind, separator, rest = text.partition(":")
    if not separator or not rest or kind not in ("file", "env", "vault", "pkcs11"):
        # The text is not repeated: somebody may have put the key itself there.
        raise SettingError(setting, f"{setting} says where the key is: {FORMS}; it is not the key itself")
    if kind == "vault":
        from ottla.server.security.encryption.vault import TransitKey

        return TransitKey.of(config, rest, setting)
    if kind == "pkcs11":
        from ottla.server.security.encryption.pkcs11 import TokenKey

        return TokenKey.of(config, rest, setting)
    if kind == "env":
        if rest not in environment:
            raise SettingError(setting, f"{setting}: there is no environment variable {rest}")
        return LocalKey(parse_key(environment[rest].encode(), f"{setting}: the variable {rest}", setting))
    try:
        with open(rest, "rb") as file:
            content = file.read(4096)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SettingError(setting, f"{setting}: cannot read the key file {rest}: {reason}") from None
    return LocalKey(parse_key(content, f"{setting}: the file {rest}", setting))


def parse_key(content: bytes, place: str, setting: str = SETTING) -> bytes:
    """32 bytes as they are, or in hexadecimal or base64 with a line end or none. Raises `SettingError`."""
    if len(content) == KEY_BYTES:
        return content
    text = content.strip()
    for decode in (bytes.fromhex, _from_base64):
        try:
            key = decode(text.decode("ascii"))
        except (ValueError, UnicodeDecodeError):
            continue
        if len(key) == KEY_BYTES:
            return key
    raise SettingError(
        setting, f"{place} does not hold a key: 32 bytes, raw, in base64 or hexadecimal (`ottla encryption new-key`)"
    )


def _from_base64(text: str) -> bytes:
    try:
        return b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except binascii.Error as error:
        raise ValueError from error
