"""SSLContexts from Kafka's `ssl.*` settings, for either side. Reads the files that they name."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from dataclasses import replace

from ottla.security.ciphers import openssl_ciphers
from ottla.security.errors import SecurityConfigError
from ottla.security.settings import TlsSettings
from ottla.security.stores import KeyPair, Trusted, read_key_pair, read_trusted

_VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
_CLIENT_AUTH = {"none": ssl.CERT_NONE, "requested": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


def client_context(settings: TlsSettings) -> ssl.SSLContext:
    """The context of who connects. Raises `SecurityConfigError` that names what cannot be used, and what to do."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _choose_versions(context, settings)
    if not settings.verifies:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif not settings.checks_host_names:
        context.check_hostname = False
    _trust(context, settings)
    pair = read_key_pair(settings)
    if pair is not None:
        _load_key_pair(context, pair)
    return context


def server_context(settings: TlsSettings) -> ssl.SSLContext:
    """The context of who listens; with the truststore, or the system's, only where certificates are asked for.

    Where `ssl.keystore.location` is a directory, each file in it is a keystore, and the client's hello (SNI) chooses
    among their certificates; the one in `default.*`, or else the first by name, is for all other clients.

    Raises `SecurityConfigError` as `client_context`.
    """
    location = settings.keystore_location
    if location is not None and os.path.isdir(location):
        return _chosen_by_name(settings, location)
    pair = read_key_pair(settings)
    if pair is None:
        raise SecurityConfigError(
            "ssl.keystore.location",
            "TLS needs a key and a certificate. Set ssl.keystore.location, or ssl.keystore.key with "
            "ssl.keystore.certificate.chain.",
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_RENEGOTIATION  # A client could make us compute for ever.
    _choose_versions(context, settings)
    _load_key_pair(context, pair)
    context.verify_mode = _CLIENT_AUTH[settings.client_auth]
    if settings.client_auth != "none":
        _trust(context, settings)
    else:
        read_trusted(settings)  # A mistake in it is found now, as in Kafka, not when other nodes are called.
    return context


def key_pairs(settings: TlsSettings) -> list[KeyPair]:
    """All keys of a server with their certificates, the one for clients that name no host first."""
    location = settings.keystore_location
    if location is not None and os.path.isdir(location):
        found = [read_key_pair(replace(settings, keystore_location=path)) for path in _stores_in(location)]
    else:
        found = [read_key_pair(settings)]
    return [pair for pair in found if pair is not None]


def _stores_in(directory: str) -> list[str]:
    try:
        names = [name for name in os.listdir(directory) if not name.startswith(".")]
    except OSError as error:
        setting = "ssl.keystore.location"
        raise SecurityConfigError(setting, f"{setting}: cannot read {directory}: {error.strerror or error}.") from None
    paths = [os.path.join(directory, name) for name in sorted(names, key=lambda each: (_stem(each) != "default", each))]
    found = [path for path in paths if os.path.isfile(path)]
    if not found:
        raise SecurityConfigError("ssl.keystore.location", f"ssl.keystore.location: {directory} holds no keystores.")
    return found


def _stem(name: str) -> str:
    return name.partition(".")[0].lower()


def _chosen_by_name(settings: TlsSettings, directory: str) -> ssl.SSLContext:
    from ottla.security.certificates import is_for, leaf_of

    contexts = []
    for path in _stores_in(directory):
        one = replace(settings, keystore_location=path)
        pair = read_key_pair(one)
        assert pair is not None
        contexts.append((leaf_of(pair).hosts, server_context(one)))
    default = contexts[0][1]

    def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        if name is not None:
            connection.context = next((context for hosts, context in contexts if is_for(hosts, name)), default)

    default.sni_callback = choose
    return default


def check_handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    """Raises ssl.SSLError unless one side of a connection believes the other, whatever its name."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    far = server.wrap_bio(to_server, to_client, server_side=True)
    near = client.wrap_bio(to_client, to_server)
    left: list[Callable[[], object]] = [near.do_handshake, far.do_handshake]
    for _ in range(10):
        for each in list(left):
            try:
                each()
                left.remove(each)
            except ssl.SSLWantReadError:
                pass
        if not left:
            return
    raise ssl.SSLError("the handshake does not end")


def load_trusted(context: ssl.SSLContext, trusted: Trusted) -> None:
    """Let a context believe these certificates. Raises SecurityConfigError."""
    # Java takes any certificate of the store as an anchor, also one that is not a root.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(capath=trusted.directory, cadata=trusted.pem)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise SecurityConfigError(
            trusted.setting, f"{trusted.origin} holds no certificate that can be read: {error}."
        ) from None


def _choose_versions(context: ssl.SSLContext, settings: TlsSettings) -> None:
    unknown = [name for name in settings.enabled_protocols if name not in _VERSIONS]
    if unknown:
        raise SecurityConfigError(
            "ssl.enabled.protocols", f"ssl.enabled.protocols: there is no {unknown[0]}, but TLSv1.2 and TLSv1.3."
        )
    versions = sorted({_VERSIONS[name] for name in settings.enabled_protocols})
    if not versions:
        raise SecurityConfigError(
            "ssl.enabled.protocols", "ssl.enabled.protocols is empty: it takes some of TLSv1.2, TLSv1.3."
        )
    suites = settings.cipher_suites
    if suites:
        ciphers = openssl_ciphers(suites)
        if ciphers.unknown:
            raise SecurityConfigError("ssl.cipher.suites", f"ssl.cipher.suites: there is no {ciphers.unknown[0]}.")
        if ciphers.tls12:
            try:
                context.set_ciphers(ciphers.tls12)
            except ssl.SSLError:
                raise SecurityConfigError(
                    "ssl.cipher.suites",
                    f"ssl.cipher.suites has none that OpenSSL knows: {', '.join(suites)}. Use Java's or OpenSSL's "
                    "names.",
                ) from None
        else:
            versions = [version for version in versions if version is ssl.TLSVersion.TLSv1_3]
        if not ciphers.has_tls13:
            versions = [version for version in versions if version is not ssl.TLSVersion.TLSv1_3]
        if not versions:
            raise SecurityConfigError(
                "ssl.cipher.suites", "ssl.cipher.suites has none for the versions in ssl.enabled.protocols."
            )
    context.minimum_version, context.maximum_version = versions[0], versions[-1]


def _trust(context: ssl.SSLContext, settings: TlsSettings) -> None:
    trusted = read_trusted(settings)
    if trusted is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        load_trusted(context, trusted)
    revoked = settings.crl_location
    if revoked is not None:
        try:
            context.load_verify_locations(cafile=revoked)
        except (OSError, ssl.SSLError) as error:
            raise SecurityConfigError(
                "ssl.crl.location", f"ssl.crl.location: cannot read {revoked}: {error.strerror or error}."
            ) from None
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


def _load_key_pair(context: ssl.SSLContext, pair: KeyPair) -> None:
    def password() -> str:
        if pair.password is None:
            raise SecurityConfigError("ssl.key.password", f"{pair.origin}: the key is encrypted. Set ssl.key.password.")
        return pair.password

    try:
        with pair.files() as (certificates, key):
            context.load_cert_chain(certificates, key, password)
    except ssl.SSLError as error:
        reasons = {
            "BAD_DECRYPT": "the key cannot be decrypted. Check ssl.key.password",
            "KEY_VALUES_MISMATCH": "the key does not belong to the certificate",
            "NO_START_LINE": "it must hold a private key and certificates in PEM",
            "PEM_LIB": "it must hold a private key and certificates in PEM, with the right ssl.key.password",
        }
        reason = next((text for word, text in reasons.items() if word in str(error).upper().replace(" ", "_")), None)
        raise SecurityConfigError(pair.setting, f"{pair.origin} cannot be used: {reason or error}.") from None
    except OSError as error:
        raise SecurityConfigError(pair.setting, f"{pair.origin} cannot be read: {error.strerror or error}.") from None
