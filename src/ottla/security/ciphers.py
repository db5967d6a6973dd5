"""Names of cipher suites: Kafka's are Java's (IANA's), OpenSSL has its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

TLS13 = (
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_AES_128_CCM_SHA256",
    "TLS_AES_128_CCM_8_SHA256",
)
"""All suites of TLS 1.3 (RFC 8446)."""


class Ciphers(NamedTuple):
    """What a list of suites comes to."""

    tls12: str
    """For TLS 1.2, as OpenSSL's list; empty when none is named."""

    has_tls13: bool
    """Whether any suite of TLS 1.3 is named. Which ones cannot be chosen with Python's ssl; all are safe."""

    unknown: tuple[str, ...] = ()
    """What looks like a suite of TLS 1.3 and is none."""


def openssl_ciphers(suites: Iterable[str]) -> Ciphers:
    """Java's or OpenSSL's names, also several with colons in one item, as librdkafka takes them."""
    names = [name.strip() for item in suites for name in item.split(":") if name.strip()]
    tls13 = [name for name in names if name.startswith("TLS_") and "_WITH_" not in name]
    tls12 = [openssl_name(name) for name in names if name not in tls13]
    # OpenSSL's own words (HIGH, !aNULL, DEFAULT@SECLEVEL=2) say nothing about TLS 1.3.
    is_openssl = any("_WITH_" not in name for name in names if name not in tls13)
    unknown = tuple(name for name in tls13 if name not in TLS13)
    return Ciphers(":".join(tls12), bool(tls13) or is_openssl, unknown)


def openssl_name(name: str) -> str:
    """`TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256` → `ECDHE-RSA-AES128-GCM-SHA256`; OpenSSL's names as they are."""
    if "_WITH_" not in name:
        return name
    exchange, _, cipher = name.removeprefix("TLS_").removeprefix("SSL_").partition("_WITH_")
    for bits in ("128", "256"):
        cipher = cipher.replace(f"AES_{bits}", f"AES{bits}").replace(f"CAMELLIA_{bits}", f"CAMELLIA{bits}")
    cipher = cipher.replace("_CBC", "").replace("_POLY1305_SHA256", "_POLY1305")
    parts = [] if exchange == "RSA" else [exchange]
    return "-".join(part.replace("_", "-") for part in [*parts, cipher])
