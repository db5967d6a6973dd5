"""Several brokers in one process: which of them are controllers, what each is told, what its disk begins with.

The first three are controllers as well (with fewer than three, the first alone), as with `ottla start --brokers N`.
Everything that waits for a node that may be gone waits less long than it would outside of a test.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from random import Random
from socket import create_server
from typing import TYPE_CHECKING

from ottla.client.errors import ConfigError
from ottla.core.ids import uuid_to_text
from ottla.server.node.identity import NODE_CLIENT_ID

if TYPE_CHECKING:
    from pathlib import Path

    from ottla.runtime.disk import Disk

MOST_CONTROLLERS = 3

QUICK: Mapping[str, str] = {
    # A controller that is gone is missed after half a second, a broker after two.
    "controller.quorum.election.timeout.ms": "500",
    "controller.quorum.fetch.timeout.ms": "1000",
    "controller.quorum.election.backoff.max.ms": "100",
    "broker.heartbeat.interval.ms": "300",
    "broker.session.timeout.ms": "2000",
    "replica.lag.time.max.ms": "5000",
    "replica.fetch.wait.max.ms": "200",
}
"""Where brokers of a cluster for tests are more impatient than Kafka's documentation says."""


OWN_SETTINGS = (
    "advertised.listeners",
    "controller.listener.names",
    "controller.quorum.bootstrap.servers",
    "controller.quorum.voters",
    "listeners",
    "log.dir",
    "log.dirs",
    "node.id",
    "process.roles",
)
"""What differs from broker to broker."""

_FILE = "ottla.cluster.json"


def client_id_of(node_id: int) -> str:
    """What a node calls itself in requests to others."""
    return f"{NODE_CLIENT_ID}{node_id}"


class Quorum:
    """The controllers that a cluster of so many brokers begins with."""

    def __init__(self, brokers: int, host: str) -> None:
        random = Random()
        self.brokers = brokers
        self.host = host
        self.cluster_id = uuid_to_text(random.randbytes(16))
        self.controllers = MOST_CONTROLLERS if brokers >= MOST_CONTROLLERS else 1
        self.directory_ids = [random.randbytes(16) for _ in range(brokers)]
        self.ports: Sequence[int] = ()
        """Of the controllers; chosen with the first start."""
        self._path: Path | None = None

    @classmethod
    def kept_in(cls, data: Path, brokers: int, host: str) -> Quorum:
        """That of a directory with data, which goes on with its ids and ports."""
        quorum = cls(brokers, host)
        quorum._path = data / _FILE
        if quorum._path.exists():
            kept = json.loads(quorum._path.read_text())
            if len(kept["directories"]) != brokers:
                raise ConfigError(
                    f"{data} holds a cluster of {len(kept['directories'])} brokers, not of {brokers}.",
                    hint="Use as many, or another directory.",
                )
            quorum.cluster_id, quorum.ports = kept["cluster_id"], kept["ports"]
            quorum.directory_ids = [bytes.fromhex(text) for text in kept["directories"]]
        return quorum

    def choose_ports(self) -> None:
        """Ports that nobody has now, kept for the life of the cluster."""
        if self.ports:
            return
        with ExitStack() as held:
            found = [held.enter_context(create_server((self.host, 0))) for _ in range(self.controllers)]
            self.ports = [one.getsockname()[1] for one in found]
        if self._path is not None:
            kept = {
                "cluster_id": self.cluster_id,
                "ports": self.ports,
                "directories": [one.hex() for one in self.directory_ids],
            }
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(kept))

    def settings(self, index: int, port: int) -> dict[str, object]:
        """What makes a broker that of this index; `port` 0 is a free one."""
        listeners = [f"PLAINTEXT://{self.host}:{port}"]
        if index < self.controllers:
            listeners.append(f"CONTROLLER://{self.host}:{self.ports[index] if self.ports else 0}")
        replicas, in_sync = str(min(self.brokers, 3)), "2" if self.brokers >= 3 else "1"
        return {
            "process.roles": "broker,controller" if index < self.controllers else "broker",
            "listeners": ",".join(listeners),
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.bootstrap.servers": ",".join(
                f"{self.host}:{one}" for one in self.ports or [1] * self.controllers
            ),
            "default.replication.factor": replicas,
            "offsets.topic.replication.factor": replicas,
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": in_sync,
            "share.coordinator.state.topic.replication.factor": replicas,
            "share.coordinator.state.topic.min.isr": in_sync,
            **QUICK,
        }

    def prepare(self, disk: Disk, directory: str, index: int, now_ms: int) -> None:
        """Format a data directory that is new, as `ottla storage format --initial-controllers` does."""
        from ottla.protocol.messages import metadata_records as messages
        from ottla.server.log.meta_properties import format_meta_properties
        from ottla.server.metadata.features import BOOTSTRAP_FEATURES
        from ottla.server.metadata.records import RecordWriter
        from ottla.server.raft.formatting import format_directory
        from ottla.server.raft.voters import Voter

        path = f"{directory}/meta.properties"
        if disk.exists(path):
            return
        disk.make_directories(directory)
        if index < self.controllers:
            writer = RecordWriter(BOOTSTRAP_FEATURES)
            frames = [
                writer.frame(messages.FeatureLevelRecord(name=name, feature_level=level))
                for name, level in BOOTSTRAP_FEATURES.items()
            ]
            voters = [
                Voter(number + 1, self.directory_ids[number], (("CONTROLLER", self.host, port),))
                for number, port in enumerate(self.ports)
            ]
            format_directory(disk, directory, voters, frames, now_ms)
        disk.replace(path, format_meta_properties(self.cluster_id, index + 1, self.directory_ids[index]))
