"""Secrets of a node stay secret: unique texts in everything that is one, and they are looked for everywhere.

In everything that the node writes but the metadata log, in what it answers, in what commands print, and with a key in
the metadata log too.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import pytest

from ottla.cli.main import main
from tests.server.node.test_encryption import Process, readable

NEEDLE = "s3cret"
JAAS = "org.apache.kafka.common.security.plain.PlainLoginModule required username=admin password={0} user_admin={0};"
SETTINGS = {
    "listener.name.sasl.plain.sasl.jaas.config": JAAS.format("s3cret-of-jaas"),
    "delegation.token.secret.key": "s3cret-of-tokens",
    "ssl.truststore.password": "s3cret-of-a-store",
    "ssl.key.password": "s3cret-of-a-key",
    "ldap.bind.password": "s3cret-of-ldap",
    "encryption.vault.token": "s3cret-of-vault",
    "encryption.pkcs11.pin": "s3cret-of-a-token",
    "config.providers.vault.param.token": "s3cret-of-a-provider",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT",
    "inter.broker.listener.name": "PLAINTEXT",
    "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256",
    "logging.level": "debug",
    "request.slow.threshold.ms": "0",
    "listeners": "PLAINTEXT://127.0.0.1:0,SASL://127.0.0.1:0",
}
LOGIN = "org.apache.kafka.common.security.{}LoginModule required username=bob password=s3cret-{};"


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Runs a command with `NEEDLE` in its arguments or not; nothing it prints may have it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def run(address: str, *arguments: str) -> str:
        monkeypatch.setenv("OTTLA_BOOTSTRAP_SERVERS", address)
        capsys.readouterr()
        main(list(arguments))
        captured = capsys.readouterr()
        assert NEEDLE not in captured.out + captured.err, arguments
        return captured.out + captured.err

    return run


def addresses(process: Process) -> tuple[str, str]:
    plain, sasl = process.line.split("kafka on ")[1].split(", data")[0].split(",")
    return plain, sasl


def test_secrets_are_nowhere_to_be_seen(tmp_path: Path, said: Any) -> None:
    data, key = tmp_path / "data", tmp_path / "key"
    key.write_bytes(secrets.token_bytes(32))
    given = [f"{name}={value}" for name, value in SETTINGS.items()]
    with Process(data, *given, f"encryption.key=file:{key}") as process:
        plain, sasl = addresses(process)
        for name in (
            "ssl.truststore.password",
            "listener.name.sasl.ssl.keystore.password",
            "listener.name.sasl.plain.sasl.jaas.config",
            "ldap.bind.password",
            "unknown.password",
            "num.io.threads.password",
        ):
            said(plain, "configs", "set", "broker/1", f"{name}={NEEDLE}-altered")
        said(plain, "configs", "set", "broker/1", "ssl.keystore.type=PKCS13", "ssl.key.password=s3cret-2")
        kafka_configs = ("kafka-configs.sh", "--bootstrap-server", plain, "--entity-type", "brokers")
        said(plain, *kafka_configs, "--entity-name", "1", "--alter", "--add-config", "ssl.key.password=s3cret-3")
        said(plain, *kafka_configs, "--entity-name", "1", "--describe", "--all")
        for options in ((), ("--json",)):
            found = said(plain, "configs", "describe", "broker/1", "--all", *options)
            assert "ssl.truststore.password" in found
        said(plain, *kafka_configs[:3], "--entity-type", "users", "--entity-name", "bob", "--alter", "--add-config",
             "SCRAM-SHA-256=[password=s3cret-of-bob]")  # fmt: skip
        for mechanism, module, password in (
            ("PLAIN", "plain.Plain", "wrong"),
            ("SCRAM-SHA-256", "scram.Scram", "wrong"),
            ("SCRAM-SHA-256", "scram.Scram", "of-bob"),
        ):
            login = ("-X", f"sasl.mechanism={mechanism}", "-X", f"sasl.jaas.config={LOGIN.format(module, password)}")
            found = said(sasl, "topics", "list", "-X", "security.protocol=SASL_PLAINTEXT", *login)
            assert ("SASL_AUTHENTICATION_FAILED" in found) == (password == "wrong")
    assert NEEDLE not in process.log
    assert readable(data, NEEDLE.encode()) == []


def test_tools_for_metadata_do_not_show_secrets(tmp_path: Path, said: Any) -> None:
    data = tmp_path / "data"
    with Process(data) as process:
        address = process.address
        for name in ("ssl.keystore.password", "listener.name.sasl.plain.sasl.jaas.config"):
            said(address, "configs", "set", "broker/1", f"{name}={NEEDLE}-altered")
        said(address, "kafka-configs.sh", "--bootstrap-server", address, "--entity-type", "users", "--entity-name",
             "bob", "--alter", "--add-config", "SCRAM-SHA-256=[password=s3cret-of-bob]")  # fmt: skip
    log = data / "__cluster_metadata-0" / "00000000000000000000.log"
    assert readable(data, NEEDLE.encode()) == [log.name], "without a key the metadata log is as Apache Kafka's"
    dumped = said(address, "kafka-dump-log.sh", "--cluster-metadata-decoder", "--files", str(log))
    assert '"storedKey":"(redacted)"' in dumped
    assert '"value":"(redacted)"' in dumped
    said(address, "metadata", "log", str(data))
    said(address, "metadata", "log", "--json", str(data))
    said(address, "metadata", "show", str(data))
    for path in ("/image/configs/BROKER:1/ssl.keystore.password", "/image/scram/SCRAM-SHA-256/bob"):
        found = said(address, "kafka-metadata-shell.sh", "--snapshot", str(log), "cat", path)
        assert "[redacted]" in found, found


def test_a_start_that_fails_does_not_tell_secrets(tmp_path: Path) -> None:
    """Each setting with a secret, wrong in the way its kind can be."""
    for setting in (
        "encryption.key=s3cret",
        "listener.name.plaintext.plain.sasl.jaas.config=s3cret is not JAAS",
        "ssl.keystore.key=s3cret is no PEM",
        "delegation.token.secret.key.typo=s3cret",
        "sasl.jaas.config=s3cret",
    ):
        try:
            process = Process(tmp_path / "data", setting)
        except AssertionError as error:
            told = str(error)
        else:
            process.end()
            told = process.log
        assert NEEDLE not in told, told
