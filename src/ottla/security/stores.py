"""Keys and certificates, from PEM (files or texts), PKCS12 and JKS.

The kind of a file is found out from its first bytes, as Java does for JKS and PKCS12; `ssl.keystore.type` and
`ssl.truststore.type` only have to agree.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from base64 import encodebytes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ottla.security.errors import SecurityConfigError
from ottla.security.jks import JksError, read_jks
from ottla.security.settings import TlsSettings

_TYPES = ("JKS", "PKCS12", "PEM")


class KeyPair(NamedTuple):
    """One's own key and certificates: paths of PEM files, or their text."""

    origin: str
    setting: str
    certificates_path: str | None = None
    key_path: str | None = None
    pem: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        return f"KeyPair({self.origin!r})"

    @contextmanager
    def files(self) -> Iterator[tuple[str, str | None]]:
        """Paths of the certificates and the key, which is what OpenSSL takes; texts are in a file for that moment."""
        if self.pem is None:
            assert self.certificates_path is not None
            yield self.certificates_path, self.key_path
            return
        with _file_of(self.pem.encode("ascii", errors="ignore")) as path:
            yield path, None


@contextmanager
def _file_of(data: bytes) -> Iterator[str]:
    """A file with this content that only we can read: in memory where the system has such files."""
    if hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"):
        descriptor = os.memfd_create("ottla", os.MFD_CLOEXEC)
        try:
            os.fchmod(descriptor, 0o600)
            with os.fdopen(os.dup(descriptor), "wb") as file:
                file.write(data)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
        return
    descriptor, path = tempfile.mkstemp(prefix="ottla-", suffix=".pem")  # Readable for its owner only.
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        yield path
    finally:
        os.unlink(path)


class Trusted(NamedTuple):
    """Certificates that the other side is checked against."""

    origin: str
    setting: str
    pem: str | None = None
    directory: str | None = None


class Store(NamedTuple):
    """What a PKCS12 or JKS file holds."""

    key_pem: str | None
    chain_pem: str
    trusted_pem: str

    def __repr__(self) -> str:
        return f"Store({'a key' if self.key_pem else 'no key'})"


def read_trusted(settings: TlsSettings) -> Trusted | None:
    """What `ssl.truststore.*` says; None for the system's own store. Raises SecurityConfigError."""
    inline, path = settings.truststore_certificates, settings.truststore_location
    if inline is not None:
        setting = "ssl.truststore.certificates"
        if path is not None:
            raise SecurityConfigError(
                setting, "ssl.truststore.certificates and ssl.truststore.location are both set. Leave one out."
            )
        return Trusted(setting, setting, pem=_checked_pem(setting, setting, inline))
    if path is None or path == "probe":  # librdkafka's word for the system's store
        return None
    setting = "ssl.truststore.location"
    origin = f"{setting} ({path})"
    if os.path.isdir(path):
        return Trusted(origin, setting, directory=path)
    data = _read(setting, path)
    if _kind(data, settings.truststore_type, setting, "ssl.truststore.type", path) == "PEM":
        return Trusted(origin, setting, pem=_checked_pem(setting, origin, data.decode("utf-8", errors="replace")))
    store = _read_store(data, settings.truststore_password, None, origin, "ssl.truststore.password")
    pem = store.trusted_pem or store.chain_pem
    if not pem:
        raise SecurityConfigError(setting, f"{origin} holds no certificates.")
    return Trusted(origin, setting, pem=pem)


def read_key_pair(settings: TlsSettings) -> KeyPair | None:
    """One's own key and certificates, or None. Raises SecurityConfigError."""
    key, chain, path = settings.keystore_key, settings.keystore_certificate_chain, settings.keystore_location
    password = settings.key_password
    if settings.certificate_location is not None:
        setting = "ssl.certificate.location"
        origin = f"{setting} ({settings.certificate_location})"
        if key is not None:
            certificates = _read(setting, settings.certificate_location).decode("utf-8", errors="replace")
            return KeyPair(origin, setting, pem=f"{key}\n{certificates}", password=password)
        return KeyPair(origin, setting, settings.certificate_location, settings.key_location or None, password=password)
    if key is not None or chain is not None:
        setting = "ssl.keystore.key"
        if key is None or chain is None:
            missing = setting if key is None else "ssl.keystore.certificate.chain"
            raise SecurityConfigError(missing, f"{missing} is missing: a key and its certificates belong together.")
        if path is not None:
            raise SecurityConfigError(
                setting, "ssl.keystore.key and ssl.keystore.location are both set. Leave one out."
            )
        return KeyPair(setting, setting, pem=f"{key}\n{chain}\n", password=password)
    if path is None:
        return None
    setting = "ssl.keystore.location"
    data = _read(setting, path)
    origin = f"{setting} ({path})"
    if _kind(data, settings.keystore_type, setting, "ssl.keystore.type", path) == "PEM":
        return KeyPair(origin, setting, path, password=password)
    store = _read_store(data, settings.keystore_password, password, origin, "ssl.keystore.password")
    if store.key_pem is None:
        raise SecurityConfigError(setting, f"{origin} holds no private key.")
    return KeyPair(origin, setting, pem=store.key_pem + store.chain_pem)


def _read(setting: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise SecurityConfigError(setting, f"{setting}: cannot read {path}: {error.strerror or error}.") from None


def _kind(data: bytes, declared: str | None, setting: str, type_setting: str, path: str) -> str:
    if data.startswith(b"\xfe\xed\xfe\xed"):
        found = "JKS"
    elif b"-----BEGIN " in data:
        found = "PEM"
    elif data.startswith(b"\x30"):
        found = "PKCS12"
    else:
        raise SecurityConfigError(setting, f"{path} is neither PEM nor PKCS12 nor JKS. Convert it, or check the path.")
    if declared is not None and declared.upper() not in _TYPES:
        raise SecurityConfigError(type_setting, f"{type_setting}: there is no {declared}, but {', '.join(_TYPES)}.")
    if declared is not None and (declared.upper() == "PEM") != (found == "PEM"):
        raise SecurityConfigError(
            type_setting, f"{path} is {found}, but {type_setting} says {declared}. Set it to {found}, or leave it out."
        )
    return found


def _checked_pem(setting: str, origin: str, text: str) -> str:
    if "-----BEGIN CERTIFICATE-----" not in text and "-----BEGIN TRUSTED CERTIFICATE-----" not in text:
        raise SecurityConfigError(setting, f"{origin} holds no certificate: -----BEGIN CERTIFICATE----- is missing.")
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
        raise SecurityConfigError(password_setting, f"{origin} cannot be read: {error}.{hint}") from None
    key = None if entries.key is None else to_pem("PRIVATE KEY", entries.key)
    return Store(key, _certificates(entries.chain), _certificates(entries.trusted))


def _read_pkcs12(data: bytes, password: str | None, origin: str, password_setting: str) -> Store:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs12

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of stores in BER, which are as good, and of damaged ones
            store = pkcs12.load_pkcs12(data, None if password is None else password.encode())
    except ValueError:
        reason = "it needs a password. Set" if password is None else "it is damaged or has another password. Check"
        raise SecurityConfigError(password_setting, f"{origin} cannot be read: {reason} {password_setting}.") from None
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
