"""Our clients signing in to Apache Kafka: TLS, mutual TLS, and every SASL mechanism but GSSAPI (which needs a KDC)."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import time
from base64 import b64encode

import pytest

import ottla
from benchmarks.brokers import KAFKA_HOME, ApacheKafka, free_port
from ottla.client.admin.scram import ScramMechanism, UserScramCredentialUpsertion
from ottla.client.errors import AuthenticationError
from ottla.client.security.connection import Security
from tests.client.security.certificates import Certificate
from tests.conftest import SETTINGS, require

pytestmark = [pytest.mark.xdist_group("kafka"), pytest.mark.timeout(180)]

PASSWORD = "store-password"
SECURITY = "org.apache.kafka.common.security"
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")
SESSION_MS = 2000


class Secured:
    """A broker with a listener of each kind, and what one needs to get in."""

    def __init__(self, directory) -> None:
        self.directory = directory
        self.authority = Certificate("authority")
        self.ports = {name: free_port() for name in ("TLS", "MTLS", "SIGNIN", "BOTH", "SHORT", "ONE")}
        broker = Certificate("broker", self.authority, names=["127.0.0.1", "localhost"])
        self.client = Certificate("client", self.authority)
        (directory / "broker.p12").write_bytes(broker.pkcs12(PASSWORD.encode(), self.authority))
        (directory / "authority.p12").write_bytes(self.authority.pkcs12_trust(PASSWORD.encode()))
        self.path("authority.pem").write_text(self.authority.pem)
        self.path("client.pem").write_text(self.client.key_pem() + self.client.pem)
        self.path("client.p12").write_bytes(self.client.pkcs12(PASSWORD.encode(), self.authority))
        heap = "-Xmx512m -Xms128m -XX:TieredStopAtLevel=1"
        self.broker = ApacheKafka(directory / "kafka", heap=heap)
        self.broker.settings = self.settings()

    def path(self, name):
        return self.directory / name

    def settings(self):
        plain = f"127.0.0.1:{self.broker.port}"
        own = [f"{name}://127.0.0.1:{port}" for name, port in self.ports.items()]
        protocols = {"TLS": "SSL", "MTLS": "SSL", "SIGNIN": "SASL_PLAINTEXT", "BOTH": "SASL_SSL", "SHORT": "SASL_SSL"}
        protocols["ONE"] = "SASL_PLAINTEXT"
        protocol_map = ",".join(f"{name}:{protocol}" for name, protocol in protocols.items())
        listeners = [f"PLAINTEXT://{plain}", *own]
        settings = {
            **SETTINGS,
            "listeners": ",".join([*listeners, f"CONTROLLER://127.0.0.1:{self.broker.controller_port}"]),
            "advertised.listeners": ",".join(listeners),
            "listener.security.protocol.map": f"CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,{protocol_map}",
            "ssl.keystore.location": str(self.path("broker.p12")),
            "ssl.keystore.type": "PKCS12",
            "ssl.keystore.password": PASSWORD,
            "ssl.key.password": PASSWORD,
            "ssl.truststore.location": str(self.path("authority.p12")),
            "ssl.truststore.type": "PKCS12",
            "ssl.truststore.password": PASSWORD,
            "listener.name.mtls.ssl.client.auth": "required",
            "listener.name.short.connections.max.reauth.ms": str(SESSION_MS),
            "delegation.token.secret.key": "any secret",
        }
        for name in ("signin", "both", "short", "one"):
            prefix = f"listener.name.{name}"
            settings[f"{prefix}.sasl.enabled.mechanisms"] = "PLAIN" if name == "one" else ",".join(MECHANISMS)
            jaas = {
                "plain": f'{SECURITY}.plain.PlainLoginModule required user_alice="plain secret";',
                "scram-sha-256": f"{SECURITY}.scram.ScramLoginModule required;",
                "scram-sha-512": f"{SECURITY}.scram.ScramLoginModule required;",
                "oauthbearer": (
                    f'{SECURITY}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";'
                ),
            }
            for mechanism, text in jaas.items():
                settings[f"{prefix}.{mechanism}.sasl.jaas.config"] = text
        return settings

    def at(self, listener):
        return f"127.0.0.1:{self.ports[listener]}"

    def store(self, name, kind):
        """A trust store that Java's own tool has written."""
        path = self.path(name)
        if not path.exists():
            command = ["keytool", "-importcert", "-noprompt", "-alias", "authority", "-storetype", kind]
            files = ["-file", str(self.path("authority.pem")), "-keystore", str(path), "-storepass", PASSWORD]
            subprocess.run([*command, *files], check=True, capture_output=True)
        return str(path)

    def java_keys(self):
        """The client's keys in a JKS, moved there by Java's own tool."""
        path = self.path("client.jks")
        if not path.exists():
            source = [
                "-srckeystore",
                str(self.path("client.p12")),
                "-srcstoretype",
                "PKCS12",
                "-srcstorepass",
                PASSWORD,
            ]
            target = ["-destkeystore", str(path), "-deststoretype", "JKS", "-deststorepass", PASSWORD]
            subprocess.run(
                ["keytool", "-importkeystore", "-noprompt", *source, *target], check=True, capture_output=True
            )
        return str(path)


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    require(None if (KAFKA_HOME / "libs").exists() else "Apache Kafka (scripts/install-tools kafka)")
    secured = Secured(tmp_path_factory.mktemp("secured"))
    secured.broker.start()
    try:
        with ottla.Admin(secured.broker.bootstrap) as admin:
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
                admin.alter_user_scram_credentials(upsertions(mechanism))
        yield secured
    finally:
        secured.broker.stop()


def upsertions(mechanism):
    chosen = ScramMechanism.SCRAM_SHA_256 if mechanism.endswith("256") else ScramMechanism.SCRAM_SHA_512
    return [UserScramCredentialUpsertion("bob", "scram, secret=", mechanism=chosen)]


CREDENTIALS = {
    "PLAIN": {"sasl_username": "alice", "sasl_password": "plain secret"},
    "SCRAM-SHA-256": {"sasl_username": "bob", "sasl_password": "scram, secret="},
    "SCRAM-SHA-512": {
        "sasl_jaas_config": f'{SECURITY}.scram.ScramLoginModule required username="bob" password="scram, secret=";'
    },
    "OAUTHBEARER": {"sasl_oauthbearer_config": "principal=carol lifeSeconds=60"},
}


def nodes(address, **names):
    with ottla.Admin(address, None, default_api_timeout_ms=15_000, **names) as admin:
        return [node.id for node in admin.describe_cluster().nodes]


# TLS


@pytest.mark.parametrize("kind", ["pem", "text", "pkcs12", "jks", "java's pkcs12"])
def test_tls_with_any_trust_store(secured, kind):
    names = {
        "pem": {"ssl_truststore_location": str(secured.path("authority.pem"))},
        "text": {"ssl_truststore_certificates": secured.authority.pem},
        "pkcs12": {"ssl_truststore_location": str(secured.path("authority.p12"))},
        "jks": {"ssl_truststore_location": secured.store("authority.jks", "JKS"), "ssl_truststore_type": "JKS"},
        "java's pkcs12": {"ssl_truststore_location": secured.store("authority.java.p12", "PKCS12")},
    }[kind]
    if kind not in ("pem", "text"):
        names["ssl_truststore_password"] = PASSWORD
    assert nodes(secured.at("TLS"), security_protocol="SSL", **names) == [1]


@pytest.mark.parametrize("kind", ["pem", "pkcs12", "jks", "two files"])
def test_mutual_tls_with_any_key_store(secured, kind):
    secured.path("client.key").write_text(secured.client.key_pem("key secret"))
    secured.path("client.crt").write_text(secured.client.pem)
    names = {
        "pem": {"ssl_keystore_location": str(secured.path("client.pem"))},
        "pkcs12": {"ssl_keystore_location": str(secured.path("client.p12")), "ssl_keystore_password": PASSWORD},
        "jks": {"ssl_keystore_location": secured.java_keys(), "ssl_keystore_password": PASSWORD},
        "two files": {
            "ssl_certificate_location": str(secured.path("client.crt")),
            "ssl_key_location": str(secured.path("client.key")),
            "ssl_key_password": "key secret",
        },
    }[kind]
    trust = {"security_protocol": "SSL", "ssl_truststore_certificates": secured.authority.pem}
    assert nodes(secured.at("MTLS"), **trust, **names) == [1]


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_either_version_of_tls(secured, version):
    trust = {"security_protocol": "SSL", "ssl_truststore_certificates": secured.authority.pem}
    assert nodes(secured.at("TLS"), ssl_enabled_protocols=version, **trust) == [1]


def failure(address, **names):
    started = time.monotonic()
    with pytest.raises(AuthenticationError) as caught:
        nodes(address, **names)
    assert time.monotonic() - started < 10, "an error that is final is not tried until the time is over"
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_broker_that_is_not_trusted(secured):
    assert "Check ssl.truststore.location" in failure(
        secured.at("TLS"), security_protocol="SSL", ssl_truststore_certificates=Certificate("other").pem
    )


def test_a_client_without_a_certificate(secured):
    trust = {"security_protocol": "SSL", "ssl_truststore_certificates": secured.authority.pem}
    assert "set ssl.keystore.location" in failure(secured.at("MTLS"), **trust)


# SASL


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("listener", ["SIGNIN", "BOTH"])
def test_every_mechanism(secured, mechanism, listener):
    names = {"security_protocol": "SASL_PLAINTEXT"}
    if listener == "BOTH":
        names = {"security_protocol": "SASL_SSL", "ssl_truststore_certificates": secured.authority.pem}
    assert nodes(secured.at(listener), sasl_mechanism=mechanism, **names, **CREDENTIALS[mechanism]) == [1]


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_wrong_credentials_are_refused_once(secured, mechanism, caplog):
    wrong = {"sasl_username": "bob", "sasl_password": "wrong"}
    if mechanism == "OAUTHBEARER":
        wrong = {"sasl_oauth_token_provider": lambda: "no.token.atall"}
    with caplog.at_level(logging.INFO, "ottla.client"):
        text = failure(secured.at("SIGNIN"), security_protocol="SASL_PLAINTEXT", sasl_mechanism=mechanism, **wrong)
    assert f"refused {mechanism}" in text
    assert "wrong" not in text
    assert len(caplog.records) <= 2, "one line for a change of state, not one for each attempt"


def test_a_mechanism_that_is_not_enabled(secured):
    text = failure(
        secured.at("ONE"),
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="SCRAM-SHA-256",
        **CREDENTIALS["SCRAM-SHA-256"],
    )
    assert "127.0.0.1 does not take SCRAM-SHA-256; it takes PLAIN. Set sasl.mechanism to PLAIN." in text


def test_a_delegation_token(secured):
    names = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "SCRAM-SHA-256"}
    with ottla.Admin(secured.at("SIGNIN"), None, **names, **CREDENTIALS["SCRAM-SHA-256"]) as admin:
        token = admin.create_delegation_token()
    hmac = b64encode(token.hmac).decode()
    jaas = f'{SECURITY}.scram.ScramLoginModule required username="{token.token_id}" password="{hmac}" tokenauth="true";'
    deadline = time.monotonic() + 10
    while True:  # The broker learns of the token a moment later.
        try:
            assert nodes(secured.at("SIGNIN"), **names, sasl_jaas_config=jaas) == [1]
            return
        except AuthenticationError:
            if time.monotonic() > deadline:
                raise


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_records_go_on_through_sessions_that_end(secured, mechanism, monkeypatch):
    """The broker closes connections that do not sign in again in time (KIP-368)."""
    names = {
        "security_protocol": "SASL_SSL",
        "ssl_truststore_certificates": secured.authority.pem,
        "sasl_mechanism": mechanism,
        **CREDENTIALS[mechanism],
    }
    topic = f"sessions-{mechanism.lower()}"

    async def run():
        sent = 0
        async with ottla.aio.Producer(secured.at("SHORT"), None, retries=0, **names) as producer:
            ends_at = time.monotonic() + 2.5 * SESSION_MS / 1000
            while time.monotonic() < ends_at:
                deliveries = [await producer.send(topic, bytes(50_000)) for _ in range(5)]
                for delivery in deliveries:
                    await delivery
                sent += len(deliveries)
                await asyncio.sleep(0.05)
        return sent

    signed_in_at = []
    authenticate = Security.authenticate

    async def noted(self, *arguments):
        signed_in_at.append(time.monotonic())
        return await authenticate(self, *arguments)

    monkeypatch.setattr(Security, "authenticate", noted)
    sent = asyncio.run(run())
    assert signed_in_at[-1] - signed_in_at[0] > SESSION_MS / 1000
    with ottla.Consumer(
        secured.at("SHORT"), None, group_id=topic, topics=[topic], auto_offset_reset="earliest", **names
    ) as consumer:
        received = 0
        deadline = time.monotonic() + 30
        while received < sent and time.monotonic() < deadline:
            received += len(consumer.poll(timeout_s=1.0))
    assert received == sent
