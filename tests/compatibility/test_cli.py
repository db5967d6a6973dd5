"""`ottla …` against Apache Kafka with an authorizer, two data directories, and a second broker that never copies
anything: what our own broker cannot show yet."""

from __future__ import annotations

import io
import json
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.brokers import KAFKA_HOME, ApacheKafka
from ottla import Admin
from ottla.cli.main import main
from ottla.protocol.codec import decode, encode
from ottla.protocol.messages.broker_heartbeat import BrokerHeartbeatRequest, BrokerHeartbeatResponse
from ottla.protocol.messages.broker_registration import (
    BrokerRegistrationRequest,
    BrokerRegistrationResponse,
    Feature,
    Listener,
)
from tests.compatibility.drivers import wait_until
from tests.conftest import SETTINGS, require

pytestmark = pytest.mark.xdist_group("kafka")

Run = Callable[..., str]


class Kafka(ApacheKafka):
    """A broker with a second data directory."""

    @property
    def other_directory(self) -> Path:
        return self.directory / "other"


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    require(None if (KAFKA_HOME / "libs").exists() else "Apache Kafka (scripts/install-tools kafka)")
    directory = tmp_path_factory.mktemp("kafka")
    settings = SETTINGS | {
        "log.dirs": f"{directory / 'data'},{directory / 'other'}",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "broker.session.timeout.ms": "120000",
    }
    broker = Kafka(directory, settings=settings, heap="-Xmx512m -Xms128m -XX:TieredStopAtLevel=1")
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def ottla(kafka: Kafka, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs a command; returns what it printed."""
    monkeypatch.setenv("OTTLA_BOOTSTRAP_SERVERS", kafka.bootstrap)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    def run(*arguments: str, code: int = 0) -> str:
        capsys.readouterr()
        returned = main(list(arguments))
        captured = capsys.readouterr()
        assert returned == code, captured.err or captured.out
        return captured.out if code == 0 else captured.err or captured.out

    return run


class IdleBroker:
    """Broker 2: registered with the controller and alive by its heartbeats, but nobody is there."""

    def __init__(self, kafka: Kafka) -> None:
        self._socket = socket.create_connection(("127.0.0.1", kafka.controller_port), timeout=30)
        with Admin(kafka.bootstrap) as admin:
            cluster_id = admin.describe_cluster().cluster_id or ""
            features = [Feature(name=n, min_supported_version=v.min_version, max_supported_version=v.max_version)
                        for n, v in admin.describe_features().supported.items()]  # fmt: skip
        request = BrokerRegistrationRequest(
            broker_id=2,
            cluster_id=cluster_id,
            incarnation_id=os.urandom(16),
            listeners=[Listener(name="PLAINTEXT", host="127.0.0.1", port=9, security_protocol=0)],
            features=features,
            rack=None,
            log_dirs=[os.urandom(16)],
        )
        registered = decode(BrokerRegistrationResponse, 4, self._call(request, 62, 4))
        assert registered.error_code == 0
        self._epoch = registered.broker_epoch
        self.beat(want_fence=False)

    def beat(self, *, want_fence: bool) -> None:
        request = BrokerHeartbeatRequest(
            broker_id=2,
            broker_epoch=self._epoch,
            current_metadata_offset=2**40,
            want_fence=want_fence,
            want_shut_down=False,
        )
        answer = decode(BrokerHeartbeatResponse, 1, self._call(request, 63, 1))
        assert (answer.error_code, answer.is_fenced) == (0, want_fence)

    def _call(self, request: object, api_key: int, version: int) -> bytes:
        payload = struct.pack(">hhih", api_key, version, 1, -1) + b"\0" + bytes(encode(request, version))
        self._socket.sendall(struct.pack(">i", len(payload)) + payload)
        size = struct.unpack(">i", self._read(4))[0]
        return self._read(size)[5:]  # behind the correlation id and the header's tags

    def _read(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            found += self._socket.recv(size - len(found)) or pytest.fail("the controller closed the connection")
        return found

    def close(self) -> None:
        self._socket.close()


def test_access_rules(ottla: Run, name: str) -> None:
    assert json.loads(ottla("acls", "list", "--json")) == []
    said = ottla("acls", "allow", "alice", "produce", f"topic/{name}-*", "--dry-run")
    assert said.splitlines()[0] == f"would add: User:alice may write topic/{name}-*"
    assert json.loads(ottla("acls", "list", "--json")) == []
    ottla("acls", "allow", "alice", "produce", f"topic/{name}-*")
    ottla("acls", "allow", "bob", "consume", f"topic/{name}-1", f"group/{name}")
    ottla("acls", "deny", "*", "delete", f"topic/{name}-1", "--host", "10.0.0.1")
    rows = [line.split() for line in ottla("acls", "list", f"topic/{name}-1").splitlines()[1:]]
    assert rows == [
        ["User:*", "deny", "delete", f"topic/{name}-1", "10.0.0.1"],
        ["User:bob", "allow", "read", f"topic/{name}-1", "any"],
        ["User:bob", "allow", "describe", f"topic/{name}-1", "any"],
    ]
    matching = json.loads(ottla("acls", "list", f"topic/{name}-1", "--match", "--json"))
    assert len(matching) == 6  # what alice has by the prefix applies as well
    assert "nothing to add" in ottla("acls", "allow", "bob", "read", f"topic/{name}-1", "--dry-run")
    assert "Say --yes" in ottla("acls", "remove", "-p", "bob", code=1)
    assert ottla("acls", "remove", "-p", "bob", "--dry-run").count("would remove: User:bob may") == 4
    assert ottla("acls", "rm", "-p", "bob", "-y").count("removed: User:bob may") == 4
    assert {one["principal"] for one in json.loads(ottla("acls", "list", "--json"))} == {"User:*", "User:alice"}
    ottla("acls", "remove", "topic", "-y")
    assert json.loads(ottla("acls", "list", "--json")) == []


def test_users(ottla: Run, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "password"
    file.write_text("geheim-1\n")
    assert "has no password to change" in ottla("users", "set", name, "-p", str(file), code=1)
    assert ottla("users", "create", name, "-p", str(file), "-m", "SCRAM-SHA-256").startswith(f"made {name} (SCRAM-SHA-")
    wait_until(lambda: json.loads(ottla("users", "list", "--json")), "the user")  # Kafka answers before
    monkeypatch.setattr("sys.stdin", io.StringIO("geheim-2\n"))
    ottla("users", "set", name, "-p", "-", "-i", "8192")
    found = {one["mechanism"]: one["iterations"] for one in json.loads(ottla("users", "list", name, "--json"))}
    assert found == {"SCRAM-SHA-256": 4096, "SCRAM-SHA-512": 8192}
    assert ottla("users", "set", name, "--dry-run") == f"would set SCRAM-SHA-512 credential of {name}\n"
    assert "Say --yes" in ottla("users", "delete", name, code=1)
    ottla("users", "delete", name, "-m", "SCRAM-SHA-256", "-y")
    assert ottla("users", "rm", name, "-y") == f"deleted SCRAM-SHA-512 of {name}\n"
    assert "has no such credential" in ottla("users", "delete", name, "-y", code=1)


def test_users_with_roles(ottla: Run, name: str, tmp_path: Path) -> None:
    config = tmp_path / "client.properties"
    role = ("-r", "writer", "--topics", f"{name}-*")
    made = json.loads(ottla("users", "create", name, "--generate", *role, "-o", str(config), "--json"))
    assert len(made["rules"]) == 3
    assert made["password"] in config.read_text()
    wait_until(lambda: json.loads(ottla("users", "list", "--json"))[0]["roles"], "the rules")  # Kafka answers before
    ottla("users", "grant", name, "-r", "consumer", "--topics", name, "--groups", name)
    wanted = {"consumer": {"topic": [name], "group": [name]}, "writer": {"topic": [f"{name}-*"]}}
    wait_until(lambda: json.loads(ottla("users", "show", name, "--json"))["roles"] == wanted, "both roles")
    ottla("users", "revoke", name, "-r", "consumer")
    ottla("users", "passwd", name, "-g", "-m", "SCRAM-SHA-256", "-m", "SCRAM-SHA-512")
    wait_until(lambda: len(json.loads(ottla("users", "list", name, "--json"))) == 2, "both credentials")
    wait_until(lambda: len(json.loads(ottla("acls", "list", "--json"))) == 3, "the rules of the writer")
    said = ottla("users", "delete", name, "-y")
    assert said == f"deleted SCRAM-SHA-256 of {name}, SCRAM-SHA-512 of {name}, 3 rules\n"
    wait_until(lambda: json.loads(ottla("acls", "list", "--json")) == [], "no rules")


def test_moving_between_directories(ottla: Run, kafka: Kafka, name: str) -> None:
    ottla("topics", "create", name)
    wait_until(lambda: f"{name}-0" in ottla("cluster", "log-dirs", "-l"), "the replica")  # Kafka answers before
    directories = json.loads(ottla("cluster", "log-dirs", "--json"))
    here = next(one["directory"] for one in directories for replica in one["replicas"] if replica["topic"] == name)
    there = next(one["directory"] for one in directories if one["directory"] != here)
    move = ["partitions", "move", name, "--to", there]
    assert ottla(*move, "--dry-run") == f"would move {name}-0 on broker 1: {here} → {there}\n"
    assert ottla(*move, "--wait") == f"moved {name}-0 on broker 1: {here} → {there}\n"
    assert ottla(*move) == "nothing to move: all are there\n"


def test_moving_between_brokers(ottla: Run, kafka: Kafka, name: str, tmp_path: Path) -> None:
    plan, back = tmp_path / "plan.json", tmp_path / "back.json"
    ottla("topics", "create", name, "--assign", "1;1;1")
    idle = IdleBroker(kafka)
    try:
        wait_until(lambda: ottla("cluster", "brokers", "-q") == "1\n2\n", "the second broker")
        planned = json.loads(ottla("partitions", "plan", name, "-o", str(plan), "--json"))
        assert [one["replicas"] for one in planned["partitions"]] == [[2]]  # as few moves as balance the load
        planned = json.loads(ottla("partitions", "plan", name, "-r", "2", "-o", str(plan), "--json"))
        assert sorted(sorted(one["replicas"]) for one in planned["partitions"]) == [[1, 2]] * 3
        assert "would move" in ottla("partitions", "reassign", "--plan", str(plan), "--dry-run")
        assert json.loads(ottla("partitions", "moves", "--json")) == []
        assert ottla("partitions", "reassign", "--plan", str(plan), "--save", str(back)).count("moving ") == 3
        assert [one["replicas"] for one in json.loads(back.read_text())["partitions"]] == [[1]] * 3
        moves = json.loads(ottla("partitions", "moves", "--json"))
        assert [(one["partition"], one["adding_replicas"]) for one in moves] == [(0, [2]), (1, [2]), (2, [2])]
        verified = json.loads(ottla("partitions", "verify", "--plan", str(plan), "--json", code=1))
        assert {one["state"] for one in verified} == {"moving"}
        assert len(json.loads(ottla("partitions", "list", name, "--problems", "--json"))) == 3

        idle.beat(want_fence=True)  # its own settings are asked of a broker itself
        wait_until(lambda: ottla("cluster", "brokers", "-q") == "1\n", "the second broker to be gone")
        assert ottla("cluster", "brokers", "--all").splitlines()[2].split() == ["2", "127.0.0.1:9", "-", "down"]
        assert "throttled 3 moves" in ottla("partitions", "throttle", "10MB")
        settings = {one["name"]: one["value"] for one in json.loads(ottla("configs", "get", f"topic/{name}", "--json"))}
        assert settings["leader.replication.throttled.replicas"] == "0:1,1:1,2:1"
        assert settings["follower.replication.throttled.replicas"] == "0:2,1:2,2:2"
        assert "10000000" in ottla("configs", "get", "broker/1", "leader.replication.throttled.rate")

        assert ottla("partitions", "cancel", f"{name}:0").splitlines() == [f"called off the move of {name}-0"]
        assert ottla("partitions", "cancel").count("called off") == 2
        assert json.loads(ottla("partitions", "moves", "--json")) == []
        assert "throttled" not in ottla("configs", "get", f"topic/{name}", "-q")
        assert "throttled" not in ottla("configs", "get", "broker/1", "-q")
        verified = json.loads(ottla("partitions", "verify", "--plan", str(back), "--json"))
        assert {one["state"] for one in verified} == {"done"}
        assert ottla("cluster", "unregister", "2", "-y") == "unregistered broker 2\n"
    finally:
        idle.close()


def test_elections(ottla: Run, name: str) -> None:
    ottla("topics", "create", name)
    assert ottla("partitions", "elect", name) == "all have the right leader\n"
    assert json.loads(ottla("partitions", "elect", name, "--unclean", "--json"))["failed"] == {}


def test_the_rest_speaks_to_kafka_as_well(ottla: Run, kafka: Kafka, name: str) -> None:
    ottla("topics", "create", name, "-p", "2", "-c", "retention.ms=1d")
    assert name in ottla("topics", "list", "-l", name)
    assert "retention.ms = 86400000 (1d)" in ottla("topics", "describe", name, "--groups")
    ottla("topics", "alter", name, "-p", "3", "-d", "retention.ms")
    ottla("configs", "set", f"topic/{name}", "segment.bytes=64MiB")
    assert "64 MiB" in ottla("configs", "describe", f"topic/{name}")
    logger = json.loads(ottla("configs", "describe", "logger/1", "--all", "--json"))[0]["name"]
    ottla("configs", "set", "logger/1", f"{logger}=WARN", "--dry-run")
    ottla("quotas", "set", "-i", "127.0.0.1", "connection_creation_rate=100")
    assert "connection_creation_rate" in ottla("quotas", "list", "-i", "127.0.0.1")
    ottla("quotas", "unset", "-i", "127.0.0.1")
    assert json.loads(ottla("metadata", "quorum", "--json"))["leader_id"] == 1
    assert "transaction.version" in ottla("features", "list")
    assert "would change" in ottla("features", "downgrade", "transaction.version=1", "--dry-run")
    assert len(json.loads(ottla("offsets", "list", name, "--json"))) == 3
    shown = json.loads(ottla("metadata", "show", str(kafka.log_directory), f"topics/{name}", "--json"))
    assert len(shown["partitions"]) == 3
    assert "TopicRecord" in ottla("metadata", "log", str(kafka.log_directory))
    assert ottla("topics", "delete", name, "-y") == f"deleted {name}\n"
