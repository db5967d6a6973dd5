"""docs/secure-a-running-cluster.md from the first command to the last, with three nodes in processes of their own and
clients that must not notice."""

from __future__ import annotations

import json
import os
import random
import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import ottla
from benchmarks.brokers import BrokerError
from benchmarks.clusters import OTTLA, Cluster, places
from benchmarks.wire_door import Door
from ottla.admin import NewTopic
from ottla.errors import AuthorizationError, KafkaError
from ottla.server.security.encryption.offline import MAGIC
from tests.cluster.secured import scram_jaas
from tests.cluster.witness import Witness
from tests.docs.forking import forked_ottla

PAGE = Path(__file__).resolve().parents[2] / "docs" / "secure-a-running-cluster.md"
BLOCK = re.compile(r"^```(sh|properties)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ADDRESS = re.compile(r"kafka(\d)\.example\.org:(\d+)")
OWN = ("listeners", "advertised.listeners")
PARTITIONS = 3
PATIENCE_S = 60.0
SETTINGS = {
    "offsets.topic.replication.factor": "3",
    "offsets.topic.num.partitions": "3",
    "min.insync.replicas": "2",
    "default.replication.factor": "3",
    "auto.create.topics.enable": "false",
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "controller.quorum.election.timeout.ms": "500",
    "controller.quorum.fetch.timeout.ms": "1000",
}


def later_port() -> int:
    """One that is free, and that no client gets until a node takes it: from below those that are given to clients."""
    while True:
        port = random.randrange(20_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Guide:
    """Does what the page says; its directories and addresses stand for those of this cluster."""

    def __init__(self, cluster: Cluster, directory: Path, programs: Path) -> None:
        self.cluster = cluster
        self.etc = directory / "etc"
        self.etc.mkdir()
        self._directory = directory
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("KAFKA_", "OTTLA_"))},
            "PATH": f"{programs}:{os.environ['PATH']}",
            "XDG_CONFIG_HOME": str(directory),
        }
        self._ports = {
            (node, said): port
            for node, one in cluster.nodes.items()
            for said, port in (
                (9092, one.place.port),
                (9093, one.place.controller_port),
                (9094, later_port()),
                (9095, later_port()),
            )
        }
        self._blocks = list(BLOCK.findall(PAGE.read_text()))
        self.admin_settings: dict[str, str] = {}

    def bootstrap(self, said: int) -> str:
        return ",".join(f"127.0.0.1:{self._ports[node, said]}" for node in self.cluster.nodes)

    def _here(self, text: str) -> str:
        text = ADDRESS.sub(lambda found: f"127.0.0.1:{self._ports[int(found[1]), int(found[2])]}", text)
        text = re.sub(r"kafka\d\.example\.org", "127.0.0.1", text)
        text = text.replace("/var/lib/ottla/node-1", str(self.cluster.nodes[1].log_directory))
        return text.replace("/etc/ottla", str(self.etc))

    def shell(self) -> str:
        """Run the next example, which is of the shell; what it said."""
        kind, text = self._blocks.pop(0)
        assert kind == "sh", text
        done = subprocess.run(
            ["bash", "-exo", "pipefail", "-c", self._here(text)],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
            env=self._environment,
            cwd=self._directory,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        return done.stdout

    def enter_by_the_secure_door(self) -> None:
        """From now on; with what it takes now."""
        trusted = ssl.create_default_context(cafile=str(self.etc / "authority.pem"))
        for node_id, node in self.cluster.nodes.items():
            node.port, node.door = self._ports[node_id, 9094], Door(trusted, "admin", "keys of the house")

    def round(self) -> None:
        """The next example, which is settings, on one node after the other."""
        kind, text = self._blocks.pop(0)
        assert kind == "properties", text
        given = dict(line.split("=", 1) for line in text.splitlines())
        for node_id, node in self.cluster.nodes.items():
            for name, value in given.items():
                own = value.replace("kafka1.", f"kafka{node_id}.") if name in OWN else value
                node.content[name] = self._here(own)
            assert node.stop() == 0, node.output[-3000:]
            node.spawn()
            self.wait_until_whole()

    def _first_address(self) -> str:
        return self.bootstrap(9094 if self.admin_settings else 9092)

    def wait_until_whole(self) -> None:
        """Every broker is there, every replica in sync."""
        deadline = time.monotonic() + PATIENCE_S
        self.cluster.wait_until_whole(PATIENCE_S)
        with ottla.Admin(self._first_address(), self.admin_settings) as admin:
            while not _all_in_sync(admin):
                for node in self.cluster.nodes.values():
                    if node.pid is None:
                        raise BrokerError(node.output[-3000:])
                assert time.monotonic() < deadline, "not all replicas are in sync again"
                time.sleep(0.1)

    def is_over(self) -> bool:
        return not self._blocks


def _all_in_sync(admin: ottla.Admin) -> bool:
    with suppress(KafkaError):
        topics = admin.describe_topics(admin.list_topics(list_internal=True))
        return all(len(p.in_sync_replicas) == 3 for topic in topics.values() for p in topic.partitions)
    return False


@pytest.fixture
def guide(tmp_path: Path) -> Iterator[Guide]:
    (tmp_path / "programs").mkdir()
    with (
        forked_ottla(tmp_path / "programs") as programs,
        Cluster(tmp_path / "nodes", places([OTTLA] * 3), SETTINGS) as cluster,
    ):
        yield Guide(cluster, tmp_path, programs)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def shown(guide: Guide, trusted: Path) -> set[bytes | None]:
    """The certificates that nodes show to somebody who believes `trusted`."""
    found = set()
    for address in guide.bootstrap(9094).split(","):
        host, port = address.split(":")
        context = ssl.create_default_context(cafile=str(trusted))
        with Door(context).wrap(socket.create_connection((host, int(port))), host) as connection:
            found.add(connection.getpeercert(binary_form=True))  # type: ignore[attr-defined]
    return found


def is_shown_anew(guide: Guide, trusted: Path, before: set[bytes | None]) -> bool:
    with suppress(ssl.SSLCertVerificationError):
        return not shown(guide, trusted) & before
    return False


@pytest.mark.timeout(500)
def test_a_cluster_is_secured_while_it_runs(guide: Guide, tmp_path: Path) -> None:
    with ottla.Admin(guide.cluster.bootstrap) as admin:
        admin.create_topics([NewTopic(name, PARTITIONS, 3) for name in ("orders", "orders-2", "orders-3")])
    with Witness({"bootstrap.servers": guide.cluster.bootstrap}, "orders", "shop", PARTITIONS) as witness:
        listeners_are_added_and_used(guide)
        witness.end()
    lines = (tmp_path / "admin.properties").read_text().splitlines()
    guide.admin_settings = dict(line.split("=", 1) for line in lines[1:])
    with Witness(shop(guide), "orders-2", "shop", PARTITIONS) as witness:
        plain_listeners_close(guide)
        witness.has_noticed_nothing()
        rules_come_in_force(guide)
        witness.has_noticed_nothing()
        certificates_are_renewed(guide)
        both_authorities_are_believed(guide)
        witness.end()
    with Witness(shop(guide), "orders-3", "shop", PARTITIONS) as witness:
        the_old_authority_goes(guide, tmp_path)
        witness.has_noticed_nothing()
        the_password_between_nodes_changes(guide)
        witness.has_noticed_nothing()
        disks_are_encrypted(guide)
        witness.end()
    assert guide.is_over()
    said = "".join(node.output for node in guide.cluster.nodes.values())
    assert "Traceback" not in said
    assert not [line for line in said.splitlines() if " error " in line]


def shop(guide: Guide) -> dict[str, str]:
    """A client that believes what nodes believe now."""
    return {
        "bootstrap.servers": guide.bootstrap(9094),
        "security.protocol": "SASL_SSL",
        "ssl.ca.pem": (guide.etc / "authority.pem").read_text(),
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "shop",
        "sasl.password": "orders for ever",
    }


def listeners_are_added_and_used(guide: Guide) -> None:
    guide.shell()
    guide.shell()
    guide.round()
    guide.round()
    assert "orders-2" in guide.shell()


def plain_listeners_close(guide: Guide) -> None:
    guide.enter_by_the_secure_door()
    guide.round()


def rules_come_in_force(guide: Guide) -> None:
    guide.round()
    guide.shell()
    guide.round()
    with ottla.Admin(guide.bootstrap(9094), guide.admin_settings) as admin:
        assert {one.principal for one in admin.describe_acls()} == {"User:*"}
        guide.shell()
        guide.shell()
        assert {one.principal for one in admin.describe_acls()} == {"User:shop"}
    stranger = guide.admin_settings | {"sasl.jaas.config": scram_jaas("shop", "orders for ever")}
    with (
        ottla.Admin(guide.bootstrap(9094), stranger) as admin,
        pytest.raises(AuthorizationError),
    ):
        admin.describe_acls()


def certificates_are_renewed(guide: Guide) -> None:
    trusted = guide.etc / "authority.pem"
    before = shown(guide, trusted)
    guide.shell()
    wait_for(lambda: is_shown_anew(guide, trusted, before), "the certificate is renewed")


def both_authorities_are_believed(guide: Guide) -> None:
    guide.shell()


def the_old_authority_goes(guide: Guide, directory: Path) -> None:
    before = shown(guide, guide.etc / "authority.pem")
    time.sleep(10)  # as the page says
    guide.shell()
    wait_for(lambda: is_shown_anew(guide, directory / "next" / "authority.pem", before), "the next authority's")
    guide.shell()
    # Connections that exist stay; a node that comes anew has to be believed, and to believe.
    time.sleep(10)
    node = guide.cluster.nodes[2]
    node.kill()
    guide.enter_by_the_secure_door()
    node.spawn()
    guide.wait_until_whole()


def the_password_between_nodes_changes(guide: Guide) -> None:
    guide.shell()
    guide.round()
    guide.shell()


def disks_are_encrypted(guide: Guide) -> None:
    data = [node.log_directory for node in guide.cluster.nodes.values()]
    guide.shell()
    guide.round()
    wait_for(lambda: all(encrypted(one)["plain_files"] == 0 for one in data), "everything is encrypted")
    guide.shell()
    wait_for(lambda: is_rotated(data[0]), "all files have the new key")
    for one in data:
        for path in one.glob("*/*.log"):
            assert path.read_bytes()[: len(MAGIC)] in (MAGIC, b""), path


def encrypted(data: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "ottla", "encryption", "status", "--data", str(data), "--json"]
    found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return found


def is_rotated(data: Path) -> bool:
    keys = encrypted(data)["keys"]
    return len(keys) > 1 and all(one["files"] == 0 for one in keys if not one["current"])
