"""docs/identity.md: the settings of each recipe, with addresses and keys of real back ends in place of the examples."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

import ottla
from benchmarks.brokers import OttlaOnProperties, free_port
from ottla.client.admin.topics import NewTopic
from ottla.client.errors import KafkaError
from ottla.schema.properties import parse_properties
from tests.compatibility.back_ends import BASE, REALM, Kdc, OpenIdIssuer, Slapd, missing_directory, missing_realm
from tests.conftest import require

pytestmark = pytest.mark.xdist_group("identity")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "identity.md"


def block(side, recipe, **places):
    (text,) = re.findall(rf"^```properties {side} {recipe}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    for example, real in {"SASL_SSL": "SASL_PLAINTEXT", "sasl_ssl": "sasl_plaintext", **places}.items():
        text = text.replace(example, real)
    return text


class Guide(OttlaOnProperties):
    """A broker that all clients have to log in to."""

    krb5 = "/dev/null"

    def environment(self):
        return {**super().environment(), "KRB5_CONFIG": self.krb5}

    def command(self):
        return [*super().command(), "--data", str(self.log_directory)]

    def wait_until_ready(self):
        deadline = time.monotonic() + self.start_timeout
        while "ready in" not in self.output:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.01)
        return 0.0


@pytest.fixture
def run(tmp_path):
    started = []

    def start(recipe, krb5="/dev/null", **places):
        port = free_port()
        path = tmp_path / "server.properties"
        path.write_text(block("broker", recipe, **{"kafka1.example.org:9093": f"localhost:{port}", **places}))
        broker = Guide(tmp_path / "broker", path, tmp_path / "data", port=port)
        broker.krb5 = krb5
        started.append(broker)
        broker.start()
        assert "taken without effect" not in broker.output
        return f"localhost:{port}"

    yield start
    for one in started:
        one.stop()


def create_topic(address, recipe, **places):
    settings = {name: value for name, value, _ in parse_properties(block("client", recipe, **places))}
    with ottla.Admin(address, settings, default_api_timeout_ms=10_000) as admin:
        admin.create_topics([NewTopic("orders", num_partitions=1, replication_factor=1)])


def test_tokens_of_an_openid_provider(run):
    issuer = OpenIdIssuer()
    try:
        places = {"https://id.example.org": issuer.url, "carols-secret": "carol's secret: +/="}
        address = run("tokens", **places)
        with pytest.raises(KafkaError, match="AUTHORIZATION_FAILED"):
            create_topic(address, "tokens", **places)
        issuer.groups = ["operators"]
        create_topic(address, "tokens", **places)
    finally:
        issuer.stop()


def test_kerberos(run, tmp_path, monkeypatch):
    require(missing_realm())
    kdc = Kdc(tmp_path / "realm", users=("carol/admin",))
    try:
        kdc.ticket("carol/admin", f"FILE:{tmp_path}/first")  # It is up then.
        monkeypatch.setenv("KRB5_CONFIG", kdc.krb5)
        monkeypatch.setenv("KRB5CCNAME", f"FILE:{tmp_path}/cache")
        places = {
            "/etc/ottla/kafka.keytab": kdc.keytab("kafka"),
            "/etc/jobs/carol.keytab": kdc.keytab("carol"),
            "kafka1.example.org@EXAMPLE.ORG": f"localhost@{REALM}",
            "EXAMPLE.ORG": REALM,
        }
        create_topic(run("tickets", krb5=kdc.krb5, **places), "tickets", **places)
    finally:
        kdc.stop()


def test_passwords_and_groups_in_a_directory(run, tmp_path):
    require(missing_directory())
    slapd = Slapd(tmp_path / "directory")
    slapd.start()
    try:
        places = {
            "ldaps://ldap1.example.org,ldaps://ldap2.example.org": f"ldaps://localhost:1,{slapd.tls_url}",
            "/etc/ottla/authority.pem": slapd.trust,
            "dc=example,dc=org": BASE,
        }
        address = run("directory", **places)
        create_topic(address, "directory", **places)
        bob = {**places, 'username="alice" password="wonderland"': 'username="bob" password="can we fix it"'}
        with pytest.raises(KafkaError, match="AUTHORIZATION_FAILED"):
            create_topic(address, "directory", **bob)
    finally:
        slapd.stop()
