"""Kafka's `ssl.*` settings, as both sides of a connection need them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """One side of TLS connections. The names are those of the settings without `ssl.`; None is not set.

    `certificate_location` and `key_location` are librdkafka's: PEM files of their own for certificates and key.
    """

    keystore_location: str | None = None
    keystore_type: str | None = None
    keystore_password: str | None = field(default=None, repr=False)
    keystore_key: str | None = field(default=None, repr=False)
    keystore_certificate_chain: str | None = field(default=None, repr=False)
    key_password: str | None = field(default=None, repr=False)
    certificate_location: str | None = None
    key_location: str | None = None
    truststore_location: str | None = None
    truststore_type: str | None = None
    truststore_password: str | None = field(default=None, repr=False)
    truststore_certificates: str | None = field(default=None, repr=False)
    crl_location: str | None = None
    enabled_protocols: tuple[str, ...] = ("TLSv1.2", "TLSv1.3")
    cipher_suites: tuple[str, ...] = ()
    checks_host_names: bool = True
    """Whether the other side's certificate must be for the name that was connected to."""
    verifies: bool = True
    """Whether the other side's certificate is checked at all; a server's own choice is `client_auth`."""
    client_auth: str = "none"
    """Whether a server asks for certificates: none, requested or required."""

    @property
    def files(self) -> tuple[str, ...]:
        """The files that these settings name."""
        named = (
            self.keystore_location,
            self.certificate_location,
            self.key_location,
            self.truststore_location,
            self.crl_location,
        )
        return tuple(path for path in named if path and path != "probe")
