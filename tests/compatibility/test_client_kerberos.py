"""Our clients signing in to Apache Kafka with Kerberos: a KDC of our own, tickets from a cache and from a keytab."""

from __future__ import annotations

import importlib.util

import pytest

import ottla
from benchmarks.brokers import KAFKA_HOME, ApacheKafka, free_port
from ottla.client.errors import AuthenticationError
from tests.compatibility.back_ends import REALM, Kdc, missing_realm
from tests.conftest import SETTINGS, require

pytestmark = [pytest.mark.xdist_group("kafka"), pytest.mark.timeout(180)]


def missing():
    if importlib.util.find_spec("gssapi") is None:
        return "the gssapi package (pip install 'ottla[gssapi]')"
    return missing_realm()


class KerberosKafka(ApacheKafka):
    """A broker that reads the realm's configuration."""

    options = ""

    def environment(self):
        return {**super().environment(), "JAVA_TOOL_OPTIONS": self.options}


@pytest.fixture(scope="module")
def realm(tmp_path_factory):
    require(None if (KAFKA_HOME / "libs").exists() else "Apache Kafka (scripts/install-tools kafka)")
    if (reason := missing()) is not None:
        pytest.skip(f"missing on this machine: {reason}")
    directory = tmp_path_factory.mktemp("kerberos")
    kdc = Kdc(directory)
    broker = KerberosKafka(directory / "kafka", heap="-Xmx512m -Xms128m -XX:TieredStopAtLevel=1")
    port = free_port()
    plain = f"127.0.0.1:{broker.port}"
    module = "com.sun.security.auth.module.Krb5LoginModule"
    broker.options = f"-Djava.security.krb5.conf={kdc.environment['KRB5_CONFIG']}"
    broker.settings = {
        **SETTINGS,
        "listeners": f"PLAINTEXT://{plain},KERBEROS://localhost:{port},CONTROLLER://127.0.0.1:{broker.controller_port}",
        "advertised.listeners": f"PLAINTEXT://{plain},KERBEROS://localhost:{port}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,KERBEROS:SASL_PLAINTEXT",
        "listener.name.kerberos.sasl.enabled.mechanisms": "GSSAPI",
        "listener.name.kerberos.gssapi.sasl.jaas.config": (
            f'{module} required useKeyTab=true storeKey=true keyTab="{kdc.keytab("kafka")}" '
            f'principal="kafka/localhost@{REALM}";'
        ),
        "sasl.kerberos.service.name": "kafka",
    }
    try:
        kdc.ticket("alice")
        broker.start()
        yield kdc, f"localhost:{port}"
    finally:
        broker.stop()
        kdc.stop()


@pytest.fixture
def kerberos(realm, monkeypatch):
    kdc, address = realm
    for name in ("KRB5_CONFIG", "KRB5CCNAME"):
        monkeypatch.setenv(name, kdc.environment[name])
    return kdc, address


def nodes(address, **names):
    names = {"security_protocol": "SASL_PLAINTEXT", "default_api_timeout_ms": 15_000, **names}
    with ottla.Admin(address, None, **names) as admin:
        return [node.id for node in admin.describe_cluster().nodes]


def test_a_ticket_from_the_cache(kerberos):
    assert nodes(kerberos[1]) == [1]


def test_a_ticket_from_a_keytab(kerberos, monkeypatch, tmp_path):
    kdc, address = kerberos
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{tmp_path}/cache")
    keytab = {"sasl_kerberos_keytab": kdc.keytab("bob"), "sasl_kerberos_principal": f"bob@{REALM}"}
    assert nodes(address, **keytab) == [1]
    jaas = f'com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true keyTab="{kdc.keytab("bob")}"'
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{tmp_path}/other")
    assert nodes(address, sasl_jaas_config=f'{jaas} principal="bob@{REALM}" serviceName="kafka";') == [1]


def test_without_a_ticket(kerberos, monkeypatch, tmp_path):
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{tmp_path}/cache")
    with pytest.raises(AuthenticationError, match=r"Kerberos does not let us in: .* Run kinit or set"):
        nodes(kerberos[1])


def test_a_service_that_does_not_exist(kerberos):
    with pytest.raises(AuthenticationError, match=r"not found in Kerberos database.*sasl\.kerberos\.service\.name"):
        nodes(kerberos[1], sasl_kerberos_service_name="nothing")
