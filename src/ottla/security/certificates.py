"""What a certificate says of its owner: its subject, the names it is for, and until when."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from ottla.security.errors import SecurityConfigError
from ottla.security.stores import KeyPair

if TYPE_CHECKING:
    from datetime import datetime

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


class Leaf(NamedTuple):
    """The certificate of a key: `names` are all its subject alternative names, `hosts` those that are DNS names."""

    subject: str
    names: frozenset[str]
    hosts: tuple[str, ...]
    not_before: datetime
    not_after: datetime


def leaf_of(pair: KeyPair) -> Leaf:
    """The first certificate of a key pair. Raises SecurityConfigError when it cannot be read."""
    from cryptography import x509
    from cryptography.x509 import DNSName, ExtensionNotFound, SubjectAlternativeName

    text = pair.pem
    if text is None:
        assert pair.certificates_path is not None
        try:
            with open(pair.certificates_path, encoding="ascii", errors="ignore") as file:
                text = file.read()
        except OSError as error:
            raise SecurityConfigError(pair.setting, f"{pair.origin} cannot be read: {error.strerror}.") from None
    found = _CERTIFICATE.search(text)
    if found is None:
        raise SecurityConfigError(pair.setting, f"{pair.origin} holds no certificate.")
    try:
        certificate = x509.load_pem_x509_certificate(found[0].encode())
        try:
            alternative = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
        except ExtensionNotFound:
            alternative = None
        subject = certificate.subject.rfc4514_string()
    except ValueError as error:
        raise SecurityConfigError(pair.setting, f"{pair.origin}: its certificate cannot be read: {error}.") from None
    names = (
        frozenset() if alternative is None else frozenset(f"{type(each).__name__}:{each.value}" for each in alternative)
    )
    hosts = [] if alternative is None else alternative.get_values_for_type(DNSName)
    times = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return Leaf(subject, names, tuple(host.lower() for host in hosts), *times)


def is_for(hosts: tuple[str, ...], name: str) -> bool:
    """Whether a certificate for these DNS names is one for this name; a `*` stands for one whole label in front."""
    name = name.lower().rstrip(".")
    return name in hosts or f"*.{name.partition('.')[2]}" in hosts
