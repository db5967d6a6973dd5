"""Controllers apart from brokers, nodes that are no super users, and a listener of another kind on each interface."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

import ottla
from benchmarks.brokers import free_port
from benchmarks.clusters import OTTLA, Cluster, Place, places
from benchmarks.wire_door import Door
from ottla.admin import AclBinding, AclOperation, AclPatternType, AclPermission, AclResourceType, NewTopic
from ottla.errors import AuthorizationError, KafkaError
from tests.cluster.secured import AUTHORIZER, MECHANISM, Secured, certify, scram_jaas

PATIENCE_S = 60.0
INSIDE, HERE = "127.0.0.2", "127.0.0.3"
RULE = "RULE:^CN=([^,]+).*$/$1/"


class Layout:
    """Node 1 is the controller; 2 and 3 are brokers: SASL_SSL for clients, SSL with certificates between brokers on
    another interface, SASL_PLAINTEXT on a third. Only the controller and the administrator are super users."""

    def __init__(self, directory: Path) -> None:
        self.files = Secured(directory, dict.fromkeys((1, 2, 3), "127.0.0.1"))
        for node_id in (1, 2, 3):
            self.files.renew(node_id, ["127.0.0.1", INSIDE, HERE])
        self.files.passwords = {"admin": "keys of the house", "alice": "secret"}
        self.ports = {(node, host): free_port() for node in (2, 3) for host in (INSIDE, HERE)}

    @property
    def formatting(self) -> Sequence[str]:
        return self.files.formatting

    @property
    def door(self) -> Door:
        trusted = ssl.create_default_context(cafile=str(self.files.truststore))
        return Door(trusted, "admin", self.files.passwords["admin"])

    def settings(self, place: Place) -> dict[str, str]:
        found = {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.files.keystore(place.node_id)),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.files.truststore),
            "ssl.principal.mapping.rules": RULE,
            "authorizer.class.name": AUTHORIZER,
            "super.users": "User:node-1;User:admin",
        }
        kinds = "CLIENTS:SASL_SSL,BETWEEN:SSL,HERE:SASL_PLAINTEXT,CONTROLLER:SSL"
        if place.is_controller:
            listeners = f"CONTROLLER://127.0.0.1:{place.controller_port}"
            return found | {
                "listeners": listeners,
                "listener.security.protocol.map": kinds,
                "listener.name.controller.ssl.client.auth": "required",
            }
        node = place.node_id
        listeners = f"CLIENTS://127.0.0.1:{place.port},BETWEEN://{INSIDE}:{self.ports[node, INSIDE]},"
        listeners += f"HERE://{HERE}:{self.ports[node, HERE]}"
        return found | {
            "listeners": listeners,
            "advertised.listeners": listeners,
            "listener.security.protocol.map": kinds,
            "inter.broker.listener.name": "BETWEEN",
            "listener.name.between.ssl.client.auth": "required",
            "sasl.enabled.mechanisms": MECHANISM,
        }

    def with_certificate(self, name: str) -> dict[str, str]:
        """A client's settings for a listener that asks for certificates."""
        made = certify(self.files.authority, name)
        return {
            "security.protocol": "SSL",
            "ssl.truststore.type": "PEM",
            "ssl.truststore.certificates": self.files.authority.certificate,
            "ssl.keystore.type": "PEM",
            "ssl.keystore.key": made.key,
            "ssl.keystore.certificate.chain": made.certificate,
        }

    def bootstrap(self, host: str) -> str:
        return ",".join(f"{host}:{self.ports[node, host]}" for node in (2, 3))


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def allow(principal: str, operation: AclOperation, topic: str | None = None) -> AclBinding:
    kind, name = (AclResourceType.TOPIC, topic) if topic else (AclResourceType.CLUSTER, "kafka-cluster")
    return AclBinding(kind, name, f"User:{principal}", operation, AclPermission.ALLOW, AclPatternType.LITERAL)


def write(bootstrap: str, settings: dict[str, str]) -> None:
    with ottla.Producer(bootstrap, settings, acks="all") as producer:
        for partition in (0, 1):
            producer.send("t", b"x", partition=partition).result(PATIENCE_S)


@pytest.mark.timeout(200)
def test_brokers_that_are_known_by_certificates_and_rules(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "files")
    controller, broker = ("controller",), ("broker",)
    settings = {
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        "min.insync.replicas": "2",
        "default.replication.factor": "2",
    }
    members = places([OTTLA] * 3, [controller, broker, broker])
    cluster = Cluster(tmp_path / "nodes", members, settings, security=layout)
    try:
        for node in cluster.nodes.values():
            node.spawn()
        # Nobody has allowed the brokers anything: both sides say so.
        for node_id in (2, 3):
            told = f"'User:node-{node_id}' at 127.0.0.1 asks as nodes of the cluster do, and may not"
            wait_for(lambda told=told: told in cluster.nodes[1].output, told)  # type: ignore[misc]
            asked = cluster.nodes[node_id]
            wait_for(lambda asked=asked: "from this node" in asked.output, "the broker knows")  # type: ignore[misc]
        quorum = f"127.0.0.1:{members[0].controller_port}"
        with ottla.Admin(None, {"bootstrap.controllers": quorum, **layout.with_certificate("admin")}) as admin:
            admin.create_acls([allow(f"node-{node_id}", AclOperation.CLUSTER_ACTION) for node_id in (2, 3)])
        cluster.wait_until_whole()
        _use(cluster, layout)
        # All at once, and again.
        for node in cluster.nodes.values():
            node.kill()
        cluster.start()
        wait_for(lambda: _is_in_sync(cluster, layout), "the replicas are in sync again")
        write(cluster.bootstrap, layout.files.java("alice"))
        assert "Traceback" not in "".join(node.output for node in cluster.nodes.values())
    finally:
        cluster.wipe()


def _is_in_sync(cluster: Cluster, layout: Layout) -> bool:
    with suppress(KafkaError), ottla.Admin(cluster.bootstrap, layout.files.java("admin")) as admin:
        return all(len(one.in_sync_replicas) == 2 for one in admin.describe_topics(["t"])["t"].partitions)
    return False


def _use(cluster: Cluster, layout: Layout) -> None:
    """Every way in leads to the same rules, whoever one is there."""
    plain = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": MECHANISM}
    ways = {
        "clients": (cluster.bootstrap, layout.files.java("alice")),
        "here": (layout.bootstrap(HERE), plain | {"sasl.jaas.config": scram_jaas("alice", "secret")}),
        "between": (layout.bootstrap(INSIDE), layout.with_certificate("alice")),
    }
    with ottla.Admin(cluster.bootstrap, layout.files.java("admin")) as admin:
        admin.create_topics([NewTopic("t", 2, 2)])
        for bootstrap, settings in ways.values():
            with pytest.raises(AuthorizationError):
                write(bootstrap, settings)
        admin.create_acls([allow("alice", AclOperation.WRITE, "t")])
    for bootstrap, settings in ways.values():
        wait_for(lambda way=(bootstrap, settings): _may(*way), "the rule is in force")  # type: ignore[misc]
        with pytest.raises(AuthorizationError), ottla.Admin(bootstrap, settings) as admin:
            admin.describe_acls()


def _may(bootstrap: str, settings: dict[str, str]) -> bool:
    with suppress(AuthorizationError):
        write(bootstrap, settings)
        return True
    return False
