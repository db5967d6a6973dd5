"""TLS contexts from Kafka's settings: real handshakes, in memory."""

import os
import ssl
from pathlib import Path

import pytest

from ottla.client.errors import ConfigError
from ottla.client.security.tls import explain_tls_error, make_ssl_context, tls_settings
from ottla.client.settings import AdminSettings
from ottla.security.ciphers import Ciphers, openssl_ciphers, openssl_name
from ottla.security.stores import read_key_pair
from tests.client.security.certificates import Certificate


@pytest.fixture(scope="module")
def authority():
    return Certificate("authority")


@pytest.fixture(scope="module")
def broker(authority):
    return Certificate("broker", authority, names=["broker1", "127.0.0.1"])


@pytest.fixture(scope="module")
def client(authority):
    return Certificate("client", authority)


@pytest.fixture
def server(broker, authority, tmp_path):
    def make(*, wants_certificate=False, certificate=broker, **limits):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        path = tmp_path / "broker.pem"
        path.write_text(certificate.key_pem() + certificate.pem)
        context.load_cert_chain(path)
        if wants_certificate:
            context.load_verify_locations(cadata=authority.pem)
            context.verify_mode = ssl.CERT_REQUIRED
        for name, value in limits.items():
            setattr(context, name, value)
        return context

    return make


def handshake(settings, server_context, host="broker1"):
    """A whole handshake; the client's and the server's end, or the first error."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = make_ssl_context(settings)
    near = context.wrap_bio(to_client, to_server, server_hostname=host)
    far = server_context.wrap_bio(to_server, to_client, server_side=True)
    done = set()
    for _ in range(10):
        for end in (near, far):
            try:
                end.do_handshake()
                done.add(end)
            except ssl.SSLWantReadError:
                pass
        if len(done) == 2:
            return near, far
    raise AssertionError("no handshake")


def tls(**names):
    return AdminSettings.of("a", None, {"security_protocol": "SSL", **names})


def written(path, data):
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(path)


# Whom the client trusts


@pytest.mark.parametrize("kind", ["inline", "pem", "pkcs12", "jks", "jks without password", "directory", "leaf"])
def test_trust_stores_of_all_kinds(kind, authority, broker, server, tmp_path):
    path = tmp_path / "trust"
    if kind == "inline":
        settings = tls(ssl_truststore_certificates=authority.pem)
    elif kind == "pem":
        settings = tls(ssl_ca_location=written(path, "Certificate: Größe\n" + authority.pem), ssl_truststore_type="pem")
    elif kind == "leaf":
        settings = tls(ssl_truststore_location=written(path, broker.pem))
    elif kind == "pkcs12":
        settings = tls(
            ssl_truststore_location=written(path, authority.pkcs12_trust(b"geheim")), ssl_truststore_password="geheim"
        )
    elif kind == "directory":
        path.mkdir()
        (path / f"{subject_hash(authority)}.0").write_text(authority.pem)
        settings = tls(ssl_truststore_location=str(path))
    else:
        password = None if "without" in kind else "geheim"
        settings = tls(
            ssl_truststore_location=written(path, authority.jks_trust("geheim")),
            ssl_truststore_password=password,
            ssl_truststore_type="JKS",
        )
    near, _ = handshake(settings, server())
    assert near.version() == "TLSv1.3"
    handshake(settings, server(), "127.0.0.1")


def subject_hash(certificate):
    """The name OpenSSL looks for in a directory: `openssl x509 -hash`."""
    import subprocess

    return subprocess.run(
        ["openssl", "x509", "-hash", "-noout"], input=certificate.pem, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_a_broker_that_is_not_trusted(authority, server):
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        handshake(tls(ssl_truststore_certificates=Certificate("other").pem), server())
    text = str(explain_tls_error(caught.value, "broker1:9093"))
    assert text.startswith("SASL_AUTHENTICATION_FAILED: the certificate of broker1:9093 is not trusted: unable to get")
    assert "Check ssl.truststore.location" in text


def test_a_broker_under_another_name(authority, server):
    trusting = {"ssl_truststore_certificates": authority.pem}
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        handshake(tls(**trusting), server(), "broker2")
    text = str(explain_tls_error(caught.value, "broker2"))
    assert "Connect by a name that is in the broker's certificate" in text
    assert ".." not in text
    assert handshake(tls(**trusting, ssl_endpoint_identification_algorithm=""), server(), "broker2")


def test_a_certificate_that_has_expired(authority, server):
    old = Certificate("broker", authority, names=["broker1"], days=-1)
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        handshake(tls(ssl_truststore_certificates=authority.pem), server(certificate=old))
    assert "Renew the broker's certificate" in str(explain_tls_error(caught.value, "broker1"))


def test_verification_can_be_switched_off(server):
    assert handshake(tls(enable_ssl_certificate_verification=False), server(), "anything")


def test_the_systems_store_is_used_when_nothing_is_said():
    context = make_ssl_context(tls())
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert make_ssl_context(tls(ssl_ca_location="probe")).verify_mode is ssl.CERT_REQUIRED


def test_what_was_revoked_is_looked_up(authority, server, tmp_path):
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding

    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateRevocationListBuilder().issuer_name(authority.certificate.subject)
    crl = builder.last_update(now).next_update(now + datetime.timedelta(days=1))
    path = written(tmp_path / "crl", crl.sign(authority.key, hashes.SHA256()).public_bytes(Encoding.PEM))
    settings = tls(ssl_truststore_certificates=authority.pem, ssl_crl_location=path)
    assert make_ssl_context(settings).verify_flags & ssl.VERIFY_CRL_CHECK_LEAF
    handshake(settings, server())
    with pytest.raises(ConfigError, match=r"ssl\.crl\.location: cannot read"):
        make_ssl_context(tls(ssl_crl_location=str(tmp_path / "nothing")))


# Who the client is


@pytest.mark.parametrize(
    "kind", ["inline", "pem", "encrypted pem", "two files", "pkcs12", "jks", "jks of two passwords"]
)
def test_key_stores_of_all_kinds(kind, authority, client, server, tmp_path):
    path = tmp_path / "key"
    if kind == "inline":
        names = {"ssl_keystore_key": client.key_pem(), "ssl_keystore_certificate_chain": client.pem + authority.pem}
    elif kind == "pem":
        names = {"ssl_keystore_location": written(path, client.key_pem() + client.pem), "ssl_keystore_type": "PEM"}
    elif kind == "encrypted pem":
        text = client.key_pem("geheim") + client.pem
        names = {"ssl_keystore_location": written(path, text), "ssl_key_password": "geheim"}
    elif kind == "two files":
        names = {
            "ssl_certificate_location": written(path, client.pem),
            "ssl_key_location": written(tmp_path / "other", client.key_pem("geheim")),
            "ssl_key_password": "geheim",
        }
    elif kind == "pkcs12":
        names = {
            "ssl_keystore_location": written(path, client.pkcs12(b"geheim", authority)),
            "ssl_keystore_password": "geheim",
            "ssl_keystore_type": "JKS",  # as with Java, which reads either under this name
        }
    else:
        second = "anders" if "two" in kind else None
        names = {
            "ssl_keystore_location": written(path, client.jks("geheim", authority, key_password=second)),
            "ssl_keystore_password": "geheim",
            "ssl_key_password": second,
        }
    settings = tls(ssl_truststore_certificates=authority.pem, **names)
    limits = {"maximum_version": ssl.TLSVersion.TLSv1_2}
    _, far = handshake(settings, server(wants_certificate=True, **limits))
    assert dict(item[0] for item in far.getpeercert()["subject"]) == {"commonName": "client"}


def test_a_broker_that_wants_a_certificate(authority, server):
    context = server(wants_certificate=True, maximum_version=ssl.TLSVersion.TLSv1_2)
    with pytest.raises(ssl.SSLError) as caught:
        handshake(tls(ssl_truststore_certificates=authority.pem), context)
    assert "set ssl.keystore.location" in str(explain_tls_error(caught.value, "broker1")) or "PEER" in str(caught.value)


def test_a_key_in_a_text_is_on_disk_for_a_moment_only(client, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    settings = tls(ssl_keystore_key=client.key_pem(), ssl_keystore_certificate_chain=client.pem)
    pair = read_key_pair(tls_settings(settings))
    assert client.key_pem() not in repr(pair)
    with pair.files() as (path, _):
        assert os.stat(path).st_mode & 0o077 == 0
    assert not Path(path).exists()
    assert list(tmp_path.iterdir()) == []


def test_an_own_context_is_used_as_it_is():
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    assert make_ssl_context(tls(ssl_engine_factory_class=own)) is own
    assert make_ssl_context(tls(ssl_engine_factory_class=lambda settings: own)) is own
    with pytest.raises(ConfigError, match="must be or return"):
        make_ssl_context(tls(ssl_engine_factory_class=lambda settings: None))


# What cannot be used is named


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ({"ssl_truststore_location": "/no/such/file"}, "ssl.truststore.location: cannot read /no/such/file: No such"),
        ({"ssl_truststore_location": "junk"}, "neither PEM nor PKCS12 nor JKS"),
        ({"ssl_truststore_location": "authority.pem", "ssl_truststore_type": "JKS"}, "is PEM, but ssl.truststore.type"),
        ({"ssl_truststore_location": "client.key"}, "holds no certificate"),
        ({"ssl_truststore_location": "damaged.pem"}, "holds no certificate that can be read"),
        ({"ssl_truststore_location": "empty.jks"}, "holds no certificates"),
        ({"ssl_truststore_certificates": "x"}, "-----BEGIN CERTIFICATE----- is missing"),
        ({"ssl_truststore_certificates": "x", "ssl_truststore_location": "junk"}, "Leave one out"),
        ({"ssl_truststore_location": "trust.p12", "ssl_truststore_password": "x"}, "Check ssl.truststore.password"),
        ({"ssl_truststore_location": "trust.jks", "ssl_truststore_password": "x"}, "Check ssl.truststore.password"),
        ({"ssl_truststore_location": "cut.jks"}, "it is damaged"),
        ({"ssl_truststore_location": "trust.p12"}, "it needs a password. Set ssl.truststore.password"),
        ({"ssl_keystore_location": "client.jks"}, "a password is needed for its key. Check ssl.keystore.password"),
        (
            {"ssl_keystore_location": "client.jks", "ssl_keystore_password": "geheim", "ssl_key_password": "x"},
            "its key has another password; set ssl.key.password",
        ),
        ({"ssl_keystore_location": "trust.p12", "ssl_keystore_password": "geheim"}, "holds no private key"),
        ({"ssl_keystore_location": "encrypted.pem"}, "the key is encrypted. Set ssl.key.password"),
        ({"ssl_keystore_location": "encrypted.pem", "ssl_key_password": "x"}, "cannot be used: "),
        ({"ssl_keystore_location": "authority.pem"}, "it must hold a private key and certificates in PEM"),
        ({"ssl_keystore_location": "mixed.pem"}, "the key does not belong to the certificate"),
        ({"ssl_certificate_location": "/no/such/file", "ssl_key_location": "junk"}, "cannot be read: No such file"),
        ({"ssl_keystore_key": "x"}, "ssl.keystore.certificate.chain is missing"),
        ({"ssl_keystore_certificate_chain": "x"}, "ssl.keystore.key is missing"),
        ({"ssl_cipher_suites": "NOTHING"}, "ssl.cipher.suites has none that OpenSSL knows: NOTHING"),
        ({"ssl_cipher_suites": "TLS_AES_128_GCM_SHA265"}, "ssl.cipher.suites: there is no TLS_AES_128_GCM_SHA265"),
        ({"ssl_cipher_suites": "TLS_AES_128_GCM_SHA256", "ssl_enabled_protocols": "TLSv1.2"}, "has none for the vers"),
        ({"ssl_enabled_protocols": []}, "ssl.enabled.protocols is empty"),
    ],
)
def test_what_cannot_be_used_is_named(names, reason, authority, client, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "junk", b"junk")
    written(tmp_path / "authority.pem", authority.pem)
    written(tmp_path / "client.key", client.key_pem())
    written(tmp_path / "damaged.pem", authority.pem[:60] + authority.pem[200:])
    written(tmp_path / "trust.p12", authority.pkcs12_trust(b"geheim"))
    written(tmp_path / "trust.jks", authority.jks_trust("geheim"))
    written(tmp_path / "cut.jks", authority.jks_trust("geheim")[:40])
    written(tmp_path / "empty.jks", bytes.fromhex("feedfeed0000000200000000") + bytes(20))
    written(tmp_path / "client.jks", client.jks("geheim"))
    written(tmp_path / "encrypted.pem", client.key_pem("geheim") + client.pem)
    written(tmp_path / "mixed.pem", client.key_pem() + authority.pem)
    with pytest.raises(ConfigError) as caught:
        make_ssl_context(tls(**names))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


# Versions and ciphers


@pytest.mark.parametrize(
    ("names", "version", "cipher"),
    [
        ({"ssl_enabled_protocols": "TLSv1.2"}, "TLSv1.2", ""),
        ({"ssl_enabled_protocols": "TLSv1.3"}, "TLSv1.3", ""),
        ({"ssl_cipher_suites": "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"}, "TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384"),
        ({"ssl_cipher_suites": "TLS_AES_256_GCM_SHA384"}, "TLSv1.3", ""),
        (
            {
                "ssl_cipher_suites": ["TLS_AES_256_GCM_SHA384", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"],
                "ssl_enabled_protocols": "TLSv1.2",
            },
            "TLSv1.2",
            "ECDHE-ECDSA-CHACHA20-POLY1305",
        ),
        ({"ssl_cipher_suites": "HIGH:!aNULL"}, "TLSv1.3", ""),
    ],
)
def test_versions_and_ciphers(names, version, cipher, authority, server):
    near, _ = handshake(tls(ssl_truststore_certificates=authority.pem, **names), server())
    assert near.version() == version
    assert cipher in near.cipher()[0]


@pytest.mark.parametrize(
    ("java", "openssl"),
    [
        ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
        ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"),
        ("TLS_DHE_RSA_WITH_AES_256_CBC_SHA256", "DHE-RSA-AES256-SHA256"),
        ("TLS_RSA_WITH_AES_128_CBC_SHA", "AES128-SHA"),
        ("ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
    ],
)
def test_javas_names_of_ciphers(java, openssl):
    assert openssl_name(java) == openssl
    assert openssl in {each["name"] for each in all_ciphers()}


def all_ciphers():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context.get_ciphers()


def test_ciphers_of_tls_13_are_told_apart():
    assert openssl_ciphers(["TLS_AES_128_GCM_SHA256"]) == Ciphers("", True)
    assert openssl_ciphers(["TLS_RSA_WITH_AES_128_CBC_SHA"]) == Ciphers("AES128-SHA", False)


@pytest.mark.parametrize(
    ("reason", "hint"),
    [
        ("WRONG_VERSION_NUMBER", "check security.protocol and the port"),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "wants a client certificate: set ssl.keystore.location"),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", "Renew the client's certificate"),
        ("SSLV3_ALERT_CERTIFICATE_REVOKED", "get another one (ssl.keystore.location)"),
        ("TLSV1_ALERT_UNKNOWN_CA", "does not trust the client's certificate"),
        ("TLSV1_ALERT_PROTOCOL_VERSION", "Check ssl.enabled.protocols"),
        ("SOMETHING_ELSE", "TLS with b failed: something else."),
    ],
)
def test_other_failures_say_what_to_do(reason, hint):
    error = ssl.SSLError(1, "x")
    error.reason = reason
    assert hint in str(explain_tls_error(error, "b"))
