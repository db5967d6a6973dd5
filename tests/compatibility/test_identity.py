"""Clients of all kinds signing in to Ottla, where a directory, a Kerberos realm or an issuer of tokens knows them."""

from __future__ import annotations

import base64
import json
import re
import time
from urllib.request import urlopen

import pytest

import ottla
from benchmarks.brokers import OttlaBroker, free_port
from ottla.client.errors import AuthenticationError
from tests.compatibility.back_ends import BASE, REALM, Kdc, OpenIdIssuer, Slapd, missing_directory, missing_realm
from tests.compatibility.sign_in import Confluent, GoSignIn, JavaSignIn, Kcat, Login, Ours, RefusedError
from tests.conftest import SETTINGS, require

pytestmark = [pytest.mark.xdist_group("identity"), pytest.mark.timeout(180)]

SECURITY = "org.apache.kafka.common.security"
LISTENERS = ("DIRECTORY", "SEARCHED", "TICKETS", "TOKENS", "BRIEF")
REFRESH_MS = 400


class IdentityBroker(OttlaBroker):
    """A broker that finds its realm."""

    krb5 = ""

    def environment(self):
        return {**super().environment(), "KRB5_CONFIG": self.krb5}


class Identity:
    """Back ends, and a broker with a listener for each."""

    def __init__(self, directory):
        self.slapd = Slapd(directory / "directory")
        self.slapd.start()
        self.kdc = Kdc(directory / "realm", users=("alice", "bob", "carol/admin"))
        self.issuer = OpenIdIssuer()
        self.ports = {name: free_port() for name in LISTENERS}
        self.metrics_port = free_port()
        self.broker = IdentityBroker(directory / "broker")
        self.broker.krb5 = self.kdc.krb5
        self.broker.settings = self.settings()
        self.java = JavaSignIn(directory / "java", krb5=self.kdc.krb5, urls=[f"{self.issuer.url}/token"])

    def at(self, listener):
        return f"localhost:{self.ports[listener]}"

    def settings(self):
        plain = f"PLAINTEXT://127.0.0.1:{self.broker.port}"
        listeners = ",".join([plain, *(f"{name}://localhost:{port}" for name, port in self.ports.items())])
        protocols = ",".join(["PLAINTEXT:PLAINTEXT", *(f"{name}:SASL_PLAINTEXT" for name in LISTENERS)])
        own = {
            "DIRECTORY": {
                "sasl.enabled.mechanisms": "PLAIN",
                "ldap.url": self.slapd.url,
                "ldap.start.tls": "true",
                "ldap.truststore.location": self.slapd.trust,
                "ldap.user.dn.pattern": f"uid={{user}},ou=people,{BASE}",
                "ldap.group.search.base": f"ou=groups,{BASE}",
                "ldap.cache.ms": "0",
            },
            "SEARCHED": {
                "sasl.enabled.mechanisms": "PLAIN",
                "ldap.url": f"ldaps://localhost:1,{self.slapd.tls_url}",
                "ldap.truststore.location": self.slapd.trust,
                "ldap.bind.dn": f"cn=lookup,{BASE}",
                "ldap.bind.password": "lookup-secret",
                "ldap.user.search.base": BASE,
                "ldap.user.search.filter": "(&(objectClass=inetOrgPerson)(uid={user}))",
                "ldap.group.search.base": f"ou=groups,{BASE}",
            },
            "TICKETS": {
                "sasl.enabled.mechanisms": "GSSAPI",
                "sasl.kerberos.service.name": "kafka",
                "sasl.kerberos.principal.to.local.rules": "RULE:[2:$1.$2](.*[.]admin)/U,RULE:[1:$1](alice)",
                "gssapi.sasl.jaas.config": "com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true "
                f'storeKey=true keyTab="{self.kdc.keytab("kafka")}" principal="kafka/localhost@{REALM}";',
            },
            "TOKENS": {
                "sasl.enabled.mechanisms": "OAUTHBEARER",
                "sasl.oauthbearer.jwks.endpoint.url": f"{self.issuer.url}/keys",
                "sasl.oauthbearer.jwks.endpoint.refresh.ms": str(REFRESH_MS),
                "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms": "1000",
                "sasl.oauthbearer.expected.audience": "kafka",
                "sasl.oauthbearer.expected.issuer": self.issuer.url,
                "sasl.oauthbearer.clock.skew.seconds": "0",
                "sasl.oauthbearer.groups.claim.name": "groups",
                "sasl.server.callback.handler.class": f"{SECURITY}.oauthbearer.OAuthBearerValidatorCallbackHandler",
            },
        }
        own["BRIEF"] = own["TOKENS"]
        settings = {
            **SETTINGS,
            "listeners": listeners,
            "advertised.listeners": listeners,
            "listener.security.protocol.map": protocols,
            "http.listeners": f"http://127.0.0.1:{self.metrics_port}",
            "connection.failed.authentication.delay.ms": "0",  # all the clients are one who guesses
        }
        for name, given in own.items():
            settings |= {f"listener.name.{name.lower()}.{setting}": value for setting, value in given.items()}
        return settings

    def stop(self):
        self.java.close()
        self.broker.stop()
        self.issuer.stop()
        self.kdc.stop()
        self.slapd.stop()

    def refused(self, listener):
        """How many logins have failed there."""
        with urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        name = "kafka_server_socket_server_metrics_failed_authentication_total"
        return int(float(re.search(rf'^{name}{{[^}}]*listener="{listener}"[^}}]*}} (\S+)$', text, re.MULTILINE)[1]))

    def logins(self):
        """Who gets in where."""
        kerberos = {"realm": REALM, "krb5": self.kdc.krb5}
        return {
            "directory": ("DIRECTORY", Login("PLAIN", "alice", "wonderland")),
            "searched directory": ("SEARCHED", Login("PLAIN", "bob", "can we fix it")),
            "ticket": ("TICKETS", Login("GSSAPI", "alice", keytab=self.kdc.keytab("alice"), **kerberos)),
            "ticket of two parts": (
                "TICKETS",
                Login("GSSAPI", "carol/admin", keytab=self.kdc.keytab("carol"), **kerberos),
            ),
            "token": ("TOKENS", Login("OAUTHBEARER", token=self.issuer.token())),
        }

    def refusals(self):
        """Who does not."""
        kerberos = {"realm": REALM, "krb5": self.kdc.krb5}
        plain, tokens = "PLAIN", self.issuer.token
        others = OpenIdIssuer.__new__(OpenIdIssuer)
        others.__dict__ |= {**vars(self.issuer), "issuer": type(self.issuer.issuer)()}
        unsigned = ".".join([*_unsigned(self.issuer.token()), ""])
        return {
            "wrong password": ("DIRECTORY", Login(plain, "alice", "Wonderland")),
            "unknown user": ("DIRECTORY", Login(plain, "dave", "wonderland")),
            "user in other letters": ("DIRECTORY", Login(plain, "ALICE", "wonderland")),
            "filter for a user": ("SEARCHED", Login(plain, "b*", "can we fix it")),
            "ticket of nobody here": ("TICKETS", Login("GSSAPI", "bob", keytab=self.kdc.keytab("bob"), **kerberos)),
            "expired token": ("TOKENS", Login("OAUTHBEARER", token=tokens(lifetime_s=-5))),
            "token for others": ("TOKENS", Login("OAUTHBEARER", token=tokens(aud="others"))),
            "token of others": ("TOKENS", Login("OAUTHBEARER", token=tokens(iss="https://others"))),
            "token that others signed": ("TOKENS", Login("OAUTHBEARER", token=others.token())),
            "token that nobody signed": ("TOKENS", Login("OAUTHBEARER", token=unsigned)),
        }


def _unsigned(token):
    header = base64.urlsafe_b64encode(json.dumps({"alg": "none"}).encode()).rstrip(b"=").decode()
    return header, token.split(".")[1]


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    require(missing_directory() or missing_realm())
    identity = Identity(tmp_path_factory.mktemp("identity"))
    try:
        identity.kdc.ticket("alice")
        identity.broker.start()
        yield identity
    finally:
        identity.stop()


@pytest.fixture(scope="module")
def signers(identity, clients):
    made = [Ours(), Confluent(), Kcat(), identity.java, GoSignIn(clients["franz-go"]), GoSignIn(clients["sarama"])]
    return {client.name: client for client in made}


@pytest.fixture(autouse=True)
def realm(request, monkeypatch, tmp_path):
    kdc = request.getfixturevalue("identity").kdc
    monkeypatch.setenv("KRB5_CONFIG", kdc.krb5)
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{tmp_path}/cache")


NAMES = ("ottla", "confluent-kafka", "kcat", "franz-go", "sarama", "java")
GOOD = ("directory", "searched directory", "ticket", "ticket of two parts", "token")
BAD = (
    "wrong password",
    "unknown user",
    "user in other letters",
    "filter for a user",
    "ticket of nobody here",
    "expired token",
    "token for others",
    "token of others",
    "token that others signed",
    "token that nobody signed",
)


def can(client, case):
    """The wheels of confluent-kafka have no Kerberos, and kcat shows what is left of librdkafka."""
    if client == "kcat":
        return case in ("directory", "ticket", "wrong password", "ticket of nobody here")
    return not (client == "confluent-kafka" and "ticket" in case)


@pytest.mark.parametrize(("client", "case"), [(client, case) for client in NAMES for case in GOOD if can(client, case)])
def test_who_belongs_gets_in(identity, signers, clients, client, case):
    _require(clients, client)
    listener, login = identity.logins()[case]
    signers[client].sign_in(identity.at(listener), login)


@pytest.mark.parametrize(("client", "case"), [(client, case) for client in NAMES for case in BAD if can(client, case)])
def test_who_does_not_belong_stays_out(identity, signers, clients, client, case):
    _require(clients, client)
    listener, login = identity.refusals()[case]
    already, refused = len(identity.broker.output), identity.refused(listener)
    with pytest.raises(RefusedError) as caught:
        signers[client].sign_in(identity.at(listener), login)
    assert str(caught.value)
    if not (client == "java" and case in ("expired token", "token that nobody signed")):  # It sees that itself.
        assert identity.refused(listener) > refused
    logged = identity.broker.output[already:]  # not always a line: so many complaints are left out
    for secret in (login.password, login.token):
        assert not secret or secret not in logged


def _require(clients, client):
    if client in clients:
        require(clients[client].missing())


# What changes while the broker runs


def nodes(address, **names):
    names = {"security_protocol": "SASL_PLAINTEXT", "default_api_timeout_ms": 10_000, **names}
    with ottla.Admin(address, None, **names) as admin:
        return [node.id for node in admin.describe_cluster().nodes]


def test_who_is_taken_out_of_the_directory_stays_out(identity):
    identity.slapd.change(
        "dn: uid=erin,ou=people,{base}\nchangetype: add\nobjectClass: inetOrgPerson\nuid: erin\ncn: E\nsn: E\n"
        "userPassword: here for a day\n"
    )
    login = Login("PLAIN", "erin", "here for a day")
    Ours().sign_in(identity.at("DIRECTORY"), login)
    identity.slapd.change("dn: uid=erin,ou=people,{base}\nchangetype: delete\n")
    with pytest.raises(RefusedError):
        Ours().sign_in(identity.at("DIRECTORY"), login)


def test_nobody_gets_in_while_the_directory_is_down(identity):
    listener, login = identity.logins()["directory"]
    identity.slapd.stop()
    try:
        with pytest.raises(RefusedError):
            Ours().sign_in(identity.at(listener), login, timeout_ms=1000)
        assert "cannot be reached" in identity.broker.output
    finally:
        identity.slapd.start()
    Ours().sign_in(identity.at(listener), login)


def test_a_new_key_counts_at_once_and_an_old_one_no_more(identity):
    issuer = identity.issuer
    old = issuer.token()
    nodes(identity.at("TOKENS"), sasl_mechanism="OAUTHBEARER", sasl_oauth_token_provider=lambda: old)
    issuer.signs_with, issuer.published = "p384", ["p384"]
    try:
        new = issuer.token()
        nodes(identity.at("TOKENS"), sasl_mechanism="OAUTHBEARER", sasl_oauth_token_provider=lambda: new)
        with pytest.raises(AuthenticationError, match="invalid_token"):
            nodes(identity.at("TOKENS"), sasl_mechanism="OAUTHBEARER", sasl_oauth_token_provider=lambda: old)
    finally:
        issuer.signs_with = issuer.published[0] = "p256"
    time.sleep(2 * REFRESH_MS / 1000)
    nodes(identity.at("TOKENS"), sasl_mechanism="OAUTHBEARER", sasl_oauth_token_provider=issuer.token)


def test_a_service_key_that_was_renewed_counts_without_a_restart(identity):
    listener, login = identity.logins()["ticket"]
    identity.kdc.admin("cpw -randkey kafka/localhost")
    with pytest.raises(RefusedError):
        Ours().sign_in(identity.at(listener), login)
    assert "Kerberos: " in identity.broker.output
    identity.kdc.admin(f"ktadd -norandkey -k {identity.kdc.keytab('kafka')} kafka/localhost")
    Ours().sign_in(identity.at(listener), login)


# Tokens that clients fetch


def test_client_credentials(identity, signers):
    endpoint = {
        "sasl.oauthbearer.token.endpoint.url": f"{identity.issuer.url}/token",
        "sasl.oauthbearer.client.credentials.client.id": "carol",
    }
    for secret in (identity.issuer.secrets["carol"], "another secret"):
        given = {**endpoint, "sasl.oauthbearer.client.credentials.client.secret": secret}
        names = {name.replace(".", "_"): value for name, value in given.items()}
        if secret == "another secret":
            with pytest.raises(AuthenticationError, match="invalid_client"):
                nodes(identity.at("TOKENS"), sasl_mechanism="OAUTHBEARER", **names)
            with pytest.raises(RefusedError):
                signers["java"].with_settings(identity.at("TOKENS"), **given)
        else:
            assert nodes(identity.at("TOKENS"), sasl_mechanism="OAUTHBEARER", **names) == [1]
            signers["java"].with_settings(identity.at("TOKENS"), **given)


def test_client_credentials_of_librdkafka(identity):
    from confluent_kafka.admin import AdminClient

    client = AdminClient(
        {
            "bootstrap.servers": identity.at("TOKENS"),
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "OAUTHBEARER",
            "sasl.oauthbearer.method": "oidc",
            "sasl.oauthbearer.client.id": "carol",
            "sasl.oauthbearer.client.secret": identity.issuer.secrets["carol"],
            "sasl.oauthbearer.token.endpoint.url": f"{identity.issuer.url}/token",
        }
    )
    assert list(client.list_topics(timeout=10).brokers) == [1]


@pytest.mark.parametrize("way", ["assertion for a token", "assertion instead of a secret"])
def test_a_signed_assertion(identity, signers, tmp_path, way):
    key = identity.java.key
    key.write_bytes(identity.issuer.client_key.as_pem(private=True))
    given = {
        "sasl.oauthbearer.token.endpoint.url": f"{identity.issuer.url}/token",
        "sasl.oauthbearer.assertion.private.key.file": str(key),
        "sasl.oauthbearer.assertion.claim.aud": identity.issuer.url,
        "sasl.oauthbearer.assertion.claim.iss": "carol",
        "sasl.oauthbearer.assertion.claim.sub": "carol",
    }
    if way == "assertion for a token":
        given["sasl.oauthbearer.jwt.retriever.class"] = f"{SECURITY}.oauthbearer.JwtBearerJwtRetriever"
    names = {name.replace(".", "_"): value for name, value in given.items()}
    assert nodes(identity.at("TOKENS"), sasl_mechanism="OAUTHBEARER", **names) == [1]
    signers["java"].with_settings(identity.at("TOKENS"), **given)


def test_records_go_on_when_tokens_end(identity):
    """The session ends with the token; the client signs in again with the next one before (KIP-368)."""
    issuer = identity.issuer
    before, issuer.lifetime_s = issuer.issued, 3
    names = {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "OAUTHBEARER",
        "sasl_oauthbearer_token_endpoint_url": f"{issuer.url}/token",
        "sasl_oauthbearer_client_credentials_client_id": "carol",
        "sasl_oauthbearer_client_credentials_client_secret": issuer.secrets["carol"],
    }
    try:
        with ottla.Producer(identity.at("BRIEF"), None, retries=0, **names) as producer:
            ends_at = time.monotonic() + 4.5
            while time.monotonic() < ends_at:
                producer.send("brief", b"x").result(10)
                time.sleep(0.05)
    finally:
        issuer.lifetime_s = 600
    assert issuer.issued - before >= 2
