"""Delegation tokens beside Apache Kafka's: the same requests to both brokers, every answer compared; Kafka's own tool
and Java's clients on ours."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import ottla
from benchmarks.brokers import KAFKA_HOME, ApacheKafka, Broker, OttlaBroker, free_port
from ottla.admin import AclBinding, AclOperation, AclResourceType
from ottla.cli.client_properties import properties_text, scram_settings
from ottla.cli.kafka import delegation_tokens
from ottla.client.errors import KafkaError
from tests.compatibility.drivers import Java, wait_until
from tests.conftest import SETTINGS, require

pytestmark = [pytest.mark.xdist_group("kafka"), pytest.mark.timeout(240)]

USERS = ("admin", "alice", "bob", "eve")
PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"
PASSWORDS = " ".join(f'user_{name}="{name}"' for name in USERS)
JAAS = f'{PLAIN} username="admin" password="admin" {PASSWORDS};'
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
TOOL = "org.apache.kafka.tools.DelegationTokenCommand"
DAY_MS = 86_400_000
MINUTES_MS = 600_000
"""The brokers are asked one after the other, and one is slower."""


class Secured:
    """A broker with a plain listener, and CLIENTS with SASL; so is the controllers' at Kafka's, which would not forward
    a request about tokens otherwise."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.clients = f"127.0.0.1:{free_port()}"
        listeners = f"PLAINTEXT://{broker.bootstrap},CLIENTS://{self.clients}"
        protocols = "PLAINTEXT:PLAINTEXT,CLIENTS:SASL_PLAINTEXT"
        names = ["clients"]
        settings = {
            **SETTINGS,
            "inter.broker.listener.name": "PLAINTEXT",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:admin;User:ANONYMOUS",
            "delegation.token.secret.key": "a secret of the cluster",
        }
        if isinstance(broker, ApacheKafka):
            listeners += f",CONTROLLER://127.0.0.1:{broker.controller_port}"
            protocols += ",CONTROLLER:SASL_PLAINTEXT"
            names.append("controller")
            settings["sasl.mechanism.controller.protocol"] = "PLAIN"
        settings |= {"listeners": listeners, "advertised.listeners": listeners}
        settings["listener.security.protocol.map"] = protocols
        for name in names:
            prefix = f"listener.name.{name}"
            settings[f"{prefix}.sasl.enabled.mechanisms"] = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"
            settings[f"{prefix}.plain.sasl.jaas.config"] = JAAS
            for mechanism in ("scram-sha-256", "scram-sha-512"):
                settings[f"{prefix}.{mechanism}.sasl.jaas.config"] = SCRAM
        broker.settings = settings


def login(address: str, user: str) -> dict[str, str]:
    return {
        "bootstrap.servers": address,
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.jaas.config": f'{PLAIN} username="{user}" password="{user}";',
    }


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    secured = Secured(OttlaBroker(tmp_path_factory.mktemp("ours")))
    secured.broker.start()
    yield secured.clients
    secured.broker.stop()


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    require(None if (KAFKA_HOME / "libs").exists() else "Apache Kafka (scripts/install-tools kafka)")
    heap = "-Xmx512m -Xms128m -XX:TieredStopAtLevel=1"
    secured = Secured(ApacheKafka(tmp_path_factory.mktemp("theirs"), heap=heap))
    secured.broker.start()
    yield secured.clients
    secured.broker.stop()


class Asked:
    """What a broker answered, with times since the token was made and without what differs by chance."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.answers: list[Any] = []
        self.admins: dict[str, ottla.Admin] = {}

    def close(self) -> None:
        for admin in self.admins.values():
            admin.close()

    def as_user(self, user: str, settings: dict[str, str] | None = None) -> ottla.Admin:
        if user not in self.admins:
            given = dict(settings or login(self.address, user))
            self.admins[user] = ottla.Admin(given.pop("bootstrap.servers"), given)
        return self.admins[user]

    def note(self, call: Callable[[], Any]) -> Any:
        try:
            answer = call()
        except KafkaError as error:
            self.answers.append(None if error.code is None else error.code.name)
            return None
        self.answers.append(self._shown(answer))
        return answer

    def _shown(self, answer: Any) -> Any:
        if isinstance(answer, list):
            return sorted(map(self._shown, answer), key=str)
        if hasattr(answer, "hmac"):
            issued = answer.issue_timestamp_ms
            return (
                len(answer.token_id),
                len(answer.hmac),
                str(answer.owner),
                str(answer.requester),
                tuple(map(str, answer.renewers)),
                (answer.expiry_timestamp_ms - issued) // MINUTES_MS,
                (answer.max_timestamp_ms - issued) // MINUTES_MS,
            )
        return type(answer).__name__


def scenario(asked: Asked) -> None:
    """Every request about tokens, allowed and refused."""
    alice, bob, eve, admin = (asked.as_user(name) for name in ("alice", "bob", "eve", "admin"))
    note = asked.note
    token = note(lambda: alice.create_delegation_token(renewers=["User:bob"]))
    note(lambda: alice.create_delegation_token(max_lifetime_ms=3_600_000))
    note(lambda: alice.create_delegation_token(max_lifetime_ms=400 * DAY_MS))
    note(lambda: alice.create_delegation_token(renewers=["Group:ops"]))
    note(lambda: eve.create_delegation_token(owner="User:alice"))
    note(lambda: eve.create_delegation_token(owner="Group:ops"))
    wait_until(lambda: len(alice.describe_delegation_token()) == 3, "the tokens")
    for user in (alice, bob, eve, admin):
        note(user.describe_delegation_token)
        note(lambda user=user: user.describe_delegation_token(["User:alice"]))
        note(lambda user=user: user.describe_delegation_token(["User:bob", "User:nobody"]))
        note(lambda user=user: user.describe_delegation_token([]))
    for user in (eve, bob, alice):
        note(lambda user=user: user.renew_delegation_token(token.hmac))
        note(lambda user=user: user.renew_delegation_token(token.hmac, renew_period_ms=1_800_000))
    note(lambda: alice.renew_delegation_token(b"guessed"))
    note(lambda: alice.expire_delegation_token(b"guessed"))
    note(lambda: eve.expire_delegation_token(token.hmac, expiry_period_ms=5000))
    note(lambda: bob.expire_delegation_token(token.hmac, expiry_period_ms=3_600_000))
    for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
        hmac = base64.b64encode(token.hmac).decode()
        base = login(asked.address, "alice")
        holder = asked.as_user(mechanism, scram_settings(base, token.token_id, hmac, mechanism, token=True))
        note(holder.list_topics)
        note(holder.create_delegation_token)
        note(holder.describe_delegation_token)
        note(partial(holder.renew_delegation_token, token.hmac))
        note(partial(holder.expire_delegation_token, token.hmac))
    rules = [
        AclBinding(AclResourceType.DELEGATION_TOKEN, token.token_id, "User:eve", AclOperation.DESCRIBE),
        AclBinding(AclResourceType.USER, "User:alice", "User:eve", AclOperation.CREATE_TOKENS),
    ]
    note(lambda: admin.create_acls(rules))
    wait_until(eve.describe_delegation_token, "the rules")
    note(lambda: _settled(eve))
    other = note(lambda: eve.create_delegation_token(owner="User:alice", renewers=["User:bob"]))
    _settled(bob)
    note(lambda: eve.renew_delegation_token(other.hmac))
    note(
        lambda: admin.create_acls(
            AclBinding(AclResourceType.USER, "User:alice", "User:eve", AclOperation.DESCRIBE_TOKENS)
        )
    )
    note(lambda: _settled(eve))
    note(lambda: alice.expire_delegation_token(token.hmac))
    _settled(alice)
    note(lambda: alice.expire_delegation_token(token.hmac))
    note(lambda: alice.renew_delegation_token(token.hmac))
    note(lambda: _settled(alice))


def _settled(admin: ottla.Admin) -> Any:
    """What Kafka's broker tells when it has heard of the last change, a little later than its controller."""
    found, before = admin.describe_delegation_token(), None
    while found != before:
        time.sleep(0.5)
        found, before = admin.describe_delegation_token(), found
    return found


def answers(address: str) -> list[Any]:
    asked = Asked(address)
    try:
        scenario(asked)
    finally:
        asked.close()
    return asked.answers


def test_answers_are_kafkas(ours: str, theirs: str) -> None:
    found, expected = answers(ours), answers(theirs)
    assert len(found) > 50
    pairs = enumerate(zip(found, expected, strict=True))
    assert [(at, our, their) for at, (our, their) in pairs if our != their] == []


def masked(text: str) -> str:
    text = re.sub(r"[A-Za-z0-9+/]{80,}={0,2}", "HMAC", text)
    text = re.sub(r"\b[A-Za-z0-9_-]{22}(?![A-Za-z0-9_-])", "TOKEN", text)
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d", "DATE", text)


def test_kafkas_tool_works_on_ours_and_says_what_our_own_says(
    ours: str, java: Java, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "bob.properties"
    config.write_text(properties_text(login(ours, "bob")))

    def said_by_both(*arguments: str) -> str:
        line = ("--bootstrap-server", ours, "--command-config", str(config), *arguments)
        theirs = java.tool(TOOL, *line)
        capsys.readouterr()
        assert delegation_tokens.run(list(line)) == 0
        said = capsys.readouterr().out
        assert masked(said).strip() == masked(theirs).strip()
        return theirs

    create = ("--create", "--max-life-time-period", "-1", "--renewer-principal", "User:alice")
    made = said_by_both(*create)
    (hmac,) = re.findall(r"[A-Za-z0-9+/]{80,}={0,2}", made)
    said_by_both("--renew", "--renew-time-period", "-1", "--hmac", hmac)
    described = said_by_both("--describe", "--owner-principal", "User:bob")
    assert hmac in described
    said_by_both("--expire", "--expiry-time-period", "3600000", "--hmac", hmac)


def test_java_logs_in_with_a_token(ours: str, java: Java, tmp_path: Path) -> None:
    settings = login(ours, "admin")
    with ottla.Admin(settings.pop("bootstrap.servers"), settings) as admin:
        token = admin.create_delegation_token()
        hmac = base64.b64encode(token.hmac).decode()
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
            config = tmp_path / f"{mechanism}.properties"
            given = scram_settings(login(ours, "admin"), token.token_id, hmac, mechanism, token=True)
            config.write_text(properties_text(given))
            line = ("--bootstrap-server", ours, "--command-config", str(config))
            java.tool("org.apache.kafka.tools.TopicCommand", *line, "--create", "--topic", f"by-{mechanism}")
        assert {"by-SCRAM-SHA-256", "by-SCRAM-SHA-512"} <= set(admin.list_topics())
