"""Clusters of broker processes on loopback: nodes of Ottla, of Apache Kafka, or of both, from the same settings.

Every node is started with a `server.properties` in Kafka's words and a directory that was formatted before, so that
either kind of node can take any place in the quorum.
"""

from __future__ import annotations

import base64
import dataclasses
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.brokers import ApacheKafka, Broker, BrokerError, OttlaOnProperties, free_port, java
from benchmarks.measure import cpu_seconds
from benchmarks.wire import WireError
from benchmarks.wire_door import Door

OTTLA, KAFKA = "ottla", "kafka"
BOTH = ("controller", "broker")
HEAP = "-Xmx512m -Xms512m"


@dataclass(frozen=True)
class Place:
    """One node's part in a cluster: what it is, its id, its roles, where it listens; `prefix` is a command that runs
    the node's, in a network of its own, say."""

    kind: str
    node_id: int
    roles: tuple[str, ...] = BOTH
    port: int = 0
    controller_port: int = 0
    rack: str | None = None
    host: str = "127.0.0.1"
    prefix: tuple[str, ...] = ()

    @property
    def is_broker(self) -> bool:
        return "broker" in self.roles

    @property
    def is_controller(self) -> bool:
        return "controller" in self.roles


def places(kinds: Iterable[str], roles: Sequence[tuple[str, ...]] | None = None) -> list[Place]:
    """Nodes 1, 2, 3 … of these kinds, each with free ports."""
    found = []
    for number, kind in enumerate(kinds):
        own = BOTH if roles is None else roles[number]
        found.append(Place(kind, number + 1, own, free_port(), free_port()))
    return found


def properties(
    place: Place, voters: Sequence[Place], directory: Path, settings: Mapping[str, str], *, dynamic: bool = False
) -> dict[str, str]:
    """The server.properties of one node; in a `dynamic` quorum the voters stand in the metadata log (KIP-853)."""
    if dynamic:
        quorum = {"controller.quorum.bootstrap.servers": ",".join(f"{v.host}:{v.controller_port}" for v in voters)}
    else:
        named = ",".join(f"{v.node_id}@{v.host}:{v.controller_port}" for v in voters)
        quorum = {"controller.quorum.voters": named}
    client = f"PLAINTEXT://{place.host}:{place.port}"
    controller = f"CONTROLLER://{place.host}:{place.controller_port}"
    listeners = [client] * place.is_broker + [controller] * place.is_controller
    found = {
        "process.roles": ",".join(place.roles),
        "node.id": str(place.node_id),
        **quorum,
        "listeners": ",".join(listeners),
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "log.dirs": str(directory / "data"),
    }
    if place.is_broker:
        found |= {"advertised.listeners": client, "inter.broker.listener.name": "PLAINTEXT"}
        if place.rack is not None:
            found["broker.rack"] = place.rack
    return found | dict(settings)


class OttlaNode(OttlaOnProperties):
    """`ottla start --config`; `formatting` is how the directory is formatted."""

    def __init__(self, place: Place, directory: Path, content: Mapping[str, str], formatting: Sequence[str]) -> None:
        super().__init__(directory, directory / "server.properties", directory / "data", port=place.port)
        self.place, self.content, self.formatting = place, {"http.listeners": "", **content}, formatting

    def command(self) -> list[str]:
        _write(self.properties, self.content)
        if not (self.log_directory / "meta.properties").exists():
            tool = [sys.executable, "-m", "ottla", "kafka-storage"]
            _format([*tool, "format", *self.formatting, "-c", str(self.properties)])
        return [*self.place.prefix, *super().command()]

    @property
    def bootstrap(self) -> str:
        return f"{self.place.host}:{self.port}"


class KafkaNode(ApacheKafka):
    """`kafka.Kafka server.properties`."""

    def __init__(self, place: Place, directory: Path, content: Mapping[str, str], formatting: Sequence[str]) -> None:
        super().__init__(directory, port=place.port, heap=HEAP)
        self.place, self.content, self.formatting = place, dict(content), formatting

    def command(self) -> list[str]:
        return [*self.place.prefix, *super().command()]

    @property
    def bootstrap(self) -> str:
        return f"{self.place.host}:{self.port}"

    def _write_properties(self) -> None:
        _write(self.properties, self.content)

    def _format(self) -> None:
        tool = [*java("-Xmx256m"), "kafka.tools.StorageTool"]
        _format([*tool, "format", *self.formatting, "-c", str(self.properties)])


_KINDS: Mapping[str, type[OttlaNode] | type[KafkaNode]] = {OTTLA: OttlaNode, KAFKA: KafkaNode}


class Security(Protocol):
    """Who gets into a cluster, and how."""

    @property
    def door(self) -> Door:
        """How those who start nodes get in and look whether they are up."""

    @property
    def formatting(self) -> Sequence[str]:
        """More arguments for kafka-storage, `--add-scram` for instance."""

    def settings(self, place: Place) -> Mapping[str, str]:
        """A node's settings, above all others."""


class Cluster:
    """Nodes with their data below `directory`; a context manager that starts them, and ends and removes them.

    The quorum is static, all controllers of `members`; with `first_voters` it is dynamic, begins with these, and the
    other controllers watch until they are added. With `security` not everybody gets in.
    """

    def __init__(
        self,
        directory: Path,
        members: Sequence[Place],
        settings: Mapping[str, str] | None = None,
        *,
        first_voters: Sequence[int] = (),
        heap: str = HEAP,
        security: Security | None = None,
    ) -> None:
        voters = [place for place in members if place.is_controller]
        formatting = ["-t", _random_id(), *(security.formatting if security is not None else ())]
        initial = ",".join(
            f"{v.node_id}@{v.host}:{v.controller_port}:{_random_id()}" for v in voters if v.node_id in first_voters
        )
        self.directory, self.heap, self._security = directory, heap, security
        self.nodes: dict[int, OttlaNode | KafkaNode] = {}
        for place in members:
            home = directory / f"node-{place.node_id}"
            content = properties(place, voters, home, settings or {}, dynamic=bool(first_voters))
            if security is not None:
                content |= security.settings(place)
            own = list(formatting)
            if place.node_id in first_voters:
                own += ["--initial-controllers", initial]
            elif first_voters and place.is_controller:
                own += ["--no-initial-controllers"]
            self.nodes[place.node_id] = self._node(place, home, content, own)

    def become(self, node_id: int, kind: str) -> OttlaNode | KafkaNode:
        """The node that has ended goes on as one of this kind, with the same settings and directory; not started."""
        old = self.nodes[node_id]
        place = dataclasses.replace(old.place, kind=kind)
        new = self.nodes[node_id] = self._node(place, old.directory, old.content, old.formatting)
        return new

    def _node(
        self, place: Place, home: Path, content: Mapping[str, str], formatting: Sequence[str]
    ) -> OttlaNode | KafkaNode:
        node = _KINDS[place.kind](place, home, content, formatting)
        if isinstance(node, KafkaNode):
            node.heap = self.heap
        if self._security is not None:
            node.door = self._security.door
        return node

    @property
    def brokers(self) -> list[OttlaNode | KafkaNode]:
        return [node for node in self.nodes.values() if node.place.is_broker]

    @property
    def bootstrap(self) -> str:
        return ",".join(node.bootstrap for node in self.brokers)

    @property
    def pids(self) -> list[int]:
        return [node.pid for node in self.nodes.values() if node.pid is not None]

    def cpu_seconds(self) -> float:
        """Processor time of all nodes that run."""
        return sum(map(cpu_seconds, self.pids))

    def start(self, timeout_s: float = 90.0) -> Cluster:
        """All at once, and wait until every broker knows every other."""
        for node in self.nodes.values():
            node.spawn()
        self.wait_until_whole(timeout_s)
        return self

    def wait_until_whole(self, timeout_s: float = 90.0) -> None:
        """Wait until every broker names all that run. Raises BrokerError."""
        running = {node.place.node_id for node in self.brokers if node.pid is not None}
        deadline = time.monotonic() + timeout_s
        for node in self.nodes.values():
            while node.place.is_broker and node.pid is not None and _known(node) < running:
                if time.monotonic() > deadline:
                    raise BrokerError(f"{node.label} {node.place.node_id} is alone:\n{node.output[-3000:]}")
                time.sleep(0.05)
            if node.process is not None and node.place.node_id in running and node.pid is None:
                raise BrokerError(f"{node.label} {node.place.node_id} ended:\n{node.output[-3000:]}")

    def wipe(self) -> None:
        for node in self.nodes.values():
            node.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Cluster:
        try:
            return self.start()
        except BaseException:
            self.wipe()
            raise

    def __exit__(self, *_: object) -> None:
        self.wipe()


def _random_id() -> str:
    """Of a cluster or a directory; a leading dash would look like an option."""
    return "A" + base64.urlsafe_b64encode(os.urandom(16)).decode()[1:22]


def _known(node: Broker) -> set[int]:
    """Ids of the brokers that this one names; none while it does not answer."""
    with suppress(OSError, WireError), node.connect(5) as connection:
        return set(connection.metadata([]).brokers)
    return set()


def _write(path: Path, content: Mapping[str, str]) -> None:
    path.write_text("".join(f"{name}={value}\n" for name, value in content.items()))


def _format(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BrokerError(f"{' '.join(command[:3])} format failed:\n{done.stdout}{done.stderr}")
