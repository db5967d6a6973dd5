"""A cluster in which nobody is anybody: everything that there is to keep strangers out, at once.

Brokers and clients come in by SASL_SSL with SCRAM, controllers know nodes by their certificates (mTLS); only nodes are
super users; disks are encrypted, and everything is audited. `Secured` is what `benchmarks.clusters.Cluster` takes as
its `security`, and what clients need.
"""

from __future__ import annotations

import datetime
import json
import ssl
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.clusters import OTTLA, Place
from benchmarks.wire_door import Door
from ottla.security.authority import Identity, issue, make_authority
from ottla.server.security.encryption.offline import MAGIC, content

NODE, CLIENT, MECHANISM = "node", "client", "SCRAM-SHA-512"
AUTHORIZER = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
MASTER_KEY = "5e" * 32
SCRAM_MODULE = "org.apache.kafka.common.security.scram.ScramLoginModule"
UNFINISHED = "it has not finished within"
"""A handshake of TLS with a process that was killed, or stopped, is no refusal."""


def certify(authority: Identity, name: str, hosts: Iterable[str] = ()) -> Identity:
    """A certificate that holds for a week."""
    return issue(authority, name, hosts, now=datetime.datetime.now(datetime.UTC), days=7)


def new_authority(name: str) -> Identity:
    return make_authority(name, now=datetime.datetime.now(datetime.UTC), days=30)


def scram_jaas(user: str, password: str) -> str:
    return f'{SCRAM_MODULE} required username="{user}" password="{password}";'


class Secured:
    """The files of such a cluster, below `directory`."""

    def __init__(self, directory: Path, hosts: Mapping[int, str]) -> None:
        directory.mkdir(parents=True)
        self.directory = directory
        self.nodes = list(hosts)
        self.passwords = {NODE: "between us", CLIENT: "what clients say"}
        self.authority = new_authority("cluster authority")
        self.truststore = directory / "authority.pem"
        self.truststore.write_text(self.authority.certificate)
        for node_id, host in hosts.items():
            self.renew(node_id, [host])
        self.key = directory / "master.key"
        self.key.write_text(MASTER_KEY)

    def keystore(self, node_id: int) -> Path:
        return self.directory / f"node-{node_id}.pem"

    def audit_log(self, node_id: int) -> Path:
        return self.directory / f"audit-{node_id}.jsonl"

    def renew(self, node_id: int, hosts: Sequence[str], authority: Identity | None = None) -> None:
        """A certificate for a node, at once or not at all."""
        made = certify(authority or self.authority, f"node-{node_id}", hosts)
        new = self.directory / f"node-{node_id}.new"
        new.write_text(made.key + made.certificate)
        new.replace(self.keystore(node_id))

    # What the cluster is made with

    @property
    def formatting(self) -> list[str]:
        """The users that metadata begin with."""
        return [
            one
            for name, password in self.passwords.items()
            for one in ("--add-scram", f"{MECHANISM}=[name={name},password={password}]")
        ]

    @property
    def door(self) -> Door:
        """As a node: what looks after the cluster may do everything."""
        return Door(ssl.create_default_context(cafile=str(self.truststore)), NODE, self.passwords[NODE])

    def settings(self, place: Place) -> dict[str, str]:
        """A node's settings."""
        clients, controllers = (
            f"CLIENTS://{place.host}:{place.port}",
            f"CONTROLLER://{place.host}:{place.controller_port}",
        )
        listeners = [clients] * place.is_broker + [controllers] * place.is_controller
        found = {
            "listeners": ",".join(listeners),
            "listener.security.protocol.map": "CLIENTS:SASL_SSL,CONTROLLER:SSL",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.keystore(place.node_id)),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.truststore),
            "listener.name.controller.ssl.client.auth": "required",
            "listener.name.controller.ssl.principal.mapping.rules": "RULE:^CN=(.*)$/$1/",
            "authorizer.class.name": AUTHORIZER,
            "super.users": ";".join(f"User:{name}" for name in [NODE, *(f"node-{one}" for one in self.nodes)]),
        }
        if place.is_broker:
            found |= {
                "advertised.listeners": clients,
                "inter.broker.listener.name": "CLIENTS",
                "sasl.enabled.mechanisms": MECHANISM,
                "sasl.mechanism.inter.broker.protocol": MECHANISM,
                f"listener.name.clients.{MECHANISM.lower()}.sasl.jaas.config": scram_jaas(NODE, self.passwords[NODE]),
            }
        if place.kind == OTTLA:
            found["encryption.key"] = f"file:{self.key}"
            found["audit.log.file"] = str(self.audit_log(place.node_id))
        return found

    # What clients need

    def librdkafka(self, user: str = CLIENT) -> dict[str, Any]:
        """Settings of librdkafka's clients."""
        return {
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": str(self.truststore),
            "sasl.mechanism": MECHANISM,
            "sasl.username": user,
            "sasl.password": self.passwords[user],
        }

    def java(self, user: str = CLIENT) -> dict[str, str]:
        """Settings of Kafka's own clients, and of Ottla's."""
        return {
            "security.protocol": "SASL_SSL",
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.truststore),
            "sasl.mechanism": MECHANISM,
            "sasl.jaas.config": scram_jaas(user, self.passwords[user]),
        }

    # What is looked at afterwards

    @property
    def environment(self) -> dict[str, str]:
        """With which tools read the disks."""
        return {"OTTLA_ENCRYPTION_KEY": f"file:{self.key}"}

    def read(self, path: Path) -> bytes:
        """A node's file, whether it is encrypted or not."""
        return bytes(content(str(path), self.environment))

    def leaks(self, data: Path) -> list[str]:
        """Files of records, indexes and metadata that are on the disk in clear."""
        found = []
        for pattern in ("*/*.log", "*/*.index", "*/*.timeindex", "*/*.checkpoint", "*/*.snapshot"):
            for path in data.glob(pattern):
                with path.open("rb") as file:
                    if file.read(len(MAGIC)) not in (MAGIC, b""):
                        found.append(str(path))
        return found

    def audited(self) -> Iterator[dict[str, Any]]:
        """What the nodes' audit logs tell."""
        for path in sorted(self.directory.glob("audit-*.jsonl*")):
            for line in path.read_text(encoding="ascii").splitlines():
                yield json.loads(line)

    def refusals(self) -> list[str]:
        """Logins and requests that were refused, though nobody was there who does not belong."""
        refused = (one for one in self.audited() if one.get("result") in ("failed", "denied"))
        return [json.dumps(one) for one in refused if not one.get("reason", "").startswith(UNFINISHED)]
