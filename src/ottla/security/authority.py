"""A certificate authority of one's own, as small as it can be: for `ottla security init`, for tests.

The only module that makes certificates. Keys are on P-256 and come from the operating system's randomness; the time is
an argument. What is made is PEM: text that every Kafka client and broker reads, and PKCS12 truststores for older Java.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ottla.security.errors import SecurityConfigError

_HOST_NAME: Final = re.compile(r"(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_-]+)*")
_CLOCKS_DIFFER: Final = datetime.timedelta(hours=1)
"""Certificates begin so much earlier: clocks of other machines may be behind."""


class Identity(NamedTuple):
    """A certificate (with those that vouch for it, but for the authority's own) and its private key, as PEM."""

    certificate: str
    key: str

    def __repr__(self) -> str:
        return "Identity([hidden])"


def make_authority(name: str, *, now: datetime.datetime, days: int) -> Identity:
    """An authority, valid from now on for so many days. It signs certificates, but no further authorities."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name)
    certificate = (
        _builder(subject, subject, key, now, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _identity(certificate, key)


def issue(authority: Identity, name: str, hosts: Iterable[str] = (), *, now: datetime.datetime, days: int) -> Identity:
    """A certificate for a node (with its `hosts`: names and addresses that clients connect to) or, without, a client.

    It never outlives the authority. Raises SecurityConfigError when the authority cannot be used.
    """
    issuer, issuer_key = _load(authority)
    key = ec.generate_private_key(ec.SECP256R1())
    names = [_host(host) for host in dict.fromkeys(hosts)]
    uses = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if names:
        uses.insert(0, ExtendedKeyUsageOID.SERVER_AUTH)  # nodes are clients of each other
    builder = (
        _builder(_name(name), issuer.subject, key, now, days, not_after=issuer.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return _identity(builder.sign(issuer_key, hashes.SHA256()), key)


class Summary(NamedTuple):
    """What a certificate says of itself."""

    name: str
    hosts: tuple[str, ...]
    not_before: datetime.datetime
    not_after: datetime.datetime


def summary(certificate: str) -> Summary:
    """What the first certificate of a PEM text says. Raises SecurityConfigError."""
    found = _certificate(certificate)
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        hosts = tuple(str(one.value) for one in names)
    except x509.ExtensionNotFound:
        hosts = ()
    common = found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return Summary(
        str(common[0].value) if common else found.subject.rfc4514_string(),
        hosts,
        found.not_valid_before_utc,
        found.not_valid_after_utc,
    )


def is_issued_by(certificate: str, authority: str) -> bool:
    """Whether the first certificate of a PEM text is the authority's work. Raises SecurityConfigError."""
    try:
        _certificate(certificate).verify_directly_issued_by(_certificate(authority))
    except Exception:  # a wrong name, a wrong signature, another kind of key
        return False
    return True


def matches(identity: Identity) -> bool:
    """Whether key and certificate belong together. Raises SecurityConfigError."""
    certificate, key = _load(identity)
    return certificate.public_key() == key.public_key()


def truststore(authority: str, password: str) -> bytes:
    """The authority's certificate as a PKCS12 truststore, as Java wants it."""
    return pkcs12.serialize_java_truststore(
        [pkcs12.PKCS12Certificate(_certificate(authority), b"ottla-authority")],
        serialization.BestAvailableEncryption(password.encode()),
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
    days: int,
    *,
    not_after: datetime.datetime | None = None,
) -> x509.CertificateBuilder:
    end = now + datetime.timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER)
        .not_valid_after(end if not_after is None else min(end, not_after))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        name = host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        name = ""
    if _HOST_NAME.fullmatch(name) is None:
        raise SecurityConfigError("", f"{host!r} is neither the name nor the address of a host")
    return x509.DNSName(name)


def _identity(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Identity:
    return Identity(
        certificate.public_bytes(serialization.Encoding.PEM).decode(),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
    )


def _certificate(pem: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError:
        raise SecurityConfigError("", "there is no certificate (PEM) in it") from None


def _load(identity: Identity) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        key = serialization.load_pem_private_key(identity.key.encode(), None)
    except (ValueError, TypeError):
        raise SecurityConfigError("", "there is no private key (PEM, without a password) in it") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise SecurityConfigError("", "its key was not made by `ottla security init`: it is not on a curve")
    return _certificate(identity.certificate), key
