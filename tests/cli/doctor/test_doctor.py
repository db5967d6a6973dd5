"""`ottla doctor`: each opening is found, named, and gone when it is closed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ottla.cli.doctor import files, operation, security, starting
from ottla.cli.doctor.findings import Finding, GivenSettings, RemoteSettings, Severity, is_open
from ottla.cli.main import main
from ottla.schema.config import BrokerConfig

SCRAM = {
    "listeners": "CLIENTS://0.0.0.0:9092",
    "listener.security.protocol.map": "CLIENTS:SASL_SSL",
    "inter.broker.listener.name": "CLIENTS",
    "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-512",
    "sasl.enabled.mechanisms": "SCRAM-SHA-512",
    "ssl.keystore.location": "/nowhere/keystore.pem",
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:admin",
    "log.dirs": "/var/lib/ottla",
    "advertised.listeners": "CLIENTS://broker.example:9092",
}
CLOSED = {
    **SCRAM,
    "encryption.key": "file:/nowhere/key",
    "audit.log.file": "/var/log/audit.jsonl",
    "max.connections.per.ip": 100,
    "queued.max.request.bytes": 2**30,
}


def examine(settings: Mapping[str, object]) -> dict[str, Finding]:
    subject = GivenSettings("test", BrokerConfig.of(settings))
    return {finding.name: finding for finding in (*security.look(subject), *operation.look(subject))}


def test_a_closed_configuration_has_no_findings() -> None:
    assert examine(CLOSED) == {}


def test_a_broker_for_this_machine_alone_has_no_findings() -> None:
    assert examine({"log.dirs": "/var/lib/ottla"}) == {}


JAAS = "listener.name.clients.plain.sasl.jaas.config"
MODULE = "org.apache.kafka.common.security.plain.PlainLoginModule required"
OPENINGS: dict[str, tuple[Mapping[str, object], Severity]] = {
    "listener-plain": ({"listener.security.protocol.map": "CLIENTS:PLAINTEXT"}, Severity.CRITICAL),
    "login-in-clear": (
        {"listener.security.protocol.map": "CLIENTS:SASL_PLAINTEXT", "sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN"},
        Severity.CRITICAL,
    ),
    "listener-unencrypted": ({"listener.security.protocol.map": "CLIENTS:SASL_PLAINTEXT"}, Severity.WARNING),
    "tls-anonymous": ({"listener.security.protocol.map": "CLIENTS:SSL"}, Severity.WARNING),
    "tls-old": ({"listener.name.clients.ssl.enabled.protocols": "TLSv1.1,TLSv1.2"}, Severity.WARNING),
    "tls-ciphers": ({"ssl.cipher.suites": "TLS_RSA_WITH_3DES_EDE_CBC_SHA"}, Severity.WARNING),
    "tls-names": ({"ssl.endpoint.identification.algorithm": ""}, Severity.WARNING),
    "tls-any-authority": (
        {"listener.security.protocol.map": "CLIENTS:SSL", "ssl.client.auth": "required"},
        Severity.WARNING,
    ),
    "listener-unknown": ({"listener.name.client.ssl.client.auth": "required"}, Severity.WARNING),
    "no-authorizer": ({"authorizer.class.name": ""}, Severity.CRITICAL),
    "allow-everyone": ({"allow.everyone.if.no.acl.found": "true"}, Severity.WARNING),
    "super-anybody": ({"super.users": "User:admin;User:ANONYMOUS"}, Severity.CRITICAL),
    "super-commas": ({"super.users": "User:admin,User:broker"}, Severity.WARNING),
    "super-many": ({"super.users": "User:a;User:b;User:c;User:d"}, Severity.NOTICE),
    "oauthbearer-unsecured": ({"sasl.enabled.mechanisms": "SCRAM-SHA-512,OAUTHBEARER"}, Severity.CRITICAL),
    "jwks-in-clear": (
        {
            "sasl.enabled.mechanisms": "SCRAM-SHA-512,OAUTHBEARER",
            "sasl.oauthbearer.jwks.endpoint.url": "http://issuer.example/keys",
        },
        Severity.CRITICAL,
    ),
    "oauthbearer-audience": (
        {
            "sasl.enabled.mechanisms": "SCRAM-SHA-512,OAUTHBEARER",
            "sasl.oauthbearer.jwks.endpoint.url": "https://issuer.example/keys",
        },
        Severity.WARNING,
    ),
    "ldap-in-clear": (
        {"sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN", "ldap.url": "ldap://directory"},
        Severity.CRITICAL,
    ),
    "weak-password": (
        {"sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN", JAAS: f'{MODULE} user_alice="alice-secret";'},
        Severity.CRITICAL,
    ),
    "token-secret": ({"delegation.token.secret.key": "short"}, Severity.WARNING),
    "store-password": ({"ssl.keystore.password": "changeit"}, Severity.NOTICE),
    "metrics-open": ({"http.listeners": "http://0.0.0.0:8080"}, Severity.WARNING),
    "data-unencrypted": ({"encryption.key": None}, Severity.NOTICE),
    "no-audit": ({"audit.log.file": None}, Severity.NOTICE),
    "connections-unlimited": ({"max.connections.per.ip": 2**31 - 1}, Severity.NOTICE),
    "requests-unlimited": ({"queued.max.request.bytes": -1}, Severity.NOTICE),
    "patience": ({"request.receive.timeout.ms": 0}, Severity.WARNING),
    "advertised-hostname": ({"advertised.listeners": None, "listeners": "CLIENTS://:9092"}, Severity.NOTICE),
    "advertised-loopback": ({"advertised.listeners": "CLIENTS://localhost:9092"}, Severity.WARNING),
    "data-temporary": ({"log.dirs": "/tmp/kafka-logs"}, Severity.WARNING),
    "isr-impossible": ({"min.insync.replicas": 2, "default.replication.factor": 1}, Severity.CRITICAL),
    "isr-brittle": ({"min.insync.replicas": 3, "default.replication.factor": 3}, Severity.WARNING),
    "unclean-election": ({"unclean.leader.election.enable": True}, Severity.WARNING),
    "request-too-small": ({"socket.request.max.bytes": 100_000, "queued.max.request.bytes": -1}, Severity.WARNING),
    "unstable-apis": ({"unstable.api.versions.enable": True}, Severity.NOTICE),
}


@pytest.mark.parametrize("name", OPENINGS)
def test_an_opening_is_found(name: str) -> None:
    changes, severity = OPENINGS[name]
    settings = {key: value for key, value in {**CLOSED, **changes}.items() if value is not None}
    finding = examine(settings)[name]
    assert finding.severity is severity
    assert all((finding.where, finding.what, finding.why, finding.remedy))
    assert "alice-secret" not in str(finding)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", False), ("127.9.9.9", False), ("::1", False), ("localhost", False), ("", True), ("0.0.0.0", True),
     ("::", True), ("10.0.0.1", True), ("broker.example", True), ("fe80::1%eth0", True)],
)  # fmt: skip
def test_what_other_machines_reach_is_open(host: str, expected: bool) -> None:
    assert is_open(host) is expected


def test_a_running_broker_is_judged_by_what_it_tells() -> None:
    texts = {
        "listeners": "PLAINTEXT://0.0.0.0:9092",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT",
        "delegation.token.secret.key": None,
        "unclean.leader.election.enable": "true",
        "max.connections": "a value of the future",
    }
    subject = RemoteSettings("broker 1", texts, frozenset(("unclean.leader.election.enable",)))
    names = {finding.name for finding in (*security.look(subject), *operation.look(subject))}
    assert {"listener-plain", "no-authorizer", "unclean-election"} <= names
    assert subject.is_given("unclean.leader.election.enable")


def test_files_that_everybody_may_read(tmp_path: Path) -> None:
    config_file, key = tmp_path / "server.properties", tmp_path / "keystore.pem"
    config_file.write_text("ssl.keystore.password=hunter2hunter2\nssl.key.password=${env:KEY}\n")
    key.write_text("no key")
    subject = GivenSettings("test", BrokerConfig.of({**CLOSED, "ssl.keystore.location": str(key)}))
    for mode, expected in ((0o644, {"config-readable", "key-readable"}), (0o600, {"secrets-in-config"})):
        config_file.chmod(mode)
        key.chmod(mode)
        found = {finding.name: finding for finding in files.look(subject, str(config_file))}
        assert expected <= set(found)
        assert not {"config-readable", "key-readable", "secrets-in-config"} - expected & set(found)
        assert "keystore-unusable" in found
    assert "ssl.key.password" not in str(found)


def test_certificates_that_end_soon(tmp_path: Path) -> None:
    from tests.cli.doctor.authority import write_key_store

    now = datetime.now(UTC)
    path = tmp_path / "keystore.pem"
    for days, severity in ((400, None), (20, Severity.WARNING), (3, Severity.CRITICAL), (-1, Severity.CRITICAL)):
        write_key_store(path, now - timedelta(days=30), now + timedelta(days=days))
        path.chmod(0o600)
        subject = GivenSettings("test", BrokerConfig.of({**CLOSED, "ssl.keystore.location": str(path)}))
        found = {finding.name: finding for finding in files.look(subject, None, now=now)}
        assert "keystore-unusable" not in found
        assert (
            found["certificate-ends"].severity if severity is not None else found.get("certificate-ends")
        ) == severity


PLAIN = {"listener.security.protocol.map": "CLIENTS:SASL_PLAINTEXT", "sasl.enabled.mechanisms": "PLAIN"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"super.users": "admin"}, "super.users: 'admin' is not a principal"),
        ({"authorizer.class.name": "org.example.Mine"}, "is no authorizer that Ottla has"),
        ({"encryption.key": "file:/no/such"}, "cannot read the key file /no/such"),
        ({"encryption.key": "vault:transit/ottla"}, "encryption.vault.address is not set"),
        ({"sasl.enabled.mechanisms": "SCRAM-SHA-521"}, "there is no mechanism SCRAM-SHA-521"),
        (PLAIN, "sasl.jaas.config is missing"),
        ({"ssl.cipher.suites": "TLS_AES_128_GCM_SHA265"}, "there is no TLS_AES_128_GCM_SHA265"),
        ({"ssl.truststore.location": "/no/such"}, "ssl.truststore.location: cannot read /no/such"),
        ({"ssl.principal.mapping.rules": "RULE:x"}, "'RULE:x' is neither DEFAULT nor"),
    ],
)
def test_what_would_stop_the_start_is_found_before(changes: Mapping[str, object], reason: str, tmp_path: Path) -> None:
    from tests.cli.doctor.authority import write_key_store

    now = datetime.now(UTC)
    key, store = tmp_path / "key", tmp_path / "keystore.pem"
    key.write_bytes(bytes(32))
    write_key_store(store, now - timedelta(days=30), now + timedelta(days=400))
    good = {**CLOSED, "ssl.keystore.location": str(store), "encryption.key": f"file:{key}"}
    assert list(starting.look(GivenSettings("test", BrokerConfig.of(good)))) == []
    (finding,) = starting.look(GivenSettings("test", BrokerConfig.of({**good, **changes})))
    assert (finding.name, finding.severity) == ("cannot-start", Severity.CRITICAL)
    assert reason in finding.what


def test_the_command_tells_and_its_exit_code_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OTTLA_BOOTSTRAP_SERVERS", "OTTLA_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    assert main(["doctor", "--data", "/var/lib/ottla", "--json"]) == 0
    assert {finding["severity"] for finding in json.loads(capsys.readouterr().out)} <= {"notice"}
    assert main(["doctor", "--set", "listeners=PLAINTEXT://:9092", "--set", "log.dirs=/var/lib/ottla", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [finding["name"] for finding in found][:2] == ["listener-plain", "no-authorizer"]
    assert set(found[0]) == {"subject", "severity", "name", "where", "what", "why", "remedy"}
    assert main(["doctor", "--set", "listeners=PLAINTEXT://:9092", "--set", "log.dirs=/var/lib/ottla"]) == 1
    text = capsys.readouterr().out
    assert "this configuration: 2 critical" in text
    assert "→ listener.security.protocol.map=PLAINTEXT:SASL_SSL" in text
    assert main(["doctor", "--set", "x=1", "-b", "localhost:9092"]) == 1
    assert "say which" in capsys.readouterr().err


def test_brokers_of_a_cluster_are_examined_as_they_run(
    bootstrap: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OTTLA_PROFILE", raising=False)
    main(["doctor", "-b", bootstrap, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert {finding["subject"] for finding in found} <= {"broker 1"}
    assert not {finding["name"] for finding in found} & {"listener-plain", "no-authorizer"}, (
        "it is for this machine alone"
    )
