"""Keys and certificates, from PEM (files or texts), PKCS12 and JKS.

The kind of a file is found out from its first bytes, as Java does for JKS and PKCS12; `ssl.keystore.type` and
`ssl.truststore.type` only have to agree. PKCS12 needs the `cryptography` package (`pip install ottla[keystores]`).
"""

from __future__ import annotations

import os
import tempfile
from base64 import encodebytes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ottla.client.errors import ConfigError
from ottla.client.security.jks import JksError, read_jks

if TYPE_CHECKING:
    from ottla.client.settings import CommonSettings


class KeyPair(NamedTuple):
    """The client's own key and certificates: paths of PEM files, or their text."""

    origin: str
    certificates_path: str | None = None
    key_path: str | None = None
    pem: str | None = None
    password: str | None = None

    @contextmanager
    def files(self) -> Iterator[tuple[str, str | None]]:
        """Paths of the certificates and the key, which is what OpenSSL takes; texts are in a file for that moment."""
        if self.pem is None:
            assert self.certificates_path is not None
            yield self.certificates_path, self.key_path
            return
        descriptor, path = tempfile.mkstemp(prefix="ottla-", suffix=".pem")  # Readable for its owner only.
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(self.pem)
            yield path, None
        finally:
            os.unlink(path)


class Trusted(NamedTuple):
    """Certificates that brokers are checked against."""

    origin: str
    pem: str | None = None
    directory: str | None = None


class Store(NamedTuple):
    """What a PKCS12 or JKS file holds."""

    key_pem: str | None
    chain_pem: str
    trusted_pem: str


def read_trusted(settings: CommonSettings) -> Trusted | None:
    """What `ssl.truststore.*` says; None for the system's own store."""
    inline, path = settings.ssl_truststore_certificates, settings.ssl_truststore_location
    if inline is not None:
        if path is not None:
            raise ConfigError("ssl.truststore.certificates and ssl.truststore.location are both set. Leave one out.")
        return Trusted("ssl.truststore.certificates", pem=_checked_pem("ssl.truststore.certificates", inline.value))
    if path is None or path == "probe":  # librdkafka's word for the system's store
        return None
    if os.path.isdir(path):
        return Trusted(f"ssl.truststore.location ({path})", directory=path)
    data = _read("ssl.truststore.location", path)
    origin = f"ssl.truststore.location ({path})"
    if _kind(data, settings.ssl_truststore_type, "ssl.truststore.type", path) == "PEM":
        return Trusted(origin, pem=_checked_pem(origin, data.decode("utf-8", errors="replace")))
    password = settings.ssl_truststore_password
    store = _read_store(data, None if password is None else password.value, None, origin, "ssl.truststore.password")
    pem = store.trusted_pem or store.chain_pem
    if not pem:
        raise ConfigError(f"{origin} holds no certificates.")
    return Trusted(origin, pem=pem)


def read_key_pair(settings: CommonSettings) -> KeyPair | None:
    """The client's own key and certificates (mTLS), or None."""
    key_password = None if settings.ssl_key_password is None else settings.ssl_key_password.value
    key, chain, path = (
        settings.ssl_keystore_key,
        settings.ssl_keystore_certificate_chain,
        settings.ssl_keystore_location,
    )
    if settings.ssl_certificate_location is not None:
        origin = f"ssl.certificate.location ({settings.ssl_certificate_location})"
        inline_key = None if key is None else key.value
        if inline_key is not None:
            certificates = _read("ssl.certificate.location", settings.ssl_certificate_location)
            return KeyPair(origin, pem=f"{inline_key}\n{certificates.decode()}", password=key_password)
        return KeyPair(
            origin, settings.ssl_certificate_location, settings.ssl_key_location or None, password=key_password
        )
    if key is not None or chain is not None:
        if key is None or chain is None:
            missing = "ssl.keystore.key" if key is None else "ssl.keystore.certificate.chain"
            raise ConfigError(f"{missing} is missing: a key and its certificates belong together.")
        if path is not None:
            raise ConfigError("ssl.keystore.key and ssl.keystore.location are both set. Leave one out.")
        return KeyPair("ssl.keystore.key", pem=f"{key.value}\n{chain.value}\n", password=key_password)
    if path is None:
        return None
    data = _read("ssl.keystore.location", path)
    origin = f"ssl.keystore.location ({path})"
    if _kind(data, settings.ssl_keystore_type, "ssl.keystore.type", path) == "PEM":
        return KeyPair(origin, path, password=key_password)
    password = settings.ssl_keystore_password
    store = _read_store(
        data, None if password is None else password.value, key_password, origin, "ssl.keystore.password"
    )
    if store.key_pem is None:
        raise ConfigError(f"{origin} holds no private key.")
    return KeyPair(origin, pem=store.key_pem + store.chain_pem)


def _read(setting: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{setting}: cannot read {path}: {error.strerror or error}.") from None


def _kind(data: bytes, declared: str | None, setting: str, path: str) -> str:
    if data.startswith(b"\xfe\xed\xfe\xed"):
        found = "JKS"
    elif b"-----BEGIN " in data:
        found = "PEM"
    elif data.startswith(b"\x30"):
        found = "PKCS12"
    else:
        raise ConfigError(f"{path} is neither PEM nor PKCS12 nor JKS. Convert it, or check the path.")
    if declared is not None and (declared == "PEM") != (found == "PEM"):
        raise ConfigError(f"{path} is {found}, but {setting} says {declared}. Set it to {found}, or leave it out.")
    return found


def _checked_pem(origin: str, text: str) -> str:
    if "-----BEGIN CERTIFICATE-----" not in text and "-----BEGIN TRUSTED CERTIFICATE-----" not in text:
        raise ConfigError(f"{origin} holds no certificate: -----BEGIN CERTIFICATE----- is missing.")
    # What openssl prints around certificates is no PEM, and Python takes ASCII only.
    return text.encode("ascii", errors="ignore").decode()


def _read_store(
    data: bytes, password: str | None, key_password: str | None, origin: str, password_setting: str
) -> Store:
    if data.startswith(b"\x30"):
        return _read_pkcs12(data, password, origin, password_setting)
    try:
        entries = read_jks(data, password, key_password or password)
    except JksError as error:
        hint = f" Check {password_setting}." if error.is_about_password else ""
        raise ConfigError(f"{origin} cannot be read: {error}.{hint}") from None
    key = None if entries.key is None else to_pem("PRIVATE KEY", entries.key)
    return Store(key, _certificates(entries.chain), _certificates(entries.trusted))


def _read_pkcs12(data: bytes, password: str | None, origin: str, password_setting: str) -> Store:
    try:
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs12
    except ImportError:
        raise ConfigError(
            f"{origin} is PKCS12, which needs the cryptography package: pip install 'ottla[keystores]', or use PEM."
        ) from None
    try:
        store = pkcs12.load_pkcs12(data, None if password is None else password.encode())
    except ValueError:
        raise ConfigError(
            f"{origin} cannot be read: it is damaged or has another password. Check {password_setting}."
        ) from None
    key = None
    if store.key is not None:
        key = store.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    own = [] if store.cert is None else [store.cert.certificate]
    others = [entry.certificate for entry in store.additional_certs]
    pem = [certificate.public_bytes(Encoding.PEM).decode() for certificate in own + others]
    return Store(key, "".join(pem), "" if key is not None else "".join(pem))


def _certificates(encoded: list[bytes]) -> str:
    return "".join(to_pem("CERTIFICATE", each) for each in encoded)


def to_pem(label: str, encoded: bytes) -> str:
    """DER as PEM."""
    return f"-----BEGIN {label}-----\n{encodebytes(encoded).decode()}-----END {label}-----\n"
