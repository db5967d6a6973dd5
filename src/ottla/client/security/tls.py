"""The SSLContext of a client, from Kafka's `ssl.*` settings."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from ottla.client.errors import AuthenticationError, ConfigError
from ottla.client.security.ciphers import openssl_ciphers
from ottla.client.security.stores import KeyPair, read_key_pair, read_trusted

if TYPE_CHECKING:
    from ottla.client.settings import CommonSettings

_VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}


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
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _choose_versions(context, settings)
    if not settings.enable_ssl_certificate_verification:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif not settings.ssl_endpoint_identification_algorithm:
        context.check_hostname = False
    _trust(context, settings)
    pair = read_key_pair(settings)
    if pair is not None:
        _load_key_pair(context, pair)
    return context


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
        return AuthenticationError(f"the certificate of {where} is not trusted: {message}.", hint=hint)
    reason = error.reason or str(error)
    hint = ""
    if reason in ("WRONG_VERSION_NUMBER", "UNEXPECTED_MESSAGE", "RECORD_LAYER_FAILURE"):
        hint = "The port seems not to speak TLS: check security.protocol and the port."
    elif "CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason or "BAD_CERTIFICATE" in reason:
        hint = "The broker may want a client certificate: set ssl.keystore.location."
    elif "UNKNOWN_CA" in reason:
        hint = "The broker does not trust the client's certificate."
    elif "PROTOCOL" in reason or "CIPHER" in reason:
        hint = "Check ssl.enabled.protocols and ssl.cipher.suites against the broker's."
    words = reason.lower().replace("_", " ")
    return AuthenticationError(f"TLS with {where} failed: {words}.", hint=hint)


def _choose_versions(context: ssl.SSLContext, settings: CommonSettings) -> None:
    versions = sorted(_VERSIONS[name] for name in settings.ssl_enabled_protocols)
    if not versions:
        raise ConfigError("ssl.enabled.protocols is empty: it takes some of TLSv1.2, TLSv1.3.")
    suites = settings.ssl_cipher_suites
    if suites:
        ciphers = openssl_ciphers(suites)
        if ciphers.tls12:
            try:
                context.set_ciphers(ciphers.tls12)
            except ssl.SSLError:
                raise ConfigError(
                    f"ssl.cipher.suites has none that OpenSSL knows: {', '.join(suites)}. Use Java's or OpenSSL's "
                    "names."
                ) from None
        else:
            versions = [version for version in versions if version is ssl.TLSVersion.TLSv1_3]
        if not ciphers.has_tls13:
            versions = [version for version in versions if version is not ssl.TLSVersion.TLSv1_3]
        if not versions:
            raise ConfigError("ssl.cipher.suites has none for the versions in ssl.enabled.protocols.")
    context.minimum_version, context.maximum_version = versions[0], versions[-1]


def _trust(context: ssl.SSLContext, settings: CommonSettings) -> None:
    trusted = read_trusted(settings)
    if trusted is None:
        context.load_default_certs()
    else:
        # Java takes any certificate of the store as an anchor, also one that is not a root.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        try:
            context.load_verify_locations(capath=trusted.directory, cadata=trusted.pem)
        except (ssl.SSLError, OSError, ValueError) as error:
            raise ConfigError(f"{trusted.origin} holds no certificate that can be read: {error}.") from None
    revoked = settings.ssl_crl_location
    if revoked is not None:
        try:
            context.load_verify_locations(cafile=revoked)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"ssl.crl.location: cannot read {revoked}: {error.strerror or error}.") from None
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


def _load_key_pair(context: ssl.SSLContext, pair: KeyPair) -> None:
    def password() -> str:
        if pair.password is None:
            raise ConfigError(f"{pair.origin}: the key is encrypted. Set ssl.key.password.")
        return pair.password

    try:
        with pair.files() as (certificates, key):
            context.load_cert_chain(certificates, key, password)
    except ConfigError:
        raise
    except ssl.SSLError as error:
        reasons = {
            "BAD_DECRYPT": "the key cannot be decrypted. Check ssl.key.password",
            "KEY_VALUES_MISMATCH": "the key does not belong to the certificate",
            "NO_START_LINE": "it must hold a private key and certificates in PEM",
            "PEM_LIB": "it must hold a private key and certificates in PEM, with the right ssl.key.password",
        }
        reason = next((text for word, text in reasons.items() if word in str(error).upper().replace(" ", "_")), None)
        raise ConfigError(f"{pair.origin} cannot be used: {reason or error}.") from None
    except OSError as error:
        raise ConfigError(f"{pair.origin} cannot be read: {error.strerror or error}.") from None
