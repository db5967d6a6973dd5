"""The SSLContext of a client: `ottla.security.tls` with the client's settings and errors."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from ottla.client.errors import AuthenticationError, ConfigError
from ottla.security import stores
from ottla.security.errors import SecurityConfigError
from ottla.security.settings import TlsSettings
from ottla.security.tls import client_context

if TYPE_CHECKING:
    from ottla.client.settings import CommonSettings, Password


def make_ssl_context(settings: CommonSettings) -> ssl.SSLContext:
    """The context for all connections of a client.

    Raises `ConfigError` that names the setting or file that cannot be used, and what to do.
    """
    own = settings.ssl_engine_factory_class
    if own is not None:
        made = own if isinstance(own, ssl.SSLContext) or not callable(own) else own(settings)
        if not isinstance(made, ssl.SSLContext):
            raise ConfigError(f"ssl.engine.factory.class must be or return an ssl.SSLContext, not {made!r}.")
        return made
    try:
        return client_context(tls_settings(settings))
    except SecurityConfigError as error:
        raise ConfigError(error.message) from None


def read_trusted(settings: CommonSettings) -> stores.Trusted | None:
    """What `ssl.truststore.*` says; None for the system's own store. Raises `ConfigError`."""
    try:
        return stores.read_trusted(tls_settings(settings))
    except SecurityConfigError as error:
        raise ConfigError(error.message) from None


def tls_settings(settings: CommonSettings) -> TlsSettings:
    """The `ssl.*` settings of a client."""
    return TlsSettings(
        keystore_location=settings.ssl_keystore_location,
        keystore_type=settings.ssl_keystore_type,
        keystore_password=_clear(settings.ssl_keystore_password),
        keystore_key=_clear(settings.ssl_keystore_key),
        keystore_certificate_chain=_clear(settings.ssl_keystore_certificate_chain),
        key_password=_clear(settings.ssl_key_password),
        certificate_location=settings.ssl_certificate_location,
        key_location=settings.ssl_key_location,
        truststore_location=settings.ssl_truststore_location,
        truststore_type=settings.ssl_truststore_type,
        truststore_password=_clear(settings.ssl_truststore_password),
        truststore_certificates=_clear(settings.ssl_truststore_certificates),
        crl_location=settings.ssl_crl_location,
        enabled_protocols=tuple(settings.ssl_enabled_protocols),
        cipher_suites=tuple(settings.ssl_cipher_suites),
        checks_host_names=bool(settings.ssl_endpoint_identification_algorithm),
        verifies=settings.enable_ssl_certificate_verification,
    )


def explain_tls_error(error: ssl.SSLError, where: str) -> AuthenticationError:
    """What went wrong in a handshake with `where`, and what to do about it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        message = error.verify_message or str(error)
        hint = "Check ssl.truststore.location: it must hold the certificate of who signed the broker's."
        if "ostname mismatch" in message or "IP address mismatch" in message:
            hint = (
                "Connect by a name that is in the broker's certificate, or (less safely) set "
                "ssl.endpoint.identification.algorithm to an empty text."
            )
        elif "expired" in message or "not yet valid" in message:
            hint = "Renew the broker's certificate, or set the clock right."
        return AuthenticationError(f"the certificate of {where} is not trusted: {message.rstrip('.')}.", hint=hint)
    reason = error.reason or str(error)
    hint = ""
    if reason in ("WRONG_VERSION_NUMBER", "UNEXPECTED_MESSAGE", "RECORD_LAYER_FAILURE"):
        hint = "The port seems not to speak TLS: check security.protocol and the port."
    elif "CERTIFICATE_REQUIRED" in reason:
        hint = "The broker wants a client certificate: set ssl.keystore.location."
    elif "CERTIFICATE_EXPIRED" in reason:
        hint = "Renew the client's certificate (ssl.keystore.location)."
    elif "CERTIFICATE_REVOKED" in reason or "CERTIFICATE_UNKNOWN" in reason:
        hint = "The broker does not take the client's certificate: get another one (ssl.keystore.location)."
    elif "HANDSHAKE_FAILURE" in reason or "BAD_CERTIFICATE" in reason:
        hint = "The broker may want a client certificate: set ssl.keystore.location."
    elif "UNKNOWN_CA" in reason:
        hint = "The broker does not trust the client's certificate: get one of an authority that is in its truststore."
    elif "PROTOCOL" in reason or "CIPHER" in reason:
        hint = "Check ssl.enabled.protocols and ssl.cipher.suites against the broker's."
    words = reason.lower().replace("_", " ")
    return AuthenticationError(f"TLS with {where} failed: {words}.", hint=hint)


def _clear(password: Password | None) -> str | None:
    return None if password is None else password.value
